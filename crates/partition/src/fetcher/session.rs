//! A follower's end of a fetch session.
//!
//! Input: all that is to be asked for, and the leader's answers. Output: how that differs from what
//! the leader has been told.
//!
//! ```text
//!   epoch 0, no session ── answer with a session ──► epoch 1, 2, … i32::MAX, 1, …
//!        ▲  asks for all                              asks for what has changed
//!        └────────── lost, failed, or no session given ──┘
//! ```
//!
//! Invariant: the table holds what the leader's session holds, if the leader got every request so
//! far; after one whose fate is unknown a new session begins.
//!
//! See KIP-227; `FetchSessionHandler` of Kafka 4.1.

use std::collections::BTreeMap;

use skein_types::Millis;

use super::{FetchPlan, FetchedPartition, PlannedPartition};
use crate::FetchPosition;

/// What the leader was told.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    partitions: BTreeMap<FetchedPartition, PlannedPartition>,
}

impl Session {
    /// The request for `wanted`.
    pub(super) fn plan(
        &mut self,
        wanted: Vec<PlannedPartition>,
        max_bytes: u32,
        max_wait_ms: Millis,
    ) -> FetchPlan {
        if self.is_new() {
            self.partitions.clear();
        }
        let told = std::mem::take(&mut self.partitions);
        self.partitions = wanted.iter().map(|one| (one.partition, *one)).collect();
        let has = |one: &PlannedPartition| told.get(&one.partition) == Some(one);
        let forgotten = told.keys().filter(|key| !self.partitions.contains_key(key));
        FetchPlan {
            session_id: self.id,
            session_epoch: self.epoch,
            forgotten: forgotten.copied().collect(),
            partitions: wanted.into_iter().filter(|one| !has(one)).collect(),
            max_bytes,
            max_wait_ms,
        }
    }

    /// From where the leader was asked for a partition.
    pub(super) fn asked(&self, partition: FetchedPartition) -> Option<FetchPosition> {
        self.partitions.get(&partition).map(|one| one.position)
    }

    /// The leader answered, in this session.
    pub(super) fn answered(&mut self, session_id: i32) {
        if session_id == 0 || (self.id != 0 && session_id != self.id) {
            self.reset();
            return;
        }
        self.id = session_id;
        self.epoch = match self.epoch {
            i32::MAX => 1,
            epoch => epoch + 1,
        };
    }

    /// Begins anew with the next request.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Whether the next request begins a session.
    fn is_new(&self) -> bool {
        self.epoch == 0
    }
}
