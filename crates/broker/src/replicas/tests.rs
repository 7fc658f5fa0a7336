//! Tests of [`super`], on a node in the simulated world.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use skein_env::sim::{Fault, Operation, SimWorld};
use skein_partition::{Acks, Refusal};
use skein_types::{Millis, Offset};
use tokio::time::{sleep, timeout};

use super::*;
use crate::testing::{
    HOST, LOG_DIR, Node, append, batch, batch_of, config, create, partition_path, read_all, speed,
    with_node,
};

/// The simulated time in which whatever waits must have ended.
const SOON: Duration = Duration::from_secs(120);

fn has_marker(world: &SimWorld) -> bool {
    let disk = world.node(HOST).disk;
    let marker = Path::new(LOG_DIR).join(".kafka_cleanshutdown");
    disk.stat(&marker).is_ok()
}

#[test]
fn a_topic_made_again_under_its_name_starts_at_offset_zero_with_another_id() {
    with_node(1, &[], async |_, node| {
        let first = node.create("topic", &[]).await;
        node.produce("topic", batch(3, b"first")).await.unwrap();
        let old = node.replica("topic").await.unwrap();
        node.delete("topic").await;
        let second = node.create("topic", &[]).await;
        assert_ne!(first, second);
        let ack = node.produce("topic", batch(2, b"second")).await.unwrap();
        assert_eq!(ack.base_offset, Offset(0));
        let new = node.replica("topic").await.unwrap();
        assert_eq!(read_all(&new).len(), 1);
        let result = append(&old, batch(1, b"late"), Acks::All).result().await;
        assert_eq!(result, Err(Refusal::NotLeader));
        sleep(SOON).await;
        let entries = node
            .shared()
            .env
            .disk
            .read_directory(LOG_DIR.as_ref())
            .unwrap();
        let of_topic = entries
            .iter()
            .filter(|(name, _)| name.to_string_lossy().starts_with("topic"));
        assert_eq!(of_topic.count(), 1, "{entries:?}");
        assert_eq!(Arc::strong_count(&old), 1, "a deleted replica is kept");
    });
}

/// The write of the old topic hangs while the new one is opened: it must not end in the new
/// directory.
#[test]
fn a_write_in_flight_ends_before_the_name_of_a_deleted_topic_is_used_again() {
    for seed in 0..50 {
        with_node(seed, &["log.segment.bytes=1048576"], async |world, node| {
            node.create("topic", &[("segment.bytes", "1048576")]).await;
            node.produce("topic", batch(1, &[7; 1_000_000]))
                .await
                .unwrap();
            let old = node.replica("topic").await.unwrap();
            world.disk(HOST).set_speed(speed(
                Duration::from_millis(seed),
                Duration::from_millis(20),
            ));
            // Each of them needs another segment.
            let replies: Vec<_> = (0..4)
                .map(|_| append(&old, batch(1, &[8; 1_000_000]), Acks::All))
                .collect();
            node.delete("topic").await;
            node.create("topic", &[]).await;
            let ack = node.produce("topic", batch(1, b"new")).await.unwrap();
            assert_eq!(ack.base_offset, Offset(0));
            for reply in replies {
                let result = timeout(SOON, reply.result()).await;
                assert!(
                    result.is_ok(),
                    "a produce to a deleted topic is never answered"
                );
            }
            let disk = &node.shared().env.disk;
            let files = disk.read_directory(&partition_path("topic")).unwrap();
            let logs = files
                .iter()
                .filter(|(name, _)| name.to_string_lossy().ends_with(".log"));
            assert_eq!(logs.count(), 1, "a file of the deleted topic: {files:?}");
        });
    }
}

