//! What a log knows of its segments' largest timestamps after a start, and what it does not
//! believe.
//!
//! Input: logs that are opened again, with files that were changed behind their back. Output:
//! assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use proptest::prelude::*;

use super::compacting::{compacting, forty};
use super::recovering::{checkpoint, shut_down};
use super::*;
use crate::log::inspect::{Finding, PartitionFiles, VerifyOptions, verify_partition};
use crate::log::segment::{SealedParts, SealedSegment};
use crate::log::segment_list::SegmentList;
use crate::log::segment_times::{self, SEGMENT_TIMESTAMPS};

const END: i64 = 60;

/// Timestamps that do not rise.
fn time_of(offset: i64) -> i64 {
    1000 + offset * 37 % 200
}

/// Batches of one record each and of the same size.
fn batches(from: i64, time_of: impl Fn(i64) -> i64) -> Vec<Vec<u8>> {
    let one = |base| batch(base, 0, 100, &[time_of(base)]);
    (from..END).map(one).collect()
}

/// A flushed log of a few segments, and its batches.
fn flushed() -> (Fixture, Log, Vec<Vec<u8>>) {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let batches = batches(0, time_of);
    log.append_all(&batches);
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    (fixture, log, batches)
}

/// The same, closed.
fn closed() -> Fixture {
    let (fixture, log, batches) = flushed();
    shut_down(log, &batches);
    fixture
}

/// Every lookup by time gives what a linear search would.
fn check_lookups(log: &Log, from: i64, end: i64, time_of: impl Fn(i64) -> i64) {
    let view = log.view();
    for timestamp in 990..1210 {
        let found = view.offset_for_timestamp(Millis(timestamp), Offset(end));
        let found = found.unwrap().map(|found| found.offset.0);
        let first = (from..end).find(|offset| time_of(*offset) >= timestamp);
        assert_eq!(found, first, "at or after {timestamp}");
    }
    let newest = view.max_timestamp(Offset(end)).unwrap();
    let first_newest = (from..end).rev().max_by_key(|offset| time_of(*offset));
    assert_eq!(newest.map(|newest| newest.offset.0), first_newest);
}

fn claims(fixture: &Fixture) -> usize {
    let content = std::fs::read(fixture.path(SEGMENT_TIMESTAMPS)).unwrap();
    let (entries, is_whole) = segment_times::decode(&content);
    assert!(is_whole);
    entries.len()
}

#[test]
fn the_first_lookup_by_time_opens_the_indexes_of_one_segment() {
    let fixture = closed();
    let log = fixture.log(small());
    assert!(log.sealed.len() > 4 && claims(&fixture) == log.sealed.len());
    let directory = Arc::clone(&log.home.directory);
    assert_eq!(directory.cold_files().maps, 0);
    let newest = log.sealed.iter().rev().nth(1).unwrap();
    let timestamp = newest.known_max_timestamp().unwrap().timestamp;
    let first = (0..END).find(|offset| time_of(*offset) >= timestamp.0);
    let found = log.view().offset_for_timestamp(timestamp, Offset(END));
    assert_eq!(found.unwrap().map(|found| found.offset.0), first);
    assert_eq!(directory.cold_files().maps, 2);
    drop(directory);
    check_lookups(&log, 0, END, time_of);
}

#[test]
fn the_file_grows_with_the_flushed_segments_and_forgets_those_that_are_gone() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        segment_bytes: 300,
        retention_bytes: Some(3000),
        retention_ms: None,
        ..small()
    });
    for round in 1..30 {
        let before = log.sealed.len();
        log.fill_to(round * 20, 1, 150);
        assert!(log.sealed.len() > before);
        if round > 1 {
            assert!(
                claims(&fixture) >= before,
                "what is not flushed is not told"
            );
        }
        log.flush(Millis(1)).unwrap();
        let bound = 2 * log.sealed.len() + 64 + 20;
        let told = claims(&fixture);
        assert!((log.sealed.len()..=bound).contains(&told), "{told}");
        for deleted in log.retain(Millis(1)) {
            deleted.remove(&*fixture.disk).unwrap();
        }
    }
}

