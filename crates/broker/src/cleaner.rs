//! Compacts the logs of topics with `cleanup.policy=compact`.
//!
//! Input: the open replicas, the settings, time. Output: compacted logs, the neediest first.
//!
//! ```text
//!   log.cleaner.threads tasks, each:
//!     flush sealed segments ─► the log with the largest dirty share that is due ─► compact it
//!        │ none is due                                                  │ step by step, within
//!        └─ sleep log.cleaner.backoff.ms                                └─ the rate of bytes
//! ```
//!
//! Invariants:
//! - a log is compacted by one task at a time ([`Cleaner::take`]);
//! - steps run on threads that give way to all others, without the log; only the swap of a finished
//!   segment has appends wait;
//! - what is unpacked is within the bound of the node (`unpacking.rs`);
//! - a log with a batch that cannot be compacted is told of once, and left alone until the batch's
//!   segment is gone or the node restarts; one for which there was no room, or nothing could be
//!   done, rests for a while. Others go on.
//!
//! Source: `LogCleaner`, `LogCleanerManager` of Kafka 4.1.1.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_config::BrokerConfig;
use skein_env::Lane;
use skein_partition::{Event, OfflineReason, PublishedRole};
use skein_storage::{
    CleanedSegment, Compaction, CompactionBudget, CompactionError, CompactionSource,
    CompactionStats, CompactionStep, Completion, Dirty, FlushScope, StorageError, Swapped,
};
use skein_types::{Millis, Offset, PartitionIndex, TopicId};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::node::Shared;
use crate::replica::Replica;
use crate::tasks;
use crate::unpacking::UNPACKED_MAX_BYTES;

/// The least memory for reading and writing of one task, in bytes.
const IO_BUFFER_MIN_BYTES: usize = 64 * 1024;
/// A task does not sleep for less than this between two steps: shorter pauses add up.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// What a step may unpack a batch to; one that unpacks to more gets a step of its own. It is
/// reserved before the step, as nobody knows which batches it will meet.
const STEP_UNPACKED_BYTES: usize = 16 * 1024 * 1024;

/// A partition of one incarnation of its topic.
type Name = (TopicId, PartitionIndex);

/// What the cleaner's tasks share.
#[derive(Default)]
pub(crate) struct Cleaner {
    states: Mutex<BTreeMap<Name, State>>,
    /// When the bytes that were used up to now are paid for.
    paid_until: Mutex<Option<Instant>>,
}

/// Why a log is not to be chosen.
#[derive(Clone, Copy, Debug)]
enum State {
    Busy,
    RestsUntil(Instant),
    /// As long as the segment with this base offset is there.
    Uncleanable(Offset),
}

impl State {
    /// Whether it keeps a log whose oldest segment begins at `first` from nothing any more.
    fn is_over(&self, first: Offset) -> bool {
        match self {
            Self::Busy => false,
            Self::RestsUntil(until) => *until <= Instant::now(),
            Self::Uncleanable(bad_segment) => *bad_segment < first,
        }
    }
}

/// Why a compaction ended early.
enum Stop {
    /// The replica has gone, or another was faster.
    Gone,
    Failed(CompactionError),
}

impl From<CompactionError> for Stop {
    fn from(error: CompactionError) -> Self {
        Self::Failed(error)
    }
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.into())
    }
}

impl Cleaner {
    /// Whether the log, whose oldest segment begins at `first`, may be chosen.
    fn is_free(&self, name: Name, first: Offset) -> bool {
        self.states
            .lock()
            .get(&name)
            .is_none_or(|state| state.is_over(first))
    }

    /// Takes the log for one task; `false` if another was faster.
    fn take(&self, name: Name, first: Offset) -> bool {
        let mut states = self.states.lock();
        let is_free = states.get(&name).is_none_or(|state| state.is_over(first));
        if is_free {
            states.insert(name, State::Busy);
        }
        is_free
    }

    /// Lets the log rest, unless a task is at it.
    fn rest(&self, name: Name, until: Instant) {
        let mut states = self.states.lock();
        if !matches!(states.get(&name), Some(State::Busy)) {
            states.insert(name, State::RestsUntil(until));
        }
    }

    /// Ends what [`Cleaner::take`] began.
    fn give_back(&self, name: Name, state: Option<State>) {
        let mut states = self.states.lock();
        match state {
            Some(state) => drop(states.insert(name, state)),
            None => drop(states.remove(&name)),
        }
    }

