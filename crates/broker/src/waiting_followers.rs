//! Fetches of followers that wait, and how one is answered early.
//!
//! Input: a follower's word that it has more to ask for. Output: its waiting fetches wake up, and
//! answer with what there is.
//!
//! A follower asks a leader for all its partitions at once and has one request under way. Where the
//! leader has nothing new, that one waits for up to `replica.fetch.wait.max.ms`; a partition whose
//! leader has just changed would wait behind it, and every producer with `acks=all` too.
//!
//! Invariant: a waiter is here from before its request is followed by another of its connection
//! until it is dropped.
//!
//! Source: own design.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skein_types::BrokerId;

use crate::fetch_wait::FetchWaiter;

/// See the module.
#[derive(Default)]
pub(crate) struct WaitingFollowers {
    /// By follower, and by the name of its wait: those of a lost connection may still be here.
    waiters: Mutex<BTreeMap<(BrokerId, u64), Arc<FetchWaiter>>>,
}

impl WaitingFollowers {
    pub(crate) fn register(&self, follower: BrokerId, id: u64, waiter: Arc<FetchWaiter>) {
        self.waiters.lock().insert((follower, id), waiter);
    }

    pub(crate) fn unregister(&self, follower: BrokerId, id: u64) {
        self.waiters.lock().remove(&(follower, id));
    }

    /// Has what waits for this follower answered.
    pub(crate) fn hasten(&self, follower: BrokerId) {
        let waiters = self.waiters.lock();
        for (_, waiter) in waiters.range((follower, 0)..=(follower, u64::MAX)) {
            waiter.hasten();
        }
    }
}
