//! Nodes that come later, and nodes that come back as somebody else.

use std::ffi::OsString;
use std::io::IoSlice;
use std::time::Duration;

use skein_env::{Disk, OpenMode};

use crate::network::{Cluster, directory, file, has_broker, one_cluster, register};

const THREE: [&str; 3] = ["a", "b", "c"];
const SECOND: Duration = Duration::from_secs(1);

async fn formed(cluster: &Cluster, names: &[&str]) -> String {
    cluster.start_all(names);
    cluster.started(names, 5 * SECOND).await;
    cluster.leader(names, 3 * SECOND).await
}

#[test]
fn a_wiped_node_comes_back_as_a_new_member_in_the_seat_of_the_former_one() {
    for (seed, victim) in [(1, "a"), (2, "b"), (3, "c")] {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let leader = formed(&cluster, &THREE).await;
            register(&cluster.controller(&leader).unwrap(), 1)
                .await
                .unwrap();
            let former = cluster.controller(victim).unwrap().raft_id();
            cluster.wipe(victim);
            cluster.start(victim, &THREE);
            let controllers = cluster.started(&THREE, 10 * SECOND).await;
            one_cluster(&controllers);
            cluster.voters(&THREE, &THREE, 10 * SECOND).await;
            let new = cluster.controller(victim).unwrap();
            assert_ne!(new.raft_id(), former);
            assert!(has_broker(&new, 1));
        });
    }
}

#[test]
fn a_node_that_lost_its_vote_or_log_retires_its_id_and_joins_as_new() {
    for (seed, lost) in [(4, "vote"), (5, "00000000000000000000.log")] {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let leader = formed(&cluster, &THREE).await;
            register(&cluster.controller(&leader).unwrap(), 1)
                .await
                .unwrap();
            let former = cluster.controller("b").unwrap().raft_id();
            cluster.kill("b");
            cluster
                .world
                .node("b")
                .disk
                .remove_file(&file(lost))
                .unwrap();
            cluster.start("b", &THREE);
            one_cluster(&cluster.started(&THREE, 10 * SECOND).await);
            cluster.voters(&THREE, &THREE, 10 * SECOND).await;
            assert_ne!(cluster.controller("b").unwrap().raft_id(), former);
        });
    }
}

#[test]
fn a_cluster_of_one_grows_to_three_and_then_to_five_voters() {
    let cluster = Cluster::new(6);
    cluster.world.block_on(async {
        cluster.start("a", &[]);
        cluster.started(&["a"], SECOND).await;
        register(&cluster.controller("a").unwrap(), 1)
            .await
            .unwrap();
        cluster.start("b", &["a", "b"]);
        one_cluster(&cluster.started(&["a", "b"], 5 * SECOND).await);
        tokio::time::sleep(3 * SECOND).await;
        cluster.voters(&["a"], &["a", "b"], SECOND).await;
        cluster.start("c", &THREE);
        cluster.started(&THREE, 5 * SECOND).await;
        cluster.voters(&THREE, &THREE, 5 * SECOND).await;
        let five = ["a", "b", "c", "d", "e"];
        cluster.start("d", &five);
        cluster.start("e", &five);
        one_cluster(&cluster.started(&five, 5 * SECOND).await);
        cluster.voters(&five, &five, 5 * SECOND).await;
        // The founder is one of five now.
        cluster.kill("a");
        let leader = cluster.leader(&five[1..], 2 * SECOND).await;
        register(&cluster.controller(&leader).unwrap(), 2)
            .await
            .unwrap();
        cluster.same_images(&five[1..], SECOND).await;
        assert!(has_broker(&cluster.controller("e").unwrap(), 1));
    });
}

#[test]
fn a_node_joins_while_the_controller_dies() {
    for seed in 10..20 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let leader = formed(&cluster, &THREE).await;
            let four = ["a", "b", "c", "d"];
            cluster.start("d", &four);
            tokio::time::sleep(Duration::from_millis(seed * 17 % 200)).await;
            cluster.kill(&leader);
            let rest: Vec<_> = four
                .iter()
                .copied()
                .filter(|name| *name != leader)
                .collect();
            one_cluster(&cluster.started(&rest, 20 * SECOND).await);
        });
    }
}

#[test]
fn who_gives_up_waiting_leaves_the_directory_free() {
    let cluster = Cluster::new(8);
    cluster.world.block_on(async {
        let env = cluster.world.node("a");
        let start = || {
            let peers = cluster.peers("a", skein_quorum::PeerAnswers::new());
            let options = crate::network::options(&THREE);
            skein_quorum::Controller::start_with_peers(env.clone(), options, peers)
        };
        for _ in 0..3 {
            let waited = tokio::time::timeout(SECOND, start()).await;
            assert!(waited.is_err(), "it waits for the others");
            tokio::time::sleep(SECOND / 10).await;
        }
    });
}

/// What a directory holds, by name.
fn take(disk: &dyn Disk) -> Vec<(OsString, Vec<u8>)> {
    let names = disk.read_directory(&directory()).unwrap();
    let take = |name: OsString| {
        let path = directory().join(&name);
        let open = disk.open(&path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(open.length().unwrap()).unwrap()];
        assert_eq!(open.read_at(&mut bytes, 0).unwrap(), bytes.len());
        drop(open);
        disk.remove_file(&path).unwrap();
        (name, bytes)
    };
    names.into_iter().map(|(name, _)| take(name)).collect()
}

fn put(disk: &dyn Disk, files: &[(OsString, Vec<u8>)]) {
    for (name, bytes) in files {
        let new = disk
            .open(&directory().join(name), OpenMode::CreateNew)
            .unwrap();
        if !bytes.is_empty() {
            new.write_at(&[IoSlice::new(bytes)], 0).unwrap();
        }
        new.sync_data().unwrap();
    }
    disk.sync_directory(&directory()).unwrap();
}

fn swap(cluster: &Cluster, one: &str, other: &str) {
    let disks = [one, other].map(|name| cluster.world.node(name).disk);
    let [of_one, of_other] = [take(&*disks[0]), take(&*disks[1])];
    put(&*disks[0], &of_other);
    put(&*disks[1], &of_one);
}

#[test]
fn who_has_the_directory_of_another_node_is_elected_by_nobody() {
    for seed in 30..33 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            formed(&cluster, &THREE).await;
            for name in THREE {
                cluster.kill(name);
            }
            swap(&cluster, "a", "b");
            cluster.start_all(&THREE);
            tokio::time::sleep(5 * SECOND).await;
            for name in THREE {
                if let Some(controller) = cluster.controller(name) {
                    let decided = register(&controller, 7).await;
                    assert!(decided.is_err(), "{name} decides");
                }
            }
            // Somebody notices, and puts it right.
            for name in THREE {
                cluster.kill(name);
            }
            swap(&cluster, "a", "b");
            cluster.start_all(&THREE);
            cluster.leader(&THREE, 5 * SECOND).await;
        });
    }
}
