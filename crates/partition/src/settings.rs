//! What an operator may set about a replica, and the limits nobody may.
//!
//! Input: topic and broker configuration, resolved by the runtime. Output: the few values that the
//! state machine decides by.
//!
//! Invariant, held by the type of `min_insync_replicas`: at least one replica, the leader itself.
//!
//! Source: Kafka's topic configuration; `durability` is Skein's own.

use std::num::NonZeroU32;

use skein_config::{Durability, TimestampType};
use skein_types::Millis;

/// Most produces of one write: a `pwritev` takes 1,024 pieces (`IOV_MAX`), and each has one at
/// least.
pub const MAX_GROUP_BATCHES: usize = 1_024;

/// Most produces that wait for the high watermark of one partition.
///
/// At the bound the next one is refused before it is appended; about a megabyte is queued then.
pub const MAX_WAITING_PRODUCES: usize = 16_384;

/// How long a follower that was caught up a moment ago is waited for, because it is about to join
/// the ISR: without that, one that is a round trip behind a busy leader never would.
pub const JOIN_WAIT_MAX_MS: Millis = Millis(500);

/// How long a proposal of another ISR rests before it is made again when nobody answered it.
pub const ISR_RETRY_BACKOFF_MS: Millis = Millis(50);

/// How long a follower is not proposed again that the controller did not let into the ISR.
pub const INELIGIBLE_BACKOFF_MS: Millis = Millis(1_000);

/// How long produces still wait where the leadership went to another replica: it says in a moment
/// whether it has them. After this their producers had better ask it themselves.
pub const RESIGNED_WAIT_MAX_MS: Millis = Millis(1_000);

/// The settings of one replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaSettings {
    /// `min.insync.replicas`, as it was set: else it goes by how many replicas there are. More than
    /// there are means all of them.
    pub min_insync_replicas: Option<NonZeroU32>,
    /// `durability`.
    pub durability: Durability,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// Whether `DeleteRecords` is allowed: `cleanup.policy` is not `compact` alone.
    pub delete_records: bool,
    /// `replica.lag.time.max.ms`: a follower that was not caught up for so long leaves the ISR.
    pub replica_lag_time_max_ms: Millis,
    /// `broker.session.timeout.ms`: for so long a fetch says that its sender knows of no later
    /// leader.
    pub session_timeout_ms: Millis,
    /// `producer.id.expiration.ms`: a producer silent for so long is forgotten.
    pub producer_id_expiration_ms: Millis,
    /// `producer.id.expiration.check.interval.ms`: how often that is looked at.
    pub producer_id_expiration_check_interval_ms: Millis,
}
