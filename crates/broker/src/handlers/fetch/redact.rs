//! Leaves hidden records out of what a fetch returns.
//!
//! Input: a range of a segment file, and where in it the batches are that hold redacted records.
//! Output: the range in pieces, these batches as bytes without the records.
//!
//! ```text
//!   file     │ batch │ batch │ batch with a hidden record │ batch │ ba▒
//!   pieces   └─── File ──────┘└── Bytes, made anew ───────┘└── File ─┘
//! ```
//!
//! Invariants:
//! - a batch with a hidden record is sent as bytes that were made without it, or not at all: where
//!   it is cut off by the range's end, too large for the limit, or cannot be unpacked, the answer
//!   ends before it. Where nothing stands before it, the reader gets an error, as from a batch that
//!   is damaged;
//! - offsets, producer, sequences, timestamps and codec stay, and a batch of which nothing is left
//!   is sent as a header: a reader moves on as if it had read the records;
//! - unpacked bytes are bounded for the whole node (`unpacking.rs`), and what one answer holds in
//!   memory by [`REWRITTEN_MAX_BYTES`] and a batch.
//!
//! Nothing is kept for the next reader. A batch costs what its records cost to unpack and to pack,
//! and one that holds no hidden record nothing.
//!
//! Source: own design.

use std::sync::Arc;

use skein_config::RedactedOffsets;
use skein_net::Part;
use skein_record::{BatchBuf, BatchError, Codec, leave_out};
use skein_storage::{BatchPlace, FileRange, StorageError};
#[cfg(feature = "mutations")]
use skein_types::Offset;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, TopicPartition};
use smallvec::SmallVec;

use crate::node::Shared;
use crate::replica::{Replica, ReplicaView};
use crate::router::Pieces;
use crate::unpacking::{UNPACKED_MAX_BYTES, unpack};

/// Bytes of batches that one answer makes anew; one batch is always made.
const REWRITTEN_MAX_BYTES: u64 = 1024 * 1024;

/// What a partition may answer, with records in it that must not be seen.
pub(super) struct Hiding {
    partition: TopicPartition,
    view: Arc<ReplicaView>,
    range: FileRange,
    /// The batches that hold hidden records.
    places: Vec<BatchPlace>,
    redacted: Arc<RedactedOffsets>,
    room: Room,
}

/// How much a partition may answer.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// In bytes; what is made anew may be larger than it was.
    pub(super) max_bytes: u64,
    /// Nothing was read before: the first batch comes whole.
    pub(super) is_first: bool,
}

/// What one fetch has made anew.
#[derive(Clone, Copy, Default)]
pub(super) struct Rewritten {
    bytes: u64,
}

/// The pieces of an answer in the making.
struct Answer<'a> {
    range: &'a FileRange,
    room: Room,
    pieces: Pieces,
    /// Bytes of the pieces.
    length: u64,
    /// Where in the file the next piece begins.
    position: u64,
}