    /// Forgets the logs that are not there any more; how many cannot be compacted.
    fn prune(&self, replicas: &[Arc<Replica>]) -> usize {
        let is_there = |name: &Name| replicas.iter().any(|replica| name_of(replica) == *name);
        let mut states = self.states.lock();
        states.retain(|name, state| matches!(state, State::Busy) || is_there(name));
        let uncleanable = states
            .values()
            .filter(|state| matches!(state, State::Uncleanable(_)));
        uncleanable.count()
    }

    /// Returns when so many bytes more may be read and written at `bytes_per_second`, by all tasks
    /// together.
    async fn pay(&self, bytes: u64, bytes_per_second: f64) {
        let pause = self.pause(bytes, bytes_per_second);
        if pause >= PAUSE_MIN {
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to pause for so many bytes.
    #[allow(clippy::cast_precision_loss)] // a duration
    fn pause(&self, bytes: u64, bytes_per_second: f64) -> Duration {
        let seconds = bytes as f64 / bytes_per_second.max(1.0);
        let cost = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let now = Instant::now();
        let mut paid_until = self.paid_until.lock();
        let start = paid_until.map_or(now, |paid_until| paid_until.max(now));
        let end = start.checked_add(cost).unwrap_or(start);
        *paid_until = Some(end);
        end.saturating_duration_since(now)
    }

    /// Asks no more for what was not paid yet, and has no log rest any longer.
    fn forgive(&self) {
        *self.paid_until.lock() = None;
        let mut states = self.states.lock();
        states.retain(|_, state| !matches!(state, State::RestsUntil(_)));
    }
}

fn name_of(replica: &Replica) -> Name {
    (replica.topic_id, replica.name.partition)
}

/// One of the cleaner's tasks.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    loop {
        let backoff = duration(settings.borrow_and_update().log.cleaner_backoff_ms);
        let Some(replica) = choose(&shared).await else {
            unless_changed(&shared, &mut settings, tokio::time::sleep(backoff)).await;
            continue;
        };
        let name = name_of(&replica);
        if shared.cleaner.take(name, first_of(&replica)) {
            shared.metrics.compactions_running.inc();
            let state = compact(&shared, &replica).await;
            shared.metrics.compactions_running.dec();
            shared.cleaner.give_back(name, state);
        }
        // Whoever else waits for this worker has a turn.
        tokio::task::yield_now().await;
    }
}

/// Runs a part of a compaction where it stands in nobody's way.
async fn offload<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let env = &shared.env;
    env.offload_on(Lane::Background, "compact", work).await
}

fn backoff(shared: &Shared) -> Duration {
    duration(shared.settings.borrow().log.cleaner_backoff_ms)
}

/// Waits, but goes on when the settings change, and lets bygones be bygones then: what was too slow
/// before may be as it should be now.
async fn unless_changed(
    shared: &Shared,
    settings: &mut watch::Receiver<BrokerConfig>,
    wait: impl Future<Output = ()>,
) {
    tokio::select! {
        biased;
        _ = settings.changed() => shared.cleaner.forgive(),
        () = wait => {}
    }
}

fn duration(millis: Millis) -> Duration {
    Duration::from_millis(u64::try_from(millis.get()).unwrap_or(0).max(1))
}

/// The log that needs it most, of those that are due.
async fn choose(shared: &Arc<Shared>) -> Option<Arc<Replica>> {
    let replicas = shared.replicas.open_replicas();
    let uncleanable = shared.cleaner.prune(&replicas);
    let uncleanable = i64::try_from(uncleanable).unwrap_or(i64::MAX);
    shared.metrics.uncleanable_partitions.set(uncleanable);
    let mut best: Option<(Arc<Replica>, Dirty)> = None;
    for replica in replicas {
        let name = name_of(&replica);
        if !is_compacted_here(&replica) || !shared.cleaner.is_free(name, first_of(&replica)) {
            continue;
        }
        // Only what is flushed is compacted.
        if let Ok(Some(plan)) = tasks::plan_flush(&replica, FlushScope::Sealed).await {
            tasks::run_plan(shared, &replica, plan).await;
        }
        let Some(dirty) = dirty_of(shared, &replica).await else {
            continue;
        };
        let is_worse = |(_, other): &(_, Dirty)| dirty.ratio() > other.ratio();
        if best.as_ref().is_none_or(is_worse) {
            best = Some((replica, dirty));
        }
    }
    best.map(|(replica, _)| replica)
}

