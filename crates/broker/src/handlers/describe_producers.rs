//! `DescribeProducers` (61): the producers that partitions know.
//!
//! Input: partitions. Output: per partition its producers, with epoch, last sequence and open
//! transaction.
//!
//! Invariant: what is told is in the log: a batch that is being written is waited for.
//!
//! Source: KIP-664.

use std::sync::Arc;

use skein_protocol::Str;
use skein_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use skein_types::{ErrorCode, PartitionIndex, ProducerId, TopicName};

use crate::node::Shared;
use crate::router::Context;

/// Answers each partition on its own.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let producers = describe(shared, &topic.name, PartitionIndex(index)).await;
            partitions.push(to_response(index, producers));
        }
        topics.push(TopicResponse {
            name: topic.name,
            partitions,
        });
    }
    DescribeProducersResponse {
        topics,
        ..Default::default()
    }
}

async fn describe(
    shared: &Arc<Shared>,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Vec<ProducerState>, ErrorCode> {
    if TopicName::new(topic).is_err() {
        return Err(ErrorCode::InvalidTopicException);
    }
    let replica = shared.replicas.by_name(topic, partition).await;
    let replica = replica.map_err(|code| match code {
        // Without a leader there is nobody who knows.
        ErrorCode::LeaderNotAvailable => ErrorCode::NotLeaderOrFollower,
        other => other,
    })?;
    let producers = replica.producers(to_producer).await;
    producers.ok_or(ErrorCode::NotLeaderOrFollower)
}

fn to_producer(id: ProducerId, state: &skein_record::ProducerState) -> ProducerState {
    ProducerState {
        producer_id: id.get(),
        producer_epoch: i32::from(state.producer_epoch.get()),
        last_sequence: state.last_sequence().get(),
        last_timestamp: state.last_timestamp.get(),
        coordinator_epoch: state.coordinator_epoch,
        current_txn_start_offset: state
            .current_txn_first_offset
            .map_or(-1, |offset| offset.get()),
    }
}

fn to_response(
    partition_index: i32,
    producers: Result<Vec<ProducerState>, ErrorCode>,
) -> PartitionResponse {
    let refused = producers.as_ref().err().copied();
    PartitionResponse {
        partition_index,
        error_code: refused.unwrap_or(ErrorCode::None).code(),
        error_message: refused.map(|code| Str::from(code.name())),
        active_producers: producers.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
