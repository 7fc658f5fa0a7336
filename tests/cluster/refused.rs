//! Who does not belong together says so, and names the other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use skein_tests::cluster::{peer, see};
use skein_tests::node::skein_binary;
use skein_tests::wire::{Connection, Frame, api, error};
use skein_tests::{Cluster, Node, System, program};

use super::not_ready;

/// A process that refuses to start has not got far.
const REFUSAL_MAX: Duration = Duration::from_secs(30);

#[test]
fn lists_that_differ_are_named_both() {
    let mut cluster = Cluster::prepare(3, &[]);
    let [a, b, c] = [0, 1, 2].map(|number| peer(&cluster.nodes[number]));
    let short = format!("{a},{b}");
    cluster.nodes[1].set("cluster.peers", &short);
    cluster.nodes[0].launch();
    cluster.nodes[1].launch();
    let node = &cluster.nodes[0];
    let told = cluster.until("it names the list", || {
        not_ready(node).filter(|told| told.contains("this node has"))
    });
    let theirs = format!("peer {b} has cluster.peers=");
    assert!(told.contains(&theirs), "{told}");
    // Each list in its order or sorted: the order means nothing.
    let lists = told.split("cluster.peers=").skip(1).map(|rest| {
        let end = rest.find([' ', ';']).unwrap_or(rest.len());
        let mut list: Vec<_> = rest[..end].trim_end_matches(',').split(',').collect();
        list.sort_unstable();
        list
    });
    let mut expected = [vec![&*a, &*b], vec![&*a, &*b, &*c]];
    expected.iter_mut().for_each(|list| list.sort_unstable());
    assert_eq!(lists.collect::<Vec<_>>(), expected, "{told}");
}

#[test]
fn a_kafka_client_is_refused_where_only_nodes_may_connect() {
    let mut cluster = Cluster::prepare(2, &[]);
    cluster.nodes[0].launch();
    let node = &cluster.nodes[0];
    let mut client = cluster.until("it listens", || Connection::open(node.ports().peer).ok());
    let mut answer = client.call(api::API_VERSIONS, 0, &Frame::new()).unwrap();
    assert_eq!(answer.i16(), error::CLUSTER_AUTHORIZATION_FAILED);
    assert!(client.is_closed_by_the_node());
    let line = "a Kafka client connected, where only the nodes of the cluster may";
    cluster.until(line, || node.log().contains(line).then_some(()));
}

#[test]
fn a_peer_is_refused_where_clients_connect() {
    let served = Node::start(System::Skein, &[]);
    let mut cluster = Cluster::prepare(1, &[]);
    let wrong = served.bootstrap();
    let list = format!("{},{wrong}", peer(&cluster.nodes[0]));
    cluster.nodes[0].set("cluster.peers", &list);
    cluster.nodes[0].launch();
    let node = &cluster.nodes[0];
    let told = cluster.until("it names the address", || {
        not_ready(node).filter(|told| told.contains("does not answer"))
    });
    assert!(
        told.contains(&format!("peer {wrong} does not answer")) && told.contains("peer.listener"),
        "{told}"
    );
    let line = "cluster.peers must name a peer.listener";
    cluster.until(line, || served.log().contains(line).then_some(()));
}

#[test]
fn a_directory_of_another_cluster_is_refused_and_named() {
    let own = |name: &str| format!("metadata-{name}");
    let mut nodes = [(); 2].map(|()| Node::prepare(System::Skein, &[]));
    for node in &mut nodes {
        let metadata = node.directory().join(own("log"));
        node.set("metadata.log.dir", &metadata.display().to_string());
        node.set("cluster.peers", &peer(node));
        node.start_again();
    }
    let ids = [0, 1].map(|number| see(&nodes[number]).unwrap().cluster_id);
    assert_ne!(ids[0], ids[1]);
    for node in &mut nodes {
        let (status, _) = node.stop();
        assert!(status.success(), "{status}{}", node.log_tail());
    }
    swap(&nodes[0], &nodes[1]);

    for (node, [expected, found]) in nodes.iter().zip([[0, 1], [1, 0]]) {
        let finished = program::run(&mut node.command(), REFUSAL_MAX);
        assert_eq!(finished.status.and_then(|status| status.code()), Some(1));
        let told = finished.output();
        for id in [&ids[expected], &ids[found]] {
            assert!(told.contains(id), "{told}");
        }
        assert!(told.contains("use an empty directory or its own"), "{told}");
    }
}

