//! Tests of [`super`], on a node in the simulated world.

use std::collections::BTreeSet;
use std::time::Duration;

use skein_env::sim::{Fault, Operation, SimRng, SimWorld};
use skein_record::{BatchBuilder, Codec};
use skein_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::testing::{
    HOST, NOW, Node, append, batch, batch_of, config, read_all, speed, with_node,
};

/// The simulated time in which whatever waits must have ended.
const SOON: Duration = Duration::from_secs(120);

const CONNECTIONS: usize = 3;

/// What one connection has sent, in order.
struct Sent {
    name: u64,
    records: usize,
    acks: Acks,
    reply: Reply,
}

/// A story of one partition: producers, disk, configuration and retention at random.
struct Story<'a> {
    world: &'a SimWorld,
    node: &'a Node,
    rng: SimRng,
    replica: Arc<Replica>,
    sent: [Vec<Sent>; CONNECTIONS],
    next_name: u64,
}

impl Story<'_> {
    async fn turn(&mut self) {
        match self.rng.below(24) {
            0 => self.slow_down(),
            1 => self.fail_once(),
            2 => self.replica.age(),
            3 => self.node.shared().flusher.request(&self.replica),
            4 => {
                let bytes = 1_000 + self.rng.below(1_000_000);
                self.node
                    .alter("topic", "flush.messages", &bytes.to_string())
                    .await;
            }
            5 => {
                let to = self.rng.below(100);
                let replica = Arc::clone(&self.replica);
                let view = replica.view().offsets;
                let target = Offset(view.log_start_offset.get() + i64::try_from(to).unwrap());
                // What is not committed is refused.
                let moved = timeout(SOON, replica.delete_records(Some(target))).await;
                assert!(moved.is_ok(), "DeleteRecords is never answered");
            }
            6 => {
                let stall = Duration::from_millis(self.rng.below(200));
                self.world.disk(HOST).stall_until(Instant::now() + stall);
            }
            7..10 => sleep(Duration::from_millis(self.rng.below(30))).await,
            _ => self.produce(),
        }
    }

    fn produce(&mut self) {
        let connection = usize::try_from(self.rng.below(CONNECTIONS as u64)).unwrap();
        // Some at once, so that groups gather behind a write.
        for _ in 0..=self.rng.below(6) {
            let name = self.next_name;
            self.next_name += 1;
            let records = 1 + usize::try_from(self.rng.below(4)).unwrap();
            let acks = if self.rng.chance(3) {
                Acks::Leader
            } else {
                Acks::All
            };
            let size = usize::try_from(self.rng.below(20_000)).unwrap();
            let mut value = vec![7; 8 + size];
            value[..8].copy_from_slice(&name.to_be_bytes());
            let reply = append(&self.replica, batch(records, &value), acks);
            self.sent[connection].push(Sent {
                name,
                records,
                acks,
                reply,
            });
        }
    }

    fn slow_down(&mut self) {
        self.world.disk(HOST).set_speed(speed(
            Duration::from_micros(self.rng.below(8_000)),
            Duration::from_millis(self.rng.below(20)),
        ));
    }

    fn fail_once(&mut self) {
        let fault = match self.rng.below(3) {
            0 => Fault::NoSpace,
            1 => Fault::ShortWrite,
            _ => Fault::Eio,
        };
        let disk = self.world.disk(HOST);
        disk.fail_path("topic-0/", Operation::Write, fault, 1);
    }

    /// Every reply is answered, what is acknowledged is where it was said to be, in the order of
    /// each connection.
    async fn check(self) {
        let batches = read_all(&self.replica);
        let mut names = BTreeSet::new();
        let mut next = batches.first().map(|batch| batch.header().base_offset);
        for batch in &batches {
            assert_eq!(
                Some(batch.header().base_offset),
                next,
                "offsets are not dense"
            );
            next = Some(batch.header().next_offset());
            assert!(names.insert(name_of(batch)), "a batch is in the log twice");
        }
        let offsets = self.replica.view().offsets;
        let is_offline = offsets.role == PublishedRole::Offline;
        for connection in self.sent {
            let mut last = Offset(-1);
            for sent in connection {
                let appended = timeout(SOON, sent.reply.appended()).await;
                assert!(
                    appended.is_ok(),
                    "nobody heard whether batch {} is written",
                    sent.name
                );
                let result = timeout(SOON, sent.reply.result()).await;
                let result = result.expect("a produce is never answered");
                let Ok(ack) = result else {
                    assert!(!names.contains(&sent.name), "a refused batch is in the log");
                    continue;
                };
                assert!(last < ack.base_offset, "out of the connection's order");
                last = ack.base_offset;
                if ack.base_offset < offsets.log_start_offset {
                    continue;
                }
                // What its leader alone had acknowledged may go when that goes offline.
                let is_uncommitted = ack.base_offset >= offsets.high_watermark;
                if is_offline && is_uncommitted && sent.acks == Acks::Leader {
                    continue;
                }
                let found = batches
                    .iter()
                    .find(|b| b.header().base_offset == ack.base_offset);
                let found = found.expect("an acknowledged batch is not in the log");
                assert_eq!(name_of(found), sent.name, "another batch is there");
                let records = usize::try_from(found.header().records_count).unwrap();
                assert_eq!(records, sent.records);
            }
        }
    }
}

