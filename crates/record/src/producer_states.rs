//! What a partition knows of its producers: sequences, epochs, open transactions.
//!
//! Input: headers of batches, in log order, and the marks that end transactions. Output: the
//! [`Verdict`] on a batch, the first unstable offset, the aborted transactions, the snapshot file.
//!
//! ```text
//!   producer's batch          │ verdict of a client's append
//!   ──────────────────────────┼──────────────────────────────────────────────
//!   one of the last five      │ Duplicate, with the offsets of the first time
//!   epoch below the known one │ INVALID_PRODUCER_EPOCH
//!   producer not known        │ Append, at any sequence
//!   new epoch                 │ Append at sequence 0, else OUT_OF_ORDER_SEQUENCE_NUMBER
//!   known epoch               │ Append at the next sequence (0 after i32::MAX),
//!                             │   else OUT_OF_ORDER_SEQUENCE_NUMBER
//!   in a transaction, but not │ INVALID_TXN_STATE
//!     a transactional batch   │
//! ```
//!
//! An append has two phases. [`ProducerStates::reserve`] takes the batch in before it is written,
//! so that the next one is judged rightly; if the write fails, [`ProducerStates::undo`] takes it
//! out again. Until a reserved batch is written, a retry of it is a `Duplicate` of something that
//! may yet be undone: the caller answers it only when the log has reached its last offset.
//!
//! Invariants, checked in [`ProducerStates::check`] and `ProducerStates::undo`:
//! - the open transactions are those of the producers that are in one, under their first offsets;
//! - reservations are undone last first.
//!
//! Source: KIP-98, KIP-360, KIP-890; `ProducerAppendInfo`, `ProducerStateManager` of Kafka 4.1.1.

use std::collections::BTreeMap;

use skein_types::{ErrorCode, Millis, Offset, ProducerEpoch, ProducerId};

use crate::control::{EndTxnMarker, TxnResult};
use crate::error::BatchError;
use crate::header::BatchHeader;
use crate::txn_index::AbortedTxn;
use crate::view::BatchView;

mod entry;
mod snapshot;

pub use entry::{BATCHES_TO_RETAIN, BatchMetadata, ProducerState};
pub use snapshot::SnapshotError;

/// Most bytes that a control batch decompresses to; none of ours is compressed.
const CONTROL_BATCH_MAX_BYTES: usize = 4096;

/// Who appends a batch, and so how far it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A producer: everything is checked.
    Client,
    /// A coordinator on behalf of a producer: such batches have no sequences.
    Coordinator,
    /// The leader's log, or our own at recovery: it has been checked before.
    Replication,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    Append,
    /// It is in the log already: answer with these numbers.
    Duplicate {
        /// First offset of the batch in the log.
        base_offset: Offset,
        /// Last offset of the batch in the log.
        last_offset: Offset,
        /// Its largest timestamp, or its time of append.
        timestamp: Millis,
    },
    /// Refuse it.
    Rejected(ErrorCode),
}

/// What a producer's control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnEnd {
    /// How the transaction ended.
    pub marker: EndTxnMarker,
    /// When, in ms since 1970.
    pub timestamp: Millis,
}

impl TxnEnd {
    /// The end of a transaction in `batch`; `None` if it is a batch of data, or compaction has
    /// emptied it.
    ///
    /// # Errors
    /// Those of [`BatchView::records`] and of the record, and where that is no end of a
    /// transaction.
    pub fn read(batch: &BatchView<'_>) -> Result<Option<Self>, BatchError> {
        let header = batch.header();
        if !header.attributes.is_control() || !header.has_producer_id() {
            return Ok(None);
        }
        let records = batch.records(CONTROL_BATCH_MAX_BYTES)?;
        let Some(record) = records.iter().next().transpose()? else {
            return Ok(None);
        };
        let marker = EndTxnMarker::parse(&record).ok_or(BatchError::Record {
            index: 0,
            reason: "a producer's control record is no end of a transaction",
        })?;
        Ok(Some(Self {
            marker,
            timestamp: record.timestamp,
        }))
    }
}

