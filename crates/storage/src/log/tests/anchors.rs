//! Where recovery begins within the segment of the recovery point, whatever is left of its indexes.
//!
//! Input: logs on a temporary disk, whose index files are shortened, holed or wrong. Output:
//! assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::recovering::checkpoint;
use super::*;
use crate::log::index::{OffsetEntry, TimeEntry};

const FLUSHED: i64 = 300;
const END: i64 = 320;
const LOG: &str = "00000000000000000000.log";
const INDEX: &str = "00000000000000000000.index";
const TIME_INDEX: &str = "00000000000000000000.timeindex";

/// One segment with many index entries.
fn one_segment() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        index_interval_bytes: 200,
        ..LogConfig::default()
    }
}

/// A killed log, flushed up to [`FLUSHED`], whose index files are complete.
fn killed(timestamp: impl Fn(i64) -> i64) -> Fixture {
    let fixture = fixture();
    let mut log = fixture.log(one_segment());
    for base in 0..END {
        log.append_all(&[batch_at(base, 1, 100, timestamp(base))]);
        if base + 1 == FLUSHED {
            log.flush(Millis(1)).unwrap();
            checkpoint(&log);
        }
    }
    log.active.indexer.finish().unwrap();
    fixture
}

/// All that is known of the one segment.
#[derive(Debug, PartialEq)]
struct Told {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    max_timestamp: TimestampOffset,
    bytes_since_entry: u64,
    first_timestamp: Option<Millis>,
}

fn told(log: &Log) -> Told {
    let indexer = &log.active.indexer;
    Told {
        offsets: indexer.offsets.view().to_vec().unwrap(),
        times: indexer.times.view().to_vec().unwrap(),
        max_timestamp: indexer.max_timestamp,
        bytes_since_entry: indexer.bytes_since_entry,
        first_timestamp: log.active.first_timestamp,
    }
}

/// What a walk from the segment's start finds.
fn truth(timestamp: impl Fn(i64) -> i64) -> Told {
    let fixture = killed(timestamp);
    std::fs::remove_file(fixture.path(INDEX)).unwrap();
    assert_eq!(passed(&fixture, None), FLUSHED);
    told(&fixture.log(one_segment()))
}

/// Opens the log and returns how many batches below the recovery point were walked over.
fn passed(fixture: &Fixture, truth: Option<&Told>) -> i64 {
    let opened = fixture.open(one_segment());
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(opened.log.log_end_offset(), Offset(END));
    assert!(truth.is_none_or(|truth| *truth == told(&opened.log)));
    opened.log.view().check_indexes().unwrap();
    let size = batch_at(0, 1, 100, 1000).len() as u64;
    i64::try_from(opened.recovery.walked_bytes / size).unwrap()
}

#[test]
fn a_walk_begins_at_the_last_batch_below_the_recovery_point_that_the_index_names() {
    let rising = |base| 1000 + base;
    let fixture = killed(rising);
    let passed = passed(&fixture, Some(&truth(rising)));
    assert!((1..4).contains(&passed), "{passed} batches");
}

/// What a kill leaves: the beginning of each file, as far as it was written.
#[test]
fn every_beginning_of_both_indexes_leads_to_the_same_indexes() {
    let timestamps: [fn(i64) -> i64; 4] = [
        |base| 1000 + base,
        |_| 1000,
        // Now and then a large one, which the next ones stay below.
        |base| 1000 + base % 37 * 100 + base / 37,
        |base| if base < 150 { -1 } else { 1000 + base / 40 },
    ];
    for timestamp in timestamps {
        let truth = truth(timestamp);
        let whole = killed(timestamp);
        let [offsets, times] = [INDEX, TIME_INDEX].map(|name| {
            let path = whole.path(name);
            std::fs::read(path).unwrap()
        });
        let mut shortest = FLUSHED;
        for offset_bytes in (0..=offsets.len()).rev().step_by(8 * 29) {
            for time_bytes in (0..=times.len()).rev().step_by(12 * 17) {
                std::fs::write(whole.path(INDEX), &offsets[..offset_bytes]).unwrap();
                std::fs::write(whole.path(TIME_INDEX), &times[..time_bytes]).unwrap();
                shortest = shortest.min(passed(&whole, Some(&truth)));
            }
        }
        // Without a second time entry nobody knows whether there was one.
        assert!(shortest < FLUSHED || truth.times.len() < 2);
    }
}

#[test]
fn an_index_in_doubt_is_made_anew_from_the_start() {
    let rising = |base| 1000 + base;
    let truth = truth(rising);
    // The entry that names the anchor, and the one that was made with it.
    let anchor = truth
        .offsets
        .iter()
        .rposition(|entry| i64::from(entry.relative_offset) < FLUSHED)
        .unwrap();
    let batch = truth.offsets[anchor];
    let flip = |name: &str, at: usize| {
        let fixture = killed(rising);
        let mut bytes = std::fs::read(fixture.path(name)).unwrap();
        bytes[at] ^= 1;
        std::fs::write(fixture.path(name), bytes).unwrap();
        fixture
    };
    // A record of the batch, the batch that an entry names, its last offset; the time that is told
    // up to there, and whose it is.
    let position = usize::try_from(batch.position).unwrap();
    for (name, at) in [
        (LOG, position + 100),
        (INDEX, 8 * anchor + 7),
        (INDEX, 8 * anchor + 3),
        (TIME_INDEX, 12 * anchor + 7),
        (TIME_INDEX, 12 * anchor + 11),
    ] {
        assert_eq!(
            passed(&flip(name, at), Some(&truth)),
            FLUSHED,
            "{name} {at}"
        );
    }
    // A hole, as a power cut may leave it; a torn entry; none.
    for name in [INDEX, TIME_INDEX] {
        let fixture = killed(rising);
        let whole = std::fs::read(fixture.path(name)).unwrap();
        let mut holed = whole.clone();
        holed[120..360].fill(0);
        for bytes in [&holed, &whole[..whole.len() - 1], &[][..]] {
            std::fs::write(fixture.path(name), bytes).unwrap();
            assert_eq!(passed(&fixture, Some(&truth)), FLUSHED, "{name}");
        }
        std::fs::remove_file(fixture.path(name)).unwrap();
        assert_eq!(passed(&fixture, Some(&truth)), FLUSHED, "{name}");
    }
}
