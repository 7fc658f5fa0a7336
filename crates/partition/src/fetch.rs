//! What a follower asks its leader for, and what it gets.
//!
//! Input: the bytes of a fetched batch. Output: plain values, which [`Event`](crate::Event)s carry
//! to the replica and [`Effect`](crate::Effect)s to the fetcher.
//!
//! ```text
//!  follower's log  ├── epoch 3 ──┼───── epoch 5 ─────┤
//!                                        └ last      └ fetch offset = the log's end
//!                                          fetched epoch
//! ```
//!
//! Invariant, by the type: an answer comes with the position that was asked from, so that one which
//! is late, doubled or of another leader is known for what it is. Two logs that have the same epoch
//! in front of the same offset are the same before it.
//!
//! See KIP-101, KIP-320, KIP-595 (diverging epoch).

use skein_record::{BatchError, BatchHeader, BatchView, LeaderEpochs, ProducerStates, TxnEnd};
use skein_types::{LeaderEpoch, Offset, Ticket};

/// From where a follower fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPosition {
    /// The leader epoch that it follows.
    pub leader_epoch: LeaderEpoch,
    /// The end of its log.
    pub fetch_offset: Offset,
    /// The epoch of its last batch; [`LeaderEpoch::NONE`] if it has none.
    pub last_fetched_epoch: LeaderEpoch,
    /// The start of its log: the leader's `DeleteRecords` wait for it.
    pub log_start_offset: Offset,
}

impl FetchPosition {
    /// Whether what was asked from the `other` position is what would be asked from this one: the
    /// start of the log changes no answer.
    #[must_use]
    pub fn asks_as(&self, other: &Self) -> bool {
        let asked = |position: &Self| Self {
            log_start_offset: Offset::ZERO,
            ..*position
        };
        asked(self) == asked(other)
    }
}

/// A leader's answer to a fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedBatches {
    /// The runtime's name for the batches' bytes; nothing is done to it if there are no batches.
    pub ticket: Ticket,
    /// From where was fetched.
    pub position: FetchPosition,
    /// The batches in their order, at most [`MAX_GROUP_BATCHES`](crate::MAX_GROUP_BATCHES).
    pub batches: Vec<FetchedBatch>,
    /// The leader's.
    pub high_watermark: Offset,
    /// The leader's.
    pub log_start_offset: Offset,
}

/// What a follower must know of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchedBatch {
    /// Its header.
    pub header: BatchHeader,
    /// The transaction that it ends.
    pub txn_end: Option<TxnEnd>,
}

impl FetchedBatch {
    /// The whole batch at the start of `bytes`, its checksum compared.
    ///
    /// # Errors
    /// What is wrong with it. A batch that is cut off, as the last of an answer may be, is
    /// [`BatchError::TooShort`] or [`BatchError::Size`].
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let batch = BatchView::parse(bytes)?;
        batch.check_crc()?;
        Ok(Self {
            header: *batch.header(),
            txn_end: TxnEnd::read(&batch)?,
        })
    }
}

/// Why fetched batches are not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// They are of another position than the replica's, or it does not follow any more.
    Stale,
    /// They do not follow the log, or one another: the leader has a bug, or is none.
    OutOfOrder,
}

/// A log and its tables after a truncation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TruncatedLog {
    /// Where it starts.
    pub log_start_offset: Offset,
    /// Where it ends: at what was asked for, or at the start of the batch that this lay in.
    pub log_end_offset: Offset,
    /// The producers as of there.
    pub producers: ProducerStates,
    /// The leader epochs as of there.
    pub leader_epochs: LeaderEpochs,
}
