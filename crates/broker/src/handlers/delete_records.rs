//! `DeleteRecords` (21): moves the start of partitions' logs.
//!
//! Input: per partition the first offset to keep, or -1 for the high watermark. Output: the low
//! watermark, which is the first offset that is left.
//!
//! Invariant: the new start survives a crash before it is told
//! (`skein_storage::Log::advance_log_start`).
//!
//! Source: KIP-107.

use std::sync::Arc;
use std::time::Duration;

use skein_protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use skein_types::{ErrorCode, Offset, PartitionIndex};
use tokio::time::Instant;

use crate::node::Shared;
use crate::router::Context;

/// "Up to the high watermark."
const HIGH_WATERMARK: i64 = -1;

/// Answers each partition on its own.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + timeout;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let index = PartitionIndex(asked.partition_index);
            let result = delete(shared, &topic.name, index, asked.offset, deadline).await;
            let (error_code, low_watermark) = match result {
                Ok(low_watermark) => (ErrorCode::None, low_watermark),
                Err(code) => (code, Offset::NONE),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: low_watermark.get(),
                error_code: error_code.code(),
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

async fn delete(
    shared: &Arc<Shared>,
    topic: &str,
    partition: PartitionIndex,
    offset: i64,
    deadline: Instant,
) -> Result<Offset, ErrorCode> {
    let replica = shared.replicas.by_name(topic, partition).await?;
    let before_offset = match offset {
        HIGH_WATERMARK => None,
        offset if offset < 0 => return Err(ErrorCode::OffsetOutOfRange),
        offset => Some(Offset(offset)),
    };
    match tokio::time::timeout_at(deadline, replica.delete_records(before_offset)).await {
        Ok(result) => result.map_err(|refusal| refusal.error_code()),
        // It may still come.
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}
