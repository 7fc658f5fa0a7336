//! A topic's configuration, as the layers below want it.
//!
//! Input: the topic's configuration and, of the broker's, what replicas go by. Output: the settings
//! of the checks and of the state machine.
//!
//! Invariant: nothing is decided here; ranges were checked by `skein_config`.
//!
//! Source: Kafka's topic configuration.

use std::num::NonZeroU32;
use std::sync::Arc;

use skein_config::{CompressionType, ReplicaConfig, TimestampType, TopicConfig, TransactionConfig};
use skein_partition::ReplicaSettings;
use skein_record::{Codec, Compression, ProducePolicy};
use skein_storage::CompactionSettings;

/// What a replica is configured by, under the dynamic settings of the image that it follows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FollowedConfig {
    /// The topic's.
    pub(crate) topic: TopicConfig,
    /// The broker's, of producers.
    pub(crate) transaction: Arc<TransactionConfig>,
    /// The broker's, of replication.
    pub(crate) replication: Arc<ReplicaConfig>,
}

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

/// The codec that batches are packed in, where it is not their producer's.
pub(crate) fn forced_compression(config: &TopicConfig) -> Option<Compression> {
    let (codec, level) = match config.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => (Codec::None, None),
        CompressionType::Gzip(level) => (Codec::Gzip, level.map(i32::from)),
        CompressionType::Snappy => (Codec::Snappy, None),
        CompressionType::Lz4(level) => (Codec::Lz4, Some(i32::from(level))),
        CompressionType::Zstd(level) => (Codec::Zstd, Some(level)),
    };
    Some(Compression { codec, level })
}

/// When the log is compacted.
pub(crate) fn compaction(config: &TopicConfig) -> CompactionSettings {
    CompactionSettings {
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        delete_retention_ms: config.delete_retention_ms,
    }
}

/// How the state machine decides.
pub(crate) fn replica_settings(config: &FollowedConfig) -> ReplicaSettings {
    let FollowedConfig {
        topic: config,
        transaction,
        replication,
    } = config;
    let min_insync_replicas = config.min_insync_replicas.map(u32::from);
    ReplicaSettings {
        min_insync_replicas: min_insync_replicas.and_then(NonZeroU32::new),
        durability: config.durability,
        timestamp_type: config.message_timestamp_type,
        delete_records: config.cleanup_policy.delete,
        replica_lag_time_max_ms: replication.lag_time_max_ms,
        session_timeout_ms: replication.session_timeout_ms,
        producer_id_expiration_ms: transaction.producer_id_expiration_ms,
        producer_id_expiration_check_interval_ms: transaction
            .producer_id_expiration_check_interval_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skein_config::BrokerConfig;
    use std::collections::BTreeMap;

    #[test]
    fn min_isr_that_nobody_has_set_goes_by_the_replicas() {
        let min_isr = |overrides: &[(&str, &str)]| {
            let overrides = overrides.iter();
            let overrides = overrides.map(|(key, value)| ((*key).into(), (*value).into()));
            let broker = BrokerConfig::default();
            replica_settings(&FollowedConfig {
                topic: TopicConfig::new(&broker, &overrides.collect::<BTreeMap<_, _>>()),
                transaction: Arc::clone(&broker.transaction),
                replication: Arc::clone(&broker.replica),
            })
            .min_insync_replicas
        };
        assert_eq!(min_isr(&[]), None);
        assert_eq!(
            min_isr(&[("min.insync.replicas", "1")]),
            Some(NonZeroU32::MIN)
        );
    }
}
