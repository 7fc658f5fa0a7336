//! The values that were set, layer by layer.
//!
//! Input: the static settings of a broker (file, environment, `--set`) and the dynamic ones of the
//! metadata. Output: which value a key has, and where it comes from.
//!
//! A broker key's value is the first that is set among: its own dynamic value for this broker, the
//! dynamic value for all brokers, the static value, the default. A key of a topic or a group looks
//! at the override there first, then at each of its broker synonyms in this way.
//!
//! Invariant, held by [`Settings::candidates`]: a value that its key does not take (from metadata
//! that another version wrote) counts as not set, everywhere alike.
//!
//! Source: KIP-226.

use std::collections::BTreeMap;

use crate::describe::ConfigSource;
use crate::key::{Key, Scope};
use crate::keys;
use crate::layers::Setting;
use crate::value::Value;

/// Overrides of a topic or a group, or dynamic settings of brokers: key to value, as the metadata
/// holds them.
pub(crate) type Overrides = BTreeMap<String, String>;

/// What was set on one broker.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub(crate) fixed: BTreeMap<&'static str, Setting>,
    pub(crate) dynamic_default: Overrides,
    pub(crate) dynamic_broker: Overrides,
}

/// A value that a key has in one layer.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The key under which it was found: the key asked for, or a synonym.
    pub(crate) key: &'static Key,
    pub(crate) value: Value,
    pub(crate) source: ConfigSource,
}

impl Settings {
    /// The value of a broker key, if it is set or has a fixed default.
    pub(crate) fn value(&self, key: &'static Key) -> Option<Value> {
        self.candidates(key)
            .into_iter()
            .next()
            .map(|candidate| candidate.value)
    }

    /// The value of a key of a topic or a group: the override, else the broker's, else the key's
    /// own default.
    pub(crate) fn overridden_value(
        &self,
        key: &'static Key,
        overrides: &Overrides,
    ) -> Option<Value> {
        let first = self
            .overridden_candidates(key, overrides)
            .into_iter()
            .next()?;
        Some(in_units_of(key, &first))
    }

    /// The values of a broker key under its own name, the one that counts first.
    pub(crate) fn candidates(&self, key: &'static Key) -> Vec<Candidate> {
        let dynamic = |overrides: &Overrides| {
            let text = overrides.get(key.name).filter(|_| key.dynamic)?;
            key.parse(text)
        };
        let layers = [
            (dynamic(&self.dynamic_broker), ConfigSource::DynamicBroker),
            (
                dynamic(&self.dynamic_default),
                ConfigSource::DynamicDefaultBroker,
            ),
            (
                self.fixed
                    .get(key.name)
                    .and_then(|setting| key.parse(&setting.value)),
                ConfigSource::StaticBroker,
            ),
            (key.default_value(), ConfigSource::Default),
        ];
        layers
            .into_iter()
            .filter_map(|(value, source)| {
                Some(Candidate {
                    key,
                    value: value?,
                    source,
                })
            })
            .collect()
    }

    /// The values of a broker key under its own name and those of its synonyms.
    pub(crate) fn candidates_with_synonyms(&self, key: &'static Key) -> Vec<Candidate> {
        let synonyms = key
            .synonyms
            .iter()
            .filter_map(|synonym| keys::broker(synonym.name));
        std::iter::once(key)
            .chain(synonyms)
            .flat_map(|name| self.candidates(name))
            .collect()
    }

    /// The values of a key of a topic or a group under its own name and those of its broker
    /// synonyms.
    ///
    /// Its own default stands at the end only where no broker key stands in for it.
    pub(crate) fn overridden_candidates(
        &self,
        key: &'static Key,
        overrides: &Overrides,
    ) -> Vec<Candidate> {
        let own = overrides.get(key.name).and_then(|text| key.parse(text));
        let own = own.map(|value| Candidate {
            key,
            value,
            source: if key.is_group() {
                ConfigSource::Group
            } else {
                ConfigSource::DynamicTopic
            },
        });
        let inherited = if key.scope == Scope::Both {
            self.candidates(key)
        } else if key.synonyms.is_empty() {
            let value = key.default_value();
            let default = |value| Candidate {
                key,
                value,
                source: ConfigSource::Default,
            };
            value.map(default).into_iter().collect()
        } else {
            let synonyms = key
                .synonyms
                .iter()
                .filter_map(|synonym| keys::broker(synonym.name));
            synonyms.flat_map(|name| self.candidates(name)).collect()
        };
        own.into_iter().chain(inherited).collect()
    }
}

/// The candidate's value in the units of the key. A negative number means "no limit" in any unit.
pub(crate) fn in_units_of(key: &Key, candidate: &Candidate) -> Value {
    let synonym = key
        .synonyms
        .iter()
        .find(|synonym| synonym.name == candidate.key.name);
    match (synonym, &candidate.value) {
        (Some(synonym), Value::Int(number)) if *number >= 0 => {
            Value::Int(number.saturating_mul(synonym.factor))
        }
        _ => candidate.value.clone(),
    }
}
