//! Segment files and the log above them.
//!
//! Input: record batches and raft entries that others decided on. Output: files in Kafka's formats,
//! and immutable views for readers.
//!
//! Architecture invariants:
//! - all file I/O goes through `skein_env::Disk`; there is no clock here: callers pass `now`;
//! - `segment_file` knows nothing of Kafka, because the Raft log lives in the same files;
//! - data is written with `pwritev` and never through a map; record bytes are never copied on the
//!   way;
//! - readers share no lock with the writer: they load a view.
//!
//! Source: `org.apache.kafka.storage.internals.log` for formats and numbers.

mod atomic_file;
mod directory;
mod error;
mod log;
mod log_config;
mod log_directory;
mod reserve;
pub mod segment_file;
#[cfg(test)]
mod testing;

pub use atomic_file::replace as replace_small_file;
pub use directory::create_directory;
pub use error::{Severity, StorageError};
pub use log::{
    APPEND_MAX_BYTES, Appended, BatchPlace, CallHelper, CleanedSegment, Compaction,
    CompactionBudget, CompactionError, CompactionSettings, CompactionSource, CompactionStats,
    CompactionStep, Completion, Cut, DeletedSegment, Dirty, FileRange, FlushHelper, FlushPlan,
    FlushScope, Flushed, FoundRecord, LOOKUP_UNPACKED_MAX_BYTES, Log, LogView, OpenedLog,
    ReadError, Recovery, Swapped, TimestampOffset, Truncated, Unread, inspect,
};
pub use log_config::LogConfig;
pub use log_directory::{
    CacheLimits, CheckpointFile, CleanShutdown, DeletedDirectory, DirectoryState, LogDirectory,
    META_PROPERTIES, MetaProperties, lock as lock_directory,
};
pub use reserve::Reserve;
