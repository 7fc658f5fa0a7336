//! Record batches (magic 2) and the plain tables that are kept per partition.
//!
//! Input: bytes of batches and of the small files beside a log. Output: views of them, patched
//! batches, refusals with Kafka's error codes, and the tables [`ProducerStates`] and
//! [`LeaderEpochs`].
//!
//! Invariants, each checked in the file that is named:
//! - a [`BatchHeader`] has a length, an offset range and a record count that make sense
//!   (`header.rs`);
//! - a [`BatchBuf`] holds exactly one batch and is its only owner (`buf.rs`);
//! - no bytes from outside panic, and none size an allocation (`view.rs`, `compression.rs`);
//! - what was reserved in [`ProducerStates`] can be undone, last first (`producer_states.rs`).
//!
//! There is no clock, no I/O and no randomness here: `now` is an argument, files are bytes.
//!
//! Source: the message format of the Kafka protocol guide, KIP-98, KIP-101, KIP-279; behaviour and
//! file formats are those of Kafka 4.1.1.

mod buf;
mod builder;
mod check;
mod compression;
mod control;
mod crc;
mod error;
#[cfg(test)]
mod golden;
mod header;
mod leader_epochs;
mod producer_states;
mod read;
mod record;
mod repack;
mod retain;
mod txn_index;
mod varint;
mod view;

pub use buf::BatchBuf;
pub use builder::{BatchBuilder, Header, end_txn_marker};
pub use check::{ProducePolicy, REFUSED_RECORDS_MAX, Rejection, check_keys, check_produce};
pub use compression::{
    Codec, Compression, CompressionError, Compressor, compress, compress_with, decompress,
};
pub use control::{EndTxnMarker, TxnResult};
pub use crc::{Crc32c, crc32c};
pub use error::BatchError;
pub use header::{
    Attributes, BatchHeader, CHECKSUM_FROM, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, TimestampType,
};
pub use leader_epochs::{CheckpointError, EpochEndOffset, EpochEntry, LeaderEpochs};
pub use producer_states::{
    AppendOrigin, BATCHES_TO_RETAIN, BatchMetadata, CompletedTxn, ProducerState, ProducerStates,
    SnapshotError, TxnEnd, Undo, Verdict,
};
pub use record::{Headers, Record, RecordHeader, Records};
pub use repack::repack;
pub use retain::{Keeping, Retained, leave_out, retain};
pub use txn_index::{ABORTED_TXN_BYTES, AbortedTxn, AbortedTxnError, collect_aborted};
pub use view::{BatchView, Batches, RecordSet};
