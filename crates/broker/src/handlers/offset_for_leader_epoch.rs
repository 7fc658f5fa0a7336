//! `OffsetForLeaderEpoch` (23): where an epoch ends in the leader's log.
//!
//! Input: partitions, each with the epoch that the caller knows as the leader's and the epoch it
//! asks for. Output: the largest epoch that is not above the one asked for, and the offset after
//! its last record; -1 and -1 where the log has none.
//!
//! Invariant: only a leader answers, so that a client which finds its own log longer knows that it
//! has read what was truncated.
//!
//! Source: KIP-101, KIP-279, KIP-320.

use std::sync::Arc;

use skein_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use skein_types::{ErrorCode, LeaderEpoch, PartitionIndex};

use crate::node::Shared;
use crate::router::Context;

/// Answers each partition on its own.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let found = find(shared, &asked.topic, partition).await;
            partitions.push(to_response(partition, found));
        }
        topics.push(OffsetForLeaderTopicResult {
            topic: asked.topic,
            partitions,
        });
    }
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}

async fn find(
    shared: &Arc<Shared>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<skein_record::EpochEndOffset, ErrorCode> {
    let index = PartitionIndex(asked.partition);
    let replica = shared.replicas.by_name(topic, index).await?;
    let view = replica.view();
    let current_leader_epoch = LeaderEpoch(asked.current_leader_epoch);
    let requested = LeaderEpoch(asked.leader_epoch);
    view.offsets
        .end_offset_for(&view.leader_epochs, current_leader_epoch, requested)
        .map_err(skein_partition::Refusal::error_code)
}

fn to_response(
    asked: &OffsetForLeaderPartition,
    found: Result<skein_record::EpochEndOffset, ErrorCode>,
) -> EpochEndOffset {
    let (error_code, found) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(code) => (code, skein_record::EpochEndOffset::UNDEFINED),
    };
    EpochEndOffset {
        error_code: error_code.code(),
        partition: asked.partition,
        leader_epoch: found.epoch.get(),
        end_offset: found.end_offset.get(),
    }
}
