//! Logs with room ahead of their end, until they have grown quiet.
//!
//! Input: replicas whose logs have just made room. Output: looks at them, again and again while
//! they grow.
//!
//! ```text
//!   write makes room ─► watched ─► after QUIET: has it grown? ─ yes ─► watched
//!                                                             └ no ──► room given back
//! ```
//!
//! Room is for the writes that come next. Once they don't, tools that read the file of a live log
//! should not meet the zeros at its end, nor the disk keep blocks for nothing.
//!
//! Invariants: nothing runs while no log has room; a log is watched once at a time (`Core` knows).
//!
//! Source: own design; see "`storage`" in `ARCHITECTURE.md`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::node::Shared;
use crate::replica::Replica;

/// A log that has not grown for so long is quiet. Less than a tool of Kafka's takes to start.
const QUIET: Duration = Duration::from_millis(250);

/// The replicas that are watched.
#[derive(Default)]
pub(crate) struct Rooms {
    /// In the order in which they came, so that a simulation repeats.
    watched: Mutex<Vec<Weak<Replica>>>,
    wake: Notify,
}

impl Rooms {
    /// Watches the log of `replica` until its next look.
    pub(crate) fn watch(&self, replica: &Arc<Replica>) {
        self.watched.lock().push(Arc::downgrade(replica));
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<Weak<Replica>> {
        std::mem::take(&mut *self.watched.lock())
    }
}

/// Looks at the logs that are watched.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let rooms = &shared.basis.rooms;
    loop {
        rooms.wake.notified().await;
        tokio::time::sleep(QUIET).await;
        for replica in rooms.take().iter().filter_map(Weak::upgrade) {
            replica.look_at_room();
        }
    }
}
