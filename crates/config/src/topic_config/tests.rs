//! Overrides, defaults and limits of topics.

use proptest::prelude::*;

use super::*;
use crate::Layers;

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn topic(pairs: &[(&str, &str)]) -> TopicConfig {
    TopicConfig::new(&BrokerConfig::default(), &overrides(pairs))
}

#[test]
fn the_defaults_are_kafkas() {
    let config = TopicConfig::default();
    assert_eq!(
        config.cleanup_policy,
        CleanupPolicy {
            compact: false,
            delete: true
        }
    );
    assert_eq!(config.compression_type, CompressionType::Producer);
    assert_eq!(config.delete_retention_ms, Millis(86_400_000));
    assert_eq!(config.durability, Durability::Replicated);
    assert_eq!(config.file_delete_delay_ms, Millis(60_000));
    assert_eq!((config.flush_messages, config.flush_ms), (None, None));
    assert_eq!(config.index_interval_bytes, 4096);
    assert_eq!(config.max_compaction_lag_ms, None);
    assert_eq!(config.max_message_bytes, 1_048_588);
    assert_eq!(config.message_timestamp_after_max_ms, Millis(3_600_000));
    assert_eq!(config.message_timestamp_before_max_ms, Millis(i64::MAX));
    assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
    assert_eq!(config.retention_bytes, None);
    assert_eq!(config.retention_ms, Some(Millis(604_800_000)));
    assert_eq!(config.segment_bytes, 1 << 30);
    assert_eq!(config.segment_index_bytes, 10 << 20);
    assert_eq!(config.segment_jitter_ms, Millis(0));
    assert_eq!(config.segment_ms, Millis(604_800_000));
    assert!(!config.unclean_leader_election_enable && !config.preallocate);
}

#[test]
fn an_override_goes_before_the_brokers_value() {
    let layers = Layers::new()
        .set("log.segment.bytes=2000000")
        .set("compression.type=lz4")
        .set("log.flush.scheduler.interval.ms=50")
        .set("min.insync.replicas=3");
    let (broker, _) = layers.build().unwrap();
    let plain = TopicConfig::new(&broker, &Overrides::new());
    assert_eq!(plain, *broker.topic_defaults);
    assert_eq!(plain.segment_bytes, 2_000_000);
    assert_eq!(plain.compression_type, CompressionType::Lz4(9));
    assert_eq!(plain.flush_ms, Some(Millis(50)));
    let own = overrides(&[
        ("segment.bytes", "3000000"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "-5"),
        ("flush.ms", "9"),
        ("min.insync.replicas", "1"),
        ("cleanup.policy", "compact, delete"),
        ("durability", "flushed"),
        ("message.timestamp.type", "LogAppendTime"),
        ("retention.ms", "-1"),
        ("retention.bytes", "0"),
    ]);
    let config = TopicConfig::new(&broker, &own);
    assert_eq!(config.segment_bytes, 3_000_000);
    assert_eq!(config.compression_type, CompressionType::Zstd(-5));
    assert_eq!(config.flush_ms, Some(Millis(9)));
    assert_eq!(config.min_insync_replicas, Some(1));
    assert_eq!(
        config.cleanup_policy,
        CleanupPolicy {
            compact: true,
            delete: true
        }
    );
    assert_eq!(config.durability, Durability::Flushed);
    assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(config.retention_ms, None);
    assert_eq!(config.retention_bytes, Some(0));
}

#[test]
fn the_internal_segment_size_goes_below_the_least_and_before_the_other() {
    let both = [
        ("segment.bytes", "2000000"),
        ("internal.segment.bytes", "100"),
    ];
    assert_eq!(topic(&both).segment_bytes, 100);
    assert_eq!(
        topic(&[("segment.bytes", "100")]).segment_bytes,
        1 << 30,
        "below the least"
    );
}

#[test]
fn a_batch_is_never_allowed_that_the_broker_cannot_receive() {
    assert_eq!(
        topic(&[("max.message.bytes", "2147483647")]).max_message_bytes,
        67_108_864
    );
    let layers = Layers::new().set("socket.request.max.bytes=2000000");
    let (broker, _) = layers.build().unwrap();
    let config = TopicConfig::new(&broker, &overrides(&[("max.message.bytes", "3000000")]));
    assert_eq!(config.max_message_bytes, 2_000_000);
}

#[test]
fn min_insync_replicas_depends_on_the_replicas_and_is_never_above_them() {
    let by_default = TopicConfig::default();
    let effective = |config: &TopicConfig| -> Vec<u16> {
        (0..=5)
            .map(|replicas| config.effective_min_insync_replicas(replicas))
            .collect()
    };
    assert_eq!(effective(&by_default), [0, 1, 1, 2, 2, 2]);
    assert_eq!(
        effective(&topic(&[("min.insync.replicas", "4")])),
        [0, 1, 2, 3, 4, 4]
    );
    assert_eq!(
        effective(&topic(&[("min.insync.replicas", "1")])),
        [0, 1, 1, 1, 1, 1]
    );
}

proptest! {
    #[test]
    fn no_override_makes_reading_panic(
        pairs in prop::collection::vec(
            (
                prop::sample::select(keys::of_topics().map(|key| key.name).collect::<Vec<_>>()),
                prop_oneof![any::<i64>().prop_map(|number| number.to_string()), "\\PC{0,12}"],
            ),
            0..8,
        )
    ) {
        let own = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let config = TopicConfig::new(&BrokerConfig::default(), &own);
        prop_assert!(config.max_message_bytes <= 67_108_864);
    }
}
