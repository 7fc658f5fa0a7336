//! Committed offsets: how far a group has read.
//!
//! Input: a group's coordinator, partitions or offsets. Output: the offsets that it keeps, or its
//! word that it keeps these.
//!
//! Invariant: the coordinator answers each partition that was asked for, or it is an error.
//!
//! Source: KIP-211 (offsets outlive their members), KIP-320 (leader epochs), KIP-447
//! (`require_stable`), KIP-709 (the form of OffsetFetch from version 8).

use std::collections::BTreeMap;

use skein_protocol::Str;
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use skein_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use skein_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicName, TopicPartition};

use crate::coordinator::Coordinator;
use crate::error::ClientError;

/// The last versions that name topics.
const COMMIT_VERSION_WITH_NAMES: i16 = 9;
const FETCH_VERSION_WITH_NAMES: i16 = 9;

/// The first version of OffsetFetch that asks for several groups.
const SEVERAL_VERSION: i16 = 8;

/// The first version of OffsetFetch that knows `require_stable`.
const STABLE_VERSION: i16 = 7;

/// A generation that is none.
const NO_GENERATION: i32 = -1;

/// An offset that a group has committed: that of the next record it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Of the first record that it has not read.
    pub offset: Offset,
    /// Epoch of the leader that wrote the record before it; −1 if unknown.
    pub leader_epoch: LeaderEpoch,
    /// What the member that committed it had to say.
    pub metadata: String,
}

impl CommittedOffset {
    /// An offset of which nothing else is known.
    #[must_use]
    pub const fn at(offset: Offset) -> Self {
        Self {
            offset,
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        }
    }
}

/// Who commits.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    pub(crate) group_id: Str,
    pub(crate) generation_id: i32,
    pub(crate) member_id: Str,
    pub(crate) instance_id: Option<Str>,
}

impl Committer {
    /// Who is no member.
    pub(crate) fn nobody(group_id: &str) -> Self {
        Self {
            group_id: Str::from(group_id),
            generation_id: NO_GENERATION,
            member_id: Str::default(),
            instance_id: None,
        }
    }
}

/// The committed offsets of these partitions, or of all. A partition without one is left out.
pub(crate) async fn fetch(
    coordinator: &Coordinator,
    group_id: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
    let topics = partitions.map(by_topic);
    let request = |version| fetch_request(version, group_id, topics.as_ref());
    let response = coordinator
        .ask::<OffsetFetchRequest, _>(FETCH_VERSION_WITH_NAMES, request, |response| {
            (fetch_outcome(response).code(), None)
        })
        .await?;
    Ok(fetched(&response))
}

type Topics = BTreeMap<TopicName, Vec<i32>>;

fn by_topic(partitions: &[TopicPartition]) -> Topics {
    let mut topics = Topics::new();
    for one in partitions {
        topics
            .entry(one.topic.clone())
            .or_default()
            .push(one.partition.0);
    }
    topics
}

fn fetch_request(version: i16, group_id: &str, topics: Option<&Topics>) -> OffsetFetchRequest {
    let require_stable = version >= STABLE_VERSION;
    if version < SEVERAL_VERSION {
        let topic = |(name, indexes): (&TopicName, &Vec<i32>)| OffsetFetchRequestTopic {
            name: Str::from(name.as_str()),
            partition_indexes: indexes.clone(),
        };
        return OffsetFetchRequest {
            group_id: Str::from(group_id),
            topics: topics.map(|topics| topics.iter().map(topic).collect()),
            require_stable,
            ..OffsetFetchRequest::default()
        };
    }
    let topic = |(name, indexes): (&TopicName, &Vec<i32>)| OffsetFetchRequestTopics {
        name: Str::from(name.as_str()),
        partition_indexes: indexes.clone(),
        ..OffsetFetchRequestTopics::default()
    };
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::from(group_id),
            topics: topics.map(|topics| topics.iter().map(topic).collect()),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable,
        ..OffsetFetchRequest::default()
    }
}

/// The first error of the group or of one of its partitions.
fn fetch_outcome(response: &OffsetFetchResponse) -> ErrorCode {
    let old = response.topics.iter().flat_map(|topic| &topic.partitions);
    let old = old.map(|partition| partition.error_code);
    let groups = response.groups.iter();
    let new = groups
        .clone()
        .flat_map(|group| &group.topics)
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code);
    let mut codes = [response.error_code]
        .into_iter()
        .chain(groups.map(|group| group.error_code))
        .chain(old)
        .chain(new);
    let first = codes.find(|code| *code != ErrorCode::None.code());
    first.map_or(ErrorCode::None, ErrorCode::from_code)
}

