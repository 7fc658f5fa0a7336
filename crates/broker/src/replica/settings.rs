//! A topic's configuration, as each layer below wants it.
//!
//! Input: `TopicConfig`. Output: the settings of the checks, of the state machine and of the log.
//!
//! Invariant: nothing is decided here; ranges were checked by `skein_config`.
//!
//! Source: Kafka's topic configuration.

use std::num::NonZeroU32;

use skein_config::{TimestampType, TopicConfig};
use skein_partition::ReplicaSettings;
use skein_record::ProducePolicy;
use skein_storage::LogConfig;
use skein_types::Millis;

/// What batches must be like.
pub(crate) fn produce_policy(config: &TopicConfig) -> ProducePolicy {
    ProducePolicy {
        max_message_bytes: config.max_message_bytes as usize,
        segment_bytes: config.segment_bytes as usize,
        timestamp_type: match config.message_timestamp_type {
            TimestampType::CreateTime => skein_record::TimestampType::CreateTime,
            TimestampType::LogAppendTime => skein_record::TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        timestamp_after_max_ms: config.message_timestamp_after_max_ms,
    }
}

/// How the state machine decides.
pub(crate) fn replica_settings(
    config: &TopicConfig,
    producer_id_expiration_ms: Millis,
) -> ReplicaSettings {
    let min_insync_replicas = config.min_insync_replicas.unwrap_or(1);
    ReplicaSettings {
        min_insync_replicas: NonZeroU32::new(u32::from(min_insync_replicas))
            .unwrap_or(NonZeroU32::MIN),
        durability: config.durability,
        timestamp_type: config.message_timestamp_type,
        delete_records: config.cleanup_policy.delete,
        producer_id_expiration_ms,
    }
}

/// How the log rolls, keeps and flushes.
pub(crate) fn log_config(config: &TopicConfig, producer_id_expiration_ms: Millis) -> LogConfig {
    LogConfig {
        producer_id_expiration_ms,
        ..LogConfig::from(config)
    }
}
