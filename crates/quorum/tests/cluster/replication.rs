//! Elections, entries, snapshots: what was acknowledged stays, and who does not lead says so.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use skein_types::ErrorCode;
use tokio::time::Instant;

use crate::network::{Cluster, has_broker, one_cluster, register};

const THREE: [&str; 3] = ["a", "b", "c"];
const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];
const SECOND: Duration = Duration::from_secs(1);

fn others<'a>(names: &[&'a str], without: &str) -> Vec<&'a str> {
    names
        .iter()
        .copied()
        .filter(|name| *name != without)
        .collect()
}

async fn formed(cluster: &Cluster, names: &[&str]) -> String {
    cluster.start_all(names);
    cluster.started(names, 5 * SECOND).await;
    cluster.leader(names, 3 * SECOND).await
}

#[test]
fn a_dead_controller_has_a_successor_within_a_second_that_has_all_that_was_acknowledged() {
    for seed in 0..10 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let first = formed(&cluster, &FIVE).await;
            register(&cluster.controller(&first).unwrap(), 1)
                .await
                .unwrap();
            let term = cluster.controller(&first).unwrap().status().term;
            cluster.kill(&first);
            let rest = others(&FIVE, &first);
            let second = cluster.leader(&rest, SECOND).await;
            let controller = cluster.controller(&second).unwrap();
            assert!(controller.status().term > term);
            register(&controller, 2).await.unwrap();
            assert!(has_broker(&controller, 1));
            cluster.start(&first, &FIVE);
            cluster.started(&FIVE, 3 * SECOND).await;
            cluster.same_images(&FIVE, SECOND).await;
            assert!(has_broker(&cluster.controller(&first).unwrap(), 2));
        });
    }
}

#[test]
fn who_does_not_lead_refuses_at_once_and_knows_who_does() {
    let cluster = Cluster::new(20);
    cluster.world.block_on(async {
        let leader = formed(&cluster, &THREE).await;
        for name in others(&THREE, &leader) {
            let controller = cluster.controller(name).unwrap();
            let before = Instant::now();
            let refusal = register(&controller, 1).await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::NotController);
            assert!(before.elapsed() < Duration::from_millis(50));
            let known = controller.leader().unwrap();
            assert_eq!(known.address, crate::network::address(&leader));
            assert_eq!(
                known.raft_id,
                cluster.controller(&leader).unwrap().raft_id()
            );
        }
    });
}

#[test]
fn a_controller_that_is_cut_off_refuses_what_waits_and_nothing_is_decided_twice() {
    for seed in 0..10 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let first = formed(&cluster, &THREE).await;
            let old = cluster.controller(&first).unwrap();
            register(&old, 1).await.unwrap();
            cluster.isolate(&first, &THREE);
            let before = Instant::now();
            let refusal = register(&old, 2).await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::NotController);
            assert!(before.elapsed() < 2 * SECOND, "{:?}", before.elapsed());
            let before = Instant::now();
            assert_eq!(
                register(&old, 3).await.unwrap_err().code,
                ErrorCode::NotController
            );
            assert!(before.elapsed() < Duration::from_millis(50));
            let second = cluster.leader(&others(&THREE, &first), SECOND).await;
            let new = cluster.controller(&second).unwrap();
            assert!(has_broker(&new, 1));
            register(&new, 4).await.unwrap();
            cluster.heal();
            cluster.leader(&THREE, 2 * SECOND).await;
            cluster.same_images(&THREE, 2 * SECOND).await;
            assert!(has_broker(&old, 4));
            assert!(!has_broker(&old, 2), "what no majority had is gone");
            assert!(!has_broker(&old, 3));
        });
    }
}

#[test]
fn a_controller_that_can_send_but_not_hear_is_replaced() {
    for seed in 0..5 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let first = formed(&cluster, &THREE).await;
            let rest = others(&THREE, &first);
            for name in &rest {
                cluster.cut(name, &first);
            }
            let second = cluster.leader(&rest, 5 * SECOND).await;
            register(&cluster.controller(&second).unwrap(), 1)
                .await
                .unwrap();
        });
    }
}

#[test]
fn a_member_that_returns_from_a_cut_does_not_disturb_the_controller() {
    for seed in 0..10 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let leader = formed(&cluster, &THREE).await;
            let term = cluster.controller(&leader).unwrap().status().term;
            let away = others(&THREE, &leader)[0];
            cluster.isolate(away, &THREE);
            tokio::time::sleep(5 * SECOND).await;
            cluster.heal();
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(cluster.leader(&THREE, SECOND).await, leader);
            assert_eq!(cluster.controller(&leader).unwrap().status().term, term);
        });
    }
}

