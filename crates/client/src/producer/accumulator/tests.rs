//! Tests of the accumulator: when batches leave, and with which others.

use proptest::prelude::*;
use skein_types::{Offset, PartitionIndex, TopicName};

use super::*;

fn partition(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("t").unwrap(),
        partition: PartitionIndex(index),
    }
}

fn accumulator(batch_size: usize, linger_ms: u64) -> Accumulator {
    let options = ProducerOptions {
        batch_size,
        linger: Duration::from_millis(linger_ms),
        enable_idempotence: false,
        ..ProducerOptions::default()
    };
    Accumulator::new(&options, None)
}

fn append(accumulator: &mut Accumulator, index: i32, bytes: usize, now: Instant) -> Appended {
    let record = ProducerRecord::new(partition(index).topic, vec![0; bytes]);
    accumulator
        .append(&partition(index), &record, Millis(0), now)
        .unwrap()
}

fn led_by_one(_: &TopicPartition) -> Option<BrokerId> {
    Some(BrokerId(1))
}

fn is_ready(accumulator: &Accumulator, now: Instant) -> bool {
    !accumulator
        .schedule(now, false, led_by_one)
        .brokers
        .is_empty()
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_lone_record_leaves_when_it_has_lingered_and_not_before() {
    let now = Instant::now();
    let mut accumulator = accumulator(1000, 50);
    assert!(append(&mut accumulator, 0, 10, now).is_news);
    assert!(!append(&mut accumulator, 0, 10, now + MS).is_news);
    let schedule = accumulator.schedule(now + 49 * MS, false, led_by_one);
    assert!(schedule.brokers.is_empty());
    assert_eq!(schedule.next, Some(now + 50 * MS));
    assert!(is_ready(&accumulator, now + 50 * MS));
}

#[test]
fn a_full_batch_a_flush_and_a_lack_of_memory_do_not_wait() {
    let now = Instant::now();
    let mut accumulator = accumulator(1000, 50);
    append(&mut accumulator, 0, 900, now);
    assert!(!is_ready(&accumulator, now));
    assert!(
        !accumulator
            .schedule(now, true, led_by_one)
            .brokers
            .is_empty()
    );
    append(&mut accumulator, 0, 900, now);
    assert!(
        is_ready(&accumulator, now),
        "another batch stands behind it"
    );
    let first = accumulator.drain(now, false, |_| true);
    assert_eq!(first.len(), 1);
    accumulator.complete(first.into_iter().next().unwrap(), Ok(ack()), now, MS);
    assert!(!is_ready(&accumulator, now));
    let end = accumulator.flush();
    assert!(is_ready(&accumulator, now));
    let second = accumulator.drain(now, false, |_| true).pop().unwrap();
    assert_eq!(accumulator.unfinished_from(), 1);
    accumulator.complete(second, Ok(ack()), now, MS);
    assert_eq!(accumulator.unfinished_from(), end);
}

fn ack() -> Ack {
    Ack {
        base_offset: Offset(0),
        log_append_time: Millis::NONE,
    }
}

#[test]
fn one_request_carries_the_batches_of_many_partitions_of_its_broker() {
    let now = Instant::now();
    let mut accumulator = accumulator(100, 0);
    for index in 0..10 {
        append(&mut accumulator, index, 10, now);
    }
    let even = |partition: &TopicPartition| partition.partition.0 % 2 == 0;
    let batches = accumulator.drain(now, false, even);
    let indexes: Vec<_> = batches
        .iter()
        .map(|batch| batch.partition.partition.0)
        .collect();
    assert_eq!(indexes, [0, 2, 4, 6, 8]);
}

#[test]
fn partitions_take_turns_when_a_request_cannot_carry_all() {
    let now = Instant::now();
    let mut accumulator = accumulator(100, 0);
    accumulator.max_request_size = 500;
    let mut served = Vec::new();
    for _ in 0..4 {
        for index in 0..4 {
            append(&mut accumulator, index, 200, now);
        }
        let batches = accumulator.drain(now, false, |_| true);
        assert_eq!(batches.len(), 1, "two would be more than 500 bytes");
        for batch in batches {
            served.push(batch.partition.partition.0);
            accumulator.complete(batch, Ok(ack()), now, MS);
        }
    }
    assert_eq!(served, [0, 1, 2, 3]);
}

#[test]
fn without_a_leader_a_batch_waits_and_says_so() {
    let now = Instant::now();
    let mut accumulator = accumulator(100, 0);
    append(&mut accumulator, 0, 10, now);
    let schedule = accumulator.schedule(now, false, |_| None);
    assert!(schedule.lacks_leader && schedule.brokers.is_empty());
    let late = now + ProducerOptions::default().delivery_timeout;
    assert!(
        accumulator.expire(late, None) > 0,
        "its memory is free again"
    );
    assert_eq!(accumulator.unfinished_from(), 1);
}

proptest! {
    /// N records make as many batches as their bytes fill, and all memory comes back.
    #[test]
    fn batches_are_as_full_as_they_can_be(sizes in prop::collection::vec(0..300_usize, 1..200)) {
        let now = Instant::now();
        let mut accumulator = accumulator(1000, 50);
        let mut charged = 0;
        let (mut expected, mut room) = (0, 0_usize);
        for size in &sizes {
            let record = ProducerRecord::new(partition(0).topic, vec![0; *size]);
            charged += record.size_max();
            append(&mut accumulator, 0, *size, now);
            // Bounds, because records take a little less than their largest size.
            if record.size_max() > room {
                expected += 1;
                room = 1000 - Batch::OVERHEAD;
            }
            room = room.saturating_sub(record.size_max());
        }
        accumulator.flush();
        let (mut batches, mut records, mut released) = (0, 0, 0);
        while let Some(batch) = accumulator.drain(now, false, |_| true).pop() {
            prop_assert!(batch.size_in_bytes() <= 1000);
            batches += 1;
            records += batch.records_count() as usize;
            released += accumulator.complete(batch, Ok(ack()), now, MS);
        }
        prop_assert_eq!(records, sizes.len());
        prop_assert_eq!(released, charged);
        prop_assert!(batches <= expected, "{} > {}", batches, expected);
    }
}