/// The node stops while a deleted topic is still written and the next one of its name is asked for.
#[test]
fn a_stop_does_not_end_the_wait_for_a_deleted_topics_writes() {
    for seed in 0..20 {
        with_node(seed, &[], async |world, node| {
            node.create("topic", &[("segment.bytes", "1048576")]).await;
            node.produce("topic", batch(1, &[7; 1_000_000]))
                .await
                .unwrap();
            let old = node.replica("topic").await.unwrap();
            let slow = speed(Duration::from_millis(20), Duration::ZERO);
            world.disk(HOST).set_speed(slow);
            // Each of them needs another segment.
            for _ in 0..4 {
                append(&old, batch(1, &[8; 1_000_000]), Acks::All);
            }
            node.delete("topic").await;
            node.create("topic", &[]).await;
            sleep(Duration::from_millis(seed)).await;
            let shared = Arc::clone(node.shared());
            let next = shared.replicas.by_name("topic", PartitionIndex(0));
            let (_, opened) = tokio::join!(node.broker.stop(), timeout(SOON, next));
            if let Ok(Ok(_)) = opened {
                sleep(SOON).await;
                let disk = &shared.env.disk;
                let files = disk.read_directory(&partition_path("topic")).unwrap();
                let logs = files
                    .iter()
                    .filter(|(name, _)| name.to_string_lossy().ends_with(".log"));
                assert_eq!(
                    logs.count(),
                    1,
                    "seed {seed}: of the deleted topic: {files:?}"
                );
            }
        });
    }
}

/// A task that has loaded the image, and is overtaken by one that follows the next.
#[test]
fn an_image_that_others_have_left_behind_brings_no_deleted_topic_back() {
    with_node(2, &[], async |_, node| {
        node.create("topic", &[]).await;
        node.alter("topic", "max.message.bytes", "500").await;
        let with_topic = node.shared().image();
        node.replica("topic").await.unwrap();
        node.delete("topic").await;
        node.create("other", &[]).await;
        let replicas = &node.shared().replicas;
        replicas.follow(node.shared());
        replicas.follow_to(node.shared(), with_topic);
        let names: Vec<_> = replicas
            .places()
            .iter()
            .map(|place| place.name.clone())
            .collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let found = node.replica("topic").await.map(|_| ());
        assert_eq!(found, Err(ErrorCode::UnknownTopicOrPartition));
        assert!(node.replica("other").await.is_ok());
    });
}

/// The opening has begun and has not looked at the place when its topic is deleted. The removal
/// waits for the opening; the opening of the next topic of that name waits for the removal.
#[test]
fn an_opening_that_a_deletion_overtakes_ends_and_hinders_no_later_one() {
    for seed in 0..10 {
        with_node(seed, &[], async |_, node| {
            node.create("topic", &[]).await;
            let replicas = &node.shared().replicas;
            replicas.follow(node.shared());
            let place = replicas.places().remove(0);
            let mut opening = pin!(timeout(SOON, replicas.leading(&place)));
            let is_open = poll_fn(|context| Poll::Ready(opening.as_mut().poll(context))).await;
            assert!(is_open.is_pending(), "the opening was to take longer");
            replicas.take_out(place.topic_id);
            let opened = opening.await.expect("an opening waits for itself");
            assert!(opened.is_err(), "a deleted partition was opened");
            node.delete("topic").await;
            node.create("topic", &[]).await;
            let produced = timeout(SOON, node.produce("topic", batch(1, b"new"))).await;
            assert!(produced.expect("the next topic is opened").is_ok());
        });
    }
}

#[test]
fn what_is_deleted_goes_before_what_was_made_since_gets_its_name() {
    with_node(1, &[], async |_, node| {
        let names: Vec<_> = (0..8).map(|number| format!("topic{number}")).collect();
        for name in &names {
            node.create(name, &[]).await;
        }
        let former = node.shared().image();
        for name in &names {
            node.delete(name).await;
            node.create(name, &[]).await;
        }
        let image = node.shared().image();
        let is_removal = |change: &TopicChange| matches!(change, TopicChange::Removed(_));
        let changes = removals_first(&image, &former);
        assert_eq!(
            changes.iter().filter(|change| is_removal(change)).count(),
            8
        );
        assert!(changes.iter().take(8).all(is_removal));
    });
}

