//! A whole node in a test: the broker of this crate on a simulated machine, without the network.
//!
//! Input: a seed, configuration. Output: a running [`Broker`] and short ways to use it.
//!
//! Invariant: nothing here does what a handler does; batches go to replicas, requests to the
//! controller.
//!
//! Source: none.

mod audited;
pub(crate) mod cluster;

use std::sync::Arc;
use std::time::Duration;

use skein_config::{BrokerConfig, ClusterSecret, Layers, SecretFile};
use skein_controller::{
    AlterConfigs, ConfigChange, CreateTopics, DeleteTopics, KeyAlteration, NewTopic,
    ResourceChange, TopicReference,
};
use skein_env::Env;
use skein_env::sim::{DiskSpeed, SimWorld};
use skein_net::{BytesPermit, ConnectionInfo, RequestHead};
use skein_partition::Acks;
use skein_protocol::ApiKey;
use skein_quorum::AuditLog;
use skein_record::{BatchBuf, BatchBuilder, Codec};
use skein_types::{
    ErrorCode, Millis, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId,
};

use crate::Broker;
use crate::cold_reads::ColdReader;
use crate::node::Shared;
use crate::replica::{AckResult, Replica};
use crate::router::Context;
use crate::session::ClientConnection;

/// The simulated machine.
pub(crate) const HOST: &str = "node";

/// Where the peers of a simulated cluster listen.
const PEER_PORT: u16 = 9192;

/// Where its logs are.
pub(crate) const LOG_DIR: &str = "/data";

/// The time of day at which a simulated world begins.
pub(crate) const NOW: Millis = Millis(1_704_067_200_000);

/// Kinds of resources that have configurations, as the protocol numbers them.
const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;

/// How long a produce waits.
const TIMEOUT: Millis = Millis(30_000);

/// A configuration of the simulated machine.
pub(crate) fn config(world: &SimWorld, settings: &[&str]) -> Arc<BrokerConfig> {
    Arc::new(layers(world, HOST, settings).build().unwrap().0)
}

/// A configuration of one of the `hosts` of a cluster.
pub(crate) fn cluster_config(
    world: &SimWorld,
    host: &str,
    hosts: &[&str],
    settings: &[&str],
) -> Arc<BrokerConfig> {
    let peer = |host: &&str| format!("{}:{PEER_PORT}", world.address(host));
    let peers: Vec<String> = hosts.iter().map(peer).collect();
    let layers = layers(world, host, settings)
        .set(&format!("peer.listener={}", peer(&host)))
        .set(&format!("cluster.peers={}", peers.join(",")))
        .set("cluster.secret.file=/secret");
    Arc::new(layers.build().unwrap().0)
}

fn layers(world: &SimWorld, host: &str, settings: &[&str]) -> Layers {
    let address = world.address(host);
    let mut layers = Layers::new()
        .set(&format!("listeners=PLAINTEXT://{address}:9092"))
        .set(&format!("log.dirs={LOG_DIR}"))
        .set("http.listener=")
        .set("auto.create.topics.enable=false");
    for setting in settings {
        layers = layers.set(setting);
    }
    layers
}

/// Runs `test` on a node in a world of its own.
pub(crate) fn with_node(seed: u64, settings: &[&str], test: impl AsyncFnOnce(&SimWorld, Node)) {
    let world = SimWorld::new(seed);
    let config = config(&world, settings);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        test(&world, node).await;
    });
}

/// A disk whose calls, and flushes beyond that, take so long.
pub(crate) fn speed(call: Duration, sync_max: Duration) -> DiskSpeed {
    DiskSpeed {
        call,
        cold_page: Duration::ZERO,
        page: Duration::ZERO,
        sync_max,
    }
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) broker: Broker,
}

impl Node {
    pub(crate) async fn start(env: Env, config: &Arc<BrokerConfig>) -> Self {
        Self::start_audited(env, config, None).await
    }

    pub(crate) async fn start_audited(
        env: Env,
        config: &Arc<BrokerConfig>,
        audit: Option<AuditLog>,
    ) -> Self {
        let secret = config.node.cluster_secret_file.as_ref().map(|path| {
            let bytes = b"sixteen bytes or more".to_vec();
            let file = SecretFile { bytes, mode: 0o600 };
            ClusterSecret::from_file(path, Ok(file)).unwrap()
        });
        let broker = Broker::start_audited(env, Arc::clone(config), secret, audit)
            .await
            .unwrap();
        Self { broker }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.broker.shared()
    }

    pub(crate) async fn create(&self, topic: &str, configs: &[(&str, &str)]) -> TopicId {
        create(self.shared(), topic, configs).await.unwrap()
    }

    pub(crate) async fn delete(&self, topic: &str) {
        let delete = DeleteTopics {
            topics: vec![TopicReference {
                name: Some(topic.to_owned()),
                id: TopicId::ZERO,
            }],
        };
        let mut results = self.shared().controller.propose(delete).await.unwrap();
        results.remove(0).result.unwrap();
    }

