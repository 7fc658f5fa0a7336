//! The effective configuration of one topic, typed.
//!
//! Input: a broker's settings and the overrides of a topic. Output: [`TopicConfig`].
//!
//! Invariants:
//! - reading never fails: an override that this version does not take counts as not set, and was
//!   refused when somebody tried to set it ([`crate::validate_topic_overrides`]);
//! - `max_message_bytes` is never above what the broker can receive, so that no limit can stop a
//!   connection for ever; checked by a test of this file.

use std::collections::BTreeMap;

use skein_types::Millis;

use crate::broker_config::{BrokerConfig, clamped};
use crate::error::ConfigError;
use crate::key::min_insync_replicas;
use crate::keys;
use crate::redacted_records::{REDACTED_RECORDS, REDACTED_RECORDS_MAX, RedactedRecords};
use crate::settings::{Overrides, Settings};
use crate::value::Value;

/// What a topic's partitions obey. Small where nothing is redacted: keep it behind an `Arc`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` with its level.
    pub compression_type: CompressionType,
    /// `delete.retention.ms`.
    pub delete_retention_ms: Millis,
    /// `durability`.
    pub durability: Durability,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: Millis,
    /// `flush.messages`; `None`: never for this reason.
    pub flush_messages: Option<u64>,
    /// `flush.ms`; `None`: never for this reason.
    pub flush_ms: Option<Millis>,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.compaction.lag.ms`; `None`: no limit.
    pub max_compaction_lag_ms: Option<Millis>,
    /// `max.message.bytes`, and not more than the broker can receive.
    pub max_message_bytes: u32,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: Millis,
    /// `message.timestamp.before.max.ms`; `i64::MAX`: no limit.
    pub message_timestamp_before_max_ms: Millis,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`, from 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: Millis,
    /// `min.insync.replicas` as it was set; see [`TopicConfig::effective_min_insync_replicas`].
    pub min_insync_replicas: Option<u16>,
    /// `preallocate`.
    pub preallocate: bool,
    /// `redacted.records`.
    pub redacted_records: RedactedRecords,
    /// `retention.bytes`; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; `None`: for ever.
    pub retention_ms: Option<Millis>,
    /// `internal.segment.bytes`, else `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.fill.after.bytes`; `None`: never.
    pub segment_fill_after_bytes: Option<u64>,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: Millis,
    /// `segment.ms`.
    pub segment_ms: Millis,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election_enable: bool,
}

/// What happens to old records. At least one is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// The last record of each key is kept.
    pub compact: bool,
    /// Whole segments go by age and size.
    pub delete: bool,
}

/// When a record counts as safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the memory of all in-sync replicas.
    Replicated,
    /// On the disk of all in-sync replicas.
    Flushed,
}

/// Whose clock a record's timestamp is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// The codec of stored batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    /// None.
    Uncompressed,
    /// gzip, level 1 to 9; `None` is the codec's own default.
    Gzip(Option<u8>),
    /// snappy.
    Snappy,
    /// lz4, level 1 to 17.
    Lz4(u8),
    /// zstd, level −131072 to 22.
    Zstd(i32),
}

impl Default for TopicConfig {
    /// Every key at its default.
    fn default() -> Self {
        Self::read(&Settings::default(), &Overrides::new())
    }
}

