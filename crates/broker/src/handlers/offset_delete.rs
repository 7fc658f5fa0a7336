//! `OffsetDelete` (47): offsets of a group are forgotten.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides.
//!
//! Invariant: a partition that is not there is answered as such, unless the whole group is refused.
//!
//! Source: KIP-496; `KafkaApis.handleOffsetDeleteRequest` of Kafka 4.1.1.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::Str;
use skein_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use skein_types::ErrorCode;

use super::named_partitions::{NamedPartitions, NamedTopic};
use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator to forget what may be forgotten.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    mut request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let named = NamedPartitions::look_up(&shared.image(), &mut request.topics);
    let group_id = request.group_id.clone();
    let request = Request::OffsetDelete(request);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::OffsetDelete(response) => answer(response, named),
        other => unreachable!("{other:?} answers another request"),
    }
}

fn answer(response: OffsetDeleteResponse, named: NamedPartitions) -> OffsetDeleteResponse {
    if response.error_code != ErrorCode::None.code() {
        return response;
    }
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    let topics = named.with_codes(codes, |partition_index, error_code| {
        OffsetDeleteResponsePartition {
            partition_index,
            error_code,
        }
    });
    let topics = topics.map(|(name, partitions)| OffsetDeleteResponseTopic { name, partitions });
    OffsetDeleteResponse {
        topics: topics.collect(),
        ..OffsetDeleteResponse::default()
    }
}

impl NamedTopic for OffsetDeleteRequestTopic {
    type Partition = OffsetDeleteRequestPartition;

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
