//! What is known of one producer.
//!
//! Input: its batches, in log order. Output: whether the next one is new, a duplicate, or out of
//! order.
//!
//! Invariants, checked in [`ProducerState::check`]: at most [`BATCHES_TO_RETAIN`] batches, oldest
//! first, all of the current epoch.
//!
//! Source: `ProducerStateEntry`, `BatchMetadata` of Kafka 4.1.1.

use skein_types::{Millis, Offset, ProducerEpoch, Sequence};

use crate::header::BatchHeader;

/// How many batches of a producer are remembered: as many as a client may have in flight (KIP-98).
pub const BATCHES_TO_RETAIN: usize = 5;

/// One batch in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMetadata {
    /// Sequence of its last record.
    pub last_sequence: Sequence,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Last offset minus first, which is last sequence minus first too.
    pub offset_delta: i32,
    /// Its largest timestamp, or its time of append.
    pub timestamp: Millis,
}

impl BatchMetadata {
    /// Sequence of its first record.
    #[must_use]
    pub const fn base_sequence(&self) -> Sequence {
        // 31 bits: what comes before 0 is i32::MAX.
        Sequence(self.last_sequence.0.wrapping_sub(self.offset_delta) & i32::MAX)
    }

    /// Offset of its first record.
    #[must_use]
    pub const fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0.saturating_sub(self.offset_delta as i64))
    }
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its current epoch; −1 before its first batch.
    pub producer_epoch: ProducerEpoch,
    /// Epoch of the coordinator that ended its last transaction; −1 before the first end.
    pub coordinator_epoch: i32,
    /// Timestamp of its last batch or marker.
    pub last_timestamp: Millis,
    /// First offset of the transaction that it is in.
    pub current_txn_first_offset: Option<Offset>,
    was_heard: Heard,
    /// Its last batches, oldest first; the rest is `None`.
    batches: [Option<BatchMetadata>; BATCHES_TO_RETAIN],
}

/// Whether the producer was heard of since [`ProducerState::outlives_check`] was last asked. No
/// part of what is known of it: states that differ in this alone are equal.
#[derive(Clone, Copy, Debug)]
struct Heard(bool);

impl PartialEq for Heard {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Heard {}

impl Default for ProducerState {
    fn default() -> Self {
        Self {
            producer_epoch: ProducerEpoch::NONE,
            coordinator_epoch: -1,
            last_timestamp: Millis::NONE,
            current_txn_first_offset: None,
            was_heard: Heard(true),
            batches: [None; BATCHES_TO_RETAIN],
        }
    }
}

impl ProducerState {
    /// Its last batches in the current epoch, oldest first.
    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &BatchMetadata> {
        self.batches.iter().flatten()
    }

    /// Its last batch in the current epoch.
    #[must_use]
    pub fn last_batch(&self) -> Option<&BatchMetadata> {
        self.batches().next_back()
    }

    /// Sequence of its last record in the current epoch; −1 without one.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        self.last_batch()
            .map_or(Sequence::NONE, |batch| batch.last_sequence)
    }

    /// The batch in the log that `header` is a repetition of.
    pub(super) fn duplicate_of(&self, header: &BatchHeader) -> Option<&BatchMetadata> {
        if header.producer_epoch != self.producer_epoch {
            return None;
        }
        let (base_sequence, last_sequence) = (header.base_sequence, header.last_sequence());
        self.batches().find(|batch| {
            batch.last_sequence == last_sequence && batch.base_sequence() == base_sequence
        })
    }

    /// Whether the sequence of `header`, whose epoch is not below ours, follows the last one.
    pub(super) fn is_next(&self, header: &BatchHeader) -> bool {
        // Without an epoch nothing is known: its records may have been deleted.
        if self.producer_epoch == ProducerEpoch::NONE {
            return true;
        }
        if header.producer_epoch != self.producer_epoch {
            return header.base_sequence == Sequence(0);
        }
        // Of −1, which is "none yet in this epoch", 0 is the next one too.
        match self.last_sequence() {
            Sequence(i32::MAX) => header.base_sequence == Sequence(0),
            Sequence(last) => header.base_sequence == Sequence(last + 1),
        }
    }

    pub(super) fn add(&mut self, producer_epoch: ProducerEpoch, batch: BatchMetadata) {
        self.set_epoch(producer_epoch);
        let len = self.batches().count();
        if len == BATCHES_TO_RETAIN {
            self.batches.rotate_left(1);
        }
        self.batches[len.min(BATCHES_TO_RETAIN - 1)] = Some(batch);
        self.last_timestamp = batch.timestamp;
        self.was_heard = Heard(true);
    }

    pub(super) fn end_txn(
        &mut self,
        producer_epoch: ProducerEpoch,
        coordinator_epoch: i32,
        timestamp: Millis,
    ) {
        self.set_epoch(producer_epoch);
        self.coordinator_epoch = coordinator_epoch;
        self.current_txn_first_offset = None;
        self.last_timestamp = timestamp;
        self.was_heard = Heard(true);
    }

    /// Whether the producer is remembered after a look at its age.
    ///
    /// Its timestamps may be of long ago: who copies old records must be able to repeat a batch all
    /// the same. So nobody is forgotten who was heard of since the look before.
    pub(super) fn outlives_check(
        &mut self,
        now: Millis,
        producer_id_expiration_ms: Millis,
    ) -> bool {
        let Heard(was_heard) = std::mem::replace(&mut self.was_heard, Heard(false));
        was_heard
            || self.current_txn_first_offset.is_some()
            || now.saturating_sub(self.last_timestamp) < producer_id_expiration_ms
    }

    pub(super) fn check(&self) {
        let len = self.batches().count();
        assert!(
            self.batches[..len].iter().all(Option::is_some),
            "gap between the batches of a producer"
        );
    }

    fn set_epoch(&mut self, producer_epoch: ProducerEpoch) {
        if self.producer_epoch != producer_epoch {
            self.batches = [None; BATCHES_TO_RETAIN];
            self.producer_epoch = producer_epoch;
        }
    }
}