/// Where the log's oldest segment begins.
fn first_of(replica: &Replica) -> Offset {
    replica.view().log.first_segment_base_offset()
}

fn is_compacted_here(replica: &Replica) -> bool {
    let role = replica.view().offsets.role;
    replica.is_compacted() && matches!(role, PublishedRole::Leader { .. })
}

/// What is to be compacted, if it is due.
async fn dirty_of(shared: &Arc<Shared>, replica: &Arc<Replica>) -> Option<Dirty> {
    let source = replica.ask_log(|log| log.compaction_source(None)).await?;
    let (settings, now) = (replica.compaction_settings(), shared.env.clock.now());
    let asked = *settings;
    let work = move || source.dirty(&asked, now);
    match offload(shared, work).await? {
        Ok(dirty) => dirty.filter(|dirty| dirty.is_due(&settings)),
        Err(error) => {
            let partition = &replica.name;
            tracing::warn!(%partition, %error, "cannot tell whether a log is to be compacted");
            let until = Instant::now() + backoff(shared);
            shared.cleaner.rest(name_of(replica), until);
            None
        }
    }
}

/// Compacts one log once; what is to be remembered of it.
async fn compact(shared: &Arc<Shared>, replica: &Arc<Replica>) -> Option<State> {
    let started = Instant::now();
    let partition = &replica.name;
    let rests = || {
        let until = Instant::now() + backoff(shared);
        Some(State::RestsUntil(until))
    };
    match pass(shared, replica).await {
        Ok(stats) if stats.end > stats.start => {
            let metrics = &shared.metrics;
            metrics.compactions.inc();
            let reclaimed = stats.bytes_before.saturating_sub(stats.bytes_after);
            metrics.compaction_reclaimed_bytes.inc_by(reclaimed);
            let ms = started.elapsed().as_millis();
            let CompactionStats {
                start,
                end,
                bytes_before,
                bytes_after,
                ..
            } = stats;
            tracing::info!(%partition, %start, %end, bytes_before, bytes_after, ms, "compacted");
            None
        }
        // A transaction that has not ended is in front of it all.
        Ok(_) | Err(Stop::Gone) => rests(),
        Err(Stop::Failed(error)) => match error.bad_segment() {
            None => {
                tracing::warn!(%partition, %error, "cannot compact a log now");
                rests()
            }
            Some(base_offset) => {
                tracing::error!(%partition, %error, "cannot compact a log; it is left as it is");
                Some(State::Uncleanable(base_offset))
            }
        },
    }
}

async fn pass(shared: &Arc<Shared>, replica: &Arc<Replica>) -> Result<CompactionStats, Stop> {
    let source = source_of(replica).await.ok_or(Stop::Gone)?;
    let now = shared.env.clock.now();
    let (settings, budget) = (*replica.compaction_settings(), budget(shared));
    // Of this very source: it may not be the log that was chosen any more.
    let begin = move || -> Result<Option<Compaction>, StorageError> {
        let dirty = source.dirty(&settings, now)?;
        Ok(dirty.map(|dirty| Compaction::new(source, dirty, &settings, budget, now)))
    };
    let begun = offload(shared, begin).await;
    let compaction = begun.ok_or(Stop::Gone)??.ok_or(Stop::Gone)?;
    let (compaction, result) = drive(shared, replica, compaction).await;
    // To let go of a large table, and of files that have no name any more, takes a while.
    offload(shared, move || drop(compaction)).await;
    result
}

