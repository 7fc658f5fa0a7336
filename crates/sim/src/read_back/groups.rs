//! Reads what is left of every group, when the faults are over.
//!
//! Input: the node. Output: for each group what the node says of it, and what its records say,
//! which are read from `__consumer_offsets` as any consumer reads them.
//!
//! Invariant: a group's records are all in one partition; nothing is in that topic that is not a
//! record of a group.
//!
//! Source: the format of the records: `GroupCoordinatorRecordSerde` of Kafka 4.1.1.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use skein_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use skein_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use skein_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use skein_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use skein_protocol::{GroupRecord, Records, Str};
use skein_record::Batches;
use skein_types::ErrorCode;
use tokio::time::sleep;

use crate::client::Client;
use crate::client::groups::{self, RECORDS_TOPIC, TOPIC};
use crate::event::{GroupEvent, GroupId, GroupState, MemberState, OffsetState};
use crate::plan::RETENTION;

const DESCRIBE_VERSION: i16 = 5;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 12;

/// The timestamp that means "the start".
const EARLIEST: i64 = -2;

/// The largest batch after decompression, in bytes.
const UNPACKED_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one fetch.
const FETCH_BYTES: i32 = 500_000;

/// In this time every session ends that is not longer than the run, and what it brings about.
const SESSIONS_END: Duration = Duration::from_secs(6);

/// How long the node may take to find offsets that have expired.
const EXPIRY_MAX: Duration = Duration::from_secs(5);

/// Compares each group with its records.
pub(crate) async fn read_back(client: &mut Client) {
    if client.plan.groups.is_empty() {
        return;
    }
    sleep(SESSIONS_END).await;
    let groups: Vec<GroupId> = client.plan.groups.groups().collect();
    for group in &groups {
        let state = described(client, *group).await;
        groups::tell(client, *group, GroupEvent::Described(state));
    }
    match records(client).await {
        Ok(mut states) => {
            for group in groups {
                let name = groups::name_of(client, group);
                let mut state = states.remove(&name).unwrap_or_default();
                if state.name.is_empty() && !state.offsets.is_empty() {
                    state.name = "Empty".to_owned();
                }
                let recorded = GroupEvent::Recorded(without_an_empty_name(state));
                groups::tell(client, group, recorded);
            }
            if let Some(stranger) = states.keys().next() {
                accuse(client, format!("there are records of a group {stranger}"));
            }
        }
        Err(text) => accuse(client, text),
    }
}

/// Waits until offsets must have expired, if they do in this run, and looks at each group again.
pub(crate) async fn read_aged(client: &mut Client) {
    if !client.plan.groups.expires {
        return;
    }
    sleep(RETENTION + EXPIRY_MAX).await;
    for group in client.plan.groups.groups().collect::<Vec<_>>() {
        let state = described(client, group).await;
        groups::tell(client, group, GroupEvent::Aged(state));
    }
}

fn accuse(client: &Client, text: String) {
    let witness = &client.witness;
    witness.accuse(client.actor, "replay_agrees", None, text);
}

/// What the node says of a group, once it is in no rebalance any more.
async fn described(client: &mut Client, group: GroupId) -> GroupState {
    let request = DescribeGroupsRequest {
        groups: vec![groups::name_of(client, group)],
        ..Default::default()
    };
    loop {
        let Some((response, _)) = client.call(&request, DESCRIBE_VERSION).await else {
            continue;
        };
        let Some(answer) = response.groups.into_iter().next() else {
            continue;
        };
        let code = ErrorCode::from_code(answer.error_code);
        if !code.is_none() {
            groups::expect_unavailable(client, group, code, "a description");
        } else if matches!(answer.group_state.as_str(), "Stable" | "Empty" | "Dead")
            && let Some(offsets) = groups::fetch(client, group).await
        {
            return without_an_empty_name(state_of(answer, offsets));
        }
        client.back_off().await;
    }
}

fn state_of(answer: DescribedGroup, offsets: BTreeMap<i32, OffsetState>) -> GroupState {
    let members = answer.members.into_iter().map(|member| {
        let state = MemberState {
            instance: member.group_instance_id,
            client_host: member.client_host,
            assignment: member.member_assignment.to_vec(),
        };
        (member.member_id, state)
    });
    GroupState {
        name: answer.group_state.to_string(),
        protocol_type: answer.protocol_type,
        protocol: answer.protocol_data,
        members: members.collect(),
        offsets,
        generation: None,
    }
}

/// A group with nothing in it is there or not, as compaction has it: its last commit may have gone
/// with the deletion of that.
fn without_an_empty_name(mut state: GroupState) -> GroupState {
    if state.members.is_empty() && state.offsets.is_empty() && state.protocol_type.is_empty() {
        state.name.clear();
    }
    state
}

