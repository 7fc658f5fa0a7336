//! The metadata quorum: openraft over our own log store, and the controller's handle.
//!
//! Input: requests to the controller. Output: the image, on every node, after each entry of the
//! log.
//!
//! ```text
//!  propose ─► proposer ─► Batch (skein-controller) ─► openraft ─► LogStore ─► log files, vote file
//!                ▲                                        │
//!                └────────────── image ◄── StateMachine ◄─┘ ─► snapshot file
//!
//!  other members ─► PeerAnswers ─┬─ before: formation, what do we belong to
//!                                └─ then: openraft, and who joins
//!  openraft, formation ─► PeerTransport ─► other members
//! ```
//!
//! Invariants:
//! - nothing is acknowledged before it is flushed: entries (`log_files.rs`), votes and identity
//!   (`small_file.rs`);
//! - an entry takes effect only on the decision it was based on (`skein_metadata::Image::apply`),
//!   and one batch of decisions is in flight (`proposer.rs`);
//! - an identity that took part in a cluster never founds another (`identity.rs`), and two nodes
//!   with the same peer list never found two (`formation.rs`);
//! - what is on the disk, or goes to another member, has one frozen struct per type and version
//!   (`frozen.rs`, `wire.rs`).
//!
//! Architecture invariant: nobody outside of this crate names openraft; all files go through
//! `skein_env::Disk`, all tasks through `skein_env::Spawn`.
//!
//! Source: the Raft paper and Ongaro's thesis; openraft 0.10.

mod answers;
mod audit;
mod balancing;
mod controller;
mod error;
mod fate;
mod formation;
mod forming;
mod founding_record;
mod frozen;
mod hand_over;
mod identity;
#[cfg(feature = "inspect")]
pub mod inspect;
mod joining;
mod leader;
mod log_files;
mod log_store;
mod membership;
mod network;
mod node;
mod operator;
mod own_seat;
mod proposer;
mod runtime;
mod small_file;
mod snapshot_file;
mod starting;
mod state_machine;
mod transport;
mod types;
mod wire;

pub use answers::PeerAnswers;
pub use audit::AuditLog;
pub use controller::{Controller, FoundingImage, QuorumOptions, QuorumPeers, QuorumStatus};
pub use error::QuorumError;
pub use formation::{FormationStatus, Obstacle};
pub use founding_record::drop_founding_record;
pub use identity::IDENTITY_FILE;
pub use leader::ActiveController;
pub use operator::{NodeInFormation, leave_out, look_at};
pub use skein_controller::{Call, Refusal, Request, Response};
pub use transport::{PEER_MESSAGE_MAX_BYTES, PeerTransport};
