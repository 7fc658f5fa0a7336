//! A cluster forms, once, whatever the order of starts and crashes; or says why it does not.

use std::time::Duration;

use skein_env::sim::Fault;
use skein_quorum::{FormationStatus, Obstacle};

use crate::network::{Cluster, address, file, has_broker, one_cluster, register};

const THREE: [&str; 3] = ["a", "b", "c"];
const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];
const SECOND: Duration = Duration::from_secs(1);

fn obstacles(cluster: &Cluster, name: &str) -> Vec<Obstacle> {
    match cluster.status(name) {
        FormationStatus::Asking(obstacles) => obstacles,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn three_nodes_form_one_cluster_in_any_order_of_starts() {
    let orders = ["abc", "acb", "bac", "bca", "cab", "cba"];
    for (seed, order) in orders.iter().enumerate() {
        for pause in [0, 7, 130, 900] {
            let cluster = Cluster::new(seed as u64);
            cluster.world.block_on(async {
                for name in order.chars() {
                    cluster.start(&name.to_string(), &THREE);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                let controllers = cluster.started(&THREE, 3 * SECOND).await;
                let cluster_id = one_cluster(&controllers);
                cluster.voters(&THREE, &THREE, SECOND).await;
                cluster.leader(&THREE, SECOND).await;
                for name in THREE {
                    assert_eq!(cluster.status(name), FormationStatus::Member(cluster_id));
                }
                for controller in controllers {
                    assert_eq!(controller.image().feature("skein.version"), 1);
                    controller.shutdown().await.unwrap();
                }
            });
        }
    }
}

#[test]
fn five_nodes_form_one_cluster_and_all_vote() {
    let cluster = Cluster::new(5);
    cluster.world.block_on(async {
        cluster.start_all(&FIVE);
        one_cluster(&cluster.started(&FIVE, 3 * SECOND).await);
        cluster.voters(&FIVE, &FIVE, SECOND).await;
    });
}

#[test]
fn of_seven_nodes_five_vote_and_all_have_the_image() {
    let seven = ["a", "b", "c", "d", "e", "f", "g"];
    let cluster = Cluster::new(6);
    cluster.world.block_on(async {
        cluster.start_all(&seven);
        one_cluster(&cluster.started(&seven, 10 * SECOND).await);
        cluster.voters(&FIVE, &seven, SECOND).await;
        let leader = cluster.leader(&seven, 3 * SECOND).await;
        register(&cluster.controller(&leader).unwrap(), 1)
            .await
            .unwrap();
        cluster.same_images(&seven, SECOND).await;
        assert!(has_broker(&cluster.controller("g").unwrap(), 1));
    });
}

#[test]
fn a_silent_peer_stops_formation_and_is_named_until_it_comes() {
    let cluster = Cluster::new(7);
    cluster.world.block_on(async {
        cluster.start("a", &THREE);
        cluster.start("b", &THREE);
        tokio::time::sleep(15 * SECOND).await;
        for name in ["a", "b"] {
            assert!(
                cluster.controller(name).is_none(),
                "{name} has founded without c"
            );
            let obstacles = obstacles(&cluster, name);
            let [Obstacle::Silent { peer, .. }] = &obstacles[..] else {
                panic!("{name}: {obstacles:?}");
            };
            assert_eq!(*peer, address("c"));
        }
        cluster.start("c", &THREE);
        one_cluster(&cluster.started(&THREE, 3 * SECOND).await);
    });
}

#[test]
fn lists_that_differ_stop_formation_and_both_are_named() {
    let cluster = Cluster::new(8);
    cluster.world.block_on(async {
        cluster.start("a", &THREE);
        cluster.start("b", &THREE);
        cluster.start("c", &["a", "c", "d"]);
        tokio::time::sleep(10 * SECOND).await;
        for name in THREE {
            assert!(cluster.controller(name).is_none(), "{name} has founded");
        }
        let addresses = |names: [&str; 3]| names.map(address).to_vec();
        let expected = Obstacle::ListDiffers {
            peer: address("c"),
            theirs: addresses(["a", "c", "d"]),
            ours: addresses(THREE),
        };
        assert_eq!(obstacles(&cluster, "a"), [expected]);
        let text = cluster.status("a").to_string();
        assert!(
            text.contains("cluster.peers=a:9192,c:9192,d:9192"),
            "{text}"
        );
        // The operator corrects it.
        cluster.kill("c");
        cluster.start("c", &THREE);
        one_cluster(&cluster.started(&THREE, 3 * SECOND).await);
    });
}

#[test]
fn a_node_that_is_not_in_its_own_list_says_so() {
    let cluster = Cluster::new(9);
    cluster.world.block_on(async {
        cluster.start("a", &["b", "c"]);
        cluster.start("b", &["b", "c"]);
        tokio::time::sleep(3 * SECOND).await;
        assert!(matches!(
            obstacles(&cluster, "a")[0],
            Obstacle::NotListed { .. }
        ));
        assert!(matches!(
            obstacles(&cluster, "b")[..],
            [Obstacle::Silent { .. }]
        ));
    });
}

#[test]
fn a_crash_at_every_disk_call_of_a_founder_founds_once() {
    for fault in [Fault::Kill, Fault::PowerCut] {
        for victim in ["a", "b"] {
            let mut has_survived = false;
            for at_call in 0..200 {
                let cluster = Cluster::new(at_call);
                has_survived = cluster.world.block_on(async {
                    drop(cluster.world.node(victim));
                    cluster.world.disk(victim).fail_after(at_call, fault);
                    cluster.start_all(&THREE);
                    let survivors = THREE.iter().copied().filter(|name| *name != victim);
                    let survivors: Vec<_> = survivors.collect();
                    tokio::time::sleep(2 * SECOND).await;
                    let known: Vec<_> = survivors
                        .iter()
                        .filter_map(|name| Some(cluster.controller(name)?.cluster_id()))
                        .collect();
                    let has_survived = cluster.world.is_alive(victim);
                    cluster.world.disk(victim).heal();
                    cluster.kill(victim);
                    cluster.start(victim, &THREE);
                    let controllers = cluster.started(&THREE, 5 * SECOND).await;
                    let id = one_cluster(&controllers);
                    assert!(
                        known.iter().all(|known| *known == id),
                        "{victim}, call {at_call}"
                    );
                    cluster.voters(&THREE, &THREE, 5 * SECOND).await;
                    has_survived
                });
                if has_survived {
                    break;
                }
            }
            assert!(has_survived, "a start needs fewer disk calls");
        }
    }
}

#[test]
fn a_power_cut_of_all_at_any_moment_of_the_formation_founds_once() {
    for step in 0..60 {
        let cluster = Cluster::new(step);
        cluster.world.block_on(async {
            cluster.start_all(&THREE);
            tokio::time::sleep(Duration::from_millis(step)).await;
            let known: Vec<_> = THREE
                .iter()
                .filter_map(|name| Some(cluster.controller(name)?.cluster_id()))
                .collect();
            for name in THREE {
                cluster.power_cut(name);
            }
            for name in ["c", "a", "b"] {
                cluster.start(name, &THREE);
                tokio::time::sleep(Duration::from_millis(step * 7 % 40)).await;
            }
            let id = one_cluster(&cluster.started(&THREE, 5 * SECOND).await);
            assert!(known.iter().all(|known| *known == id), "after {step} ms");
        });
    }
}

#[test]
fn a_node_that_is_wiped_before_the_founding_is_founded_with_its_new_id() {
    let cluster = Cluster::new(11);
    cluster.world.block_on(async {
        cluster.start("a", &THREE);
        cluster.start("b", &THREE);
        tokio::time::sleep(2 * SECOND).await;
        cluster.wipe("b");
        cluster.start("b", &THREE);
        cluster.start("c", &THREE);
        one_cluster(&cluster.started(&THREE, 3 * SECOND).await);
        cluster.voters(&THREE, &THREE, SECOND).await;
    });
}

#[test]
fn a_node_that_is_wiped_at_any_moment_of_the_formation_makes_no_second_cluster() {
    for step in 0..50 {
        let cluster = Cluster::new(step);
        cluster.world.block_on(async {
            cluster.start_all(&THREE);
            tokio::time::sleep(Duration::from_millis(step)).await;
            let victim = ["b", "c"][usize::try_from(step % 2).unwrap()];
            cluster.wipe(victim);
            cluster.start(victim, &THREE);
            let controllers = cluster.started(&THREE, 10 * SECOND).await;
            one_cluster(&controllers);
            cluster.voters(&THREE, &THREE, 10 * SECOND).await;
        });
    }
}

#[test]
fn formation_gets_through_loss_and_delay() {
    for seed in 0..20 {
        let cluster = Cluster::new(seed);
        cluster.world.block_on(async {
            cluster.disturb(100, Duration::from_millis(30));
            cluster.start_all(&FIVE);
            one_cluster(&cluster.started(&FIVE, 120 * SECOND).await);
        });
    }
}

#[test]
fn a_copy_of_a_directory_is_noticed() {
    let cluster = Cluster::new(13);
    cluster.world.block_on(async {
        cluster.start("a", &THREE);
        tokio::time::sleep(SECOND).await;
        cluster.kill("a");
        let identity = cluster.world.disk("a").bytes_of(&file("identity")).unwrap();
        let disk = cluster.world.node("b").disk;
        disk.create_directory(file("").parent().unwrap().parent().unwrap())
            .unwrap();
        disk.create_directory(&crate::network::directory()).unwrap();
        let copy = disk
            .open(&file("identity"), skein_env::OpenMode::CreateOrTruncate)
            .unwrap();
        copy.write_at(&[std::io::IoSlice::new(&identity)], 0)
            .unwrap();
        copy.sync_data().unwrap();
        cluster.start_all(&THREE);
        tokio::time::sleep(3 * SECOND).await;
        assert!(matches!(
            obstacles(&cluster, "c")[0],
            Obstacle::SameIdentity { .. }
        ));
    });
}
