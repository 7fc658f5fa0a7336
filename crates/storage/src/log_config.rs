//! The settings of one log.
//!
//! Input: a topic's configuration. Output: the part of it that storage needs, in plain numbers.
//!
//! Invariants: none beyond the ranges that `config` has checked.
//!
//! Source: Kafka's topic configuration, names and defaults.

use skein_config::TopicConfig;
use skein_types::Millis;

/// The settings of one log. All can change while it is open; a change counts from the next append
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment file does not grow beyond it.
    pub segment_bytes: u64,
    /// `segment.fill.after.bytes`: what a segment file grows by without a pause before it is
    /// filled ahead of its end. `None` for never.
    pub segment_fill_after_bytes: Option<u64>,
    /// `preallocate`: whether a new segment file gets all of its blocks when it is made.
    pub preallocate: bool,
    /// `segment.ms`: records of one segment lie no further apart in time.
    pub segment_ms: Millis,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, so that logs which began
    /// together do not roll together.
    pub segment_jitter_ms: Millis,
    /// `segment.index.bytes`: an index file does not grow beyond it.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`: log bytes from one index entry to the next.
    pub index_interval_bytes: u64,
    /// `retention.ms`: a segment goes when its newest record is older. `None` keeps it for ever.
    pub retention_ms: Option<Millis>,
    /// `retention.bytes`: the oldest segments go while the rest is as large. `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// `file.delete.delay.ms`: how long a deleted segment's files stay under another name.
    pub file_delete_delay_ms: Millis,
    /// `flush.messages`: unflushed records that make a flush due. `None` for never.
    pub flush_messages: Option<u64>,
    /// `flush.ms`: time since the last flush that makes one due. `None` for never.
    pub flush_ms: Option<Millis>,
    /// Whether `cleanup.policy` has `delete`: without it neither age nor size removes segments.
    pub is_deleting: bool,
    /// Whether `cleanup.policy` has `compact`: then offsets have gaps.
    pub is_compacting: bool,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self::from(&TopicConfig::default())
    }
}

/// Compaction takes sealed segments only: for `max.compaction.lag.ms` to hold, a segment must not
/// grow for longer.
fn segment_ms(topic: &TopicConfig) -> Millis {
    match topic.max_compaction_lag_ms {
        Some(lag) if topic.cleanup_policy.compact => topic.segment_ms.min(lag),
        _ => topic.segment_ms,
    }
}

impl From<&TopicConfig> for LogConfig {
    fn from(topic: &TopicConfig) -> Self {
        Self {
            segment_bytes: u64::from(topic.segment_bytes),
            segment_fill_after_bytes: topic.segment_fill_after_bytes,
            preallocate: topic.preallocate,
            segment_ms: segment_ms(topic),
            segment_jitter_ms: topic.segment_jitter_ms,
            segment_index_bytes: u64::from(topic.segment_index_bytes),
            index_interval_bytes: u64::from(topic.index_interval_bytes),
            retention_ms: topic.retention_ms,
            retention_bytes: topic.retention_bytes,
            file_delete_delay_ms: topic.file_delete_delay_ms,
            flush_messages: topic.flush_messages,
            flush_ms: topic.flush_ms,
            is_deleting: topic.cleanup_policy.delete,
            is_compacting: topic.cleanup_policy.compact,
        }
    }
}
