//! A node is killed, and comes back.

use std::time::{Duration, Instant};

use skein_tests::cluster::see;
use skein_tests::wire::error;
use skein_tests::{Cluster, Node};

use super::{connect, is_ok};

/// Until what only a controller can do is done by the next one.
const NEXT_CONTROLLER_MAX: Duration = Duration::from_secs(2);

#[test]
fn a_killed_controller_is_replaced_and_fenced_until_it_comes_back_as_the_same_broker() {
    let mut cluster = Cluster::start(3, &[]);
    let before = cluster.wait_until_whole();
    let dead = cluster.controller(0);
    let other = (dead + 1) % 3;

    let killed = Instant::now();
    cluster.nodes[dead].kill();
    cluster.until("a topic is created", || {
        create_as_clients_do(&cluster.nodes[other], "meanwhile")
    });
    let took = killed.elapsed();
    assert!(
        took < NEXT_CONTROLLER_MAX,
        "{took:?}{}",
        cluster.log_tails()
    );
    assert_ne!(cluster.controller(other), dead);
    let left = cluster.wait_until_whole();
    assert_eq!(left.brokers.len(), 2, "the dead one is fenced");

    cluster.nodes[dead].start_again();
    assert_eq!(cluster.wait_until_whole(), before, "the same broker again");
    let node = &cluster.nodes[dead];
    cluster.until("it is ready", || is_ok(node, "/readyz").then_some(()));
    let described = connect(node).metadata("meanwhile", false).unwrap();
    assert_eq!(described, error::NONE, "it has caught up");
    assert_eq!(see(node), Some(before));
}

/// Tries once to create a topic. A request that the dead controller may have decided ends with its
/// connection: who sent it tries again, and may find that the topic is there. Of elections it is
/// told nothing.
fn create_as_clients_do(node: &Node, topic: &str) -> Option<()> {
    let created = connect(node).create_topic(topic, 1, &[]).ok()?;
    assert_ne!(created, error::NOT_CONTROLLER);
    [error::NONE, error::TOPIC_ALREADY_EXISTS]
        .contains(&created)
        .then_some(())
}