/// A transaction that a marker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTxn {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// How it ended.
    pub result: TxnResult,
    /// The first offset after it that is still undecided, or the one after the marker.
    pub last_stable_offset: Offset,
}

impl CompletedTxn {
    /// The entry for the transaction index, if the transaction was aborted.
    #[must_use]
    pub fn aborted(&self) -> Option<AbortedTxn> {
        (self.result == TxnResult::Abort).then_some(AbortedTxn {
            producer_id: self.producer_id,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            last_stable_offset: self.last_stable_offset,
        })
    }
}

/// What [`ProducerStates::undo`] needs to take a reservation back.
#[must_use = "keep it until the batch is written"]
#[derive(Clone, Debug)]
pub struct Undo {
    producer_id: ProducerId,
    previous: Option<ProducerState>,
    txn: TxnChange,
    end_before: Offset,
    end_after: Offset,
}

#[derive(Clone, Copy, Debug)]
enum TxnChange {
    None,
    Began(Offset),
    Completed(Offset),
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, ProducerState>,
    /// Open transactions: first offset to producer.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Transactions whose marker is at or above the high watermark: first offset to the marker's.
    unreplicated: BTreeMap<Offset, (ProducerId, Offset)>,
    map_end_offset: Offset,
}

impl ProducerStates {
    /// The table of an empty log that starts at `map_end_offset`.
    #[must_use]
    pub const fn starting_at(map_end_offset: Offset) -> Self {
        Self {
            producers: BTreeMap::new(),
            ongoing: BTreeMap::new(),
            unreplicated: BTreeMap::new(),
            map_end_offset,
        }
    }

    /// Judges a data batch against what is known of its producer. Changes nothing.
    #[must_use]
    pub fn verdict(&self, header: &BatchHeader, origin: AppendOrigin) -> Verdict {
        if !header.has_producer_id() || origin == AppendOrigin::Replication {
            return Verdict::Append;
        }
        let Some(state) = self.producers.get(&header.producer_id) else {
            return Verdict::Append;
        };
        if origin == AppendOrigin::Client
            && let Some(batch) = state.duplicate_of(header)
        {
            return Verdict::Duplicate {
                base_offset: batch.base_offset(),
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            };
        }
        if header.producer_epoch < state.producer_epoch {
            return Verdict::Rejected(ErrorCode::InvalidProducerEpoch);
        }
        if origin == AppendOrigin::Client && !state.is_next(header) {
            return Verdict::Rejected(ErrorCode::OutOfOrderSequenceNumber);
        }
        if state.current_txn_first_offset.is_some() && !header.attributes.is_transactional() {
            return Verdict::Rejected(ErrorCode::InvalidTxnState);
        }
        Verdict::Append
    }

    /// Judges a marker that a coordinator wants to append.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` or `TRANSACTION_COORDINATOR_FENCED` where a later one is known.
    pub fn check_marker(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        coordinator_epoch: i32,
    ) -> Result<(), ErrorCode> {
        let Some(state) = self.producers.get(&producer_id) else {
            return Ok(());
        };
        if producer_epoch < state.producer_epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if coordinator_epoch < state.coordinator_epoch {
            return Err(ErrorCode::TransactionCoordinatorFenced);
        }
        Ok(())
    }

