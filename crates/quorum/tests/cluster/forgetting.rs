//! Nodes that are gone for good, records that came to nothing, peers that are left out.

use std::io::IoSlice;
use std::time::Duration;

use skein_controller::{DiskState, FenceBrokers, RegisterBroker, UnregisterBroker};
use skein_env::OpenMode;
use skein_metadata::Endpoint;
use skein_quorum::{
    FormationStatus, Obstacle, PeerAnswers, QuorumError, drop_founding_record, leave_out, look_at,
};
use skein_types::{BrokerEpoch, BrokerId, Uuid};

use crate::network::{Cluster, address, directory, file, one_cluster, register};

const THREE: [&str; 3] = ["a", "b", "c"];
const SECOND: Duration = Duration::from_secs(1);
/// Every session has ended by then.
const SESSIONS: Duration = Duration::from_secs(5);

fn others<'a>(names: &[&'a str], name: &str) -> Vec<&'a str> {
    names
        .iter()
        .copied()
        .filter(|other| *other != name)
        .collect()
}

/// Has the controller forget broker 9, which is the member `raft_id`, and dead.
async fn forget(cluster: &Cluster, rest: &[&str], raft_id: u64) {
    let leader = cluster.leader(rest, 5 * SECOND).await;
    let controller = cluster.controller(&leader).unwrap();
    let broker_id = BrokerId(9);
    let registered = RegisterBroker {
        broker_id: Some(broker_id),
        cluster_id: Some(controller.cluster_id()),
        incarnation: Uuid([9; 16]),
        raft_id,
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".into(),
            host: "h".into(),
            port: 9092,
            security_protocol: 0,
        }],
        rack: None,
        previous_epoch: BrokerEpoch::NONE,
        disk: DiskState::Unclean,
        ready: true,
    };
    let registered = controller.propose(registered).await.unwrap();
    let brokers = vec![(broker_id, registered.broker_epoch)];
    controller.propose(FenceBrokers { brokers }).await.unwrap();
    tokio::time::sleep(SESSIONS).await;
    controller
        .propose(UnregisterBroker { broker_id })
        .await
        .unwrap();
}

#[test]
fn a_forgotten_member_loses_its_seat_says_so_when_it_is_back_and_joins_when_it_is_wiped() {
    for (seed, victim) in [(1, "a"), (2, "b"), (3, "c")] {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            cluster.start_all(&THREE);
            one_cluster(&cluster.started(&THREE, 5 * SECOND).await);
            let former = cluster.controller(victim).unwrap().raft_id();
            cluster.kill(victim);
            let rest = others(&THREE, victim);
            forget(&cluster, &rest, former).await;
            cluster.voters(&rest, &rest, 5 * SECOND).await;
            for name in &rest {
                assert!(
                    cluster
                        .controller(name)
                        .unwrap()
                        .image()
                        .is_forgotten(former)
                );
            }

            cluster.start(victim, &THREE);
            let error = cluster.ended(victim, 10 * SECOND).await;
            assert!(matches!(error, QuorumError::Forgotten), "{error}");
            cluster.voters(&rest, &rest, SECOND).await;

            cluster.wipe(victim);
            cluster.start(victim, &THREE);
            one_cluster(&cluster.started(&THREE, 10 * SECOND).await);
            cluster.voters(&THREE, &THREE, 10 * SECOND).await;
            assert_ne!(cluster.controller(victim).unwrap().raft_id(), former);
        });
    }
}

#[test]
fn a_member_that_is_forgotten_behind_a_cut_ends_when_the_cut_does() {
    let cluster = Cluster::new(4);
    cluster.world.block_on(async {
        cluster.start_all(&THREE);
        cluster.started(&THREE, 5 * SECOND).await;
        let leader = cluster.leader(&THREE, 3 * SECOND).await;
        let cut = cluster.controller(&leader).unwrap();
        cluster.isolate(&leader, &THREE);
        let rest = others(&THREE, &leader);
        forget(&cluster, &rest, cut.raft_id()).await;
        let still = tokio::time::timeout(5 * SECOND, cut.failed()).await;
        assert!(still.is_err(), "it hears nothing, so it knows nothing");
        cluster.heal();
        let failed = tokio::time::timeout(10 * SECOND, cut.failed()).await;
        assert!(matches!(failed, Ok(QuorumError::Forgotten)));
    });
}

#[test]
fn a_node_that_hears_no_leader_and_was_not_forgotten_waits_on() {
    let cluster = Cluster::new(5);
    cluster.world.block_on(async {
        cluster.start_all(&THREE);
        cluster.started(&THREE, 5 * SECOND).await;
        cluster.kill("b");
        cluster.kill("c");
        let left = cluster.controller("a").unwrap();
        assert!(
            tokio::time::timeout(20 * SECOND, left.failed())
                .await
                .is_err()
        );
        cluster.start("b", &THREE);
        let two = ["a", "b"];
        cluster.started(&two, 10 * SECOND).await;
        let leader = cluster.leader(&two, 10 * SECOND).await;
        let leader = cluster.controller(&leader).unwrap();
        register(&leader, 1).await.unwrap();
    });
}

