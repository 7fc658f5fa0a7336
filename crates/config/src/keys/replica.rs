//! Keys of replication, of heartbeats and of the metadata quorum.
//!
//! Input: nothing. Output: rows of the table.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there.

use crate::key::ConfigType::{Boolean, Int, Long};
use crate::key::{INT_MAX, Key, LONG_MAX, MAX_THREADS};

pub(super) const KEYS: &[Key] = &[
    Key::broker("broker.heartbeat.interval.ms", Int)
        .default("400")
        .between(10, INT_MAX)
        .doc("How often a broker tells the controller that it lives. Kafka's default is 2000."),
    Key::broker("broker.session.timeout.ms", Int)
        .default("2000")
        .between(100, INT_MAX)
        .doc(
            "A broker that was not heard for so long is fenced: it leads nothing. It also bounds \
             how long a leader acts without having heard of its cluster. Kafka's default is \
             9000.",
        ),
    Key::broker("controlled.shutdown.enable", Boolean)
        .default("true")
        .doc("Whether a broker hands its partitions over before it stops."),
    Key::broker("auto.leader.rebalance.enable", Boolean)
        .default("true")
        .doc("Whether leadership returns to the preferred replicas by itself."),
    Key::broker("leader.imbalance.check.interval.seconds", Long)
        .default("300")
        .between(1, LONG_MAX)
        .doc("How often the controller looks for leaders that are not the preferred replicas."),
    Key::broker("num.replica.fetchers", Int)
        .default("1")
        .between(1, MAX_THREADS as i64)
        .not_yet()
        .doc("Connections over which a follower fetches from each leader."),
    Key::broker("replica.fetch.backoff.ms", Int)
        .default("1000")
        .between(0, INT_MAX)
        .doc("How long a follower waits after a fetch that failed."),
    Key::broker("replica.fetch.max.bytes", Int)
        .default("1048576")
        .between(0, INT_MAX)
        .doc("Bytes of one partition in a follower's fetch; a single batch may be larger."),
    Key::broker("replica.fetch.min.bytes", Int)
        .default("1")
        .between(1, INT_MAX)
        .doc("Bytes that a leader waits for before it answers a follower's fetch."),
    Key::broker("replica.fetch.response.max.bytes", Int)
        .default("10485760")
        .between(0, INT_MAX)
        .doc("Bytes in the answer to a follower's fetch; a single batch may be larger."),
    Key::broker("replica.fetch.wait.max.ms", Int)
        .default("500")
        .between(0, INT_MAX)
        .doc("How long a leader holds a follower's fetch back. Less than replica.lag.time.max.ms."),
    Key::broker("replica.high.watermark.checkpoint.interval.ms", Long)
        .default("5000")
        .between(1, LONG_MAX)
        .doc("How often high watermarks are written to disk."),
    Key::broker("replica.lag.time.max.ms", Long)
        .default("10000")
        .between(1, LONG_MAX)
        .doc(
            "A follower that has not reached its leader's log end for so long leaves the in-sync \
             replicas. Kafka's default is 30000.",
        ),
    Key::broker("replica.socket.receive.buffer.bytes", Int)
        .default("65536")
        .between_or(1, INT_MAX, -1)
        .not_yet()
        .doc("The receive buffer of a follower's socket; -1 leaves it to the system."),
    Key::broker("replica.socket.timeout.ms", Int)
        .default("30000")
        .between(1, INT_MAX)
        .doc(
            "How long a follower waits for a leader's answer. At least replica.fetch.wait.max.ms.",
        ),
    Key::broker("metadata.log.segment.bytes", Int)
        .default("1073741824")
        .between(8_388_608, INT_MAX)
        .not_yet()
        .doc("The size at which the metadata log goes on in a new segment."),
    Key::broker("metadata.log.max.record.bytes.between.snapshots", Long)
        .default("20971520")
        .between(1, LONG_MAX)
        .not_yet()
        .doc("Bytes of new metadata records after which the next snapshot is made."),
    Key::broker("metadata.log.max.snapshot.interval.ms", Long)
        .default("3600000")
        .between(0, LONG_MAX)
        .not_yet()
        .doc("The longest time between two snapshots while there are new records; 0: no limit."),
];
