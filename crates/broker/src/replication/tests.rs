//! Partitions of three replicas, as their leaders' clients see them.

use std::sync::Arc;
use std::time::Duration;

use skein_env::sim::SimWorld;
use skein_metadata::Partition;
use skein_types::{BrokerId, ErrorCode, PartitionIndex};

use crate::handlers::create_topics;
use crate::replica::Replica;
use crate::testing::cluster::{HOSTS, start, until, with_cluster};
use crate::testing::{Node, batch, cluster_config, read_all};

const TOPIC: &str = "topic";

/// A topic of one partition on all three, and the number of its leader.
async fn replicated(nodes: &[Node]) -> usize {
    let mut topic = create_topics::tests::topic_of_one(TOPIC);
    topic.replication_factor = 3;
    create_topics::make(nodes[0].shared(), vec![topic], 5_000)
        .await
        .unwrap();
    leader_of(nodes).await
}

fn partition(node: &Node) -> Option<Arc<Partition>> {
    let image = node.shared().image();
    let topic = image.topic_by_name(TOPIC)?;
    topic.partitions.get(0).cloned()
}

async fn leader_of(nodes: &[Node]) -> usize {
    let find = || {
        nodes.iter().position(|node| {
            let own = node.shared().identity.broker_id;
            partition(node).is_some_and(|partition| partition.leader == own)
        })
    };
    until(|| find().is_some()).await;
    find().unwrap()
}

fn isr(node: &Node) -> Vec<BrokerId> {
    partition(node)
        .map(|partition| partition.isr.clone())
        .unwrap_or_default()
}

fn replica(node: &Node) -> Option<Arc<Replica>> {
    let topic = node.shared().image().topic_by_name(TOPIC)?.id;
    node.shared()
        .replicas
        .open_by_id((topic, PartitionIndex(0)))
}

/// Whether the followers have, and show, what the leader does.
fn agree(nodes: &[Node]) -> bool {
    let ends = nodes.iter().map(|node| {
        let view = replica(node)?.view();
        let offsets = view.offsets;
        Some((offsets.high_watermark, offsets.log_end_offset))
    });
    let ends: Vec<_> = ends.collect();
    ends.iter().all(|end| end.is_some() && *end == ends[0])
}

fn records(node: &Node) -> Vec<Vec<u8>> {
    let batches = read_all(&replica(node).unwrap());
    batches
        .iter()
        .map(|batch| batch.as_slice().to_vec())
        .collect()
}

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
