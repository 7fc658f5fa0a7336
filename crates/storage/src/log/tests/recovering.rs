//! Opening after a crash: torn tails, damage below the recovery point, missing files.
//!
//! Input: logs on a temporary or simulated disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use super::*;
use crate::log::names::{FileKind, PREPARED};

/// Writes the recovery point as the broker does from time to time.
pub(super) fn checkpoint(log: &Log) {
    let offsets = BTreeMap::from([(orders(), log.recovery_point())]);
    log.home
        .directory
        .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
        .unwrap();
}

/// Closes the log and ends the run cleanly.
pub(super) fn shut_down(log: Log, batches: &[Vec<u8>]) {
    let directory = Arc::clone(&log.home.directory);
    let recovery_point = log.close(&producers_of(batches), Millis(1)).unwrap();
    let offsets = BTreeMap::from([(orders(), recovery_point)]);
    directory
        .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
        .unwrap();
    directory
        .mark_clean_shutdown(skein_types::BrokerEpoch(5))
        .unwrap();
}

#[test]
fn a_killed_process_leaves_all_that_was_written() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 3, 100);
    drop(log);
    let opened = fixture.open(small());
    assert!(!opened.recovery.was_clean);
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(offsets(&opened.log.view(), 0, 60), upto(60));
    opened.log.view().check_indexes().unwrap();
    let mut log = opened.log;
    log.fill_to(90, 3, 100);
    assert_eq!(offsets(&log.view(), 0, 90), upto(90));
    log.view().check_indexes().unwrap();
}

#[test]
fn a_scan_begins_at_the_recovery_point() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 3, 100);
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    log.fill_to(66, 3, 100);
    drop(log);
    let opened = fixture.open(small());
    let two = 2 * batch_at(0, 3, 100, 1000).len() as u64;
    assert_eq!(opened.recovery.scanned_bytes, two);
    assert_eq!(offsets(&opened.log.view(), 0, 66), upto(66));
}

#[test]
fn a_clean_shutdown_scans_nothing_and_counts_once() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let batches: Vec<Vec<u8>> = (0..30)
        .map(|number| idempotent(number, 7, number))
        .collect();
    log.append_all(&batches);
    shut_down(log, &batches);
    let opened = fixture.open(small());
    assert_eq!(
        opened.recovery,
        Recovery {
            was_clean: true,
            scanned_segments: 0,
            scanned_bytes: 0,
            walked_bytes: 0,
            cut: None,
            lost_up_to: None,
            missing: Vec::new(),
        }
    );
    assert_eq!(opened.producers, {
        // A snapshot holds the last batch of each producer.
        let snapshot = producers_of(&batches).snapshot();
        ProducerStates::load(&snapshot, Offset(30)).unwrap()
    });
    assert_eq!(opened.leader_epochs.latest().unwrap().epoch, LeaderEpoch(0));
    assert_eq!(opened.log.recovery_point(), Offset(30));
    let mut log = opened.log;
    log.fill_to(40, 1, 100);
    log.view().check_indexes().unwrap();
    drop(log);
    let opened = fixture.open(small());
    assert!(!opened.recovery.was_clean, "the marker was taken away");
    assert_eq!(offsets(&opened.log.view(), 0, 40), upto(40));
}

