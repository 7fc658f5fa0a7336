//! Partitions of three replicas, as their leaders' clients see them.

use std::time::Duration;

use skein_controller::{ElectLeaders, ElectionType};
use skein_env::sim::SimWorld;
use skein_metadata::LeaderRecoveryState;
use skein_partition::Acks;
use skein_types::{BrokerId, ErrorCode, PartitionIndex};

use crate::testing::cluster::{
    HOSTS, TOPIC, active, agree, controller_of, create_on, isr, leader_of, partition, records,
    replica, replicated, replicated_on, replicated_with, start, until, with_cluster,
};
use crate::testing::{Node, append, batch, cluster_config, speed};

/// Another node of the three than this one.
fn other(than: usize) -> usize {
    (than + 1) % HOSTS.len()
}

fn kill(world: &SimWorld, nodes: &mut [Option<Node>], number: usize) {
    drop(nodes[number].take());
    world.kill(HOSTS[number]);
}

#[test]
fn what_all_have_is_acknowledged_and_the_same_everywhere() {
    with_cluster(1, async |_, nodes| {
        let leader = replicated(&nodes).await;
        for number in 0..20 {
            let answer = nodes[leader].produce(TOPIC, batch(3, b"value")).await;
            assert_eq!(answer.unwrap().base_offset.get(), 3 * number);
        }
        until(|| agree(&nodes)).await;
        let expected = records(&nodes[leader]);
        assert_eq!(expected.len(), 20);
        for node in &nodes {
            assert_eq!(records(node), expected);
            assert_eq!(isr(node).len(), 3);
        }
        let refused = nodes[other(leader)]
            .produce(TOPIC, batch(1, b"value"))
            .await;
        assert!(refused.is_err(), "a follower takes nothing of clients");
    });
}

#[test]
fn a_dead_leader_is_replaced_and_what_was_acknowledged_is_there() {
    with_cluster(2, async |world, nodes| {
        let dead = replicated(&nodes).await;
        for _ in 0..10 {
            nodes[dead]
                .produce(TOPIC, batch(1, b"before"))
                .await
                .unwrap();
        }
        let before = records(&nodes[dead]);
        let dead_id = nodes[dead].shared().identity.broker_id;
        let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
        kill(world, &mut nodes, dead);
        let mut alive: Vec<_> = nodes.into_iter().flatten().collect();
        let begun = tokio::time::Instant::now();
        let leader = leader_of(&alive).await;
        // A dead process is found out long before its session ends.
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        until(|| !isr(&alive[leader]).contains(&dead_id)).await;
        // The high watermark is there when the followers have said how far they are.
        until(|| records(&alive[leader]).len() >= before.len()).await;
        assert_eq!(records(&alive[leader])[..before.len()], before[..]);
        alive[leader]
            .produce(TOPIC, batch(1, b"after"))
            .await
            .unwrap();
        // It comes back, catches up, and is in sync again.
        let config = cluster_config(world, HOSTS[dead], &HOSTS, &[]);
        alive.push(start(world, dead, &config).await);
        assert_eq!(alive[2].shared().identity.broker_id, dead_id);
        until(|| isr(&alive[leader]).contains(&dead_id)).await;
        until(|| agree(&alive)).await;
        assert_eq!(records(&alive[2]), records(&alive[leader]));
        assert_eq!(records(&alive[2]).len(), 11);
    });
}

#[test]
fn a_silent_follower_leaves_the_isr_and_holds_nobody_up_for_longer() {
    let settings = [
        "replica.lag.time.max.ms=1000",
        "broker.session.timeout.ms=60000",
    ];
    crate::testing::cluster::with_settings(3, &settings, async |world, nodes| {
        let leader = replicated(&nodes).await;
        let silent = other(leader);
        let silent_id = nodes[silent].shared().identity.broker_id;
        until(|| nodes.iter().all(|node| replica(node).is_some())).await;
        nodes[leader]
            .produce(TOPIC, batch(1, b"value"))
            .await
            .unwrap();
        let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
        kill(world, &mut nodes, silent);
        let node = nodes[leader].as_ref().unwrap();
        let begun = tokio::time::Instant::now();
        node.produce(TOPIC, batch(1, b"value")).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{:?}",
            begun.elapsed()
        );
        assert!(!isr(node).contains(&silent_id));
    });
}