#[test]
fn nodes_with_each_others_directories_serve_no_cluster_and_harm_none() {
    let mut clusters = [(); 2].map(|()| Cluster::start(3, &[]));
    let before = [0, 1].map(|number| clusters[number].wait_until_whole());
    // One of each that is not the controller: what becomes of a dead controller is another test's.
    let [one, other] = [0, 1].map(|number| (clusters[number].controller(0) + 1) % 3);
    let swap_them = |clusters: &mut [Cluster; 2]| {
        for (cluster, number) in clusters.iter_mut().zip([one, other]) {
            let (status, _) = cluster.nodes[number].stop();
            assert!(status.success(), "{}", cluster.log_tails());
        }
        swap(&clusters[0].nodes[one], &clusters[1].nodes[other]);
        clusters[0].nodes[one].launch();
        clusters[1].nodes[other].launch();
    };
    swap_them(&mut clusters);
    for ((cluster, number), others) in clusters.iter().zip([one, other]).zip([1, 0]) {
        let waits = format!(
            "waiting for the controller of cluster {}",
            before[others].cluster_id
        );
        cluster.until("it says whose directory it has", || {
            not_ready(&cluster.nodes[number]).filter(|told| told.contains(&waits))
        });
    }
    for ((cluster, number), before) in clusters.iter().zip([one, other]).zip(&before) {
        cluster.until("the cluster goes on without it", || {
            let seen = see(&cluster.nodes[(number + 1) % 3])?;
            assert_eq!(seen.cluster_id, before.cluster_id);
            (seen.brokers.len() == 2).then_some(())
        });
    }
    swap_them(&mut clusters);
    for (cluster, before) in clusters.iter().zip(&before) {
        assert_eq!(cluster.wait_until_whole(), *before);
    }
}

#[test]
fn nodes_with_different_secrets_stay_apart_until_they_have_the_same() {
    let mut cluster = Cluster::prepare(2, &[]);
    for (number, node) in cluster.nodes.iter_mut().enumerate() {
        let path = node.directory().join("secret");
        fs::write(&path, format!("secret of number {number}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        node.set("cluster.secret.file", &path.display().to_string());
        node.launch();
    }
    let node = &cluster.nodes[0];
    let told = cluster.until("it names the peer and the secret", || {
        not_ready(node).filter(|told| told.contains("cluster.secret.file"))
    });
    let other = format!("peer {} does not answer", peer(&cluster.nodes[1]));
    assert!(told.contains(&other), "{told}");

    cluster.stop();
    let [one, same] = [0, 1].map(|number| cluster.nodes[number].directory().join("secret"));
    fs::copy(one, same).unwrap();
    cluster.start_again();
}

/// Gives each of two stopped nodes the other's `log.dirs`.
fn swap(one: &Node, other: &Node) {
    let aside = one.directory().join("aside");
    fs::rename(one.data_directory(), &aside).unwrap();
    fs::rename(other.data_directory(), one.data_directory()).unwrap();
    fs::rename(&aside, other.data_directory()).unwrap();
}

#[test]
fn a_configuration_that_no_cluster_can_have_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let short = directory.path().join("short");
    fs::write(&short, "0123456789\n").unwrap();
    let open = directory.path().join("open");
    fs::write(&open, "0123456789abcdef\n").unwrap();
    for (path, mode) in [(&short, 0o600), (&open, 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let secret = |path: &std::path::Path| format!("cluster.secret.file={}", path.display());
    for (setting, told) in [
        (
            "cluster.peers=127.0.0.1:9192,127.0.0.1:9193,127.0.0.1:9192".to_owned(),
            "127.0.0.1:9192",
        ),
        (
            "peer.listener=0.0.0.0:9192".to_owned(),
            "can be reached from outside",
        ),
        (secret(&short), "it has 10 bytes"),
        (secret(&open), "every user of this machine"),
        (secret(&directory.path().join("absent")), "no such file"),
    ] {
        let log_dirs = format!("log.dirs={}", directory.path().join("data").display());
        let mut command = Command::new(skein_binary());
        command.args(["serve", "--set", &log_dirs, "--set", &setting]);
        let finished = program::run(&mut command, REFUSAL_MAX);
        let code = finished.status.and_then(|status| status.code());
        assert_eq!(code, Some(2), "{finished}");
        assert!(finished.stderr.contains(told), "{finished}");
        assert!(!directory.path().join("data").exists(), "{finished}");
    }
}
