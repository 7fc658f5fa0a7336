//! OffsetCommit: who may commit, and the records of it.
//!
//! Input: the request. Output: a record for each partition that may be kept, and an answer for all.
//!
//! Invariant: of a group with members, only a member of the present generation commits; of one
//! without, only who says that it belongs to no generation.
//!
//! Source: `OffsetMetadataManager.commitOffset` and `ClassicGroup.validateOffsetCommit` of Kafka
//! 4.1.1.

use skein_protocol::messages::coordinator_records::{OffsetCommitKey, OffsetCommitValue};
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use skein_protocol::{GroupRecord, Str};
use skein_types::{ErrorCode, Millis, TopicId};

use crate::request::{Response, commit_error};
use crate::turn::Turn;

/// The first version that says that a group is not there.
const GROUP_ID_NOT_FOUND_VERSION: i16 = 9;

/// Why nobody can commit to a group that is not there; a client of no group makes one.
pub(crate) fn validate_without_group(
    request: &OffsetCommitRequest,
    version: i16,
) -> Result<(), ErrorCode> {
    match request.generation_id_or_member_epoch {
        ..0 => Ok(()),
        _ if version >= GROUP_ID_NOT_FOUND_VERSION => Err(ErrorCode::GroupIdNotFound),
        _ => Err(ErrorCode::IllegalGeneration),
    }
}

/// The records of a commit that is allowed, and its answer.
pub(crate) fn commit(request: &OffsetCommitRequest, turn: &mut Turn<'_>) -> Response {
    let metadata_max = turn.offsets.metadata_max_bytes as usize;
    let now = turn.now.time_of_day;
    let expire_timestamp = match request.retention_time_ms {
        -1 => -1,
        retention_ms => now.saturating_add(Millis(retention_ms)).get().max(0),
    };
    let kept = turn.kept();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let error = if is_too_large(partition.committed_metadata.as_ref(), metadata_max) {
                ErrorCode::OffsetMetadataTooLarge
            } else {
                let key = OffsetCommitKey {
                    group: request.group_id.clone(),
                    topic: topic.name.clone(),
                    partition: partition.partition_index,
                };
                let value = value(topic.topic_id, partition, now, expire_timestamp);
                turn.keep(GroupRecord::OffsetCommit(key, Some(value)));
                ErrorCode::None
            };
            partitions.push(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            });
        }
        topics.push(OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    if !turn.fit_since(kept) {
        return commit_error(request, ErrorCode::UnknownServerError);
    }
    Response::OffsetCommit(OffsetCommitResponse {
        topics,
        ..OffsetCommitResponse::default()
    })
}

fn value(
    topic_id: TopicId,
    partition: &OffsetCommitRequestPartition,
    now: Millis,
    expire_timestamp: i64,
) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: partition.committed_offset,
        // The version of the value that says when it expires has neither of the other two.
        leader_epoch: match expire_timestamp {
            -1 => partition.committed_leader_epoch,
            _ => -1,
        },
        topic_id: match expire_timestamp {
            -1 => topic_id,
            _ => TopicId::ZERO,
        },
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        commit_timestamp: now.get(),
        expire_timestamp,
    }
}

/// Kafka's limit is called one of bytes, and counts Java's characters, of 16 bits each.
fn is_too_large(metadata: Option<&Str>, max: usize) -> bool {
    // No text has more such characters than bytes.
    metadata.is_some_and(|text| text.len() > max && text.encode_utf16().count() > max)
}