fn name_of(batch: &BatchBuf) -> u64 {
    let records = batch.view().records(1_000_000).unwrap();
    let record = records.iter().next().unwrap().unwrap();
    u64::from_be_bytes(record.value.unwrap()[..8].try_into().unwrap())
}

fn tell(seed: u64) {
    let world = SimWorld::new(seed);
    let config = config(&world, &[]);
    let durability = if seed.is_multiple_of(2) {
        "flushed"
    } else {
        "replicated"
    };
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        let configs = [("segment.bytes", "1048576"), ("durability", durability)];
        node.create("topic", &configs).await;
        let replica = node.replica("topic").await.unwrap();
        let mut story = Story {
            world: &world,
            node: &node,
            rng: world.rng("story"),
            replica,
            sent: Default::default(),
            next_name: 0,
        };
        for _ in 0..120 {
            story.turn().await;
        }
        world.disk(HOST).heal();
        sleep(Duration::from_secs(2)).await;
        story.check().await;
    });
}

#[test]
fn whatever_the_disk_does_offsets_are_dense_and_every_produce_is_answered_in_order() {
    let seeds = std::env::var("STORIES")
        .ok()
        .and_then(|count| count.parse().ok());
    for seed in 0..seeds.unwrap_or(20) {
        tell(seed);
    }
}

/// A node with one partition whose directory counts as slow: writes take a while, on the offload
/// pool.
fn with_slow_disk(test: impl AsyncFnOnce(&SimWorld, &Node, Arc<Replica>)) {
    let world = SimWorld::new(1);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("topic", &[]).await;
        let replica = node.replica("topic").await.unwrap();
        world
            .disk(HOST)
            .set_speed(speed(Duration::from_millis(20), Duration::ZERO));
        test(&world, &node, replica).await;
    });
}

#[test]
fn what_waits_behind_a_write_is_written_together() {
    with_slow_disk(async |_, node, replica| {
        let writes = node.shared().metrics.writes.get();
        let replies: Vec<_> = (0..50)
            .map(|_| append(&replica, batch(1, b"value"), Acks::All))
            .collect();
        for reply in &replies {
            reply.result().await.unwrap();
        }
        assert_eq!(node.shared().metrics.writes.get() - writes, 2);
    });
}

#[test]
fn a_view_shows_nothing_of_a_write_in_flight() {
    with_slow_disk(async |_, _, replica| {
        let reply = append(&replica, batch(1, b"value"), Acks::Leader);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(reply.try_result(), None);
        assert_eq!(replica.view().offsets.log_end_offset, Offset(0));
        assert_eq!(replica.view().offsets.high_watermark, Offset(0));
        assert!(reply.result().await.is_ok());
        assert_eq!(replica.view().offsets.high_watermark, Offset(1));
    });
}

