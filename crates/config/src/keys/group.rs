//! Keys of consumer groups and of committed offsets.
//!
//! Input: nothing. Output: rows of the table.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there.

use crate::key::ConfigType::{Int, List, Long, Short, String};
use crate::key::{INT_MAX, Key, LONG_MAX, Rule, SHORT_MAX};

pub(super) const KEYS: &[Key] = &[
    Key::broker("group.min.session.timeout.ms", Int)
        .default("6000")
        .between(1, INT_MAX)
        .doc("The shortest session that a member of a classic group may ask for."),
    Key::broker("group.max.session.timeout.ms", Int)
        .default("1800000")
        .between(1, INT_MAX)
        .doc("The longest session that a member of a classic group may ask for."),
    Key::broker("group.initial.rebalance.delay.ms", Int)
        .default("3000")
        .between(0, INT_MAX)
        .doc(
            "How long an empty classic group waits for further members before its first \
             rebalance.",
        ),
    Key::broker("group.max.size", Int)
        .default("2147483647")
        .between(1, INT_MAX)
        .doc("Members of a classic group."),
    Key::broker("group.coordinator.rebalance.protocols", List)
        .default("classic,consumer")
        .one_of(&["classic", "consumer"])
        .not_yet()
        .doc("The kinds of group that are served. Kafka's default has streams too."),
    Key::broker("group.consumer.session.timeout.ms", Int)
        .default("45000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("After how long without a heartbeat a member of a consumer group is gone."),
    Key::broker("group.consumer.min.session.timeout.ms", Int)
        .default("45000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("The shortest session timeout that a single consumer group may be given."),
    Key::broker("group.consumer.max.session.timeout.ms", Int)
        .default("60000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("The longest session timeout that a single consumer group may be given."),
    Key::broker("group.consumer.heartbeat.interval.ms", Int)
        .default("5000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("How often members of a consumer group send a heartbeat."),
    Key::broker("group.consumer.min.heartbeat.interval.ms", Int)
        .default("5000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("The shortest heartbeat interval that a single consumer group may be given."),
    Key::broker("group.consumer.max.heartbeat.interval.ms", Int)
        .default("15000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("The longest heartbeat interval that a single consumer group may be given."),
    Key::broker("group.consumer.max.size", Int)
        .default("2147483647")
        .between(1, INT_MAX)
        .not_yet()
        .doc("Members of a consumer group."),
    Key::broker("group.consumer.assignors", List)
        .default("uniform,range")
        .one_of(&["uniform", "range"])
        .not_yet()
        .doc("The assignors of consumer groups on the broker's side; the first is the default."),
    Key::broker("group.consumer.migration.policy", String)
        .default("bidirectional")
        .one_of(&["bidirectional", "upgrade", "downgrade", "disabled"])
        .not_yet()
        .doc(
            "Which way a group may change between the classic and the consumer protocol while it \
             lives.",
        ),
    Key::broker("offset.metadata.max.bytes", Int)
        .default("4096")
        .between(0, INT_MAX)
        .doc("Bytes of metadata that a member may commit beside an offset."),
    Key::broker("offsets.commit.timeout.ms", Int)
        .default("5000")
        .between(1, INT_MAX)
        .doc("How long a commit waits until the replicas have it."),
    Key::broker("offsets.load.buffer.size", Int)
        .default("5242880")
        .between(1, INT_MAX)
        .doc("Bytes read at a time while a coordinator loads its groups."),
    Key::broker("offsets.retention.check.interval.ms", Long)
        .default("600000")
        .between(1, LONG_MAX)
        .doc("How often groups are searched for offsets that have expired."),
    Key::broker("offsets.retention.minutes", Int)
        .default("10080")
        .between(1, INT_MAX)
        .doc("How long offsets outlive the last member of their group."),
    Key::broker("offsets.topic.num.partitions", Int)
        .default("50")
        .between(1, INT_MAX)
        .doc("Partitions of __consumer_offsets; not to be changed once the topic exists."),
    Key::broker("offsets.topic.replication.factor", Short)
        .computed(Rule::ReplicationFactor)
        .between(1, SHORT_MAX)
        .doc(
            "Replicas of __consumer_offsets. Kafka's default is 3, and a smaller cluster can't \
             have groups; here it grows with the cluster.",
        ),
    Key::broker("offsets.topic.segment.bytes", Int)
        .default("104857600")
        .between(1, INT_MAX)
        .doc("The segment size of __consumer_offsets."),
];