#[test]
fn a_log_opened_twice_in_one_run_is_clean_only_after_a_close() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(5, 1, 100);
    let batches: Vec<Vec<u8>> = (0..5)
        .map(|number| batch_at(number, 1, 100, 1000))
        .collect();
    shut_down(log, &batches);
    let directory = fixture.directory();
    let open = || Log::open(&directory, &orders(), None, small(), Millis(1)).unwrap();
    let opened = open();
    assert!(opened.recovery.was_clean);
    drop(opened);
    let opened = open();
    assert!(!opened.recovery.was_clean);
    opened.log.close(&opened.producers, Millis(1)).unwrap();
    assert!(open().recovery.was_clean);
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_batch() {
    let size = batch_at(0, 2, 100, 1).len() as u64;
    for torn in 1..size {
        let fixture = fixture();
        let mut log = fixture.log(LogConfig::default());
        log.fill_to(10, 2, 100);
        drop(log);
        let path = fixture.path("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(4 * size + torn).unwrap();
        let opened = fixture.open(LogConfig::default());
        // The first seven bytes of its offset are zeros, as behind a log that was not torn.
        let cut = opened.recovery.cut.as_ref();
        assert_eq!(
            cut.map(|cut| (cut.log_end_offset, cut.position, cut.bytes)),
            (torn > 7).then_some((Offset(8), 4 * size, torn))
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 * size);
        let mut log = opened.log;
        log.fill_to(12, 2, 100);
        assert_eq!(offsets(&log.view(), 0, 12), upto(12));
    }
}

#[test]
fn a_log_that_ends_before_its_high_watermark_says_so() {
    let size = batch_at(0, 2, 100, 1).len() as u64;
    let first_segment = "00000000000000000000.log";
    // What is left of five batches; without a length the segment itself is gone.
    for (left, lost) in [(Some(5), None), (Some(4), Some(10)), (None, Some(10))] {
        let fixture = fixture();
        let mut log = fixture.log(LogConfig::default());
        log.fill_to(10, 2, 100);
        drop(log);
        let committed = BTreeMap::from([(orders(), Offset(10))]);
        fixture
            .directory()
            .write_checkpoint(CheckpointFile::HighWatermark, &committed)
            .unwrap();
        let path = fixture.path(first_segment);
        match left {
            Some(batches) => {
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(batches * size).unwrap();
            }
            None => std::fs::remove_file(&path).unwrap(),
        }
        let opened = fixture.open(LogConfig::default());
        assert_eq!(opened.recovery.lost_up_to, lost.map(Offset), "{left:?}");
    }
}

#[test]
fn what_was_deleted_is_not_missed() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    log.fill_to(10, 2, 100);
    drop(log);
    let offsets = BTreeMap::from([(orders(), Offset(10))]);
    let directory = fixture.directory();
    for file in [
        CheckpointFile::HighWatermark,
        CheckpointFile::LogStartOffset,
    ] {
        directory.write_checkpoint(file, &offsets).unwrap();
    }
    drop(directory);
    // A power cut, of a log that was deleted up to its end and never flushed.
    let path = fixture.path("00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    let opened = fixture.open(LogConfig::default());
    assert_eq!(opened.log.log_end_offset(), Offset(10));
    assert_eq!(opened.recovery.lost_up_to, None);
}

/// Segments that are filled ahead after 24 of the batches below.
fn roomy() -> LogConfig {
    LogConfig {
        segment_bytes: 8000,
        segment_fill_after_bytes: Some(4000),
        ..LogConfig::default()
    }
}

#[test]
fn room_ahead_of_a_killed_log_is_no_torn_tail() {
    let fixture = fixture();
    let mut log = fixture.log(roomy());
    log.fill_to(30, 1, 100);
    assert!(log.has_room());
    let end = log.active.file.end();
    let path = fixture.path("00000000000000000000.log");
    let length = || std::fs::metadata(&path).unwrap().len();
    assert!(length() > end, "{} and {end}", length());
    drop(log);
    let opened = fixture.open(roomy());
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(length(), end);
    assert_eq!(offsets(&opened.log.view(), 0, 30), upto(30));
}

#[test]
fn blocks_that_a_killed_process_had_reserved_are_given_back() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    let path = fixture.path("00000000000000000000.log");
    let spare = || {
        let metadata = std::fs::metadata(&path).unwrap();
        (metadata.blocks() * 512).saturating_sub(metadata.len())
    };
    log.fill_to(50, 1, 50_000);
    assert!(log.has_room());
    assert!(spare() > 500_000, "{} reserved", spare());
    drop(log);
    let opened = fixture.open(LogConfig::default());
    assert!(spare() < 100_000, "{} still reserved", spare());
    assert_eq!(offsets(&opened.log.view(), 0, 50), upto(50));
}

/// Segments that have all their blocks when they are made.
fn preallocated() -> LogConfig {
    LogConfig {
        segment_bytes: 4 * 1024 * 1024,
        segment_fill_after_bytes: Some(1024 * 1024),
        preallocate: true,
        ..LogConfig::default()
    }
}

