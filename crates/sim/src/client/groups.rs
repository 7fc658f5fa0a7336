//! What every client of groups asks: for the coordinator, and for committed offsets.
//!
//! Input: a group, partitions. Output: requests; events of what was sent, answered and found.
//!
//! Invariant: a commit is announced before it is sent, and what became of it is told, also that
//! nobody knows.
//!
//! Source: KIP-709 (several groups in one OffsetFetch), KIP-496 (OffsetDelete).

use std::collections::BTreeMap;

use skein_protocol::Str;
use skein_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use skein_protocol::messages::delete_groups::DeleteGroupsRequest;
use skein_protocol::messages::find_coordinator::FindCoordinatorRequest;
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use skein_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use skein_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use skein_types::ErrorCode;

use crate::client::Client;
use crate::event::{Event, GroupEvent, GroupId, Membership, OffsetState, Stamp, Subject, WriteId};

/// The topic whose offsets are committed. Nothing is in it.
pub(crate) const TOPIC: &str = "read-by-groups";

/// The topic of the groups' records.
pub(crate) const RECORDS_TOPIC: &str = "__consumer_offsets";

const CREATE_TOPICS_VERSION: i16 = 7;
const OFFSET_DELETE_VERSION: i16 = 0;
const DELETE_GROUPS_VERSION: i16 = 2;

/// The first version of OffsetFetch that asks for several groups.
const SEVERAL_VERSION: i16 = 8;

/// How long the node may take to make a topic, in milliseconds.
const TIMEOUT_MS: i32 = 3_000;

/// Who commits.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    pub(crate) of: Membership,
    pub(crate) instance: Option<Str>,
}

/// Makes the topics that groups need.
pub(crate) async fn prepare(client: &mut Client) {
    let plan = client.plan.groups.clone();
    if plan.is_empty() {
        return;
    }
    create_topic(client, TOPIC, plan.partitions, &[]).await;
    match &plan.records_configs {
        Some(configs) => {
            let partitions = i32::try_from(client.rng.between(1, 3)).unwrap_or(1);
            create_topic(client, RECORDS_TOPIC, partitions, configs).await;
        }
        None => while find_coordinator(client, "any").await != ErrorCode::None {},
    }
    client.witness.note_groups();
}

