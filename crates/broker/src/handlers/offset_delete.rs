//! `OffsetDelete` (47): offsets of a group are forgotten.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides.
//!
//! Invariant: what a group has of a topic that is gone is forgotten with the topic; nobody is told
//! that it was forgotten for asking.
//!
//! Source: KIP-496.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_metadata::Image;
use skein_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use skein_types::{ErrorCode, PartitionIndex};

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator to forget what may be forgotten.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    mut request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let unknown = take_unknown(&shared.image(), &mut request.topics);
    let group_id = request.group_id.clone();
    let request = Request::OffsetDelete(request);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::OffsetDelete(response) => with_unknown(response, unknown),
        other => unreachable!("{other:?} answers another request"),
    }
}

/// Takes the partitions out that are not there.
fn take_unknown(
    image: &Image,
    topics: &mut Vec<OffsetDeleteRequestTopic>,
) -> Vec<OffsetDeleteRequestTopic> {
    let mut unknown = Vec::new();
    for topic in &mut *topics {
        let known = image.topic_by_name(&topic.name);
        let is_unknown = |partition: &mut OffsetDeleteRequestPartition| {
            let index = PartitionIndex(partition.partition_index);
            known.is_none_or(|known| known.partition(index).is_none())
        };
        let partitions: Vec<_> = topic.partitions.extract_if(.., is_unknown).collect();
        if !partitions.is_empty() {
            let name = topic.name.clone();
            unknown.push(OffsetDeleteRequestTopic { name, partitions });
        }
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}

/// Tells of the unknown partitions too, each topic once, unless the whole request was refused.
fn with_unknown(
    mut response: OffsetDeleteResponse,
    unknown: Vec<OffsetDeleteRequestTopic>,
) -> OffsetDeleteResponse {
    if response.error_code != ErrorCode::None.code() {
        return response;
    }
    for topic in unknown {
        let partitions = topic.partitions.iter();
        let refused = partitions.map(|partition| OffsetDeleteResponsePartition {
            partition_index: partition.partition_index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
        });
        let mut answered = response.topics.iter_mut();
        match answered.find(|answered| answered.name == topic.name) {
            Some(answered) => answered.partitions.extend(refused),
            None => response.topics.push(OffsetDeleteResponseTopic {
                partitions: refused.collect(),
                name: topic.name,
            }),
        }
    }
    response
}
