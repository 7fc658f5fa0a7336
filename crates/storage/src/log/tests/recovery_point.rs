//! What opening a log makes of the border between flushed and unflushed bytes, and of gaps.
//!
//! Input: logs on a temporary disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::recovering::{checkpoint, shut_down};
use super::*;

const FLUSHED: i64 = 60;

/// A log of one segment with batches of one record, flushed up to [`FLUSHED`], with more behind it.
fn half_flushed(fixture: &Fixture) -> Log {
    let mut log = fixture.log(LogConfig::default());
    log.fill_to(FLUSHED, 1, 100);
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    log.fill_to(FLUSHED + 10, 1, 100);
    log
}

/// Each bit of the base offset, the length and the magic byte of the last flushed batch flips, all
/// before it being of one size.
fn flip_each_framing_bit(make: impl Fn(&Fixture)) {
    let size = batch_at(0, 1, 100, 1).len();
    let last = usize::try_from(FLUSHED - 1).unwrap() * size;
    for byte in (0..12).chain([16]) {
        for bit in 0..8 {
            let fixture = fixture();
            make(&fixture);
            let path = fixture.path("00000000000000000000.log");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[last + byte] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            let opened = fixture.try_open(LogConfig::default());
            assert!(
                matches!(opened, Err(StorageError::Corrupt { .. })),
                "byte {byte} bit {bit}: {opened:?}"
            );
            assert_eq!(
                std::fs::read(&path).unwrap(),
                bytes,
                "byte {byte} bit {bit}"
            );
        }
    }
}

#[test]
fn a_batch_that_went_bad_right_below_the_recovery_point_is_an_error_and_nothing_is_cut() {
    flip_each_framing_bit(|fixture| drop(half_flushed(fixture)));
}

#[test]
fn the_last_batch_of_a_closed_log_is_not_cut_when_it_went_bad() {
    flip_each_framing_bit(|fixture| {
        let mut log = fixture.log(LogConfig::default());
        let batches: Vec<Vec<u8>> = (0..FLUSHED).map(|base| batch_at(base, 1, 100, 1)).collect();
        log.append_all(&batches);
        shut_down(log, &batches);
    });
}

/// Room ahead of the end, and a record that ends in zeros: what is left behind a length that went
/// bad looks like room, and a batch may reach into it.
#[test]
fn the_last_flushed_batch_is_not_cut_when_it_went_bad_in_front_of_zeros() {
    for room in [0, 5_000] {
        flip_each_framing_bit(|fixture| {
            let mut log = fixture.log(LogConfig::default());
            log.fill_to(FLUSHED - 1, 1, 100);
            let mut builder = BatchBuilder::new(Codec::None);
            builder.set_base_offset(Offset(FLUSHED - 1));
            builder
                .append(Millis(1), None, Some(&[0; 100]), &[])
                .unwrap();
            log.append_all(&[builder.build().unwrap().as_slice().to_vec()]);
            log.flush(Millis(1)).unwrap();
            checkpoint(&log);
            drop(log);
            let path = fixture.path("00000000000000000000.log");
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length + room).unwrap();
        });
    }
}

