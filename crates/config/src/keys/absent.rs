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
const NO_STREAMS_GROUPS: &str = "streams groups are not served; remove it";
const NO_TIERS: &str = "there is no tiered storage; remove it";
const NO_TLS: &str = "connections are not encrypted by this version; remove it";
const NO_SASL: &str = "clients are not authenticated by this version; remove it";
const NO_TOKENS: &str = "there are no delegation tokens; remove it";
const NO_PURGATORY: &str = "requests that wait leave nothing to purge; remove it";
const NO_QUOTAS: &str = "there are no quotas in this version; remove it";
const NO_MOVES: &str = "a node has one log directory; remove it";
const METADATA_LOG: &str = "snapshots keep the metadata log short; remove it";
const PEER_TIMES: &str = "the timing of connections between nodes is fixed; remove it";
const ONE_BATCH: &str = "a coordinator's records are written as they come; remove it";
const OWN_THREADS: &str = "coordinators have no threads of their own; remove it";
const INTERNAL: &str = "it is internal to Kafka; remove it";

/// Beginnings of keys, all of which are Kafka's and none of them Skein's.
pub(super) const PREFIXES: &[(&str, &str)] = &[
    ("alter.log.dirs.replication.quota.", NO_MOVES),
    ("delegation.token.", NO_TOKENS),
    ("group.share.", NO_SHARE_GROUPS),
    ("group.streams.", NO_STREAMS_GROUPS),
    ("metrics.", HTTP_METRICS),
    ("remote.fetch.", NO_TIERS),
    ("remote.list.", NO_TIERS),
    ("remote.log.index.", NO_TIERS),
    ("remote.log.manager.", NO_TIERS),
    ("remote.log.metadata.", NO_TIERS),
    ("remote.log.reader.", NO_TIERS),
    ("remote.log.storage.", NO_TIERS),
    ("sasl.", NO_SASL),
    ("share.coordinator.", NO_SHARE_GROUPS),
    ("ssl.", NO_TLS),
];

pub(super) const KEYS: &[(&str, &str)] = &[
    ("add.partitions.to.txn.retry.backoff.max.ms", PEER_TIMES),
    ("add.partitions.to.txn.retry.backoff.ms", PEER_TIMES),
    (
        "allow.everyone.if.no.acl.found",
        "there are no access control lists in this version; remove it",
    ),
    ("alter.config.policy.class.name", NO_PLUGINS),
    ("authorizer.class.name", NO_PLUGINS),
    ("broker.id", "use node.id"),
    (
        "broker.id.generation.enable",
        "without node.id, the controller gives an id; remove it",
    ),
    ("client.quota.callback.class", NO_PLUGINS),
    ("connection.failed.authentication.delay.ms", NO_SASL),
    ("connections.max.reauth.ms", NO_SASL),
    ("controller.listener.names", PEER_LISTENER),
    ("controller.performance.always.log.threshold.ms", INTERNAL),
    ("controller.performance.sample.period.ms", INTERNAL),
    ("controller.quorum.append.linger.ms", QUORUM_TIMES),
    ("controller.quorum.bootstrap.servers", PEERS),
    ("controller.quorum.election.backoff.max.ms", QUORUM_TIMES),
    ("controller.quorum.election.timeout.ms", QUORUM_TIMES),
    ("controller.quorum.fetch.timeout.ms", QUORUM_TIMES),
    ("controller.quorum.request.timeout.ms", QUORUM_TIMES),
    ("controller.quorum.retry.backoff.ms", QUORUM_TIMES),
    ("controller.quorum.voters", PEERS),
    ("controller.quota.window.num", NO_QUOTAS),
    ("controller.quota.window.size.seconds", NO_QUOTAS),
    ("controller.socket.timeout.ms", PEER_TIMES),
    ("create.topic.policy.class.name", NO_PLUGINS),
    (
        "delete.records.purgatory.purge.interval.requests",
        NO_PURGATORY,
    ),
    (
        "early.start.listeners",
        "listeners open when the node can serve them; remove it",
    ),
    ("fetch.purgatory.purge.interval.requests", NO_PURGATORY),
    ("group.consumer.regex.refresh.interval.ms", INTERNAL),
    ("group.coordinator.append.linger.ms", ONE_BATCH),
    ("group.coordinator.threads", OWN_THREADS),
    ("initial.broker.registration.timeout.ms", PEER_TIMES),
    ("inter.broker.listener.name", PEER_LISTENER),
    (
        "inter.broker.protocol.version",
        "nodes agree on versions by themselves; remove it",
    ),
    ("internal.metadata.delete.delay.millis", INTERNAL),
    ("internal.metadata.log.segment.bytes", INTERNAL),
    ("internal.metadata.max.batch.size.in.bytes", INTERNAL),
    ("internal.metadata.max.fetch.size.in.bytes", INTERNAL),
    ("kafka.metrics.polling.interval.secs", HTTP_METRICS),
    ("kafka.metrics.reporters", HTTP_METRICS),
    ("log.dir", "use log.dirs"),
    ("log.dir.failure.timeout.ms", NO_MOVES),
    ("log.initial.task.delay.ms", INTERNAL),
    (
        "log.message.format.version",
        "only the current record format is written; remove it",
    ),
    ("max.connection.creation.rate", NO_QUOTAS),
    ("metadata.log.segment.ms", METADATA_LOG),
    ("metadata.max.idle.interval.ms", QUORUM_TIMES),
    ("metadata.max.retention.bytes", METADATA_LOG),
    ("metadata.max.retention.ms", METADATA_LOG),
    ("metric.reporters", HTTP_METRICS),
    ("num.replica.alter.log.dirs.threads", NO_MOVES),
    (
        "offsets.topic.compression.codec",
        "committed offsets are not compressed; remove it",
    ),
    ("principal.builder.class", NO_PLUGINS),
    ("process.roles", NO_ROLES),
    ("producer.purgatory.purge.interval.requests", NO_PURGATORY),
    ("quota.window.num", NO_QUOTAS),
    ("quota.window.size.seconds", NO_QUOTAS),
    ("replica.selector.class", NO_PLUGINS),
    ("replication.quota.window.num", NO_QUOTAS),
    ("replication.quota.window.size.seconds", NO_QUOTAS),
    (
        "security.inter.broker.protocol",
        "what protects peers is cluster.secret.file",
    ),
    ("security.providers", NO_PLUGINS),
    ("server.max.startup.time.ms", INTERNAL),
    (
        "share.fetch.purgatory.purge.interval.requests",
        NO_SHARE_GROUPS,
    ),
    ("socket.connection.setup.timeout.max.ms", PEER_TIMES),
    ("socket.connection.setup.timeout.ms", PEER_TIMES),
    (
        "super.users",
        "there are no access control lists in this version; remove it",
    ),
    (
        "telemetry.max.bytes",
        "clients' own metrics are not taken; remove it",
    ),
    (
        "transaction.two.phase.commit.enable",
        "transactions are not served by this version; remove it",
    ),
    ("unclean.leader.election.interval.ms", INTERNAL),
    ("unstable.api.versions.enable", INTERNAL),
    ("unstable.feature.versions.enable", INTERNAL),
    ("zookeeper.connect", PEERS),
    (
        "zookeeper.connection.timeout.ms",
        "there is no ZooKeeper; remove it",
    ),
];