async fn create_topic(
    client: &mut Client,
    name: &str,
    partitions: i32,
    configs: &[(&'static str, String)],
) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some(value.as_str().into()),
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    loop {
        let answer = client.call(&request, CREATE_TOPICS_VERSION).await;
        let created = answer.and_then(|(response, _)| response.topics.into_iter().next());
        let code = created.map(|topic| ErrorCode::from_code(topic.error_code));
        match code {
            Some(ErrorCode::None | ErrorCode::TopicAlreadyExists) => return,
            _ => client.back_off().await,
        }
    }
}

/// Asks for the coordinator of a group, after a pause if there is none.
async fn find_coordinator(client: &mut Client, group: &str) -> ErrorCode {
    let version = i16::try_from(client.rng.between(3, 6)).unwrap_or(6);
    let request = FindCoordinatorRequest {
        key: if version < 4 {
            group.into()
        } else {
            Str::default()
        },
        coordinator_keys: if version < 4 {
            Vec::new()
        } else {
            vec![group.into()]
        },
        ..Default::default()
    };
    let Some((response, _)) = client.call(&request, version).await else {
        return ErrorCode::CoordinatorNotAvailable;
    };
    let several = response.coordinators.first();
    let code = several.map_or(response.error_code, |found| found.error_code);
    let code = ErrorCode::from_code(code);
    if code != ErrorCode::None {
        client.back_off().await;
    }
    code
}

/// Commits an offset of its own for each of `partitions`; the worst of what was answered.
pub(crate) async fn commit(
    client: &mut Client,
    group: GroupId,
    by: Option<&Committer>,
    partitions: &[i32],
) -> Option<ErrorCode> {
    let writes = announce(client, group, partitions, false);
    let version = i16::try_from(client.rng.between(7, 9)).unwrap_or(9);
    let of_partition = |(partition, write): &(i32, WriteId)| {
        let state = state_of(*write);
        OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: state.offset,
            committed_leader_epoch: state.leader_epoch,
            committed_metadata: Some(state.metadata),
        }
    };
    let request = OffsetCommitRequest {
        group_id: name_of(client, group),
        generation_id_or_member_epoch: by.map_or(-1, |by| by.of.generation),
        member_id: by.map(|by| by.of.member.clone()).unwrap_or_default(),
        group_instance_id: by.and_then(|by| by.instance.clone()),
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: writes.iter().map(of_partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.call(&request, version).await;
    let Some((response, asked)) = answer else {
        lose(client, group, &writes);
        return None;
    };
    let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes: BTreeMap<i32, i16> = answers
        .map(|partition| (partition.partition_index, partition.error_code))
        .collect();
    let by = by.map(|by| &by.of);
    Some(settle(client, group, by, &writes, &codes, asked))
}

/// Deletes the offsets of `partitions`.
pub(crate) async fn delete_offsets(client: &mut Client, group: GroupId, partitions: &[i32]) {
    let writes = announce(client, group, partitions, true);
    let of_partition = |(partition, _): &(i32, WriteId)| OffsetDeleteRequestPartition {
        partition_index: *partition,
    };
    let request = OffsetDeleteRequest {
        group_id: name_of(client, group),
        topics: vec![OffsetDeleteRequestTopic {
            name: TOPIC.into(),
            partitions: writes.iter().map(of_partition).collect(),
        }],
    };
    let Some((response, asked)) = client.call(&request, OFFSET_DELETE_VERSION).await else {
        return lose(client, group, &writes);
    };
    let codes: BTreeMap<i32, i16> = match response.error_code {
        0 => {
            let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
            answers
                .map(|partition| (partition.partition_index, partition.error_code))
                .collect()
        }
        code => partitions
            .iter()
            .map(|partition| (*partition, code))
            .collect(),
    };
    settle(client, group, None, &writes, &codes, asked);
}

/// Deletes the group, and with it all of its offsets; whether that was acknowledged.
pub(crate) async fn delete_group(client: &mut Client, group: GroupId) -> bool {
    let partitions: Vec<i32> = (0..client.plan.groups.partitions).collect();
    let writes = announce(client, group, &partitions, true);
    tell(client, group, GroupEvent::Deleting);
    let request = DeleteGroupsRequest {
        groups_names: vec![name_of(client, group)],
    };
    let Some((response, asked)) = client.call(&request, DELETE_GROUPS_VERSION).await else {
        lose(client, group, &writes);
        return false;
    };
    let code = response
        .results
        .first()
        .map_or(-1, |result| result.error_code);
    let codes = partitions
        .iter()
        .map(|partition| (*partition, code))
        .collect();
    let code = settle(client, group, None, &writes, &codes, asked);
    if matches!(code, ErrorCode::NonEmptyGroup | ErrorCode::GroupIdNotFound) {
        tell(client, group, GroupEvent::NotDeleted);
    }
    code.is_none()
}

/// Asks what is committed, and tells of it; `None` if there was no answer, after a pause.
pub(crate) async fn fetch(
    client: &mut Client,
    group: GroupId,
) -> Option<BTreeMap<i32, OffsetState>> {
    let version = i16::try_from(client.rng.between(6, 9)).unwrap_or(9);
    let partitions: Vec<i32> = (0..client.plan.groups.partitions).collect();
    let named = client.rng.chance(2).then(|| partitions.clone());
    let request = fetch_request(name_of(client, group), named, version);
    let (response, asked) = client.call(&request, version).await?;
    let mut found = BTreeMap::new();
    let mut code = response.error_code;
    if let Some(answer) = response.groups.into_iter().next() {
        code = answer.error_code;
        for data in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
            let state = OffsetState {
                offset: data.committed_offset,
                leader_epoch: data.committed_leader_epoch,
                metadata: data.metadata.unwrap_or_default(),
            };
            found.insert(data.partition_index, state);
        }
    }
    for data in response
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
    {
        let state = OffsetState {
            offset: data.committed_offset,
            leader_epoch: data.committed_leader_epoch,
            metadata: data.metadata.unwrap_or_default(),
        };
        found.insert(data.partition_index, state);
    }
    if code != 0 {
        expect_unavailable(
            client,
            group,
            ErrorCode::from_code(code),
            "a fetch of offsets",
        );
        client.back_off().await;
        return None;
    }
    found.retain(|_, state| state.offset >= 0);
    for partition in partitions {
        let state = found.get(&partition);
        let write = state.map(|state| WriteId(state.offset));
        if let Some((state, write)) = state.zip(write)
            && *state != state_of(write)
        {
            let text = format!("{state:?} is read, and was not committed so");
            let subject = Some(Subject::Group(group));
            let witness = &client.witness;
            witness.accuse(client.actor, "committed_offsets", subject, text);
        }
        let found = GroupEvent::Found {
            partition,
            write,
            asked,
        };
        tell(client, group, found);
    }
    Some(found)
}

fn fetch_request(group_id: Str, partitions: Option<Vec<i32>>, version: i16) -> OffsetFetchRequest {
    if version < SEVERAL_VERSION {
        return OffsetFetchRequest {
            group_id,
            topics: partitions.map(|partition_indexes| {
                vec![OffsetFetchRequestTopic {
                    name: TOPIC.into(),
                    partition_indexes,
                }]
            }),
            ..Default::default()
        };
    }
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id,
            topics: partitions.map(|partition_indexes| {
                vec![OffsetFetchRequestTopics {
                    name: TOPIC.into(),
                    partition_indexes,
                    ..Default::default()
                }]
            }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What a commit says beside its offset.
fn state_of(write: WriteId) -> OffsetState {
    OffsetState {
        offset: write.0,
        leader_epoch: i32::try_from(write.0 % 7).unwrap_or(0),
        metadata: Str::from(format!("commit {}", write.0)),
    }
}

fn announce(
    client: &Client,
    group: GroupId,
    partitions: &[i32],
    is_deletion: bool,
) -> Vec<(i32, WriteId)> {
    let announce = |partition: &i32| {
        let (partition, write) = (*partition, client.witness.next_write());
        let writing = GroupEvent::Writing {
            write,
            partition,
            is_deletion,
        };
        tell(client, group, writing);
        (partition, write)
    };
    partitions.iter().map(announce).collect()
}

fn lose(client: &Client, group: GroupId, writes: &[(i32, WriteId)]) {
    for (partition, write) in writes.iter().copied() {
        tell(client, group, GroupEvent::Lost { write, partition });
    }
}

/// Tells what became of writes; the worst of it.
fn settle(
    client: &Client,
    group: GroupId,
    by: Option<&Membership>,
    writes: &[(i32, WriteId)],
    codes: &BTreeMap<i32, i16>,
    asked: Stamp,
) -> ErrorCode {
    let mut worst = ErrorCode::None;
    for (partition, write) in writes.iter().copied() {
        let code = codes
            .get(&partition)
            .copied()
            .map_or_else(|| ErrorCode::from_code(-1), ErrorCode::from_code);
        let event = match code {
            ErrorCode::None => GroupEvent::Written {
                write,
                partition,
                by: by.cloned(),
                asked,
            },
            ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupIdNotFound
            | ErrorCode::NonEmptyGroup
            // Nobody can tell yet what the members of a first generation subscribe to.
            | ErrorCode::GroupSubscribedToTopic => GroupEvent::Refused {
                write,
                partition,
                code,
            },
            code => {
                expect_unavailable(client, group, code, "a commit");
                GroupEvent::Lost { write, partition }
            }
        };
        tell(client, group, event);
        if code != ErrorCode::None {
            worst = code;
        }
    }
    worst
}

/// A request was refused with `code`, by which an honest node says that it cannot answer now.
pub(crate) fn expect_unavailable(client: &Client, group: GroupId, code: ErrorCode, what: &str) {
    if !matches!(
        code,
        ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
    ) {
        let text = format!("{what} is refused: {code}");
        let subject = Some(Subject::Group(group));
        client
            .witness
            .accuse(client.actor, "well_formed", subject, text);
    }
}

pub(crate) fn tell(client: &Client, group: GroupId, event: GroupEvent) {
    client
        .witness
        .tell(client.actor, Event::Group(group, event));
}

pub(crate) fn name_of(client: &Client, group: GroupId) -> Str {
    client.plan.groups.names[group.0].as_str().into()
}

/// Some of the partitions, at least one.
pub(crate) fn some(client: &mut Client, partitions: &[i32]) -> Vec<i32> {
    let mut some = partitions.to_vec();
    some.retain(|_| client.rng.chance(2));
    if some.is_empty() {
        some.extend(partitions.first());
    }
    some
}
