//! Scenarios: a line per step, the request on the left and all that comes of it on the right.
//!
//! ```text
//!  keep g 1 Stable a#1* b#2     the record of group g: generation 1, its members, * leads
//!  keep t-0=5                   the record of a commit; `t-0 gone` is its tombstone
//!  3 joined 1 a#1 of b#2        request 3: joined generation 1 as a#1; the leader is b#2
//!  3 UNKNOWN_MEMBER_ID          request 3: refused
//! ```
//!
//! `a#1` stands for the member id that the client `a` was given with request 1. Unless a scenario
//! holds the log back, an append is committed at once.

mod admin;
mod commits;
mod golden;
mod hold;
mod join;
mod model;
mod replaying;
mod static_members;
mod sync;
mod too_large;

use bytes::Bytes;
use skein_config::BrokerConfig;
use skein_protocol::messages::consumer_protocol::ConsumerProtocolSubscription;
use skein_protocol::messages::heartbeat::HeartbeatRequest;
use skein_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use skein_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use skein_protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use skein_protocol::{Encoder, Message};
use skein_types::{TopicName, Uuid};

use super::*;
use crate::Joiner;

/// Time of day when the monotonic clock is at zero.
const DAY: i64 = 1_700_000_000_000;
const MINUTE_MS: i64 = 60_000;

pub(super) struct Scenario {
    pub(super) shard: Shard,
    pub(super) group_config: Arc<GroupConfig>,
    pub(super) offsets_config: Arc<OffsetsConfig>,
    pub(super) now_ms: i64,
    /// All that was kept, in order.
    pub(super) log: Vec<GroupRecord>,
    /// Appends that are held back.
    pub(super) held: Option<Vec<usize>>,
    ticket: u64,
}

impl Scenario {
    /// An active shard with Kafka's defaults.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// An active shard with other settings.
    pub(super) fn with(change: impl FnOnce(&mut GroupConfig)) -> Self {
        let config = BrokerConfig::default();
        let mut group_config = GroupConfig::clone(&config.group);
        change(&mut group_config);
        let mut scenario = Self {
            shard: Shard::new(Arc::clone(&config.group), Arc::clone(&config.offsets)),
            group_config: Arc::new(group_config),
            offsets_config: Arc::clone(&config.offsets),
            now_ms: 0,
            log: Vec::new(),
            held: None,
            ticket: 0,
        };
        scenario.shard = scenario.replayed();
        scenario
    }

    /// A new coordinator, which has replayed the log.
    pub(super) fn replayed(&self) -> Shard {
        let mut shard = self.loading();
        let mut effects = Vec::new();
        let end = Offset(self.log.len().try_into().unwrap());
        shard.loaded(end, self.now(), &mut effects);
        shard.on_high_watermark(end, self.now(), &mut effects);
        assert_eq!(effects, []);
        shard
    }

    /// One that has replayed it and does not know yet that this is all.
    pub(super) fn loading(&self) -> Shard {
        let config = (
            Arc::clone(&self.group_config),
            Arc::clone(&self.offsets_config),
        );
        let mut shard = Shard::new(config.0, config.1);
        for record in &self.log {
            let (key, value) = record.encode().unwrap();
            let replayed = shard.replay(&key, value.as_ref(), None);
            assert_eq!(replayed, Ok(Replayed::Applied));
        }
        shard
    }

    pub(super) fn now(&self) -> Now {
        Now {
            time_of_day: Millis(DAY + self.now_ms),
            monotonic: Millis(self.now_ms),
        }
    }

    /// Asks, and compares what comes of it with `expect`.
    #[track_caller]
    pub(super) fn check(&mut self, request: impl Into<Request>, expect: &str) {
        assert_eq!(self.ask(request.into()), expect);
    }

    pub(super) fn ask(&mut self, request: Request) -> String {
        self.ticket += 1;
        let request = with_random(request, self.ticket);
        let mut effects = Vec::new();
        let ticket = Ticket(self.ticket);
        self.shard.handle(ticket, request, self.now(), &mut effects);
        self.carry_out(effects)
    }

    /// Time passes, deadline by deadline; compares all that comes of it.
    #[track_caller]
    pub(super) fn after(&mut self, ms: i64, expect: &str) {
        assert_eq!(self.pass(ms), expect);
    }

