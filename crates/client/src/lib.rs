//! Producer, consumer and admin client for Rust programs.
//!
//! Input: an environment, the addresses of a few brokers, records and orders. Output: their
//! delivery, records read, and what the cluster says.
//!
//! ```text
//!   Client ── Metadata (one cache: brokers, leaders; refreshed on age and on stale answers)
//!     ├── Producer ── Accumulator (a queue of batches per partition) ── Sender (one task)
//!     ├── Consumer ── positions ── fetches (one per broker at a time)
//!     ├── GroupConsumer ── Membership (join, heartbeats) ── Consumer, for what it is given
//!     └── Admin
//!            └── each with a Pool: one connection per broker, so that a fetch that waits for data
//!                delays no produce
//! ```
//!
//! Invariants:
//! - all of the outside world is [`skein_env::Env`]: the client runs in the simulation as it runs
//!   on a machine; there is no global state, and no order comes from a randomly seeded map;
//! - nothing is retried without a limit ([`ClientOptions`], [`ProducerOptions`]) and a pause
//!   between;
//! - memory is bounded: [`ProducerOptions::buffer_memory`], [`ConsumerOptions::fetch_max_bytes`].
//!
//! Source: the Kafka protocol guide; names and defaults of options are those of Kafka 4.1's
//! clients.

mod admin;
mod client;
mod cluster;
mod committed;
mod connection;
mod consumer;
mod coordinator;
mod error;
mod group;
mod list_offsets;
mod metadata;
mod options;
mod partitioner;
mod pool;
mod producer;
mod retry;

pub use admin::{
    Admin, ClusterDescription, ConfigChange, ConfigDescription, ConfigOrigin, ConfigResource,
    Elected, Election, GroupDescription, GroupListing, GroupMember, Lag, NewTopic, Node, Nodes,
    PartitionDescription, Quorum, QuorumMember,
};
pub use client::Client;
pub use cluster::{Broker, ClusterView, Partition, Topic};
pub use committed::CommittedOffset;
pub use consumer::{
    Consumer, ConsumerOptions, ConsumerRecord, ConsumerStatistics, IsolationLevel, RecordHeader,
    StartAt,
};
pub use error::ClientError;
pub use group::{Assignor, GroupConsumer, GroupOptions};
pub use list_offsets::{FoundOffset, OffsetSpec, Unread};
pub use options::{ClientOptions, parse_bootstrap};
pub use partitioner::{Partitioner, Partitioning, PartitionsToChoose, murmur2};
pub use producer::{
    Acks, Delivery, Producer, ProducerOptions, ProducerRecord, ProducerStatistics, RecordMetadata,
};