    /// Takes in a data batch that will be written at `base_offset`; it has been judged, or need not
    /// be.
    ///
    /// # Panics
    /// When the batch ends below what the table covers already: the caller owns the offsets.
    pub fn reserve(&mut self, header: &BatchHeader, base_offset: Offset) -> Undo {
        let offset_delta = header.last_offset_delta;
        let last_offset = Offset(base_offset.0.saturating_add(i64::from(offset_delta)));
        let undo = self.begin(header.producer_id, last_offset);
        // A control batch comes here only when compaction has emptied it: there is nothing to
        // learn.
        if !header.has_producer_id() || header.attributes.is_control() {
            return undo;
        }
        let state = self.producers.entry(header.producer_id).or_default();
        let batch = BatchMetadata {
            last_sequence: header.last_sequence(),
            last_offset,
            offset_delta,
            timestamp: header.max_timestamp,
        };
        state.add(header.producer_epoch, batch);
        let begins =
            header.attributes.is_transactional() && state.current_txn_first_offset.is_none();
        if !begins {
            return undo;
        }
        state.current_txn_first_offset = Some(base_offset);
        self.ongoing.insert(base_offset, header.producer_id);
        Undo {
            txn: TxnChange::Began(base_offset),
            ..undo
        }
    }

    /// Takes in a marker that will be written at `offset`. The transaction that it ends, if there
    /// was one, stays unstable until the high watermark has passed the marker.
    ///
    /// # Panics
    /// As [`ProducerStates::reserve`].
    pub fn reserve_marker(
        &mut self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        marker: EndTxnMarker,
        offset: Offset,
        timestamp: Millis,
    ) -> (Undo, Option<CompletedTxn>) {
        let undo = self.begin(producer_id, offset);
        let state = self.producers.entry(producer_id).or_default();
        let first_offset = state.current_txn_first_offset;
        state.end_txn(producer_epoch, marker.coordinator_epoch, timestamp);
        let Some(first_offset) = first_offset else {
            return (undo, None);
        };
        self.ongoing.remove(&first_offset);
        self.unreplicated
            .insert(first_offset, (producer_id, offset));
        let next = self.ongoing.first_key_value().map(|(first, _)| *first);
        let completed = CompletedTxn {
            producer_id,
            first_offset,
            last_offset: offset,
            result: marker.result,
            last_stable_offset: next.unwrap_or(Offset(offset.0.saturating_add(1))),
        };
        (
            Undo {
                txn: TxnChange::Completed(first_offset),
                ..undo
            },
            Some(completed),
        )
    }

    /// Takes in a batch of the log as it stands, data or control: on followers and at recovery.
    ///
    /// # Errors
    /// [`BatchError::OutOfOrder`] below the end of the table; those of [`BatchView::records`] and
    /// of the records where a control batch cannot be read. The table is then unchanged.
    pub fn replay(
        &mut self,
        batch: &BatchView<'_>,
    ) -> Result<(Undo, Option<CompletedTxn>), BatchError> {
        let header = batch.header();
        if header.last_offset() < self.map_end_offset {
            return Err(BatchError::OutOfOrder {
                last_offset: header.last_offset().0,
                expected: self.map_end_offset.0,
            });
        }
        Ok(self.take_in(header, TxnEnd::read(batch)?))
    }

    /// Takes in a batch of the log whose marker, if it is a producer's control batch, was read with
    /// [`TxnEnd::read`].
    ///
    /// # Panics
    /// As [`ProducerStates::reserve`].
    pub fn take_in(
        &mut self,
        header: &BatchHeader,
        end: Option<TxnEnd>,
    ) -> (Undo, Option<CompletedTxn>) {
        let Some(end) = end else {
            return (self.reserve(header, header.base_offset), None);
        };
        // A batch that ends a transaction holds this one record: its first and last offset are one.
        self.reserve_marker(
            header.producer_id,
            header.producer_epoch,
            end.marker,
            header.last_offset(),
            end.timestamp,
        )
    }

    /// Takes a reservation back, because its write has failed.
    ///
    /// # Panics
    /// When a later reservation has not been undone before.
    pub fn undo(&mut self, undo: Undo) {
        assert!(
            self.map_end_offset == undo.end_after,
            "reservation up to {} undone while the table ends at {}",
            undo.end_after,
            self.map_end_offset
        );
        self.map_end_offset = undo.end_before;
        match undo.txn {
            TxnChange::None => {}
            TxnChange::Began(first_offset) => {
                self.ongoing.remove(&first_offset);
            }
            TxnChange::Completed(first_offset) => {
                self.unreplicated.remove(&first_offset);
                self.ongoing.insert(first_offset, undo.producer_id);
            }
        }
        match undo.previous {
            Some(state) => {
                self.producers.insert(undo.producer_id, state);
            }
            None => {
                self.producers.remove(&undo.producer_id);
            }
        }
    }

