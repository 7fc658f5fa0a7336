//! Keys of the network side: threads, sockets, and the limits on what is in flight.
//!
//! Input: nothing. Output: rows of the table.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there.

use crate::key::ConfigType::{Int, List, Long};
use crate::key::{INT_MAX, Key, LONG_MAX, MAX_THREADS, Rule};

pub(super) const KEYS: &[Key] = &[
    Key::broker("num.network.threads", Int)
        .computed(Rule::NetworkThreads)
        .between(1, MAX_THREADS as i64)
        .doc(
            "Threads that serve connections and run their requests, appends included. At most half \
             of them are in a write to disk at once. Kafka's default is 3; here the threads also \
             do the work of Kafka's num.io.threads.",
        ),
    Key::broker("num.io.threads", Int).default("8").between(1, MAX_THREADS as i64).doc(
        "Threads for work that may wait for a disk: reads of cold data, and writes to a directory \
         that has become slow.",
    ),
    Key::broker("background.threads", Int)
        .default("10")
        .between(1, MAX_THREADS as i64)
        .not_yet()
        .doc(
        "Threads for background work in Kafka. Skein's background work runs on the threads of \
         num.io.threads.",
    ),
    Key::broker("socket.request.max.bytes", Int)
        .default("104857600")
        .between(1, INT_MAX)
        .doc("The largest request. A longer one closes its connection."),
    Key::broker("socket.send.buffer.bytes", Int).default("-1").between_or(1, INT_MAX, -1)
        .doc(
        "The send buffer of a client's socket; -1 leaves it to the system, which adapts it. \
         Kafka's default is 102400.",
    ),
    Key::broker("socket.receive.buffer.bytes", Int)
        .default("-1")
        .between_or(1, INT_MAX, -1)
        .doc(
        "The receive buffer of a client's socket; -1 leaves it to the system, which adapts it. \
         Kafka's default is 102400.",
    ),
    Key::broker("socket.listen.backlog.size", Int)
        .default("1024")
        .between(1, INT_MAX)
        .doc(
            "How many connections may wait to be accepted; the system may cut it. All clients \
             come back at once after a restart, and who does not fit waits for a second. Kafka's \
             default is 50.",
        ),
    Key::broker("queued.max.requests", Int)
        .default("500")
        .between(1, INT_MAX)
        .not_yet()
        .doc("Requests of clients in flight on this node. At the limit, sockets are not read."),
    Key::broker("queued.max.request.bytes", Long)
        .default("67108864")
        .between(1_048_576, LONG_MAX)
        .doc(
            "Bytes of client requests in flight on this node. At the limit, sockets are not read. \
             Kafka has no limit by default (-1); here memory is always bounded.",
        ),
    Key::broker("queued.max.requests.per.connection", Int)
        .default("64")
        .between(1, 1024)
        .not_yet()
        .doc(
            "Requests in flight on one connection. At the limit, it is not read. Skein's own key.",
        ),
    Key::broker("queued.max.request.bytes.per.connection", Long)
        .default("8388608")
        .between(65_536, LONG_MAX)
        .not_yet()
        .doc(
            "Bytes of requests in flight on one connection; a single batch may be larger. At the \
             limit, the connection is not read. Skein's own key.",
        ),
    Key::broker("max.connections", Int)
        .default("2147483647")
        .between(0, INT_MAX)
        .dynamic()
        .doc("Connections of clients to this node. A further one is closed at once."),
    Key::broker("max.connections.per.ip", Int)
        .default("2147483647")
        .between(0, INT_MAX)
        .dynamic()
        .doc("Connections from one IP address. A further one is closed at once."),
    Key::broker("max.connections.per.ip.overrides", List)
        .told_as_text()
        .default("")
        .form("host:count, with commas between pairs", is_ip_limit)
        .dynamic()
        .doc("Limits for single IP addresses that take the place of max.connections.per.ip."),
    Key::broker("connections.max.idle.ms", Long)
        .default("600000")
        .between_or(1, LONG_MAX, -1)
        .doc("A connection without a request for so long is closed; -1: never."),
    Key::broker("request.timeout.ms", Int)
        .default("30000")
        .between(1, INT_MAX)
        .not_yet()
        .doc("How long a node waits for the answer to a request of its own to another node."),
    Key::broker("max.request.partition.size.limit", Int)
        .default("2000")
        .between(1, INT_MAX)
        .doc("Partitions in one answer to DescribeTopicPartitions."),
    Key::broker("fetch.max.bytes", Int)
        .default("57671680")
        .between(1024, INT_MAX)
        .doc("Bytes in one answer to a fetch; a single batch may be larger."),
    Key::broker("max.incremental.fetch.session.cache.slots", Int)
        .default("1000")
        .between(0, INT_MAX)
        .doc(
            "Fetch sessions that this node remembers, so that clients need not repeat their \
             partitions.",
        ),
];

fn is_ip_limit(text: &str) -> bool {
    parse_ip_limit(text).is_some()
}

/// Host and limit of `host:count`; an IPv6 address stands without brackets, as in Kafka.
pub(crate) fn parse_ip_limit(text: &str) -> Option<(&str, u32)> {
    let (host, count) = text.rsplit_once(':')?;
    let count = count.trim().parse().ok()?;
    (!host.trim().is_empty()).then(|| (host.trim(), count))
}
