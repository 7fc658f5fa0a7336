//! The broker: everything that runs in one node.
//!
//! Input: a configuration and a world (`skein_env::Env`). Output: a node that serves Kafka clients.
//!
//! ```text
//!   skein_net ─► session ─► router ─► handlers ─► replicas ─► replica ─► skein_storage
//!                                        │                       └─► skein_partition decides
//!                                        └─► controller ─► skein_quorum ─► image
//! ```
//!
//! Architecture invariants:
//! - the only `match` on an API key is in `router.rs`, and for peers in `peers/service.rs`;
//! - handlers read the image and the replicas' views, and take no lock that a writer holds;
//! - all I/O, time of day, randomness and tasks come from the `Env`, so that a simulation runs this
//!   code as it is;
//! - there are no globals: many nodes live in one process.
//!
//! Source: the design in `ARCHITECTURE.md`.

mod accept_limits;
mod apis;
mod burst;
mod cleaner;
mod cold_reads;
mod confirmation;
mod controlled_shutdown;
mod disk_watch;
mod fetch_sessions;
mod fetch_wait;
mod fetch_waits;
mod flusher;
mod groups;
mod handlers;
mod handoff;
mod http;
#[cfg(feature = "inspect")]
mod inspect;
mod log_ends;
mod metrics;
mod node;
mod offline_replicas;
mod operator;
mod peers;
mod producer_ids;
mod progress;
mod registration;
mod replica;
mod replicas;
mod replication;
mod rooms;
mod router;
mod session;
mod start;
mod stop;
mod sync;
mod tasks;
#[cfg(test)]
mod testing;
mod told_brokers;
mod unpacking;
mod waiting_followers;

#[cfg(feature = "inspect")]
pub use inspect::{Inspector, QuorumView, ReplicaState};
pub use operator::PeerDoor;
pub use skein_quorum::{AuditLog, NodeInFormation, drop_founding_record};
pub use start::{Broker, StartError};