    pub(super) fn pass(&mut self, ms: i64) -> String {
        let end_ms = self.now_ms + ms;
        let mut shown = Vec::new();
        while let Some(at) = self.shard.next_deadline()
            && at.get() <= end_ms
        {
            self.now_ms = self.now_ms.max(at.get());
            let mut effects = Vec::new();
            self.shard.on_time(self.now(), &mut effects);
            shown.push(self.carry_out(effects));
        }
        self.now_ms = end_ms;
        shown.retain(|text| !text.is_empty());
        shown.join(", ")
    }

    /// Does what a runtime does, and shows all that was ordered.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> String {
        let mut shown = Vec::new();
        let mut queue = std::collections::VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            match &effect {
                Effect::Append(records) => {
                    self.log.extend_from_slice(records);
                    let mut more = Vec::new();
                    match &mut self.held {
                        Some(held) => held.push(self.log.len()),
                        None => self.append(self.log.len(), &mut more),
                    }
                    queue.extend(more);
                }
                Effect::Answer { .. } => {}
            }
            shown.push(show(&effect));
        }
        for group in self.shard.groups.values() {
            group.check_members();
        }
        self.shorten(&shown.join(", "))
    }

    pub(super) fn append(&mut self, end: usize, effects: &mut Vec<Effect>) {
        let end = Offset(end.try_into().unwrap());
        self.shard.on_appended(end, effects);
        self.shard.on_high_watermark(end, self.now(), effects);
    }

    /// Member ids, as short as in the text of a scenario.
    fn shorten(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for ticket in 1..=self.ticket {
            text = text.replace(&suffix(ticket), &format!("#{ticket}"));
        }
        text
    }
}

/// What makes the member id of request `ticket` its own.
fn suffix(ticket: u64) -> String {
    format!("-{ticket:08x}-0000-4000-8000-000000000000")
}

/// The member id `a#1` in full.
pub(super) fn full(short: &str) -> Str {
    match short.split_once('#') {
        Some((client, ticket)) => format!("{client}{}", suffix(ticket.parse().unwrap())).into(),
        None => short.into(),
    }
}

fn with_random(request: Request, ticket: u64) -> Request {
    match request {
        Request::JoinGroup(request, mut joiner) => {
            let mut random = [0; 16];
            random[..4].copy_from_slice(&u32::try_from(ticket).unwrap().to_be_bytes());
            joiner.random = Uuid(random);
            Request::JoinGroup(request, joiner)
        }
        request => request,
    }
}

/// A subscription of the consumer protocol.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut e = Encoder::new();
    e.i16(1);
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|&topic| topic.into()).collect(),
        ..ConsumerProtocolSubscription::default()
    };
    subscription.encode(&mut e, 1).unwrap();
    e.finish().into_bytes().unwrap()
}

/// JoinGroup of a consumer of the topic `t`, to be described further.
#[derive(Clone)]
pub(super) struct Join(pub(super) JoinGroupRequest, pub(super) i16, pub(super) Str);

/// The client `a` joins group `g`, as the member that it is.
pub(super) fn join(client: &str, member_id: &str) -> Join {
    let request = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: full(member_id),
        protocol_type: "consumer".into(),
        ..JoinGroupRequest::default()
    };
    Join(request, 9, client.into()).protocols(&[("range", &["t"])])
}

impl Join {
    pub(super) fn protocols(mut self, protocols: &[(&str, &[&str])]) -> Self {
        let protocols = protocols
            .iter()
            .map(|(name, topics)| JoinGroupRequestProtocol {
                name: (*name).into(),
                metadata: subscription(topics),
            });
        self.0.protocols = protocols.collect();
        self
    }

    pub(super) fn instance(mut self, id: &str) -> Self {
        self.0.group_instance_id = Some(id.into());
        self
    }

    pub(super) fn version(mut self, version: i16) -> Self {
        self.1 = version;
        self
    }
}

impl From<Join> for Request {
    fn from(Join(request, version, client_id): Join) -> Self {
        let joiner = Joiner {
            version,
            client_id,
            client_host: "/127.0.0.1".into(),
            random: Uuid::ZERO,
        };
        Self::JoinGroup(request, joiner)
    }
}

/// SyncGroup; the leader's has assignments.
pub(super) fn sync(member_id: &str, generation_id: i32, assignments: &[(&str, &str)]) -> Request {
    let assignments =
        assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id: full(member_id),
                assignment: Bytes::copy_from_slice(assignment.as_bytes()),
            });
    Request::SyncGroup(SyncGroupRequest {
        group_id: "g".into(),
        generation_id,
        member_id: full(member_id),
        assignments: assignments.collect(),
        ..SyncGroupRequest::default()
    })
}