#[test]
fn a_preallocated_segment_keeps_its_blocks_until_it_is_rolled_closed_or_left_by_a_killed_process() {
    const FIRST: &str = "00000000000000000000.log";
    const SECOND: &str = "00000000000000000040.log";
    let fixture = fixture();
    let spare = |name: &str| {
        let metadata = std::fs::metadata(fixture.path(name)).unwrap();
        (metadata.blocks() * 512).saturating_sub(metadata.len())
    };
    let length = |name: &str| std::fs::metadata(fixture.path(name)).unwrap().len();
    let mut log = fixture.log(preallocated());
    assert_eq!(length(FIRST), 0);
    assert!(spare(FIRST) > 4_000_000, "{} reserved", spare(FIRST));
    let mut batches: Vec<Vec<u8>> = (0..40)
        .map(|base| batch_at(base, 1, 50_000, 1000))
        .collect();
    log.append_all(&batches[..1]);
    assert!(!log.has_room(), "none that goes when the log rests");
    for batch in &batches[1..] {
        log.append_all(std::slice::from_ref(batch));
    }
    let end = log.active.file.end();
    assert!(
        log.has_room() && length(FIRST) > end,
        "zeros, as it is fast"
    );
    log.release_room().unwrap();
    assert!(!log.has_room() && length(FIRST) == end);
    assert!(spare(FIRST) > 1_500_000, "{} still reserved", spare(FIRST));
    log.prepare_next_segment().unwrap();
    assert!(spare(PREPARED) > 4_000_000, "{} prepared", spare(PREPARED));
    log.roll(Millis(1)).unwrap();
    assert!(spare(FIRST) < 100_000, "{} when rolled", spare(FIRST));
    assert!(spare(SECOND) > 4_000_000, "{} reserved", spare(SECOND));
    batches.push(batch_at(40, 1, 50_000, 1000));
    log.append_all(&batches[40..]);
    drop(log);
    let opened = fixture.open(preallocated());
    assert_eq!(opened.recovery.cut, None);
    assert!(spare(SECOND) < 100_000, "{} after a kill", spare(SECOND));
    assert_eq!(offsets(&opened.log.view(), 0, 41), upto(41));
    let mut log = opened.log;
    log.roll(Millis(1)).unwrap();
    batches.push(batch_at(41, 1, 50_000, 1000));
    log.append_all(&batches[41..]);
    log.prepare_next_segment().unwrap();
    shut_down(log, &batches);
    for name in fixture.names(".log") {
        assert!(spare(&name) < 100_000, "{} in {name}", spare(&name));
    }
    assert!(!fixture.path(PREPARED).exists(), "it would keep its blocks");
}

#[test]
fn a_log_that_is_closed_or_rolled_has_no_room() {
    let fixture = fixture();
    let mut log = fixture.log(roomy());
    let mut batches: Vec<Vec<u8>> = (0..30).map(|base| batch_at(base, 1, 100, 1000)).collect();
    for batch in &batches {
        log.append_all(std::slice::from_ref(batch));
    }
    assert!(log.has_room());
    log.roll(Millis(1)).unwrap();
    assert!(!log.has_room());
    let more: Vec<Vec<u8>> = (30..60).map(|base| batch_at(base, 1, 100, 1000)).collect();
    for batch in &more {
        log.append_all(std::slice::from_ref(batch));
    }
    assert!(log.has_room());
    batches.extend(more);
    shut_down(log, &batches);
    let names = fixture.names(".log");
    assert_eq!(names.len(), 2);
    for name in names {
        let length = std::fs::metadata(fixture.path(&name)).unwrap().len();
        assert_eq!(length, 30 * batches[0].len() as u64, "{name}");
    }
    let opened = fixture.open(roomy());
    assert!(opened.recovery.was_clean);
    assert_eq!(offsets(&opened.log.view(), 0, 60), upto(60));
}

/// Leaves a log of 32 records behind, whose recovery point is the end of its first segment, at 30.
fn kill_behind_the_recovery_point(fixture: &Fixture) {
    let mut log = fixture.log(roomy());
    log.fill_to(30, 1, 100);
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    log.roll(Millis(1)).unwrap();
    log.fill_to(32, 1, 100);
}

