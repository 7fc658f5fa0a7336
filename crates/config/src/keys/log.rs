//! Keys of a broker's logs, most of them the defaults of its topics.
//!
//! Input: nothing. Output: rows of the table.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there.

use crate::key::ConfigType::{Boolean, Double, Int, List, Long, String};
use crate::key::{INT_MAX, Key, LONG_MAX, MAX_THREADS, Rule, SHORT_MAX, Synonym};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

const fn in_units(name: &'static str, factor: i64) -> Synonym {
    Synonym { name, factor }
}

pub(super) const KEYS: &[Key] = &[
    Key::broker("num.partitions", Int)
        .default("1")
        .between(1, INT_MAX)
        .doc("Partitions of a topic whose creator names no number."),
    Key::broker("default.replication.factor", Int)
        .computed(Rule::ReplicationFactor)
        .between(1, SHORT_MAX)
        .doc(
            "Replicas of a topic whose creator names no number. Kafka's default is 1; here it is \
             three as soon as there are three brokers.",
        ),
    Key::broker("auto.create.topics.enable", Boolean)
        .default("true")
        .doc(
            "Whether a topic comes into being when a client that allows it asks for its metadata.",
        ),
    Key::broker("delete.topic.enable", Boolean)
        .default("true")
        .doc("Whether topics can be deleted."),
    Key::broker("message.max.bytes", Int)
        .default("1048588")
        .between(0, INT_MAX)
        .dynamic()
        .doc("Default of the topics' max.message.bytes."),
    Key::broker("log.segment.bytes", Int)
        .default("1073741824")
        .between(1_048_576, INT_MAX)
        .dynamic()
        .doc("Default of the topics' segment.bytes."),
    Key::broker("log.segment.fill.after.bytes", Long)
        .default("16777216")
        .between(-1, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' segment.fill.after.bytes. Skein's own key."),
    Key::broker("log.roll.ms", Long)
        .between(1, LONG_MAX)
        .dynamic()
        .synonyms(&[in_units("log.roll.hours", HOUR_MS)])
        .doc("Default of the topics' segment.ms. Where it is not set, log.roll.hours counts."),
    Key::broker("log.roll.hours", Int)
        .default("168")
        .between(1, INT_MAX)
        .doc("Default of the topics' segment.ms, in hours, where log.roll.ms is not set."),
    Key::broker("log.roll.jitter.ms", Long)
        .between(0, LONG_MAX)
        .dynamic()
        .synonyms(&[in_units("log.roll.jitter.hours", HOUR_MS)])
        .doc(
            "Default of the topics' segment.jitter.ms. Where it is not set, log.roll.jitter.hours \
             counts.",
        ),
    Key::broker("log.roll.jitter.hours", Int)
        .default("0")
        .between(0, INT_MAX)
        .doc(
            "Default of the topics' segment.jitter.ms, in hours, where log.roll.jitter.ms is not \
             set.",
        ),
    Key::broker("log.index.size.max.bytes", Int)
        .default("10485760")
        .between(12, INT_MAX)
        .dynamic()
        .doc("Default of the topics' segment.index.bytes. Kafka's least is 4, less than an entry."),
    Key::broker("log.index.interval.bytes", Int)
        .default("4096")
        .between(0, INT_MAX)
        .dynamic()
        .doc("Default of the topics' index.interval.bytes."),
    Key::broker("log.retention.bytes", Long)
        .default("-1")
        .between(-1, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' retention.bytes; -1: no limit."),
    Key::broker("log.retention.ms", Long)
        .between(-1, LONG_MAX)
        .dynamic()
        .synonyms(&[
            in_units("log.retention.minutes", MINUTE_MS),
            in_units("log.retention.hours", HOUR_MS),
        ])
        .doc(
            "Default of the topics' retention.ms; -1: for ever. Where it is not set, \
             log.retention.minutes counts, then log.retention.hours.",
        ),
    Key::broker("log.retention.minutes", Int)
        .between_or(1, INT_MAX, -1)
        .synonyms(&[in_units("log.retention.hours", 60)])
        .doc("Default of the topics' retention.ms, in minutes, where log.retention.ms is not set."),
    Key::broker("log.retention.hours", Int)
        .default("168")
        .between_or(1, INT_MAX, -1)
        .doc(
            "Default of the topics' retention.ms, in hours, where neither ms nor minutes are set.",
        ),
    Key::broker("log.retention.check.interval.ms", Long)
        .default("300000")
        .between(1, LONG_MAX)
        .doc("How often logs are searched for segments that retention lets go."),
    Key::broker("log.segment.delete.delay.ms", Long)
        .default("60000")
        .between(0, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' file.delete.delay.ms."),
    Key::broker("log.cleanup.policy", List)
        .default("delete")
        .any_of(&["compact", "delete"])
        .dynamic()
        .doc("Default of the topics' cleanup.policy."),
    Key::broker("log.flush.interval.messages", Long)
        .default("9223372036854775807")
        .between(1, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' flush.messages."),
    Key::broker("log.flush.interval.ms", Long)
        .between(0, LONG_MAX)
        .dynamic()
        .synonyms(&[in_units("log.flush.scheduler.interval.ms", 1)])
        .doc(
            "Default of the topics' flush.ms. Where it is not set, log.flush.scheduler.interval.ms \
             counts.",
        ),
    Key::broker("log.flush.scheduler.interval.ms", Long)
        .default("9223372036854775807")
        .between(1, LONG_MAX)
        .doc("How often the flusher looks for logs whose flush.ms has passed."),
    Key::broker("log.flush.offset.checkpoint.interval.ms", Int)
        .default("60000")
        .between(0, INT_MAX)
        .doc("How often the recovery points are written. A crash scans logs from there on."),
    Key::broker("log.flush.start.offset.checkpoint.interval.ms", Int)
        .default("60000")
        .between(0, INT_MAX)
        .not_yet()
        .doc("How often the log start offsets are written."),
    Key::broker("log.message.timestamp.type", String)
        .default("CreateTime")
        .one_of(&["CreateTime", "LogAppendTime"])
        .dynamic()
        .doc("Default of the topics' message.timestamp.type."),
    Key::broker("log.message.timestamp.before.max.ms", Long)
        .default("9223372036854775807")
        .between(0, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' message.timestamp.before.max.ms."),
    Key::broker("log.message.timestamp.after.max.ms", Long)
        .default("3600000")
        .between(0, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' message.timestamp.after.max.ms."),
    Key::broker("log.preallocate", Boolean)
        .default("false")
        .dynamic()
        .doc("Default of the topics' preallocate."),
    Key::broker("num.recovery.threads.per.data.dir", Int)
        .default("2")
        .between(1, MAX_THREADS as i64)
        .doc(
            "Logs that are opened at the same time in the background after a start, and recovered \
             if the node did not stop cleanly. One that a client asks for is opened at once.",
        ),
    Key::broker("log.cleaner.enable", Boolean)
        .default("true")
        .doc("Whether logs with the cleanup policy compact are compacted."),
    Key::broker("log.cleaner.threads", Int)
        .default("1")
        .between(0, 1024)
        .doc("Logs that are compacted at the same time."),
    Key::broker("log.cleaner.io.max.bytes.per.second", Double)
        .default("1.7976931348623157E308")
        .ratio(0.0, f64::MAX)
        .dynamic()
        .doc("Bytes a second that compaction may read and write."),
    Key::broker("log.cleaner.dedupe.buffer.size", Long)
        .default("134217728")
        .between(1_048_576, LONG_MAX)
        .dynamic()
        .doc("Memory for the keys of the log that is being compacted, over all cleaner threads."),
    Key::broker("log.cleaner.io.buffer.size", Int)
        .default("524288")
        .between(0, INT_MAX)
        .dynamic()
        .doc("Memory for reading and writing during compaction, over all cleaner threads."),
    Key::broker("log.cleaner.io.buffer.load.factor", Double)
        .default("0.9")
        .ratio(0.0, 1.0)
        .dynamic()
        .doc(
            "How full the table of keys may become before a compaction goes on in a further pass.",
        ),
    Key::broker("log.cleaner.backoff.ms", Long)
        .default("15000")
        .between(0, LONG_MAX)
        .dynamic()
        .doc("How long the cleaner sleeps when there is nothing to compact."),
    Key::broker("log.cleaner.min.cleanable.ratio", Double)
        .default("0.5")
        .ratio(0.0, 1.0)
        .dynamic()
        .doc("Default of the topics' min.cleanable.dirty.ratio."),
    Key::broker("log.cleaner.delete.retention.ms", Long)
        .default("86400000")
        .between(0, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' delete.retention.ms."),
    Key::broker("log.cleaner.min.compaction.lag.ms", Long)
        .default("0")
        .between(0, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' min.compaction.lag.ms."),
    Key::broker("log.cleaner.max.compaction.lag.ms", Long)
        .default("9223372036854775807")
        .between(1, LONG_MAX)
        .dynamic()
        .doc("Default of the topics' max.compaction.lag.ms."),
    Key::broker("log.local.retention.bytes", Long)
        .default("-2")
        .between(-2, LONG_MAX)
        .dynamic()
        .not_yet()
        .doc("Default of the topics' local.retention.bytes."),
    Key::broker("log.local.retention.ms", Long)
        .default("-2")
        .between(-2, LONG_MAX)
        .dynamic()
        .not_yet()
        .doc("Default of the topics' local.retention.ms."),
];
