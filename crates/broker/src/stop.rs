//! Stops a node.
//!
//! Input: a node whose listeners take nothing more. Output: logs that are on the disk, and a marker
//! which says so.
//!
//! ```text
//!   close logs, each where it may block ─► checkpoints ─► clean marker ─► quorum
//! ```
//!
//! Invariants:
//! - the clean marker is written last, and only if every log was closed in order, or was never
//!   touched since a clean stop; none is opened after it;
//! - a stop takes less than two seconds; what is not closed by then is recovered at the next start.
//!
//! Source: KIP-966 (clean shutdown).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_env::Lane;
use skein_storage::{CheckpointFile, LogDirectory, StorageError};
use skein_types::{BrokerEpoch, Offset, TopicPartition};
use tokio::sync::oneshot;

use crate::node::Shared;
use crate::replicas::{Closing, Place};

/// How long a stop waits for the logs to be closed.
const CLOSE_MAX: Duration = Duration::from_millis(1400);

/// How long a stop waits for the metadata quorum.
const QUORUM_STOP_MAX: Duration = Duration::from_millis(400);

/// Ends what `start.rs` began.
pub(crate) async fn stop(shared: &Arc<Shared>) {
    let closed = tokio::time::timeout(CLOSE_MAX, close_logs(shared)).await;
    if closed != Ok(true) {
        tracing::warn!("not every log was closed; the next start recovers the rest");
    }
    let shutdown = shared.controller.shutdown();
    match tokio::time::timeout(QUORUM_STOP_MAX, shutdown).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the metadata quorum did not stop in order"),
        Err(_) => tracing::warn!("the metadata quorum did not stop in time"),
    }
}

/// Closes every log; whether the next start may trust all of them as they are.
async fn close_logs(shared: &Arc<Shared>) -> bool {
    let closings: Vec<_> = shared
        .replicas
        .end()
        .into_iter()
        .map(|place| {
            let (sender, closed) = oneshot::channel();
            let (task_shared, task_place) = (Arc::clone(shared), Arc::clone(&place));
            let task = async move {
                // The stop may have timed out.
                let _ = sender.send(close_log(&task_shared, &task_place).await);
            };
            shared
                .env
                .spawn
                .spawn(Lane::Data, "close-log", Box::pin(task));
            (place.name.clone(), closed)
        })
        .collect();
    let mut ends = Ends::default();
    for (name, closed) in closings {
        match closed.await {
            Ok(Closed::Log {
                recovery_point,
                high_watermark,
            }) => {
                ends.recovery_points.insert(name.clone(), recovery_point);
                ends.high_watermarks.insert(name, high_watermark);
            }
            Ok(Closed::Untouched | Closed::Gone) => {}
            Ok(Closed::Failed) | Err(_) => ends.has_failed = true,
        }
    }
    let (directory, broker_epoch) = (Arc::clone(&shared.directory), shared.identity.broker_epoch);
    let mark = move || ends.write(&directory, broker_epoch);
    match shared.env.offload("mark-clean", mark).await {
        Some(Ok(is_clean)) => is_clean,
        Some(Err(error)) => {
            tracing::error!(%error, "cannot write the marks of a clean stop");
            false
        }
        None => false,
    }
}

/// How the logs of a node ended.
#[derive(Default)]
struct Ends {
    recovery_points: BTreeMap<TopicPartition, Offset>,
    high_watermarks: BTreeMap<TopicPartition, Offset>,
    has_failed: bool,
}

impl Ends {
    /// Writes the checkpoints, and the clean marker if every log is as a clean stop leaves it.
    fn write(
        &self,
        directory: &LogDirectory,
        broker_epoch: BrokerEpoch,
    ) -> Result<bool, StorageError> {
        directory.write_checkpoint(CheckpointFile::RecoveryPoint, &self.recovery_points)?;
        directory.write_checkpoint(CheckpointFile::HighWatermark, &self.high_watermarks)?;
        // A log that was not opened is as the run before left it, and nobody has looked at it
        // since; a stop right after the start does not even know of it.
        let is_clean = !self.has_failed
            && (directory.clean_shutdown().is_some() || self.are_all_closed(directory)?);
        if is_clean {
            directory.mark_clean_shutdown(broker_epoch)?;
        }
        Ok(is_clean)
    }

    /// Whether this run has closed every log that there is.
    fn are_all_closed(&self, directory: &LogDirectory) -> Result<bool, StorageError> {
        let (partitions, _) = directory.list()?;
        Ok(partitions
            .iter()
            .all(|name| self.recovery_points.contains_key(name)))
    }
}

/// How the log of one partition ended.
enum Closed {
    Log {
        recovery_point: Offset,
        high_watermark: Offset,
    },
    Untouched,
    /// Its topic is deleted.
    Gone,
    Failed,
}

/// Takes the log from its place and closes it on the offload pool.
async fn close_log(shared: &Arc<Shared>, place: &Place) -> Closed {
    let (log, producers) = match place.close(shared).await {
        Closing::Log(log) => *log,
        Closing::Untouched => return Closed::Untouched,
        Closing::Closed => return Closed::Gone,
        Closing::Failed => return Closed::Failed,
    };
    let high_watermark = log.view().high_watermark;
    let now = shared.env.clock.now();
    let close = move || log.close(&producers, now);
    match shared.env.offload("close-log", close).await {
        Some(Ok(recovery_point)) => Closed::Log {
            recovery_point,
            high_watermark,
        },
        Some(Err(error)) => {
            tracing::error!(partition = %place.name, %error, "cannot close a log");
            Closed::Failed
        }
        None => Closed::Failed,
    }
}
