//! What a node does without being asked.
//!
//! Input: time, the image, the flusher's requests. Output: flushed logs, checkpoints, old segments
//! gone.
//!
//! ```text
//!   image     each new image          follow it
//!   told      each new image          note when brokers have died
//!   limits    changed settings        how many connections are accepted
//!   remove    on deletion             remove the directories of deleted topics
//!   offline   on failure              tell the controller of replicas whose storage has failed
//!   log-ends  each new image          tell the controller where logs end that nobody leads
//!   directory once, if it fails       take all its replicas offline
//!   open      once                    open every log that nobody has asked for yet
//!   space     every second            fill the reserves; take records again; ask for room in a
//!                                     full directory
//!   room      on request              delete old segments, and do not wait to remove their files
//!   flush     on request              a round of parallel flushes
//!   sealed    when many have gathered flush sealed segments, log by log
//!   retain    retention.check         delete old segments
//!   cleaner   cleaner.backoff         compact logs (`cleaner.rs`)
//!   offsets   checkpoint intervals    sealed segments flushed; high watermarks, recovery points
//!   age       flush.scheduler         logs whose flush.ms has passed; producers to be forgotten
//! ```
//!
//! Invariants:
//! - nothing here runs on the path of a request;
//! - work on files runs on the offload pool;
//! - each task ends when the node stops.
//!
//! Source: Kafka's `LogManager` schedules.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_env::Lane;
use skein_partition::{Event, OfflineReason};
use skein_storage::{
    CheckpointFile, DeletedSegment, DirectoryState, FlushPlan, FlushScope, Log, StorageError,
};
use skein_types::{Millis, Offset, TopicPartition};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::groups::Groups;
use crate::node::Shared;
use crate::replica::Replica;
use crate::replicas::remove_deleted;
use crate::{accept_limits, cleaner, log_ends, offline_replicas, rooms, told_brokers};

/// A flush that could not be planned is asked for again after this.
const FLUSH_RETRY: Duration = Duration::from_secs(1);

/// How often logs are looked at for `flush.ms`, and producers for their expiration, at the least.
const AGE_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How often a full log directory is asked whether there is room again.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Deleted files stay for this long even when there is no room: whoever has just looked them up
/// still opens them. (`file.delete.delay.ms` is for the same, and for who copies the directory.)
const REMOVE_DELAY_MIN: Duration = Duration::from_secs(1);

/// Logs whose old segments are deleted at the same time.
const RETAINERS: usize = 4;

/// Starts all of them.
pub(crate) fn start(shared: &Arc<Shared>, stop: &watch::Receiver<bool>) {
    let log = &shared.config.log;
    spawn(shared, stop, "image", follow_image(Arc::clone(shared)));
    spawn(
        shared,
        stop,
        "told",
        told_brokers::follow(Arc::clone(shared)),
    );
    spawn(shared, stop, "remove", remove_deleted(Arc::clone(shared)));
    let limits = accept_limits::follow(Arc::clone(shared));
    spawn(shared, stop, "limits", limits);
    let offline = offline_replicas::tell(Arc::clone(shared));
    spawn(shared, stop, "offline", offline);
    let ends = log_ends::report(Arc::clone(shared));
    spawn(shared, stop, "log-ends", ends);
    let directory = offline_replicas::follow_directory(Arc::clone(shared));
    spawn(shared, stop, "directory", directory);
    spawn(shared, stop, "open", open_all(Arc::clone(shared)));
    spawn(shared, stop, "load", Groups::load_all(Arc::clone(shared)));
    let space = every(shared, SPACE_INTERVAL, look_for_space);
    spawn(shared, stop, "space", space);
    spawn(shared, stop, "room", make_room(Arc::clone(shared)));
    spawn(shared, stop, "flush", flush(Arc::clone(shared)));
    spawn(shared, stop, "sealed", flush_sealed(Arc::clone(shared)));
    spawn(shared, stop, "rooms", rooms::watch(Arc::clone(shared)));
    let interval = duration(log.retention_check_interval_ms);
    spawn(shared, stop, "retain", every(shared, interval, retain));
    if log.cleaner_enable {
        for _ in 0..log.cleaner_threads {
            spawn(shared, stop, "cleaner", cleaner::run(Arc::clone(shared)));
        }
    }
    let interval = duration(log.flush_offset_checkpoint_interval_ms);
    spawn(
        shared,
        stop,
        "recovery-points",
        every(shared, interval, checkpoint_recovery_points),
    );
    let interval = duration(shared.config.replica.high_watermark_checkpoint_interval_ms);
    spawn(
        shared,
        stop,
        "high-watermarks",
        every(shared, interval, checkpoint_high_watermarks),
    );
    let interval = log
        .flush_scheduler_interval_ms
        .map_or(AGE_INTERVAL_MAX, duration);
    spawn(
        shared,
        stop,
        "age",
        every(shared, interval.min(AGE_INTERVAL_MAX), age),
    );
}

