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
use tokio::time::{sleep, timeout};

use super::{Node, cluster_config};

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
