//! Nodes that come later, and nodes that come back as somebody else.

use std::time::Duration;

use crate::network::{Cluster, file, has_broker, one_cluster, register};

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