    /// The first offset of a transaction that is open, or whose end the high watermark has not
    /// passed.
    #[must_use]
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let ongoing = self.ongoing.first_key_value().map(|(first, _)| *first);
        let unreplicated = self.unreplicated.first_key_value().map(|(first, _)| *first);
        ongoing.into_iter().chain(unreplicated).min()
    }

    /// The first offset of a transaction that is open, whatever has been replicated.
    #[must_use]
    pub fn first_undecided_offset(&self) -> Option<Offset> {
        self.ongoing.first_key_value().map(|(first, _)| *first)
    }

    /// Forgets ended transactions whose marker lies below the high watermark.
    pub fn on_high_watermark(&mut self, high_watermark: Offset) {
        // Two reads on the path of every append; the table is almost always empty.
        if self.unreplicated.is_empty() {
            return;
        }
        self.unreplicated
            .retain(|_, (_, last_offset)| *last_offset >= high_watermark);
    }

    /// The log now starts at `log_start_offset`. What is known of producers stays.
    pub fn on_log_start(&mut self, log_start_offset: Offset) {
        self.on_high_watermark(log_start_offset);
        self.map_end_offset = self.map_end_offset.max(log_start_offset);
    }

    /// Forgets producers that are in no transaction, whose last timestamp is older than
    /// `producer.id.expiration.ms`, and that were not heard of since the last call.
    ///
    /// Walks over all producers: call it every `producer.id.expiration.check.interval.ms`.
    pub fn remove_expired(&mut self, now: Millis, producer_id_expiration_ms: Millis) {
        self.producers
            .retain(|_, state| state.outlives_check(now, producer_id_expiration_ms));
    }

    /// Whether a transaction of this producer and epoch is open.
    #[must_use]
    pub fn has_ongoing_txn(&self, producer_id: ProducerId, producer_epoch: ProducerEpoch) -> bool {
        self.producers.get(&producer_id).is_some_and(|state| {
            state.current_txn_first_offset.is_some() && state.producer_epoch == producer_epoch
        })
    }

    /// What is known of a producer.
    #[must_use]
    pub fn get(&self, producer_id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&producer_id)
    }

    /// The producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// The offset up to which batches have been taken in, exclusive: a snapshot's file name.
    #[must_use]
    pub const fn map_end_offset(&self) -> Offset {
        self.map_end_offset
    }

    /// Asserts the table's invariants. Walks over all producers: for tests and after loading.
    ///
    /// # Panics
    /// When one is broken: a bug.
    pub fn check(&self) {
        let mut open = BTreeMap::new();
        for (id, state) in &self.producers {
            state.check();
            if let Some(first_offset) = state.current_txn_first_offset {
                open.insert(first_offset, *id);
            }
        }
        assert_eq!(
            open, self.ongoing,
            "open transactions and their producers differ"
        );
        for (first_offset, (_, last_offset)) in &self.unreplicated {
            assert!(first_offset <= last_offset, "marker before its transaction");
            assert!(
                *last_offset < self.map_end_offset,
                "marker beyond the end of the table"
            );
        }
    }

    fn begin(&mut self, producer_id: ProducerId, last_offset: Offset) -> Undo {
        assert!(
            last_offset >= self.map_end_offset,
            "batch up to {last_offset} below the table's end {}",
            self.map_end_offset
        );
        let end_before = self.map_end_offset;
        self.map_end_offset = Offset(last_offset.0.saturating_add(1));
        Undo {
            producer_id,
            previous: self.producers.get(&producer_id).cloned(),
            txn: TxnChange::None,
            end_before,
            end_after: self.map_end_offset,
        }
    }
}

#[cfg(test)]
mod tests;