#[test]
fn what_is_sealed_while_a_flush_runs_is_not_told_by_it() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.append_all(&batches(0, time_of)[..30]);
    let sealed = log.sealed.len();
    let plan = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
    log.append_all(&batches(30, time_of));
    assert!(log.sealed.len() > sealed);
    let flushed = plan.run().unwrap();
    let _ = log.complete_flush(&flushed, Millis(1));
    assert_eq!(claims(&fixture), sealed);
}

#[test]
fn without_the_file_or_with_any_damage_lookups_are_right_and_the_file_comes_back() {
    let whole = std::fs::read(closed().path(SEGMENT_TIMESTAMPS)).unwrap();
    let mut damages: Vec<Option<Vec<u8>>> = vec![None, Some(vec![0; 4000])];
    damages.extend(
        (0..whole.len())
            .step_by(3)
            .map(|length| Some(whole[..length].to_vec())),
    );
    damages.extend((0..whole.len()).step_by(3).map(|at| {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        Some(bad)
    }));
    for damage in damages {
        let fixture = closed();
        let path = fixture.path(SEGMENT_TIMESTAMPS);
        match &damage {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let mut log = fixture.log(small());
        // Whatever stands behind the damage must not be believed when that has healed.
        let is_whole = damage.is_some_and(|content| segment_times::decode(&content).1);
        assert_eq!(path.exists(), is_whole);
        check_lookups(&log, 0, END, time_of);
        // The next time that somebody asks what there is to flush.
        assert!(log.flush_plan(FlushScope::Sealed).unwrap().is_none());
        assert_eq!(claims(&fixture), log.sealed.len());
        drop(log);
        let log = fixture.log(small());
        check_lookups(&log, 0, END, time_of);
        assert!(log.home.directory.cold_files().maps > 0);
    }
}

/// The log takes other batches of the same sizes and the same epoch behind a truncation.
#[test]
fn what_a_truncation_took_is_not_claimed_of_what_came_after() {
    let other = |offset| 1000 + offset * 53 % 200;
    for (target, fails) in (0..END).flat_map(|target| [(target, false), (target, true)]) {
        let (fixture, mut log, _) = flushed();
        assert!(claims(&fixture) > 3);
        log.truncate_to(Offset(target), Millis(1)).unwrap();
        assert!(!fixture.path(SEGMENT_TIMESTAMPS).exists());
        let time_of = |offset| match offset < target {
            true => time_of(offset),
            false => other(offset),
        };
        log.append_all(&batches(target, time_of));
        if fails {
            // Nothing of this log is told: what an earlier one left must not count either.
            std::fs::create_dir(fixture.path("segment-timestamps.tmp")).unwrap();
        }
        log.flush(Millis(1)).unwrap();
        assert_eq!(fixture.path(SEGMENT_TIMESTAMPS).exists(), !fails);
        checkpoint(&log);
        drop(log);
        let _ = std::fs::remove_dir(fixture.path("segment-timestamps.tmp"));
        check_lookups(&fixture.log(small()), 0, END, time_of);
    }
}

/// A crash may bring a segment back as the one that grows, which the file tells of.
#[test]
fn a_file_that_tells_of_the_segment_that_grows_goes() {
    let (fixture, log, _) = flushed();
    let start = BTreeMap::from([(orders(), Offset(0))]);
    let directory = Arc::clone(&log.home.directory);
    (directory.write_checkpoint(CheckpointFile::RecoveryPoint, &start)).unwrap();
    drop((log, directory));
    let last = fixture.names(".log").pop().unwrap();
    std::fs::remove_file(fixture.path(&last)).unwrap();
    let mut log = fixture.log(LogConfig::default());
    assert!(!fixture.path(SEGMENT_TIMESTAMPS).exists());
    let end = log.log_end_offset().0;
    assert!(end < END);
    check_lookups(&log, 0, end, time_of);
    // The same size again, but other timestamps.
    let base = log.active.base_offset.0;
    log.truncate_to(Offset(base), Millis(1)).unwrap();
    let other = |offset| if offset < base { time_of(offset) } else { 1100 };
    log.append_all(&batches(base, other));
    check_lookups(&log, 0, END, other);
}

/// Another program, such as Kafka, has cut the log and filled it up again, with other records of
/// the same size in a later epoch.
#[test]
fn a_claim_counts_in_its_leader_epoch_only() {
    let other = |offset| 1000 + offset * 53 % 200;
    let donor = fixture();
    let mut log = donor.log(small());
    let all: Vec<_> = (0..END)
        .map(|base| batch(base, 3, 100, &[other(base)]))
        .collect();
    log.append_all(&all);
    shut_down(log, &all);
    std::fs::remove_file(donor.path(SEGMENT_TIMESTAMPS)).unwrap();
    let fixture = closed();
    for entry in std::fs::read_dir(donor.path("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::copy(&path, fixture.path(name)).unwrap();
    }
    let log = fixture.log(small());
    assert!(
        log.sealed
            .iter()
            .all(|segment| segment.known_max_timestamp().is_none())
    );
    check_lookups(&log, 0, END, other);
}

#[test]
fn a_claim_counts_for_its_size_only() {
    let fixture = closed();
    let first = fixture.names(".log")[0].clone();
    let length = std::fs::metadata(fixture.path(&first)).unwrap().len();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(fixture.path(&first))
        .unwrap();
    file.set_len(length - batches(END - 1, time_of)[0].len() as u64)
        .unwrap();
    let log = fixture.log(small());
    let known = |segment: &Arc<SealedSegment>| segment.known_max_timestamp().is_some();
    assert!(!known(log.sealed.first().unwrap()) && known(log.sealed.last().unwrap()));
}

/// With checksums and all: only the index can tell.
#[test]
fn a_wrong_claim_is_found_where_it_leads_and_none_is_believed_any_more() {
    for (number, timestamp) in [(0, 1500), (1, 1198), (3, 5000)] {
        let fixture = closed();
        let path = fixture.path(SEGMENT_TIMESTAMPS);
        let (mut entries, _) = segment_times::decode(&std::fs::read(&path).unwrap());
        entries[number].newest.timestamp = Millis(timestamp);
        std::fs::write(&path, segment_times::whole(&entries)).unwrap();
        // The first question of all, before any lookup has found it out.
        let newest = fixture.log(small()).view().max_timestamp(Offset(END));
        assert_eq!(
            newest.unwrap().map(|newest| newest.offset),
            Some(Offset(27))
        );
        let mut log = fixture.log(small());
        let claimed = log.sealed.get(number).unwrap().known_max_timestamp();
        assert_eq!(claimed.unwrap().timestamp, Millis(timestamp));
        check_lookups(&log, 0, END, time_of);
        assert!(log.home.claims.are_wrong());
        assert!(log.flush_plan(FlushScope::Sealed).unwrap().is_none());
        drop(log);
        let log = fixture.log(small());
        check_lookups(&log, 0, END, time_of);
        assert!(!log.home.claims.are_wrong());
    }
}

#[test]
fn verify_tells_of_a_wrong_claim_and_of_no_torn_one() {
    let fixture = closed();
    let path = fixture.path(SEGMENT_TIMESTAMPS);
    let good = std::fs::read(&path).unwrap();
    let damages = || {
        let files = PartitionFiles::list(&*fixture.disk, &fixture.path("")).unwrap();
        let options = VerifyOptions {
            unpacked_max_bytes: None,
            pause: &|| {},
        };
        let mut told = Vec::new();
        let tell = &mut |finding: Finding| told.push((finding.path, finding.offset));
        verify_partition(&*fixture.disk, &files, &options, tell).unwrap();
        told
    };
    assert_eq!(damages(), []);
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert_eq!(damages(), []);
    let (mut entries, _) = segment_times::decode(&good);
    entries[1].newest.timestamp = Millis(7);
    std::fs::write(&path, segment_times::whole(&entries)).unwrap();
    assert_eq!(damages(), [(path.clone(), Some(entries[1].base_offset))]);
    // No node believes it of a segment of another size.
    entries[1].size += 1;
    std::fs::write(&path, segment_times::whole(&entries)).unwrap();
    assert_eq!(damages(), []);
}

/// A compaction while the log is read: the new segment may have the size of the old one.
#[test]
fn a_claim_that_is_made_while_the_log_is_read_is_not_of_what_was_read() {
    let fixture = closed();
    let path = fixture.path(SEGMENT_TIMESTAMPS);
    let good = std::fs::read(&path).unwrap();
    let (mut entries, _) = segment_times::decode(&good);
    entries[1].newest.timestamp = Millis(7);
    let other = segment_times::whole(&entries);
    // A torn end makes `verify` pause, with all before it read.
    let last = fixture.path(fixture.names(".log").last().unwrap());
    let torn = [&std::fs::read(&last).unwrap()[..], b"torn"].concat();
    std::fs::write(&last, torn).unwrap();
    for (before, behind, damages) in [
        (&good, &good, 0),
        (&good, &other, 0),
        (&other, &good, 0),
        (&other, &other, 1),
    ] {
        std::fs::write(&path, before).unwrap();
        let files = PartitionFiles::list(&*fixture.disk, &fixture.path("")).unwrap();
        let pauses = std::cell::Cell::new(0);
        let pause = || {
            pauses.set(pauses.get() + 1);
            std::fs::write(&path, behind).unwrap();
        };
        let options = VerifyOptions {
            unpacked_max_bytes: None,
            pause: &pause,
        };
        let verified = verify_partition(&*fixture.disk, &files, &options, &mut |_| {}).unwrap();
        assert!(pauses.get() > 0);
        assert_eq!(verified.damages, damages);
    }
}

/// Nothing is deleted because the file says so.
#[test]
fn retention_reads_the_index() {
    let fixture = closed();
    let path = fixture.path(SEGMENT_TIMESTAMPS);
    let (mut entries, _) = segment_times::decode(&std::fs::read(&path).unwrap());
    entries
        .iter_mut()
        .for_each(|entry| entry.newest.timestamp = Millis(1));
    std::fs::write(&path, segment_times::whole(&entries)).unwrap();
    let mut log = fixture.log(LogConfig {
        retention_ms: Some(Millis(500)),
        ..small()
    });
    log.publish_all();
    assert!(log.retain(Millis(1500)).is_empty());
    assert_eq!(log.log_start_offset(), Offset(0));
}

#[test]
fn a_compacted_segment_is_claimed_as_it_is() {
    let (fixture, mut log) = forty();
    assert_eq!(claims(&fixture), log.sealed.len());
    log.compact(2000).unwrap();
    let newest = |log: &Log| -> Vec<_> {
        let known = |segment: &Arc<SealedSegment>| segment.known_max_timestamp();
        log.sealed.iter().map(known).collect()
    };
    let expected = newest(&log);
    assert!(log.flush_plan(FlushScope::Sealed).unwrap().is_none());
    assert_eq!(claims(&fixture), log.sealed.len());
    checkpoint(&log);
    drop(log);
    assert_eq!(newest(&fixture.log(compacting())), expected);
}

#[test]
fn a_failure_to_tell_is_not_the_logs() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    std::fs::create_dir(fixture.path(SEGMENT_TIMESTAMPS)).unwrap();
    log.append_all(&batches(0, time_of));
    assert_eq!(log.flush(Millis(1)).unwrap(), Offset(END));
    assert!(!log.is_broken());
    std::fs::remove_dir(fixture.path(SEGMENT_TIMESTAMPS)).unwrap();
    assert!(log.flush_plan(FlushScope::Sealed).unwrap().is_none());
    assert_eq!(claims(&fixture), log.sealed.len());
}

#[derive(Clone, Debug)]
enum Change {
    Push(usize),
    WithoutFirst(prop::sample::Index),
    First(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (1_usize..9).prop_map(Change::Push),
        2 => any::<prop::sample::Index>().prop_map(Change::WithoutFirst),
        1 => any::<prop::sample::Index>().prop_map(Change::First),
    ]
}

fn check_list(list: &SegmentList, expected: &[Arc<SealedSegment>]) {
    assert_eq!(list.len(), expected.len());
    assert!(
        list.iter()
            .zip(expected)
            .all(|(one, other)| Arc::ptr_eq(one, other))
    );
    assert!(list.iter().rev().eq_by_ptr(expected.iter().rev()));
    for number in 0..expected.len() + 5 {
        let (one, other) = (list.get(number), expected.get(number));
        assert_eq!(one.map(Arc::as_ptr), other.map(Arc::as_ptr));
    }
    assert_eq!(
        list.first().map(Arc::as_ptr),
        expected.first().map(Arc::as_ptr)
    );
    assert_eq!(
        list.last().map(Arc::as_ptr),
        expected.last().map(Arc::as_ptr)
    );
    let bytes: u64 = expected.iter().map(|segment| segment.end_position).sum();
    assert_eq!(list.size_in_bytes(), bytes);
    let max = |segment: &Arc<SealedSegment>| segment.max_timestamp().unwrap();
    for from in 0..expected.len() + 2 {
        let rest = expected.get(from..).unwrap_or_default();
        let newest = rest.iter().map(max).rev().max_by_key(|max| max.timestamp);
        let found = list.newest(from).unwrap();
        assert_eq!(found, newest.unwrap_or(TimestampOffset::NONE));
        for timestamp in (0..25).map(Millis) {
            let reaching = rest
                .iter()
                .position(|segment| max(segment).timestamp >= timestamp);
            let found = list.first_reaching(from, timestamp).unwrap();
            assert_eq!(found, reaching.map(|at| from + at));
        }
    }
    let end = expected.last().map_or(0, |last| last.end_offset.0);
    for offset in -1..=end {
        let begun = expected
            .iter()
            .filter(|segment| segment.base_offset.0 <= offset);
        assert_eq!(list.begun_by(Offset(offset)), begun.count());
    }
}

trait EqByPtr<'a> {
    fn eq_by_ptr(self, other: impl Iterator<Item = &'a Arc<SealedSegment>>) -> bool;
}

impl<'a, I: Iterator<Item = &'a Arc<SealedSegment>>> EqByPtr<'a> for I {
    fn eq_by_ptr(self, other: impl Iterator<Item = &'a Arc<SealedSegment>>) -> bool {
        self.map(Arc::as_ptr).eq(other.map(Arc::as_ptr))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_list_of_segments_is_a_vector(changes in prop::collection::vec(change(), 1..20)) {
        let fixture = fixture();
        let home = Arc::clone(&fixture.log(small()).home);
        let (mut list, mut expected, mut base) = (SegmentList::default(), Vec::new(), 0);
        for change in changes {
            match change {
                Change::Push(count) => for _ in 0..count {
                    let parts = SealedParts {
                        base_offset: Offset(base),
                        end_offset: Offset(base + 1 + base % 3),
                        end_position: 100 + base.unsigned_abs(),
                        interval_bytes: 1,
                    };
                    let segment = SealedSegment::found(&home, parts);
                    let newest = TimestampOffset {
                        timestamp: Millis(base * 7 % 23),
                        offset: Offset(base),
                    };
                    segment.claim(newest);
                    base = segment.end_offset.0;
                    list = list.with(Arc::clone(&segment));
                    expected.push(segment);
                },
                Change::WithoutFirst(index) => {
                    let count = index.index(expected.len() + 1);
                    list = list.without_first(count);
                    expected.drain(..count);
                }
                Change::First(index) => {
                    expected.truncate(index.index(expected.len() + 1));
                    list = list.iter().take(expected.len()).cloned().collect();
                }
            }
            check_list(&list, &expected);
        }
    }
}