/// The recovery point came to the end of a segment while it grew; then the segment lost its room,
/// the next one began, and a power cut brought the room back.
#[test]
fn room_that_a_power_cut_brings_back_is_no_part_of_its_segment() {
    for room in [1, 25, 500] {
        let fixture = fixture();
        kill_behind_the_recovery_point(&fixture);
        let path = fixture.path("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length + room).unwrap();
        let opened = fixture.open(roomy());
        assert_eq!(opened.recovery.cut, None, "{room}");
        assert_eq!(opened.log.sealed[0].end_position, length, "{room}");
        assert_eq!(offsets(&opened.log.view(), 0, 32), upto(32), "{room}");
        assert_eq!(file.metadata().unwrap().len(), length, "{room}");
    }
}

/// As above, and the next process finds the room gone: nobody knows whether for good.
#[test]
fn the_cut_of_room_is_flushed_before_the_recovery_point_leaves_its_segment_behind() {
    let fixture = fixture();
    kill_behind_the_recovery_point(&fixture);
    let mut log = fixture.log(roomy());
    fixture
        .disk
        .plan(&[crate::testing::Fault::Flush(crate::testing::EIO)]);
    let error = log.flush(Millis(1)).unwrap_err().to_string();
    assert!(error.contains("00000000000000000000.log"), "{error}");
}

#[test]
fn a_corrupt_batch_above_the_recovery_point_takes_what_follows_with_it() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 1, 100);
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    let base = log.active.base_offset.0;
    log.fill_to(90, 1, 100);
    assert!(fixture.names(".log").len() > 7);
    drop(log);
    let name = format!("{base:020}.log");
    let mut bytes = std::fs::read(fixture.path(&name)).unwrap();
    let size = batch_at(0, 1, 100, 1).len();
    let position = usize::try_from(65 - base).unwrap() * size;
    bytes[position + size - 1] ^= 1;
    std::fs::write(fixture.path(&name), &bytes).unwrap();

    let opened = fixture.open(small());
    let cut = opened.recovery.cut.unwrap();
    assert_eq!(cut.log_end_offset, Offset(65));
    assert_eq!(cut.segment_base_offset, Offset(base));
    assert_eq!(fixture.names(".log").last().unwrap(), &name);
    assert_eq!(offsets(&opened.log.view(), 0, 65), upto(65));
    opened.log.view().check_indexes().unwrap();
}

#[test]
fn corruption_below_the_recovery_point_is_an_error_and_nothing_is_cut() {
    for torn in [false, true] {
        let fixture = fixture();
        let mut log = fixture.log(LogConfig::default());
        log.fill_to(60, 1, 100);
        log.flush(Millis(1)).unwrap();
        checkpoint(&log);
        log.fill_to(70, 1, 100);
        drop(log);
        let path = fixture.path("00000000000000000000.log");
        let mut bytes = std::fs::read(&path).unwrap();
        let size = batch_at(0, 1, 100, 1).len();
        if torn {
            bytes.truncate(50 * size);
        } else {
            // A header, as checksums below the recovery point are not compared.
            bytes[50 * size + 16] = 9;
        }
        std::fs::write(&path, &bytes).unwrap();
        let error = fixture.try_open(LogConfig::default()).unwrap_err();
        let position = 50 * size as u64;
        assert!(
            matches!(&error, StorageError::Corrupt { position: at, .. } if *at == position),
            "{error}"
        );
        assert_eq!(error.severity(), crate::Severity::Replica);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn missing_segments_below_the_recovery_point_are_an_error() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(30, 1, 100);
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    drop(log);
    for name in fixture.names(".log") {
        std::fs::remove_file(fixture.path(&name)).unwrap();
    }
    let error = fixture.try_open(small()).unwrap_err();
    assert!(
        error.to_string().contains("segments are missing"),
        "{error}"
    );
}

#[test]
fn a_missing_segment_above_the_recovery_point_ends_the_log() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 1, 100);
    drop(log);
    let names = fixture.names(".log");
    std::fs::remove_file(fixture.path(&names[2])).unwrap();
    let end: i64 = names[2].strip_suffix(".log").unwrap().parse().unwrap();
    let opened = fixture.open(small());
    assert_eq!(opened.recovery.cut.unwrap().log_end_offset, Offset(end));
    assert_eq!(offsets(&opened.log.view(), 0, end), upto(end));
    assert_eq!(fixture.names(".log").len(), 2);
}

#[test]
fn a_log_begins_anew_where_deleted_records_end() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(10, 1, 100);
    log.advance_log_start(Offset(8)).unwrap();
    drop(log);
    let path = fixture.path("00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(300).unwrap();
    let opened = fixture.open(small());
    assert_eq!(opened.log.log_start_offset(), Offset(8));
    assert_eq!(opened.log.log_end_offset(), Offset(8));
    assert_eq!(opened.producers.map_end_offset(), Offset(8));
    assert_eq!(fixture.names(".log"), ["00000000000000000008.log"]);
}

