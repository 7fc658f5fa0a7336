//! The entries of DescribeConfigs.
//!
//! Input: the settings of a broker, the overrides of a topic, and the names a client asked for.
//! Output: one entry for each key, with its effective value, where that comes from, and what stands
//! behind it.
//!
//! Invariants, checked by the tests of this file: the value is that of the first synonym, in the
//! key's own units; a secret's value is never shown, neither in the entry nor in its synonyms; a
//! computed default shows its number.
//!
//! Source: KIP-133, KIP-226 and KIP-569; the numbers of `DescribeConfigsResponse.ConfigSource`.

use std::collections::BTreeMap;

use crate::broker_config::BrokerConfig;
use crate::key::{ConfigType, DefaultValue, Facts, Key, Rule, min_insync_replicas};
use crate::keys;
use crate::settings::{Candidate, in_units_of};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// An override of the topic.
    DynamicTopic = 1,
    /// A dynamic setting of this broker.
    DynamicBroker = 2,
    /// A dynamic setting of all brokers.
    DynamicDefaultBroker = 3,
    /// File, environment or command line of the broker.
    StaticBroker = 4,
    /// The default.
    Default = 5,
    /// The level of a logger, set or not.
    DynamicBrokerLogger = 6,
    /// An override of the group.
    Group = 8,
}

impl ConfigSource {
    /// The number that DescribeConfigs carries.
    #[must_use]
    pub const fn code(self) -> i8 {
        self as i8
    }
}

/// What DescribeConfigs tells of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key's name.
    pub name: &'static str,
    /// The effective value; `None` where there is none, or where it is secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether IncrementalAlterConfigs can't change it.
    pub read_only: bool,
    /// Whether the value is secret.
    pub sensitive: bool,
    /// The type of the value.
    pub config_type: ConfigType,
    /// Every value that was set or is a default, the one that counts first.
    pub synonyms: Vec<ConfigSynonym>,
    /// What the key does.
    pub documentation: String,
}

/// One of the values behind a [`ConfigEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The key under which it stands.
    pub name: &'static str,
    /// The value, in that key's units; `None` where it is secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
}

/// The keys of a broker; of those in `names`, or all. Names that are no keys are left out, as in
/// Kafka.
#[must_use]
pub fn describe_broker(
    config: &BrokerConfig,
    names: Option<&[String]>,
    facts: Facts,
) -> Vec<ConfigEntry> {
    keys::of_brokers()
        .filter(|key| is_asked_for(key, names))
        .map(|key| {
            let computed = computed_default(key, facts, None);
            let own = config.settings().candidates(key);
            let all = config.settings().candidates_with_synonyms(key);
            entry(key, own.first(), &all, computed, !key.dynamic)
        })
        .collect()
}

/// The keys of a topic; of those in `names`, or all. `replicas` is its replication factor.
#[must_use]
pub fn describe_topic(
    config: &BrokerConfig,
    overrides: &BTreeMap<String, String>,
    names: Option<&[String]>,
    facts: Facts,
    replicas: u16,
) -> Vec<ConfigEntry> {
    keys::of_topics()
        .filter(|key| is_asked_for(key, names) || key.internal && overrides.contains_key(key.name))
        .map(|key| {
            let computed = computed_default(key, facts, Some(replicas));
            let all = config.settings().overridden_candidates(key, overrides);
            // A key that brokers know nothing of has no synonyms, not even its own default.
            let has_synonyms = key.is_broker() || !key.synonyms.is_empty();
            let is_told = |one: &&Candidate| has_synonyms || one.source != ConfigSource::Default;
            let synonyms: Vec<_> = all.iter().filter(is_told).cloned().collect();
            entry(key, all.first(), &synonyms, computed, false)
        })
        .collect()
}

/// The keys of a group; of those in `names`, or all.
#[must_use]
pub fn describe_group(
    config: &BrokerConfig,
    overrides: &BTreeMap<String, String>,
    names: Option<&[String]>,
) -> Vec<ConfigEntry> {
    keys::of_groups()
        .filter(|key| is_asked_for(key, names))
        .map(|key| {
            let mut all = config.settings().overridden_candidates(key, overrides);
            // Kafka tells what a group inherits from its brokers as if it were a default, and
            // nothing of what stands behind the value.
            all.truncate(1);
            for inherited in all.iter_mut().filter(|one| one.key.name != key.name) {
                inherited.value = in_units_of(key, inherited);
                inherited.key = key;
                inherited.source = ConfigSource::Default;
            }
            entry(key, all.first(), &all, None, false)
        })
        .collect()
}

fn is_asked_for(key: &Key, names: Option<&[String]>) -> bool {
    names.map_or(!key.internal, |names| {
        names.iter().any(|name| name == key.name)
    })
}

/// The number of a default that depends on something, as text.
fn computed_default(key: &Key, facts: Facts, replicas: Option<u16>) -> Option<String> {
    match (key.default, replicas) {
        (DefaultValue::Computed(Rule::MinInsyncReplicas), Some(replicas)) => {
            Some(min_insync_replicas(replicas).to_string())
        }
        (DefaultValue::Computed(rule), _) => Some(rule.compute(facts).to_string()),
        _ => None,
    }
}

fn entry(
    key: &'static Key,
    first: Option<&Candidate>,
    all: &[Candidate],
    computed: Option<String>,
    read_only: bool,
) -> ConfigEntry {
    let shown = |key: &Key, text: String| (!key.is_sensitive()).then_some(text);
    let mut synonyms: Vec<_> = all
        .iter()
        .map(|candidate| ConfigSynonym {
            name: candidate.key.name,
            value: shown(candidate.key, candidate.value.to_string()),
            source: candidate.source,
        })
        .collect();
    synonyms.extend(computed.clone().map(|value| ConfigSynonym {
        name: key.name,
        value: Some(value),
        source: ConfigSource::Default,
    }));
    let value = first
        .map(|candidate| in_units_of(key, candidate).to_string())
        .or(computed);
    ConfigEntry {
        name: key.name,
        value: value.and_then(|value| shown(key, value)),
        source: first.map_or(ConfigSource::Default, |candidate| candidate.source),
        read_only,
        sensitive: key.is_sensitive(),
        config_type: key.told_type,
        synonyms,
        documentation: key.documentation(),
    }
}

#[cfg(test)]
mod tests;
