//! The sections of a broker's configuration.
//!
//! Input: settings. Output: structs whose fields are named as their keys, without the prefix that
//! the section already says. Durations are [`Millis`], sizes are bytes.
//!
//! Invariant, checked by a test of [`crate::BrokerConfig`]: with any allowed value of any key,
//! reading does not panic.

use std::path::{Path, PathBuf};

use skein_types::{BrokerId, Millis};

use crate::broker_config::Reader;
use crate::key::{Rule, min_insync_replicas};
use crate::listener::{
    Address, Listener, SecurityProtocol, parse_listener, parse_protocol_mapping,
};

/// Who the node is, where its data is, who its peers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.id`; the controller gives one where it is not set.
    pub node_id: Option<BrokerId>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// The directory of `log.dirs`.
    pub log_dir: PathBuf,
    /// `metadata.log.dir`, or its place below `log.dirs`.
    pub metadata_log_dir: PathBuf,
    /// `cluster.peers`: the peer listeners of all nodes; empty for a cluster of one.
    pub cluster_peers: Vec<Address>,
    /// `cluster.secret.file`.
    pub cluster_secret_file: Option<PathBuf>,
}

/// The metadata log's place below `log.dirs`. No partition's directory can have this name, because
/// those end in a number.
const METADATA_DIRECTORY: &str = "metadata";

impl NodeConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        let log_dir = reader
            .list("log.dirs")
            .into_iter()
            .next()
            .unwrap_or_default();
        let metadata_log_dir = reader.optional_text("metadata.log.dir").map(PathBuf::from);
        let peers = reader.list("cluster.peers");
        Self {
            node_id: reader
                .optional_int("node.id")
                .map(|id| BrokerId(clamped_id(id))),
            rack: reader.optional_text("broker.rack"),
            metadata_log_dir: metadata_log_dir
                .unwrap_or_else(|| Path::new(&log_dir).join(METADATA_DIRECTORY)),
            log_dir: PathBuf::from(log_dir),
            cluster_peers: peers.iter().filter_map(|peer| peer.parse().ok()).collect(),
            cluster_secret_file: reader
                .optional_text("cluster.secret.file")
                .map(PathBuf::from),
        }
    }
}

fn clamped_id(id: i64) -> i32 {
    i32::try_from(id).unwrap_or(i32::MAX)
}

/// Listeners, threads, sockets and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `listeners`: where clients connect.
    pub listeners: Vec<Listener>,
    /// For each of `listeners`, in their order, what clients are told. A port 0 stands for the port
    /// that the listener got.
    pub advertised_listeners: Vec<Listener>,
    /// `peer.listener`: where the other nodes connect.
    pub peer_listener: Address,
    /// `http.listener`; `None` serves no HTTP.
    pub http_listener: Option<Address>,
    /// `num.network.threads`; see [`NetworkConfig::network_threads`].
    pub num_network_threads: Option<u16>,
    /// `num.io.threads`.
    pub num_io_threads: u16,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: u32,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub socket_send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub socket_receive_buffer_bytes: Option<u32>,
    /// `socket.listen.backlog.size`.
    pub socket_listen_backlog_size: u32,
    /// `queued.max.requests`, on this node.
    pub queued_max_requests: u32,
    /// `queued.max.request.bytes`, on this node.
    pub queued_max_request_bytes: u64,
    /// `queued.max.requests.per.connection`.
    pub queued_max_requests_per_connection: u16,
    /// `queued.max.request.bytes.per.connection`.
    pub queued_max_request_bytes_per_connection: u64,
    /// `max.connections`.
    pub max_connections: u32,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: u32,
    /// `max.connections.per.ip.overrides`: address and limit.
    pub max_connections_per_ip_overrides: Vec<(String, u32)>,
    /// `connections.max.idle.ms`; `None` for ever.
    pub connections_max_idle_ms: Option<Millis>,
    /// `request.timeout.ms`, of this node's own requests.
    pub request_timeout_ms: Millis,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: u32,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub max_incremental_fetch_session_cache_slots: u32,
    /// `advertised.listeners` as they were written.
    pub(crate) advertised: Vec<(String, Address)>,
    /// `listener.security.protocol.map`.
    pub(crate) protocol_map: Vec<(String, SecurityProtocol)>,
}