/// Whatever a node has left running when it ends: the next process of its machine starts, and
/// nothing of it is there any more.
#[test]
fn a_node_that_has_ended_leaves_nothing_behind() {
    for is_killed in [true, false] {
        let world = SimWorld::new(9);
        let config = config(&world, &[]);
        let shared = world.block_on(async {
            let node = Node::start(world.node(HOST), &config).await;
            node.create("topic", &[("durability", "flushed")]).await;
            node.create("deleted", &[]).await;
            node.produce("topic", batch(1, b"value")).await.unwrap();
            node.produce("deleted", batch(1, b"value")).await.unwrap();
            let replica = node.replica("topic").await.unwrap();
            node.delete("deleted").await;
            // A batch that is not written yet, and a flush that nobody comes to any more.
            append(&replica, batch(1, b"value"), Acks::All);
            node.shared().flusher.request(&replica);
            drop(replica);
            let shared = Arc::downgrade(node.shared());
            match is_killed {
                true => drop(node),
                false => node.broker.stop().await,
            }
            world.kill(HOST);
            shared
        });
        assert_eq!(world.end(), Ok(()));
        assert_eq!(shared.strong_count(), 0);
    }
}

#[test]
fn a_log_that_a_full_disk_kept_closed_is_opened_when_there_is_room() {
    with_node(3, &[], async |world, node| {
        node.create("topic", &[]).await;
        world
            .disk(HOST)
            .fail_path("topic-0", Operation::Name, Fault::NoSpace, 1);
        let failed = node.replica("topic").await.map(|_| ());
        assert_eq!(failed, Err(ErrorCode::KafkaStorageError));
        assert_eq!(node.shared().metrics.replicas_offline.get(), 1);
        sleep(Duration::from_secs(2)).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        assert_eq!(node.shared().metrics.replicas_offline.get(), 0);
    });
}

#[test]
fn whoever_opens_a_log_may_go_and_it_is_opened_once() {
    with_node(4, &[], async |world, node| {
        node.create("topic", &[]).await;
        world
            .disk(HOST)
            .set_speed(speed(Duration::from_millis(50), Duration::ZERO));
        let gone = timeout(Duration::from_millis(10), node.replica("topic")).await;
        assert!(gone.is_err(), "the opening was to take longer");
        let (one, other) = tokio::join!(node.replica("topic"), node.replica("topic"));
        assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
        assert_eq!(node.shared().metrics.replicas_open.get(), 1);
    });
}

#[test]
fn a_restart_keeps_records_sequences_and_configurations() {
    for is_clean in [true, false] {
        let world = SimWorld::new(5);
        let config = config(&world, &[]);
        world.block_on(async {
            let node = Node::start(world.node(HOST), &config).await;
            node.create("topic", &[]).await;
            node.alter("topic", "max.message.bytes", "500").await;
            for sequence in [0, 2, 4] {
                node.produce("topic", batch_of(9, sequence, 2))
                    .await
                    .unwrap();
            }
            if is_clean {
                node.broker.stop().await;
                assert!(has_marker(&world));
            }
            world.kill(HOST);
            let node = Node::start(world.node(HOST), &config).await;
            let again = node.produce("topic", batch_of(9, 4, 2)).await.unwrap();
            assert_eq!(again.base_offset, Offset(4), "a duplicate");
            let next = node.produce("topic", batch_of(9, 6, 2)).await.unwrap();
            assert_eq!(next.base_offset, Offset(6));
            let replica = node.replica("topic").await.unwrap();
            assert_eq!(read_all(&replica).len(), 4);
            assert_eq!(replica.policy().max_message_bytes, 500);
        });
    }
}

