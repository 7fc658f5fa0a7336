//! Where a write runs: on the network task, or on the offload pool.
//!
//! Input: when each inline write begins and ends. Output: whether the next may be inline.
//!
//! ```text
//!   write begins ──► slot holds its start ──► write ends ──► slot is free
//!                          ▲
//!   watchdog, every 5 ms while anything is written: a slot older than that? the directory is slow
//! ```
//!
//! Invariants:
//! - at most half of the network workers are in inline writes at once, so that free ones remain for
//!   Metadata, heartbeats and reads from the page cache, however the disk hangs;
//! - a directory becomes slow *while* a write hangs, not after it: the watchdog has its own lane;
//! - while a write hangs, the other workers hear of their sockets: the one that hangs may be the one
//!   that had waited for them, and those that sleep would sleep on;
//! - the watchdog sleeps when nothing is written.
//!
//! Source: measured; see "A slow disk" in `ARCHITECTURE.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use skein_env::{Lane, Spawn};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A write that takes longer makes its directory slow.
const SLOW_AFTER: Duration = Duration::from_millis(5);

/// A slow directory is fast again after this time without a slow write.
const FAST_AFTER: Duration = Duration::from_millis(500);

/// The directory's health.
pub(crate) struct DiskWatch {
    /// Start of each inline write in microseconds since `epoch`, plus one; 0 for a free slot.
    slots: Box<[AtomicU64]>,
    inline_writes: AtomicUsize,
    inline_writes_max: usize,
    /// Until when the directory counts as slow, in microseconds since `epoch`.
    slow_until: AtomicU64,
    is_watching: AtomicBool,
    wake: Notify,
    epoch: Instant,
}

/// A write that runs inline; dropped, it has ended.
pub(crate) struct InlineWrite<'a> {
    watch: &'a DiskWatch,
    slot: Option<&'a AtomicU64>,
    started: Instant,
}

impl DiskWatch {
    /// The watch of a directory whose writers are `workers` network threads.
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        let inline_writes_max = (workers / 2).max(1);
        Arc::new(Self {
            slots: (0..inline_writes_max).map(|_| AtomicU64::new(0)).collect(),
            inline_writes: AtomicUsize::new(0),
            inline_writes_max,
            slow_until: AtomicU64::new(0),
            is_watching: AtomicBool::new(false),
            wake: Notify::new(),
            epoch: Instant::now(),
        })
    }

    /// Starts the watchdog.
    pub(crate) fn start(self: &Arc<Self>, spawn: &Arc<dyn Spawn>) {
        let (watch, data) = (Arc::clone(self), Arc::clone(spawn));
        let run = async move { watch.run(&*data).await };
        spawn.spawn(Lane::Control, "disk-watch", Box::pin(run));
    }

    /// Begins an inline write; `None` if it must go to the offload pool.
    pub(crate) fn begin(&self) -> Option<InlineWrite<'_>> {
        if self.is_slow() {
            return None;
        }
        // In one order with the watchdog's stores and loads: either it sees this write, or this
        // sees that it sleeps.
        if self.inline_writes.fetch_add(1, Ordering::SeqCst) >= self.inline_writes_max {
            self.inline_writes.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let started = Instant::now();
        let stamp = self.stamp(started) + 1;
        let take = |slot: &&AtomicU64| {
            slot.compare_exchange(0, stamp, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        let slot = self.slots.iter().find(take);
        if !self.is_watching.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
        Some(InlineWrite {
            watch: self,
            slot,
            started,
        })
    }

    /// Whether writes go to the offload pool.
    pub(crate) fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Ordering::Relaxed);
        until != 0 && self.stamp(Instant::now()) < until
    }

    /// Notes how long a write took, wherever it ran.
    pub(crate) fn took(&self, duration: Duration) {
        if duration >= SLOW_AFTER {
            self.mark_slow();
        }
    }

    fn mark_slow(&self) {
        let until = self.stamp(Instant::now() + FAST_AFTER);
        self.slow_until.fetch_max(until, Ordering::Relaxed);
    }

    fn stamp(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX - 1)
    }

    async fn run(&self, spawn: &dyn Spawn) {
        loop {
            if self.inline_writes.load(Ordering::SeqCst) == 0 {
                self.is_watching.store(false, Ordering::SeqCst);
                if self.inline_writes.load(Ordering::SeqCst) == 0 {
                    self.wake.notified().await;
                }
                self.is_watching.store(true, Ordering::SeqCst);
            }
            tokio::time::sleep(SLOW_AFTER).await;
            let oldest = self.slots.iter().map(|slot| slot.load(Ordering::Acquire));
            let Some(oldest) = oldest.filter(|stamp| *stamp != 0).min() else {
                continue;
            };
            let age = self.stamp(Instant::now()).saturating_sub(oldest - 1);
            if u128::from(age) >= SLOW_AFTER.as_micros() {
                self.mark_slow();
                // A task from outside wakes a worker, which then waits for the sockets.
                spawn.spawn(Lane::Data, "wake-worker", Box::pin(async {}));
            }
        }
    }
}

impl Drop for InlineWrite<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.store(0, Ordering::Release);
        }
        self.watch.inline_writes.fetch_sub(1, Ordering::AcqRel);
        self.watch.took(self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skein_env::real::{RealOptions, environment_on};
    use tokio::runtime::Handle;

    /// Both lanes on the runtime of the test.
    fn here() -> Arc<dyn Spawn> {
        let options = RealOptions {
            network_threads: 1,
            io_threads: 1,
        };
        let env = environment_on(Handle::current(), Handle::current(), options);
        env.unwrap().spawn
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_half_of_the_workers_write_inline() {
        let watch = DiskWatch::new(4);
        let first = watch.begin();
        let second = watch.begin();
        assert!(first.is_some() && second.is_some());
        assert!(watch.begin().is_none());
        drop(first);
        assert!(watch.begin().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_write_makes_the_directory_slow_while_it_hangs() {
        let watch = DiskWatch::new(4);
        let watchdog = {
            let (watch, spawn) = (Arc::clone(&watch), here());
            tokio::spawn(async move { watch.run(&*spawn).await })
        };
        let hanging = watch.begin();
        assert!(hanging.is_some());
        tokio::time::sleep(SLOW_AFTER * 3).await;
        assert!(watch.is_slow());
        assert!(watch.begin().is_none(), "the next write goes to the pool");
        drop(hanging);
        tokio::time::sleep(FAST_AFTER * 2).await;
        assert!(watch.begin().is_some(), "fast again");
        watchdog.abort();
    }
}
