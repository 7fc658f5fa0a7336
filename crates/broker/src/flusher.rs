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
//! - a failed flush takes the replica offline: which pages are on disk is unknown;
//! - no round waits for a log that is written anew after an unclean end, which may take seconds:
//!   such a log is flushed apart, and is in no round until that has ended.
//!
//! Source: group commit; Rebello et al., "Can Applications Recover from fsync Failures?" (ATC
//! 2020).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use skein_types::TopicPartition;
use tokio::sync::Notify;

use crate::replica::Replica;

/// Logs of a node that are written anew at the same time: the device is everybody's, and so is the
/// pool on which it is done.
pub(crate) const REWRITES_MAX: usize = 2;

/// The replicas that wait for a flush.
#[derive(Default)]
pub(crate) struct Flusher {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    /// In the order of their names, so that a simulation repeats. Replicas know the flusher, so it
    /// keeps none.
    pending: BTreeMap<TopicPartition, Weak<Replica>>,
    /// Those that are being flushed apart.
    apart: BTreeSet<TopicPartition>,
}

impl Flusher {
    /// Asks for a flush of what the replica has written so far.
    pub(crate) fn request(&self, replica: &Arc<Replica>) {
        let (name, replica) = (replica.name.clone(), Arc::downgrade(replica));
        self.waiting.lock().pending.insert(name, replica);
        self.wake.notify_one();
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().pending.len()
    }

    /// Takes the replica out of all rounds until [`Flusher::rejoin`].
    pub(crate) fn set_apart(&self, replica: &Replica) {
        self.waiting.lock().apart.insert(replica.name.clone());
    }

    /// The replica's own flush has ended: what it was asked for meanwhile is for the next round.
    pub(crate) fn rejoin(&self, replica: &Replica) {
        self.waiting.lock().apart.remove(&replica.name);
        self.wake.notify_one();
    }

    /// Waits for the next round, and takes it.
    pub(crate) async fn next_round(&self) -> Vec<Arc<Replica>> {
        loop {
            let round = self.waiting.lock().take();
            if !round.is_empty() {
                return round;
            }
            self.wake.notified().await;
        }
    }
}

impl Waiting {
    fn take(&mut self) -> Vec<Arc<Replica>> {
        let Self { pending, apart } = self;
        let (stay, go) = std::mem::take(pending)
            .into_iter()
            .partition(|(name, _)| apart.contains(name));
        *pending = stay;
        let go: BTreeMap<_, _> = go;
        go.into_values()
            .filter_map(|replica| replica.upgrade())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::testing::with_node;

    async fn round(flusher: &Flusher) -> Vec<Arc<Replica>> {
        let round = timeout(Duration::from_millis(1), flusher.next_round()).await;
        round.unwrap_or_default()
    }

    #[test]
    fn a_log_that_is_flushed_apart_is_in_no_round_until_that_has_ended() {
        with_node(1, &[], async |_, node| {
            node.create("apart", &[]).await;
            node.create("other", &[]).await;
            let apart = node.replica("apart").await.unwrap();
            let other = node.replica("other").await.unwrap();
            let flusher = Arc::new(Flusher::default());
            flusher.set_apart(&apart);
            flusher.request(&apart);
            flusher.request(&other);
            let first = round(&flusher).await;
            assert!(first.iter().all(|replica| Arc::ptr_eq(replica, &other)));
            assert_eq!(first.len(), 1);
            assert!(round(&flusher).await.is_empty());
            // What was asked for meanwhile is not forgotten, and wakes who waits for the round.
            let (next, ()) = tokio::join!(round(&flusher), async { flusher.rejoin(&apart) });
            assert!(next.iter().all(|replica| Arc::ptr_eq(replica, &apart)));
            assert_eq!(next.len(), 1);
            assert!(round(&flusher).await.is_empty());
        });
    }
}
