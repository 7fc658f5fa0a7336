//! `DescribeQuorum` (55): who keeps the metadata, and how far each of them is.
//!
//! Input: the partition of the metadata log, alone. Output: the controller, its term as the
//! leader's epoch, what is committed, voters, and brokers that do not vote, as observers.
//!
//! Invariants:
//! - replicas are told by their broker ids; a member of the quorum that is no broker is left out;
//! - offsets are indexes of Raft entries, the next one each; of another node they are known where
//!   this one is the controller, else not (-1).
//!
//! Source: KIP-595, KIP-836, KIP-853; Kafka's log of metadata is a partition with one name.

use std::sync::Arc;

use skein_metadata::{Broker, Image};
use skein_protocol::Str;
use skein_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, ReplicaState,
    ResponsePartitionData, ResponseTopicData,
};
use skein_quorum::QuorumStatus;
use skein_types::{ErrorCode, Millis};

use super::create_topics::CLUSTER_METADATA_TOPIC;
use crate::node::Shared;
use crate::router::Context;

/// The first version that tells where voters can be asked.
const NODES_VERSION: i16 = 2;

/// What is not known.
const UNKNOWN: i64 = -1;

/// Answers from this node's member of the quorum.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let image = shared.image();
    let status = shared.controller.status();
    let mut response = describe(&image, &status, shared.env.clock.now(), request);
    if context.head.api_version < NODES_VERSION {
        response.nodes.clear();
    }
    response
}

fn describe(
    image: &Image,
    status: &QuorumStatus,
    now: Millis,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let is_metadata_log = match request.topics.as_slice() {
        [topic] if topic.topic_name.as_str() == CLUSTER_METADATA_TOPIC => {
            matches!(topic.partitions.as_slice(), [one] if one.partition_index == 0)
        }
        _ => false,
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|one| {
            if is_metadata_log {
                metadata_log(image, status, now)
            } else {
                unknown(one.partition_index)
            }
        });
        ResponseTopicData {
            partitions: partitions.collect(),
            topic_name: topic.topic_name,
        }
    });
    DescribeQuorumResponse {
        // Where there is nothing to say Kafka says so in an empty text.
        error_message: Some(Str::default()),
        topics: topics.collect(),
        nodes: if is_metadata_log {
            voters(image, status).map(to_node).collect()
        } else {
            Vec::new()
        },
        ..Default::default()
    }
}

fn metadata_log(image: &Image, status: &QuorumStatus, now: Millis) -> ResponsePartitionData {
    let leader = status.controller.and_then(|raft_id| broker(image, raft_id));
    let committed = status.committed.as_ref().map(|id| id.index);
    let observers = (image.brokers()).filter(|broker| !status.voters.contains(&broker.raft_id));
    let state = |broker: &Arc<Broker>| replica_state(broker, status, now);
    ResponsePartitionData {
        partition_index: 0,
        error_code: ErrorCode::None.code(),
        error_message: Some(Str::default()),
        leader_id: leader.map_or(-1, |broker| broker.id.get()),
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: end(committed),
        current_voters: voters(image, status).map(state).collect(),
        observers: observers.map(state).collect(),
    }
}

fn replica_state(broker: &Arc<Broker>, status: &QuorumStatus, now: Millis) -> ReplicaState {
    let is_here = broker.raft_id == status.raft_id;
    let log_end_offset = match status.matched.get(&broker.raft_id) {
        _ if is_here => end(status.last_log_index),
        Some(index) => end(Some(*index)),
        None => UNKNOWN,
    };
    // The controller has what it has written, and knows who else has all of it.
    let is_controller = status.controller == Some(broker.raft_id);
    let knows = status.controller == Some(status.raft_id);
    let has_all = knows && log_end_offset >= end(status.last_log_index);
    let caught_up = match is_controller || has_all {
        true => now.get(),
        false => UNKNOWN,
    };
    ReplicaState {
        replica_id: broker.id.get(),
        log_end_offset,
        last_fetch_timestamp: caught_up,
        last_caught_up_timestamp: caught_up,
        ..Default::default()
    }
}

