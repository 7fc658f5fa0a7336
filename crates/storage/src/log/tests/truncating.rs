//! Truncation: a position in a file never holds two values.
//!
//! Input: logs on a temporary or simulated disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::*;
use crate::testing::{EIO, Fault};

#[test]
fn a_log_ends_where_it_was_cut_and_goes_on_in_a_new_file() {
    for target in 0..60 {
        let fixture = fixture();
        let mut log = fixture.log(small());
        log.fill_to(60, 1, 100);
        let truncated = log.truncate_to(Offset(target), Millis(1)).unwrap().unwrap();
        assert_eq!(truncated.log_end_offset, Offset(target));
        assert_eq!(log.log_end_offset(), Offset(target));
        assert_eq!(offsets(&log.view(), 0, 60), upto(target));
        assert_eq!(log.active.base_offset, Offset(target));
        assert_eq!(log.active.file.end(), 0);
        log.view().check_indexes().unwrap();
        log.fill_to(80, 1, 90);
        assert_eq!(offsets(&log.view(), 0, 80), upto(80));
        log.view().check_indexes().unwrap();
        drop(log);
        let log = fixture.log(small());
        assert_eq!(offsets(&log.view(), 0, 80), upto(80), "{target}");
        log.view().check_indexes().unwrap();
    }
}

#[test]
fn nothing_happens_at_or_past_the_end() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(10, 1, 100);
    for target in [10, 11, i64::MAX] {
        assert_eq!(log.truncate_to(Offset(target), Millis(1)).unwrap(), None);
    }
    assert_eq!(fixture.names(".log").len(), 1);
}

#[test]
fn what_was_flushed_and_cleaned_ends_where_the_log_was_cut() {
    for file in [CheckpointFile::RecoveryPoint, CheckpointFile::Cleaner] {
        for (checkpointed, after) in [(20, 20), (40, 31)] {
            let fixture = fixture();
            let mut log = fixture.log(small());
            log.fill_to(60, 1, 100);
            let directory = Arc::clone(&log.home.directory);
            let offsets = BTreeMap::from([(orders(), Offset(checkpointed))]);
            directory.write_checkpoint(file, &offsets).unwrap();
            log.truncate_to(Offset(31), Millis(1)).unwrap();
            assert_eq!(directory.checkpointed(file, &orders()), Some(Offset(after)));
        }
    }
}

#[test]
fn a_batch_goes_as_a_whole() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(10, 5, 100);
    let truncated = log.truncate_to(Offset(7), Millis(1)).unwrap().unwrap();
    assert_eq!(truncated.log_end_offset, Offset(5));
    assert_eq!(offsets(&log.view(), 0, 10), upto(5));
}

/// A reader with an old view meets the end of a file, or what it had; never other bytes.
#[test]
fn a_position_never_holds_two_values() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 1, 100);
    let old = log.view();
    let ranges: Vec<FileRange> = (0..60)
        .map(|offset| {
            old.read(Offset(offset), 1, Offset(60), true)
                .unwrap()
                .unwrap()
        })
        .collect();
    let contents: Vec<Vec<u8>> = ranges.iter().map(bytes).collect();
    for target in [55, 41, 17, 0] {
        log.truncate_to(Offset(target), Millis(1)).unwrap();
        // Others than before, of the same size.
        while log.log_end_offset().0 < 60 {
            let base = log.log_end_offset().0;
            log.append_all(&[batch(base, 9, 100, &[77])]);
        }
        for (range, content) in ranges.iter().zip(&contents) {
            let now = bytes(range);
            assert_eq!(now, content[..now.len()]);
        }
    }
}

fn bytes(range: &FileRange) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(range.length).unwrap()];
    let filled = range.file.read_at(&mut bytes, range.position).unwrap();
    bytes.truncate(filled);
    bytes
}

