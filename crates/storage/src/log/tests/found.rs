//! Bytes of a former process, which the first flush writes anew.
//!
//! Input: logs whose process was killed. Output: assertions on what is rewritten, and when.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::testing::{EIO, Fault};

const SIZE: i64 = 100;

/// Bytes of a batch of one record.
fn batch_bytes() -> u64 {
    batch_at(0, 1, 100, 1000).len() as u64
}

/// A log of so many batches in one segment, flushed up to `flushed`, as a kill left it.
fn killed(fixture: &Fixture, flushed: i64, end: i64) {
    let mut log = fixture.log(LogConfig::default());
    log.fill_to(flushed, 1, 100);
    log.flush(Millis(1)).unwrap();
    let offsets = BTreeMap::from([(orders(), log.recovery_point())]);
    let directory = Arc::clone(&log.home.directory);
    directory
        .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
        .unwrap();
    log.fill_to(end, 1, 100);
    fixture.disk.take_rewrites();
}

#[test]
fn the_first_flush_rewrites_what_lies_behind_the_recovery_point() {
    let fixture = fixture();
    killed(&fixture, 30, SIZE);
    let mut log = fixture.log(LogConfig::default());
    assert_eq!(fixture.disk.take_rewrites(), [], "not before it serves");
    log.fill_to(SIZE + 1, 1, 100);
    assert_eq!(log.flush(Millis(1)).unwrap(), Offset(SIZE + 1));
    let bytes = |offset: i64| offset.unsigned_abs() * batch_bytes();
    assert_eq!(fixture.disk.take_rewrites(), [(bytes(30), bytes(SIZE))]);
    log.fill_to(SIZE + 9, 1, 100);
    log.flush(Millis(1)).unwrap();
    assert_eq!(fixture.disk.take_rewrites(), [], "only the first one");
    assert_eq!(offsets(&log.view(), 0, SIZE + 9), upto(SIZE + 9));
}

#[test]
fn a_log_that_was_flushed_or_closed_is_not_rewritten() {
    let fixture = fixture();
    killed(&fixture, SIZE, SIZE);
    let mut log = fixture.log(LogConfig::default());
    log.fill_to(SIZE + 1, 1, 100);
    assert_eq!(log.sealed.len(), 0, "its file is as good as a new one");
    let directory = Arc::clone(&log.home.directory);
    log.flush(Millis(1)).unwrap();
    let producers = ProducerStates::starting_at(log.log_end_offset);
    let closed = BTreeMap::from([(orders(), log.close(&producers, Millis(1)).unwrap())]);
    directory
        .write_checkpoint(CheckpointFile::RecoveryPoint, &closed)
        .unwrap();
    let opened = Log::open(
        &directory,
        &orders(),
        None,
        LogConfig::default(),
        Millis(1000),
    );
    let mut log = opened.unwrap().log;
    log.fill_to(SIZE + 2, 1, 100);
    log.flush(Millis(1)).unwrap();
    assert_eq!(fixture.disk.take_rewrites(), []);
}

#[test]
fn a_file_with_found_bytes_takes_no_append() {
    let fixture = fixture();
    killed(&fixture, 30, SIZE);
    let mut log = fixture.log(LogConfig::default());
    log.fill_to(SIZE + 1, 1, 100);
    assert_eq!(log.active.base_offset, Offset(SIZE));
    // Once it is rewritten it does: this log's first flush comes before its first append.
    drop(log);
    let mut log = fixture.log(LogConfig::default());
    log.flush(Millis(1)).unwrap();
    log.fill_to(SIZE + 2, 1, 100);
    assert_eq!(log.active.base_offset, Offset(SIZE));
}

#[test]
fn the_flush_of_sealed_segments_takes_all_that_was_found() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 1, 100);
    let segments = log.sealed.len() + 1;
    drop(log);
    let mut log = fixture.log(small());
    let plan = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
    assert_eq!(plan.end_offset(), Offset(60));
    let flushed = plan.run().unwrap();
    assert_eq!(log.complete_flush(&flushed, Millis(1)), Offset(60));
    assert_eq!(fixture.disk.take_rewrites().len(), segments);
    assert!(
        log.flush_plan(FlushScope::Sealed).unwrap().is_none(),
        "from then on only sealed ones"
    );
}