impl NetworkConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        let pairs = |key| -> Vec<_> {
            reader
                .list(key)
                .iter()
                .filter_map(|text| parse_listener(text))
                .collect()
        };
        let map = reader.list("listener.security.protocol.map");
        let protocol_map: Vec<_> = map
            .iter()
            .filter_map(|text| parse_protocol_mapping(text))
            .collect();
        let bound: Vec<_> = pairs("listeners")
            .into_iter()
            .map(|(name, address)| listener(name, address, &protocol_map))
            .collect();
        let advertised = pairs("advertised.listeners");
        let overrides = reader.list("max.connections.per.ip.overrides");
        let overrides = overrides
            .iter()
            .filter_map(|text| crate::keys::parse_ip_limit(text));
        Self {
            advertised_listeners: bound
                .iter()
                .map(|one| advertise(one, &advertised))
                .collect(),
            listeners: bound,
            peer_listener: address(reader, "peer.listener").unwrap_or_else(unreachable_address),
            http_listener: address(reader, "http.listener"),
            num_network_threads: reader.optional_u16("num.network.threads"),
            num_io_threads: reader.u16("num.io.threads"),
            socket_request_max_bytes: reader.u32("socket.request.max.bytes"),
            socket_send_buffer_bytes: reader.u32_unless_negative("socket.send.buffer.bytes"),
            socket_receive_buffer_bytes: reader.u32_unless_negative("socket.receive.buffer.bytes"),
            socket_listen_backlog_size: reader.u32("socket.listen.backlog.size"),
            queued_max_requests: reader.u32("queued.max.requests"),
            queued_max_request_bytes: reader.u64("queued.max.request.bytes"),
            queued_max_requests_per_connection: reader.u16("queued.max.requests.per.connection"),
            queued_max_request_bytes_per_connection: reader
                .u64("queued.max.request.bytes.per.connection"),
            max_connections: reader.u32("max.connections"),
            max_connections_per_ip: reader.u32("max.connections.per.ip"),
            max_connections_per_ip_overrides: overrides
                .map(|(host, limit)| (host.to_owned(), limit))
                .collect(),
            connections_max_idle_ms: Some(reader.millis("connections.max.idle.ms"))
                .filter(|idle| idle.0 >= 0),
            request_timeout_ms: reader.millis("request.timeout.ms"),
            max_request_partition_size_limit: reader.u32("max.request.partition.size.limit"),
            fetch_max_bytes: reader.u32("fetch.max.bytes"),
            max_incremental_fetch_session_cache_slots: reader
                .u32("max.incremental.fetch.session.cache.slots"),
            advertised,
            protocol_map,
        }
    }

    /// Threads that serve connections, on a machine of so many cores.
    #[must_use]
    pub fn network_threads(&self, cores: u16) -> u16 {
        let facts = crate::key::Facts { brokers: 1, cores };
        self.num_network_threads
            .unwrap_or_else(|| Rule::NetworkThreads.compute(facts))
    }
}

fn listener(
    name: String,
    address: Address,
    protocol_map: &[(String, SecurityProtocol)],
) -> Listener {
    let mapped = protocol_map.iter().find(|(mapped, _)| *mapped == name);
    // A listener without a protocol is refused by `BrokerConfig::conflicts`.
    let security_protocol = mapped.map_or(SecurityProtocol::Plaintext, |(_, protocol)| *protocol);
    Listener {
        name,
        host: address.host,
        port: address.port,
        security_protocol,
    }
}

fn advertise(bound: &Listener, advertised: &[(String, Address)]) -> Listener {
    match advertised.iter().find(|(name, _)| *name == bound.name) {
        Some((_, address)) => Listener {
            host: address.host.clone(),
            port: address.port,
            ..bound.clone()
        },
        None => bound.clone(),
    }
}

fn address(reader: &Reader<'_>, key: &str) -> Option<Address> {
    reader.optional_text(key).and_then(|text| text.parse().ok())
}

/// For a key whose form is checked and whose default is an address: it always has one.
fn unreachable_address() -> Address {
    unreachable!("the table lets an invalid address through")
}

/// Intervals and threads of the logs' housekeeping.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: Millis,
    /// `log.flush.scheduler.interval.ms`; `None`: only by the topics' own times.
    pub flush_scheduler_interval_ms: Option<Millis>,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub flush_offset_checkpoint_interval_ms: Millis,
    /// `log.flush.start.offset.checkpoint.interval.ms`.
    pub flush_start_offset_checkpoint_interval_ms: Millis,
    /// `num.recovery.threads.per.data.dir`.
    pub num_recovery_threads_per_data_dir: u16,
    /// `log.cleaner.enable`.
    pub cleaner_enable: bool,
    /// `log.cleaner.threads`.
    pub cleaner_threads: u16,
    /// `log.cleaner.io.max.bytes.per.second`.
    pub cleaner_io_max_bytes_per_second: f64,
    /// `log.cleaner.dedupe.buffer.size`, in bytes.
    pub cleaner_dedupe_buffer_size: u64,
    /// `log.cleaner.io.buffer.size`, in bytes.
    pub cleaner_io_buffer_size: u32,
    /// `log.cleaner.io.buffer.load.factor`.
    pub cleaner_io_buffer_load_factor: f64,
    /// `log.cleaner.backoff.ms`.
    pub cleaner_backoff_ms: Millis,
}

