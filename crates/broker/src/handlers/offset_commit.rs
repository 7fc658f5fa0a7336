//! `OffsetCommit` (8): how far a group has read.
//!
//! Input: offsets. Output: for each partition whether it is kept, durably once the answer is there.
//!
//! Invariant: nothing is kept for a topic that is not there.
//!
//! Source: `KafkaApis.handleOffsetCommitRequest` of Kafka 4.1.1.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use skein_types::ErrorCode;

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator to keep what can be kept.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let image = shared.image();
    let is_there = |topic: &OffsetCommitRequestTopic| image.topic_by_name(&topic.name).is_some();
    let (known, unknown): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(is_there);
    let unknown = unknown.into_iter().map(|topic| OffsetCommitResponseTopic {
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
            })
            .collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    });
    let unknown: Vec<_> = unknown.collect();
    if known.is_empty() && !unknown.is_empty() {
        return OffsetCommitResponse {
            topics: unknown,
            ..OffsetCommitResponse::default()
        };
    }
    request.topics = known;
    let group_id = request.group_id.clone();
    let request = Request::OffsetCommit(request, context.head.api_version);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::OffsetCommit(mut response) => {
            response.topics.extend(unknown);
            response
        }
        other => unreachable!("{other:?} answers another request"),
    }
}
