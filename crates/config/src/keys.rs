//! The table of all keys.
//!
//! Input: a name. Output: its [`Key`], or the key that was probably meant, or the reason why a key
//! of Kafka's is not among them.
//!
//! Invariants, checked by the tests of this file: names are unique within brokers, within topics
//! and within groups; each row has documentation; each default passes the row's own check; each
//! synonym names a broker key; a topic key has the documentation and the default of Kafka's
//! meaning, also where the broker differs.
//!
//! Source: `KafkaConfig.configDef`, `LogConfig.configDefCopy` and `GroupConfig.configDef` of Kafka
//! 4.1.1 for names, types, defaults and ranges; the rows say where Skein differs.

mod absent;
mod group;
mod log;
mod network;
mod node;
mod one_group;
mod replica;
mod topic;
mod transaction;

pub(crate) use network::parse_ip_limit;

use crate::error::{ConfigError, Origin, quoted};
use crate::key::{Key, Scope};
use crate::nearest::nearest;

/// The rows, one table for each subject.
const TABLES: [&[Key]; 8] = [
    node::KEYS,
    network::KEYS,
    log::KEYS,
    topic::KEYS,
    replica::KEYS,
    group::KEYS,
    one_group::KEYS,
    transaction::KEYS,
];

/// Every key, subject by subject.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TABLES.into_iter().flatten()
}

/// The keys that brokers have.
pub fn of_brokers() -> impl Iterator<Item = &'static Key> {
    all().filter(|key| key.is_broker())
}

/// The keys that topics have.
pub fn of_topics() -> impl Iterator<Item = &'static Key> {
    all().filter(|key| key.is_topic())
}

/// The keys that groups have.
pub fn of_groups() -> impl Iterator<Item = &'static Key> {
    all().filter(|key| key.is_group())
}

/// The broker key of that name.
#[must_use]
pub fn broker(name: &str) -> Option<&'static Key> {
    of_brokers().find(|key| key.name == name)
}

/// The topic key of that name.
#[must_use]
pub fn topic(name: &str) -> Option<&'static Key> {
    of_topics().find(|key| key.name == name)
}

/// The group key of that name.
#[must_use]
pub fn group(name: &str) -> Option<&'static Key> {
    of_groups().find(|key| key.name == name)
}

/// The key that a name which is none was probably meant to be.
#[must_use]
pub fn nearest_to(name: &str) -> Option<&'static str> {
    nearest(name, all().map(|key| key.name))
}

/// The broker key of that name, or what to tell somebody who wrote the name at `origin`.
pub(crate) fn require_broker(name: &str, origin: &Origin) -> Result<&'static Key, ConfigError> {
    broker(name).ok_or_else(|| match topic(name) {
        Some(key) => ConfigError::WrongScope {
            key: key.name,
            hint: match key.synonyms.first() {
                Some(synonym) => format!(
                    "it belongs to a topic; {:?} is the broker's default for its topics",
                    synonym.name
                ),
                None => "it belongs to a topic".to_owned(),
            },
            origin: origin.clone(),
        },
        None => unknown(name, of_brokers(), origin),
    })
}

/// The topic key of that name, or what to tell somebody who wrote the name at `origin`.
pub(crate) fn require_topic(name: &str, origin: &Origin) -> Result<&'static Key, ConfigError> {
    topic(name).ok_or_else(|| match broker(name) {
        Some(key) => ConfigError::WrongScope {
            key: key.name,
            hint: topic_key_for(name).map_or_else(
                || "it belongs to a broker".to_owned(),
                |topic_key| format!("it belongs to a broker; the topic's own is {topic_key:?}"),
            ),
            origin: origin.clone(),
        },
        None => unknown(name, of_topics(), origin),
    })
}

/// The group key of that name, or what to tell somebody who wrote the name at `origin`.
pub(crate) fn require_group(name: &str, origin: &Origin) -> Result<&'static Key, ConfigError> {
    group(name).ok_or_else(|| unknown(name, of_groups(), origin))
}

/// The topic key whose default the broker key is.
pub(crate) fn topic_key_for(broker_key: &str) -> Option<&'static str> {
    all()
        .filter(|key| key.scope == Scope::Topic)
        .find(|key| {
            key.synonyms
                .iter()
                .any(|synonym| synonym.name == broker_key)
        })
        .map(|key| key.name)
}

fn unknown(
    name: &str,
    candidates: impl Iterator<Item = &'static Key>,
    origin: &Origin,
) -> ConfigError {
    let origin = origin.clone();
    let by_name = absent::KEYS.iter().find(|(absent, _)| *absent == name);
    let mut prefixes = absent::PREFIXES.iter();
    match by_name.or_else(|| prefixes.find(|(prefix, _)| name.starts_with(prefix))) {
        Some((_, reason)) => ConfigError::NotSkeins {
            key: quoted(name),
            reason,
            origin,
        },
        None => ConfigError::UnknownKey {
            key: quoted(name),
            nearest: nearest(
                name,
                candidates.filter(|key| !key.internal).map(|key| key.name),
            ),
            origin,
        },
    }
}

#[cfg(test)]
mod tests;
