//! Keys of Kafka that Skein does without, and what to do instead.
//!
//! Input: nothing. Output: pairs of a key and a reason, for whoever brings a file that was written
//! for Kafka. An error that says why beats "unknown key".
//!
//! Invariant, checked by the tests of [`crate::keys`]: none of them is a key of Skein too.

const NO_ROLES: &str = "every node is a broker and takes part in the quorum; remove it";
const PEERS: &str = "the nodes of a cluster find one another by cluster.peers";
const QUORUM_TIMES: &str = "the quorum's timing is fixed; remove it";
const NO_PLUGINS: &str = "there are no plug-ins; remove it";
const PEER_LISTENER: &str = "the nodes talk to one another over peer.listener";
const NO_SHARE_GROUPS: &str = "share groups are not served; remove it";
const HTTP_METRICS: &str = "metrics are served at /metrics on http.listener; remove it";

/// Beginnings of keys, all of which are Kafka's and none of them Skein's.
pub(super) const PREFIXES: &[(&str, &str)] = &[
    ("group.share.", NO_SHARE_GROUPS),
    ("share.coordinator.", NO_SHARE_GROUPS),
];

pub(super) const KEYS: &[(&str, &str)] = &[
    ("alter.config.policy.class.name", NO_PLUGINS),
    ("authorizer.class.name", NO_PLUGINS),
    ("broker.id", "use node.id"),
    (
        "broker.id.generation.enable",
        "without node.id, the controller gives an id; remove it",
    ),
    ("client.quota.callback.class", NO_PLUGINS),
    ("controller.listener.names", PEER_LISTENER),
    ("controller.quorum.append.linger.ms", QUORUM_TIMES),
    ("controller.quorum.bootstrap.servers", PEERS),
    ("controller.quorum.election.backoff.max.ms", QUORUM_TIMES),
    ("controller.quorum.election.timeout.ms", QUORUM_TIMES),
    ("controller.quorum.fetch.timeout.ms", QUORUM_TIMES),
    ("controller.quorum.request.timeout.ms", QUORUM_TIMES),
    ("controller.quorum.retry.backoff.ms", QUORUM_TIMES),
    ("controller.quorum.voters", PEERS),
    ("create.topic.policy.class.name", NO_PLUGINS),
    (
        "early.start.listeners",
        "listeners open when the node can serve them; remove it",
    ),
    ("inter.broker.listener.name", PEER_LISTENER),
    (
        "inter.broker.protocol.version",
        "nodes agree on versions by themselves; remove it",
    ),
    ("kafka.metrics.reporters", HTTP_METRICS),
    ("log.dir", "use log.dirs"),
    (
        "log.message.format.version",
        "only the current record format is written; remove it",
    ),
    ("metric.reporters", HTTP_METRICS),
    ("process.roles", NO_ROLES),
    (
        "security.inter.broker.protocol",
        "what protects peers is cluster.secret.file",
    ),
    ("zookeeper.connect", PEERS),
    (
        "zookeeper.connection.timeout.ms",
        "there is no ZooKeeper; remove it",
    ),
];
