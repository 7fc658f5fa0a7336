//! One replica of one partition, as a pure state machine.
//!
//! Input: what happened, as an [`Event`], and the time. Output: what to do about it, as
//! [`Effect`]s. The runtime in `broker` carries them out and tells the outcome as the next event.
//!
//! ```text
//!  handlers, disk, image ── Event ──►┌─────────┐── Effect ──► log, flusher, waiting handlers
//!                                    │ Replica │
//!  readers ◄── PublishedOffsets ─────┴─────────┘
//! ```
//!
//! Architecture invariant: no clock, no I/O, no randomness, no threads (`clippy.toml` beside this
//! crate). The same events give the same effects, in production and in simulation.
//!
//! Where to read: [`replica`](Replica) holds the transition table, `append.rs` the path of a
//! produce, `high_watermark.rs` what "committed" means, `isr_change.rs` how a leader gets another
//! ISR, `follower.rs` how a replica follows, `fetcher.rs` how it is fed, `published.rs` what a
//! reader may see.

mod append;
mod confirmation;
mod effect;
mod event;
mod fetch;
mod fetcher;
mod follower;
mod high_watermark;
mod isr;
mod isr_change;
mod leadership;
mod log_start;
mod published;
mod refusal;
mod replica;
mod settings;
mod truncation;
mod waiting;

pub use effect::{AckOk, Effect};
pub use event::{
    Acks, Event, FollowerFetch, FollowerFlush, Now, OfflineReason, Registration, Ticket,
    WriteFailure,
};
pub use fetch::{DropReason, FetchPosition, FetchedBatch, FetchedBatches, TruncatedLog};
pub use fetcher::{
    FetchAnswer, FetchOrder, FetchPlan, FetchedPartition, Fetcher, FetcherSettings,
    PartitionAnswer, PlannedPartition,
};
pub use isr_change::{IsrAnswer, IsrDecision, IsrMember, IsrProposal};
pub use published::{FetchIsolation, PublishedOffsets, PublishedRole};
pub use refusal::Refusal;
pub use replica::{RecoveredLog, Replica};
pub use settings::{
    INELIGIBLE_BACKOFF_MS, ISR_RETRY_BACKOFF_MS, JOIN_WAIT_MAX_MS, MAX_GROUP_BATCHES,
    MAX_WAITING_PRODUCES, RESIGNED_WAIT_MAX_MS, ReplicaSettings,
};
