//! Appends: groups, rolls, and what a failed write leaves.
//!
//! Input: logs on a temporary or simulated disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::*;
use crate::Severity;
use crate::log_directory::DirectoryState;
use crate::testing::{EIO, ENOSPC, Fault};

#[test]
fn a_segment_that_was_prepared_and_not_used_is_in_nobodys_way() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(1, 1, 100);
    // As a roll leaves it that could not give it its name.
    std::fs::write(fixture.path(names::PREPARED), b"").unwrap();
    log.prepare_next_segment().unwrap();
    log.roll(Millis(1)).unwrap();
    assert_eq!(fixture.names(".log").len(), 2);
    assert!(!fixture.path(names::PREPARED).exists());
}

#[test]
fn a_group_is_one_write_at_the_end_of_the_file() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    let batches: Vec<Vec<u8>> = (0..100).map(|number| batch_at(number, 1, 50, 1)).collect();
    let slices: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
    let appended = log.append(&slices, Millis(1)).unwrap();
    assert_eq!(
        (appended.batches, appended.log_end_offset),
        (100, Offset(100))
    );
    let bytes = batches.concat();
    assert_eq!(fixture.disk.take_writes(), [(0, bytes.len() as u64)]);
    log.append(&[&batch_at(100, 1, 50, 1)], Millis(1)).unwrap();
    assert_eq!(fixture.disk.take_writes()[0].0, bytes.len() as u64);
    let content = std::fs::read(fixture.path("00000000000000000000.log")).unwrap();
    assert_eq!(&content[..bytes.len()], bytes);
}

#[test]
fn a_group_has_at_most_1024_pieces_and_4_mib_and_never_crosses_a_roll() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        segment_bytes: 9 << 20,
        ..LogConfig::default()
    });
    let batches: Vec<Vec<u8>> = (0..1030).map(|number| batch_at(number, 1, 8, 1)).collect();
    let slices: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
    assert_eq!(
        log.append(&slices, Millis(1)).unwrap().batches,
        APPEND_MAX_PIECES
    );
    log.append_all(&batches[1024..]);

    let large: Vec<Vec<u8>> = (0..5)
        .map(|number| batch_at(1030 + number, 1, 1 << 20, 1))
        .collect();
    let slices: Vec<&[u8]> = large.iter().map(Vec::as_slice).collect();
    assert_eq!(
        log.append(&slices, Millis(1)).unwrap().batches,
        3,
        "just under 4 MiB"
    );
    log.append_all(&large[3..]);

    let more: Vec<Vec<u8>> = (0..4)
        .map(|number| batch_at(1035 + number, 1, 1 << 20, 1))
        .collect();
    let slices: Vec<&[u8]> = more.iter().map(Vec::as_slice).collect();
    assert!(log.group_max_bytes() < 4 << 20);
    let appended = log.append(&slices, Millis(1)).unwrap();
    assert_eq!(
        (appended.batches, appended.is_rolled),
        (3, false),
        "what fits into the segment"
    );
    log.append_all(&more[3..]);
    assert_eq!(fixture.names(".log").len(), 2);
    assert_eq!(offsets(&log.view(), 0, 1039), upto(1039));
}

#[test]
fn a_group_does_not_outgrow_the_indexes() {
    let size = batch_at(0, 1, 8, 1).len() as u64;
    let limits = [
        (64, 0),
        (64, size - 1),
        (100, size - 1),
        (100, 300),
        (16, 50),
        (4, 0),
    ];
    // With rising timestamps the time index is full first, with equal ones the other.
    let rising = [true, false];
    let cases = limits
        .iter()
        .flat_map(|limit| rising.map(|rises| (*limit, rises)));
    for ((index_bytes, interval_bytes), rises) in cases {
        let fixture = fixture();
        let config = LogConfig {
            segment_index_bytes: index_bytes,
            index_interval_bytes: interval_bytes,
            ..LogConfig::default()
        };
        let mut log = fixture.log(config);
        let batches: Vec<Vec<u8>> = (0..100)
            .map(|base| batch_at(base, 1, 8, 1000 + base * i64::from(rises)))
            .collect();
        log.append_all(&batches);
        log.active.indexer.finish().unwrap();
        assert_eq!(offsets(&log.view(), 0, 100), upto(100));
        log.view().check_indexes().unwrap();
        for name in [fixture.names(".index"), fixture.names(".timeindex")].concat() {
            let size = std::fs::metadata(fixture.path(&name)).unwrap().len();
            // A time index has its last entry in any case.
            let at_most = index_bytes.max(12);
            assert!(size <= at_most, "{name}: {size} of {index_bytes}");
        }
    }
}

