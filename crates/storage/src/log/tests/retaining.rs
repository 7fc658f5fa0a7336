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
    let deleted = log.delete_old_segments(Millis(1)).unwrap();
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
    assert!(
        log.delete_old_segments(Millis(newest + 100))
            .unwrap()
            .is_empty()
    );
    let first = log.delete_old_segments(Millis(newest + 101)).unwrap();
    assert_eq!(first.len(), 1);
    // Much later all go, also the active one; the offsets go on.
    let all = log.delete_old_segments(Millis(100_000)).unwrap();
    assert_eq!(fixture.names(".log"), ["00000000000000000080.log"]);
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(80), Offset(80))
    );
    remove(&fixture, &[first, all].concat());
    assert!(log.delete_old_segments(Millis(200_000)).unwrap().is_empty());
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
    assert!(log.delete_old_segments(Millis(100_000)).unwrap().is_empty());
    log.set_config(config);
    let second = log.sealed[1].base_offset;
    log.publish(Offset(second.0 + 1), Offset(second.0 + 1));
    assert_eq!(log.delete_old_segments(Millis(100_000)).unwrap().len(), 1);
    assert_eq!(log.log_start_offset(), second);
}

#[test]
fn segments_without_timestamps_have_no_age() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        retention_ms: Some(Millis(0)),
        ..small()
    });
    for base in 0..30 {
        log.append_all(&[batch(base, 0, 100, &[-1])]);
    }
    assert!(
        log.delete_old_segments(Millis(i64::MAX))
            .unwrap()
            .is_empty()
    );
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
    let deleted = log.delete_old_segments(Millis(1000)).unwrap();
    assert!(!deleted.is_empty());
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
    let reader = log.reader();
    let old = reader.load();
    let range = old.read(Offset(0), 700, Offset(80), true).unwrap().unwrap();
    let before = records(&range);
    // Forget what is open, as a full cache would.
    drop((log, reader, old));
    fixture.limits = CacheLimits {
        descriptors: 1,
        maps: 1,
    };
    let mut log = fixture.log(config);
    log.publish_all();
    let (reader, old) = (log.reader(), log.reader().load());
    let deleted = log.delete_old_segments(Millis(1)).unwrap();
    assert_eq!(records(&range), before, "an open file can be read on");
    let error = old.read(Offset(0), 700, Offset(80), true).unwrap_err();
    assert!(error.is_stale(), "{error}");
    let error = reader
        .ask(|view| view.read(Offset(0), 700, Offset(80), true))
        .unwrap_err();
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
    let deleted = log.delete_old_segments(Millis(1)).unwrap();
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