pub(super) fn heartbeat(member_id: &str, generation_id: i32) -> Request {
    Request::Heartbeat(HeartbeatRequest {
        group_id: "g".into(),
        generation_id,
        member_id: full(member_id),
        ..HeartbeatRequest::default()
    })
}

/// LeaveGroup of members, by their ids or `@instance`.
pub(super) fn leave(members: &[&str]) -> Request {
    let members = members.iter().map(|id| match id.strip_prefix('@') {
        Some(instance) => MemberIdentity {
            group_instance_id: Some(instance.into()),
            ..MemberIdentity::default()
        },
        None => MemberIdentity {
            member_id: full(id),
            ..MemberIdentity::default()
        },
    });
    let request = LeaveGroupRequest {
        group_id: "g".into(),
        members: members.collect(),
        ..LeaveGroupRequest::default()
    };
    Request::LeaveGroup(request, 5)
}

/// OffsetCommit of one offset of `t-0`.
pub(super) fn commit(member_id: &str, generation_id: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: 3,
        committed_metadata: None,
    };
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: generation_id,
        member_id: full(member_id),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

impl From<OffsetCommitRequest> for Request {
    fn from(request: OffsetCommitRequest) -> Self {
        Self::OffsetCommit(request, 8)
    }
}

/// OffsetFetch of `t-0`, or of all.
pub(super) fn fetch(topic: Option<&str>) -> Request {
    let topics = topic.map(|topic| {
        vec![OffsetFetchRequestTopics {
            name: topic.into(),
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        }]
    });
    Request::OffsetFetch {
        group: OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics,
            ..OffsetFetchRequestGroup::default()
        },
        require_stable: true,
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Append(records) => {
            let records: Vec<String> = records.iter().map(show_record).collect();
            format!("keep {}", records.join(" + "))
        }
        Effect::Answer { ticket, response } => format!("{} {}", ticket.0, show_response(response)),
    }
}

fn show_record(record: &GroupRecord) -> String {
    match record {
        GroupRecord::OffsetCommit(key, Some(value)) => {
            format!("{}-{}={}", key.topic, key.partition, value.offset)
        }
        GroupRecord::OffsetCommit(key, None) => format!("{}-{} gone", key.topic, key.partition),
        GroupRecord::GroupMetadata(key, None) => format!("{} gone", key.group),
        GroupRecord::GroupMetadata(key, Some(value)) => {
            let members = value.members.iter().map(|member| {
                let is_leader = value.leader.as_ref() == Some(&member.member_id);
                let star = if is_leader { "*" } else { "" };
                format!(" {}{star}", member.member_id)
            });
            format!(
                "{} {}{}",
                key.group,
                value.generation,
                members.collect::<String>()
            )
        }
    }
}

fn show_code(code: i16, ok: &str) -> String {
    match ErrorCode::from_code(code) {
        ErrorCode::None => ok.to_owned(),
        error => error.name().to_owned(),
    }
}

fn show_response(response: &Response) -> String {
    match response {
        Response::JoinGroup(response) if response.error_code == 0 => {
            let members = response.members.iter().map(|member| &*member.member_id);
            let members: Vec<&str> = members.collect();
            let skip = if response.skip_assignment {
                " skip"
            } else {
                ""
            };
            format!(
                "joined {} {} of {} [{}]{skip}",
                response.generation_id,
                response.member_id,
                response.leader,
                members.join(" ")
            )
        }
        Response::JoinGroup(response) => {
            let code = show_code(response.error_code, "");
            format!("{code} {}", response.member_id)
                .trim_end()
                .to_owned()
        }
        Response::SyncGroup(response) => {
            let assignment = String::from_utf8_lossy(&response.assignment);
            show_code(response.error_code, &format!("synced {assignment:?}"))
        }
        Response::Heartbeat(response) => show_code(response.error_code, "ok"),
        Response::LeaveGroup(response) => {
            let members = response.members.iter();
            let codes: Vec<String> = members
                .map(|member| show_code(member.error_code, "left"))
                .collect();
            show_code(response.error_code, &codes.join(" "))
        }
        Response::OffsetCommit(response) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let codes = partitions.map(|partition| show_code(partition.error_code, "committed"));
            codes.collect::<Vec<_>>().join(" ")
        }
        Response::OffsetFetch(group) => {
            let topics = group.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    let offset = partition.committed_offset.to_string();
                    let offset = show_code(partition.error_code, &offset);
                    format!("{}-{}={offset}", topic.name, partition.partition_index)
                })
            });
            let topics: Vec<String> = topics.collect();
            show_code(group.error_code, &format!("[{}]", topics.join(" ")))
        }
        other => format!("{other:?}"),
    }
}