/// Offsets are no part of the checksum, and a compacted topic may have gaps: batches that are in
/// order tell which one is wrong.
#[test]
fn a_wrong_offset_below_the_recovery_point_is_an_error_in_a_compacted_topic() {
    let config = LogConfig {
        is_compacting: true,
        ..LogConfig::default()
    };
    let size = batch_at(0, 1, 100, 1).len();
    for bit in 0..64 {
        let fixture = fixture();
        drop(half_flushed(&fixture));
        let path = fixture.path("00000000000000000000.log");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30 * size + 7 - bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();
        let opened = fixture.try_open(config);
        let is_corrupt = matches!(opened, Err(StorageError::Corrupt { .. }));
        assert!(is_corrupt, "bit {bit}: {opened:?}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_torn_batch_right_above_the_recovery_point_is_cut() {
    let size = batch_at(0, 1, 100, 1).len() as u64;
    // Its offset begins with zeros, which are no records, and it may end with one.
    for torn in 8..size - 1 {
        let fixture = fixture();
        drop(half_flushed(&fixture));
        let path = fixture.path("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(60 * size + torn).unwrap();
        // As a device leaves it that had the length and not the bytes.
        file.set_len(60 * size + 200).unwrap();
        let opened = fixture.open(LogConfig::default());
        assert_eq!(opened.log.log_end_offset(), Offset(FLUSHED));
        assert_eq!(opened.recovery.cut.unwrap().position, 60 * size);
    }
}

/// A write that failed was cut back, which nothing flushed: a power cut may bring its bytes back,
/// behind what was written and flushed in its place.
#[test]
fn refused_batches_that_came_back_behind_the_recovery_point_are_cut() {
    for is_compacting in [true, false] {
        let fixture = fixture();
        let mut log = fixture.log(LogConfig::default());
        log.fill_to(20, 1, 100);
        // Four records take less room than two batches.
        log.append_all(&[batch_at(20, 4, 30, 1)]);
        log.flush(Millis(1)).unwrap();
        checkpoint(&log);
        drop(log);
        let path = fixture.path("00000000000000000000.log");
        let mut bytes = std::fs::read(&path).unwrap();
        let flushed = bytes.len();
        bytes.extend(batch_at(21, 1, 100, 1));
        std::fs::write(&path, &bytes).unwrap();
        let opened = fixture.open(LogConfig {
            is_compacting,
            ..LogConfig::default()
        });
        assert_eq!(opened.log.log_end_offset(), Offset(24));
        assert_eq!(opened.recovery.cut.unwrap().position, flushed as u64);
        assert_eq!(offsets(&opened.log.view(), 0, 24), upto(24));
    }
}

/// A log with gaps within segments and between them, as compaction leaves them; its offsets.
fn with_gaps(fixture: &Fixture) -> (Log, Vec<i64>) {
    let mut log = fixture.log(LogConfig {
        is_compacting: true,
        ..small()
    });
    let mut written = Vec::new();
    for _ in 0..40 {
        let base = log.log_end_offset.0 + 3;
        log.append_all(&[batch_at(base, 1, 100, 1000 + base)]);
        written.push(base);
    }
    assert!(log.segment_count() > 3);
    (log, written)
}

#[test]
fn gaps_of_a_topic_that_was_compacted_are_no_fault() {
    for is_compacting in [true, false] {
        let fixture = fixture();
        let (log, written) = with_gaps(&fixture);
        let end = log.log_end_offset;
        let cleaned = BTreeMap::from([(orders(), end)]);
        log.home
            .directory
            .write_checkpoint(CheckpointFile::Cleaner, &cleaned)
            .unwrap();
        drop(log);
        let opened = fixture.open(LogConfig {
            is_compacting,
            ..small()
        });
        assert_eq!(opened.recovery.cut, None);
        assert_eq!(offsets(&opened.log.view(), 0, end.0), written);
        opened.log.view().check_indexes().unwrap();
    }
}

#[test]
fn gaps_below_the_recovery_point_are_no_fault() {
    for flushed in 1..40 {
        let fixture = fixture();
        let (log, written) = with_gaps(&fixture);
        let flushed = Offset(written[flushed]);
        let directory = &log.home.directory;
        let flushed = BTreeMap::from([(orders(), flushed)]);
        directory
            .write_checkpoint(CheckpointFile::RecoveryPoint, &flushed)
            .unwrap();
        drop(log);
        let flushed = flushed[&orders()].0;
        let kept: Vec<i64> = written.into_iter().filter(|at| *at <= flushed).collect();
        let opened = fixture.open(small());
        // The first gap above it may be a loss.
        assert_eq!(opened.log.log_end_offset(), Offset(flushed + 1));
        assert_eq!(offsets(&opened.log.view(), 0, flushed + 1), kept);
    }
}
