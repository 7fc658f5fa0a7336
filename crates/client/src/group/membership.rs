//! A member of a group: how it joins, stays and leaves.
//!
//! Input: what it wants to read, what it reads. Output: what it is to read in this generation; and
//! while that lasts, word that it lasts no longer.
//!
//! ```text
//!              JoinGroup, SyncGroup            heartbeats
//!   (no member) ───────────────────► (member) ────────────┐
//!        ▲  ▲                          │  ▲ └─────────────┘
//!        │  │ UNKNOWN_MEMBER_ID,       │  │
//!        │  │ ILLEGAL_GENERATION       │  │ joined again, with its id
//!        │  └──────────────────────────┤  │
//!        │ left                        ▼  │
//!        └────────────────────────── REBALANCE_IN_PROGRESS
//! ```
//!
//! Heartbeats are a task of their own, so that they go on while the program is busy with records,
//! or stands in a write to a pipe that nobody reads. One that does not come back within
//! `max.poll.interval.ms` leaves the group, so that others go on.
//!
//! Invariants:
//! - one task beats for a generation, and ends with it;
//! - an error that says that we are no member takes the member id with it, and what was read; one
//!   of the generation leaves the id: under another one the coordinator would go on waiting for it;
//! - a static member leaves the group only by silence: it is expected back.
//!
//! Source: KIP-62 (poll interval), KIP-345 (static members), KIP-394 (member ids before joining),
//! KIP-814 (`skip_assignment`); `AbstractCoordinator` of Kafka 4.1.1.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_env::Lane;
use skein_protocol::messages::heartbeat::HeartbeatRequest;
use skein_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use skein_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use skein_protocol::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use skein_protocol::{EncodeError, Str};
use skein_types::{ErrorCode, TopicName, TopicPartition};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::committed::Committer;
use crate::coordinator::{Coordinator, is_elsewhere};
use crate::error::ClientError;
use crate::group::assignor::{Assignor, Members};
use crate::group::subscription::{Subscription, decode_assignment, encode_assignment};
use crate::group::{GroupOptions, PROTOCOL_TYPE};
use crate::pool::Pool;

/// Joins in a row that may come to nothing before it is an error that is told; then it is tried on.
const JOINS_MAX: u32 = 10;

/// The first version of LeaveGroup that names members.
const LEAVE_MEMBERS_VERSION: i16 = 3;

/// A generation that is none.
const NO_GENERATION: i32 = -1;

/// What an error means to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing; the same is tried again.
    Again,
    /// The group shares out anew: join, as the same member.
    Rejoin,
    /// What it was given is not its own any more: join with nothing.
    Anew,
    /// To be told to the program.
    Final,
}

impl Verdict {
    pub(super) const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::RebalanceInProgress | ErrorCode::MemberIdRequired => Self::Rejoin,
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => Self::Anew,
            _ if code.is_retriable() => Self::Again,
            _ => Self::Final,
        }
    }
}

/// What a join has brought.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) assignment: BTreeSet<TopicPartition>,
    /// Whether what was read before was taken away meanwhile, without being asked.
    pub(super) is_lost: bool,
}

/// See the head of this file.
pub(super) struct Membership {
    pool: Arc<Pool>,
    coordinator: Arc<Coordinator>,
    options: GroupOptions,
    member_id: Str,
    generation_id: i32,
    /// Beats while this is a member.
    pulse: Option<Pulse>,
    /// When the program was here last.
    polled: Arc<Mutex<Instant>>,
    /// What the assignment of a leader was made of.
    counts: Option<BTreeMap<TopicName, usize>>,
}

/// The heartbeats of one generation.
struct Pulse {
    verdict: watch::Receiver<Option<ErrorCode>>,
    /// Ends the task when it is dropped.
    _stop: oneshot::Sender<()>,
}

impl Membership {
    pub(super) fn new(
        pool: Arc<Pool>,
        coordinator: Arc<Coordinator>,
        options: GroupOptions,
    ) -> Self {
        Self {
            pool,
            coordinator,
            options,
            member_id: Str::default(),
            generation_id: NO_GENERATION,
            pulse: None,
            polled: Arc::new(Mutex::new(Instant::now())),
            counts: None,
        }
    }

    /// The program is here.
    pub(super) fn polled(&self) {
        *self.polled.lock() = Instant::now();
    }

    pub(super) fn is_joined(&self) -> bool {
        self.pulse.is_some()
    }