#[test]
fn below_min_isr_nothing_is_acknowledged() {
    with_cluster(4, async |world, nodes| {
        let leader = replicated(&nodes).await;
        nodes[leader]
            .produce(TOPIC, batch(1, b"value"))
            .await
            .unwrap();
        let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
        for number in (0..HOSTS.len()).filter(|number| *number != leader) {
            kill(world, &mut nodes, number);
        }
        let node = nodes[leader].as_ref().unwrap();
        let refused = node.produce(TOPIC, batch(1, b"lonely")).await.unwrap_err();
        let code = refused.error_code();
        let expected = [ErrorCode::RequestTimedOut, ErrorCode::NotEnoughReplicas];
        assert!(expected.contains(&code), "{code}");
    });
}

#[test]
fn what_only_a_dead_leader_had_is_cut_off_when_it_comes_back() {
    with_cluster(5, async |world, nodes| {
        let former = replicated(&nodes).await;
        nodes[former]
            .produce(TOPIC, batch(1, b"kept"))
            .await
            .unwrap();
        until(|| agree(&nodes)).await;
        let others: Vec<_> = (0..HOSTS.len())
            .filter(|number| *number != former)
            .collect();
        for number in &others {
            world.net().partition(HOSTS[former], HOSTS[*number]);
        }
        // With acks=1 nobody has promised it; it is in one log alone.
        let lonely = replica(&nodes[former]).unwrap();
        for _ in 0..3 {
            append(&lonely, batch(2, b"lost"), Acks::Leader)
                .result()
                .await
                .unwrap();
        }
        let leads = |number: &usize| {
            let own = nodes[*number].shared().identity.broker_id;
            partition(&nodes[*number]).is_some_and(|partition| partition.leader == own)
        };
        until(|| others.iter().any(leads)).await;
        let leader = others.iter().copied().find(leads).unwrap();
        let answer = nodes[leader]
            .produce(TOPIC, batch(1, b"also kept"))
            .await
            .unwrap();
        assert_eq!(
            answer.base_offset.get(),
            1,
            "the offset that the lost records had"
        );
        world.net().heal();
        until(|| agree(&nodes) && isr(&nodes[leader]).len() == 3).await;
        let expected = records(&nodes[leader]);
        assert_eq!(expected.len(), 2);
        for node in &nodes {
            assert_eq!(records(node), expected);
        }
    });
}

#[test]
fn a_follower_that_was_away_catches_up_over_segments() {
    with_cluster(6, async |world, nodes| {
        let leader = replicated_with(&nodes, &[("segment.bytes", "1048576")]).await;
        let away = other(leader);
        let away_id = nodes[away].shared().identity.broker_id;
        until(|| agree(&nodes)).await;
        let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
        kill(world, &mut nodes, away);
        let value = vec![7; 90_000];
        for _ in 0..60 {
            let node = nodes[leader].as_ref().unwrap();
            node.produce(TOPIC, batch(1, &value)).await.unwrap();
        }
        let config = cluster_config(world, HOSTS[away], &HOSTS, &[]);
        nodes[away] = Some(start(world, away, &config).await);
        let nodes: Vec<_> = nodes.into_iter().flatten().collect();
        until(|| isr(&nodes[leader]).contains(&away_id) && agree(&nodes)).await;
        assert_eq!(records(&nodes[away]), records(&nodes[leader]));
        assert_eq!(records(&nodes[away]).len(), 60);
    });
}

