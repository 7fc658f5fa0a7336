//! A whole node in one thread, from one seed.
//!
//! Input: a seed. Output: a verdict: the node kept what it had promised to its clients, or which
//! promise it broke and what led there.
//!
//! ```text
//!            Plan ◄── seed                     what this run is like: topics, clients, faults
//!              │
//!   Nemesis ─faults─► SimWorld ◄──── Broker    production code on simulated disk, net, clock
//!                        ▲             ▲
//!                        │     wire    │
//!                     clients ─────────┘       they speak the Kafka protocol
//!                        │ events
//!                     Witness ─► invariants    one file each; judge each event, and the end
//! ```
//!
//! A run has three phases: *safety*, in which clients work and faults strike; *convergence*, in
//! which faults are healed and everything that waits must be answered; *reading back*, in which the
//! whole log is read, the node is stopped and cut from power, the log is read again, and the files
//! are checked.
//!
//! Invariants:
//! - everything random comes from the seed: `tests/determinism.rs` compares two runs;
//! - the clients know nothing of the broker's inside: they judge by what any client can see, except
//!   for the indexes, which are looked at on the disk.
//!
//! Source: the simulators of FoundationDB and TigerBeetle; the checkers of Jepsen.

mod batches;
mod bit_rot;
mod client;
mod cluster;
mod compacted;
mod coverage;
mod cuts;
mod event;
mod hidden;
mod history;
mod invariants;
mod mutation;
mod nemesis;
mod node;
mod offline;
mod plan;
mod read_back;
mod run;
mod topics;
mod wire;
mod witness;

pub use coverage::Coverage;
pub use cuts::{Cuts, parts};
pub use mutation::{MUTATIONS, Mutation, is_of_clusters};
pub use run::{Failure, Options, Outcome, run, running};