impl Hiding {
    /// What must be left out of the range; `None` if no batch of it holds a redacted record.
    pub(super) fn find(
        replica: &Replica,
        view: &Arc<ReplicaView>,
        range: &FileRange,
        redacted: Arc<RedactedOffsets>,
        room: Room,
    ) -> Result<Option<Arc<Self>>, StorageError> {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::RedactedServed) {
            return Ok(None);
        }
        let offsets = redacted.within(range.base_offset..view.offsets.log_end_offset);
        let places = view.log.batches_with(range, offsets)?;
        if places.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            partition: replica.name.clone(),
            view: Arc::clone(view),
            range: range.clone(),
            places,
            redacted,
            room,
        })))
    }

    /// The range without the hidden records; or why there is no answer.
    pub(super) async fn leave_out(
        self: Arc<Self>,
        shared: &Arc<Shared>,
        rewritten: &mut Rewritten,
    ) -> Result<Pieces, ErrorCode> {
        let mut answer = Answer {
            range: &self.range,
            room: self.room,
            pieces: SmallVec::new(),
            length: 0,
            position: self.range.position,
        };
        let end = self.range.position + self.range.length;
        for &place in &self.places {
            if place.end() > end {
                answer.add_file_up_to(place.position);
                return Ok(answer.pieces);
            }
            let is_too_much =
                rewritten.bytes > 0 && rewritten.bytes + place.length > REWRITTEN_MAX_BYTES;
            let batch = if is_too_much {
                Ok(None)
            } else {
                self.rewrite(shared, place).await.map(Some)
            };
            match batch {
                // No record of it is hidden after all.
                Ok(Some(None)) => {}
                Ok(Some(Some(batch))) => {
                    answer.add_file_up_to(place.position);
                    rewritten.bytes += place.length;
                    if !answer.add_batch(batch, place) {
                        return Ok(answer.pieces);
                    }
                }
                Err(code) if place.position == self.range.position => return Err(code),
                // The reader comes to it with its next fetch.
                Ok(None) | Err(_) => {
                    answer.add_file_up_to(place.position);
                    return Ok(answer.pieces);
                }
            }
        }
        answer.add_file_up_to(end);
        Ok(answer.pieces)
    }

    /// The batch without its hidden records; `None` if it has none.
    async fn rewrite(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        place: BatchPlace,
    ) -> Result<Option<BatchBuf>, ErrorCode> {
        let hiding = Arc::clone(self);
        let read = move || hiding.view.log.read_batch(&hiding.range, place);
        let read = shared.env.offload("read-redacted", read).await;
        let batch = match read.ok_or(ErrorCode::NotLeaderOrFollower)? {
            Ok(batch) => batch,
            Err(error) => return Err(self.unreadable(place, &error)),
        };
        let metrics = &shared.metrics;
        metrics.batches_redacted.inc();
        if batch.header().codec() != Ok(Codec::None) {
            metrics.decompressions.inc();
        }
        let redacted = Arc::clone(&self.redacted);
        let read = move |batch: &BatchBuf, bound| {
            leave_out(&batch.view(), bound, |record| {
                #[cfg(feature = "mutations")]
                if mutation::has(Mutation::HidesTooMuch) {
                    return redacted.has(record.offset)
                        || redacted.has(Offset(record.offset.0 + 1));
                }
                redacted.has(record.offset)
            })
        };
        let budget = &shared.unpack_budget;
        let unpacked = unpack(&shared.env, budget, batch, UNPACKED_MAX_BYTES, read).await;
        let (_, left) = unpacked.ok_or(ErrorCode::NotLeaderOrFollower)?;
        left.map_err(|error| self.cannot_hide(place, &error))
    }

    fn unreadable(&self, place: BatchPlace, error: &StorageError) -> ErrorCode {
        let position = place.position;
        let partition = &self.partition;
        tracing::error!(%partition, position, %error, "cannot read a batch with redacted records");
        match error {
            StorageError::Corrupt { .. } => ErrorCode::CorruptMessage,
            _ => ErrorCode::KafkaStorageError,
        }
    }

    fn cannot_hide(&self, place: BatchPlace, error: &BatchError) -> ErrorCode {
        let position = place.position;
        let partition = &self.partition;
        tracing::error!(%partition, position, %error, "cannot leave redacted records out");
        ErrorCode::CorruptMessage
    }
}

impl Answer<'_> {
    /// Adds what lies in the file up to `end`, as much as the limit lets.
    fn add_file_up_to(&mut self, end: u64) {
        let left = self.room.max_bytes.saturating_sub(self.length);
        let length = end.saturating_sub(self.position).min(left);
        if length > 0 {
            self.pieces.push(Part::File(skein_net::FileRange {
                file: Arc::clone(&self.range.file),
                offset: self.position,
                length: usize::try_from(length).unwrap_or(usize::MAX),
            }));
        }
        self.length += length;
        self.position = end;
    }

    /// Adds the batch in the place of another; false where the limit does not let it.
    fn add_batch(&mut self, batch: BatchBuf, place: BatchPlace) -> bool {
        let bytes = batch.freeze();
        let length = bytes.len() as u64;
        let comes_whole = self.room.is_first && self.length == 0;
        if self.length + length > self.room.max_bytes && !comes_whole {
            return false;
        }
        self.pieces.push(Part::Bytes(bytes));
        self.length += length;
        self.position = place.end();
        true
    }
}
