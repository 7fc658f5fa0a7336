//! OffsetDelete: an administrator has offsets forgotten.
//!
//! Input: the group and the partitions. Output: tombstones, and an answer for each partition.
//!
//! Invariant: nothing is forgotten of a topic that a member may be reading.
//!
//! Source: `OffsetMetadataManager.deleteOffsets` and `ClassicGroup.validateOffsetDelete` of Kafka
//! 4.1.1; KIP-496.

use skein_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use skein_types::ErrorCode;

use super::tombstone;
use crate::group::Group;
use crate::request::{Response, delete_offsets_error};
use crate::turn::Turn;

/// The tombstones, and the answer.
pub(crate) fn delete(
    group: &Group,
    request: &OffsetDeleteRequest,
    turn: &mut Turn<'_>,
) -> Response {
    if let Err(error) = group.validate_offset_delete() {
        return delete_offsets_error(error);
    }
    let kept = turn.kept();
    let topics = request.topics.iter().map(|topic| {
        let error = if group.is_subscribed_to(&topic.name) {
            ErrorCode::GroupSubscribedToTopic
        } else {
            ErrorCode::None
        };
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let offsets = &group.offsets;
            let is_there =
                offsets.get(&topic.name, index).is_some() || offsets.is_pending(&topic.name, index);
            if error.is_none() && is_there {
                turn.keep(tombstone(&request.group_id, &topic.name, index));
            }
            OffsetDeleteResponsePartition {
                partition_index: index,
                error_code: error.code(),
            }
        });
        OffsetDeleteResponseTopic {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    let topics = topics.collect();
    if !turn.fit_since(kept) {
        return delete_offsets_error(ErrorCode::UnknownServerError);
    }
    Response::OffsetDelete(OffsetDeleteResponse {
        topics,
        ..OffsetDeleteResponse::default()
    })
}
