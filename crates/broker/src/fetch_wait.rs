//! One waiting fetch.
//!
//! Input: wake-ups from the partitions it waits for. Output: its task runs again.
//!
//! Invariant: a wake-up that comes before the task sleeps is kept (`tokio::sync::Notify` holds
//! one).
//!
//! Source: none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::fetch_waits::Wake;

/// What a fetch registers at each of its partitions.
#[derive(Default)]
pub(crate) struct FetchWaiter {
    notify: Notify,
    is_hastened: AtomicBool,
}

impl FetchWaiter {
    /// Waits for a wake-up, also one that has come already.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Wakes it, to answer with whatever there is.
    pub(crate) fn hasten(&self) {
        self.is_hastened.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub(crate) fn is_hastened(&self) -> bool {
        self.is_hastened.load(Ordering::Acquire)
    }
}

impl Wake for Arc<FetchWaiter> {
    fn wake(&self) {
        self.notify.notify_one();
    }
}
