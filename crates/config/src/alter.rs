//! The verdict on IncrementalAlterConfigs, AlterConfigs and the configs of CreateTopics.
//!
//! Input: the overrides there are, and what a client wants. Output: the overrides there shall be,
//! or the first reason why not; nothing in between, so that a request changes all of its keys or
//! none.
//!
//! Invariants, checked by the tests of this file: what comes out passes
//! [`validate_topic_overrides`] or [`validate_broker_overrides`]; deleting what is not set changes
//! nothing; an item is appended once.
//!
//! Source: KIP-339; `ConfigurationControlManager` of Kafka 4.1 for what is an invalid request and
//! what an invalid value.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker_config::BrokerConfig;
use crate::error::{ConfigError, Origin, quoted};
use crate::key::{ConfigType, Key};
use crate::keys;
use crate::layers::check_value;
use crate::settings::Settings;
use crate::topic_config::TopicConfig;
use crate::value::Value;

type Overrides = BTreeMap<String, String>;

/// What to do with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// Give it this value.
    Set,
    /// Give it its default again.
    Delete,
    /// Add the items to its list.
    Append,
    /// Take the items off its list.
    Subtract,
}

impl AlterOp {
    /// The operation that IncrementalAlterConfigs carries as `code`.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    /// What IncrementalAlterConfigs carries for it.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Set => 0,
            Self::Delete => 1,
            Self::Append => 2,
            Self::Subtract => 3,
        }
    }
}

/// One entry of IncrementalAlterConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alteration<'a> {
    /// The key.
    pub name: &'a str,
    /// What to do with it.
    pub op: AlterOp,
    /// The value, or the items; DELETE needs none.
    pub value: Option<&'a str>,
}

