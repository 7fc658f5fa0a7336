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

const CHECKPOINT: &str = "recovery-point-offset-checkpoint";

impl Fixture {
    fn checkpoint_path(&self) -> PathBuf {
        self.temporary.path().join(CHECKPOINT)
    }

    /// The log does not open, and its file stays what it is.
    #[track_caller]
    fn refuses(&self) {
        let path = self.path("00000000000000000000.log");
        let before = std::fs::read(&path).unwrap();
        let opened = self.try_open(LogConfig::default());
        assert!(
            matches!(opened, Err(StorageError::Corrupt { .. })),
            "{opened:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before, "the file changed");
    }

    /// Turns a byte in the batch of the record `offset` over, all batches being of one size.
    fn damage(&self, offset: i64) {
        let path = self.path("00000000000000000000.log");
        let size = batch_at(0, 1, 100, 1).len();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[usize::try_from(offset).unwrap() * size + 16] ^= 0xff;
        std::fs::write(&path, &bytes).unwrap();
    }

    /// Another log of the directory is checkpointed, as by a node that runs on.
    fn checkpoint_another(&self, directory: &LogDirectory) {
        let other = TopicPartition {
            topic: TopicName::new("others").unwrap(),
            partition: PartitionIndex(0),
        };
        let offsets = BTreeMap::from([(other, Offset(7))]);
        let file = CheckpointFile::RecoveryPoint;
        directory.write_checkpoint(file, &offsets).unwrap();
    }
}

#[test]
fn a_log_that_was_refused_once_is_refused_for_as_long_as_it_is_damaged() {
    let fixture = fixture();
    drop(half_flushed(&fixture));
    let good = std::fs::read(fixture.path("00000000000000000000.log")).unwrap();
    fixture.damage(30);
    fixture.refuses();
    // Removed, made anew without it, garbled.
    std::fs::remove_file(fixture.checkpoint_path()).unwrap();
    fixture.refuses();
    for content in ["0\n0\n", "0\n1\nothers 0 5\n", "garbage", ""] {
        std::fs::write(fixture.checkpoint_path(), content).unwrap();
        fixture.refuses();
        fixture.refuses();
    }
    fixture.checkpoint_another(&fixture.directory());
    fixture.refuses();
    // Restored, it opens, and the note of the refusal is gone.
    std::fs::write(fixture.path("00000000000000000000.log"), good).unwrap();
    let opened = fixture.open(LogConfig::default());
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(opened.log.log_end_offset(), Offset(FLUSHED + 10));
    assert_eq!(opened.log.recovery_point(), Offset(FLUSHED));
    assert!(!fixture.path("refused-recovery-point").exists());
    drop(opened);
    let checkpoint = std::fs::read_to_string(fixture.checkpoint_path()).unwrap();
    assert!(checkpoint.contains("orders 0 60\n"), "{checkpoint}");
}

#[test]
fn an_operator_may_give_up_what_lies_behind_the_damage() {
    let fixture = fixture();
    drop(half_flushed(&fixture));
    fixture.damage(30);
    fixture.refuses();
    std::fs::remove_file(fixture.path("refused-recovery-point")).unwrap();
    std::fs::write(fixture.checkpoint_path(), "0\n1\norders 0 30\n").unwrap();
    let opened = fixture.open(LogConfig::default());
    assert_eq!(opened.log.log_end_offset(), Offset(30));
}

/// The checkpoint is gone before anybody has seen the damage.
#[test]
fn without_recovery_points_no_batch_is_cut_that_has_a_whole_one_behind_it() {
    for content in [None, Some("garbage")] {
        for damaged in [0, 30, FLUSHED - 1, FLUSHED + 8] {
            let fixture = fixture();
            drop(half_flushed(&fixture));
            match content {
                None => std::fs::remove_file(fixture.checkpoint_path()).unwrap(),
                Some(content) => std::fs::write(fixture.checkpoint_path(), content).unwrap(),
            }
            fixture.damage(damaged);
            let directory = fixture.directory();
            // Before the log is looked at: a file without it would say that it was never flushed.
            fixture.checkpoint_another(&directory);
            drop(directory);
            fixture.refuses();
            // Its own note tells of it from now on.
            fixture.checkpoint_another(&fixture.directory());
            let checkpoint = std::fs::read_to_string(fixture.checkpoint_path());
            assert!(!checkpoint.unwrap_or_default().contains("orders"));
            fixture.refuses();
        }
    }
}

#[test]
fn without_recovery_points_damage_before_another_segment_is_not_cut() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(60, 1, 100);
    assert!(log.segment_count() > 2);
    drop(log);
    std::fs::remove_file(fixture.checkpoint_path()).unwrap();
    let path = fixture.path("00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    for _ in 0..2 {
        let names = fixture.names(".log");
        let opened = fixture.try_open(small());
        assert!(matches!(opened, Err(StorageError::Corrupt { .. })));
        assert_eq!(fixture.names(".log"), names);
    }
}

#[test]
fn without_recovery_points_a_torn_end_is_cut_and_a_whole_log_opens() {
    let size = batch_at(0, 1, 100, 1).len() as u64;
    for torn in [0, size / 2, size - 1] {
        let fixture = fixture();
        drop(half_flushed(&fixture));
        std::fs::remove_file(fixture.checkpoint_path()).unwrap();
        let path = fixture.path("00000000000000000000.log");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(69 * size + torn).unwrap();
        let opened = fixture.open(LogConfig::default());
        assert_eq!(opened.log.log_end_offset(), Offset(69));
        assert_eq!(opened.recovery.cut.is_some(), torn > 0);
    }
}

#[test]
fn without_recovery_points_nothing_is_cut_after_a_clean_stop() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    let batches: Vec<Vec<u8>> = (0..FLUSHED).map(|base| batch_at(base, 1, 100, 1)).collect();
    log.append_all(&batches);
    shut_down(log, &batches);
    std::fs::remove_file(fixture.checkpoint_path()).unwrap();
    fixture.damage(FLUSHED - 1);
    for _ in 0..3 {
        fixture.refuses();
    }
}
