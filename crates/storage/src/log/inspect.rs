//! Looking at the files of a log from outside, without opening it.
//!
//! Input: paths of files and of partition directories, of a node that runs or not. Output: what is
//! in them, how an offset or a time is found there, and what is wrong with them.
//!
//! ```text
//!   walk.rs        batch after batch of a segment, however damaged
//!   index_file.rs  the entries of an offset or time index
//!   partition.rs   the files of a partition, and what the checkpoints say of it
//!   locate.rs      how an offset or a timestamp is found
//!   verify.rs      what does not agree
//! ```
//!
//! Invariants:
//! - nothing is written, made, locked or mapped: files are opened for reading only, and a file that
//!   shrinks meanwhile is one that ends early;
//! - memory does not follow what a file claims: batches are read in pieces of [`PIECE_BYTES`], and
//!   one whose records are wanted is read whole up to a bound that the caller names;
//! - damage is an answer, never an end before the answer: only a failing disk is an error.
//!
//! Source: the files' own modules.

mod index_file;
mod locate;
mod partition;
mod verify;
mod walk;

pub use super::segment_times::{SegmentTimestamp, decode as decode_segment_times};
pub use index_file::{IndexEntry, IndexFile};
pub use locate::{IndexStep, Located, locate_offset, locate_timestamp};
pub use partition::{
    CHECKPOINTS, FileName, Offsets, PartitionFiles, has_clean_shutdown, is_log_directory,
    partitions, read_checkpoint, read_small_file, topic_id,
};
pub use verify::{
    Finding, Verified, VerifyOptions, Weight, verify_log_directory, verify_partition,
};
pub use walk::{InspectedBatch, SegmentWalk, Step};

/// Bytes of a file that are read at once.
pub const PIECE_BYTES: usize = 256 * 1024;