#[test]
fn duplicates_count_in_the_group_and_have_the_fate_of_their_original() {
    with_slow_disk(async |_, _, replica| {
        let first = append(&replica, batch(1, b"value"), Acks::All);
        // More than one group takes, most of them duplicates.
        let many = skein_partition::MAX_GROUP_BATCHES * 2;
        let replies: Vec<_> = (0..many)
            .map(|_| append(&replica, batch_of(1, 0, 1), Acks::All))
            .collect();
        assert!(first.result().await.is_ok());
        for reply in replies {
            let ack = timeout(SOON, reply.result()).await.unwrap().unwrap();
            assert_eq!(ack.base_offset, Offset(1));
        }
        assert_eq!(read_all(&replica).len(), 2);
    });
}

#[test]
fn a_duplicate_counts_as_appended_before_it_is_committed() {
    with_node(2, &[], async |world, node| {
        node.create("topic", &[("durability", "flushed")]).await;
        let replica = node.replica("topic").await.unwrap();
        world
            .disk(HOST)
            .set_speed(speed(Duration::ZERO, Duration::from_secs(10)));
        let original = append(&replica, batch_of(1, 0, 1), Acks::All);
        timeout(Duration::from_secs(1), original.appended())
            .await
            .unwrap();
        let duplicate = append(&replica, batch_of(1, 0, 1), Acks::All);
        timeout(Duration::from_secs(1), duplicate.appended())
            .await
            .unwrap();
        assert_eq!(
            (original.try_result(), duplicate.try_result()),
            (None, None)
        );
        assert_eq!(original.result().await, duplicate.result().await);
    });
}