#[test]
fn producers_are_those_of_the_log_whatever_snapshots_there_are() {
    for damage in 0..4 {
        let fixture = fixture();
        let mut log = fixture.log(small());
        let batches: Vec<Vec<u8>> = (0..60)
            .map(|number| idempotent(number, number % 3, number / 3))
            .collect();
        for (number, batch) in batches.iter().enumerate() {
            log.append_all(std::slice::from_ref(batch));
            if log.is_snapshot_due() {
                log.write_snapshot(&producers_of(&batches[..=number]))
                    .unwrap();
                assert!(!log.is_snapshot_due());
            }
        }
        log.flush(Millis(1)).unwrap();
        checkpoint(&log);
        drop(log);
        let names = fixture.names(".snapshot");
        assert!(names.len() > 3, "{names:?}");
        for name in &names {
            let last = name == names.last().unwrap();
            match damage {
                1 if last => std::fs::write(fixture.path(name), "garbage").unwrap(),
                2 if last => std::fs::remove_file(fixture.path(name)).unwrap(),
                3 => std::fs::write(fixture.path(name), "").unwrap(),
                _ => {}
            }
        }
        // A snapshot from beyond the recovery point tells of what may be gone.
        let stray = producers_of(&[idempotent(0, 9, 0)]).snapshot();
        std::fs::write(fixture.path("00000000000000000061.snapshot"), stray).unwrap();
        let opened = fixture.open(small());
        let all = producers_of(&batches);
        assert_eq!(opened.producers.len(), 3, "damage {damage}");
        for producer in 0..3 {
            let (found, wanted) = (
                opened.producers.get(ProducerId(producer)),
                all.get(ProducerId(producer)),
            );
            assert_eq!(found.unwrap().last_batch(), wanted.unwrap().last_batch());
        }
        assert_eq!(opened.producers.map_end_offset(), Offset(60));
    }
}

#[test]
fn leader_epochs_are_those_of_the_batches() {
    for damage in 0..4 {
        let fixture = fixture();
        let mut log = fixture.log(small());
        for number in 0..60 {
            log.append_all(&[batch(
                number,
                i32::try_from(number / 10).unwrap() * 2,
                100,
                &[1000],
            )]);
            if number == 33 {
                log.flush(Millis(1)).unwrap();
                checkpoint(&log);
            }
        }
        let epochs = log.leader_epochs().clone();
        assert_eq!(epochs.entries().len(), 6);
        drop(log);
        let path = fixture.path("leader-epoch-checkpoint");
        assert!(path.exists(), "the flush wrote it");
        match damage {
            1 => std::fs::write(&path, "0\n1\nx\n").unwrap(),
            2 => std::fs::remove_file(&path).unwrap(),
            // As a power cut may leave a file that was not flushed: "6 30" has become "6 3".
            3 => std::fs::write(&path, "0\n4\n0 0\n2 1\n4 2\n6 3").unwrap(),
            _ => {}
        }
        let opened = fixture.open(small());
        assert_eq!(opened.leader_epochs, epochs, "damage {damage}");
        assert_eq!(*opened.log.leader_epochs(), epochs);
    }
}

#[test]
fn a_directory_of_another_topic_is_not_opened() {
    let fixture = fixture();
    let directory = fixture.directory();
    let open = |id: u8| {
        let id = skein_types::TopicId::from_random([id; 16]);
        Log::open(&directory, &orders(), Some(id), small(), Millis(1))
    };
    drop(open(1).unwrap());
    assert!(matches!(open(2).unwrap_err(), StorageError::Format { .. }));
    drop(open(1).unwrap());
}

#[test]
fn the_high_watermark_is_kept_within_the_log() {
    for (checkpointed, expected) in [(None, 2), (Some(0), 2), (Some(5), 5), (Some(50), 10)] {
        let fixture = fixture();
        let mut log = fixture.log(small());
        log.fill_to(10, 1, 100);
        log.advance_log_start(Offset(2)).unwrap();
        if let Some(offset) = checkpointed {
            let offsets = BTreeMap::from([(orders(), Offset(offset))]);
            log.home
                .directory
                .write_checkpoint(CheckpointFile::HighWatermark, &offsets)
                .unwrap();
        }
        drop(log);
        let opened = fixture.open(small());
        assert_eq!(opened.high_watermark, Offset(expected));
        assert_eq!(opened.log.published().high_watermark, Offset(expected));
    }
}

