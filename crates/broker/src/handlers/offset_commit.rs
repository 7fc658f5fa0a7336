//! `OffsetCommit` (8): how far a group has read.
//!
//! Input: offsets. Output: for each partition whether it is kept, durably once the answer is there.
//!
//! Invariant: nothing is kept for a topic that is not there, and what is kept says for which topic
//! of its name.
//!
//! Source: `KafkaApis.handleOffsetCommitRequest` of Kafka 4.1.1.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_metadata::Image;
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use skein_types::{ErrorCode, TopicId};

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator to keep what can be kept.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let unknown = take_unknown(&shared.image(), &mut request.topics);
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
    if request.topics.is_empty() && !unknown.is_empty() {
        return OffsetCommitResponse {
            topics: unknown,
            ..OffsetCommitResponse::default()
        };
    }
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

/// Takes the topics out that are not there, and gives the others their ids.
pub(crate) fn take_unknown(
    image: &Image,
    topics: &mut Vec<OffsetCommitRequestTopic>,
) -> Vec<OffsetCommitRequestTopic> {
    let is_unknown = |topic: &mut OffsetCommitRequestTopic| {
        let known = image.topic_by_name(&topic.name);
        topic.topic_id = known.map_or(TopicId::ZERO, |known| known.id);
        known.is_none()
    };
    topics.extract_if(.., is_unknown).collect()
}