/// Takes step after step; the compaction too, if the node has not ended.
async fn drive(
    shared: &Arc<Shared>,
    replica: &Arc<Replica>,
    mut compaction: Compaction,
) -> (Option<Compaction>, Result<CompactionStats, Stop>) {
    let mut unpack_bytes = STEP_UNPACKED_BYTES;
    loop {
        let permit = shared.unpack_budget.reserve(unpack_bytes).await;
        let work = move || {
            let step = compaction.step(unpack_bytes);
            drop(permit);
            (compaction, step)
        };
        let Some((returned, step)) = offload(shared, work).await else {
            return (None, Err(Stop::Gone));
        };
        compaction = returned;
        unpack_bytes = STEP_UNPACKED_BYTES;
        let swapped = match step {
            Ok(CompactionStep::Worked(bytes)) => {
                work_was_done(shared, bytes).await;
                Ok(true)
            }
            Ok(CompactionStep::Starved(bytes)) => {
                unpack_bytes = UNPACKED_MAX_BYTES;
                work_was_done(shared, bytes).await;
                Ok(true)
            }
            Ok(CompactionStep::Cleaned(cleaned)) => swap(shared, replica, cleaned).await,
            Ok(CompactionStep::Ended(stats)) => {
                let completed = complete(replica, compaction.completion()).await;
                return (Some(compaction), completed.map(|()| stats));
            }
            Err(error) => Err(error.into()),
        };
        match swapped {
            Ok(true) if is_compacted_here(replica) => {}
            Ok(true) => {
                let abandon = move || {
                    compaction.abandon();
                    compaction
                };
                return (offload(shared, abandon).await, Err(Stop::Gone));
            }
            Ok(false) => return (Some(compaction), Err(Stop::Gone)),
            Err(stop) => return (Some(compaction), Err(stop)),
        }
    }
}

async fn work_was_done(shared: &Shared, bytes: u64) {
    shared.metrics.compaction_io_bytes.inc_by(bytes);
    let mut settings = shared.settings.subscribe();
    let rate = settings
        .borrow_and_update()
        .log
        .cleaner_io_max_bytes_per_second;
    unless_changed(shared, &mut settings, shared.cleaner.pay(bytes, rate)).await;
}

/// The log as it is now, with the last batches of its producers.
async fn source_of(replica: &Arc<Replica>) -> Option<CompactionSource> {
    let (sender, answer) = oneshot::channel();
    replica.with_log(Box::new(move |log, machine| {
        if let Some(producers) = machine.producers() {
            // Who asked may have gone.
            let _ = sender.send(log.compaction_source(Some(producers)));
        }
        None
    }));
    answer.await.ok()
}

/// What one of the tasks may use.
fn budget(shared: &Shared) -> CompactionBudget {
    let log = Arc::clone(&shared.settings.borrow().log);
    let threads = u64::from(log.cleaner_threads.max(1));
    let io_buffer = u64::from(log.cleaner_io_buffer_size) / threads;
    let mut hash_key = [0; 16];
    shared.env.rng.fill(&mut hash_key);
    CompactionBudget {
        dedupe_buffer_bytes: log.cleaner_dedupe_buffer_size / threads,
        load_factor: log.cleaner_io_buffer_load_factor,
        io_buffer_bytes: usize::try_from(io_buffer)
            .unwrap_or(usize::MAX)
            .max(IO_BUFFER_MIN_BYTES),
        unpacked_max_bytes: UNPACKED_MAX_BYTES,
        hash_key,
    }
}

/// Puts a new segment into its place. `false` if the log is not what it was.
async fn swap(
    shared: &Arc<Shared>,
    replica: &Arc<Replica>,
    cleaned: Box<CleanedSegment>,
) -> Result<bool, Stop> {
    let (sender, swapped) = oneshot::channel();
    replica.send_on_errand(Box::new(move |log| {
        let result = log.swap_compacted(&cleaned);
        let delay = log.config().file_delete_delay_ms;
        let event = (result.is_err() && log.is_broken()).then_some(Event::StorageFailed {
            reason: OfflineReason::CompactionFailed,
        });
        // Without a receiver the node is stopping; the next start removes the files.
        // What it holds is not let go of here, where appends wait.
        let _ = sender.send((result, delay, cleaned));
        event
    }));
    let (result, delay, cleaned) = swapped.await.map_err(|_| Stop::Gone)?;
    offload(shared, move || drop(cleaned)).await;
    match result? {
        Swapped::Done(files) => {
            tasks::remove_segments(shared, delay, files);
            Ok(true)
        }
        Swapped::Stale => Ok(false),
    }
}

async fn complete(replica: &Arc<Replica>, completion: Completion) -> Result<(), Stop> {
    let (sender, completed) = oneshot::channel();
    replica.send_on_errand(Box::new(move |log| {
        // Without a receiver the node is stopping.
        let _ = sender.send(log.complete_compaction(completion));
        None
    }));
    completed.await.map_err(|_| Stop::Gone)??;
    Ok(())
}

#[cfg(test)]
mod tests;