#[test]
fn readers_see_what_was_published_and_no_more() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.append(&[&batch_at(0, 3, 10, 1)], Millis(1)).unwrap();
    assert_eq!(log.published().log_end_offset, Offset(0));
    log.publish(Offset(0), Offset(0));
    let view = log.published();
    assert_eq!(view.log_end_offset, Offset(3));
    assert!(
        view.read(Offset(0), 1000, view.high_watermark, true)
            .unwrap()
            .is_none()
    );
    log.append(&[&batch_at(3, 3, 10, 1)], Millis(1)).unwrap();
    log.publish(Offset(3), Offset(3));
    assert_eq!(offsets(&view, 0, 99), upto(3));
    assert_eq!(offsets(&log.published(), 0, 3), upto(3));
    assert_eq!(offsets(&log.published(), 0, 99), upto(6));
}

#[test]
fn segments_roll_by_size_and_are_named_by_their_first_offset() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(40, 2, 200);
    let names = fixture.names(".log");
    assert!(names.len() > 4, "{names:?}");
    for name in &names {
        let size = std::fs::metadata(fixture.path(name)).unwrap().len();
        assert!(size <= 2000, "{name}: {size}");
        let base: i64 = name.strip_suffix(".log").unwrap().parse().unwrap();
        let range = log
            .view()
            .read(Offset(base), 1, Offset(40), true)
            .unwrap()
            .unwrap();
        assert_eq!((range.position, range.base_offset), (0, Offset(base)));
        assert_eq!(name.len(), 24);
    }
    log.view().check_indexes().unwrap();
}

#[test]
fn segments_roll_by_time_by_full_index_and_before_offsets_overflow() {
    let fixture = fixture();
    let config = LogConfig {
        segment_ms: Millis(100),
        segment_index_bytes: 64,
        index_interval_bytes: 0,
        ..LogConfig::default()
    };
    let mut log = fixture.log(config);
    log.append_all(&[batch_at(0, 1, 10, 5000), batch_at(1, 1, 10, 5100)]);
    assert_eq!(fixture.names(".log").len(), 1);
    log.append_all(&[batch_at(2, 1, 10, 5101)]);
    assert_eq!(fixture.names(".log").len(), 2, "by time");
    for base in 3..21 {
        log.append_all(&[batch_at(base, 1, 10, 5101)]);
    }
    assert_eq!(
        fixture.names(".log").len(),
        4,
        "by index: nine batches, eight entries"
    );
    let far = i64::from(i32::MAX) + 21;
    log.append_all(&[batch_at(far, 1, 10, 5101)]);
    assert_eq!(fixture.names(".log").len(), 5, "by relative offset");
    // Without timestamps the clock counts.
    let appended = log
        .append(&[&batch_at(far + 1, 1, 10, -1)], Millis(5200))
        .unwrap();
    assert!(!appended.is_rolled);
    log.view().check_indexes().unwrap();
}

#[test]
fn jitter_takes_some_time_off_and_never_all() {
    let fixture = fixture();
    let jitter = Millis(1000);
    let config = LogConfig {
        segment_ms: Millis(1000),
        segment_jitter_ms: jitter,
        ..LogConfig::default()
    };
    let mut log = fixture.log(config);
    let mut spans = Vec::new();
    let mut start = 0;
    for step in 0..2000 {
        let timestamp = step * 10;
        let batch = batch_at(log.log_end_offset().0, 1, 10, timestamp);
        if log.append(&[&batch], Millis(timestamp)).unwrap().is_rolled {
            spans.push(timestamp - start);
            start = timestamp;
        }
    }
    assert!(spans.iter().all(|span| *span <= 1010), "{spans:?}");
    assert!(spans.iter().min() < spans.iter().max(), "{spans:?}");
}

