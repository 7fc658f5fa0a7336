//! Keys of topics.
//!
//! Input: nothing. Output: rows of the table. A topic's value is its own override, else that of its
//! broker synonyms, first one first, else the default.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there; and the rows are those of Kafka
//! 4.1.1, together with `durability` and `redacted.records`.

use crate::key::ConfigType::{Boolean, Double, Int, List, Long, String};
use crate::key::{INT_MAX, Key, LONG_MAX, Rule, Synonym};
use crate::redacted_records::{REDACTED_RECORDS, RedactedRecord};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

const fn from(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

const fn in_units(name: &'static str, factor: i64) -> Synonym {
    Synonym { name, factor }
}

pub(super) const KEYS: &[Key] = &[
    Key::topic("cleanup.policy", List)
        .default("delete")
        .any_of(&["compact", "delete"])
        .synonyms(&[from("log.cleanup.policy")])
        .doc(
            "What happens to old records: delete lets go of whole segments by retention.ms and \
             retention.bytes; compact keeps the last record of each key; both may stand \
             together. Without either, everything is kept.",
        ),
    Key::topic("durability", String)
        .default("replicated")
        .one_of(&["replicated", "flushed"])
        .doc(
            "When a record counts as safe: replicated, as in Kafka, when all in-sync replicas have \
             it in memory; flushed, when all of them have it on disk. Acknowledgements of acks=all \
             and all consumers wait for it. Skein's own key.",
        ),
    Key::both("compression.type", String)
        .default("producer")
        .one_of(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"])
        .doc(
            "The codec of stored batches. producer keeps each batch as its producer sent it; with \
             any other the broker unpacks what comes in another codec and packs it anew.",
        ),
    Key::both("compression.gzip.level", Int)
        .default("-1")
        .between_or(1, 9, -1)
        .doc("The level where compression.type is gzip; -1 is the codec's own default."),
    Key::both("compression.lz4.level", Int)
        .default("9")
        .between(1, 17)
        .not_yet()
        .doc("The level where compression.type is lz4; LZ4 is written at one level here."),
    Key::both("compression.zstd.level", Int)
        .default("3")
        .between(-131_072, 22)
        .doc("The level where compression.type is zstd."),
    Key::topic("delete.retention.ms", Long)
        .default("86400000")
        .between(0, LONG_MAX)
        .synonyms(&[from("log.cleaner.delete.retention.ms")])
        .doc("How long compaction keeps a tombstone, so that slow readers see the deletion."),
    Key::topic("file.delete.delay.ms", Long)
        .default("60000")
        .between(0, LONG_MAX)
        .synonyms(&[from("log.segment.delete.delay.ms")])
        .doc("How long the file of a segment stays after the segment has left the log."),
    Key::topic("flush.messages", Long)
        .default("9223372036854775807")
        .between(1, LONG_MAX)
        .synonyms(&[from("log.flush.interval.messages")])
        .doc(
            "A log is flushed to disk after so many records. The largest number: never for this \
             reason.",
        ),
    Key::topic("flush.ms", Long)
        .default("9223372036854775807")
        .between(0, LONG_MAX)
        .synonyms(&[
            from("log.flush.interval.ms"),
            from("log.flush.scheduler.interval.ms"),
        ])
        .doc("A log is flushed to disk after so long. The largest number: never for this reason."),
    Key::topic("follower.replication.throttled.replicas", List)
        .default("")
        .form(
            "*, or partition:broker with commas between pairs",
            is_throttled_replica,
        )
        .not_yet()
        .doc("The replicas whose followers fetch at the throttled rate; * for all."),
    Key::topic("index.interval.bytes", Int)
        .default("4096")
        .between(0, INT_MAX)
        .synonyms(&[from("log.index.interval.bytes")])
        .doc(
            "Bytes of log between two index entries: a finer index is larger, and lookups scan \
             less.",
        ),
    Key::topic("internal.segment.bytes", Int)
        .between(1, INT_MAX)
        .internal()
        .doc("Takes the place of segment.bytes, also below its least value. For tests."),
    Key::topic("leader.replication.throttled.replicas", List)
        .default("")
        .form(
            "*, or partition:broker with commas between pairs",
            is_throttled_replica,
        )
        .not_yet()
        .doc("The replicas whose leaders send at the throttled rate; * for all."),
    Key::topic("local.retention.bytes", Long)
        .default("-2")
        .between(-2, LONG_MAX)
        .synonyms(&[from("log.local.retention.bytes")])
        .not_yet()
        .doc("Bytes of a tiered partition that stay on the broker; -2: as retention.bytes."),
    Key::topic("local.retention.ms", Long)
        .default("-2")
        .between(-2, LONG_MAX)
        .synonyms(&[from("log.local.retention.ms")])
        .not_yet()
        .doc("How long segments of a tiered partition stay on the broker; -2: as retention.ms."),
    Key::topic("max.compaction.lag.ms", Long)
        .default("9223372036854775807")
        .between(1, LONG_MAX)
        .synonyms(&[from("log.cleaner.max.compaction.lag.ms")])
        .doc("A record is considered for compaction at the latest after so long."),
    Key::topic("max.message.bytes", Int)
        .default("1048588")
        .between(0, INT_MAX)
        .synonyms(&[from("message.max.bytes")])
        .doc(
            "The largest batch, as it is stored. What a broker can't receive at all, by its \
             socket.request.max.bytes and queued.max.request.bytes, is too large whatever this \
             says.",
        ),
    Key::topic("message.timestamp.after.max.ms", Long)
        .default("3600000")
        .between(0, LONG_MAX)
        .synonyms(&[from("log.message.timestamp.after.max.ms")])
        .doc(
            "How far a record's timestamp may lie after the broker's clock. Not for \
             LogAppendTime.",
        ),
    Key::topic("message.timestamp.before.max.ms", Long)
        .default("9223372036854775807")
        .between(0, LONG_MAX)
        .synonyms(&[from("log.message.timestamp.before.max.ms")])
        .doc(
            "How far a record's timestamp may lie before the broker's clock. Not for \
             LogAppendTime.",
        ),
    Key::topic("message.timestamp.type", String)
        .default("CreateTime")
        .one_of(&["CreateTime", "LogAppendTime"])
        .synonyms(&[from("log.message.timestamp.type")])
        .doc("Whether records keep the time of their producer or get that of their append."),
    Key::topic("min.cleanable.dirty.ratio", Double)
        .default("0.5")
        .ratio(0.0, 1.0)
        .synonyms(&[from("log.cleaner.min.cleanable.ratio")])
        .doc("The share of uncompacted bytes at which a log is worth a compaction."),
    Key::topic("min.compaction.lag.ms", Long)
        .default("0")
        .between(0, LONG_MAX)
        .synonyms(&[from("log.cleaner.min.compaction.lag.ms")])
        .doc("A record stays uncompacted at least so long."),
    Key::both("min.insync.replicas", Int)
        .computed(Rule::MinInsyncReplicas)
        .between(1, i16::MAX as i64)
        .doc(
            "Replicas that must have a record before acks=all is answered and consumers see it; \
             never more than a partition has. Kafka's default is 1; here one of three replicas may \
             be lost without losing a record.",
        ),
    Key::topic("preallocate", Boolean)
        .default("false")
        .synonyms(&[from("log.preallocate")])
        .doc("Whether the blocks of a new segment are reserved on the disk when it is made."),
    Key::topic(REDACTED_RECORDS, List)
        .default("")
        .form("partition:offset with commas between records", |item| {
            RedactedRecord::parse(item).is_some()
        })
        .kept_by_replace()
        .doc(
            "Records that no reader sees any more, 1024 at most; their offsets stay. A mark and no \
             deletion: the bytes stay on the disk until retention or compaction take them. A \
             replaced configuration (AlterConfigs) that does not name the key leaves it as it is. \
             'skein record' changes it. Skein's own key.",
        ),
    Key::topic("remote.log.copy.disable", Boolean)
        .default("false")
        .not_yet()
        .doc("Whether a tiered topic stops copying segments to remote storage."),
    Key::topic("remote.log.delete.on.disable", Boolean)
        .default("false")
        .not_yet()
        .doc("Whether remote segments are deleted when tiering is turned off."),
    Key::topic("remote.storage.enable", Boolean)
        .default("false")
        .form("false: this version has no remote storage", |value| {
            value == "false"
        })
        .not_yet()
        .doc("Whether old segments move to remote storage."),
    Key::topic("retention.bytes", Long)
        .default("-1")
        .between(-1, LONG_MAX)
        .synonyms(&[from("log.retention.bytes")])
        .doc("Bytes that a partition may hold before its oldest segments go; -1: no limit."),
    Key::topic("retention.ms", Long)
        .default("604800000")
        .between(-1, LONG_MAX)
        .synonyms(&[
            from("log.retention.ms"),
            in_units("log.retention.minutes", MINUTE_MS),
            in_units("log.retention.hours", HOUR_MS),
        ])
        .doc(
            "How long a record is kept at least; its segment goes when all in it are older. -1: \
             for ever.",
        ),
    Key::topic("segment.bytes", Int)
        .default("1073741824")
        .between(1_048_576, INT_MAX)
        .synonyms(&[from("log.segment.bytes")])
        .doc(
            "The size at which a log goes on in a new segment. Retention works by whole segments.",
        ),
    Key::topic("segment.fill.after.bytes", Long)
        .default("16777216")
        .between(-1, LONG_MAX)
        .synonyms(&[from("log.segment.fill.after.bytes")])
        .doc(
            "Bytes that a partition grows by without a pause before the file of its last segment \
             is filled with zeros a little ahead of its end, which makes small writes cheaper. \
             Tools that read the file meanwhile meet these zeros; they go as soon as the partition \
             is quiet. -1: never. Skein's own key.",
        ),
    Key::topic("segment.index.bytes", Int)
        .default("10485760")
        .between(12, INT_MAX)
        .synonyms(&[from("log.index.size.max.bytes")])
        .doc("The size of an index at which its log goes on in a new segment. Kafka's least is 4."),
    Key::topic("segment.jitter.ms", Long)
        .default("0")
        .between(0, LONG_MAX)
        .synonyms(&[
            from("log.roll.jitter.ms"),
            in_units("log.roll.jitter.hours", HOUR_MS),
        ])
        .doc(
            "A random time up to this is taken off segment.ms, so that logs do not roll all at \
             once.",
        ),
    Key::topic("segment.ms", Long)
        .default("604800000")
        .between(1, LONG_MAX)
        .synonyms(&[from("log.roll.ms"), in_units("log.roll.hours", HOUR_MS)])
        .doc(
            "The age at which a log goes on in a new segment, so that retention can let go of the \
             old.",
        ),
    Key::both("unclean.leader.election.enable", Boolean)
        .default("false")
        .doc(
            "Whether a replica that was not in sync may lead when no other is left. It brings the \
             partition back and loses records; the lost range is logged.",
        ),
];

fn is_throttled_replica(text: &str) -> bool {
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    text == "*"
        || text
            .split_once(':')
            .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
}