impl LogConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        Self {
            retention_check_interval_ms: reader.millis("log.retention.check.interval.ms"),
            flush_scheduler_interval_ms: Some(reader.millis("log.flush.scheduler.interval.ms"))
                .filter(|interval| interval.0 != i64::MAX),
            flush_offset_checkpoint_interval_ms: reader
                .millis("log.flush.offset.checkpoint.interval.ms"),
            flush_start_offset_checkpoint_interval_ms: reader
                .millis("log.flush.start.offset.checkpoint.interval.ms"),
            num_recovery_threads_per_data_dir: reader.u16("num.recovery.threads.per.data.dir"),
            cleaner_enable: reader.bool("log.cleaner.enable"),
            cleaner_threads: reader.u16("log.cleaner.threads"),
            cleaner_io_max_bytes_per_second: reader.double("log.cleaner.io.max.bytes.per.second"),
            cleaner_dedupe_buffer_size: reader.u64("log.cleaner.dedupe.buffer.size"),
            cleaner_io_buffer_size: reader.u32("log.cleaner.io.buffer.size"),
            cleaner_io_buffer_load_factor: reader.double("log.cleaner.io.buffer.load.factor"),
            cleaner_backoff_ms: reader.millis("log.cleaner.backoff.ms"),
        }
    }
}

/// How topics come into being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreationConfig {
    /// `num.partitions`.
    pub num_partitions: u32,
    /// `default.replication.factor`; see [`TopicCreationConfig::replication_factor`].
    pub default_replication_factor: Option<u16>,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
}

impl TopicCreationConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        Self {
            num_partitions: reader.u32("num.partitions"),
            default_replication_factor: reader.optional_u16("default.replication.factor"),
            auto_create_topics_enable: reader.bool("auto.create.topics.enable"),
            delete_topic_enable: reader.bool("delete.topic.enable"),
        }
    }

    /// Replicas of a new topic whose creator names no number, in a cluster of so many brokers.
    #[must_use]
    pub fn replication_factor(&self, brokers: u16) -> u16 {
        replication_factor(self.default_replication_factor, brokers)
    }
}

fn replication_factor(setting: Option<u16>, brokers: u16) -> u16 {
    let facts = crate::key::Facts { brokers, cores: 1 };
    setting.unwrap_or_else(|| Rule::ReplicationFactor.compute(facts))
}

/// Replication, heartbeats, sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Millis,
    /// `broker.session.timeout.ms`.
    pub session_timeout_ms: Millis,
    /// `controlled.shutdown.enable`.
    pub controlled_shutdown_enable: bool,
    /// `auto.leader.rebalance.enable`.
    pub auto_leader_rebalance_enable: bool,
    /// `leader.imbalance.check.interval.seconds`, in milliseconds.
    pub leader_imbalance_check_interval_ms: Millis,
    /// `num.replica.fetchers`.
    pub num_replica_fetchers: u16,
    /// `replica.fetch.backoff.ms`.
    pub fetch_backoff_ms: Millis,
    /// `replica.fetch.max.bytes`.
    pub fetch_max_bytes: u32,
    /// `replica.fetch.min.bytes`.
    pub fetch_min_bytes: u32,
    /// `replica.fetch.response.max.bytes`.
    pub fetch_response_max_bytes: u32,
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max_ms: Millis,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_interval_ms: Millis,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: Millis,
    /// `replica.socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub socket_receive_buffer_bytes: Option<u32>,
    /// `replica.socket.timeout.ms`.
    pub socket_timeout_ms: Millis,
}

