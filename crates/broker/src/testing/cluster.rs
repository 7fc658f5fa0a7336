//! Three nodes of one peer list, each on a simulated machine of its own.
//!
//! Input: a seed. Output: brokers that have found each other, and short ways to look at them.
//!
//! Invariant: waiting has a limit, so that a cluster that does not get on fails its test.
//!
//! Source: none.

use std::sync::Arc;
use std::time::Duration;

use skein_config::BrokerConfig;
use skein_env::sim::SimWorld;
use skein_metadata::Partition;
use skein_protocol::Str;
use skein_protocol::messages::create_topics::{CreatableReplicaAssignment, CreatableTopicConfig};
use skein_types::{BrokerId, PartitionIndex};
use tokio::time::{sleep, timeout};

use super::{Node, cluster_config, read_all};
use crate::handlers::create_topics;
use crate::replica::Replica;

/// The machines.
pub(crate) const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Until something comes to be in a cluster that is well.
const SOON: Duration = Duration::from_secs(10);

/// Runs `test` on three nodes that have found each other.
pub(crate) fn with_cluster(seed: u64, test: impl AsyncFnOnce(&SimWorld, Vec<Node>)) {
    with_settings(seed, &[], test);
}

/// As [`with_cluster`], with these settings on each.
pub(crate) fn with_settings(
    seed: u64,
    settings: &[&str],
    test: impl AsyncFnOnce(&SimWorld, Vec<Node>),
) {
    let world = SimWorld::new(seed);
    let configs = HOSTS.map(|host| cluster_config(&world, host, &HOSTS, settings));
    world.block_on(async {
        let [a, b, c] = &configs;
        let nodes = tokio::join!(
            start(&world, 0, a),
            start(&world, 1, b),
            start(&world, 2, c)
        );
        let nodes = vec![nodes.0, nodes.1, nodes.2];
        for node in &nodes {
            until(|| active(node) == 3).await;
        }
        test(&world, nodes).await;
    });
}

/// Starts the node of that number.
pub(crate) async fn start(world: &SimWorld, number: usize, config: &Arc<BrokerConfig>) -> Node {
    Node::start(world.node(HOSTS[number]), config).await
}

/// How many brokers may lead, as this node knows.
pub(crate) fn active(node: &Node) -> usize {
    let image = node.shared().image();
    let active = image.brokers().filter(|broker| image.is_active(broker.id));
    active.count()
}

/// Waits until it is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, wait).await.unwrap();
}

/// The number of the node that is the controller.
pub(crate) async fn controller_of(nodes: &[Node]) -> usize {
    let find = || {
        nodes
            .iter()
            .position(|node| node.shared().controller.is_controller())
    };
    until(|| find().is_some()).await;
    find().unwrap()
}

/// The topic of a test.
pub(crate) const TOPIC: &str = "topic";

/// A topic of one partition on all three, and the number of its leader.
pub(crate) async fn replicated(nodes: &[Node]) -> usize {
    replicated_with(nodes, &[]).await
}

/// As [`replicated`], with these settings of the topic.
pub(crate) async fn replicated_with(
    nodes: &[Node],
    configs: &[(&'static str, &'static str)],
) -> usize {
    let mut topic = create_topics::tests::topic_of_one(TOPIC);
    let config = |(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
        name: Str::from_static(name),
        value: Some(Str::from_static(value)),
    };
    topic.configs = configs.iter().map(config).collect();
    topic.replication_factor = 3;
    create_topics::make(nodes[0].shared(), vec![topic], 5_000)
        .await
        .unwrap();
    leader_of(nodes).await
}

/// As [`replicated`], led by the node of this number.
pub(crate) async fn replicated_on(nodes: &[Node], leader: usize) {
    create_on(nodes, TOPIC, leader).await;
    assert_eq!(leader_of(nodes).await, leader);
}

/// Makes a topic of one partition with a replica on each node, led by the node of this number.
pub(crate) async fn create_on(nodes: &[Node], name: &str, leader: usize) {
    let mut topic = create_topics::tests::topic_of_one(name);
    let numbers = (0..nodes.len()).map(|step| (leader + step) % nodes.len());
    let ids = numbers.map(|number| nodes[number].shared().identity.broker_id.get());
    topic.num_partitions = -1;
    topic.replication_factor = -1;
    topic.assignments = vec![CreatableReplicaAssignment {
        partition_index: 0,
        broker_ids: ids.collect(),
    }];
    create_topics::make(nodes[0].shared(), vec![topic], 5_000)
        .await
        .unwrap();
}

/// The partition as this node knows it.
pub(crate) fn partition(node: &Node) -> Option<Arc<Partition>> {
    let image = node.shared().image();
    let topic = image.topic_by_name(TOPIC)?;
    topic.partitions.get(0).cloned()
}

/// The number of the node that knows that it leads.
pub(crate) async fn leader_of(nodes: &[Node]) -> usize {
    let find = || {
        nodes.iter().position(|node| {
            let own = node.shared().identity.broker_id;
            partition(node).is_some_and(|partition| partition.leader == own)
        })
    };
    until(|| find().is_some()).await;
    find().unwrap()
}

/// The ISR as this node knows it.
pub(crate) fn isr(node: &Node) -> Vec<BrokerId> {
    partition(node)
        .map(|partition| partition.isr.clone())
        .unwrap_or_default()
}

/// The replica on this node.
pub(crate) fn replica(node: &Node) -> Option<Arc<Replica>> {
    let topic = node.shared().image().topic_by_name(TOPIC)?.id;
    node.shared()
        .replicas
        .open_by_id((topic, PartitionIndex(0)))
}

/// Whether the followers have, and show, what the leader does.
pub(crate) fn agree(nodes: &[Node]) -> bool {
    let ends = nodes.iter().map(|node| {
        let view = replica(node)?.view();
        let offsets = view.offsets;
        Some((offsets.high_watermark, offsets.log_end_offset))
    });
    let ends: Vec<_> = ends.collect();
    ends.iter().all(|end| end.is_some() && *end == ends[0])
}

/// The batches that readers of this node may see.
pub(crate) fn records(node: &Node) -> Vec<Vec<u8>> {
    let batches = read_all(&replica(node).unwrap());
    batches
        .iter()
        .map(|batch| batch.as_slice().to_vec())
        .collect()
}
