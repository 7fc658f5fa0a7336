//! Nodes become a cluster, and stay it over restarts.

use std::fs;
use std::time::Duration;

use skein_tests::cluster::peer;
use skein_tests::wire::error;
use skein_tests::{Cluster, toolchain};

use super::{connect, is_ok, not_ready};

/// A node without a cluster has nothing to flush.
const STOP_MAX: Duration = Duration::from_secs(2);

#[test]
fn nodes_with_one_list_are_one_cluster_in_whatever_order_they_start() {
    for order in [[2, 1, 0], [1, 0, 2]] {
        let mut cluster = Cluster::prepare(3, &[]);
        for number in order {
            cluster.nodes[number].launch();
            cluster.until("it lives", || {
                is_ok(&cluster.nodes[number], "/healthz").then_some(())
            });
        }
        let seen = cluster.wait_until_whole();
        let ids: Vec<_> = seen.brokers.keys().copied().collect();
        assert_eq!(ids, [1, 2, 3], "ids are given from 1 on");
        for node in &cluster.nodes {
            cluster.until("it is ready", || is_ok(node, "/readyz").then_some(()));
            assert!(is_ok(node, "/metrics"));
        }
    }
}

#[test]
fn a_node_that_starts_alone_names_its_silent_peers_and_can_be_stopped() {
    let mut cluster = Cluster::prepare(3, &[]);
    cluster.nodes[0].launch();
    let alone = &cluster.nodes[0];
    let silent = cluster.until("it names its peers", || {
        not_ready(alone).filter(|told| told.contains("does not answer"))
    });
    for node in &cluster.nodes[1..] {
        let expected = format!("peer {} does not answer: nobody listens there", peer(node));
        assert!(silent.contains(&expected), "{silent}");
    }
    let itself = format!("peer {} ", peer(alone));
    assert!(!silent.contains(&itself), "{silent}");
    assert!(is_ok(alone, "/healthz"));
    let metrics = alone.get("/metrics").unwrap();
    assert!(metrics.starts_with("HTTP/1.1 503"), "{metrics}");

    let (status, took) = cluster.nodes[0].stop();
    assert!(status.success(), "{status}{}", cluster.log_tails());
    assert!(took < STOP_MAX, "{took:?}");

    // What it has left behind is in nobody's way.
    cluster.start_again();
}

#[test]
fn a_topic_that_is_created_through_any_node_is_on_all() {
    let cluster = Cluster::start(3, &[]);
    for (number, node) in cluster.nodes.iter().enumerate() {
        let topic = format!("through-{number}");
        let created = connect(node).create_topic(&topic, 2, &[]).unwrap();
        assert_eq!(created, error::NONE, "{}", cluster.log_tails());
        // Who has the answer finds the topic where he has it from, and soon everywhere.
        let described = connect(node).metadata(&topic, false).unwrap();
        assert_eq!(described, error::NONE);
        for other in &cluster.nodes {
            cluster.until("each knows the topic", || {
                let described = connect(other).metadata(&topic, false).unwrap();
                (described == error::NONE).then_some(())
            });
        }
        let again = connect(node).create_topic(&topic, 2, &[]).unwrap();
        assert_eq!(again, error::TOPIC_ALREADY_EXISTS);
    }
}

#[test]
fn a_stop_of_all_and_a_start_again_keep_cluster_ids_and_topics() {
    let mut cluster = Cluster::start(3, &[]);
    let before = cluster.wait_until_whole();
    let created = connect(&cluster.nodes[0]).create_topic("kept", 3, &[]);
    assert_eq!(created.unwrap(), error::NONE);

    cluster.stop();
    cluster.start_again();

    assert_eq!(cluster.wait_until_whole(), before);
    for node in &cluster.nodes {
        let described = connect(node).metadata("kept", false).unwrap();
        assert_eq!(described, error::NONE, "{}", node.log_tail());
    }
}

#[test]
fn the_sample_files_differ_in_nothing_but_the_addresses_of_their_nodes() {
    let of_the_node = ["listeners=", "peer.listener=", "http.listener="];
    let is_own = |line: &&str| of_the_node.iter().any(|key| line.starts_with(key));
    let files = ["1", "2", "3"].map(|number| {
        let name = format!("config/cluster-{number}.properties");
        fs::read_to_string(toolchain::workspace().join(name)).unwrap()
    });
    let common = |file: &str| {
        file.lines()
            .filter(|line| !is_own(line))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for file in &files {
        assert_eq!(common(file), common(&files[0]));
        let value = |key: &str| {
            file.lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap()
        };
        let peers: Vec<_> = value("cluster.peers=").split(',').collect();
        assert_eq!(peers.len(), files.len());
        assert!(peers.contains(&value("peer.listener=")), "{file}");
    }
}