#[test]
fn a_failed_append_leaves_the_log_as_it_was() {
    for fault in [Fault::Short(30), Fault::Error(30, ENOSPC)] {
        let fixture = fixture();
        let mut log = fixture.log(small());
        log.fill_to(3, 1, 50);
        fixture.disk.plan(&[fault]);
        let error = log
            .append(&[&batch_at(3, 1, 50, 1)], Millis(1))
            .unwrap_err();
        assert!(error.is_cut_back());
        assert_eq!(error.cause.severity(), Severity::Retriable);
        assert_eq!(log.home.directory.state(), DirectoryState::Full);
        assert_eq!(offsets(&log.view(), 0, 99), upto(3));

        // Refused without a try, while reads go on; then there is room again.
        fixture.disk.set_usable_bytes(Some(100));
        fixture.disk.take_writes();
        assert!(log.append(&[&batch_at(3, 1, 50, 1)], Millis(1)).is_err());
        assert_eq!(fixture.disk.take_writes(), []);
        fixture.disk.set_usable_bytes(None);
        log.append_all(&[batch_at(3, 1, 50, 1)]);
        assert_eq!(log.home.directory.state(), DirectoryState::Online);
        assert_eq!(offsets(&log.view(), 0, 99), upto(4));
        log.view().check_indexes().unwrap();
    }
}

#[test]
fn a_log_that_cannot_be_cut_back_takes_no_more_appends() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(3, 1, 50);
    fixture.disk.plan(&[Fault::Short(30), Fault::Cut(EIO)]);
    assert!(
        !log.append(&[&batch_at(3, 1, 50, 1)], Millis(1))
            .unwrap_err()
            .is_cut_back()
    );
    let error = log
        .append(&[&batch_at(3, 1, 50, 1)], Millis(1))
        .unwrap_err();
    assert_eq!(error.cause.severity(), Severity::Replica);
    assert!(log.flush_plan(FlushScope::All).is_err());
    assert_eq!(offsets(&log.view(), 0, 99), upto(3));
}

#[test]
fn a_failing_device_takes_the_directory_offline() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    fixture.disk.plan(&[Fault::Error(0, EIO)]);
    let error = log
        .append(&[&batch_at(0, 1, 50, 1)], Millis(1))
        .unwrap_err();
    assert_eq!(error.cause.severity(), Severity::Directory);
    assert_eq!(log.home.directory.state(), DirectoryState::Offline);
    assert!(log.append(&[&batch_at(0, 1, 50, 1)], Millis(1)).is_err());
}

#[test]
fn a_full_disk_at_a_roll_is_retriable() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(6, 1, 200);
    let size = 2000 - log.active.file.end();
    // The index tails are what a roll writes.
    fixture.disk.plan(&[Fault::Error(0, ENOSPC)]);
    let large = batch_at(6, 1, usize::try_from(size).unwrap(), 1);
    let error = log.append(&[&large], Millis(1)).unwrap_err();
    assert!(error.is_cut_back());
    assert_eq!(fixture.names(".log").len(), 1);
    log.append_all(&[batch_at(6, 1, 10, 1), batch_at(7, 1, 1800, 1)]);
    assert_eq!(fixture.names(".log").len(), 2);
    assert_eq!(offsets(&log.view(), 0, 99), upto(8));
    log.view().check_indexes().unwrap();
}

#[test]
fn a_segment_prepared_ahead_is_only_renamed() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    assert!(!log.wants_next_segment());
    log.fill_to(7, 1, 200);
    assert!(log.wants_next_segment());
    log.prepare_next_segment().unwrap();
    assert!(!log.wants_next_segment());
    assert_eq!(fixture.names(".tmp").len(), 1);
    log.fill_to(20, 1, 200);
    assert_eq!(fixture.names(".tmp").len(), 0);
    log.prepare_next_segment().unwrap();
    drop(log);
    // What was prepared for nothing is removed.
    let log = fixture.log(small());
    assert_eq!(fixture.names(".tmp").len(), 0);
    assert_eq!(offsets(&log.view(), 0, 99), upto(20));
}

#[test]
#[should_panic(expected = "while the log ends at 2")]
fn an_offset_is_never_given_twice() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(2, 1, 10);
    let _ = log.append(&[&batch_at(1, 1, 10, 1)], Millis(1));
}

/// Row M7: what is written is never written again, however the log grows.
#[test]
fn bytes_below_the_end_never_change() {
    use std::os::unix::fs::MetadataExt;
    let fixture = fixture();
    let mut log = fixture.log(small());
    let mut before: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
    for end in (2..60).step_by(2) {
        log.fill_to(end, 1, 150);
        for name in fixture.names(".log") {
            let inode = std::fs::metadata(fixture.path(&name)).unwrap().ino();
            let content = std::fs::read(fixture.path(&name)).unwrap();
            if let Some((old_inode, old)) = before.get(&name) {
                assert_eq!((*old_inode, &old[..]), (inode, &content[..old.len()]));
            }
            before.insert(name, (inode, content));
        }
    }
}