    pub(crate) async fn alter(&self, topic: &str, key: &str, value: &str) {
        self.alter_resource(TOPIC_RESOURCE, topic, key, value).await;
    }

    /// Sets a key of one broker, or with an empty name of all.
    pub(crate) async fn alter_broker(&self, broker: &str, key: &str, value: &str) {
        self.alter_resource(BROKER_RESOURCE, broker, key, value)
            .await;
    }

    async fn alter_resource(&self, resource_type: i8, name: &str, key: &str, value: &str) {
        let set = KeyAlteration {
            key: key.to_owned(),
            operation: 0,
            value: Some(value.to_owned()),
        };
        let alter = AlterConfigs {
            resources: vec![ResourceChange {
                resource_type,
                name: name.to_owned(),
                change: ConfigChange::Keys(vec![set]),
            }],
            validate_only: false,
        };
        let mut results = self.shared().controller.propose(alter).await.unwrap();
        results.remove(0).result.unwrap();
    }

    pub(crate) async fn replica(&self, topic: &str) -> Result<Arc<Replica>, ErrorCode> {
        self.shared()
            .replicas
            .by_name(topic, PartitionIndex(0))
            .await
    }

    /// Of a request of a client.
    pub(crate) fn context(&self, api: ApiKey, version: i16) -> Context {
        Context {
            head: RequestHead {
                api_key: api.code(),
                api_version: version,
                correlation_id: 7,
                client_id: None,
            },
            connection: Arc::new(ClientConnection {
                info: ConnectionInfo {
                    id: 1,
                    peer: ([127, 0, 0, 1], 1).into(),
                    listener: Arc::from("PLAINTEXT"),
                },
                metrics: Arc::clone(&self.shared().metrics),
                cold_reader: ColdReader::default(),
            }),
        }
    }

    /// Appends to partition 0 and waits for the answer.
    pub(crate) async fn produce(&self, topic: &str, batch: BatchBuf) -> AckResult {
        let replica = self.replica(topic).await.unwrap();
        append(&replica, batch, Acks::All).result().await
    }
}

/// Asks the controller for a topic of one partition.
pub(crate) async fn create(
    shared: &Shared,
    topic: &str,
    configs: &[(&str, &str)],
) -> Result<TopicId, ErrorCode> {
    let create = CreateTopics {
        topics: vec![NewTopic {
            name: topic.to_owned(),
            num_partitions: 1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: configs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())))
                .collect(),
        }],
        validate_only: false,
    };
    let proposed = shared.controller.propose(create).await;
    let mut results = proposed.map_err(|refusal| refusal.code)?;
    let created = results.remove(0).result.map_err(|refusal| refusal.code)?;
    Ok(created.topic_id)
}

/// Appends as the handler does.
pub(crate) fn append(replica: &Arc<Replica>, batch: BatchBuf, acks: Acks) -> crate::replica::Reply {
    replica.append(batch, acks, TIMEOUT, BytesPermit::none())
}

/// A batch of `records` records with `value`.
pub(crate) fn batch(records: usize, value: &[u8]) -> BatchBuf {
    builder(records, value).build().unwrap()
}

/// A batch of an idempotent producer.
pub(crate) fn batch_of(producer: i64, sequence: i32, records: usize) -> BatchBuf {
    let mut builder = builder(records, b"value");
    builder.set_producer(ProducerId(producer), ProducerEpoch(0), Sequence(sequence));
    builder.build().unwrap()
}

fn builder(records: usize, value: &[u8]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..records {
        builder.append(NOW, Some(b"key"), Some(value), &[]).unwrap();
    }
    builder
}

/// The batches of a replica that readers may see, from its log's start.
pub(crate) fn read_all(replica: &Replica) -> Vec<BatchBuf> {
    let view = replica.view();
    let mut offset = view.offsets.log_start_offset;
    let end = view.offsets.high_watermark;
    let mut batches = Vec::new();
    while let Some(range) = view.log.read(offset, 1, end, true).unwrap() {
        let mut bytes = vec![0; usize::try_from(range.length).unwrap()];
        assert_eq!(
            range.file.read_at(&mut bytes, range.position).unwrap(),
            bytes.len()
        );
        let batch = BatchBuf::new(bytes.as_slice().into()).unwrap();
        batch.view().check_crc().unwrap();
        offset = batch.header().next_offset();
        batches.push(batch);
    }
    assert_eq!(
        offset, end,
        "readers see less than the high watermark promises"
    );
    batches
}

/// The path of a topic's first partition.
pub(crate) fn partition_path(topic: &str) -> std::path::PathBuf {
    std::path::Path::new(LOG_DIR).join(format!("{topic}-0"))
}