#[test]
fn a_follower_far_behind_gets_a_snapshot_and_has_the_same_image() {
    let cluster = Cluster::new(21);
    cluster.world.block_on(async {
        let leader = formed(&cluster, &THREE).await;
        let away = others(&THREE, &leader)[0];
        cluster.isolate(away, &THREE);
        let controller = cluster.controller(&leader).unwrap();
        for id in 1..400 {
            register(&controller, id).await.unwrap();
        }
        controller.snapshot().await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert!(controller.status().snapshot.is_some());
        cluster.heal();
        cluster.same_images(&THREE, 5 * SECOND).await;
        let behind = cluster.controller(away).unwrap();
        assert!(behind.status().snapshot.is_some(), "it came entry by entry");
        assert!(has_broker(&behind, 399));
        // What it installed is on its disk.
        drop((behind, controller));
        cluster.power_cut(away);
        cluster.start(away, &THREE);
        cluster.started(&THREE, 3 * SECOND).await;
        cluster.same_images(&THREE, 3 * SECOND).await;
    });
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_of_all() {
    for seed in 0..10 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            let leader = formed(&cluster, &THREE).await;
            let controller = cluster.controller(&leader).unwrap();
            for id in 1..20 {
                register(&controller, id).await.unwrap();
            }
            let id = controller.cluster_id();
            drop(controller);
            for name in THREE {
                cluster.power_cut(name);
            }
            let leader = formed(&cluster, &THREE).await;
            let controller = cluster.controller(&leader).unwrap();
            register(&controller, 20).await.unwrap();
            cluster.same_images(&THREE, 2 * SECOND).await;
            assert_eq!(controller.cluster_id(), id);
            assert!((1..=20).all(|id| has_broker(&controller, id)));
        });
    }
}

#[test]
fn through_crashes_cuts_loss_and_delay_what_was_acknowledged_stays() {
    for seed in 0..15 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            formed(&cluster, &THREE).await;
            let mut rng = cluster.world.rng("faults");
            let mut draw = |max: u64| usize::try_from(rng.next_u64() % max).unwrap();
            let mut acknowledged = BTreeSet::new();
            let mut id = 0;
            for _ in 0..25 {
                let name = THREE[draw(3)];
                match draw(5) {
                    0 => cluster.isolate(name, &THREE),
                    1 => cluster.cut(name, THREE[draw(3)]),
                    2 => cluster.disturb(50, Duration::from_millis(40)),
                    3 if draw(2) == 0 => cluster.power_cut(name),
                    3 => cluster.kill(name),
                    _ => cluster.heal(),
                }
                for _ in 0..10 {
                    id += 1;
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    let up = THREE.iter().filter_map(|name| cluster.controller(name));
                    for controller in up.filter(skein_quorum::Controller::is_controller) {
                        let asked = register(&controller, id);
                        let asked = tokio::time::timeout(SECOND / 2, asked).await;
                        if matches!(asked, Ok(Ok(_))) {
                            acknowledged.insert(id);
                        }
                    }
                }
                if !cluster.world.is_alive(name) {
                    cluster.start(name, &THREE);
                }
            }
            cluster.heal();
            let controllers = cluster.started(&THREE, 10 * SECOND).await;
            one_cluster(&controllers);
            cluster.leader(&THREE, 5 * SECOND).await;
            cluster.same_images(&THREE, 5 * SECOND).await;
            for id in &acknowledged {
                assert!(
                    has_broker(&controllers[0], *id),
                    "seed {seed}: {id} is lost"
                );
            }
            assert!(
                acknowledged.len() > 20,
                "seed {seed}: {}",
                acknowledged.len()
            );
        });
    }
}

#[test]
fn bytes_that_are_no_request_are_refused_and_harm_nobody() {
    let cluster = Cluster::new(23);
    cluster.world.block_on(async {
        let leader = formed(&cluster, &THREE).await;
        let mut rng = cluster.world.rng("bytes");
        for length in 0..200 {
            let mut bytes = vec![0; length];
            rng.fill(&mut bytes);
            let answer = cluster.answer(&leader, bytes.into()).await;
            assert_eq!(answer[..2], 220_u16.to_le_bytes(), "it is no refusal");
        }
        let empty = cluster.answer(&leader, Bytes::new()).await;
        assert!(String::from_utf8_lossy(&empty).contains("ends early"));
        register(&cluster.controller(&leader).unwrap(), 1)
            .await
            .unwrap();
    });
}

// tokio takes its random numbers from the seed only so.
#[cfg(tokio_unstable)]
#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let cluster = Cluster::new(99);
        cluster.world.block_on(async {
            let leader = formed(&cluster, &THREE).await;
            register(&cluster.controller(&leader).unwrap(), 1)
                .await
                .unwrap();
            cluster.kill(&leader);
            cluster.leader(&others(&THREE, &leader), SECOND).await;
        });
        cluster.world.trace_hash()
    };
    assert_eq!(run(), run());
}