/// The overrides of a topic after the alterations. APPEND and SUBTRACT start from its effective
/// value.
///
/// # Errors
/// A key or value that topics don't take, a malformed alteration, values that don't go together.
pub fn alter_topic(
    broker: &BrokerConfig,
    current: &Overrides,
    alterations: &[Alteration<'_>],
) -> Result<Overrides, ConfigError> {
    let altered = alter_overrides(broker, current, alterations, keys::require_topic)?;
    check_topic(broker, &altered)?;
    Ok(altered)
}

/// The overrides of a group after the alterations.
///
/// # Errors
/// A key or value that groups don't take, a malformed alteration, values that don't go together or
/// are beyond the limits of the broker.
pub fn alter_group(
    broker: &BrokerConfig,
    current: &Overrides,
    alterations: &[Alteration<'_>],
) -> Result<Overrides, ConfigError> {
    let altered = alter_overrides(broker, current, alterations, keys::require_group)?;
    check_group(broker, &altered)?;
    Ok(altered)
}

/// The dynamic settings of one broker, or of all, after the alterations.
///
/// APPEND and SUBTRACT start from the dynamic value, else from the default: what a file says
/// differs from broker to broker.
///
/// # Errors
/// A key or value that brokers don't take while they run, a malformed alteration.
pub fn alter_broker(
    current: &Overrides,
    alterations: &[Alteration<'_>],
) -> Result<Overrides, ConfigError> {
    let settings = Settings {
        dynamic_broker: current.clone(),
        ..Settings::default()
    };
    alter(current, alterations, require_dynamic, |key| {
        settings.value(key)
    })
}

/// Whether a topic can have these overrides: for CreateTopics, and for AlterConfigs, which sets
/// all.
///
/// # Errors
/// The first key or value that topics don't take, or values that don't go together.
pub fn validate_topic_overrides(
    broker: &BrokerConfig,
    overrides: &Overrides,
) -> Result<(), ConfigError> {
    for (name, value) in overrides {
        let key = keys::require_topic(name, &Origin::Request)?;
        check_value(key, value, &Origin::Request)?;
    }
    check_topic(broker, overrides)
}

/// Whether brokers can have these dynamic settings.
///
/// # Errors
/// The first key or value that brokers don't take while they run.
pub fn validate_broker_overrides(overrides: &Overrides) -> Result<(), ConfigError> {
    for (name, value) in overrides {
        check_value(require_dynamic(name)?, value, &Origin::Request)?;
    }
    Ok(())
}

fn check_topic(broker: &BrokerConfig, overrides: &Overrides) -> Result<(), ConfigError> {
    TopicConfig::new(broker, overrides)
        .conflict()
        .map_or(Ok(()), Err)
}

/// Whether the effective values of a consumer group lie within the broker's limits, and a member
/// has a chance to send a heartbeat within its session.
fn check_group(broker: &BrokerConfig, overrides: &Overrides) -> Result<(), ConfigError> {
    let limits = &broker.group;
    let value = |name: &str| {
        let value = broker
            .settings()
            .overridden_value(keys::group(name)?, overrides);
        value?.as_int()
    };
    let (session, interval) = (
        "consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms",
    );
    let (session_ms, interval_ms) = (value(session), value(interval));
    let of_session = (
        limits.consumer_min_session_timeout_ms.get(),
        limits.consumer_max_session_timeout_ms.get(),
    );
    let of_interval = (
        limits.consumer_min_heartbeat_interval_ms.get(),
        limits.consumer_max_heartbeat_interval_ms.get(),
    );
    for (key, value, (least, most)) in [
        (session, session_ms, of_session),
        (interval, interval_ms, of_interval),
    ] {
        if value.is_some_and(|value| !(least..=most).contains(&value)) {
            let message = format!("the brokers allow values of {key} from {least} to {most}");
            return Err(ConfigError::Conflict(message));
        }
    }
    if session_ms <= interval_ms {
        let message = format!("{session} must be above {interval}");
        return Err(ConfigError::Conflict(message));
    }
    Ok(())
}

fn require_dynamic(name: &str) -> Result<&'static Key, ConfigError> {
    let key = keys::require_broker(name, &Origin::Request)?;
    if key.dynamic {
        Ok(key)
    } else {
        Err(ConfigError::ReadOnly(key.name))
    }
}

fn alter_overrides(
    broker: &BrokerConfig,
    current: &Overrides,
    alterations: &[Alteration<'_>],
    require: impl Fn(&str, &Origin) -> Result<&'static Key, ConfigError>,
) -> Result<Overrides, ConfigError> {
    alter(
        current,
        alterations,
        |name| require(name, &Origin::Request),
        |key| broker.settings().overridden_value(key, current),
    )
}

fn alter(
    current: &Overrides,
    alterations: &[Alteration<'_>],
    require: impl Fn(&str) -> Result<&'static Key, ConfigError>,
    effective: impl Fn(&'static Key) -> Option<Value>,
) -> Result<Overrides, ConfigError> {
    let mut altered = current.clone();
    let mut seen = BTreeSet::new();
    for alteration in alterations {
        if !seen.insert(alteration.name) {
            return Err(ConfigError::DuplicateKey(quoted(alteration.name)));
        }
        if alteration.op == AlterOp::Delete {
            // Also of a key that there is not, or not any more.
            altered.remove(alteration.name);
            continue;
        }
        let key = require(alteration.name)?;
        let Some(value) = alteration.value else {
            return Err(ConfigError::NullValue(key.name.to_owned()));
        };
        let value = match alteration.op {
            AlterOp::Append => edit_list(key, effective(key), value, true)?,
            AlterOp::Subtract => edit_list(key, effective(key), value, false)?,
            AlterOp::Set | AlterOp::Delete => value.to_owned(),
        };
        check_value(key, &value, &Origin::Request)?;
        altered.insert(key.name.to_owned(), value);
    }
    Ok(altered)
}

fn edit_list(
    key: &'static Key,
    effective: Option<Value>,
    edits: &str,
    append: bool,
) -> Result<String, ConfigError> {
    let (ConfigType::List, Some(Value::List(edits))) =
        (key.told_type, Value::parse(key.config_type, edits))
    else {
        return Err(ConfigError::NotAList(key.name));
    };
    let mut items = match effective {
        Some(Value::List(items)) => items,
        _ => Vec::new(),
    };
    if append {
        let known: BTreeSet<_> = items.iter().cloned().collect();
        items.extend(edits.into_iter().filter(|item| !known.contains(item)));
    } else {
        let gone: BTreeSet<_> = edits.into_iter().collect();
        items.retain(|item| !gone.contains(item));
    }
    Ok(Value::List(items).to_string())
}

#[cfg(test)]
mod tests;