#[test]
fn a_rewrite_that_is_not_flushed_moves_nothing() {
    let fixture = fixture();
    killed(&fixture, 30, SIZE);
    let mut log = fixture.log(LogConfig::default());
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    fixture.disk.plan(&[Fault::Flush(EIO)]);
    let error = plan.run().unwrap_err();
    log.flush_failed(&error);
    assert_eq!(log.recovery_point(), Offset(30));
    drop(log);
    fixture.disk.take_rewrites();
    let mut log = fixture.log(LogConfig::default());
    log.flush(Millis(1)).unwrap();
    assert_eq!(fixture.disk.take_rewrites().len(), 1, "all of it again");
}

#[test]
fn what_a_truncation_took_is_not_rewritten() {
    let fixture = fixture();
    killed(&fixture, 30, SIZE);
    let mut log = fixture.log(LogConfig::default());
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    log.truncate_to(Offset(40), Millis(1)).unwrap();
    let length = std::fs::metadata(fixture.path("00000000000000000000.log"));
    let length = length.unwrap().len();
    let flushed = plan.run().unwrap();
    assert_eq!(log.complete_flush(&flushed, Millis(1)), Offset(30));
    let bytes = |offset: u64| offset * batch_bytes();
    assert_eq!(fixture.disk.take_rewrites(), [(bytes(30), bytes(40))]);
    assert_eq!(length, bytes(40));
    log.fill_to(50, 1, 100);
    assert_eq!(log.flush(Millis(1)).unwrap(), Offset(50));
    assert_eq!(offsets(&log.view(), 0, 50), upto(50));
}

#[test]
fn zeros_that_an_interrupted_rewrite_left_cost_no_record() {
    let fixture = fixture();
    killed(&fixture, 30, SIZE);
    let mut log = fixture.log(LogConfig::default());
    log.fill_to(SIZE + 20, 1, 100);
    drop(log);
    let path = fixture.path("00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len().next_multiple_of(4096))
        .unwrap();
    let opened = fixture.open(LogConfig::default());
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(opened.log.log_end_offset(), Offset(SIZE + 20));
    let view = opened.log.view();
    assert_eq!(offsets(&view, 0, SIZE + 20), upto(SIZE + 20));
    assert_eq!(
        file.metadata().unwrap().len(),
        SIZE.unsigned_abs() * batch_bytes()
    );
}

#[test]
fn snapshots_that_may_not_be_flushed_become_new_files() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    let batches: Vec<Vec<u8>> = (0..3).map(|number| idempotent(number, 7, number)).collect();
    for (number, batch) in batches.iter().enumerate() {
        log.append_all(std::slice::from_ref(batch));
        log.write_snapshot(&producers_of(&batches[..=number]))
            .unwrap();
        if number == 0 {
            log.flush(Millis(1)).unwrap();
        }
    }
    let offsets = BTreeMap::from([(orders(), log.recovery_point())]);
    let directory = Arc::clone(&log.home.directory);
    directory
        .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
        .unwrap();
    // A second one at the recovery point, which no flush has seen.
    log.write_snapshot(&producers_of(&batches)).unwrap();
    drop((log, directory));
    // Open files, so that no other file gets their numbers.
    let files = |fixture: &Fixture| -> Vec<std::fs::File> {
        let names = fixture.names(".snapshot").into_iter();
        let open = |name: String| std::fs::File::open(fixture.path(&name)).unwrap();
        names.map(open).collect()
    };
    let same = |left: &[std::fs::File], right: &[std::fs::File]| {
        let number = |file: &std::fs::File| file.metadata().unwrap().ino();
        let pairs = left.iter().zip(right);
        pairs.filter(|(a, b)| number(a) == number(b)).count()
    };
    let before = files(&fixture);
    assert_eq!(before.len(), 3);
    let opened = fixture.open(LogConfig::default());
    let mut log = opened.log;
    assert_eq!(same(&files(&fixture), &before), 3, "not before it serves");
    log.flush(Millis(1)).unwrap();
    assert_eq!(same(&files(&fixture), &before), 0);
    drop(log);
    let again = fixture.open(LogConfig::default());
    assert_eq!(again.producers, opened.producers);
}
