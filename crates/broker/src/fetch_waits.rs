//! Fetches that wait for data, and the writer that wakes them.
//!
//! Input: a waiter per waiting fetch and partition; a word from the writer that it has published.
//! Output: the wake-up of every waiter that was registered before.
//!
//! ```text
//!   fetch   register ──► load the view again ──► enough? ──no──► sleep
//!   writer  publish the view ──► read the count ──► 0? nothing : wake all
//! ```
//!
//! Invariants, checked by the loom test below:
//! - no wake-up is lost: either the fetch sees the new view, or the writer sees the fetch's
//!   registration (a fence stands between the two accesses on each side);
//! - a writer whose partition nobody waits for takes no lock.
//!
//! Source: the store-buffer pattern; Kafka's `DelayedFetch` has the same order (watch, then try).

use crate::sync::{AtomicUsize, Lock, Ordering, fence};

/// Something that can be woken; waking twice is harmless.
pub(crate) trait Wake {
    fn wake(&self);
}

/// The fetches that wait for one partition.
pub(crate) struct FetchWaits<W> {
    waiters: Lock<Vec<(u64, W)>>,
    count: AtomicUsize,
}

impl<W: Wake> FetchWaits<W> {
    pub(crate) fn new() -> Self {
        Self {
            waiters: Lock::new(Vec::new()),
            count: AtomicUsize::new(0),
        }
    }

    /// Registers `waiter` under `id`. The caller must look at the view again afterwards.
    pub(crate) fn register(&self, id: u64, waiter: W) {
        let mut waiters = self.waiters.lock();
        waiters.push((id, waiter));
        self.count.store(waiters.len(), Ordering::SeqCst);
        drop(waiters);
        fence(Ordering::SeqCst);
    }

    /// Forgets the waiter of `id`.
    pub(crate) fn unregister(&self, id: u64) {
        let mut waiters = self.waiters.lock();
        waiters.retain(|(waiting, _)| *waiting != id);
        self.count.store(waiters.len(), Ordering::SeqCst);
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Wakes everyone; to be called after the view was published. They stay registered. Says
    /// whether there was anybody.
    pub(crate) fn wake_all(&self) -> bool {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        for (_, waiter) in self.waiters.lock().iter() {
            waiter.wake();
        }
        true
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicUsize};
    use loom::thread;

    #[derive(Clone)]
    struct Flag(Arc<AtomicBool>);

    impl Wake for Flag {
        fn wake(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_fetch_sees_the_view_or_is_woken_in_any_interleaving() {
        loom::model(|| {
            let waits = Arc::new(FetchWaits::new());
            let view = Arc::new(AtomicUsize::new(0));
            let writer = {
                let (waits, view) = (Arc::clone(&waits), Arc::clone(&view));
                thread::spawn(move || {
                    view.store(1, Ordering::Release);
                    waits.wake_all();
                })
            };
            let woken = Arc::new(AtomicBool::new(false));
            waits.register(1, Flag(Arc::clone(&woken)));
            let seen = view.load(Ordering::Acquire) == 1;
            writer.join().unwrap();
            assert!(seen || woken.load(Ordering::SeqCst), "a wake-up was lost");
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    impl Wake for &Cell<u32> {
        fn wake(&self) {
            self.set(self.get() + 1);
        }
    }

    #[test]
    fn who_is_registered_is_woken_and_nobody_else() {
        let waits = FetchWaits::new();
        let (first, second) = (Cell::new(0), Cell::new(0));
        waits.register(1, &first);
        waits.register(2, &second);
        waits.wake_all();
        waits.unregister(1);
        waits.wake_all();
        assert_eq!((first.get(), second.get()), (1, 2));
    }
}
