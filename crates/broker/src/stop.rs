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
//! - a stop takes less than two seconds, unless there is more to flush and it gets on; what is not
//!   closed when it stops getting on, or after [`CLOSE_MAX`], is recovered at the next start.
//!
//! Source: KIP-966 (clean shutdown).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skein_env::Lane;
use skein_storage::{CheckpointFile, FlushHelper, LogDirectory, StorageError};
use skein_types::{BrokerEpoch, Offset, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::node::Shared;
use crate::replicas::{Closing, Place};

/// How long a stop waits for the next log to be closed, or the next file to be flushed: a disk that
/// takes longer hangs.
const STALL_MAX: Duration = Duration::from_millis(1400);

/// How long a stop waits for the logs to be closed, however well it gets on: with all the rest it
/// stays below the ten seconds after which `docker stop`, the least patient of those who stop
/// processes, kills them.
const CLOSE_MAX: Duration = Duration::from_secs(8);

/// How long a stop waits for the metadata quorum.
const QUORUM_STOP_MAX: Duration = Duration::from_millis(400);

/// Ends what `start.rs` began.
pub(crate) async fn stop(shared: &Arc<Shared>) {
    if !close_while_it_gets_on(shared).await {
        tracing::warn!("not every log was closed; the next start recovers the rest");
    }
    let shutdown = shared.controller.shutdown();
    match timeout(QUORUM_STOP_MAX, shutdown).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the metadata quorum did not stop in order"),
        Err(_) => tracing::warn!("the metadata quorum did not stop in time"),
    }
}

/// As [`close_logs`], and `false` if that gets stuck or takes too long.
async fn close_while_it_gets_on(shared: &Arc<Shared>) -> bool {
    let closed_logs = Arc::new(AtomicU64::new(0));
    let steps = || closed_logs.load(Ordering::Relaxed) + shared.directory.flush_steps();
    while_it_gets_on(close_logs(shared, &closed_logs), steps).await
}

/// Waits for `closing`; `false` if its `steps` do not grow for [`STALL_MAX`], or after
/// [`CLOSE_MAX`].
async fn while_it_gets_on(closing: impl Future<Output = bool>, steps: impl Fn() -> u64) -> bool {
    let deadline = Instant::now() + CLOSE_MAX;
    let mut closing = std::pin::pin!(closing);
    loop {
        let steps_before = steps();
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(is_clean) = timeout(STALL_MAX.min(left), &mut closing).await {
            return is_clean;
        }
        if steps() == steps_before || Instant::now() >= deadline {
            return false;
        }
    }
}

/// Closes every log; whether the next start may trust all of them as they are.
async fn close_logs(shared: &Arc<Shared>, closed_logs: &Arc<AtomicU64>) -> bool {
    let closings: Vec<_> = shared
        .replicas
        .end()
        .into_iter()
        .map(|place| {
            let (sender, closed) = oneshot::channel();
            let (task_shared, task_place) = (Arc::clone(shared), Arc::clone(&place));
            let closed_logs = Arc::clone(closed_logs);
            let task = async move {
                let end = close_log(&task_shared, &task_place).await;
                closed_logs.fetch_add(1, Ordering::Relaxed);
                // The stop may have timed out.
                let _ = sender.send(end);
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
    let spawn = Arc::clone(&shared.env.spawn);
    let close = move || {
        // Threads of the same bounded pool; the work runs without anybody who waits for it.
        let helper = |helper: FlushHelper| {
            drop(spawn.offload(Lane::Data, "help-flush", Box::new(|| helper.run())));
        };
        log.close_with(&producers, now, &helper)
    };
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

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Something that takes a step every `pause`, `count` times; whether it may end, and after how
    /// long it is waited for no more.
    async fn wait_for(count: u64, pause: Duration) -> (bool, Duration) {
        let (steps, begun) = (AtomicU64::new(0), Instant::now());
        let closing = async {
            for _ in 0..count {
                sleep(pause).await;
                steps.fetch_add(1, Ordering::Relaxed);
            }
            true
        };
        let ended = while_it_gets_on(closing, || steps.load(Ordering::Relaxed)).await;
        (ended, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_as_long_as_it_gets_on_and_no_longer_than_others_wait_for_it() {
        let millis = Duration::from_millis;
        assert_eq!(wait_for(7, millis(1_000)).await, (true, millis(7_000)));
        assert_eq!(wait_for(700, millis(10)).await, (true, millis(7_000)));
        assert_eq!(wait_for(0, millis(1)).await, (true, millis(0)));
        // The first step is missed, or a later one.
        assert_eq!(wait_for(1, millis(1_500)).await, (false, STALL_MAX));
        let (ended, took) = wait_for(9, millis(3_000)).await;
        assert!(!ended && took <= 2 * STALL_MAX, "{took:?}");
        // It gets on for ever.
        assert_eq!(wait_for(100_000, millis(1)).await, (false, CLOSE_MAX));
    }
}
