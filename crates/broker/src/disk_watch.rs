//! Where a write runs: on the network task, or on the offload pool.
//!
//! Input: when each write begins and ends, and on which thread. Output: whether the next may be
//! inline.
//!
//! ```text
//!   write begins ──► slot holds its start and thread ──► write ends ──► slot is free
//!                          ▲
//!   watchdog, every 5 ms while anything is written: is a slot older than that, and its thread
//!   asleep? Then the directory is slow.
//! ```
//!
//! A write whose thread merely waits for a processor says nothing about the disk. On a busy machine
//! that is what most old writes do, and sending the load to the pool, to more threads, would make
//! it worse: such a directory would never be fast again.
//!
//! Invariants:
//! - at most half of the network workers are in inline writes at once, so that free ones remain for
//!   Metadata, heartbeats and reads from the page cache, however the disk hangs;
//! - a directory becomes slow *while* a write hangs, not after it: the watchdog has its own lane;
//! - while a write hangs, the other workers hear of their sockets: the one that hangs may be the
//!   one that had waited for them, and those that sleep would sleep on;
//! - the watchdog sleeps when nothing is written.
//!
//! Source: measured; see "A slow disk" in `ARCHITECTURE.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use skein_env::{Lane, Spawn, ThreadNumber};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A write that takes longer makes its directory slow.
const SLOW_AFTER: Duration = Duration::from_millis(5);

/// A slow directory is fast again after this time without a slow write.
const FAST_AFTER: Duration = Duration::from_millis(500);

/// Writes on the offload pool that are watched; further ones run unwatched.
const WATCHED_ELSEWHERE_MAX: usize = 16;

/// The directory's health.
pub(crate) struct DiskWatch {
    /// The writes that are watched.
    slots: Box<[Slot]>,
    /// Writes that have begun, and those of them that have ended, wherever they run.
    begun: AtomicU64,
    ended: AtomicU64,
    inline_writes: AtomicUsize,
    inline_writes_max: usize,
    /// Until when the directory counts as slow, in microseconds since `epoch`.
    slow_until: AtomicU64,
    is_watching: AtomicBool,
    wake: Notify,
    epoch: Instant,
    spawn: Arc<dyn Spawn>,
}

/// A place for one write.
#[derive(Default)]
struct Slot {
    /// The write's start in microseconds since [`DiskWatch::epoch`], plus one; 0 for a free slot.
    started: AtomicU64,
    /// Number of its thread; 0 for unknown. Of the former write until it is stored, which takes
    /// less than the age from which anybody looks.
    thread: AtomicU32,
}

/// A write that runs; dropped, it has ended.
pub(crate) struct Write<'a> {
    watch: &'a DiskWatch,
    slot: Option<&'a Slot>,
    is_inline: bool,
    /// Nobody can see whether the write's thread sleeps: its duration has to do.
    is_judged_by_time: bool,
    started: Instant,
}

