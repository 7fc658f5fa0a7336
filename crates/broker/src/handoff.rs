//! A single writer without a thread of its own: whoever comes first works for all.
//!
//! Input: items from any task. Output: each item is given, with exclusive access to the state, to
//! the [`Work`] of some task; which one does not matter.
//!
//! ```text
//!   submit ──► try lock ──got it──► take items, settle ──► unlock ──► queue empty? ──yes──► done
//!                 │          ▲                                           │no
//!                 │busy      └──────────────── try lock again ◄──────────┤
//!                 ▼                                   ▲                  │budget spent
//!            push to queue ───────────────────────────┘                  ▼
//!                                                                 hand over to one task
//! ```
//!
//! Invariants, checked by the loom tests below:
//! - nobody waits for the state: a task that finds it held leaves its item in the queue and goes;
//! - nothing is stranded: after a push the pusher tries the lock, at once or after further pushes;
//!   after an unlock the holder looks at the queue; and the fences between make at least one of the
//!   two see the other;
//! - items that one task submits are taken in the order in which it submitted them.
//!
//! Source: flat combining (Hendler, Incze, Shavit and Tzafrir, SPAA 2010), with a queue for the
//! publication list.

use std::collections::VecDeque;

use crate::sync::{AtomicUsize, Lock, Ordering, TryLock, fence};

/// Items that may wait before [`Handoff::is_full`] says so. Those who submit are bounded themselves
/// (requests in flight per connection, bytes in flight per node); this bound is the last resort.
const QUEUE_MAX: usize = 65_536;

/// Items that one hold takes before it settles.
const TAKE_MAX: usize = 1_024;

/// What is done with the items.
pub(crate) trait Work<S, I> {
    /// Takes one item.
    fn take(&mut self, state: &mut S, item: I);

    /// Ends a group of items, before the state is let go. False: the budget is spent, another task
    /// should go on.
    fn settle(&mut self, state: &mut S) -> bool;

    /// The state has been let go: wake those whom this work concerns.
    fn released(&mut self) {}
}

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// It has been taken, or another task that holds the state will take it.
    Done,
    /// Like `Done`, and the caller sees to it that exactly one other task calls [`Handoff::drain`].
    HandOver,
}

/// A state and the items that wait for it.
pub(crate) struct Handoff<S, I> {
    state: TryLock<S>,
    queue: Lock<VecDeque<I>>,
    /// Length of `queue`, to be read without its lock.
    queued: AtomicUsize,
}

impl<S, I> Handoff<S, I> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            state: TryLock::new(state),
            queue: Lock::new(VecDeque::new()),
            queued: AtomicUsize::new(0),
        }
    }

    /// Whether so much waits that a caller who can refuse an item should. An item that is submitted
    /// nevertheless is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.queued.load(Ordering::SeqCst) >= QUEUE_MAX
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.load(Ordering::SeqCst) == 0
    }

    /// Has `item` taken, by this task or by the one that holds the state.
    pub(crate) fn submit(&self, item: I, work: &mut impl Work<S, I>) -> Submitted {
        let Some(mut state) = self.state.try_lock() else {
            self.push(item);
            return self.drain(work);
        };
        // What this task has queued before comes first. It may stand behind more than one hold
        // takes.
        self.take_queued(&mut state, work);
        if self.queued.load(Ordering::SeqCst) == 0 {
            work.take(&mut state, item);
        } else {
            self.push(item);
        }
        let goes_on = work.settle(&mut state);
        drop(state);
        work.released();
        self.after_unlock(goes_on, work)
    }

    /// Leaves `item` for whoever works next. The caller calls [`Handoff::drain`] afterwards, sooner
    /// or later; until then the item may lie here.
    pub(crate) fn push(&self, item: I) {
        let mut queue = self.queue.lock();
        queue.push_back(item);
        self.queued.fetch_add(1, Ordering::SeqCst);
        drop(queue);
        fence(Ordering::SeqCst);
    }

    /// Takes what is queued, unless another task holds the state: then that one will.
    pub(crate) fn drain(&self, work: &mut impl Work<S, I>) -> Submitted {
        let Some(mut state) = self.state.try_lock() else {
            return Submitted::Done;
        };
        self.take_queued(&mut state, work);
        let goes_on = work.settle(&mut state);
        drop(state);
        work.released();
        self.after_unlock(goes_on, work)
    }

    fn after_unlock(&self, mut goes_on: bool, work: &mut impl Work<S, I>) -> Submitted {
        loop {
            fence(Ordering::SeqCst);
            if self.queued.load(Ordering::SeqCst) == 0 {
                return Submitted::Done;
            }
            if !goes_on {
                return Submitted::HandOver;
            }
            let Some(mut state) = self.state.try_lock() else {
                return Submitted::Done;
            };
            self.take_queued(&mut state, work);
            goes_on = work.settle(&mut state);
            drop(state);
            work.released();
        }
    }

    fn take_queued(&self, state: &mut S, work: &mut impl Work<S, I>) {
        for _ in 0..TAKE_MAX {
            if self.queued.load(Ordering::SeqCst) == 0 {
                return;
            }
            let mut queue = self.queue.lock();
            let Some(item) = queue.pop_front() else {
                return;
            };
            self.queued.fetch_sub(1, Ordering::SeqCst);
            drop(queue);
            work.take(state, item);
        }
    }
}

// The path for the crate in `loom/` too, which includes this file from elsewhere.
#[cfg(test)]
#[path = "handoff/tests.rs"]
mod tests;