/// A request that is still served while the node stops, for a topic that is made meanwhile.
#[test]
fn no_log_is_opened_behind_the_mark_of_a_clean_stop() {
    let mut made = 0;
    for seed in 0..20 {
        let world = SimWorld::new(seed);
        let config = config(&world, &[]);
        world.block_on(async {
            let node = Node::start(world.node(HOST), &config).await;
            node.create("topic", &[]).await;
            node.produce("topic", batch(1, b"value")).await.unwrap();
            world
                .disk(HOST)
                .set_speed(speed(Duration::from_millis(2), Duration::ZERO));
            let shared = Arc::clone(node.shared());
            let create = timeout(SOON, create(&shared, "late", &[]));
            let ((), created) = tokio::join!(node.broker.stop(), create);
            made += u32::from(created.is_ok_and(|created| created.is_ok()));
            let opened = shared.replicas.by_name("late", PartitionIndex(0)).await;
            let is_in_use = match opened {
                Ok(replica) => replica.ask_log(|_| ()).await.is_some(),
                Err(code) => {
                    assert_eq!(code, ErrorCode::NotLeaderOrFollower);
                    false
                }
            };
            world.kill(HOST);
            assert!(!is_in_use || !has_marker(&world), "seed {seed}");
        });
    }
    assert!(made > 0, "no topic was made while the node stopped");
}

#[test]
fn a_stop_before_every_log_was_looked_at_is_not_clean() {
    let world = SimWorld::new(6);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("topic", &[]).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        world.kill(HOST);
        // Neither does the next run get to open it.
        let env = world.node(HOST);
        world
            .disk(HOST)
            .set_speed(speed(Duration::from_millis(5), Duration::ZERO));
        let node = Node::start(env, &config).await;
        let is_open = node.shared().replicas.open_replicas().len() == 1;
        assert!(!is_open, "the log was to be opened later");
        node.broker.stop().await;
        world.kill(HOST);
        assert!(!has_marker(&world), "nobody has looked at the log");
        let node = Node::start(world.node(HOST), &config).await;
        let replica = node.replica("topic").await.unwrap();
        assert_eq!(read_all(&replica).len(), 1);
    });
}

#[test]
fn a_stop_with_a_log_that_failed_to_open_is_not_clean() {
    let world = SimWorld::new(7);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("topic", &[]).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        world.kill(HOST);
        let env = world.node(HOST);
        world
            .disk(HOST)
            .fail_path("topic-0", Operation::Read, Fault::Eio, 1_000);
        let node = Node::start(env, &config).await;
        sleep(Duration::from_secs(1)).await;
        let failed = node.replica("topic").await.map(|_| ());
        assert_eq!(failed, Err(ErrorCode::KafkaStorageError));
        node.broker.stop().await;
        world.kill(HOST);
        assert!(!has_marker(&world));
    });
}

/// The names of the entries of the log directory that begin with `prefix`.
fn entries(node: &Node, prefix: &str) -> Vec<String> {
    let disk = &node.shared().env.disk;
    let entries = disk.read_directory(LOG_DIR.as_ref()).unwrap();
    let names = entries
        .iter()
        .map(|(name, _)| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn directories_of_deleted_topics_are_removed_at_the_start() {
    let world = SimWorld::new(8);
    let config = config(&world, &["log.segment.delete.delay.ms=1000"]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("topic", &[]).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        node.delete("topic").await;
        sleep(Duration::from_millis(500)).await;
        let renamed = entries(&node, "topic");
        assert!(
            matches!(&renamed[..], [one] if one.ends_with("-delete")),
            "{renamed:?}"
        );
        world.kill(HOST);
        let node = Node::start(world.node(HOST), &config).await;
        sleep(SOON).await;
        assert_eq!(entries(&node, "topic"), [""; 0]);
    });
}

#[test]
fn directories_without_an_owner_are_set_aside_and_stay() {
    let world = SimWorld::new(8);
    let config = config(&world, &["log.segment.delete.delay.ms=1000"]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        for topic in ["gone", "other", "topic"] {
            node.create(topic, &[]).await;
            node.produce(topic, batch(1, b"value")).await.unwrap();
        }
        // The node ends before it has seen to it.
        node.delete("gone").await;
        world.kill(HOST);
        // And a log has the name of another topic's.
        let env = world.node(HOST);
        let rename = |from: &str, to: &str| {
            let path = |name: &str| Path::new(LOG_DIR).join(name);
            env.disk.rename(&path(from), &path(to)).unwrap();
        };
        rename("topic-0", "elsewhere");
        rename("other-0", "topic-0");
        let node = Node::start(env.clone(), &config).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        sleep(SOON).await;
        for (topic, count) in [("gone", 1), ("topic", 2)] {
            let left = entries(&node, topic);
            let strays = left.iter().filter(|name| name.ends_with("-stray"));
            assert_eq!((strays.count(), left.len()), (1, count), "{left:?}");
        }
    });
}

