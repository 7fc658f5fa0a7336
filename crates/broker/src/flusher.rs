//! Group flushes: one round of parallel `fdatasync`s serves everyone who waits.
//!
//! Input: replicas whose logs must be on disk. Output: `Flushed` events.
//!
//! ```text
//!   request ─► pending ─► round: take all ─► flush each on the offload pool ─► step(Flushed)
//!                 ▲                                                                │
//!                 └──────────── requests of meanwhile: the next round ◄────────────┘
//! ```
//!
//! Invariants:
//! - a flush runs without the partition's state: appends go on meanwhile;
//! - what is reported as flushed was written before the flush began;
//! - a failed flush takes the replica offline: which pages are on disk is unknown.
//!
//! Source: group commit; Rebello et al., "Can Applications Recover from fsync Failures?" (ATC
//! 2020).

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skein_types::TopicPartition;
use tokio::sync::Notify;

use crate::replica::Replica;

/// The replicas that wait for a flush.
#[derive(Default)]
pub(crate) struct Flusher {
    /// In the order of their names, so that a simulation repeats.
    pending: Mutex<BTreeMap<TopicPartition, Arc<Replica>>>,
    wake: Notify,
}

impl Flusher {
    /// Asks for a flush of what the replica has written so far.
    pub(crate) fn request(&self, replica: &Arc<Replica>) {
        self.pending
            .lock()
            .insert(replica.name.clone(), Arc::clone(replica));
        self.wake.notify_one();
    }

    /// Waits for the next round, and takes it.
    pub(crate) async fn next_round(&self) -> Vec<Arc<Replica>> {
        loop {
            let round = std::mem::take(&mut *self.pending.lock());
            if !round.is_empty() {
                return round.into_values().collect();
            }
            self.wake.notified().await;
        }
    }
}
