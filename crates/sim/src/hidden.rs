//! Records that are hidden from readers.
//!
//! Input: which batches may be marked, what was ordered and what was answered. Output: whether a
//! record may be missing in what was read, and whether it must be.
//!
//! ```text
//!   ordered: a reader may miss it ─► answered: whoever asks from now on must miss it
//! ```
//!
//! Marked are records of topics with `durability=flushed` that are never compacted, and of batches
//! that were acknowledged with acks=all: no other record ever gets their offset. The first of a
//! batch is not, as it bears the batch's name.
//!
//! Invariants, checked by [`crate::batches`] for each batch that is read: after the answer nobody
//! reads a hidden record; and nothing else is missing.
//!
//! Source: own design.

use std::collections::BTreeMap;

use skein_types::Offset;

use crate::event::{PartitionId, Stamp};

/// Batches that are kept as candidates.
const CANDIDATES_MAX: usize = 500;

/// A batch with a record that may be hidden.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: Offset,
    /// At least two.
    pub(crate) records: u32,
}

impl Candidate {
    /// Where the record at the place `index` is.
    pub(crate) fn offset_of(&self, index: u64) -> Offset {
        Offset(self.base_offset.0 + i64::try_from(index).unwrap_or(0))
    }
}

/// All marks of a run.
#[derive(Default)]
pub(crate) struct Hidden {
    candidates: Vec<Candidate>,
    /// How many events had been told when the mark was answered.
    marks: BTreeMap<(PartitionId, Offset), Option<u64>>,
}

impl Hidden {
    pub(crate) fn add_candidate(&mut self, candidate: Candidate) {
        if candidate.records > 1 && self.candidates.len() < CANDIDATES_MAX {
            self.candidates.push(candidate);
        }
    }

    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        self.candidates.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.marks.len()
    }

    /// A mark is about to be asked for.
    pub(crate) fn order(&mut self, partition: PartitionId, offset: Offset) {
        self.marks.entry((partition, offset)).or_default();
    }

    /// It was answered.
    pub(crate) fn answer(&mut self, partition: PartitionId, offset: Offset, now: Stamp) {
        let answered = self.marks.entry((partition, offset)).or_default();
        answered.get_or_insert(now.told);
    }

    /// Whether a reader may miss the record.
    pub(crate) fn may_be(&self, partition: PartitionId, offset: Offset) -> bool {
        self.marks.contains_key(&(partition, offset))
    }

    /// Whether who asked then must miss the record.
    pub(crate) fn must_be(&self, partition: PartitionId, offset: Offset, asked: Stamp) -> bool {
        let answered = self.marks.get(&(partition, offset)).copied().flatten();
        answered.is_some_and(|answered| answered < asked.told)
    }
}