fn fetched(response: &OffsetFetchResponse) -> BTreeMap<TopicPartition, CommittedOffset> {
    let old = response.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |one| {
            let metadata = one.metadata.as_ref();
            let offset = (one.committed_offset, one.committed_leader_epoch, metadata);
            (&topic.name, one.partition_index, offset)
        })
    });
    let new = response.groups.iter().flat_map(|group| &group.topics);
    let new = new.flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(move |one| {
            let metadata = one.metadata.as_ref();
            let offset = (one.committed_offset, one.committed_leader_epoch, metadata);
            (&topic.name, one.partition_index, offset)
        })
    });
    let mut committed = BTreeMap::new();
    for (name, index, (offset, leader_epoch, metadata)) in old.chain(new) {
        let Ok(topic) = TopicName::new(name.as_str()) else {
            continue;
        };
        if offset < 0 {
            continue;
        }
        let partition = TopicPartition {
            topic,
            partition: PartitionIndex(index),
        };
        let offset = CommittedOffset {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(leader_epoch),
            metadata: metadata.map_or_else(String::new, |text| text.as_str().to_owned()),
        };
        committed.insert(partition, offset);
    }
    committed
}

/// Commits, and waits until the coordinator keeps it.
pub(crate) async fn commit(
    coordinator: &Coordinator,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<(), ClientError> {
    let request = commit_request(committer, offsets);
    coordinator
        .ask::<OffsetCommitRequest, _>(
            COMMIT_VERSION_WITH_NAMES,
            |_| &request,
            |response| (commit_outcome(response).code(), None),
        )
        .await
        .map(|_| ())
}

fn commit_request(
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&TopicName, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (partition, offset) in offsets {
        let committed = OffsetCommitRequestPartition {
            partition_index: partition.partition.0,
            committed_offset: offset.offset.0,
            committed_leader_epoch: offset.leader_epoch.0,
            committed_metadata: Some(Str::from(&offset.metadata)),
        };
        topics.entry(&partition.topic).or_default().push(committed);
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| OffsetCommitRequestTopic {
            name: Str::from(name.as_str()),
            partitions,
            ..OffsetCommitRequestTopic::default()
        });
    OffsetCommitRequest {
        group_id: committer.group_id.clone(),
        generation_id_or_member_epoch: committer.generation_id,
        member_id: committer.member_id.clone(),
        group_instance_id: committer.instance_id.clone(),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    }
}

fn commit_outcome(response: &OffsetCommitResponse) -> ErrorCode {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes = partitions.map(|partition| partition.error_code);
    let first = codes.find(|code| *code != ErrorCode::None.code());
    first.map_or(ErrorCode::None, ErrorCode::from_code)
}

#[cfg(test)]
mod tests {
    use skein_protocol::messages::offset_fetch::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    };
    use skein_protocol::{Encoder, Message};

    use super::*;

    fn partition(index: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicName::new("t").unwrap(),
            partition: PartitionIndex(index),
        }
    }

    #[test]
    fn a_fetch_has_the_form_of_its_version() {
        let some = by_topic(&[partition(0), partition(1)]);
        for version in 2..=FETCH_VERSION_WITH_NAMES {
            for topics in [None, Some(&some)] {
                let request = fetch_request(version, "g", topics);
                let mut e = Encoder::new();
                assert_eq!(request.encode(&mut e, version), Ok(()), "version {version}");
                let is_all = match version {
                    ..SEVERAL_VERSION => request.topics.is_none(),
                    _ => request.groups[0].topics.is_none(),
                };
                assert_eq!(is_all, topics.is_none(), "version {version}");
            }
        }
    }

    #[test]
    fn a_partition_without_an_offset_is_left_out_and_an_error_is_found_anywhere() {
        let one = |partition_index, committed_offset| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset,
            ..OffsetFetchResponsePartitions::default()
        };
        let mut response = OffsetFetchResponse {
            groups: vec![OffsetFetchResponseGroup {
                group_id: Str::from("g"),
                topics: vec![OffsetFetchResponseTopics {
                    name: Str::from("t"),
                    partitions: vec![one(0, 5), one(1, -1)],
                    ..OffsetFetchResponseTopics::default()
                }],
                error_code: 0,
            }],
            ..OffsetFetchResponse::default()
        };
        let found = fetched(&response);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&partition(0)].offset, Offset(5));
        assert_eq!(fetch_outcome(&response), ErrorCode::None);
        response.groups[0].topics[0].partitions[1].error_code =
            ErrorCode::UnstableOffsetCommit.code();
        assert_eq!(fetch_outcome(&response), ErrorCode::UnstableOffsetCommit);
        response.groups[0].error_code = ErrorCode::NotCoordinator.code();
        assert_eq!(fetch_outcome(&response), ErrorCode::NotCoordinator);
    }
}
