//! Takes over a data directory that Apache Kafka wrote, in place.
//!
//! Input: a `log.dirs` of Kafka 4.1 that stopped or died, with its metadata log in it. Output: the
//! same directory as Skein's, with Kafka's ids, topics, configurations and records; or what cannot
//! be taken, each with a remedy, and a directory on which Kafka still starts.
//!
//! ```text
//!   metadata_log.rs ─► kafka_metadata.rs ─┐
//!   (files)            (records replayed) ├─► decide.rs ─► takeover.rs: quorum, renames
//!   survey.rs ────────────────────────────┘   (pure)
//!   (partition directories)
//! ```
//!
//! Invariants:
//! - no record is copied or changed: partition directories stay where they are, and are opened by
//!   the same code that opens ours;
//! - what the metadata say is taken, or told as a [`Finding`], never dropped in silence;
//! - until the one rename that hands the directory over, Kafka starts on it as before
//!   (`takeover.rs`).
//!
//! Architecture invariant: `kafka_metadata.rs` and `decide.rs` are pure; files are reached through
//! `skein_env::Disk` only.
//!
//! Source: KIP-631, KIP-630 (snapshots), KIP-858 (directory ids), KIP-866 (bootstrap), KIP-868
//! (metadata transactions); Apache Kafka 4.1.1.

mod decide;
mod error;
mod finding;
mod kafka_metadata;
mod metadata_log;
mod metadata_tail;
mod survey;
mod takeover;
#[cfg(test)]
// A test: what fails here is the verdict. Some of it is for `tests/takeover.rs` alone.
#[allow(clippy::unwrap_used, dead_code)]
mod testing;

pub use error::ImportError;
pub use finding::{Finding, Subject, Weight};
pub use takeover::{ImportOptions, Imported, Outcome, TAKEN_OVER, import};