impl TopicConfig {
    /// The configuration of a topic with these overrides on this broker.
    #[must_use]
    pub fn new(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Self {
        if overrides.is_empty() {
            return broker.topic_defaults.as_ref().clone();
        }
        Self::read(broker.settings(), overrides)
    }

    pub(crate) fn read(settings: &Settings, overrides: &Overrides) -> Self {
        let reader = TopicReader {
            settings,
            overrides,
        };
        let receivable = ["socket.request.max.bytes", "queued.max.request.bytes"]
            .into_iter()
            .filter_map(|name| settings.value(keys::broker(name)?)?.as_int())
            .fold(reader.int("max.message.bytes"), i64::min);
        let segment_bytes = reader
            .optional_int("internal.segment.bytes")
            .unwrap_or_else(|| reader.int("segment.bytes"));
        Self {
            cleanup_policy: reader.cleanup_policy(),
            compression_type: reader.compression_type(),
            delete_retention_ms: reader.millis("delete.retention.ms"),
            durability: match reader.text("durability").as_str() {
                "flushed" => Durability::Flushed,
                _ => Durability::Replicated,
            },
            file_delete_delay_ms: reader.millis("file.delete.delay.ms"),
            flush_messages: reader.limit("flush.messages").map(clamped),
            flush_ms: reader.limit("flush.ms").map(Millis),
            index_interval_bytes: clamped(reader.int("index.interval.bytes")),
            max_compaction_lag_ms: reader.limit("max.compaction.lag.ms").map(Millis),
            max_message_bytes: clamped(receivable),
            message_timestamp_after_max_ms: reader.millis("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: reader.millis("message.timestamp.before.max.ms"),
            message_timestamp_type: match reader.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: reader.double("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: reader.millis("min.compaction.lag.ms"),
            min_insync_replicas: reader.optional_int("min.insync.replicas").map(clamped),
            preallocate: reader.bool("preallocate"),
            redacted_records: overrides
                .get(REDACTED_RECORDS)
                .map(|text| RedactedRecords::read(text))
                .unwrap_or_default(),
            retention_bytes: reader.limit("retention.bytes").map(clamped),
            retention_ms: reader.limit("retention.ms").map(Millis),
            segment_bytes: clamped(segment_bytes),
            segment_fill_after_bytes: (reader.limit("segment.fill.after.bytes")).map(clamped),
            segment_index_bytes: clamped(reader.int("segment.index.bytes")),
            segment_jitter_ms: reader.millis("segment.jitter.ms"),
            segment_ms: reader.millis("segment.ms"),
            unclean_leader_election_enable: reader.bool("unclean.leader.election.enable"),
        }
    }

    /// How many replicas must have a record: what was set, else the default for so many replicas,
    /// and never more than there are.
    #[must_use]
    pub fn effective_min_insync_replicas(&self, replicas: u16) -> u16 {
        let wanted = self
            .min_insync_replicas
            .unwrap_or_else(|| min_insync_replicas(replicas));
        wanted.min(replicas)
    }

    /// What does not go together.
    pub(crate) fn conflict(&self) -> Option<ConfigError> {
        let hidden = self.redacted_records.len();
        if hidden > REDACTED_RECORDS_MAX {
            return Some(ConfigError::Conflict(format!(
                "{REDACTED_RECORDS} would name {hidden} records, and a topic hides at most \
                 {REDACTED_RECORDS_MAX}"
            )));
        }
        let max = self.max_compaction_lag_ms?;
        (self.min_compaction_lag_ms > max).then(|| {
            ConfigError::Conflict(format!(
                "min.compaction.lag.ms ({}) must not be above max.compaction.lag.ms ({max})",
                self.min_compaction_lag_ms
            ))
        })
    }
}

/// Reads a topic's values. The key and its type are the code's own choice, so a mismatch is a bug.
struct TopicReader<'a> {
    settings: &'a Settings,
    overrides: &'a Overrides,
}

impl TopicReader<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let key = keys::topic(name);
        assert!(key.is_some(), "no topic key {name}");
        key.and_then(|key| self.settings.overridden_value(key, self.overrides))
    }

    fn int(&self, name: &str) -> i64 {
        let number = self.optional_int(name);
        assert!(number.is_some(), "{name} has no number");
        number.unwrap_or_default()
    }

    fn optional_int(&self, name: &str) -> Option<i64> {
        self.value(name).and_then(|value| value.as_int())
    }

    /// A number for which −1 and the largest mean "no limit".
    fn limit(&self, name: &str) -> Option<i64> {
        Some(self.int(name)).filter(|number| (0..i64::MAX).contains(number))
    }

    fn millis(&self, name: &str) -> Millis {
        Millis(self.int(name))
    }

    fn bool(&self, name: &str) -> bool {
        let value = self.value(name).and_then(|value| value.as_bool());
        assert!(value.is_some(), "{name} has no truth value");
        value.unwrap_or_default()
    }

    fn double(&self, name: &str) -> f64 {
        let value = self.value(name).and_then(|value| value.as_double());
        assert!(value.is_some(), "{name} has no decimal number");
        value.unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        let value = self
            .value(name)
            .and_then(|value| value.as_text().map(str::to_owned));
        assert!(value.is_some(), "{name} has no text");
        value.unwrap_or_default()
    }

    fn cleanup_policy(&self) -> CleanupPolicy {
        let value = self.value("cleanup.policy");
        let policies = value.as_ref().and_then(Value::as_list).unwrap_or_default();
        let has = |name: &str| policies.iter().any(|policy| policy == name);
        CleanupPolicy {
            compact: has("compact"),
            delete: has("delete"),
        }
    }

    fn compression_type(&self) -> CompressionType {
        let level = |name: &str| self.int(name);
        match self.text("compression.type").as_str() {
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip(
                Some(level("compression.gzip.level"))
                    .filter(|level| *level > 0)
                    .map(clamped),
            ),
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4(clamped(level("compression.lz4.level"))),
            "zstd" => {
                let level = level("compression.zstd.level");
                CompressionType::Zstd(i32::try_from(level).unwrap_or_default())
            }
            _ => CompressionType::Producer,
        }
    }
}

#[cfg(test)]
mod tests;
