//! Nodes of a cluster that stop, as those see it who write.

use std::cell::{Cell, RefCell};

use skein_partition::Acks;
use skein_types::{ErrorCode, PartitionIndex};

use super::*;
use crate::testing::cluster::{
    HOSTS, TOPIC, active, agree, controller_of, isr, leader_of, partition, records, replica,
    replicated_on, start, until, with_cluster,
};
use crate::testing::{Node, append, batch, cluster_config, with_node};

/// Writes to whoever leads, one batch after the other, and goes where it is sent.
struct Writer<'a> {
    nodes: &'a [Arc<Shared>],
    believed: Cell<usize>,
    is_over: Cell<bool>,
    acknowledged: RefCell<Vec<Instant>>,
}

impl Writer<'_> {
    async fn run(&self) {
        while !self.is_over.get() {
            let node = &self.nodes[self.believed.get()];
            let refused = match node.replicas.by_name(TOPIC, PartitionIndex(0)).await {
                Ok(replica) => {
                    let reply = append(&replica, batch(1, b"value"), Acks::All);
                    let result = reply.result().await;
                    result.err().map(|refusal| refusal.error_code())
                }
                Err(code) => Some(code),
            };
            match refused {
                None => self.acknowledged.borrow_mut().push(Instant::now()),
                Some(ErrorCode::NotLeaderOrFollower) => self.follow(node),
                Some(other) => panic!("{other}"),
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Goes to whom the node names.
    fn follow(&self, node: &Shared) {
        let image = node.image();
        let topic = image.topic_by_name(TOPIC).unwrap();
        let leader = topic.partitions[0].leader;
        let named = self.nodes.iter();
        let mut named = named.map(|node| node.identity.broker_id);
        self.believed
            .set(named.position(|id| id == leader).unwrap_or(0));
    }

    fn longest_gap(&self) -> Duration {
        let acknowledged = self.acknowledged.borrow();
        let gaps = acknowledged.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap()
    }
}

/// Stops the leader of a partition while four writers write.
fn stop_a_leader(seed: u64, is_controller: bool) {
    with_cluster(seed, async |_, mut nodes| {
        let controller = controller_of(&nodes).await;
        let leader = match is_controller {
            true => controller,
            false => (controller + 1) % HOSTS.len(),
        };
        replicated_on(&nodes, leader).await;
        until(|| agree(&nodes)).await;
        let all: Vec<_> = nodes.iter().map(|node| Arc::clone(node.shared())).collect();
        let writer = Writer {
            nodes: &all,
            believed: Cell::new(leader),
            is_over: Cell::new(false),
            acknowledged: RefCell::default(),
        };
        let stopped = nodes.remove(leader);
        let stopped_id = all[leader].identity.broker_id;
        let stopping = async {
            sleep(Duration::from_millis(300)).await;
            stopped.broker.stop().await;
            sleep(Duration::from_millis(500)).await;
            writer.is_over.set(true);
        };
        let (one, two) = (writer.run(), writer.run());
        let (three, four) = (writer.run(), writer.run());
        tokio::join!(stopping, one, two, three, four);
        let gap = writer.longest_gap();
        assert!(gap < Duration::from_millis(100), "{gap:?}");
        let next = leader_of(&nodes).await;
        assert!(!isr(&nodes[next]).contains(&stopped_id));
        until(|| agree(&nodes)).await;
        // Neither lost nor there twice.
        let acknowledged = writer.acknowledged.borrow().len();
        assert_eq!(records(&nodes[next]).len(), acknowledged);
        if is_controller {
            let leaders = nodes.iter().map(|node| node.shared().controller.leader());
            let own = all[leader].controller.raft_id();
            assert!(leaders.flatten().all(|leader| leader.raft_id != own));
        }
    });
}

#[test]
fn a_leader_that_stops_is_replaced_before_it_goes() {
    for seed in 21..25 {
        stop_a_leader(seed, false);
    }
}

#[test]
fn a_leader_that_is_the_controller_too_hands_both_over() {
    for seed in 31..35 {
        stop_a_leader(seed, true);
    }
}

#[test]
fn who_stopped_in_order_leads_and_follows_again() {
    with_cluster(41, async |world, mut nodes| {
        replicated_on(&nodes, 0).await;
        nodes[0].produce(TOPIC, batch(1, b"value")).await.unwrap();
        let id = nodes[0].shared().identity.broker_id;
        let stopped = nodes.remove(0);
        stopped.broker.stop().await;
        let config = cluster_config(world, HOSTS[0], &HOSTS, &[]);
        nodes.insert(0, start(world, 0, &config).await);
        assert_eq!(nodes[0].shared().identity.broker_id, id);
        for node in &nodes {
            until(|| active(node) == 3).await;
        }
        let leader = leader_of(&nodes).await;
        until(|| isr(&nodes[leader]).contains(&id) && agree(&nodes)).await;
    });
}

async fn time_to_stop(node: Node) -> Duration {
    let begun = Instant::now();
    node.broker.stop().await;
    begun.elapsed()
}

#[test]
fn a_node_alone_stops_at_once() {
    with_node(42, &[], async |_, node| {
        node.create("topic", &[]).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        let took = time_to_stop(node).await;
        assert!(took < Duration::from_millis(100), "{took:?}");
    });
}

#[test]
fn a_node_without_a_quorum_stops_in_time() {
    with_cluster(43, async |world, mut nodes| {
        replicated_on(&nodes, 0).await;
        for host in [1, 2] {
            world.kill(HOSTS[host]);
        }
        nodes.truncate(1);
        let took = time_to_stop(nodes.remove(0)).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn nodes_that_stop_together_lose_nothing() {
    with_cluster(44, async |world, mut nodes| {
        replicated_on(&nodes, 0).await;
        for _ in 0..5 {
            nodes[0].produce(TOPIC, batch(1, b"value")).await.unwrap();
        }
        let [a, b, c] = [nodes.remove(0), nodes.remove(0), nodes.remove(0)];
        let begun = Instant::now();
        tokio::join!(a.broker.stop(), b.broker.stop(), c.broker.stop());
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        let configs = HOSTS.map(|host| cluster_config(world, host, &HOSTS, &[]));
        let [a, b, c] = &configs;
        let nodes = tokio::join!(start(world, 0, a), start(world, 1, b), start(world, 2, c));
        let nodes = vec![nodes.0, nodes.1, nodes.2];
        let leader = leader_of(&nodes).await;
        until(|| replica(&nodes[leader]).is_some() && agree(&nodes)).await;
        assert_eq!(records(&nodes[leader]).len(), 5);
        assert!(partition(&nodes[leader]).unwrap().last_known.is_empty());
    });
}
