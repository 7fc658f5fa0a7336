//! Reading any allowed value, defaults that differ from Kafka's, dynamic settings.

use std::collections::BTreeMap;
use std::path::Path;

use skein_types::Millis;

use super::*;
use crate::Layers;
use crate::key::{AllowedValues, ConfigType};

fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn the_defaults_that_differ_from_kafkas_are_those_of_the_design() {
    let config = BrokerConfig::default();
    assert_eq!(config.replica.heartbeat_interval_ms, Millis(400));
    assert_eq!(config.replica.session_timeout_ms, Millis(2_000));
    assert_eq!(config.replica.lag_time_max_ms, Millis(10_000));
    assert_eq!(
        config.network.listeners[0].to_string(),
        "PLAINTEXT://127.0.0.1:9092"
    );
    assert_eq!(config.network.peer_listener.to_string(), "127.0.0.1:9192");
    assert_eq!(
        config.network.http_listener.as_ref().unwrap().to_string(),
        "127.0.0.1:9292"
    );
    assert_eq!(config.node.log_dir, Path::new("./skein-data"));
    assert_eq!(
        config.node.metadata_log_dir,
        Path::new("./skein-data/metadata")
    );
    for (brokers, replicas, min_isr) in [(0, 1, 1), (1, 1, 1), (2, 2, 1), (3, 3, 2), (9, 3, 2)] {
        assert_eq!(config.topics.replication_factor(brokers), replicas);
        assert_eq!(config.offsets.replication_factor(brokers), replicas);
        assert_eq!(config.transaction.replication_factor(brokers), replicas);
        assert_eq!(config.transaction.min_isr(brokers), min_isr);
    }
    let threads = [(1, 4), (2, 4), (3, 6), (64, 128), (u16::MAX, 1024)];
    for (cores, expected) in threads {
        assert_eq!(config.network.network_threads(cores), expected);
    }
}

#[test]
fn any_allowed_value_of_any_key_can_be_read() {
    for key in keys::of_brokers() {
        for value in extreme_values(key) {
            assert!(key.parse(&value).is_some(), "{}={value}", key.name);
            // Conflicts are fine here; panics are not.
            let _ = Layers::new().set(&format!("{}={value}", key.name)).build();
            let _ = BrokerConfig::default()
                .with_dynamic(overrides(&[(key.name, &value)]), BTreeMap::new());
        }
    }
}

fn extreme_values(key: &crate::Key) -> Vec<String> {
    let (type_min, type_max) = key.config_type.range();
    match (key.config_type, key.allowed) {
        (_, AllowedValues::Between(min, max)) => vec![min.to_string(), max.to_string()],
        (_, AllowedValues::BetweenOr(min, max, other)) => {
            vec![min.to_string(), max.to_string(), other.to_string()]
        }
        (_, AllowedValues::Ratio(min, max)) => vec![format!("{min:?}"), format!("{max:?}")],
        (_, AllowedValues::OneOf(words)) => words.iter().map(ToString::to_string).collect(),
        (ConfigType::Boolean, _) => vec!["true".to_owned(), "FALSE".to_owned()],
        (ConfigType::Int | ConfigType::Long | ConfigType::Short, _) => {
            vec![type_min.to_string(), type_max.to_string()]
        }
        (ConfigType::List, _) => vec![String::new()],
        _ => vec!["text".to_owned()]
            .into_iter()
            .filter(|text| key.parse(text).is_some())
            .collect(),
    }
}

#[test]
fn times_in_coarse_units_count_where_finer_ones_are_not_set() {
    let retention = |options: &[&str]| {
        let layers = options
            .iter()
            .fold(Layers::new(), |layers, option| layers.set(option));
        layers.build().unwrap().0.topic_defaults.retention_ms
    };
    assert_eq!(retention(&[]), Some(Millis(604_800_000)));
    assert_eq!(
        retention(&["log.retention.hours=1"]),
        Some(Millis(3_600_000))
    );
    let minutes = ["log.retention.hours=1", "log.retention.minutes=2"];
    assert_eq!(retention(&minutes), Some(Millis(120_000)));
    let millis = ["log.retention.minutes=2", "log.retention.ms=3"];
    assert_eq!(retention(&millis), Some(Millis(3)));
    assert_eq!(retention(&["log.retention.hours=-1"]), None);
    assert_eq!(
        retention(&["log.retention.ms=-1", "log.retention.hours=1"]),
        None
    );
    assert_eq!(
        retention(&["log.retention.hours=2147483647"]),
        Some(Millis(7_730_941_129_200_000))
    );
}

#[test]
fn dynamic_settings_go_before_static_ones_and_bad_ones_do_not_count() {
    let (config, _) = Layers::new()
        .set("log.segment.bytes=2000000")
        .set("num.partitions=2")
        .build()
        .unwrap();
    let all = overrides(&[
        ("log.segment.bytes", "3000000"),
        ("message.max.bytes", "7"),
        ("num.partitions", "9"),
        ("of.a.later.version", "1"),
    ]);
    let this = overrides(&[
        ("log.segment.bytes", "4000000"),
        ("message.max.bytes", "seven"),
    ]);
    let dynamic = config.with_dynamic(all.clone(), this);
    assert_eq!(
        dynamic.topic_defaults.segment_bytes, 4_000_000,
        "this broker's goes first"
    );
    assert_eq!(
        dynamic.topic_defaults.max_message_bytes, 7,
        "an invalid one does not count"
    );
    assert_eq!(dynamic.topics.num_partitions, 2, "it is read-only");
    let dynamic = dynamic.with_dynamic(all, BTreeMap::new());
    assert_eq!(dynamic.topic_defaults.segment_bytes, 3_000_000);
    let back = dynamic.with_dynamic(BTreeMap::new(), BTreeMap::new());
    assert_eq!(back.topic_defaults.segment_bytes, 2_000_000);
}

#[test]
fn listeners_get_their_protocols_and_advertised_addresses() {
    let (config, _) = Layers::new()
        .set("listeners=IN://127.0.0.1:0,OUT://:9092")
        .set("advertised.listeners=out://kafka.example:19092")
        .set("listener.security.protocol.map=in:plaintext,out:PLAINTEXT")
        .set("max.connections.per.ip.overrides=10.0.0.1:5,::1:0")
        .build()
        .unwrap();
    let shown = |listeners: &[crate::Listener]| -> Vec<_> {
        listeners.iter().map(ToString::to_string).collect()
    };
    let network = &config.network;
    assert_eq!(
        shown(&network.listeners),
        ["IN://127.0.0.1:0", "OUT://0.0.0.0:9092"]
    );
    assert_eq!(
        shown(&network.advertised_listeners),
        ["IN://127.0.0.1:0", "OUT://kafka.example:19092"]
    );
    let limits = [("10.0.0.1".to_owned(), 5), ("::1".to_owned(), 0)];
    assert_eq!(network.max_connections_per_ip_overrides, limits);
}
