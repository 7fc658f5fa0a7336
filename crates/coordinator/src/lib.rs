//! Coordinators: who is in a group, who reads what, how far everybody is. As pure state machines.
//!
//! Input: requests of clients, records that a former coordinator left, the time, and how far the
//! log has come. Output: records to append, and answers. The runtime lends a [`Shard`] one
//! partition of `__consumer_offsets`: it replays that, appends what the shard orders, and tells the
//! high watermark.
//!
//! ```text
//!  clients ── handle ──►┌───────┐── Append ──► the partition's log ──┐
//!          ◄── Answer ──│ Shard │◄─ appended, high watermark ────────┤
//!  clock ─── on_time ──►└───────┘◄─ replay, before anything else ────┘
//! ```
//!
//! Invariants:
//! - every answer, also of a read, leaves when all that the shard had ordered before it is below
//!   the high watermark (`parking.rs`);
//! - a state whose records may be lost is dropped and replayed, never patched: [`Shard::resign`]
//!   takes it;
//! - the records alone give the state back, as far as it has to outlive its coordinator (the model
//!   in `shard/tests/model.rs` compares).
//!
//! Architecture invariant: no clock, no I/O, no randomness, no threads (`clippy.toml` beside this
//! crate).
//!
//! Where to read: `shard.rs` for how a coordinator lives, `group.rs` for the transition table of a
//! group, `offsets.rs` for commits.
//!
//! Source: the group coordinator of Kafka 4.1.1.

mod append;
mod group;
mod offsets;
mod parking;
mod request;
mod shard;
mod timers;
mod turn;

pub use append::batch_of;
pub use group::GroupDamage;
pub use request::{Joiner, Request, Response};
pub use shard::{Effect, ReplayError, Replayed, Resignation, Shard};
