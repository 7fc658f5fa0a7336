//! Simulated tasks.
//!
//! Input: futures and closures of a node. Output: their execution on the one thread of the world,
//! in an order and with delays that the seed draws.
//!
//! Invariants:
//! - before each poll the seed may send a task to the end of the queue or to sleep; it is polled
//!   later, so no wake-up is lost;
//! - a task of a killed process is never polled again: the kill aborts it, and nothing is spawned
//!   afterwards;
//! - a panic is recorded, and the world raises it; not of a killed process, whose calls all fail.
//!
//! Source: none.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep};

use crate::sim::disk::DiskView;
use crate::sim::world::{Process, WorldState};
use crate::{BoxFuture, Lane, Spawn, TaskHandle};

/// Polls of a task within a second of simulated time, at most: far more than a busy node needs.
const POLLS_PER_SECOND_MAX: u32 = 100_000;

/// How the seed disturbs tasks. "One in n" polls; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Polls before which the task goes to the end of the queue.
    pub yield_one_in: u32,
    /// Polls before which the task sleeps.
    pub delay_one_in: u32,
    /// The longest such sleep.
    pub delay_max: Duration,
    /// The longest wait of offloaded work for a thread.
    pub offload_delay_max: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            yield_one_in: 8,
            delay_one_in: 512,
            delay_max: Duration::from_millis(3),
            offload_delay_max: Duration::from_millis(2),
        }
    }
}

/// The tasks of one process.
pub(super) struct SimSpawn {
    process: Arc<Process>,
    disk: Arc<DiskView>,
}

impl SimSpawn {
    pub(super) fn new(process: Arc<Process>, disk: Arc<DiskView>) -> Self {
        Self { process, disk }
    }
}

impl Spawn for SimSpawn {
    fn spawn(
        &self,
        _lane: Lane,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> Box<dyn TaskHandle> {
        let ended = Arc::new(AtomicBool::new(false));
        if !self.process.is_alive() {
            return Box::new(SimTaskHandle { task: None, ended });
        }
        let task = SimTask {
            number: self.process.world.next_task(),
            name,
            process: Arc::clone(&self.process),
            future: Some(future),
            pause: None,
            disturbed: false,
            ended: EndMark(Arc::clone(&ended)),
            polls: Polls {
                since: Instant::now(),
                count: 0,
            },
        };
        let task = self.process.world.runtime().spawn(task).abort_handle();
        self.process.add_task(task.clone());
        Box::new(SimTaskHandle {
            task: Some(task),
            ended,
        })
    }

    fn offload(
        &self,
        lane: Lane,
        name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        let (done, ended) = oneshot::channel();
        let (process, disk) = (Arc::clone(&self.process), Arc::clone(&self.disk));
        let wait = process.world.draw_offload_delay();
        let _task = self.spawn(
            lane,
            name,
            Box::pin(async move {
                if !wait.is_zero() {
                    sleep(wait).await;
                }
                let cost = disk.cost_of(work);
                if !cost.is_zero() {
                    sleep(cost).await;
                }
                // Nobody may be waiting any more.
                let _ = done.send(());
            }),
        );
        Box::pin(async move {
            if ended.await.is_err() {
                // The process is dead, so is its caller.
                std::future::pending::<()>().await;
            }
        })
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

/// A task between the seed and its future.
struct SimTask {
    number: u64,
    name: &'static str,
    process: Arc<Process>,
    future: Option<BoxFuture<'static, ()>>,
    pause: Option<Pin<Box<Sleep>>>,
    /// The seed disturbed this turn already: now the future must have its poll.
    disturbed: bool,
    ended: EndMark,
    polls: Polls,
}

impl Future for SimTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        } else if !this.disturbed && this.is_disturbed(context) {
            return Poll::Pending;
        }
        this.disturbed = false;
        this.poll_future(context)
    }
}

impl SimTask {
    /// Lets the seed decide whether the task waits; if so, it will be woken.
    fn is_disturbed(&mut self, context: &mut Context<'_>) -> bool {
        let Some(delay) = self.process.world.draw_disturbance(self.number, self.name) else {
            return false;
        };
        self.disturbed = true;
        if delay.is_zero() {
            context.waker().wake_by_ref();
            return true;
        }
        let mut pause = Box::pin(sleep(delay));
        let waits = pause.as_mut().poll(context).is_pending();
        self.pause = waits.then_some(pause);
        waits
    }

    fn poll_future(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        let (world, name, polls) = (&self.process.world, self.name, &mut self.polls);
        let poll = || {
            polls.count(world, name);
            future.as_mut().poll(context)
        };
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                self.future = None;
                self.ended.set();
                Poll::Ready(())
            }
            Err(panic) => {
                if self.process.is_alive() {
                    self.process.world.record_panic(panic);
                }
                Poll::Ready(())
            }
        }
    }
}

/// How often a task was polled of late. One that always wakes itself would go on for hours of real
/// time: simulated time passes only while the seed lets the task wait.
struct Polls {
    since: Instant,
    count: u32,
}

impl Polls {
    /// # Panics
    /// More than [`POLLS_PER_SECOND_MAX`] of them within a simulated second.
    fn count(&mut self, world: &WorldState, name: &str) {
        let now = Instant::now();
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
        assert!(
            self.count <= POLLS_PER_SECOND_MAX,
            "seed {}: {name} was polled {POLLS_PER_SECOND_MAX} times within a second",
            world.seed()
        );
    }
}

/// Set when the task has ended or was aborted.
struct EndMark(Arc<AtomicBool>);

impl EndMark {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for EndMark {
    fn drop(&mut self) {
        self.set();
    }
}

struct SimTaskHandle {
    /// `None`: its process was dead before.
    task: Option<AbortHandle>,
    ended: Arc<AtomicBool>,
}

impl TaskHandle for SimTaskHandle {
    fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    fn is_finished(&self) -> bool {
        self.task.is_none() || self.ended.load(Ordering::Relaxed)
    }
}