#[test]
fn what_is_flushed_everywhere_survives_a_power_cut_of_all() {
    with_cluster(7, async |world, nodes| {
        let leader = replicated_with(&nodes, &[("durability", "flushed")]).await;
        for _ in 0..5 {
            nodes[leader]
                .produce(TOPIC, batch(1, b"flushed"))
                .await
                .unwrap();
        }
        let expected = records(&nodes[leader]);
        drop(nodes);
        for host in HOSTS {
            world.power_cut(host);
        }
        let configs = HOSTS.map(|host| cluster_config(world, host, &HOSTS, &[]));
        let [a, b, c] = &configs;
        let nodes = tokio::join!(start(world, 0, a), start(world, 1, b), start(world, 2, c));
        let nodes = vec![nodes.0, nodes.1, nodes.2];
        let leader = leader_of(&nodes).await;
        until(|| replica(&nodes[leader]).is_some() && agree(&nodes)).await;
        // The high watermark is there when the followers have said how far they are.
        until(|| records(&nodes[leader]).len() >= expected.len()).await;
        assert_eq!(records(&nodes[leader])[..5], expected[..]);
    });
}

#[test]
fn a_flushed_topic_waits_for_the_disk_of_each_follower() {
    with_cluster(9, async |world, nodes| {
        let leader = replicated_with(&nodes, &[("durability", "flushed")]).await;
        nodes[leader]
            .produce(TOPIC, batch(1, b"value"))
            .await
            .unwrap();
        let controller = controller_of(&nodes).await;
        let is_plain = |number: &usize| *number != leader && *number != controller;
        let slow = (0..HOSTS.len()).find(is_plain).unwrap();
        // A flush takes a fifth of it at least.
        let speed = speed(Duration::ZERO, Duration::from_secs(10));
        world.disk(HOSTS[slow]).set_speed(speed);
        let begun = tokio::time::Instant::now();
        nodes[leader]
            .produce(TOPIC, batch(1, b"value"))
            .await
            .unwrap();
        assert!(
            begun.elapsed() >= Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn lost_connections_alone_fence_nobody() {
    let settings = ["broker.session.timeout.ms=60000"];
    crate::testing::cluster::with_settings(8, &settings, async |world, nodes| {
        let controller = controller_of(&nodes).await;
        let mut cut = 0;
        for number in (0..HOSTS.len()).filter(|number| *number != controller) {
            cut += world.net().cut(HOSTS[controller], HOSTS[number]);
        }
        assert!(cut > 0, "there were connections");
        // The next heartbeat would unfence a broker: it is looked more often.
        for _ in 0..300 {
            for node in &nodes {
                assert_eq!(active(node), 3);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_dead_controller_is_fenced_by_the_next_one_at_once() {
    with_cluster(9, async |world, nodes| {
        replicated(&nodes).await;
        let dead = controller_of(&nodes).await;
        let dead_id = nodes[dead].shared().identity.broker_id;
        let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
        kill(world, &mut nodes, dead);
        let alive: Vec<_> = nodes.into_iter().flatten().collect();
        let begun = tokio::time::Instant::now();
        until(|| alive.iter().all(|node| !isr(node).contains(&dead_id))).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn a_process_whose_listener_outlives_its_connections_is_found_dead() {
    with_cluster(10, async |world, nodes| {
        let controller = controller_of(&nodes).await;
        let dying = other(controller);
        let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
        // For a while it accepts, and hangs up.
        for _ in 0..20 {
            for number in (0..HOSTS.len()).filter(|number| *number != dying) {
                world.net().cut(HOSTS[dying], HOSTS[number]);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kill(world, &mut nodes, dying);
        let alive: Vec<_> = nodes.into_iter().flatten().collect();
        let begun = tokio::time::Instant::now();
        until(|| alive.iter().all(|node| active(node) == 2)).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn after_a_power_cut_of_all_the_longest_log_leads() {
    for seed in 61..64 {
        with_cluster(seed, async |world, nodes| {
            let leader = replicated(&nodes).await;
            for _ in 0..20 {
                nodes[leader]
                    .produce(TOPIC, batch(1, b"value"))
                    .await
                    .unwrap();
            }
            until(|| agree(&nodes)).await;
            drop(nodes);
            for host in HOSTS {
                world.power_cut(host);
            }
            let configs = HOSTS.map(|host| cluster_config(world, host, &HOSTS, &[]));
            let [a, b, c] = &configs;
            let nodes = tokio::join!(start(world, 0, a), start(world, 1, b), start(world, 2, c));
            let nodes = vec![nodes.0, nodes.1, nodes.2];
            let leader = leader_of(&nodes).await;
            let led = partition(&nodes[leader]).unwrap();
            assert_eq!(led.leader_recovery_state, LeaderRecoveryState::Recovering);
            let ends = nodes.iter().filter_map(replica);
            let ends = ends.map(|replica| replica.view().offsets.log_end_offset);
            let longest = ends.max().unwrap();
            let own = replica(&nodes[leader]).unwrap().view();
            assert_eq!(own.offsets.log_end_offset, longest);
            until(|| agree(&nodes) && isr(&nodes[leader]).len() == 3).await;
            nodes[leader]
                .produce(TOPIC, batch(1, b"value"))
                .await
                .unwrap();
        });
    }
}

#[test]
fn without_one_of_the_last_members_nobody_leads_until_an_operator_says_so() {
    with_cluster(65, async |world, nodes| {
        let leader = replicated(&nodes).await;
        nodes[leader]
            .produce(TOPIC, batch(1, b"value"))
            .await
            .unwrap();
        drop(nodes);
        for host in HOSTS {
            world.power_cut(host);
        }
        let configs = HOSTS.map(|host| cluster_config(world, host, &HOSTS, &[]));
        let [a, b, _] = &configs;
        let nodes = tokio::join!(start(world, 0, a), start(world, 1, b));
        let nodes = vec![nodes.0, nodes.1];
        tokio::time::sleep(Duration::from_secs(20)).await;
        let nobody = partition(&nodes[0]).unwrap();
        let is_absent = |id: BrokerId| active_brokers(&nodes[0]).iter().all(|one| *one != id);
        assert!(
            nobody.leader == BrokerId::NONE || is_absent(nobody.leader),
            "{nobody:?}"
        );
        let controller = controller_of(&nodes).await;
        let elect = ElectLeaders {
            election_type: ElectionType::Unclean,
            partitions: Some(vec![(TOPIC.to_owned(), vec![PartitionIndex(0)])]),
        };
        let elected = nodes[controller]
            .shared()
            .controller
            .propose(elect)
            .await
            .unwrap();
        assert_eq!(elected[0].partitions[0].1, Ok(()));
        let leader = leader_of(&nodes).await;
        until(|| isr(&nodes[leader]).len() == 2).await;
        nodes[leader]
            .produce(TOPIC, batch(1, b"value"))
            .await
            .unwrap();
    });
}

fn active_brokers(node: &Node) -> Vec<BrokerId> {
    let image = node.shared().image();
    let active = image.brokers().filter(|broker| image.is_active(broker.id));
    active.map(|broker| broker.id).collect()
}

/// Its followers have a request at the leader already, which waits for news of other partitions.
#[test]
fn a_leadership_that_begins_beside_idle_ones_waits_for_no_request() {
    with_cluster(11, async |_, nodes| {
        let leader = replicated(&nodes).await;
        for number in 0..6 {
            // Simulated time, longer than a fetch waits: all requests have begun to wait anew.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let name = format!("later-{number}");
            let begun = tokio::time::Instant::now();
            create_on(&nodes, &name, leader).await;
            // It is in the image of the node that asked; its leader may hear of it a little later.
            let shared = nodes[leader].shared();
            until(|| shared.image().topic_by_name(&name).is_some()).await;
            nodes[leader].produce(&name, batch(1, b"x")).await.unwrap();
            let took = begun.elapsed();
            assert!(took < Duration::from_millis(100), "{took:?}");
        }
    });
}

#[test]
fn the_preferred_replica_leads_again_after_a_while() {
    let settings = ["leader.imbalance.check.interval.seconds=2"];
    crate::testing::cluster::with_settings(66, &settings, async |world, mut nodes| {
        replicated_on(&nodes, 0).await;
        let id = nodes[0].shared().identity.broker_id;
        nodes.remove(0).broker.stop().await;
        assert_ne!(partition(&nodes[0]).unwrap().leader, id);
        let config = cluster_config(world, HOSTS[0], &HOSTS, &settings);
        nodes.insert(0, start(world, 0, &config).await);
        until(|| partition(&nodes[1]).unwrap().leader == id).await;
        assert_eq!(leader_of(&nodes).await, 0);
        nodes[0].produce(TOPIC, batch(1, b"value")).await.unwrap();
    });
}
