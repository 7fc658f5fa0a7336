//! Tests of [`super`], on a node in the simulated world.

use std::path::Path;

use skein_env::OpenMode;
use skein_env::sim::SimWorld;
use skein_partition::Acks;
use tokio::time::{sleep, timeout};

use super::*;
use crate::flusher::REWRITES_MAX;
use crate::testing::{HOST, LOG_DIR, Node, append, batch, config, read_all, speed, with_node};

/// How long a flush takes that waits for nothing.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_broken_log_has_nothing_to_flush() {
    with_node(1, &[], async |_, node| {
        node.create("topic", &[]).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        let replica = node.replica("topic").await.unwrap();
        let plan = plan_flush(&replica, FlushScope::All).await;
        assert!(matches!(plan, Ok(Some(_))), "there is something to flush");
        replica.ask_log(|log| log.abandon()).await.unwrap();
        for scope in [FlushScope::All, FlushScope::Sealed] {
            assert!(matches!(plan_flush(&replica, scope).await, Ok(None)));
        }
    });
}

/// Fills segments, the last of which grows on, and returns how far the log is flushed when so much
/// simulated time has passed `after` that. The next checkpoint is a minute away: too much for a
/// stop to make good for.
async fn flushed_after(node: &Node, segments: usize, after: Duration) -> Offset {
    let topic = [("segment.bytes", "1048576"), ("retention.ms", "-1")];
    node.create("topic", &topic).await;
    for _ in 0..segments {
        node.produce("topic", batch(1, &[7; 1_000_000]))
            .await
            .unwrap();
        // Of simulated time: it lets the flush begin between two segments.
        sleep(Duration::from_millis(1)).await;
    }
    let replica = node.replica("topic").await.unwrap();
    assert_eq!(replica.view().log.segment_count(), segments);
    sleep(after).await;
    replica.ask_log(|log| log.recovery_point()).await.unwrap()
}

#[test]
fn sealed_segments_are_flushed_as_they_gather() {
    with_node(1, &[], async |_, node| {
        let flushed = flushed_after(&node, 100, 10 * SOON).await;
        assert!(flushed >= Offset(100 - 8), "{flushed}");
        // No flush takes the segment that grows along.
        assert!(flushed < Offset(100), "{flushed}");
    });
}

#[test]
fn segments_that_are_sealed_while_others_are_flushed_are_so_though_nothing_is_written_any_more() {
    with_node(2, &[], async |world, node| {
        let slow = speed(Duration::ZERO, SOON / 10);
        world.disk(HOST).set_speed(slow);
        let flushed = flushed_after(&node, 40, 30 * SOON).await;
        assert!(flushed >= Offset(40 - 8), "{flushed}");
    });
}

/// The log of a former process is written anew at its first flush, which may take seconds.
#[test]
fn no_round_waits_for_a_log_that_is_written_anew() {
    let world = SimWorld::new(3);
    let config = config(&world, &[]);
    let topic = [("durability", "flushed")];
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("found", &topic).await;
        node.produce("found", batch(1, b"value")).await.unwrap();
        world.kill(HOST);
        let node = Node::start(world.node(HOST), &config).await;
        let shared = node.shared();
        // Before the log is opened, and wants to be flushed for what is in it.
        let rewrites = u32::try_from(REWRITES_MAX).unwrap();
        let held = shared.rewrites.acquire_many(rewrites).await.unwrap();
        node.create("other", &topic).await;
        let replica = node.replica("found").await.unwrap();
        let first = append(&replica, batch(1, b"value"), Acks::All);
        sleep(SOON).await;
        let second = append(&replica, batch(1, b"value"), Acks::All);
        for _ in 0..3 {
            let produced = timeout(SOON, node.produce("other", batch(1, b"value")));
            assert!(produced.await.expect("the round waits").is_ok());
        }
        assert_eq!((first.try_result(), second.try_result()), (None, None));
        let checkpointed = || {
            let file = CheckpointFile::RecoveryPoint;
            shared.directory.checkpointed(file, &replica.name)
        };
        assert_eq!(checkpointed(), None);
        drop(held);
        for reply in [first, second] {
            let result = timeout(SOON, reply.result()).await;
            assert!(result.expect("it was asked for meanwhile").is_ok());
        }
        // What was rewritten, at once: the next checkpoint is a minute away.
        assert_eq!(checkpointed(), Some(Offset(1)));
        assert_eq!(read_all(&replica).len(), 3);
    });
}

