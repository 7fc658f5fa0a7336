//! Threads for work that may block.
//!
//! Input: closures. Output: their execution, each exactly once.
//!
//! Invariants:
//! - a closure that was submitted runs, also if the future of its submitter is dropped;
//! - at most `queue_max` closures wait in the queue; further submitters wait with theirs. Only a
//!   future that is dropped while it waits may add its closure beyond that: there is nobody left to
//!   hold it;
//! - a panic in a closure does not take its thread away: it goes on in the submitter.
//!
//! Source: none.

use std::any::Any;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::courtesy::Courtesy;

pub(super) type Work = Box<dyn FnOnce() + Send>;
type Outcome = Result<(), Box<dyn Any + Send>>;

/// The pool; dropped, it ends its threads after what is queued.
pub(crate) struct IoPool {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
}

impl IoPool {
    /// Starts `threads` threads, whose names have `name` in them.
    pub(crate) fn new(
        name: &str,
        threads: usize,
        queue_max: usize,
        courtesy: Courtesy,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let pool = Self {
            shared,
            room: Arc::new(Semaphore::new(queue_max)),
        };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            shared.queue.lock().threads += 1;
            let started = thread::Builder::new()
                .name(format!("skein-{name}-{number}"))
                .spawn(move || {
                    courtesy.take_effect();
                    shared.run_jobs();
                });
            if let Err(error) = started {
                pool.shared.queue.lock().threads -= 1;
                return Err(error);
            }
        }
        Ok(pool)
    }

    /// Queues `work`; the future ends after it.
    pub(crate) fn submit(
        &self,
        _name: &'static str,
        work: Work,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (done, outcome) = oneshot::channel();
        let mut pending = Pending {
            shared: Arc::clone(&self.shared),
            job: None,
        };
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => {
                self.shared.push(Job {
                    work,
                    done,
                    room: Some(room),
                });
                None
            }
            Err(_) => {
                pending.job = Some(Job {
                    work,
                    done,
                    room: None,
                });
                Some(Box::pin(Arc::clone(&self.room).acquire_owned()))
            }
        };
        finish(pending, room, outcome)
    }

    /// How many closures are in the queue.
    pub(crate) fn queued(&self) -> usize {
        self.shared.queue.lock().jobs.len()
    }

    /// Ends the threads after what is queued; says whether all of them ended before `deadline`.
    pub(crate) fn finish(&self, deadline: Instant) -> bool {
        self.shared.close();
        let mut queue = self.shared.queue.lock();
        while queue.threads > 0 {
            if self
                .shared
                .changed
                .wait_until(&mut queue, deadline)
                .timed_out()
            {
                return queue.threads == 0;
            }
        }
        true
    }
}

impl Drop for IoPool {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The submitter's side: waits for room if there was none, then for the end of the work.
async fn finish<F>(
    mut pending: Pending,
    room: Option<Pin<Box<F>>>,
    mut outcome: oneshot::Receiver<Outcome>,
) where
    F: Future<Output = Result<OwnedSemaphorePermit, tokio::sync::AcquireError>>,
{
    if let Some(room) = room {
        // The semaphore is never closed; without a permit the work runs all the same.
        let room = room.await.ok();
        pending.push(room);
    }
    let outcome = poll_fn(|context| {
        // A job is dropped unrun only when its pool ended before: with the process.
        let outcome = ready!(Pin::new(&mut outcome).poll(context));
        std::task::Poll::Ready(outcome.unwrap_or(Ok(())))
    });
    if let Err(panic) = outcome.await {
        resume_unwind(panic);
    }
}

/// A job that has no place in the queue yet. Dropped, it is queued all the same.
struct Pending {
    shared: Arc<Shared>,
    job: Option<Job>,
}

impl Pending {
    fn push(&mut self, room: Option<OwnedSemaphorePermit>) {
        if let Some(mut job) = self.job.take() {
            job.room = room;
            self.shared.push(job);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.push(None);
    }
}

struct Job {
    work: Work,
    done: oneshot::Sender<Outcome>,
    /// Its place in the queue, given back when a thread takes it out.
    room: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// A job came, the pool closed, or a thread ended.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
    threads: usize,
}

impl Shared {
    fn push(&self, job: Job) {
        let mut queue = self.queue.lock();
        if queue.threads == 0 {
            // The pool has ended, so this thread does the work: it must not be lost.
            drop(queue);
            job.run();
            return;
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        self.changed.notify_all();
    }

    /// A thread's life.
    fn run_jobs(&self) {
        while let Some(job) = self.next_job() {
            job.run();
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                queue.threads -= 1;
                drop(queue);
                self.changed.notify_all();
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }
}

impl Job {
    fn run(self) {
        let Self { work, done, room } = self;
        drop(room);
        let outcome = catch_unwind(AssertUnwindSafe(work));
        // Nobody may be waiting any more.
        let _ = done.send(outcome);
    }
}