/// Kafka's end of a log: the offset that comes next.
fn end(last_index: Option<u64>) -> i64 {
    let end = last_index.map_or(0, |index| index.saturating_add(1));
    i64::try_from(end).unwrap_or(i64::MAX)
}

fn voters<'a>(image: &'a Image, status: &'a QuorumStatus) -> impl Iterator<Item = &'a Arc<Broker>> {
    let voters = status.voters.iter();
    voters.filter_map(|raft_id| broker(image, *raft_id))
}

fn broker(image: &Image, raft_id: u64) -> Option<&Arc<Broker>> {
    image.brokers().find(|broker| broker.raft_id == raft_id)
}

/// Where a voter can be asked: every node answers for the quorum on its clients' listeners.
fn to_node(broker: &Arc<Broker>) -> Node {
    let listeners = broker.endpoints.iter().map(|endpoint| Listener {
        name: endpoint.listener.as_str().into(),
        host: endpoint.host.as_str().into(),
        port: endpoint.port,
    });
    Node {
        node_id: broker.id.get(),
        listeners: listeners.collect(),
    }
}

fn unknown(partition_index: i32) -> ResponsePartitionData {
    let code = ErrorCode::UnknownTopicOrPartition;
    ResponsePartitionData {
        partition_index,
        error_code: code.code(),
        error_message: Some(Str::from_static(code.name())),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use skein_metadata::{Endpoint, LogId, Record};
    use skein_types::{BrokerEpoch, BrokerId, Uuid};

    use super::*;

    fn image() -> Image {
        let mut image = Image::new();
        for id in 1_u8..=3 {
            let broker = Broker {
                id: BrokerId(i32::from(id)),
                epoch: BrokerEpoch(i64::from(id)),
                incarnation: Uuid([id; 16]),
                raft_id: 100 + u64::from(id),
                endpoints: vec![Endpoint {
                    listener: "PLAINTEXT".into(),
                    host: format!("host-{id}"),
                    port: 9092,
                    security_protocol: 0,
                }],
                rack: None,
                fenced: false,
                stopping: false,
            };
            image.apply_records(&[Record::Broker(broker)]).unwrap();
        }
        image
    }

    #[test]
    fn members_are_told_by_their_broker_ids_and_those_without_a_vote_as_observers() {
        let status = QuorumStatus {
            raft_id: 102,
            controller: Some(102),
            term: 7,
            last_log_index: Some(41),
            committed: Some(LogId { term: 7, index: 40 }),
            snapshot: None,
            // One has not registered yet.
            voters: vec![101, 102, 999],
            matched: [(101, 39), (103, 41)].into(),
        };
        let now = Millis(12_345);
        let quorum = metadata_log(&image(), &status, now);
        assert_eq!((quorum.leader_id, quorum.leader_epoch), (2, 7));
        assert_eq!(quorum.high_watermark, 41);
        let states = |states: &[ReplicaState]| -> Vec<_> {
            let of = |state: &ReplicaState| {
                let at = state.last_caught_up_timestamp;
                (state.replica_id, state.log_end_offset, at)
            };
            states.iter().map(of).collect()
        };
        assert_eq!(
            states(&quorum.current_voters),
            [(1, 40, -1), (2, 42, 12_345)]
        );
        assert_eq!(states(&quorum.observers), [(3, 42, 12_345)]);

        // Elsewhere nobody knows how far the others are.
        let follower = QuorumStatus {
            raft_id: 101,
            matched: BTreeMap::new(),
            ..status
        };
        let quorum = metadata_log(&image(), &follower, now);
        assert_eq!(
            states(&quorum.current_voters),
            [(1, 42, -1), (2, -1, 12_345)]
        );
        assert_eq!(states(&quorum.observers), [(3, -1, -1)]);
    }
}
