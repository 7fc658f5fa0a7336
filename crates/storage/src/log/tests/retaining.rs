//! Retention by time, by size and by log start offset.
//!
//! Input: logs on a temporary or simulated disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::*;

fn remove(fixture: &Fixture, deleted: &[DeletedSegment]) {
    for segment in deleted {
        segment.remove(&*fixture.disk).unwrap();
    }
    assert_eq!(fixture.names(".deleted"), [] as [&str; 0]);
}

/// Row M15: retention by size removes whole segments, the oldest ones.
#[test]
fn segments_beyond_the_size_limit_go_whole() {
    let fixture = fixture();
    let config = LogConfig {
        retention_bytes: Some(5000),
        retention_ms: None,
        ..small()
    };
    let mut log = fixture.log(config);
    log.fill_to(80, 1, 100);
    let before = fixture.names(".log");
    let deleted = log.retain(Millis(1));
    assert!(deleted.len() > 2);
    assert!(log.size_in_bytes() >= 5000, "never below the limit");
    let next = log.sealed[0].end_position;
    assert!(
        log.size_in_bytes() - next < 5000,
        "one more would be too much"
    );
    let start: i64 = before[deleted.len()]
        .strip_suffix(".log")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(log.log_start_offset(), Offset(start));
    assert_eq!(
        offsets(&log.view(), start, 80),
        (start..80).collect::<Vec<_>>()
    );
    assert_eq!(fixture.names(".log.deleted").len(), deleted.len());
    remove(&fixture, &deleted);
    assert_eq!(
        fixture.names("index").len(),
        2 * (before.len() - deleted.len() - 1)
    );
    drop(log);
    let log = fixture.log(config);
    assert_eq!(log.log_start_offset(), Offset(start));
}

#[test]
fn segments_go_when_their_newest_record_is_too_old() {
    let fixture = fixture();
    let config = LogConfig {
        retention_ms: Some(Millis(100)),
        ..small()
    };
    let mut log = fixture.log(config);
    log.fill_to(80, 1, 100);
    let newest = log.sealed[0].max_timestamp().unwrap().timestamp.0;
    assert!(log.retain(Millis(newest + 100)).is_empty());
    let first = log.retain(Millis(newest + 101));
    assert_eq!(first.len(), 1);
    // Much later all go, also the active one; the offsets go on.
    let all = log.retain(Millis(100_000));
    assert_eq!(fixture.names(".log"), ["00000000000000000080.log"]);
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(80), Offset(80))
    );
    remove(&fixture, &[first, all].concat());
    assert!(log.retain(Millis(200_000)).is_empty());
    log.fill_to(82, 1, 100);
    assert_eq!(offsets(&log.view(), 80, 82), [80, 81]);
}

#[test]
fn nothing_goes_above_the_high_watermark_or_without_the_policy() {
    let fixture = fixture();
    let config = LogConfig {
        retention_ms: Some(Millis(0)),
        retention_bytes: Some(0),
        ..small()
    };
    let mut log = fixture.log(LogConfig {
        is_deleting: false,
        ..config
    });
    log.fill_to(80, 1, 100);
    assert!(log.retain(Millis(100_000)).is_empty());
    log.set_config(config);
    let second = log.sealed[1].base_offset;
    log.publish(Offset(second.0 + 1), Offset(second.0 + 1));
    assert_eq!(log.retain(Millis(100_000)).len(), 1);
    assert_eq!(log.log_start_offset(), second);
}

/// Their records tell no age: the files do, also after the log was opened again.
#[test]
fn segments_without_timestamps_are_as_old_as_their_last_append() {
    let config = LogConfig {
        retention_ms: Some(Millis(100)),
        ..small()
    };
    for opened_again in [false, true] {
        let fixture = fixture();
        let mut log = fixture.log(config);
        for base in 0..30 {
            log.append_all(&[batch(base, 0, 100, &[-1])]);
        }
        // As the log does when it has grown quiet: that touches the file.
        log.release_room().unwrap();
        if opened_again {
            drop(log);
            log = fixture.log(config);
            log.publish_all();
        }
        let appended = 1_700_000_000_123;
        let names = fixture.names(".log");
        for (number, name) in names.iter().enumerate() {
            let later = u64::try_from(number).unwrap() * 50;
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(appended + later);
            let file = std::fs::File::options()
                .write(true)
                .open(fixture.path(name));
            file.unwrap().set_modified(time).unwrap();
        }
        let appended = i64::try_from(appended).unwrap();
        assert!(log.retain(Millis(appended + 100)).is_empty());
        assert_eq!(log.retain(Millis(appended + 101)).len(), 1);
        assert_eq!(log.retain(Millis(appended + 10_000)).len(), names.len() - 1);
        assert_eq!(log.log_start_offset(), Offset(30));
    }
}