impl ReplicaConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        let imbalance_seconds = reader.int("leader.imbalance.check.interval.seconds");
        Self {
            heartbeat_interval_ms: reader.millis("broker.heartbeat.interval.ms"),
            session_timeout_ms: reader.millis("broker.session.timeout.ms"),
            controlled_shutdown_enable: reader.bool("controlled.shutdown.enable"),
            auto_leader_rebalance_enable: reader.bool("auto.leader.rebalance.enable"),
            leader_imbalance_check_interval_ms: Millis(imbalance_seconds.saturating_mul(1000)),
            num_replica_fetchers: reader.u16("num.replica.fetchers"),
            fetch_backoff_ms: reader.millis("replica.fetch.backoff.ms"),
            fetch_max_bytes: reader.u32("replica.fetch.max.bytes"),
            fetch_min_bytes: reader.u32("replica.fetch.min.bytes"),
            fetch_response_max_bytes: reader.u32("replica.fetch.response.max.bytes"),
            fetch_wait_max_ms: reader.millis("replica.fetch.wait.max.ms"),
            high_watermark_checkpoint_interval_ms: reader
                .millis("replica.high.watermark.checkpoint.interval.ms"),
            lag_time_max_ms: reader.millis("replica.lag.time.max.ms"),
            socket_receive_buffer_bytes: reader
                .u32_unless_negative("replica.socket.receive.buffer.bytes"),
            socket_timeout_ms: reader.millis("replica.socket.timeout.ms"),
        }
    }
}

