//! `OffsetCommit` (8): how far a group has read.
//!
//! Input: offsets. Output: for each partition whether it is kept, durably once the answer is there.
//!
//! Invariant: nothing is kept for a partition that is not there, and what is kept says for which
//! topic of its name.
//!
//! Source: `KafkaApis.handleOffsetCommitRequest` of Kafka 4.1.1.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_metadata::Image;
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use skein_types::{ErrorCode, PartitionIndex, TopicId};

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator to keep what can be kept.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let unknown = take_unknown(&shared.image(), &mut request.topics);
    if request.topics.is_empty() && !unknown.is_empty() {
        return with_unknown(OffsetCommitResponse::default(), unknown);
    }
    let group_id = request.group_id.clone();
    let request = Request::OffsetCommit(request, context.head.api_version);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::OffsetCommit(response) => with_unknown(response, unknown),
        other => unreachable!("{other:?} answers another request"),
    }
}

/// Takes the partitions out that are not there, and gives the topics of the others their ids.
pub(crate) fn take_unknown(
    image: &Image,
    topics: &mut Vec<OffsetCommitRequestTopic>,
) -> Vec<OffsetCommitRequestTopic> {
    let mut unknown = Vec::new();
    for topic in &mut *topics {
        let known = image.topic_by_name(&topic.name);
        topic.topic_id = known.map_or(TopicId::ZERO, |known| known.id);
        let is_unknown = |partition: &mut OffsetCommitRequestPartition| {
            let index = PartitionIndex(partition.partition_index);
            known.is_none_or(|known| known.partition(index).is_none())
        };
        let partitions: Vec<_> = topic.partitions.extract_if(.., is_unknown).collect();
        if !partitions.is_empty() {
            unknown.push(OffsetCommitRequestTopic {
                name: topic.name.clone(),
                partitions,
                ..OffsetCommitRequestTopic::default()
            });
        }
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}

/// Tells of the unknown partitions too, each topic once.
fn with_unknown(
    mut response: OffsetCommitResponse,
    unknown: Vec<OffsetCommitRequestTopic>,
) -> OffsetCommitResponse {
    for topic in unknown {
        let partitions = topic.partitions.iter();
        let refused = partitions.map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
        });
        let mut answered = response.topics.iter_mut();
        match answered.find(|answered| answered.name == topic.name) {
            Some(answered) => answered.partitions.extend(refused),
            None => response.topics.push(OffsetCommitResponseTopic {
                partitions: refused.collect(),
                name: topic.name,
                ..OffsetCommitResponseTopic::default()
            }),
        }
    }
    response
}
