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
use skein_protocol::Str;
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use skein_types::TopicId;

use super::named_partitions::{NamedPartitions, NamedTopic};
use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator to keep what can be kept.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let named = look_up(&shared.image(), &mut request);
    if named.are_all_unknown() {
        return answer(OffsetCommitResponse::default(), named);
    }
    let group_id = request.group_id.clone();
    let request = Request::OffsetCommit(request, context.head.api_version);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::OffsetCommit(response) => answer(response, named),
        other => unreachable!("{other:?} answers another request"),
    }
}

/// Takes the partitions out that are not there, and gives the topics of the others their ids.
pub(crate) fn look_up(image: &Image, request: &mut OffsetCommitRequest) -> NamedPartitions {
    let named = NamedPartitions::look_up(image, &mut request.topics);
    for topic in &mut request.topics {
        let known = image.topic_by_name(&topic.name);
        topic.topic_id = known.map_or(TopicId::ZERO, |known| known.id);
    }
    named
}

fn answer(response: OffsetCommitResponse, named: NamedPartitions) -> OffsetCommitResponse {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    let topics = named.with_codes(codes, |partition_index, error_code| {
        OffsetCommitResponsePartition {
            partition_index,
            error_code,
        }
    });
    let topics = topics.map(|(name, partitions)| OffsetCommitResponseTopic {
        name,
        partitions,
        ..OffsetCommitResponseTopic::default()
    });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    }
}

impl NamedTopic for OffsetCommitRequestTopic {
    type Partition = OffsetCommitRequestPartition;

    fn name(&self) -> &Str {
        &self.name
    }

    fn partitions(&mut self) -> &mut Vec<Self::Partition> {
        &mut self.partitions
    }

    fn index(partition: &Self::Partition) -> i32 {
        partition.partition_index
    }
}