#[test]
fn the_tables_of_the_replica_go_back_too() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let mut batches = Vec::new();
    for number in 0..60 {
        let mut builder = BatchBuilder::new(Codec::None);
        let sequence = Sequence(i32::try_from(number).unwrap());
        builder.set_producer(ProducerId(number / 20), ProducerEpoch(0), sequence);
        let epoch = i32::try_from(number / 15).unwrap();
        batches.push(fill(&mut builder, number, epoch, 100, &[1000]));
        log.append_all(&batches[batches.len() - 1..]);
        if log.is_snapshot_due() {
            log.write_snapshot(&producers_of(&batches)).unwrap();
        }
    }
    let truncated = log.truncate_to(Offset(31), Millis(1)).unwrap().unwrap();
    let expected = producers_of(&batches[..31]);
    assert_eq!(truncated.producers.len(), 2);
    assert_eq!(truncated.producers.map_end_offset(), Offset(31));
    for producer in [ProducerId(0), ProducerId(1)] {
        assert_eq!(
            truncated.producers.get(producer).unwrap().last_batch(),
            expected.get(producer).unwrap().last_batch()
        );
    }
    assert_eq!(
        truncated.leader_epochs.latest().unwrap().epoch,
        LeaderEpoch(2)
    );
    assert!(log.is_snapshot_due());
    log.write_snapshot(&truncated.producers).unwrap();
    assert!(fixture.names(".snapshot").last().unwrap().as_str() <= "00000000000000000031.snapshot");
    drop(log);
    let opened = fixture.open(small());
    assert_eq!(opened.producers.len(), 2);
    assert_eq!(opened.leader_epochs, truncated.leader_epochs);
}

#[test]
fn the_recovery_point_is_lowered_before_the_log_is_cut() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 1, 100);
    log.flush(Millis(1)).unwrap();
    let offsets = BTreeMap::from([(orders(), log.recovery_point())]);
    log.home
        .directory
        .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
        .unwrap();
    // The cut itself fails: whatever the file is then, it must open again.
    fixture.disk.plan(&[Fault::Cut(EIO)]);
    assert!(log.truncate_to(Offset(31), Millis(1)).is_err());
    assert!(
        log.append(&[&batch_at(60, 1, 100, 1)], Millis(1)).is_err(),
        "it is offline"
    );
    drop(log);
    let opened = fixture.open(small());
    let end = opened.log.log_end_offset().0;
    assert!((31..=60).contains(&end), "{end}");
    assert_eq!(super::offsets(&opened.log.view(), 0, end), upto(end));
}

#[test]
fn a_flush_from_before_a_truncation_does_not_count() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 1, 100);
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    log.truncate_to(Offset(31), Millis(1)).unwrap();
    log.fill_to(70, 1, 100);
    let flushed = plan.run().unwrap();
    assert_eq!(log.complete_flush(&flushed, Millis(1)), Offset(0));
    assert_eq!(log.flush(Millis(1)).unwrap(), Offset(70));
}

#[test]
fn a_log_can_restart_anywhere() {
    for offset in [0, 30, 60, 1000] {
        let fixture = fixture();
        let mut log = fixture.log(small());
        log.fill_to(60, 1, 100);
        let restarted = log.restart_at(Offset(offset), Millis(1)).unwrap();
        assert_eq!(restarted.log_end_offset, Offset(offset));
        assert!(restarted.producers.is_empty() && restarted.leader_epochs.entries().is_empty());
        assert_eq!(fixture.names(".log").len(), 1);
        log.append_all(&[batch_at(offset, 1, 100, 1000)]);
        drop(log);
        let log = fixture.log(small());
        assert_eq!(log.log_start_offset(), Offset(offset));
        assert_eq!(offsets(&log.view(), offset, offset + 1), [offset]);
    }
}

#[test]
fn a_log_start_within_the_batch_that_goes_moves_back_with_it() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(10, 5, 100);
    log.advance_log_start(Offset(7)).unwrap();
    log.truncate_to(Offset(7), Millis(1)).unwrap().unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(5), Offset(5))
    );
    drop(log);
    let log = fixture.log(small());
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(5), Offset(5))
    );
}
