//! Keys of idempotent producers and of transactions.
//!
//! Input: nothing. Output: rows of the table.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there.

use crate::key::ConfigType::{Boolean, Int, Short};
use crate::key::{INT_MAX, Key, Rule, SHORT_MAX};

pub(super) const KEYS: &[Key] = &[
    Key::broker("producer.id.expiration.ms", Int)
        .default("86400000")
        .between(1, INT_MAX)
        .dynamic()
        .doc(
            "How long a partition remembers the sequence numbers of a producer that writes no \
             more.",
        ),
    Key::broker("producer.id.expiration.check.interval.ms", Int)
        .default("600000")
        .between(1, INT_MAX)
        .internal()
        .not_yet()
        .doc("How often partitions are searched for producers that have expired."),
    Key::broker("transaction.max.timeout.ms", Int)
        .default("900000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("The longest timeout that a producer may ask for its transactions."),
    Key::broker("transactional.id.expiration.ms", Int)
        .default("604800000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("How long an unused transactional id is remembered."),
    Key::broker(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Int,
    )
    .default("10000")
    .between(1, INT_MAX)
    .not_yet()
    .doc("How often the coordinator looks for transactions that have run out of time."),
    Key::broker(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Int,
    )
    .default("3600000")
    .between(1, INT_MAX)
    .not_yet()
    .doc("How often the coordinator looks for transactional ids that have expired."),
    Key::broker("transaction.partition.verification.enable", Boolean)
        .default("true")
        .dynamic()
        .not_yet()
        .doc(
            "Whether a partition asks the coordinator before it takes a transaction's first \
             record.",
        ),
    Key::broker("transaction.state.log.num.partitions", Int)
        .default("50")
        .between(1, INT_MAX)
        .not_yet()
        .doc("Partitions of __transaction_state; not to be changed once the topic exists."),
    Key::broker("transaction.state.log.replication.factor", Short)
        .computed(Rule::ReplicationFactor)
        .between(1, SHORT_MAX)
        .not_yet()
        .doc(
            "Replicas of __transaction_state. Kafka's default is 3; here it grows with the \
             cluster.",
        ),
    Key::broker("transaction.state.log.min.isr", Int)
        .computed(Rule::MinInsyncReplicas)
        .between(1, SHORT_MAX)
        .not_yet()
        .doc("The min.insync.replicas of __transaction_state. Kafka's default is 2."),
    Key::broker("transaction.state.log.segment.bytes", Int)
        .default("104857600")
        .between(1, INT_MAX)
        .not_yet()
        .doc("The segment size of __transaction_state."),
    Key::broker("transaction.state.log.load.buffer.size", Int)
        .default("5242880")
        .between(1, INT_MAX)
        .not_yet()
        .doc("Bytes read at a time while a coordinator loads its transactions."),
];