/// What the records of all partitions come to, by group.
async fn records(client: &mut Client) -> Result<BTreeMap<Str, GroupState>, String> {
    let mut all = BTreeMap::new();
    for partition in 0..partitions(client).await {
        let mut states = BTreeMap::new();
        let mut position = start(client, partition).await;
        while let Some(bytes) = fetch(client, partition, position).await {
            position = replay(&bytes, &mut states)?;
        }
        for (name, state) in states {
            if all.insert(name.clone(), state).is_some() {
                return Err(format!("{name} has records in two partitions"));
            }
        }
    }
    Ok(all)
}

/// Applies records; returns where the next ones are.
fn replay(bytes: &Bytes, states: &mut BTreeMap<Str, GroupState>) -> Result<i64, String> {
    let mut next = 0;
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        let records = batch
            .records(UNPACKED_MAX)
            .map_err(|error| error.to_string())?;
        for record in &records {
            let record = record.map_err(|error| error.to_string())?;
            let key = Bytes::copy_from_slice(record.key.unwrap_or_default());
            let value = record.value.map(Bytes::copy_from_slice);
            let record = GroupRecord::decode(&key, value.as_ref());
            apply(record.map_err(|error| error.to_string())?, states)?;
        }
        next = batch.header().next_offset().0;
    }
    Ok(next)
}

fn apply(record: GroupRecord, states: &mut BTreeMap<Str, GroupState>) -> Result<(), String> {
    match record {
        GroupRecord::OffsetCommit(key, value) => {
            if key.topic != TOPIC {
                return Err(format!("an offset of {} was committed", key.topic));
            }
            let state = states.entry(key.group).or_default();
            match value {
                Some(value) => {
                    let offset = OffsetState {
                        offset: value.offset,
                        leader_epoch: value.leader_epoch,
                        metadata: value.metadata,
                    };
                    state.offsets.insert(key.partition, offset);
                }
                None => drop(state.offsets.remove(&key.partition)),
            }
        }
        GroupRecord::GroupMetadata(key, value) => {
            let state = states.entry(key.group).or_default();
            let offsets = std::mem::take(&mut state.offsets);
            *state = GroupState {
                offsets,
                ..GroupState::default()
            };
            let Some(value) = value else {
                return Ok(());
            };
            state.generation = Some(value.generation);
            state.protocol_type = value.protocol_type;
            state.name = "Empty".to_owned();
            if !value.members.is_empty() {
                state.name = "Stable".to_owned();
                state.protocol = value.protocol.unwrap_or_default();
            }
            state.members = value
                .members
                .into_iter()
                .map(|member| {
                    let state = MemberState {
                        instance: member.group_instance_id,
                        client_host: member.client_host,
                        assignment: member.assignment.to_vec(),
                    };
                    (member.member_id, state)
                })
                .collect();
        }
    }
    Ok(())
}

/// How many partitions the topic has.
async fn partitions(client: &mut Client) -> i32 {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(RECORDS_TOPIC.into()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    loop {
        let answer = client.call(&request, METADATA_VERSION).await;
        let topic = answer.and_then(|(response, _)| response.topics.into_iter().next());
        match topic {
            Some(topic) if topic.error_code == 0 => {
                return i32::try_from(topic.partitions.len()).unwrap_or(0);
            }
            _ => client.back_off().await,
        }
    }
}

async fn start(client: &mut Client, partition: i32) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: RECORDS_TOPIC.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                timestamp: EARLIEST,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    loop {
        let answer = client.call(&request, LIST_OFFSETS_VERSION).await;
        let topic = answer.and_then(|(response, _)| response.topics.into_iter().next());
        let partition = topic.and_then(|topic| topic.partitions.into_iter().next());
        match partition {
            Some(partition) if partition.error_code == 0 => return partition.offset,
            _ => client.back_off().await,
        }
    }
}

/// What is at `position`; `None` at the end of the log.
async fn fetch(client: &mut Client, partition: i32, position: i64) -> Option<Bytes> {
    let request = FetchRequest {
        max_bytes: FETCH_BYTES,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: RECORDS_TOPIC.into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: position,
                partition_max_bytes: FETCH_BYTES,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    loop {
        let answer = client.call::<FetchRequest>(&request, FETCH_VERSION).await;
        let topic = answer.and_then(|(response, _)| response.responses.into_iter().next());
        let data = topic.and_then(|topic| topic.partitions.into_iter().next());
        match data.filter(|data| data.error_code == 0) {
            Some(data) => {
                return match data.records {
                    Some(Records::Bytes(bytes)) if !bytes.is_empty() => Some(bytes),
                    _ => None,
                };
            }
            None => client.back_off().await,
        }
    }
}