#[test]
fn leftovers_of_interrupted_steps_are_finished_or_removed() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        is_compacting: true,
        ..small()
    });
    log.fill_to(60, 1, 100);
    drop(log);
    let names = fixture.names(".log");
    let path = |name: &str| fixture.path(name);
    let base = |at: usize| names[at].strip_suffix(".log").unwrap().to_owned();
    // A compaction of segments 1 and 2 into one, with only their last batch left, had ended.
    let last: i64 = base(3).parse::<i64>().unwrap() - 1;
    let swap = batch_at(last, 1, 100, 1000 + last);
    std::fs::write(path(&format!("{}.log.swap", base(1))), &swap).unwrap();
    std::fs::write(path(&format!("{}.index.swap", base(1))), "").unwrap();
    // Another one had not.
    std::fs::write(path(&format!("{}.log.cleaned", base(5))), "x").unwrap();
    std::fs::write(path(&format!("{}.log.swap", base(5))), "y").unwrap();
    std::fs::write(path("00000000000000000000.log.deleted"), "z").unwrap();
    std::fs::write(path("leader-epoch-checkpoint.tmp"), "z").unwrap();
    std::fs::write(path("00000000000000000777.index"), "z").unwrap();

    let log = fixture.log(LogConfig {
        is_compacting: true,
        ..small()
    });
    for suffix in [".swap", ".cleaned", ".deleted", ".tmp", "777.index"] {
        assert_eq!(fixture.names(suffix), [] as [&str; 0]);
    }
    let first: i64 = base(1).parse().unwrap();
    let expected: Vec<i64> = (0..60).filter(|at| *at < first || *at >= last).collect();
    assert_eq!(offsets(&log.view(), 0, 60), expected);
    assert!(!names.iter().any(|name| name == "x"));
    assert_eq!(fixture.names(".log").len(), names.len() - 1);
    log.view().check_indexes().unwrap();
}

/// A log of several segments, closed, without the file of the second.
fn without_the_second_segment(fixture: &Fixture, cleaned_end: Offset) -> (i64, i64) {
    let mut log = fixture.log(small());
    let batches: Vec<Vec<u8>> = (0..60).map(|base| batch_at(base, 1, 100, 1)).collect();
    log.append_all(&batches);
    assert!(log.segment_count() > 3);
    let cleaned = BTreeMap::from([(orders(), cleaned_end)]);
    let file = CheckpointFile::Cleaner;
    log.home.directory.write_checkpoint(file, &cleaned).unwrap();
    let missing = &log.sealed[1];
    let (start, end) = (missing.base_offset.0, missing.end_offset.0);
    let path = missing.path(FileKind::Log);
    shut_down(log, &batches);
    std::fs::remove_file(path).unwrap();
    (start, end)
}

#[test]
fn an_opening_tells_of_a_segment_that_is_missing_between_others() {
    let fixture = fixture();
    let (start, end) = without_the_second_segment(&fixture, Offset(0));
    for _ in 0..2 {
        let opened = fixture.open(small());
        assert_eq!(opened.recovery.missing, [Offset(start)..Offset(end)]);
        let there: Vec<i64> = (0..60).filter(|at| !(start..end).contains(at)).collect();
        assert_eq!(offsets(&opened.log.view(), 0, 60), there);
    }
}

#[test]
fn a_read_tells_once_of_a_gap_that_no_compaction_left() {
    for (cleaned_end, is_told) in [(0, true), (60, false)] {
        let fixture = fixture();
        let (start, _) = without_the_second_segment(&fixture, Offset(cleaned_end));
        // Whoever has lost segments may have lost this file too.
        std::fs::remove_file(fixture.path("segment-timestamps")).unwrap();
        let opened = fixture.open(small());
        assert_eq!(opened.recovery.missing, []);
        let view = opened.log.view();
        let first = &view.sealed[0];
        view.read(Offset(0), 700, Offset(60), true).unwrap();
        assert!(!first.is_gap_told.load(Ordering::Relaxed));
        view.read(Offset(start), 700, Offset(60), true).unwrap();
        assert_eq!(first.is_gap_told.load(Ordering::Relaxed), is_told);
        assert!(!missing::tell_read(first, Offset(start)));
    }
}