#[test]
fn deleted_records_stay_deleted_and_their_segments_go() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        is_deleting: false,
        ..small()
    });
    log.fill_to(80, 1, 100);
    log.advance_log_start(Offset(31)).unwrap();
    log.advance_log_start(Offset(20)).unwrap();
    assert_eq!(log.log_start_offset(), Offset(31));
    assert_eq!(
        log.leader_epochs().earliest().unwrap().start_offset,
        Offset(31)
    );
    assert!(log.view().read(Offset(30), 1, Offset(80), true).is_err());
    drop(log);
    let mut log = fixture.log(small());
    assert_eq!(log.log_start_offset(), Offset(31), "it survives a crash");
    log.publish_all();
    assert_eq!(log.retain(Millis(1000)), [], "the start has removed them");
    let first = log.view().base_offset(0);
    assert!(first <= Offset(31) && log.sealed[0].end_offset > Offset(31));
    assert_eq!(log.log_start_offset(), Offset(31));
    let found = log
        .view()
        .offset_for_timestamp(Millis(0), Offset(80))
        .unwrap()
        .unwrap();
    assert_eq!(
        found.offset,
        Offset(31),
        "not a record before the log start"
    );
}

/// Names may become durable in any order: after a power cut the first of several segments may be
/// back, and the second one not.
#[test]
fn a_segment_that_comes_back_alone_leaves_no_gap() {
    let fixture = fixture();
    let config = LogConfig {
        retention_bytes: Some(4000),
        retention_ms: None,
        ..small()
    };
    let mut log = fixture.log(config);
    log.fill_to(80, 1, 100);
    let deleted = log.retain(Millis(1));
    let start = log.log_start_offset();
    assert!(deleted.len() > 1);
    drop(log);
    let first = fixture.path("00000000000000000000.log");
    std::fs::rename(names::deleted(&first), &first).unwrap();
    let opened = fixture.open(config);
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(opened.log.log_start_offset(), start);
    let all: Vec<i64> = (start.0..80).collect();
    assert_eq!(offsets(&opened.log.view(), start.0, 80), all);
    assert!(!first.exists());
}

#[test]
fn what_batches_told_of_their_producers_outlives_them() {
    let fixture = fixture();
    let config = LogConfig {
        retention_ms: Some(Millis(0)),
        ..small()
    };
    let batches: Vec<Vec<u8>> = (0..5).map(|number| idempotent(number, 1, number)).collect();
    let mut log = fixture.log(config);
    log.append_all(&batches);
    // The active segment is old enough, and nothing but its batches tells of the producer.
    let now = Millis(100_000);
    assert_eq!(log.delete_old_segments(now).unwrap(), []);
    drop(log);
    let OpenedLog {
        mut log, producers, ..
    } = fixture.open(config);
    log.publish_all();
    assert_eq!(
        log.delete_old_segments(now).unwrap(),
        [],
        "also after a crash"
    );
    log.write_snapshot(&producers).unwrap();
    assert_eq!(log.delete_old_segments(now).unwrap().len(), 1);
    drop(log);
    let opened = fixture.open(config);
    assert_eq!(opened.log.log_start_offset(), Offset(5));
    let producer = opened.producers.get(ProducerId(1)).unwrap();
    assert_eq!(producer.last_sequence(), Sequence(4));
}

