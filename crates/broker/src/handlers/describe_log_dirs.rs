//! `DescribeLogDirs` (35): how large the partitions on this node are, and how much room is left.
//!
//! Input: partitions, or all of them. Output: the one log directory, with the partitions that were
//! asked for and are here.
//!
//! Invariants:
//! - what is not here, or whose storage has failed, is left out, as in Kafka;
//! - a directory that has failed is told with an error and without partitions.
//!
//! Source: KIP-113, KIP-827 (room on the device).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use skein_partition::PublishedRole;
use skein_protocol::Str;
use skein_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use skein_storage::DirectoryState;
use skein_types::{ErrorCode, TopicName};

use crate::node::Shared;
use crate::router::Context;

/// Answers for the one log directory.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    DescribeLogDirsResponse {
        results: vec![describe(shared, request).await],
        ..Default::default()
    }
}

async fn describe(shared: &Arc<Shared>, request: DescribeLogDirsRequest) -> DescribeLogDirsResult {
    let mut result = DescribeLogDirsResult {
        log_dir: absolute(shared.directory.path()),
        ..Default::default()
    };
    match room(shared).await {
        Some((total_bytes, usable_bytes)) => {
            (result.total_bytes, result.usable_bytes) = (total_bytes, usable_bytes);
            result.topics = sizes(shared, request.topics.as_deref()).await;
        }
        None => result.error_code = ErrorCode::KafkaStorageError.code(),
    }
    result
}

/// Size and room of the device; `None` if the directory has failed.
async fn room(shared: &Arc<Shared>) -> Option<(i64, i64)> {
    if shared.directory.state() == DirectoryState::Offline {
        return None;
    }
    let directory = Arc::clone(&shared.directory);
    let space = shared.env.offload("space", move || directory.space());
    let space = space.await?.ok()?;
    let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    Some((bytes(space.total_bytes), bytes(space.usable_bytes)))
}

/// The partitions that are here, of those that were asked for.
async fn sizes(
    shared: &Arc<Shared>,
    asked: Option<&[DescribableLogDirTopic]>,
) -> Vec<DescribeLogDirsTopic> {
    let asked = asked.map(|topics| -> BTreeSet<(&str, i32)> {
        let of = |topic: &DescribableLogDirTopic| topic.partitions.clone();
        topics
            .iter()
            .flat_map(|topic| of(topic).into_iter().map(|index| (&*topic.topic, index)))
            .collect()
    });
    shared.replicas.follow(shared);
    let mut topics: BTreeMap<TopicName, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for place in shared.replicas.places() {
        let name = &place.name;
        let index = name.partition.get();
        let is_asked = |asked: &BTreeSet<_>| asked.contains(&(name.topic.as_str(), index));
        if !asked.as_ref().is_none_or(is_asked) {
            continue;
        }
        let Ok(replica) = shared.replicas.leading(&place).await else {
            continue;
        };
        let view = replica.view();
        if view.offsets.role == PublishedRole::Offline {
            continue;
        }
        let partitions = topics.entry(name.topic.clone()).or_default();
        partitions.push(DescribeLogDirsPartition {
            partition_index: index,
            partition_size: i64::try_from(view.log.size_in_bytes()).unwrap_or(i64::MAX),
            // What a log lacks up to the high watermark, which a leader's never does.
            offset_lag: 0,
            is_future_key: false,
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let name = name.as_str().into();
        DescribeLogDirsTopic { name, partitions }
    });
    topics.collect()
}

/// The directory as a client can find it.
fn absolute(path: &Path) -> Str {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    path.display().to_string().into()
}

#[cfg(test)]
mod tests;
