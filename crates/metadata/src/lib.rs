//! The cluster's metadata: the image that every node holds, and the records that change it.
//!
//! Input: [`Entry`]s of the quorum's log, in its order; snapshots. Output: the [`Image`], and its
//! canonical snapshot.
//!
//! Invariants:
//! - the same entries give the same image, byte for byte in its snapshot (`tests/determinism.rs`);
//! - all records of an entry take effect together, or none does ([`Image::apply`]);
//! - a record's bytes never change: one frozen struct per type and version, held by golden bytes
//!   (`record/tests.rs`);
//! - decoding arbitrary bytes neither panics nor lets a length within them size an allocation
//!   ([`envelope`]).
//!
//! Source: KIP-500 and KIP-631 for what a cluster's metadata is; the file format is our own.

mod apply;
mod digest;
mod entry;
pub mod envelope;
mod image;
mod log_id;
mod record;
mod snapshot;

pub use apply::{ApplyError, Outcome};
pub use digest::{ImageDigest, Part};
pub use entry::{ENTRY_MAX_BYTES, ENTRY_RECORDS_MAX, Entry};
pub use envelope::EnvelopeError;
pub use image::{Broker, Endpoint, Image, LeaderRecoveryState, Partition, Topic, TopicChange};
pub use log_id::{LogId, LogIdV0};
pub use record::{ConfigResource, RECORD_MAX_BYTES, Record, ResourceType};
pub use snapshot::{SNAPSHOT_MAX_BYTES, SnapshotError, decode_snapshot, encode_snapshot};