/// Three nodes of which one holds a founding record and the others were wiped before the first
/// election; `false` if that had been already.
async fn stuck(cluster: &Cluster) -> bool {
    cluster.start_all(&THREE);
    // As soon as the first node holds the record.
    while !matches!(cluster.status("a"), FormationStatus::Waiting { .. }) {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    cluster.wipe("b");
    cluster.wipe("c");
    let running = drop_founding_record(&cluster.world.node("a"), &directory());
    assert!(
        matches!(running, Err(QuorumError::Locked { .. })),
        "{running:?}"
    );
    tokio::time::sleep(2 * SECOND).await;
    cluster.start("b", &THREE);
    cluster.start("c", &THREE);
    tokio::time::sleep(5 * SECOND).await;
    let FormationStatus::Asking(obstacles) = cluster.status("b") else {
        return false;
    };
    let holds = |one: &Obstacle| matches!(one, Obstacle::HoldsRecord { .. });
    assert!(obstacles.iter().any(holds), "{obstacles:?}");
    cluster.kill("a");
    true
}

/// Starts the node that held the record again: it is a new one.
async fn forms_anew(cluster: &Cluster) {
    cluster.start("a", &THREE);
    one_cluster(&cluster.started(&THREE, 10 * SECOND).await);
    cluster.voters(&THREE, &THREE, 5 * SECOND).await;
}

#[test]
fn a_founding_record_whose_majority_was_wiped_is_dropped_and_a_cluster_forms() {
    let mut dropped = 0;
    for seed in 0..10 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            if stuck(&cluster).await {
                let env = cluster.world.node("a");
                drop_founding_record(&env, &directory()).unwrap();
                let again = drop_founding_record(&env, &directory());
                assert!(
                    matches!(again, Err(QuorumError::NoRecord { .. })),
                    "{again:?}"
                );
                forms_anew(&cluster).await;
                dropped += 1;
            }
        });
    }
    assert!(
        dropped > 0,
        "no seed stopped between the record and the election"
    );
}

#[test]
fn what_a_dropped_record_had_begun_goes_with_it_also_after_a_crash_in_between() {
    let mut dropped = 0;
    for seed in 0..10 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            if stuck(&cluster).await {
                // The identity of a new node stands beside what the record had begun.
                cluster.start("d", &THREE);
                tokio::time::sleep(SECOND).await;
                cluster.kill("d");
                let new = cluster.world.node("d").disk;
                let new = new.open(&file("identity"), OpenMode::Read).unwrap();
                let mut bytes = vec![0; usize::try_from(new.length().unwrap()).unwrap()];
                new.read_at(&mut bytes, 0).unwrap();
                let disk = cluster.world.node("a").disk;
                let mode = OpenMode::CreateOrTruncate;
                let identity = disk.open(&file("identity"), mode).unwrap();
                identity.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
                forms_anew(&cluster).await;
                dropped += 1;
            }
        });
    }
    assert!(dropped > 0);
}

#[test]
fn the_record_of_a_cluster_that_has_lived_is_not_dropped() {
    let cluster = Cluster::new(6);
    cluster.world.block_on(async {
        let nobody = drop_founding_record(&cluster.world.node("d"), &directory());
        let told = nobody.unwrap_err().to_string();
        assert!(told.contains("holds no identity"), "{told}");
        cluster.start_all(&THREE);
        let before = one_cluster(&cluster.started(&THREE, 5 * SECOND).await);
        for name in THREE {
            cluster.kill(name);
            let refused = drop_founding_record(&cluster.world.node(name), &directory());
            let told = refused.unwrap_err().to_string();
            assert!(told.contains("has had a controller"), "{told}");
            cluster.world.kill(name);
        }
        cluster.start_all(&THREE);
        let after = one_cluster(&cluster.started(&THREE, 5 * SECOND).await);
        assert_eq!(after, before);
    });
}

#[test]
fn a_cluster_forms_without_a_silent_peer_when_every_founder_was_told_and_the_peer_joins_later() {
    let cluster = Cluster::new(7);
    cluster.world.block_on(async {
        cluster.start("a", &THREE);
        cluster.start("b", &THREE);
        tokio::time::sleep(SECOND).await;
        let transport = cluster.peers("a", PeerAnswers::new()).transport;
        let gone = [address("c")];
        let unknown = leave_out(&*transport, &address("a"), &[address("x")]).await;
        assert!(
            unknown
                .unwrap_err()
                .contains("x:9192 is not in its cluster.peers")
        );
        let alive = leave_out(&*transport, &address("a"), &[address("b")]).await;
        assert_eq!(alive.unwrap_err(), "peer b:9192 answers: stop it first");

        leave_out(&*transport, &address("a"), &gone).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        let FormationStatus::Asking(obstacles) = cluster.status("a") else {
            panic!("one word is not enough");
        };
        let differs = |one: &Obstacle| matches!(one, Obstacle::ListDiffers { .. });
        assert!(obstacles.iter().any(differs), "{obstacles:?}");

        leave_out(&*transport, &address("b"), &gone).await.unwrap();
        let two = one_cluster(&cluster.started(&["a", "b"], 5 * SECOND).await);
        let node = look_at(&*transport, &address("b")).await.unwrap();
        assert_eq!(node.cluster_id, Some(two));
        let late = leave_out(&*transport, &address("b"), &gone).await;
        assert!(late.unwrap_err().contains("belongs to cluster"));
        cluster.start("c", &THREE);
        assert_eq!(
            one_cluster(&cluster.started(&THREE, 10 * SECOND).await),
            two
        );
        cluster.voters(&THREE, &THREE, 10 * SECOND).await;
    });
}