#[test]
fn the_earliest_of_several_timeouts_is_kept() {
    with_node(3, &[], async |world, node| {
        node.create("topic", &[("durability", "flushed")]).await;
        let replica = node.replica("topic").await.unwrap();
        world
            .disk(HOST)
            .fail_path("topic-0/", Operation::Sync, Fault::Eio, 0);
        world
            .disk(HOST)
            .set_speed(speed(Duration::ZERO, Duration::from_secs(1_000)));
        let started = Instant::now();
        let submit = |timeout| {
            let permit = BytesPermit::none();
            replica.append(batch(1, b"value"), Acks::All, Millis(timeout), permit)
        };
        let (late, early) = (submit(50_000), submit(200));
        // Nobody waits longer because the time of day was set back.
        world.clock(HOST).jump(Millis(-3_600_000));
        assert_eq!(early.result().await, Err(Refusal::TimedOut));
        assert!(
            started.elapsed() < Duration::from_millis(500),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(late.result().await, Err(Refusal::TimedOut));
    });
}

#[test]
fn what_comes_after_the_log_was_taken_is_answered() {
    with_slow_disk(async |_, _, replica| {
        let in_flight = append(&replica, batch(1, b"value"), Acks::All);
        let held = append(&replica, batch(1, b"value"), Acks::All);
        let taker = Arc::clone(&replica);
        let (taken, late) = tokio::join!(taker.take_log(), async {
            sleep(Duration::from_millis(1)).await;
            append(&replica, batch(1, b"value"), Acks::All)
        });
        assert!(taken.is_some());
        assert!(in_flight.result().await.is_ok());
        // What came before was written, what came after was refused.
        assert!(timeout(SOON, held.result()).await.unwrap().is_ok());
        assert_eq!(
            timeout(SOON, late.result()).await.unwrap(),
            Err(Refusal::NotLeader)
        );
        let after = append(&replica, batch(1, b"value"), Acks::All);
        assert_eq!(
            timeout(SOON, after.result()).await.unwrap(),
            Err(Refusal::NotLeader)
        );
        assert!(
            timeout(SOON, replica.delete_records(None))
                .await
                .unwrap()
                .is_err()
        );
        assert!(
            timeout(SOON, replica.ask_log(|_| ()))
                .await
                .unwrap()
                .is_none()
        );
        assert!(replica.take_log().await.is_none());
    });
}

#[test]
fn batches_that_claim_billions_of_records_do_not_tear_a_group() {
    with_slow_disk(async |_, _, replica| {
        let first = append(&replica, batch(1, b"value"), Acks::All);
        let replies: Vec<_> = (0..3)
            .map(|_| append(&replica, huge(), Acks::All))
            .collect();
        assert!(first.result().await.is_ok());
        for (index, reply) in replies.into_iter().enumerate() {
            let ack = timeout(SOON, reply.result()).await.unwrap().unwrap();
            let index = i64::try_from(index).unwrap();
            assert_eq!(ack.base_offset, Offset(1 + index * i64::from(i32::MAX)));
        }
        assert_eq!(read_all(&replica).len(), 4);
    });
}

#[test]
fn a_group_that_was_half_written_takes_its_replica_offline_and_nothing_else() {
    with_slow_disk(async |world, node, replica| {
        let first = append(&replica, batch(1, b"value"), Acks::All);
        // They wait behind the first and are one group; each but the first needs a new segment.
        let replies: Vec<_> = (0..3)
            .map(|_| append(&replica, huge(), Acks::All))
            .collect();
        let next_segment = "topic-0/00000000002147483648.log";
        let disk = world.disk(HOST);
        disk.fail_path(next_segment, Operation::Write, Fault::NoSpace, 1);
        assert!(first.result().await.is_ok());
        for reply in replies {
            let result = timeout(SOON, reply.result()).await.unwrap();
            assert_eq!(result.unwrap_err(), Refusal::DiskFull);
        }
        let behind = append(&replica, batch(1, b"value"), Acks::All);
        let result = timeout(SOON, behind.result()).await.unwrap();
        assert_eq!(result.unwrap_err(), Refusal::Offline);
        // The log has more than the producers' states tell: no snapshot may say otherwise.
        replica.age();
        let (log, producers) = replica.take_log().await.unwrap();
        assert!(log.close(&producers, NOW).is_err());
        assert!(node.replica("topic").await.is_ok());
    });
}

/// A batch whose header claims as many records as fit, as a compressed one could.
fn huge() -> BatchBuf {
    let mut bytes = bytes::BytesMut::from(batch(1, b"value").as_slice());
    bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = skein_record::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    BatchBuf::new(bytes).unwrap()
}

#[test]
fn a_stalled_write_leaves_other_partitions_and_metadata_served() {
    with_node(4, &[], async |world, node| {
        for topic in ["topic", "other"] {
            node.create(topic, &[]).await;
            node.produce(topic, batch(1, b"value")).await.unwrap();
        }
        let replica = node.replica("topic").await.unwrap();
        world.disk(HOST).stall_until(Instant::now() + SOON);
        let stalled = append(&replica, batch(1, b"value"), Acks::All);
        let behind = append(&replica, batch(1, b"value"), Acks::All);
        let started = Instant::now();
        let other = node.replica("other").await.unwrap();
        assert_eq!(read_all(&other).len(), 1);
        assert_eq!(read_all(&replica).len(), 1);
        let image = node.shared().image();
        assert!(image.topic_by_name("topic").is_some());
        assert!(started.elapsed() < Duration::from_millis(50));
        assert_eq!((stalled.try_result(), behind.try_result()), (None, None));
        world.disk(HOST).heal();
        assert!(behind.result().await.is_ok());
        assert_eq!(
            node.replica("none").await.map(|_| ()),
            Err(ErrorCode::UnknownTopicOrPartition)
        );
    });
}

#[test]
fn what_was_committed_while_the_log_was_away_may_be_deleted() {
    with_node(6, &[], async |world, node| {
        node.create("topic", &[("durability", "flushed")]).await;
        let replica = node.replica("topic").await.unwrap();
        world
            .disk(HOST)
            .set_speed(speed(Duration::ZERO, Duration::from_secs(5)));
        let ack = append(&replica, batch(3, b"value"), Acks::Leader);
        assert!(ack.result().await.is_ok());
        assert_eq!(replica.view().offsets.high_watermark, Offset(0));
        replica.send_on_errand(Box::new(|_| None));
        replica.step(Event::Flushed { end: Offset(3) });
        let low = timeout(SOON, replica.delete_records(None)).await.unwrap();
        assert_eq!(low, Ok(Offset(3)));
    });
}

#[test]
fn retention_goes_on_until_nothing_is_too_old_and_keeps_what_producers_have_sent() {
    const SEGMENTS: u64 = 200;
    let world = SimWorld::new(7);
    let config = config(&world, &["log.retention.check.interval.ms=60000"]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        let topic = [("segment.ms", "1"), ("retention.ms", "1000")];
        node.create("topic", &topic).await;
        for number in 0..SEGMENTS {
            let timestamp = NOW.0 - 100_000 + 10 * i64::try_from(number).unwrap();
            node.produce("topic", idempotent(timestamp, number))
                .await
                .unwrap();
        }
        let replica = node.replica("topic").await.unwrap();
        assert!(replica.view().log.segment_count() as u64 >= SEGMENTS);
        sleep(Duration::from_secs(70)).await;
        let view = replica.view();
        assert_eq!(
            view.log.segment_count(),
            1,
            "the next turn comes a minute later"
        );
        let end = i64::try_from(SEGMENTS).unwrap();
        assert_eq!(view.offsets.log_start_offset, Offset(end));
        drop((view, replica));
        world.kill(HOST);
        let node = Node::start(world.node(HOST), &config).await;
        let again = idempotent(NOW.0, SEGMENTS - 1);
        assert_eq!(
            node.produce("topic", again).await.unwrap().base_offset,
            Offset(end - 1)
        );
    });
}

