//! Every configuration key of Skein: its type, default, range, scope and documentation.
//!
//! Input: the text of a `server.properties`, the environment, `--set` options, and the dynamic
//! settings and topic overrides of the metadata image. Output: [`BrokerConfig`] and
//! [`TopicConfig`], typed; the entries of DescribeConfigs; the verdict on IncrementalAlterConfigs;
//! a table for people.
//!
//! One table ([`keys`]) feeds all of them, so that what is documented, checked and described cannot
//! differ. Names, types and defaults are Kafka's unless the documentation of a key says otherwise.
//!
//! Invariants, checked by this crate's tests:
//! - every key has documentation, and every default passes the check of its own key;
//! - printing a value and parsing it gives the value back;
//! - no input makes this crate panic: what it can't take is a [`ConfigError`] with its place.
//!
//! Architecture invariant: this crate is pure. It opens no file and reads no environment; the
//! caller hands over the text.
//!
//! Source: Kafka 4.1's broker and topic configuration reference; KIP-226 (dynamic broker settings),
//! KIP-339 (IncrementalAlterConfigs), KIP-1106 (internal segment size).

mod alter;
mod broker_config;
mod broker_sections;
mod cluster_secret;
mod conflicts;
mod describe;
mod document;
mod error;
mod key;
pub mod keys;
mod layers;
mod listener;
mod nearest;
pub mod properties;
mod redacted_records;
mod settings;
mod topic_config;
mod value;

pub use alter::{
    AlterOp, Alteration, alter_broker, alter_group, alter_topic, validate_broker_overrides,
    validate_topic_overrides,
};
pub use broker_config::BrokerConfig;
pub use broker_sections::{
    GroupConfig, LogConfig, MetadataConfig, NetworkConfig, NodeConfig, OffsetsConfig,
    ReplicaConfig, TopicCreationConfig, TransactionConfig,
};
pub use cluster_secret::{ClusterSecret, SECRET_MAX_BYTES, SECRET_MIN_BYTES, SecretFile};
pub use describe::{
    ConfigEntry, ConfigSource, ConfigSynonym, describe_broker, describe_group, describe_topic,
};
pub use document::{DocumentFormat, document, document_of};
pub use error::{ConfigError, ConfigErrors, Origin};
pub use key::min_insync_replicas as default_min_insync_replicas;
pub use key::{AllowedValues, ConfigType, DefaultValue, Facts, Key, Rule, Scope, Synonym};
pub use layers::{ConfigWarning, Layers};
pub use listener::{Address, Listener, SecurityProtocol};
pub use redacted_records::{
    REDACTED_RECORDS, REDACTED_RECORDS_MAX, RedactedOffsets, RedactedRecord, RedactedRecords,
};
pub use settings::Settings;
pub use topic_config::{CleanupPolicy, CompressionType, Durability, TimestampType, TopicConfig};
pub use value::Value;