    /// Why the generation has ended, if heartbeats have found out.
    pub(super) fn ended(&self) -> Option<ErrorCode> {
        self.pulse
            .as_ref()
            .and_then(|pulse| *pulse.verdict.borrow())
    }

    /// Returns when the generation has ended. May be cancelled.
    pub(super) async fn wait_for_end(&self) {
        if let Some(pulse) = &self.pulse {
            let mut verdict = pulse.verdict.clone();
            if verdict.wait_for(Option::is_some).await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Has the next step join again, as the same member.
    pub(super) fn rejoin(&mut self) {
        self.pulse = None;
    }

    /// It is no member any more, or none of the generation, as `code` says.
    pub(super) fn lose(&mut self, code: ErrorCode) {
        self.pulse = None;
        if code != ErrorCode::IllegalGeneration {
            self.member_id = Str::default();
        }
        self.generation_id = NO_GENERATION;
    }

    /// Whether a topic has other partitions than when this member shared them out.
    pub(super) fn is_out_of_date(&self) -> bool {
        let Some(counts) = &self.counts else {
            return false;
        };
        let view = self.pool.metadata.view();
        let mut topics = view.topics.iter();
        let subscribed = |name| self.options.topics.contains(name) || counts.contains_key(name);
        topics.any(|(name, topic)| {
            subscribed(name) && counts.get(name).copied() != Some(topic.partitions.len())
        })
    }

    pub(super) fn committer(&self) -> Committer {
        Committer {
            group_id: Str::from(&self.options.group_id),
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            instance_id: self.instance_id(),
        }
    }

    fn instance_id(&self) -> Option<Str> {
        self.options.instance_id.as_ref().map(Str::from)
    }

    /// Joins; `owned` is what is read meanwhile.
    ///
    /// # Errors
    /// What the program must hear of, and what may pass: then it joins again.
    pub(super) async fn join(
        &mut self,
        owned: &BTreeSet<TopicPartition>,
    ) -> Result<Joined, ClientError> {
        self.pulse = None;
        let mut joined = Joined::default();
        let mut owned = owned.clone();
        for _ in 0..JOINS_MAX {
            let (code, assignment) = self.try_to_join(&owned).await?;
            match Verdict::of(code) {
                _ if code.is_none() => {
                    joined.assignment = assignment;
                    self.begin_to_beat();
                    return Ok(joined);
                }
                Verdict::Rejoin => {}
                Verdict::Anew => {
                    self.lose(code);
                    joined.is_lost = true;
                    owned.clear();
                }
                Verdict::Again | Verdict::Final => return Err(self.refused(code)),
            }
        }
        Err(self.refused(ErrorCode::CoordinatorNotAvailable))
    }

    fn refused(&self, code: ErrorCode) -> ClientError {
        if is_elsewhere(code) {
            self.coordinator.forget();
        }
        ClientError::refused(self.coordinator.subject(), code, None)
    }

    /// One JoinGroup and one SyncGroup.
    async fn try_to_join(
        &mut self,
        owned: &BTreeSet<TopicPartition>,
    ) -> Result<(ErrorCode, BTreeSet<TopicPartition>), ClientError> {
        let nothing = BTreeSet::new();
        let response = self.join_group(owned).await?;
        let code = ErrorCode::from_code(response.error_code);
        if code.is_none() || code == ErrorCode::MemberIdRequired {
            self.member_id = response.member_id.clone();
        }
        if !code.is_none() {
            return Ok((code, nothing));
        }
        self.generation_id = response.generation_id;
        let is_leader = response.leader == response.member_id;
        let assignments = if is_leader && !response.skip_assignment {
            self.share_out(&response).await?
        } else {
            self.counts = None;
            Vec::new()
        };
        let response = self.sync_group(&response, assignments).await?;
        let code = ErrorCode::from_code(response.error_code);
        if !code.is_none() {
            return Ok((code, nothing));
        }
        match decode_assignment(&response.assignment) {
            Some(assignment) => Ok((code, assignment)),
            None => Err(ClientError::Senseless {
                subject: self.coordinator.subject(),
                reason: "its leader's assignment cannot be read",
            }),
        }
    }

    async fn join_group(
        &self,
        owned: &BTreeSet<TopicPartition>,
    ) -> Result<JoinGroupResponse, ClientError> {
        let options = &self.options;
        let subscription = Subscription {
            topics: options.topics.clone(),
            owned: owned.clone(),
            generation_id: self.generation_id,
        };
        let metadata = encoded(subscription.encode())?;
        let protocols = options.assignors.iter();
        let request = JoinGroupRequest {
            group_id: Str::from(&options.group_id),
            session_timeout_ms: millis(options.session_timeout),
            rebalance_timeout_ms: millis(options.max_poll_interval),
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Str::from_static(PROTOCOL_TYPE),
            protocols: protocols
                .map(|assignor| JoinGroupRequestProtocol {
                    name: Str::from_static(assignor.name()),
                    metadata: metadata.clone(),
                })
                .collect(),
            reason: None,
        };
        // It is answered when all have joined, or their time is over.
        let timeout = options.max_poll_interval + self.pool.metadata.options.request_timeout;
        let called = self
            .coordinator
            .call::<JoinGroupRequest, _>(i16::MAX, |_| &request, timeout);
        called.await
    }

    async fn sync_group(
        &self,
        joined: &JoinGroupResponse,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> Result<SyncGroupResponse, ClientError> {
        let request = SyncGroupRequest {
            group_id: Str::from(&self.options.group_id),
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Some(Str::from_static(PROTOCOL_TYPE)),
            protocol_name: joined.protocol_name.clone(),
            assignments,
        };
        let timeout = self.options.max_poll_interval + self.pool.metadata.options.request_timeout;
        let called = self
            .coordinator
            .call::<SyncGroupRequest, _>(i16::MAX, |_| &request, timeout);
        called.await
    }

    /// What a leader does: who reads what.
    async fn share_out(
        &mut self,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let name = joined.protocol_name.as_deref().unwrap_or_default();
        let Some(assignor) = Assignor::from_name(name) else {
            return Err(ClientError::Senseless {
                subject: self.coordinator.subject(),
                reason: "it has chosen an assignor that was not offered",
            });
        };
        let members: Members<Subscription> = joined
            .members
            .iter()
            .map(|member| {
                // Who cannot be understood gets nothing.
                let subscription = Subscription::decode(&member.metadata).unwrap_or_default();
                (member.member_id.as_str().to_owned(), subscription)
            })
            .collect();
        let topics: BTreeSet<_> = members.values().flat_map(|one| &one.topics).collect();
        let counts = self.counts_of(&topics).await?;
        let assignment = assignor.assign(&members, &counts);
        self.counts = Some(counts);
        let assignments = assignment.iter().map(|(member_id, partitions)| {
            Ok(SyncGroupRequestAssignment {
                member_id: Str::from(member_id),
                assignment: encoded(encode_assignment(partitions))?,
            })
        });
        assignments.collect()
    }

    /// How many partitions the topics have now; those that do not exist are left out.
    async fn counts_of(
        &self,
        topics: &BTreeSet<&TopicName>,
    ) -> Result<BTreeMap<TopicName, usize>, ClientError> {
        let metadata = &self.pool.metadata;
        let timeout = metadata.options.api_timeout;
        for topic in topics {
            match metadata.topic(topic, false, timeout).await {
                Err(error) if error.code() != Some(ErrorCode::UnknownTopicOrPartition) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        // What is cached may be old.
        let view = metadata.newer_than(metadata.view().version, false).await?;
        let counts = topics.iter().filter_map(|name| {
            let topic = view.topics.get(*name)?;
            Some(((*name).clone(), topic.partitions.len()))
        });
        Ok(counts.collect())
    }

    fn begin_to_beat(&mut self) {
        let (verdict_sender, verdict) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let heart = Heart {
            coordinator: Arc::clone(&self.coordinator),
            request: HeartbeatRequest {
                group_id: Str::from(&self.options.group_id),
                generation_id: self.generation_id,
                member_id: self.member_id.clone(),
                group_instance_id: self.instance_id(),
            },
            options: self.options.clone(),
            retry_pause: self.pool.metadata.options.retry_backoff_max,
            polled: Arc::clone(&self.polled),
        };
        let task = async move {
            tokio::select! {
                biased;
                _ = stopped => {}
                code = heart.beat() => drop(verdict_sender.send(Some(code))),
            }
        };
        let spawn = &self.pool.metadata.env.spawn;
        spawn.spawn(Lane::Data, "group-heartbeat", Box::pin(task));
        self.pulse = Some(Pulse {
            verdict,
            _stop: stop,
        });
    }

    /// Leaves the group at once, so that others need not wait for the session to end. A static
    /// member stays: it is expected back.
    pub(super) async fn leave(&mut self) {
        self.pulse = None;
        if self.member_id.is_empty() || self.options.instance_id.is_some() {
            return;
        }
        let member_id = std::mem::take(&mut self.member_id);
        let (group_id, timeout) = (
            &self.options.group_id,
            self.pool.metadata.options.request_timeout,
        );
        if let Err(error) = leave(&self.coordinator, group_id, &member_id, timeout).await {
            tracing::debug!(%error, "the group learns from its session that this member has left");
        }
    }
}

/// Beats for one generation.
struct Heart {
    coordinator: Arc<Coordinator>,
    request: HeartbeatRequest,
    options: GroupOptions,
    retry_pause: Duration,
    polled: Arc<Mutex<Instant>>,
}

impl Heart {
    /// Beats until the generation ends; why.
    async fn beat(&self) -> ErrorCode {
        let mut pause = self.options.heartbeat_interval;
        loop {
            tokio::time::sleep(pause).await;
            if self.polled.lock().elapsed() > self.options.max_poll_interval {
                tracing::warn!("the program does not come back: no member any more");
                self.stop().await;
                return ErrorCode::UnknownMemberId;
            }
            let timeout = self.options.session_timeout;
            let request = |_| &self.request;
            let called = self
                .coordinator
                .call::<HeartbeatRequest, _>(i16::MAX, request, timeout);
            let code = match called.await {
                Ok(response) => ErrorCode::from_code(response.error_code),
                Err(error) => {
                    tracing::debug!(%error, "a heartbeat was not answered");
                    ErrorCode::CoordinatorNotAvailable
                }
            };
            pause = match Verdict::of(code) {
                _ if code.is_none() => self.options.heartbeat_interval,
                Verdict::Again => {
                    if is_elsewhere(code) {
                        self.coordinator.forget();
                    }
                    self.retry_pause.min(self.options.heartbeat_interval)
                }
                _ => return code,
            };
        }
    }

    /// Leaves the group, so that others go on; a static member's session has to end.
    async fn stop(&self) {
        if self.options.instance_id.is_some() {
            return;
        }
        let (group_id, member_id) = (&self.request.group_id, &self.request.member_id);
        let timeout = self.options.session_timeout;
        // Else the session ends.
        let _ = leave(&self.coordinator, group_id, member_id, timeout).await;
    }
}

async fn leave(
    coordinator: &Coordinator,
    group_id: &str,
    member_id: &Str,
    timeout: Duration,
) -> Result<(), ClientError> {
    let request = |version| {
        let identity = MemberIdentity {
            member_id: member_id.clone(),
            ..MemberIdentity::default()
        };
        let names_members = version >= LEAVE_MEMBERS_VERSION;
        LeaveGroupRequest {
            group_id: Str::from(group_id),
            member_id: if names_members {
                Str::default()
            } else {
                member_id.clone()
            },
            members: if names_members {
                vec![identity]
            } else {
                Vec::new()
            },
        }
    };
    let called = coordinator.call::<LeaveGroupRequest, _>(i16::MAX, request, timeout);
    called.await.map(|_| ())
}

fn encoded(bytes: Result<Bytes, EncodeError>) -> Result<Bytes, ClientError> {
    bytes.map_err(|_| ClientError::Options("the names of topics take too many bytes"))
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_means_one_thing_to_a_member() {
        for (code, verdict) in [
            (ErrorCode::RebalanceInProgress, Verdict::Rejoin),
            (ErrorCode::MemberIdRequired, Verdict::Rejoin),
            (ErrorCode::UnknownMemberId, Verdict::Anew),
            (ErrorCode::IllegalGeneration, Verdict::Anew),
            (ErrorCode::NotCoordinator, Verdict::Again),
            (ErrorCode::CoordinatorNotAvailable, Verdict::Again),
            (ErrorCode::CoordinatorLoadInProgress, Verdict::Again),
            (ErrorCode::FencedInstanceId, Verdict::Final),
            (ErrorCode::GroupMaxSizeReached, Verdict::Final),
            (ErrorCode::InconsistentGroupProtocol, Verdict::Final),
            (ErrorCode::InvalidSessionTimeout, Verdict::Final),
            (ErrorCode::GroupAuthorizationFailed, Verdict::Final),
        ] {
            assert_eq!(Verdict::of(code), verdict, "{code}");
        }
    }
}
