//! Threads for what nobody waits for, such as compaction.
//!
//! Input: closures. Output: their execution, each exactly once, out of everybody's way and all the
//! same before long.
//!
//! ```text
//!               waited nine times as long as it ran
//!   idle threads ─────────────────────────────────► nice threads
//!                ◄─────────────────────────────────
//!                            a while later
//! ```
//!
//! A thread of the idle policy is what a woken thread never waits for. But where processors are
//! busy for days it gets a three-hundredth of one, and a log must be compacted all the same: then
//! the work goes to threads that are only nice, and get a tenth.
//!
//! Invariant: where it cannot be seen how long a thread waits, all work is done by the nice ones.
//!
//! Source: `sched(7)`; `Documentation/scheduler/sched-stats.rst` of Linux.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::courtesy::Courtesy;
use super::io_pool::{IoPool, Work};
use crate::BoxFuture;

/// Threads of each kind.
const THREADS: usize = 2;

/// So much longer than it ran a closure has waited for a processor, if its thread gets no tenth of
/// one.
const WAIT_PER_RUN: u32 = 9;

/// A shorter wait is nobody's hunger.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// How long the nice threads work before the idle ones try again.
const NICE_TIME: Duration = Duration::from_secs(10);

/// Both kinds of threads.
pub(super) struct BackgroundPool {
    idle: IoPool,
    nice: IoPool,
    hunger: Arc<Hunger>,
}

/// Until when the idle threads get too little.
#[derive(Default)]
pub(super) struct Hunger {
    until: Mutex<Option<Instant>>,
}

/// What a thread has had since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Had {
    pub(super) run: Duration,
    /// Ready, without a processor.
    pub(super) waited: Duration,
}

impl BackgroundPool {
    pub(super) fn new(queue_max: usize) -> io::Result<Self> {
        let hunger = Arc::new(Hunger::default());
        if had().is_none() {
            hunger.is_unseen();
        }
        Ok(Self {
            idle: IoPool::new("background", THREADS, queue_max, Courtesy::Idle)?,
            nice: IoPool::new("background-nice", THREADS, queue_max, Courtesy::Nice)?,
            hunger,
        })
    }

    /// Queues `work`; the future ends after it.
    pub(super) fn submit(&self, name: &'static str, work: Work) -> BoxFuture<'static, ()> {
        if self.hunger.is_on(Instant::now()) {
            return Box::pin(self.nice.submit(name, work));
        }
        let hunger = Arc::clone(&self.hunger);
        let watched: Work = Box::new(move || {
            let before = had();
            work();
            if let (Some(before), Some(after)) = (before, had()) {
                hunger.note(before, after, Instant::now());
            }
        });
        Box::pin(self.idle.submit(name, watched))
    }

    /// How many closures are in the queues.
    pub(super) fn queued(&self) -> usize {
        self.idle.queued() + self.nice.queued()
    }

    /// Ends the threads after what is queued; says whether all of them ended before `deadline`.
    pub(super) fn finish(&self, deadline: Instant) -> bool {
        let idle = self.idle.finish(deadline);
        self.nice.finish(deadline) && idle
    }
}

impl Hunger {
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.lock().is_some_and(|until| now < until)
    }

    /// An idle thread has worked.
    pub(super) fn note(&self, before: Had, after: Had, now: Instant) {
        let waited = after.waited.saturating_sub(before.waited);
        let run = after.run.saturating_sub(before.run);
        if waited > WAIT_MIN && waited > run * WAIT_PER_RUN {
            *self.until.lock() = Some(now + NICE_TIME);
        }
    }

    /// Nobody will ever know.
    fn is_unseen(&self) {
        const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        *self.until.lock() = Some(Instant::now() + FOR_EVER);
    }
}

/// What the calling thread has had; `None` if the system does not tell.
fn had() -> Option<Had> {
    parse(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Time run and time waited in nanoseconds, and the number of slices.
pub(super) fn parse(text: &str) -> Option<Had> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let mut next = || Some(Duration::from_nanos(numbers.next()?.ok()?));
    Some(Had {
        run: next()?,
        waited: next()?,
    })
}