impl DiskWatch {
    /// The watch of a directory whose inline writes run on the network threads of `spawn`.
    pub(crate) fn new(spawn: Arc<dyn Spawn>) -> Arc<Self> {
        let inline_writes_max = (spawn.data_threads() / 2).max(1);
        let slots = inline_writes_max + WATCHED_ELSEWHERE_MAX;
        Arc::new(Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            inline_writes: AtomicUsize::new(0),
            inline_writes_max,
            slow_until: AtomicU64::new(0),
            is_watching: AtomicBool::new(false),
            wake: Notify::new(),
            epoch: Instant::now(),
            spawn,
        })
    }

    /// Starts the watchdog.
    pub(crate) fn start(self: &Arc<Self>) {
        let watch = Arc::clone(self);
        self.spawn.spawn(
            Lane::Control,
            "disk-watch",
            Box::pin(async move { watch.run().await }),
        );
    }

    /// Begins an inline write; `None` if it must go to the offload pool.
    pub(crate) fn begin(&self) -> Option<Write<'_>> {
        if self.is_slow() {
            return None;
        }
        if self.inline_writes.fetch_add(1, Ordering::AcqRel) >= self.inline_writes_max {
            self.inline_writes.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(self.watched(true))
    }

    /// Begins a write on the thread of the offload pool that calls.
    pub(crate) fn begin_elsewhere(&self) -> Write<'_> {
        self.watched(false)
    }

    fn watched(&self, is_inline: bool) -> Write<'_> {
        // In one order with the watchdog's stores and loads: either it sees this write, or this
        // sees that it sleeps.
        self.begun.fetch_add(1, Ordering::SeqCst);
        let started = Instant::now();
        let stamp = self.stamp(started) + 1;
        let take = |slot: &&Slot| {
            let exchanged =
                slot.started
                    .compare_exchange(0, stamp, Ordering::AcqRel, Ordering::Relaxed);
            exchanged.is_ok()
        };
        let slot = self.slots.iter().find(take);
        let thread = self.spawn.this_thread();
        if let Some(slot) = slot {
            let number = thread.map_or(0, |thread| thread.0);
            slot.thread.store(number, Ordering::Release);
        }
        if !self.is_watching.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
        Write {
            watch: self,
            slot,
            is_inline,
            is_judged_by_time: thread.is_none(),
            started,
        }
    }

    /// How long the oldest write that has not ended has taken so far; zero if there is none.
    pub(crate) fn oldest_age(&self) -> Duration {
        let now = self.stamp(Instant::now());
        let ages = self.slots.iter().filter_map(|slot| {
            let started = slot.started.load(Ordering::Acquire).checked_sub(1)?;
            Some(now.saturating_sub(started))
        });
        Duration::from_micros(ages.max().unwrap_or(0))
    }

    /// Whether writes go to the offload pool.
    pub(crate) fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Ordering::Relaxed);
        until != 0 && self.stamp(Instant::now()) < until
    }

    /// Notes how long the disk took for a write: where that is known without a clock.
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

    async fn run(&self) {
        let mut seen = 0;
        loop {
            // Between two writes of a busy node it does not sleep: each would have to wake it.
            if self.has_rested_since(seen) {
                self.is_watching.store(false, Ordering::SeqCst);
                if self.has_rested_since(seen) {
                    self.wake.notified().await;
                }
                self.is_watching.store(true, Ordering::SeqCst);
            }
            seen = self.begun.load(Ordering::SeqCst);
            tokio::time::sleep(SLOW_AFTER).await;
            let now = self.stamp(Instant::now());
            if self.slots.iter().any(|slot| self.hangs(slot, now)) {
                self.mark_slow();
                // A task from outside wakes a worker, which then waits for the sockets.
                self.spawn
                    .spawn(Lane::Data, "wake-worker", Box::pin(async {}));
            }
        }
    }

    /// Whether no write has begun since there had been `begun`, and all of those have ended.
    fn has_rested_since(&self, begun: u64) -> bool {
        self.begun.load(Ordering::SeqCst) == begun && self.ended.load(Ordering::SeqCst) == begun
    }

    /// Whether the write in `slot` is old, and waits for the disk.
    fn hangs(&self, slot: &Slot, now: u64) -> bool {
        let started = slot.started.load(Ordering::Acquire);
        if started == 0 || u128::from(now.saturating_sub(started - 1)) < SLOW_AFTER.as_micros() {
            return false;
        }
        let thread = slot.thread.load(Ordering::Acquire);
        let is_asleep = match thread {
            0 => None,
            number => self.spawn.is_asleep(ThreadNumber(number)),
        };
        // The same write still: what was seen is its thread.
        is_asleep.unwrap_or(true) && slot.started.load(Ordering::Acquire) == started
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.started.store(0, Ordering::Release);
        }
        if self.is_inline {
            self.watch.inline_writes.fetch_sub(1, Ordering::AcqRel);
        }
        self.watch.ended.fetch_add(1, Ordering::SeqCst);
        if self.is_judged_by_time {
            self.watch.took(self.started.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use skein_env::{BoxFuture, TaskHandle};

    use super::*;

    /// Threads whose sleep is told by the test.
    struct Threads {
        is_asleep: Option<AtomicBool>,
    }

    impl Spawn for Threads {
        fn spawn(
            &self,
            lane: Lane,
            _name: &'static str,
            future: BoxFuture<'static, ()>,
        ) -> Box<dyn TaskHandle> {
            assert_eq!(lane, Lane::Data, "the tests run the watchdog themselves");
            Box::new(Task(tokio::spawn(future)))
        }

        fn offload(
            &self,
            _lane: Lane,
            _name: &'static str,
            _work: Box<dyn FnOnce() + Send>,
        ) -> BoxFuture<'static, ()> {
            unreachable!("nothing is offloaded")
        }

        fn this_thread(&self) -> Option<ThreadNumber> {
            self.is_asleep.as_ref().map(|_| ThreadNumber(7))
        }

        fn is_asleep(&self, thread: ThreadNumber) -> Option<bool> {
            assert_eq!(thread, ThreadNumber(7));
            let is_asleep = self.is_asleep.as_ref()?;
            Some(is_asleep.load(Ordering::Relaxed))
        }

        fn yield_now(&self) -> BoxFuture<'static, ()> {
            Box::pin(tokio::task::yield_now())
        }
    }

    struct Task(tokio::task::JoinHandle<()>);

    impl TaskHandle for Task {
        fn abort(&self) {
            self.0.abort();
        }

        fn is_finished(&self) -> bool {
            self.0.is_finished()
        }
    }

    fn watch(is_asleep: Option<bool>) -> (Arc<Threads>, Arc<DiskWatch>) {
        let is_asleep = is_asleep.map(AtomicBool::new);
        let threads = Arc::new(Threads { is_asleep });
        let watch = DiskWatch::new(Arc::clone(&threads) as Arc<dyn Spawn>);
        let watchdog = Arc::clone(&watch);
        tokio::spawn(async move { watchdog.run().await });
        (threads, watch)
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_half_of_the_workers_write_inline() {
        let (_, watch) = watch(None);
        let first = watch.begin();
        let second = watch.begin();
        assert!(first.is_some() && second.is_some());
        assert!(watch.begin().is_none());
        let elsewhere: Vec<_> = (0..100).map(|_| watch.begin_elsewhere()).collect();
        drop(first);
        assert!(
            watch.begin().is_some(),
            "those of the pool are not on its account"
        );
        drop(elsewhere);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_sleeps_when_nothing_is_written_and_not_between_two_writes() {
        let (_, watch) = watch(None);
        let is_watching = || watch.is_watching.load(Ordering::Relaxed);
        tokio::time::sleep(SLOW_AFTER).await;
        assert!(!is_watching());
        for _ in 0..10 {
            drop(watch.begin());
            tokio::time::sleep(SLOW_AFTER / 2).await;
            assert!(is_watching());
        }
        let hanging = watch.begin();
        tokio::time::sleep(SLOW_AFTER * 10).await;
        assert!(is_watching(), "the write has not ended");
        drop(hanging);
        tokio::time::sleep(SLOW_AFTER * 3).await;
        assert!(!is_watching());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_write_makes_the_directory_slow_while_it_hangs() {
        for is_asleep in [Some(true), None] {
            let (_, watch) = watch(is_asleep);
            let hanging = watch.begin();
            assert!(hanging.is_some());
            tokio::time::sleep(SLOW_AFTER * 3).await;
            assert!(watch.is_slow());
            assert!(watch.begin().is_none(), "the next write goes to the pool");
            drop(hanging);
            tokio::time::sleep(FAST_AFTER * 2).await;
            assert!(watch.begin().is_some(), "fast again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_waits_for_a_processor_says_nothing_about_the_disk() {
        let (threads, watch) = watch(Some(false));
        let preempted = watch.begin();
        tokio::time::sleep(SLOW_AFTER * 3).await;
        assert!(!watch.is_slow());
        if let Some(is_asleep) = &threads.is_asleep {
            is_asleep.store(true, Ordering::Relaxed);
        }
        tokio::time::sleep(SLOW_AFTER * 2).await;
        assert!(watch.is_slow(), "it waits for the disk now");
        drop(preempted);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_write_tells_how_long_the_disk_hangs() {
        let (_, watch) = watch(None);
        let second = Duration::from_secs(1);
        assert_eq!(watch.oldest_age(), Duration::ZERO);
        let first = watch.begin();
        tokio::time::sleep(second).await;
        let other = watch.begin_elsewhere();
        tokio::time::sleep(second).await;
        assert_eq!(watch.oldest_age(), 2 * second);
        drop(first);
        assert_eq!(watch.oldest_age(), second);
        drop(other);
        assert_eq!(watch.oldest_age(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_write_on_the_pool_keeps_the_directory_slow() {
        let (_, watch) = watch(Some(true));
        let hanging = watch.begin_elsewhere();
        tokio::time::sleep(FAST_AFTER * 4).await;
        assert!(watch.is_slow());
        drop(hanging);
        tokio::time::sleep(FAST_AFTER * 2).await;
        assert!(!watch.is_slow());
    }
}
