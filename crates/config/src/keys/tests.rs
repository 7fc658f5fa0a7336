//! The promises of the table.

use std::collections::BTreeSet;

use super::*;
use crate::key::{DefaultValue, Facts};

#[test]
fn names_are_unique_within_brokers_topics_and_groups() {
    for keys in [
        of_brokers().collect::<Vec<_>>(),
        of_topics().collect(),
        of_groups().collect(),
    ] {
        let names: BTreeSet<_> = keys.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), keys.len());
    }
    let both: Vec<_> = all()
        .filter(|key| key.scope == Scope::Both)
        .map(|key| key.name)
        .collect();
    for name in both {
        assert_eq!(all().filter(|key| key.name == name).count(), 1, "{name}");
    }
}

#[test]
fn every_key_has_documentation_in_sentences() {
    for key in all() {
        assert!(key.doc.len() > 20, "{}", key.name);
        assert!(
            key.doc.ends_with('.') || key.doc.ends_with('?'),
            "{}",
            key.name
        );
        assert!(
            !key.doc.contains("  "),
            "{}: a continued line without its backslash",
            key.name
        );
    }
}

#[test]
fn every_default_passes_the_check_of_its_own_key() {
    for key in all() {
        if let DefaultValue::Value(text) = key.default {
            assert!(key.parse(text).is_some(), "{} = {text}", key.name);
        }
        for (brokers, cores) in [(1, 1), (2, 3), (3, 64), (u16::MAX, u16::MAX)] {
            let text = key.default_text(Facts { brokers, cores });
            let is_allowed = text.as_ref().is_none_or(|text| key.parse(text).is_some());
            assert!(is_allowed, "{} = {text:?}", key.name);
        }
    }
}

#[test]
fn every_synonym_is_a_broker_key_whose_default_is_in_range() {
    for key in all() {
        for synonym in key.synonyms {
            let broker_key = broker(synonym.name).unwrap();
            assert!(synonym.factor > 0);
            if let Some(value) = broker_key.default_value().and_then(|value| value.as_int()) {
                let scaled = if value < 0 {
                    value
                } else {
                    value.saturating_mul(synonym.factor)
                };
                assert!(
                    key.parse(&scaled.to_string()).is_some(),
                    "{} = {scaled}",
                    key.name
                );
            }
        }
    }
}

#[test]
fn names_are_such_that_environment_variables_tell_them_apart() {
    for key in all() {
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.');
        assert!(key.name.bytes().all(is_plain), "{}", key.name);
    }
    assert_eq!(
        broker("log.segment.bytes").unwrap().environment_variable(),
        "SKEIN_LOG_SEGMENT_BYTES"
    );
}

#[test]
fn a_key_that_skein_does_without_is_not_one_of_its_own() {
    for (name, reason) in absent::KEYS {
        assert!(broker(name).is_none() && topic(name).is_none(), "{name}");
        assert!(!reason.is_empty());
    }
    for (prefix, reason) in absent::PREFIXES {
        assert!(all().all(|key| !key.name.starts_with(prefix)), "{prefix}");
        assert!(!reason.is_empty());
    }
}

#[test]
fn every_key_of_kafkas_that_skein_does_without_says_why() {
    let names = include_str!("kafka_4_1_1_others.txt").lines();
    for name in names.filter(|line| !line.starts_with('#')) {
        let told = require_broker(name, &Origin::CommandLine).unwrap_err();
        assert!(told.to_string().contains("does without: "), "{told}");
    }
}

#[test]
fn a_stranger_is_told_what_was_probably_meant() {
    let ask = |name| {
        require_broker(name, &Origin::CommandLine)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        ask("log.segmnet.bytes"),
        r#"--set: unknown key "log.segmnet.bytes"; did you mean "log.segment.bytes"?"#
    );
    assert_eq!(ask("zzz"), r#"--set: unknown key "zzz""#);
    assert_eq!(
        ask("broker.id"),
        r#"--set: "broker.id" is a key of Kafka that Skein does without: use node.id"#
    );
    for name in ["share.coordinator.threads", "group.share.max.size"] {
        assert_eq!(
            ask(name),
            format!(
                "--set: {name:?} is a key of Kafka that Skein does without: share groups are not \
                 served; remove it"
            )
        );
    }
    assert_eq!(
        ask("retention.ms"),
        "--set: \"retention.ms\" can't be set here: it belongs to a topic; \"log.retention.ms\" is \
         the broker's default for its topics"
    );
    let ask = |name| {
        require_topic(name, &Origin::Request)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        ask("retention.msx"),
        r#"unknown key "retention.msx"; did you mean "retention.ms"?"#
    );
    assert_eq!(
        ask("log.roll.hours"),
        "\"log.roll.hours\" can't be set here: it belongs to a broker; the topic's own is \
         \"segment.ms\""
    );
}

/// Scope, name, type and default of Kafka's keys.
fn kafkas() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    let lines = include_str!("kafka_4_1_1.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or("");
        (word(), word(), word(), word())
    })
}

fn key_of(scope: &str, name: &str) -> &'static Key {
    let key = match scope {
        "topic" => topic(name),
        "group" => group(name),
        _ => broker(name),
    };
    key.unwrap()
}

#[test]
fn topics_have_all_of_kafkas_keys_and_some_of_our_own() {
    let kafkas: BTreeSet<_> = kafkas()
        .filter(|(scope, ..)| *scope == "topic")
        .map(|(_, name, ..)| name)
        .collect();
    let ours: BTreeSet<_> = of_topics().map(|key| key.name).collect();
    assert_eq!(
        ours.difference(&kafkas).collect::<Vec<_>>(),
        [
            &"durability",
            &"redacted.records",
            &"segment.fill.after.bytes"
        ]
    );
    assert_eq!(kafkas.difference(&ours).count(), 0);
}

#[test]
fn groups_have_kafkas_keys_and_no_other() {
    let kafkas = kafkas().filter(|(scope, ..)| *scope == "group");
    let kafkas: BTreeSet<_> = kafkas.map(|(_, name, ..)| name).collect();
    let ours: BTreeSet<_> = of_groups().map(|key| key.name).collect();
    assert_eq!(ours, kafkas);
}

#[test]
fn a_default_that_is_not_kafkas_says_so() {
    let mut known = BTreeSet::new();
    for (scope, name, _, kafkas_default) in kafkas() {
        let key = key_of(scope, name);
        known.insert(name);
        let ours = match key.default {
            DefaultValue::Null => "null",
            DefaultValue::Value(text) => text,
            DefaultValue::Computed(_) => "computed",
        };
        let is_same = ours == kafkas_default
            || (kafkas_default == "<none>" && key.default == DefaultValue::Null);
        assert!(
            is_same || key.doc.contains("Kafka"),
            "{name}: {ours}, Kafka's is {kafkas_default}"
        );
    }
    for key in all().filter(|key| !known.contains(key.name)) {
        assert!(key.doc.contains("Skein's own key"), "{}", key.name);
    }
}

#[test]
fn types_are_kafkas() {
    for (scope, name, config_type, _) in kafkas() {
        let key = key_of(scope, name);
        assert_eq!(key.told_type.name(), config_type, "{name}");
    }
}