/// Whether a directory of the topic waits to be removed.
fn waits(node: &Node, topic: &str) -> bool {
    let disk = &node.shared().env.disk;
    let entries = disk.read_directory(LOG_DIR.as_ref()).unwrap();
    let mut names = entries.iter().map(|(name, _)| name.to_string_lossy());
    names.any(|name| name.starts_with(topic) && name.ends_with("-delete"))
}

#[test]
fn on_a_full_disk_deleted_files_go_soon_and_not_at_once() {
    with_node(3, &[], async |world, node| {
        for topic in ["topic", "other", "second", "third"] {
            node.create(topic, &[]).await;
            node.produce(topic, batch(1, b"value")).await.unwrap();
        }
        // The reserve is filled.
        sleep(Duration::from_secs(2)).await;
        node.delete("other").await;
        sleep(Duration::from_secs(10)).await;
        assert!(waits(&node, "other"), "there is room");
        // A device that is too small would give up its reserve first.
        let path = Path::new(LOG_DIR).join("filler");
        let filler = node.shared().env.disk.open(&path, OpenMode::CreateNew);
        filler.unwrap().fill(0..160 << 20).unwrap();
        let disk = world.disk(HOST);
        disk.set_capacity(disk.used());
        let refused = node.produce("topic", batch(1, &[7; 500_000])).await;
        assert!(refused.is_err());
        // At several times between two looks for room.
        for topic in ["topic", "second", "third"] {
            node.delete(topic).await;
            sleep(Duration::from_millis(900)).await;
            // Somebody may just have looked it up.
            assert!(waits(&node, topic), "{topic}");
            sleep(Duration::from_millis(400)).await;
        }
        sleep(Duration::from_secs(2)).await;
        for topic in ["topic", "other", "second", "third"] {
            assert!(!waits(&node, topic), "{topic}");
        }
    });
}

/// A node with topics of a few old segments each; how long it takes to delete those of all, where
/// each call of the disk takes a while.
fn deletion_of(topics: usize) -> Duration {
    let took = Arc::new(Mutex::new(Duration::ZERO));
    let told = Arc::clone(&took);
    with_node(5, &[], async move |world, node| {
        let old = [("segment.bytes", "1048576"), ("retention.ms", "1000")];
        for number in 0..topics {
            let topic = format!("topic-{number}");
            node.create(&topic, &old).await;
            for _ in 0..4 {
                node.produce(&topic, batch(1, &[7; 900_000])).await.unwrap();
            }
        }
        let shared = Arc::clone(node.shared());
        // Until they are too old.
        sleep(3 * SOON).await;
        world.disk(HOST).set_speed(speed(SOON / 10, SOON / 10));
        let begun = Instant::now();
        retain(Arc::clone(&shared)).await;
        *told.lock() = begun.elapsed();
        world
            .disk(HOST)
            .set_speed(speed(Duration::ZERO, Duration::ZERO));
        for replica in shared.replicas.open_replicas() {
            if replica.name.topic.as_str().starts_with("topic-") {
                assert!(replica.view().log.segment_count() < 4);
            }
        }
    });
    let took = took.lock();
    *took
}

#[test]
fn a_log_whose_deletions_take_long_keeps_no_other_from_its_own() {
    let (one, four) = (deletion_of(1), deletion_of(4));
    assert!(one > Duration::ZERO, "it costs nothing");
    assert!(four < one * 2, "{four:?} for four, {one:?} for one");
}