async fn retention_of(node: &Node, topic: &str) -> Option<Millis> {
    let replica = node.replica(topic).await.unwrap();
    let retention = replica.ask_log(|log| log.config().retention_ms).await;
    retention.expect("the log is open")
}

#[test]
fn a_changed_default_of_the_brokers_reaches_the_topics_that_have_no_value_of_their_own() {
    with_node(9, &[], async |_, node| {
        node.create("heir", &[]).await;
        node.create("own", &[("retention.ms", "1000")]).await;
        node.create("altered", &[]).await;
        for topic in ["heir", "own", "altered"] {
            node.replica(topic).await.unwrap();
        }
        node.alter("altered", "retention.ms", "2000").await;
        // Of all brokers, and then of this one: the nearer one counts.
        for (broker, value) in [("", 3000), ("1", 4000)] {
            node.alter_broker(broker, "log.retention.ms", &value.to_string())
                .await;
            sleep(Duration::from_secs(1)).await;
            for (topic, expected) in [("heir", value), ("own", 1000), ("altered", 2000)] {
                let retention = retention_of(&node, topic).await;
                assert_eq!(retention, Some(Millis(expected)), "{topic} after {value}");
            }
        }
        // Neither does a log that is opened later miss it.
        node.create("late", &[]).await;
        assert_eq!(retention_of(&node, "late").await, Some(Millis(4000)));
    });
}

#[test]
fn a_deleted_topic_does_not_take_the_settings_of_the_next_one_of_its_name() {
    with_node(1, &[], async |_, node| {
        node.create("topic", &[("retention.ms", "5000")]).await;
        let old = Arc::clone(&node.shared().replicas.places()[0]);
        let retention_of = |place: &Place| {
            let replicas = &node.shared().replicas;
            let followed = replicas.followed_config(node.shared(), place);
            followed.topic.retention_ms
        };
        assert_eq!(retention_of(&old), Some(Millis(5000)));
        node.delete("topic").await;
        node.create("topic", &[("retention.ms", "7000")]).await;
        sleep(SOON).await;
        let new = Arc::clone(&node.shared().replicas.places()[0]);
        assert_eq!(retention_of(&new), Some(Millis(7000)));
        assert_ne!(retention_of(&old), Some(Millis(7000)));
    });
}

#[test]
fn dynamic_settings_of_the_broker_reach_connections_and_producers() {
    with_node(1, &["max.connections=7"], async |_, node| {
        node.create("topic", &[]).await;
        node.produce("topic", batch_of(5, 0, 1)).await.unwrap();
        let limits = || node.shared().accept_limits.borrow().max_connections;
        assert_eq!(limits(), 7);
        node.alter_broker("", "max.connections", "3").await;
        node.alter_broker("", "producer.id.expiration.ms", "1000")
            .await;
        sleep(SOON).await;
        assert_eq!(limits(), 3);
        let places = node.shared().replicas.places();
        let followed = node
            .shared()
            .replicas
            .followed_config(node.shared(), &places[0]);
        assert_eq!(followed.transaction.producer_id_expiration_ms, Millis(1000));
        // The replica has it too: the producer is forgotten at the next check, and its next
        // sequence is no duplicate of what it sent.
        sleep(Duration::from_secs(700)).await;
        let replica = node.replica("topic").await.unwrap();
        replica.age();
        let again = node.produce("topic", batch_of(5, 0, 1)).await.unwrap();
        assert_eq!(again.base_offset, Offset(1));
    });
}
