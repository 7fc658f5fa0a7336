//! Failures of one partition's storage, on a node in the simulated world.

use skein_env::sim::{Fault, Operation, SimWorld};
use skein_metadata::Partition;
use skein_partition::{Acks, PublishedRole, Refusal};
use skein_types::{BrokerId, Offset};
use tokio::time::sleep;

use super::*;
use crate::testing::{HOST, Node, append, batch, config, read_all};

/// The simulated time in which the controller has heard of it.
const SOON: Duration = Duration::from_secs(30);

fn partition(node: &Node, topic: &str) -> Arc<Partition> {
    let image = node.shared().image();
    let topic = image.topic_by_name(topic).unwrap();
    Arc::clone(topic.partition(PartitionIndex(0)).unwrap())
}

async fn wait_until_offline(node: &Node, topic: &str) {
    let waiting = async {
        while partition(node, topic).offline.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting)
        .await
        .expect("offline in the image");
    let partition = partition(node, topic);
    let own = node.shared().identity.broker_id;
    assert_eq!(
        (partition.leader, &*partition.offline),
        (BrokerId::NONE, &[own][..])
    );
    assert!(!partition.isr.contains(&own) && !partition.elr.contains(&own));
}

#[test]
fn a_log_that_cannot_be_opened_has_no_leader_until_the_next_process_opens_it() {
    let world = SimWorld::new(1);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        for topic in ["topic", "other"] {
            node.create(topic, &[]).await;
            node.produce(topic, batch(3, b"value")).await.unwrap();
        }
        node.broker.stop().await;
        world.kill(HOST);
        let env = world.node(HOST);
        let disk = world.disk(HOST);
        disk.fail_path("topic-0", Operation::Read, Fault::Eio, u64::MAX);
        let node = Node::start(env, &config).await;
        wait_until_offline(&node, "topic").await;
        // Nobody has the records, so it is not said that nobody leads: it is said why.
        let refused = node.replica("topic").await.map(|_| ());
        assert_eq!(refused, Err(ErrorCode::KafkaStorageError));
        node.produce("other", batch(1, b"value")).await.unwrap();
        assert_eq!(partition(&node, "other").leader, BrokerId(1));
        world.kill(HOST);

        let env = world.node(HOST);
        world.disk(HOST).heal();
        let node = Node::start(env, &config).await;
        let ack = node.produce("topic", batch(1, b"value")).await.unwrap();
        assert_eq!(ack.base_offset, Offset(3), "nothing is lost");
        assert_eq!(read_all(&node.replica("topic").await.unwrap()).len(), 2);
        assert!(partition(&node, "topic").offline.is_empty());
        assert_eq!(node.shared().metrics.replicas_offline.get(), 0);
    });
}

#[test]
fn a_log_whose_flush_failed_has_no_leader() {
    let world = SimWorld::new(2);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("topic", &[("flush.messages", "1")]).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        let disk = world.disk(HOST);
        disk.fail_path("topic-0", Operation::Sync, Fault::Eio, 1);
        let replica = node.replica("topic").await.unwrap();
        let _ = append(&replica, batch(1, b"value"), Acks::All)
            .result()
            .await;
        wait_until_offline(&node, "topic").await;
        let result = append(&replica, batch(1, b"value"), Acks::All)
            .result()
            .await;
        assert_eq!(result, Err(Refusal::Offline), "also after it resigned");
    });
}

#[test]
fn a_failure_that_passes_is_not_told() {
    let world = SimWorld::new(3);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("topic", &[]).await;
        let disk = world.disk(HOST);
        disk.fail_path("topic-0", Operation::Name, Fault::NoSpace, 1);
        let failed = node.replica("topic").await.map(|_| ());
        assert_eq!(failed, Err(ErrorCode::KafkaStorageError));
        sleep(SOON).await;
        assert_ne!(partition(&node, "topic").leader, BrokerId::NONE);
    });
}

#[test]
fn a_write_that_fails_takes_every_replica_of_the_directory_offline() {
    let world = SimWorld::new(4);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        for topic in ["topic", "other", "untouched"] {
            node.create(topic, &[]).await;
        }
        for topic in ["topic", "other"] {
            node.produce(topic, batch(3, b"value")).await.unwrap();
        }
        let disk = world.disk(HOST);
        disk.fail_path("topic-0", Operation::Write, Fault::Eio, 1);
        let failed = node.produce("topic", batch(1, b"lost")).await;
        let refused = Err(Refusal::Offline);
        assert!(
            failed == refused || failed == Err(Refusal::WriteFailed),
            "{failed:?}"
        );
        for topic in ["topic", "other", "untouched"] {
            wait_until_offline(&node, topic).await;
            let refused = node
                .replica(topic)
                .await
                .map(|replica| replica.view().offsets.role);
            let expected = matches!(
                refused,
                Ok(PublishedRole::Offline) | Err(ErrorCode::KafkaStorageError)
            );
            assert!(expected, "{topic}: {refused:?}");
        }
        assert_eq!(node.shared().metrics.replicas_offline.get(), 3);
        // What is created now has no place to be.
        node.create("late", &[]).await;
        assert!(node.replica("late").await.is_err());
        wait_until_offline(&node, "late").await;
        world.kill(HOST);

        let env = world.node(HOST);
        world.disk(HOST).heal();
        let node = Node::start(env, &config).await;
        for (topic, records) in [("topic", 3), ("other", 3), ("untouched", 0), ("late", 0)] {
            let ack = node.produce(topic, batch(1, b"value")).await.unwrap();
            assert_eq!(ack.base_offset, Offset(records), "{topic}");
        }
        assert_eq!(node.shared().metrics.replicas_offline.get(), 0);
    });
}
