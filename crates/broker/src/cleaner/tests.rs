//! What the cleaner's tasks share: whose turn it is, and what it costs.

use std::collections::BTreeSet;

use skein_record::{BatchBuf, BatchBuilder, Codec};
use tokio::time::{advance, sleep};

use super::*;
use crate::testing::{NOW, batch, with_node};
use crate::unpacking::UNPACKED_IN_FLIGHT_MAX_BYTES;

fn name(partition: i32) -> Name {
    (TopicId::from_random([1; 16]), PartitionIndex(partition))
}

const FIRST: Offset = Offset(0);

#[test]
fn a_log_is_taken_by_one_task_only() {
    let cleaner = Cleaner::default();
    assert!(cleaner.take(name(0), FIRST));
    assert!(!cleaner.is_free(name(0), FIRST) && !cleaner.take(name(0), FIRST));
    assert!(cleaner.take(name(1), FIRST), "another log is free");
    // Who finds out only now that the log is to rest does not free it.
    cleaner.rest(name(0), Instant::now());
    assert!(!cleaner.take(name(0), FIRST));
    cleaner.give_back(name(0), None);
    assert!(cleaner.take(name(0), FIRST));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_rests_is_free_again_in_time() {
    let cleaner = Cleaner::default();
    cleaner.rest(name(0), Instant::now() + Duration::from_secs(2));
    advance(Duration::from_millis(1_999)).await;
    assert!(!cleaner.is_free(name(0), FIRST));
    advance(Duration::from_millis(1)).await;
    assert!(cleaner.is_free(name(0), FIRST));
}

#[test]
fn a_bad_segment_keeps_its_log_from_being_compacted_as_long_as_it_is_there() {
    let cleaner = Cleaner::default();
    assert!(cleaner.take(name(0), FIRST));
    cleaner.give_back(name(0), Some(State::Uncleanable(Offset(50))));
    assert!(!cleaner.is_free(name(0), Offset(50)));
    assert!(!cleaner.take(name(0), Offset(50)));
    // Retention or DeleteRecords has taken it.
    assert!(cleaner.is_free(name(0), Offset(60)));
    assert!(cleaner.take(name(0), Offset(60)));
}

#[tokio::test(start_paused = true)]
async fn all_tasks_together_keep_to_the_rate() {
    let cleaner = Cleaner::default();
    let seconds = |bytes| cleaner.pause(bytes, 1_000.0).as_secs_f64();
    assert!((seconds(500) - 0.5).abs() < 1e-6);
    assert!(
        (seconds(1_000) - 1.5).abs() < 1e-6,
        "the second task pays for the first one too"
    );
    advance(Duration::from_secs(1)).await;
    assert!((seconds(0) - 0.5).abs() < 1e-6);
    // What was not used is not saved up.
    advance(Duration::from_secs(3_600)).await;
    assert!((seconds(2_000) - 2.0).abs() < 1e-6);
}

#[tokio::test(start_paused = true)]
async fn who_pays_waits_for_what_all_have_used() {
    let cleaner = Arc::new(Cleaner::default());
    let started = Instant::now();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let cleaner = Arc::clone(&cleaner);
            tokio::spawn(async move {
                for _ in 0..100 {
                    cleaner.pay(1_000, 10_000.0).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nobody_pauses() {
    let cleaner = Cleaner::default();
    assert!(cleaner.pause(u64::MAX, f64::MAX) < PAUSE_MIN);
    assert!(cleaner.pause(0, 0.0) < PAUSE_MIN);
}

#[test]
fn settings_that_change_count_at_once() {
    let hour = "log.cleaner.backoff.ms=3600000";
    let rate = "log.cleaner.io.max.bytes.per.second=1";
    with_node(1, &[hour, rate], async |_, node| {
        let compacted = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "1048576"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ];
        node.create("topic", &compacted).await;
        for _ in 0..6 {
            let large = batch(1, &[b'v'; 400_000]);
            node.produce("topic", large).await.unwrap();
        }
        let metrics = &node.shared().metrics;
        let (worked, done) = (&metrics.compaction_io_bytes, &metrics.compactions);
        let minute = Duration::from_secs(60);
        sleep(minute).await;
        assert_eq!((worked.get(), done.get()), (0, 0), "nobody has looked");
        node.alter_broker("1", "log.cleaner.backoff.ms", "100")
            .await;
        sleep(minute).await;
        assert!(
            worked.get() > 0 && done.get() == 0,
            "it pays for its first step"
        );
        let key = "log.cleaner.io.max.bytes.per.second";
        node.alter_broker("", key, "1e12").await;
        sleep(minute).await;
        assert_eq!(done.get(), 1);
    });
}

/// A small batch that unpacks to more than a step may.
fn heavy() -> BatchBuf {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    let value = vec![0; STEP_UNPACKED_BYTES + 1];
    builder
        .append(NOW, Some(b"key"), Some(&value), &[])
        .unwrap();
    builder.build().unwrap()
}

#[test]
fn what_a_step_may_unpack_is_reserved_before_it_and_as_long_as_it_runs() {
    with_node(1, &["log.cleaner.backoff.ms=100"], async |_, node| {
        let segments = [
            ("segment.bytes", "1048576"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ];
        node.create("topic", &segments).await;
        let mut batches = vec![heavy()];
        batches.resize_with(7, || batch(1, &[b'v'; 400_000]));
        for batch in batches {
            node.produce("topic", batch).await.unwrap();
        }
        let (budget, metrics) = (&node.shared().unpack_budget, &node.shared().metrics);
        let (worked, done) = (&metrics.compaction_io_bytes, &metrics.compactions);
        let minute = Duration::from_secs(60);
        let all = UNPACKED_IN_FLIGHT_MAX_BYTES as usize;
        let rest = budget.reserve(all - STEP_UNPACKED_BYTES).await;
        let for_a_step = budget.reserve(STEP_UNPACKED_BYTES).await;
        node.alter("topic", "cleanup.policy", "compact").await;
        sleep(minute).await;
        assert_eq!(metrics.compactions_running.get(), 1);
        assert_eq!(worked.get(), 0, "others have it all");
        drop(for_a_step);
        sleep(minute).await;
        assert!(worked.get() > 0, "there is enough for a step");
        assert_eq!(done.get(), 0, "the heavy batch needs all of it");
        drop(rest);
        let mut seen = BTreeSet::new();
        for _ in 0..1_000_000 {
            if done.get() > 0 {
                break;
            }
            seen.insert(budget.in_flight_bytes());
            sleep(Duration::from_micros(100)).await;
        }
        assert_eq!(done.get(), 1);
        assert_eq!(seen, BTreeSet::from([0, STEP_UNPACKED_BYTES, all]));
        assert_eq!(budget.in_flight_bytes(), 0);
    });
}