/// A batch of one record of a producer.
fn idempotent(timestamp: i64, sequence: u64) -> BatchBuf {
    let mut builder = BatchBuilder::new(Codec::None);
    let sequence = Sequence(i32::try_from(sequence).unwrap());
    builder.set_producer(ProducerId(7), ProducerEpoch(0), sequence);
    builder
        .append(Millis(timestamp), None, Some(b"value"), &[])
        .unwrap();
    builder.build().unwrap()
}

#[test]
fn readers_let_go_of_segments_that_retention_took() {
    with_node(5, &[], async |_, node| {
        node.create("topic", &[("segment.bytes", "1048576")]).await;
        for _ in 0..3 {
            let large = batch(1, &[7; 1_000_000]);
            node.produce("topic", large).await.unwrap();
        }
        let replica = node.replica("topic").await.unwrap();
        assert_eq!(replica.view().log.segment_count(), 3);
        let low = replica.delete_records(Some(Offset(2))).await;
        assert_eq!(low, Ok(Offset(2)));
        let now = node.shared().env.clock.now();
        replica.send_on_errand(Box::new(move |log| {
            log.delete_old_segments(now).unwrap();
            None
        }));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(replica.view().log.segment_count(), 1);
        assert_eq!(read_all(&replica).len(), 1);
    });
}

/// Whatever needs the log waits behind a write for its turn, and none of it overtakes another.
#[test]
fn what_waits_for_the_log_is_taken_in_the_order_in_which_it_came() {
    with_slow_disk(async |_, _, replica| {
        let in_flight = append(&replica, batch(1, b"value"), Acks::All);
        let mut held = Vec::new();
        let mut seen = Vec::new();
        for round in 1..=3 {
            held.push(append(&replica, batch(round, b"value"), Acks::All));
            let (sender, asked) = oneshot::channel();
            // On the offload pool, and on the task that holds the state.
            if round == 2 {
                replica.send_on_errand(Box::new(move |log| {
                    sender.send(log.log_end_offset()).unwrap();
                    None
                }));
            } else {
                replica.with_log(Box::new(move |log, _| {
                    sender.send(log.log_end_offset()).unwrap();
                    None
                }));
            }
            seen.push(asked);
        }
        assert_eq!(
            in_flight.try_result(),
            None,
            "the write was to take a while"
        );
        let mut end = 1;
        for ((reply, asked), records) in held.into_iter().zip(seen).zip(1..) {
            let ack = timeout(SOON, reply.result()).await.unwrap().unwrap();
            assert_eq!(ack.base_offset, Offset(end));
            end += records;
            assert_eq!(
                asked.await,
                Ok(Offset(end)),
                "behind this batch, and before the next"
            );
        }
    });
}

#[test]
fn a_log_that_has_grown_quiet_gives_its_room_back() {
    let world = SimWorld::new(6);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        node.create("topic", &[("segment.fill.after.bytes", "100000")])
            .await;
        let replica = node.replica("topic").await.unwrap();
        for _ in 0..600 {
            node.produce("topic", batch(1, &[7; 1000])).await.unwrap();
        }
        assert_eq!(replica.ask_log(|log| log.has_room()).await, Some(true));
        sleep(Duration::from_millis(501)).await;
        assert_eq!(replica.ask_log(|log| log.has_room()).await, Some(false));
        assert_eq!(read_all(&replica).len(), 600);
    });
}
