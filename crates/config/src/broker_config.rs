//! The configuration of one broker, typed.
//!
//! Input: [`Settings`], static and dynamic. Output: sections of typed fields, and the defaults of
//! topics.
//!
//! Invariant, checked by a test of this file: with any allowed value of any key, building does not
//! panic. Whether the values go together is the business of [`crate::conflicts`].

use std::sync::Arc;

use crate::broker_sections::{
    GroupConfig, LogConfig, MetadataConfig, NetworkConfig, NodeConfig, OffsetsConfig,
    ReplicaConfig, TopicCreationConfig, TransactionConfig,
};
use crate::keys;
use crate::settings::{Overrides, Settings};
use crate::topic_config::TopicConfig;

/// The configuration of one broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Who the node is, where its data is, who its peers are.
    pub node: Arc<NodeConfig>,
    /// Listeners, threads, sockets and limits.
    pub network: Arc<NetworkConfig>,
    /// Intervals and threads of the logs' housekeeping.
    pub log: Arc<LogConfig>,
    /// How topics come into being.
    pub topics: Arc<TopicCreationConfig>,
    /// Replication, heartbeats, sessions.
    pub replica: Arc<ReplicaConfig>,
    /// The metadata log.
    pub metadata: Arc<MetadataConfig>,
    /// Consumer groups.
    pub group: Arc<GroupConfig>,
    /// Committed offsets.
    pub offsets: Arc<OffsetsConfig>,
    /// Producers and transactions.
    pub transaction: Arc<TransactionConfig>,
    /// The configuration of a topic without overrides.
    pub topic_defaults: Arc<TopicConfig>,
    settings: Arc<Settings>,
}

impl Default for BrokerConfig {
    /// Every key at its default.
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl BrokerConfig {
    pub(crate) fn new(settings: Settings) -> Self {
        let reader = Reader(&settings);
        Self {
            node: Arc::new(NodeConfig::read(&reader)),
            network: Arc::new(NetworkConfig::read(&reader)),
            log: Arc::new(LogConfig::read(&reader)),
            topics: Arc::new(TopicCreationConfig::read(&reader)),
            replica: Arc::new(ReplicaConfig::read(&reader)),
            metadata: Arc::new(MetadataConfig::read(&reader)),
            group: Arc::new(GroupConfig::read(&reader)),
            offsets: Arc::new(OffsetsConfig::read(&reader)),
            transaction: Arc::new(TransactionConfig::read(&reader)),
            topic_defaults: Arc::new(TopicConfig::read(&settings, &Overrides::new())),
            settings: Arc::new(settings),
        }
    }

    /// The same static configuration under other dynamic settings: those for all brokers, and those
    /// for this one, which go first. What a key does not take, or takes at start only, counts as
    /// not set.
    #[must_use]
    pub fn with_dynamic(&self, for_all: Overrides, for_this: Overrides) -> Self {
        Self::new(Settings {
            fixed: self.settings.fixed.clone(),
            dynamic_default: for_all,
            dynamic_broker: for_this,
        })
    }

    /// The values as they were set, for DescribeConfigs and for overrides of topics.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Reads settings as the types of the fields. The key and its type are the code's own choice, so a
/// mismatch is a bug; numbers beyond a field's type are cut to it.
pub(crate) struct Reader<'a>(pub(crate) &'a Settings);

impl Reader<'_> {
    fn value(&self, name: &str) -> Option<crate::value::Value> {
        let key = keys::broker(name);
        assert!(key.is_some(), "no broker key {name}");
        key.and_then(|key| self.0.value(key))
    }

    /// The number of a key that always has one.
    pub(crate) fn int(&self, name: &str) -> i64 {
        let number = self.value(name).and_then(|value| value.as_int());
        assert!(number.is_some(), "{name} has no number");
        number.unwrap_or_default()
    }

    pub(crate) fn optional_int(&self, name: &str) -> Option<i64> {
        self.value(name).and_then(|value| value.as_int())
    }

    pub(crate) fn u16(&self, name: &str) -> u16 {
        clamped(self.int(name))
    }

    pub(crate) fn optional_u16(&self, name: &str) -> Option<u16> {
        self.optional_int(name).map(clamped)
    }

    pub(crate) fn u32(&self, name: &str) -> u32 {
        clamped(self.int(name))
    }

    pub(crate) fn u64(&self, name: &str) -> u64 {
        clamped(self.int(name))
    }

    /// A number of which −1 means that there is none.
    pub(crate) fn u32_unless_negative(&self, name: &str) -> Option<u32> {
        Some(self.int(name))
            .filter(|number| *number >= 0)
            .map(clamped)
    }

    pub(crate) fn millis(&self, name: &str) -> skein_types::Millis {
        skein_types::Millis(self.int(name))
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        let value = self.value(name).and_then(|value| value.as_bool());
        assert!(value.is_some(), "{name} has no truth value");
        value.unwrap_or_default()
    }

    pub(crate) fn double(&self, name: &str) -> f64 {
        let value = self.value(name).and_then(|value| value.as_double());
        assert!(value.is_some(), "{name} has no decimal number");
        value.unwrap_or_default()
    }

    pub(crate) fn optional_text(&self, name: &str) -> Option<String> {
        self.value(name)
            .and_then(|value| value.as_text().map(str::to_owned))
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.value(name)
            .and_then(|value| value.as_list().map(<[String]>::to_vec))
            .unwrap_or_default()
    }
}

/// The number in a smaller type; what lies outside becomes the type's nearest end.
pub(crate) fn clamped<T: TryFrom<i64> + Bounds>(number: i64) -> T {
    T::try_from(number).unwrap_or(if number < 0 { T::LEAST } else { T::MOST })
}

/// The ends of an unsigned type.
pub(crate) trait Bounds {
    const LEAST: Self;
    const MOST: Self;
}

macro_rules! bounds {
    ($($unsigned:ty)*) => {
        $(impl Bounds for $unsigned {
            const LEAST: Self = Self::MIN;
            const MOST: Self = Self::MAX;
        })*
    };
}
bounds!(u8 u16 u32 u64);

#[cfg(test)]
mod tests;
