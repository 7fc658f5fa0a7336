//! What a leader knows of its followers.
//!
//! Input: the partition's registration, fetches and flush reports. Output: who is in sync, and how
//! far.
//!
//! Invariants, checked in [`Followers::check`] and by the types:
//! - the leader is in sync with itself and not listed;
//! - each follower is listed once, in ascending order;
//! - a follower whose fetch has not been seen in this leader epoch has no known end: it holds the
//!   high
//!   watermark where it is.
//!
//! ISR changes that a leader proposes will make members that are `Joining` and `Leaving`; those
//! will count for the high watermark too, until the outcome is known: the *maximal* ISR. As long as
//! none is proposed, the maximal ISR is the ISR.
//!
//! See KIP-497 (maximal ISR).

use skein_config::Durability;
use skein_types::{BrokerId, Offset};

/// The followers of a leader.
#[derive(Debug)]
pub(crate) struct Followers(Vec<Follower>);

#[derive(Clone, Copy, Debug)]
struct Follower {
    broker_id: BrokerId,
    is_in_sync: bool,
    log_end_offset: Option<Offset>,
    flushed_end_offset: Option<Offset>,
}

impl Followers {
    /// The followers of a new leader epoch: nothing is known of them.
    pub(crate) fn new(leader: BrokerId, replicas: &[BrokerId], isr: &[BrokerId]) -> Self {
        let mut followers = Self(Vec::new());
        followers.register(leader, replicas, isr);
        followers
    }

    /// Takes a changed registration; what is known of a follower that stays is kept.
    pub(crate) fn register(&mut self, leader: BrokerId, replicas: &[BrokerId], isr: &[BrokerId]) {
        assert!(
            replicas.contains(&leader),
            "{leader:?} leads without being a replica"
        );
        assert!(
            isr.contains(&leader),
            "{leader:?} leads without being in sync"
        );
        assert!(
            isr.iter().all(|member| replicas.contains(member)),
            "{isr:?} of {replicas:?}"
        );
        let known = std::mem::take(&mut self.0);
        self.0.extend(
            replicas
                .iter()
                .filter(|&&broker_id| broker_id != leader)
                .map(|&broker_id| {
                    let known = known
                        .iter()
                        .find(|follower| follower.broker_id == broker_id);
                    Follower {
                        broker_id,
                        is_in_sync: isr.contains(&broker_id),
                        log_end_offset: known.and_then(|follower| follower.log_end_offset),
                        flushed_end_offset: known.and_then(|follower| follower.flushed_end_offset),
                    }
                }),
        );
        self.0.sort_unstable_by_key(|follower| follower.broker_id);
    }

    /// Notes the end of a follower's log. Strangers are ignored.
    pub(crate) fn note_fetched(&mut self, broker_id: BrokerId, fetch_offset: Offset) {
        if let Some(follower) = self.find(broker_id) {
            follower.log_end_offset = Some(fetch_offset);
            // It may have truncated: what it writes there next is not on its disk yet.
            let flushed_end_offset = follower.flushed_end_offset;
            follower.flushed_end_offset = flushed_end_offset.map(|end| end.min(fetch_offset));
        }
    }

    /// Notes the end of what a follower has on disk. Strangers are ignored.
    pub(crate) fn note_flushed(&mut self, broker_id: BrokerId, end: Offset) {
        if let Some(follower) = self.find(broker_id) {
            follower.flushed_end_offset = Some(end);
        }
    }

    /// How many replicas there are, the leader included.
    pub(crate) fn replicas(&self) -> u32 {
        count(self.0.len())
    }

    /// How many replicas are in the ISR, the leader included.
    pub(crate) fn in_sync(&self) -> u32 {
        count(self.0.iter().filter(|follower| follower.is_in_sync).count())
    }

    /// For each follower in the maximal ISR the end of what counts as replicated to it, if that is
    /// known.
    pub(crate) fn replicated_ends(
        &self,
        durability: Durability,
    ) -> impl Iterator<Item = Option<Offset>> {
        self.0
            .iter()
            .filter(|follower| follower.is_in_sync)
            .map(move |follower| match durability {
                Durability::Replicated => follower.log_end_offset,
                Durability::Flushed => follower.flushed_end_offset,
            })
    }

    /// Asserts the invariants of the list.
    pub(crate) fn check(&self) {
        assert!(
            self.0.is_sorted_by(|a, b| a.broker_id < b.broker_id),
            "{self:?}"
        );
    }

    fn find(&mut self, broker_id: BrokerId) -> Option<&mut Follower> {
        self.0
            .iter_mut()
            .find(|follower| follower.broker_id == broker_id)
    }
}

/// Others than the leader, plus the leader.
fn count(others: usize) -> u32 {
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}
