//! Which records and batches stay.
//!
//! Input: batch after batch of the part that is compacted, in order. Output: for each batch, what
//! becomes of it.
//!
//! ```text
//!   record                                         stays
//!   at or past the end of the map                  yes
//!   its key has a later one                        no
//!   a tombstone whose batch's horizon has passed   no
//!   of an aborted transaction                      no
//!   without a key                                  no: a compacted topic has none
//!   otherwise                                      yes
//!
//!   marker of a transaction                        until nothing of it was seen before it, and
//!                                                  then until its horizon has passed
//!   last batch of a producer, or of the group      stays, without records if need be
//! ```
//!
//! Invariants: a horizon is set once nothing but it keeps the tombstone or marker, and counts from
//! then; a transaction that has not ended below the limit ends what is compacted
//! ([`Transactions::undecided`]).
//!
//! Source: `Cleaner.cleanInto`, `CleanedTransactionMetadata` of Kafka 4.1.1; KIP-98, KIP-534.

use std::collections::{BTreeMap, BTreeSet};

use skein_record::{BatchHeader, EndTxnMarker, Keeping, ProducerStates, Record, TxnResult};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Offset, ProducerEpoch, ProducerId};

use super::offset_map::OffsetMap;

/// The last batch of each producer that is known: by its last offset, or, where the producer has
/// only ended a transaction, by its epoch.
pub(super) type LastBatches = BTreeMap<ProducerId, (Option<Offset>, ProducerEpoch)>;

/// The last batches of `producers`.
pub(super) fn last_batches(producers: &ProducerStates) -> LastBatches {
    let last = |state: &skein_record::ProducerState| {
        let offset = state.last_batch().map(|batch| batch.last_offset);
        (offset, state.producer_epoch)
    };
    producers
        .iter()
        .map(|(id, state)| (id, last(state)))
        .collect()
}

/// What became of the transactions in the part that is compacted.
#[derive(Default)]
pub(super) struct Transactions {
    /// First offset of each one that has not ended.
    open: BTreeMap<ProducerId, Offset>,
    /// First offset of each aborted one, and the offset of its marker.
    aborted: BTreeMap<(ProducerId, Offset), Offset>,
}

impl Transactions {
    /// A batch of records.
    pub(super) fn on_batch(&mut self, header: &BatchHeader) {
        if header.attributes.is_transactional() && !header.attributes.is_control() {
            let base_offset = header.base_offset;
            self.open.entry(header.producer_id).or_insert(base_offset);
        }
    }

    /// The marker in a control batch.
    pub(super) fn on_marker(&mut self, header: &BatchHeader, marker: EndTxnMarker) {
        let first = self.open.remove(&header.producer_id);
        if let (Some(first), TxnResult::Abort) = (first, marker.result) {
            self.aborted
                .insert((header.producer_id, first), header.base_offset);
        }
    }

    /// How many aborted ones are remembered.
    pub(super) fn aborted_count(&self) -> usize {
        self.aborted.len()
    }

    /// First offset of a transaction that has not ended.
    pub(super) fn undecided(&self) -> Option<Offset> {
        self.open.values().min().copied()
    }

    /// Whether the records of the batch must not be read.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        if !header.attributes.is_transactional() {
            return false;
        }
        let (id, offset) = (header.producer_id, header.base_offset);
        let before = self.aborted.range((id, Offset(i64::MIN))..=(id, offset));
        before.last().is_some_and(|(_, marker)| offset < *marker)
    }
}

/// The rules of one pass.
pub(super) struct Rules {
    pub(super) map: OffsetMap,
    /// From here on the map knows nothing.
    pub(super) map_end: Offset,
    pub(super) now: Millis,
    /// The horizon of what becomes a tombstone's batch now.
    pub(super) delete_horizon: Millis,
    pub(super) last_batches: LastBatches,
    pub(super) transactions: Transactions,
    /// Producers of which a batch was seen since their last marker.
    pub(super) seen: BTreeSet<ProducerId>,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) keeping: Keeping,
    /// None of its records stays.
    pub(super) discards: bool,
}

impl Rules {
    /// Judges the next batch. `marker` is what is in it if it ends a transaction; `is_last` says
    /// that it is the group's last one.
    pub(super) fn judge(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
        is_last: bool,
    ) -> Verdict {
        let is_control = header.attributes.is_control();
        let is_spent = if is_control {
            // An emptied one has nothing left to say.
            let is_end = marker.is_some() || header.records_count == 0;
            is_end && !self.seen.remove(&header.producer_id)
        } else {
            if header.attributes.is_transactional() {
                self.seen.insert(header.producer_id);
            }
            false
        };
        let has_passed = header
            .delete_horizon()
            .is_some_and(|horizon| horizon <= self.now);
        Verdict {
            keeping: Keeping {
                keeps_empty: is_last || self.is_last_of_producer(header),
                delete_horizon: self.delete_horizon,
                sets_horizon: is_spent,
            },
            discards: if is_control {
                is_spent && has_passed
            } else {
                self.transactions.is_aborted(header)
            },
        }
    }

    /// Whether the record of a batch that is not discarded stays.
    pub(super) fn stays(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        if header.attributes.is_control() || record.offset >= self.map_end {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        let is_last = self.map.get(key).is_none_or(|last| record.offset >= last);
        let has_passed = header
            .delete_horizon()
            .is_some_and(|horizon| horizon <= self.now);
        #[cfg(feature = "mutations")]
        let has_passed = has_passed || mutation::has(Mutation::TombstoneGoesAtOnce);
        is_last && (record.value.is_some() || !has_passed)
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::LastBatchDropped) {
            return false;
        }
        match self.last_batches.get(&header.producer_id) {
            Some((Some(last_offset), _)) => header.last_offset() == *last_offset,
            Some((None, epoch)) => {
                header.attributes.is_control() && header.producer_epoch == *epoch
            }
            None => false,
        }
    }
}