fn duration(millis: Millis) -> Duration {
    Duration::from_millis(u64::try_from(millis.get()).unwrap_or(0).max(1))
}

fn spawn(
    shared: &Shared,
    stop: &watch::Receiver<bool>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    spawn_on(Lane::Data, shared, stop, name, task);
}

/// Runs `task` until it ends or the node stops.
pub(crate) fn spawn_on(
    lane: Lane,
    shared: &Shared,
    stop: &watch::Receiver<bool>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let mut stop = stop.clone();
    let task = async move {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = task => {}
        }
    };
    shared.env.spawn.spawn(lane, name, Box::pin(task));
}

/// Runs `work` every `interval`, counted from the end of the last one.
fn every<F>(
    shared: &Arc<Shared>,
    interval: Duration,
    work: fn(Arc<Shared>) -> F,
) -> impl Future<Output = ()> + Send + 'static
where
    F: Future<Output = ()> + Send + 'static,
{
    let shared = Arc::clone(shared);
    async move {
        loop {
            tokio::time::sleep(interval).await;
            work(Arc::clone(&shared)).await;
        }
    }
}

async fn follow_image(shared: Arc<Shared>) {
    let mut images = shared.controller.subscribe();
    loop {
        images.mark_unchanged();
        shared.replicas.follow(&shared);
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Opens logs in the background, so that retention reaches those that nobody asks for.
async fn open_all(shared: Arc<Shared>) {
    shared.replicas.follow(&shared);
    let places = Arc::new(Mutex::new(shared.replicas.places().into_iter()));
    for _ in 0..shared.config.log.num_recovery_threads_per_data_dir {
        let (task_shared, places) = (Arc::clone(&shared), Arc::clone(&places));
        let opener = async move {
            loop {
                let Some(place) = places.lock().next() else {
                    break;
                };
                // A failure was logged, and shows in the metrics.
                let _ = task_shared.replicas.leading(&place).await;
            }
        };
        shared
            .env
            .spawn
            .spawn(Lane::Data, "opener", Box::pin(opener));
    }
}

async fn look_for_space(shared: Arc<Shared>) {
    if !shared.directory.wants_room() {
        return;
    }
    let directory = Arc::clone(&shared.directory);
    let look = move || directory.look_for_room();
    shared.env.offload("space", look).await;
    if shared.directory.state() == DirectoryState::Full {
        shared.room_wanted.notify_waiters();
        // Not awaited: the next look is due in a second, however long a deletion takes.
        shared.retention_wanted.notify_one();
    }
}

/// Looks at retention when room is wanted.
async fn make_room(shared: Arc<Shared>) {
    loop {
        shared.retention_wanted.notified().await;
        retain(Arc::clone(&shared)).await;
    }
}

/// Rounds of group flushes.
async fn flush(shared: Arc<Shared>) {
    loop {
        let round = shared.flusher.next_round().await;
        let started = Instant::now();
        let flushes: Vec<_> = round
            .iter()
            .map(|replica| {
                let (sender, done) = oneshot::channel();
                let task = flush_replica(Arc::clone(&shared), Arc::clone(replica), sender);
                shared
                    .env
                    .spawn
                    .spawn(Lane::Data, "flush-log", Box::pin(task));
                done
            })
            .collect();
        for done in flushes {
            // Without an answer the node is stopping.
            let _ = done.await;
        }
        shared.metrics.flush_seconds.observe(started.elapsed());
    }
}

/// Flushes sealed segments as they gather, one log at a time: nobody waits for it, and the device
/// is everybody's. Those that are sealed meanwhile are seen by the next write, or as the log ages.
async fn flush_sealed(shared: Arc<Shared>) {
    loop {
        for replica in shared.sealed_flusher.next_round().await {
            if let Ok(Some(plan)) = plan_flush(&replica, FlushScope::Sealed).await {
                run_plan(&shared, &replica, plan).await;
            }
        }
    }
}

async fn flush_replica(shared: Arc<Shared>, replica: Arc<Replica>, done: oneshot::Sender<()>) {
    match plan_flush(&replica, FlushScope::All).await {
        Ok(Some(plan)) if plan.rewrites() => {
            shared.flusher.set_apart(&replica);
            let _ = done.send(());
            run_plan(&shared, &replica, plan).await;
            shared.flusher.rejoin(&replica);
            // What was rewritten has left the page cache: a start soon after would read it back.
            let deletions = shared.directory.deletions();
            if let Some(recovery_point) = replica.ask_log(|log| log.recovery_point()).await {
                let offsets = BTreeMap::from([(replica.name.clone(), recovery_point)]);
                let file = CheckpointFile::RecoveryPoint;
                write(&shared, file, deletions, offsets).await;
            }
            return;
        }
        Ok(Some(plan)) => run_plan(&shared, &replica, plan).await,
        Ok(None) => {}
        Err(()) => {
            // Nothing is flushed, nothing is lost. Whoever waits for it waits on.
            let replica = Arc::downgrade(&replica);
            let spawn = Arc::clone(&shared.env.spawn);
            let retry = async move {
                tokio::time::sleep(FLUSH_RETRY).await;
                if let Some(replica) = replica.upgrade() {
                    shared.flusher.request(&replica);
                }
            };
            spawn.spawn(Lane::Data, "flush-retry", Box::pin(retry));
        }
    }
    let _ = done.send(());
}

/// What there is to flush, if the replica has its log. The error was logged.
pub(crate) async fn plan_flush(
    replica: &Arc<Replica>,
    scope: FlushScope,
) -> Result<Option<FlushPlan>, ()> {
    match replica.ask_log(move |log| log.flush_plan(scope)).await {
        Some(Ok(plan)) => Ok(plan),
        // A broken log was told of when it broke, and is not flushed before it is opened again.
        None | Some(Err(StorageError::Broken { .. })) => Ok(None),
        Some(Err(error)) => {
            tracing::error!(partition = %replica.name, %error, "cannot flush a log");
            Err(())
        }
    }
}

/// Flushes a log while it is appended to. A failed flush takes the replica offline.
pub(crate) async fn run_plan(shared: &Arc<Shared>, replica: &Arc<Replica>, plan: FlushPlan) {
    let _permit = if plan.rewrites() {
        // The semaphore is never closed.
        shared.rewrites.acquire().await.ok()
    } else {
        None
    };
    let result = shared.env.offload("flush", move || plan.run()).await;
    let now = shared.env.clock.now();
    replica.with_log(Box::new(move |log, _| match result {
        Some(Ok(flushed)) => Some(Event::Flushed {
            end: log.complete_flush(&flushed, now),
        }),
        Some(Err(error)) => Some(flush_failed(log, &error)),
        // The node has ended.
        None => None,
    }));
}

fn flush_failed(log: &mut Log, error: &StorageError) -> Event {
    let (partition, remedy) = (log.partition(), error.remedy());
    tracing::error!(%partition, %error, remedy, "a flush failed");
    log.flush_failed(error);
    Event::StorageFailed {
        reason: OfflineReason::FlushFailed,
    }
}

/// Deletes old segments until nothing is too old, of a few logs at a time: one whose deletions take
/// long does not keep the others from theirs.
async fn retain(shared: Arc<Shared>) {
    let replicas = Arc::new(Mutex::new(shared.replicas.open_replicas().into_iter()));
    let retainers: Vec<_> = (0..RETAINERS)
        .map(|_| {
            let (sender, done) = oneshot::channel::<()>();
            let (task_shared, replicas) = (Arc::clone(&shared), Arc::clone(&replicas));
            let task = async move {
                loop {
                    let Some(replica) = replicas.lock().next() else {
                        break;
                    };
                    while retain_one_turn(&task_shared, &replica).await {}
                }
                drop(sender);
            };
            let spawn = &shared.env.spawn;
            spawn.spawn(Lane::Data, "retainer", Box::pin(task));
            done
        })
        .collect();
    for done in retainers {
        // It ends without a word.
        let _ = done.await;
    }
}

/// Lets one log take out as many old segments as one turn takes; their files go after
/// `file.delete.delay.ms`. Returns whether there may be more.
async fn retain_one_turn(shared: &Arc<Shared>, replica: &Arc<Replica>) -> bool {
    let now = shared.env.clock.now();
    let (sender, turn) = oneshot::channel();
    replica.send_on_errand(Box::new(move |log| {
        let before = (log.log_start_offset(), log.segment_count());
        let deleted = log.delete_old_segments(now);
        let after = (log.log_start_offset(), log.segment_count());
        let delay = log.config().file_delete_delay_ms;
        // Without a receiver the node is stopping; the next start removes the files.
        let _ = sender.send((deleted, delay, after != before));
        let (log_start_offset, _) = after;
        (log_start_offset != before.0).then_some(Event::LogStartOffsetMoved {
            ticket: None,
            log_start_offset,
        })
    }));
    let Ok((deleted, delay, has_changed)) = turn.await else {
        return false;
    };
    match deleted {
        Ok(segments) if !segments.is_empty() => {
            let count = segments.len();
            tracing::info!(partition = %replica.name, count, "deleted old segments");
            remove_segments(shared, delay, segments);
        }
        Ok(_) => {}
        Err(error) => {
            tracing::error!(partition = %replica.name, %error, "cannot delete old segments");
            return false;
        }
    }
    has_changed
}

pub(crate) fn remove_segments(shared: &Arc<Shared>, delay: Millis, segments: Vec<DeletedSegment>) {
    let disk = Arc::clone(&shared.env.disk);
    let task = remove_later(Arc::clone(shared), delay, move || {
        for segment in &segments {
            if let Err(error) = segment.remove(&*disk) {
                tracing::warn!(%error, "cannot remove a deleted segment");
            }
        }
    });
    let spawn = &shared.env.spawn;
    spawn.spawn(Lane::Data, "remove-segments", Box::pin(task));
}

/// Runs `remove` in the background after `delay`, or before that if room is wanted.
pub(crate) async fn remove_later(
    shared: Arc<Shared>,
    delay: Millis,
    remove: impl FnOnce() + Send + 'static,
) {
    let delay = duration(delay);
    let least = delay.min(REMOVE_DELAY_MIN);
    tokio::time::sleep(least).await;
    tokio::select! {
        () = tokio::time::sleep(delay - least) => {}
        () = shared.room_wanted.notified() => {}
    }
    let env = &shared.env;
    env.offload_on(Lane::Background, "remove", remove).await;
}

/// Flushes what `flush.ms` says, and forgets silent producers.
async fn age(shared: Arc<Shared>) {
    for replica in shared.replicas.open_replicas() {
        replica.age();
    }
}

async fn checkpoint_high_watermarks(shared: Arc<Shared>) {
    let deletions = shared.directory.deletions();
    let mut offsets = BTreeMap::new();
    for replica in shared.replicas.open_replicas() {
        offsets.insert(replica.name.clone(), replica.view().offsets.high_watermark);
    }
    write(&shared, CheckpointFile::HighWatermark, deletions, offsets).await;
}

/// Flushes sealed segments, and what a former process left, and writes how far recovery need not
/// scan.
async fn checkpoint_recovery_points(shared: Arc<Shared>) {
    let deletions = shared.directory.deletions();
    let mut offsets = BTreeMap::new();
    for replica in shared.replicas.open_replicas() {
        // What could not be flushed now is flushed the next time.
        if let Ok(Some(plan)) = plan_flush(&replica, FlushScope::Sealed).await {
            run_plan(&shared, &replica, plan).await;
        }
        if let Some(recovery_point) = replica.ask_log(|log| log.recovery_point()).await {
            offsets.insert(replica.name.clone(), recovery_point);
        }
    }
    write(&shared, CheckpointFile::RecoveryPoint, deletions, offsets).await;
}

/// Writes what was collected when there had been so many `deletions`.
async fn write(
    shared: &Arc<Shared>,
    file: CheckpointFile,
    deletions: u64,
    offsets: BTreeMap<TopicPartition, Offset>,
) {
    if offsets.is_empty() {
        return;
    }
    let directory = Arc::clone(&shared.directory);
    let work = move || {
        if let Err(error) = directory.write_collected(file, deletions, &offsets) {
            tracing::warn!(%error, "cannot write a checkpoint");
        }
    };
    shared.env.offload("checkpoint", work).await;
}

#[cfg(test)]
mod tests;