#[test]
fn the_largest_timestamp_is_that_of_a_record_that_is_left() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    for (base, timestamp) in [(0, 10), (1, 90), (2, 30), (3, 50), (4, 40)] {
        log.append_all(&[batch(base, 0, 100, &[timestamp])]);
    }
    let newest = |log: &Log| log.view().max_timestamp(Offset(5)).unwrap().unwrap();
    assert_eq!(
        (newest(&log).timestamp, newest(&log).offset),
        (Millis(90), Offset(1))
    );
    log.advance_log_start(Offset(2)).unwrap();
    assert_eq!(
        (newest(&log).timestamp, newest(&log).offset),
        (Millis(50), Offset(3))
    );
    log.advance_log_start(Offset(4)).unwrap();
    assert_eq!(
        (newest(&log).timestamp, newest(&log).offset),
        (Millis(40), Offset(4))
    );
    log.advance_log_start(Offset(5)).unwrap();
    assert_eq!(log.view().max_timestamp(Offset(5)).unwrap(), None);
}

/// Row M15: a reader in a deleted segment finishes or is told that the offset is gone.
#[test]
fn readers_of_a_deleted_segment_finish_or_hear_of_it() {
    let mut fixture = fixture();
    let config = LogConfig {
        retention_bytes: Some(2000),
        retention_ms: None,
        ..small()
    };
    let mut log = fixture.log(config);
    log.fill_to(80, 1, 100);
    let old = log.published();
    let range = old.read(Offset(0), 700, Offset(80), true).unwrap().unwrap();
    let before = records(&range);
    // Forget what is open, as a full cache would.
    drop((log, old));
    fixture.limits = CacheLimits {
        descriptors: 1,
        maps: 1,
    };
    let mut log = fixture.log(config);
    log.publish_all();
    let old = log.published();
    let deleted = log.retain(Millis(1));
    assert_eq!(records(&range), before, "an open file can be read on");
    let error = old.read(Offset(0), 700, Offset(80), true).unwrap_err();
    assert!(error.is_stale(), "{error}");
    let new = log.published();
    let error = new.read(Offset(0), 700, Offset(80), true).unwrap_err();
    assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
    remove(&fixture, &deleted);
    assert_eq!(records(&range), before);
}

#[test]
fn snapshots_go_with_their_segments_but_for_the_newest_one_below() {
    let fixture = fixture();
    let config = LogConfig {
        retention_bytes: Some(4000),
        retention_ms: None,
        ..small()
    };
    let mut log = fixture.log(config);
    let batches: Vec<Vec<u8>> = (0..80)
        .map(|number| idempotent(number, 1, number))
        .collect();
    for (number, batch) in batches.iter().enumerate() {
        log.append_all(std::slice::from_ref(batch));
        if log.is_snapshot_due() {
            log.write_snapshot(&producers_of(&batches[..=number]))
                .unwrap();
        }
    }
    let before = fixture.names(".snapshot");
    let deleted = log.retain(Millis(1));
    let after = fixture.names(".snapshot");
    assert!(!deleted.is_empty() && after.len() < before.len());
    let start = format!("{:020}", log.log_start_offset().0);
    assert_eq!(
        after.iter().filter(|name| ***name <= *start).count(),
        1,
        "{after:?} {start}"
    );
    drop(log);
    let opened = fixture.open(config);
    assert_eq!(
        opened.producers.get(ProducerId(1)).unwrap().last_sequence(),
        Sequence(79)
    );
}

#[test]
fn a_start_that_retention_has_moved_is_kept_when_records_before_it_are_deleted() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(80, 1, 100);
    // One segment goes: of several the start would be kept before.
    let left = log.size_in_bytes() - log.sealed[0].end_position;
    log.set_config(LogConfig {
        retention_bytes: Some(left),
        ..small()
    });
    assert_eq!(log.retain(Millis(1000)).len(), 1);
    let start = log.log_start_offset();
    let kept = |log: &Log| {
        let home = &log.home;
        let file = CheckpointFile::LogStartOffset;
        home.directory.checkpointed(file, &home.partition)
    };
    assert_eq!(kept(&log), None, "a crash may undo what retention does");
    log.advance_log_start(Offset(start.0 - 1)).unwrap();
    assert_eq!(kept(&log), Some(Offset(start.0 - 1)));
    assert_eq!(log.log_start_offset(), start);
    log.advance_log_start(Offset(1)).unwrap();
    assert_eq!(kept(&log), Some(Offset(start.0 - 1)), "it never goes back");
}