/// The metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataConfig {
    /// `metadata.log.segment.bytes`.
    pub log_segment_bytes: u32,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub log_max_record_bytes_between_snapshots: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None`: no limit.
    pub log_max_snapshot_interval_ms: Option<Millis>,
}

impl MetadataConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        Self {
            log_segment_bytes: reader.u32("metadata.log.segment.bytes"),
            log_max_record_bytes_between_snapshots: reader
                .u64("metadata.log.max.record.bytes.between.snapshots"),
            log_max_snapshot_interval_ms: Some(
                reader.millis("metadata.log.max.snapshot.interval.ms"),
            )
            .filter(|interval| interval.0 > 0),
        }
    }
}

/// Consumer groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: Millis,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: Millis,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: Millis,
    /// `group.max.size`.
    pub max_size: u32,
    /// Whether `group.coordinator.rebalance.protocols` has `classic`.
    pub classic_enable: bool,
    /// Whether `group.coordinator.rebalance.protocols` has `consumer`.
    pub consumer_enable: bool,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: Millis,
    /// `group.consumer.min.session.timeout.ms`.
    pub consumer_min_session_timeout_ms: Millis,
    /// `group.consumer.max.session.timeout.ms`.
    pub consumer_max_session_timeout_ms: Millis,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval_ms: Millis,
    /// `group.consumer.min.heartbeat.interval.ms`.
    pub consumer_min_heartbeat_interval_ms: Millis,
    /// `group.consumer.max.heartbeat.interval.ms`.
    pub consumer_max_heartbeat_interval_ms: Millis,
    /// `group.consumer.max.size`.
    pub consumer_max_size: u32,
    /// `group.consumer.assignors`, the default one first.
    pub consumer_assignors: Vec<String>,
    /// Whether `group.consumer.migration.policy` lets a classic group become a consumer group.
    pub consumer_upgrade_enable: bool,
    /// Whether `group.consumer.migration.policy` lets a consumer group become a classic one.
    pub consumer_downgrade_enable: bool,
}

impl GroupConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        let protocols = reader.list("group.coordinator.rebalance.protocols");
        let has = |name: &str| protocols.iter().any(|protocol| protocol == name);
        let policy = reader
            .optional_text("group.consumer.migration.policy")
            .unwrap_or_default();
        let migrates = |way: &str| policy == "bidirectional" || policy == way;
        Self {
            min_session_timeout_ms: reader.millis("group.min.session.timeout.ms"),
            max_session_timeout_ms: reader.millis("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: reader.millis("group.initial.rebalance.delay.ms"),
            max_size: reader.u32("group.max.size"),
            classic_enable: has("classic"),
            consumer_enable: has("consumer"),
            consumer_session_timeout_ms: reader.millis("group.consumer.session.timeout.ms"),
            consumer_min_session_timeout_ms: reader.millis("group.consumer.min.session.timeout.ms"),
            consumer_max_session_timeout_ms: reader.millis("group.consumer.max.session.timeout.ms"),
            consumer_heartbeat_interval_ms: reader.millis("group.consumer.heartbeat.interval.ms"),
            consumer_min_heartbeat_interval_ms: reader
                .millis("group.consumer.min.heartbeat.interval.ms"),
            consumer_max_heartbeat_interval_ms: reader
                .millis("group.consumer.max.heartbeat.interval.ms"),
            consumer_max_size: reader.u32("group.consumer.max.size"),
            consumer_assignors: reader.list("group.consumer.assignors"),
            consumer_upgrade_enable: migrates("upgrade"),
            consumer_downgrade_enable: migrates("downgrade"),
        }
    }
}

/// Committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsConfig {
    /// `offset.metadata.max.bytes`.
    pub metadata_max_bytes: u32,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout_ms: Millis,
    /// `offsets.load.buffer.size`, in bytes.
    pub load_buffer_size: u32,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval_ms: Millis,
    /// `offsets.retention.minutes`, in milliseconds.
    pub retention_ms: Millis,
    /// `offsets.topic.num.partitions`.
    pub topic_num_partitions: u32,
    /// `offsets.topic.replication.factor`; see [`OffsetsConfig::replication_factor`].
    pub topic_replication_factor: Option<u16>,
    /// `offsets.topic.segment.bytes`.
    pub topic_segment_bytes: u32,
}

impl OffsetsConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        Self {
            metadata_max_bytes: reader.u32("offset.metadata.max.bytes"),
            commit_timeout_ms: reader.millis("offsets.commit.timeout.ms"),
            load_buffer_size: reader.u32("offsets.load.buffer.size"),
            retention_check_interval_ms: reader.millis("offsets.retention.check.interval.ms"),
            retention_ms: Millis(
                reader
                    .int("offsets.retention.minutes")
                    .saturating_mul(60_000),
            ),
            topic_num_partitions: reader.u32("offsets.topic.num.partitions"),
            topic_replication_factor: reader.optional_u16("offsets.topic.replication.factor"),
            topic_segment_bytes: reader.u32("offsets.topic.segment.bytes"),
        }
    }

    /// Replicas of `__consumer_offsets` in a cluster of so many brokers.
    #[must_use]
    pub fn replication_factor(&self, brokers: u16) -> u16 {
        replication_factor(self.topic_replication_factor, brokers)
    }
}

/// Producers and transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: Millis,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval_ms: Millis,
    /// `transaction.max.timeout.ms`.
    pub max_timeout_ms: Millis,
    /// `transactional.id.expiration.ms`.
    pub transactional_id_expiration_ms: Millis,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub abort_timed_out_cleanup_interval_ms: Millis,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub remove_expired_cleanup_interval_ms: Millis,
    /// `transaction.partition.verification.enable`.
    pub partition_verification_enable: bool,
    /// `transaction.state.log.num.partitions`.
    pub state_log_num_partitions: u32,
    /// `transaction.state.log.replication.factor`; see [`TransactionConfig::replication_factor`].
    pub state_log_replication_factor: Option<u16>,
    /// `transaction.state.log.min.isr`; see [`TransactionConfig::min_isr`].
    pub state_log_min_isr: Option<u16>,
    /// `transaction.state.log.segment.bytes`.
    pub state_log_segment_bytes: u32,
    /// `transaction.state.log.load.buffer.size`, in bytes.
    pub state_log_load_buffer_size: u32,
}

impl TransactionConfig {
    pub(crate) fn read(reader: &Reader<'_>) -> Self {
        Self {
            producer_id_expiration_ms: reader.millis("producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: reader
                .millis("producer.id.expiration.check.interval.ms"),
            max_timeout_ms: reader.millis("transaction.max.timeout.ms"),
            transactional_id_expiration_ms: reader.millis("transactional.id.expiration.ms"),
            abort_timed_out_cleanup_interval_ms: reader
                .millis("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
            remove_expired_cleanup_interval_ms: reader
                .millis("transaction.remove.expired.transaction.cleanup.interval.ms"),
            partition_verification_enable: reader.bool("transaction.partition.verification.enable"),
            state_log_num_partitions: reader.u32("transaction.state.log.num.partitions"),
            state_log_replication_factor: reader
                .optional_u16("transaction.state.log.replication.factor"),
            state_log_min_isr: reader.optional_u16("transaction.state.log.min.isr"),
            state_log_segment_bytes: reader.u32("transaction.state.log.segment.bytes"),
            state_log_load_buffer_size: reader.u32("transaction.state.log.load.buffer.size"),
        }
    }

    /// Replicas of `__transaction_state` in a cluster of so many brokers.
    #[must_use]
    pub fn replication_factor(&self, brokers: u16) -> u16 {
        replication_factor(self.state_log_replication_factor, brokers)
    }

    /// The `min.insync.replicas` of `__transaction_state` in a cluster of so many brokers.
    #[must_use]
    pub fn min_isr(&self, brokers: u16) -> u16 {
        let replicas = self.replication_factor(brokers);
        self.state_log_min_isr
            .unwrap_or_else(|| min_insync_replicas(replicas))
    }
}
