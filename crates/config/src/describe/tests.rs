//! Values, sources and synonyms as a client sees them.

use super::*;
use crate::Layers;
use crate::settings::Settings;

const FACTS: Facts = Facts {
    brokers: 3,
    cores: 2,
};

fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A row: name, value, source, then the synonyms.
fn row(entry: &ConfigEntry) -> String {
    let synonyms: Vec<_> = entry
        .synonyms
        .iter()
        .map(|one| {
            format!(
                "{}={} {:?}",
                one.name,
                one.value.as_deref().unwrap_or("?"),
                one.source
            )
        })
        .collect();
    let value = entry.value.as_deref().unwrap_or("null");
    format!(
        "{}={value} {:?} [{}]",
        entry.name,
        entry.source,
        synonyms.join("; ")
    )
}

fn topic_row(config: &BrokerConfig, own: &[(&str, &str)], name: &str) -> String {
    let names = [name.to_owned()];
    let entries = describe_topic(config, &overrides(own), Some(&names), FACTS, 3);
    assert_eq!(entries.len(), 1);
    row(&entries[0])
}

fn broker_row(config: &BrokerConfig, name: &str) -> String {
    row(&describe_broker(config, Some(&[name.to_owned()]), FACTS)[0])
}

#[test]
fn a_topics_value_comes_from_the_nearest_layer_and_all_are_listed() {
    let (config, _) = Layers::new()
        .set("log.segment.bytes=2000000")
        .build()
        .unwrap();
    assert_eq!(
        topic_row(&config, &[], "segment.bytes"),
        "segment.bytes=2000000 StaticBroker [log.segment.bytes=2000000 StaticBroker; \
         log.segment.bytes=1073741824 Default]"
    );
    let config = config.with_dynamic(
        overrides(&[("log.segment.bytes", "3000000")]),
        overrides(&[("log.segment.bytes", "4000000")]),
    );
    assert_eq!(
        topic_row(&config, &[("segment.bytes", "5000000")], "segment.bytes"),
        "segment.bytes=5000000 DynamicTopic [segment.bytes=5000000 DynamicTopic; \
         log.segment.bytes=4000000 DynamicBroker; log.segment.bytes=3000000 DynamicDefaultBroker; \
         log.segment.bytes=2000000 StaticBroker; log.segment.bytes=1073741824 Default]"
    );
}

#[test]
fn a_value_is_in_the_keys_units_and_its_synonyms_in_theirs() {
    let config = BrokerConfig::default();
    assert_eq!(
        topic_row(&config, &[], "retention.ms"),
        "retention.ms=604800000 Default [log.retention.hours=168 Default]"
    );
    assert_eq!(
        broker_row(&config, "log.retention.ms"),
        "log.retention.ms=null Default [log.retention.hours=168 Default]"
    );
    let (config, _) = Layers::new().set("log.retention.hours=-1").build().unwrap();
    assert_eq!(
        topic_row(&config, &[], "retention.ms"),
        "retention.ms=-1 StaticBroker [log.retention.hours=-1 StaticBroker; \
         log.retention.hours=168 Default]"
    );
}

#[test]
fn a_computed_default_shows_its_number() {
    let config = BrokerConfig::default();
    assert_eq!(
        topic_row(&config, &[], "min.insync.replicas"),
        "min.insync.replicas=2 Default [min.insync.replicas=2 Default]"
    );
    let one = describe_topic(&config, &overrides(&[]), None, FACTS, 1);
    let one = one
        .iter()
        .find(|entry| entry.name == "min.insync.replicas")
        .unwrap();
    assert_eq!(one.value.as_deref(), Some("1"));
    assert_eq!(
        broker_row(&config, "default.replication.factor"),
        "default.replication.factor=3 Default [default.replication.factor=3 Default]"
    );
    assert_eq!(
        topic_row(
            &config,
            &[("min.insync.replicas", "1")],
            "min.insync.replicas"
        ),
        "min.insync.replicas=1 DynamicTopic [min.insync.replicas=1 DynamicTopic; \
         min.insync.replicas=2 Default]"
    );
}

#[test]
fn every_key_is_described_once_and_strangers_are_left_out() {
    let config = BrokerConfig::default();
    let all = describe_broker(&config, None, FACTS);
    assert_eq!(
        all.len(),
        keys::of_brokers().filter(|key| !key.internal).count()
    );
    assert!(all.iter().all(|entry| !entry.documentation.is_empty()));
    assert!(describe_broker(&config, Some(&["no.such.key".to_owned()]), FACTS).is_empty());
    assert!(describe_broker(&config, Some(&[]), FACTS).is_empty());

    let none = describe_topic(&config, &overrides(&[]), None, FACTS, 1);
    assert!(
        none.iter()
            .all(|entry| entry.name != "internal.segment.bytes" && !entry.read_only)
    );
    let own = overrides(&[("internal.segment.bytes", "5")]);
    let set = describe_topic(&config, &own, None, FACTS, 1);
    assert_eq!(
        set.len(),
        none.len() + 1,
        "an internal key shows where it is set"
    );
}

#[test]
fn static_keys_are_read_only_and_dynamic_ones_are_not() {
    let all = describe_broker(&BrokerConfig::default(), None, FACTS);
    let read_only = |name: &str| {
        all.iter()
            .find(|entry| entry.name == name)
            .unwrap()
            .read_only
    };
    assert!(read_only("listeners") && read_only("num.partitions"));
    assert!(!read_only("log.segment.bytes") && !read_only("max.connections"));
}

#[test]
fn a_secret_is_never_shown() {
    static SECRET: Key = Key::broker("a.password", ConfigType::Password)
        .dynamic()
        .doc("Not in the table.");
    let settings = Settings {
        dynamic_broker: overrides(&[("a.password", "hush")]),
        ..Settings::default()
    };
    let all = settings.candidates(&SECRET);
    assert_eq!(all[0].value.to_string(), "hush");
    let entry = entry(&SECRET, all.first(), &all, None, false);
    assert_eq!(
        row(&entry),
        "a.password=null DynamicBroker [a.password=? DynamicBroker]"
    );
    assert!(entry.sensitive);
    let error = crate::layers::check_value(&SECRET, "fine", &crate::Origin::Request);
    assert_eq!(error, Ok(()));
}

#[test]
fn what_a_group_inherits_passes_for_its_default() {
    let (config, _) = Layers::new()
        .set("group.consumer.heartbeat.interval.ms=6000")
        .build()
        .unwrap();
    let told = |own: &[(&str, &str)], name: &str| {
        row(&describe_group(&config, &overrides(own), Some(&[name.to_owned()]))[0])
    };
    let interval = "consumer.heartbeat.interval.ms";
    assert_eq!(
        told(&[], interval),
        "consumer.heartbeat.interval.ms=6000 Default [consumer.heartbeat.interval.ms=6000 Default]"
    );
    assert_eq!(
        told(&[(interval, "7000")], interval),
        "consumer.heartbeat.interval.ms=7000 Group [consumer.heartbeat.interval.ms=7000 Group]"
    );
    assert_eq!(
        told(&[], "share.isolation.level"),
        "share.isolation.level=read_uncommitted Default \
         [share.isolation.level=read_uncommitted Default]"
    );
}
