//! Looking at a log's files from outside.
//!
//! Input: logs whose files were changed behind their back. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use std::path::Path;

use skein_env::real::RealDisk;
use skein_record::{Record, crc32c};

use super::recovering::{checkpoint, shut_down};
use super::*;
use crate::atomic_file::FILE_MAX_BYTES;
use crate::log::inspect::{
    Finding, IndexEntry, Located, PartitionFiles, SegmentWalk, Step, Verified, VerifyOptions,
    Weight, locate_offset, locate_timestamp, verify_log_directory, verify_partition,
};

const END: i64 = 60;
const UNPACKED_MAX: usize = 1 << 20;

/// A flushed log of several segments, batches of one to three records, two leader epochs; closed.
fn written() -> Fixture {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let mut base = 0;
    while base < END {
        let count = (base % 3 + 1).min(END - base);
        let timestamps: Vec<i64> = (base..base + count).map(time_of).collect();
        let epoch = i32::from(base >= 20);
        log.append_all(&[batch(base, epoch, 100, &timestamps)]);
        base += count;
    }
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    fixture
}

fn time_of(offset: i64) -> i64 {
    1000 + 10 * offset
}

fn files(fixture: &Fixture) -> PartitionFiles {
    PartitionFiles::list(&RealDisk, &fixture.path("")).unwrap()
}

fn options(unpacked_max_bytes: Option<usize>) -> VerifyOptions<'static> {
    VerifyOptions {
        unpacked_max_bytes,
        pause: &|| {},
    }
}

fn verify(fixture: &Fixture) -> (Verified, Vec<Finding>) {
    let mut findings = Vec::new();
    let verified = verify_partition(
        &RealDisk,
        &files(fixture),
        &options(Some(UNPACKED_MAX)),
        &mut |one| {
            findings.push(one);
        },
    );
    (verified.unwrap(), findings)
}

fn damages(fixture: &Fixture) -> Vec<String> {
    let (verified, findings) = verify(fixture);
    let damages: Vec<_> = findings
        .iter()
        .filter(|finding| finding.weight == Weight::Damage)
        .map(|finding| finding.what.clone())
        .collect();
    assert_eq!(verified.damages, damages.len() as u64 + verified.untold);
    damages
}

/// Changes the file, looks, and puts it back.
fn with_changed(fixture: &Fixture, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let path = fixture.path(name);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    change(&mut bad);
    std::fs::write(&path, bad).unwrap();
    let damages = damages(fixture);
    std::fs::write(&path, good).unwrap();
    damages
}

#[test]
fn a_good_log_has_no_findings() {
    let fixture = written();
    let (verified, findings) = verify(&fixture);
    assert_eq!(findings, []);
    assert!(verified.segments > 3 && verified.index_entries > 10);
    assert_eq!(verified.records, u64::try_from(END).unwrap());
    assert_eq!(verified.first_offset, Offset(0));
    assert_eq!(verified.end_offset, Offset(END));
}

/// DeleteRecords to the middle of a segment: epochs before it are forgotten, its batches not yet.
#[test]
fn batches_below_the_logs_start_need_no_epoch() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let batches: Vec<Vec<u8>> = (0..END).map(|base| batch_at(base, 1, 100, 1000)).collect();
    log.append_all(&batches);
    log.publish(Offset(END), Offset(END));
    log.advance_log_start(Offset(5)).unwrap();
    shut_down(log, &batches);
    let epochs = std::fs::read_to_string(fixture.path("leader-epoch-checkpoint")).unwrap();
    assert_eq!(epochs, "0\n1\n0 5\n");
    assert_eq!(damages(&fixture), [""; 0]);
}

/// A node deletes old segments while they are looked at: their names were listed before.
#[test]
fn a_segment_that_goes_meanwhile_is_no_gap() {
    let fixture = written();
    let listed = files(&fixture);
    for name in &fixture.names(".log")[1..3] {
        std::fs::remove_file(fixture.path(name)).unwrap();
    }
    let mut found = Vec::new();
    let options = options(Some(UNPACKED_MAX));
    verify_partition(&RealDisk, &listed, &options, &mut |one| found.push(one)).unwrap();
    let told: Vec<_> = found.iter().map(|one| (one.weight, &*one.what)).collect();
    assert_eq!(told, [(Weight::Note, "the file was removed meanwhile"); 2]);
}

/// A start cuts off what a crash may have torn, and all behind it.
#[test]
fn damage_that_was_not_flushed_is_to_be_mended_before_the_next_start() {
    let fixture = written();
    let middle = fixture.names(".log")[1].clone();
    let recovery_points = fixture.path("../recovery-point-offset-checkpoint");
    for (is_flushed, expected) in [
        (true, "until then readers"),
        (false, "before the next start"),
    ] {
        if !is_flushed {
            std::fs::remove_file(&recovery_points).unwrap();
        }
        let path = fixture.path(&middle);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[100] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let (_, findings) = verify(&fixture);
        let remedies: Vec<_> = findings.iter().map(|finding| finding.remedy).collect();
        assert!(
            matches!(remedies[..], [remedy] if remedy.contains(expected)),
            "{findings:?}"
        );
        std::fs::write(&path, &good).unwrap();
    }
}

#[test]
fn every_changed_byte_of_a_log_is_found() {
    let fixture = written();
    for (name, step) in [
        (&fixture.names(".log")[1], 1),
        (fixture.names(".log").last().unwrap(), 7),
    ] {
        let length = std::fs::read(fixture.path(name)).unwrap().len();
        for at in (0..length).step_by(step) {
            let damages = with_changed(&fixture, name, |bytes| bytes[at] ^= 1);
            assert!(!damages.is_empty(), "{name} byte {at}");
        }
    }
}

#[test]
fn index_entries_that_the_log_does_not_bear_out_are_found() {
    let fixture = written();
    let index = fixture.names(".index")[1].clone();
    let times = fixture.names(".timeindex")[1].clone();
    type Case<'a> = (&'a str, &'a str, fn(&mut Vec<u8>), &'a str);
    let cases: Vec<Case<'_>> = vec![
        (
            "position",
            &index,
            |bytes| bytes[15] += 1,
            "no batch begins at byte",
        ),
        (
            "lower offset",
            &index,
            |bytes| bytes[11] -= 1,
            "its batch ends at",
        ),
        (
            "higher offset",
            &index,
            |bytes| bytes[11] += 1,
            "no batch from its own on ends there",
        ),
        (
            "beyond",
            &index,
            |bytes| bytes.extend([0, 0, 9, 0, 0, 0, 99, 0]),
            "beyond the end",
        ),
        (
            "twice",
            &index,
            |bytes| bytes.extend_from_within(bytes.len() - 8..),
            "does not rise",
        ),
        (
            "odd",
            &index,
            |bytes| bytes.push(1),
            "1 bytes behind the last whole entry",
        ),
        (
            "time",
            &times,
            |bytes| bytes[7] += 1,
            "the batches say otherwise",
        ),
        (
            "time offset",
            &times,
            |bytes| bytes[11] += 3,
            "the batches say otherwise",
        ),
        (
            "short",
            &times,
            |bytes| bytes.truncate(bytes.len() - 12),
            "lookups by time miss",
        ),
        ("empty", &times, Vec::clear, "lookups by time miss"),
    ];
    for (case, name, change, expected) in cases {
        let damages = with_changed(&fixture, name, change);
        assert!(
            damages.iter().any(|told| told.contains(expected)),
            "{case}: {damages:?}"
        );
    }
    // Kafka lengthens the indexes of a segment that grows with zeros.
    let zeros = |bytes: &mut Vec<u8>| bytes.resize(bytes.len() + 800, 0);
    assert_eq!(with_changed(&fixture, &index, zeros), [""; 0]);
}

#[test]
fn files_beside_the_log_that_do_not_fit_it_are_found() {
    let fixture = written();
    let epochs = "leader-epoch-checkpoint";
    let epoch = with_changed(&fixture, epochs, |text| *text = b"0\n1\n0 0\n".to_vec());
    assert!(
        epoch[0].contains("leader epoch 0 for offset 21"),
        "{epoch:?}"
    );
    let garbage = with_changed(&fixture, epochs, |text| *text = b"garbage".to_vec());
    assert_eq!(garbage.len(), 1, "{garbage:?}");

    std::fs::write(fixture.path("00000000000000000030.snapshot"), "garbage").unwrap();
    assert_eq!(damages(&fixture).len(), 1);
    let snapshot = ProducerStates::starting_at(Offset(END + 1)).snapshot();
    let beyond = fixture.path(&format!("{:020}.snapshot", END + 1));
    std::fs::write(fixture.path("00000000000000000030.snapshot"), &snapshot).unwrap();
    std::fs::write(&beyond, snapshot).unwrap();
    assert!(damages(&fixture)[0].contains("above the log's end"));
    std::fs::remove_file(beyond).unwrap();

    let recovery_points = fixture
        .temporary
        .path()
        .join("recovery-point-offset-checkpoint");
    std::fs::write(&recovery_points, format!("0\n1\norders 0 {}\n", END + 1)).unwrap();
    assert!(damages(&fixture)[0].contains("the log ends at 60"));

    std::fs::write(fixture.path("00000000000000000099.index"), "").unwrap();
    std::fs::write(fixture.path("00000000000000000099.log.deleted"), "").unwrap();
    std::fs::remove_file(recovery_points).unwrap();
    let (_, findings) = verify(&fixture);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(
        findings
            .iter()
            .all(|finding| finding.weight == Weight::Note)
    );
}

#[test]
fn each_garbled_checkpoint_is_told_once_with_its_line_and_what_to_do() {
    let fixture = written();
    let directory = fixture.temporary.path();
    let verified = || {
        let mut findings = Vec::new();
        let damages =
            verify_log_directory(&RealDisk, directory, &mut |one| findings.push(one)).unwrap();
        assert_eq!(damages, findings.len() as u64);
        findings
    };
    assert_eq!(verified(), []);
    let mut remedies = std::collections::BTreeSet::new();
    for name in [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "log-start-offset-checkpoint",
        "cleaner-offset-checkpoint",
    ] {
        let path = directory.join(name);
        let good = std::fs::read(&path).unwrap_or_default();
        for (garbage, told) in [
            ("rubbish\n", "line 1: the version is not 0"),
            ("\u{0}\u{0}", "line 1: the version is not 0"),
            ("0\nmany\n", "line 2: the number of entries is missing"),
            ("0\n1\norders 0\n", "line 3: this is not: topic partition"),
            ("0\n7\norders 0 9\n", "line 3: the number of entries is not"),
            ("too long", "line 1: the file is too long"),
        ] {
            std::fs::write(&path, garbage).unwrap();
            if garbage == "too long" {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.set_len(FILE_MAX_BYTES + 1).unwrap();
            }
            let findings = verified();
            assert_eq!(findings.len(), 1, "{name}: {findings:?}");
            let finding = &findings[0];
            assert_eq!((&finding.path, finding.weight), (&path, Weight::Damage));
            assert!(finding.what.starts_with(told), "{finding:?}");
            remedies.insert(finding.remedy);
            // It says nothing of the partition, and is not told for each one.
            assert_eq!(damages(&fixture), [""; 0], "{name}: {told}");
        }
        // As Kafka makes it, long before it writes there.
        std::fs::write(&path, "").unwrap();
        assert_eq!(verified(), []);
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(
        remedies.len(),
        4,
        "a file's remedy is its own: {remedies:?}"
    );
}

#[test]
fn missing_offsets_are_damage_above_the_cleaners_checkpoint_only() {
    let fixture = written();
    let second = fixture.names(".log")[1].clone();
    let path = fixture.path(&second);
    let good = std::fs::read(&path).unwrap();
    let first_batch = SegmentWalk::open(&RealDisk, &path).unwrap().next().unwrap();
    let Some(Step::Batch(first)) = first_batch else {
        panic!()
    };
    std::fs::write(&path, &good[usize::try_from(first.end()).unwrap()..]).unwrap();
    for name in [
        second.replace(".log", ".index"),
        second.replace(".log", ".timeindex"),
    ] {
        std::fs::remove_file(fixture.path(&name)).unwrap();
    }
    let told = damages(&fixture);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("are missing"));
    let cleaner = fixture.temporary.path().join("cleaner-offset-checkpoint");
    std::fs::write(cleaner, "0\n1\norders 0 50\n").unwrap();
    assert_eq!(damages(&fixture), [""; 0]);
    // A whole segment.
    std::fs::write(
        fixture.temporary.path().join("cleaner-offset-checkpoint"),
        "0\n0\n",
    )
    .unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(damages(&fixture)[0].contains("are missing"));
}

#[test]
fn zeros_and_a_torn_batch_are_legal_where_a_node_leaves_them() {
    let fixture = written();
    let last = fixture.names(".log").last().unwrap().clone();
    let zeros = |bytes: &mut Vec<u8>| bytes.resize(bytes.len() + 300_000, 0);
    assert_eq!(with_changed(&fixture, &last, zeros), [""; 0]);
    let in_between = with_changed(&fixture, &fixture.names(".log")[1], zeros);
    assert!(in_between[0].contains("zeros at the end of a segment that is not the last"));
    let not_all = with_changed(&fixture, &last, |bytes| {
        bytes.resize(bytes.len() + 300_000, 0);
        *bytes.last_mut().unwrap() = 1;
    });
    // Behind the recovery point: a crash may leave anything, and the next start cuts it.
    assert_eq!(not_all, [""; 0]);
    let torn = with_changed(&fixture, &last, |bytes| bytes.truncate(bytes.len() - 1));
    assert!(
        torn[0].contains("the file ends after"),
        "below it: {torn:?}"
    );
}

#[test]
fn records_that_do_not_unpack_are_found_only_when_asked_for() {
    let fixture = written();
    let last = fixture.names(".log").last().unwrap().clone();
    let path = fixture.path(&last);
    let mut bytes = std::fs::read(&path).unwrap();
    // The first record's length, under a checksum that is right.
    bytes[61] = 3;
    let end = 12 + usize::try_from(u32::from_be_bytes(bytes[8..12].try_into().unwrap())).unwrap();
    let crc = crc32c(&bytes[21..end]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    assert!(damages(&fixture)[0].contains("record 0"));
    let mut told = 0;
    verify_partition(&RealDisk, &files(&fixture), &options(None), &mut |_| {
        told += 1
    })
    .unwrap();
    assert_eq!(told, 0);
}

#[test]
fn a_length_that_lies_costs_no_memory_and_many_findings_are_counted() {
    let fixture = written();
    let last = fixture.names(".log").last().unwrap().clone();
    let damages = with_changed(&fixture, &last, |bytes| {
        bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    });
    assert!(
        damages[0].contains("the batch has 2147483659 bytes"),
        "{damages:?}"
    );
    let index = fixture.names(".index")[1].clone();
    let path = fixture.path(&index);
    std::fs::write(path, [0, 0, 0, 1, 0, 0, 0, 5].repeat(100)).unwrap();
    let (verified, findings) = verify(&fixture);
    assert_eq!(findings.len(), 20);
    assert_eq!(verified.untold, 80);
}

#[test]
fn offsets_and_times_are_located_as_the_log_finds_them() {
    let fixture = written();
    let files = files(&fixture);
    let log = fixture.log(small());
    let view = log.view();
    for target in 0..END {
        let located = locate_offset(&RealDisk, &files, Offset(target), UNPACKED_MAX).unwrap();
        let range = view
            .read(Offset(target), 1, Offset(END), true)
            .unwrap()
            .unwrap();
        let batch = located.batch.unwrap();
        assert_eq!(batch.position, range.position, "offset {target}");
        // Entries of the segment that grows are in the node's memory first.
        if Offset(target) < *files.segments.last().unwrap() {
            assert_eq!(located.walked_bytes, range.scanned_bytes, "offset {target}");
        }
        assert_eq!(
            located.record,
            Some((Offset(target), Millis(time_of(target))))
        );
        assert!(located.walked_bytes < 1500, "offset {target}: {located:?}");
        assert!(located.indexes.iter().all(|index| !index.is_wrong));
    }
    for timestamp in 990..time_of(END) {
        let located = locate_timestamp(&RealDisk, &files, Millis(timestamp), UNPACKED_MAX).unwrap();
        let found = view
            .offset_for_timestamp(Millis(timestamp), Offset(END))
            .unwrap();
        let found = found.map(|found| (found.offset, found.timestamp));
        assert_eq!(located.record, found, "timestamp {timestamp}");
        assert!(
            located.walked_bytes < 1500,
            "timestamp {timestamp}: {located:?}"
        );
    }
    let beyond = locate_offset(&RealDisk, &files, Offset(END), UNPACKED_MAX).unwrap();
    assert_eq!((beyond.batch, beyond.note), (None, None));
}

#[test]
fn a_wrong_entry_and_damage_on_the_way_are_told() {
    let fixture = written();
    let index = fixture.path(&fixture.names(".index")[1]);
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[15] += 1;
    std::fs::write(&index, bytes).unwrap();
    let files = files(&fixture);
    let base = files.segments[1];
    let wrong = |located: &Located| located.indexes.iter().any(|index| index.is_wrong);
    let used = (base.0..END).find_map(|target| {
        let located = locate_offset(&RealDisk, &files, Offset(target), UNPACKED_MAX).unwrap();
        assert_eq!(located.record.unwrap().0, Offset(target));
        wrong(&located).then_some(located)
    });
    let used = used.unwrap();
    assert!(matches!(
        used.indexes[0].used,
        Some((1, IndexEntry::Offset { .. }))
    ));
    assert_eq!(used.walk_start, 0);

    std::fs::remove_file(&index).unwrap();
    let log = fixture.path(&fixture.names(".log")[1]);
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[16] = 9;
    std::fs::write(&log, bytes).unwrap();
    let located = locate_offset(&RealDisk, &files, base, UNPACKED_MAX).unwrap();
    assert_eq!(located.batch, None);
    assert!(located.note.unwrap().contains("at byte 0"));
}

#[test]
fn a_batch_is_read_in_pieces_and_its_records_whole() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    log.append_all(&[batch_at(0, 2, 400_000, 5), batch_at(2, 1, 10, 7)]);
    let mut walk = SegmentWalk::open(&RealDisk, &files(&fixture).log_path(Offset(0))).unwrap();
    let Some(Step::Batch(large)) = walk.next().unwrap() else {
        panic!()
    };
    assert!(!large.is_checksum_wrong());
    assert_eq!(walk.read(&large, 1000).unwrap(), None);
    let bytes = walk.read(&large, UNPACKED_MAX).unwrap().unwrap();
    let records = BatchView::parse(&bytes)
        .unwrap()
        .records(UNPACKED_MAX)
        .unwrap();
    let offsets: Vec<_> = records
        .iter()
        .map(|one: Result<Record<'_>, _>| one.unwrap().offset)
        .collect();
    assert_eq!(offsets, [Offset(0), Offset(1)]);
    assert!(matches!(walk.next().unwrap(), Some(Step::Batch(small)) if !small.is_checksum_wrong()));
    assert_eq!(walk.next().unwrap(), None);
}

/// The findings in a log directory, and in its one partition.
fn found(fixture: &Fixture) -> [Vec<Finding>; 2] {
    let (mut beside, directory) = (Vec::new(), fixture.temporary.path());
    verify_log_directory(&RealDisk, directory, &mut |one| beside.push(one)).unwrap();
    [beside, verify(fixture).1]
}

#[test]
fn a_partition_that_is_gone_or_empty_is_told() {
    let fixture = written();
    let directory = fixture.temporary.path();
    let recovery_points = directory.join("recovery-point-offset-checkpoint");
    std::fs::write(&recovery_points, "0\n2\norders 0 60\nunused 3 0\n").unwrap();
    assert_eq!(found(&fixture), [vec![], vec![]]);

    let partition = fixture.path("");
    let elsewhere = directory.join("elsewhere");
    std::fs::rename(&partition, &elsewhere).unwrap();
    let mut beside = Vec::new();
    verify_log_directory(&RealDisk, directory, &mut |one| beside.push(one)).unwrap();
    assert_eq!(beside.len(), 1, "{beside:?}");
    assert_eq!(beside[0].path, directory.join("orders-0"));
    assert_eq!(
        beside[0].what,
        "it is missing, and its recovery point is 60"
    );

    std::fs::create_dir(&partition).unwrap();
    let [beside, within] = found(&fixture);
    assert_eq!((beside.len(), within.len()), (0, 1), "{within:?}");
    assert!(within[0].what.starts_with("its segments are missing"));
}

#[test]
fn files_of_another_kind_and_ids_that_cannot_be_read_are_told() {
    let fixture = written();
    let directory = fixture.temporary.path();
    let misplaced = [
        fixture.path("leader-epoch-checkpoint"),
        fixture.path("00000000000000000099.log"),
    ];
    for path in &misplaced {
        let _was_there = std::fs::remove_file(path);
        std::fs::create_dir(path).unwrap();
    }
    let cleaned = directory.join("cleaner-offset-checkpoint");
    std::fs::create_dir(&cleaned).unwrap();
    let meta = directory.join("meta.properties");
    std::fs::write(&meta, "#\nversion=7\n").unwrap();
    let topic_id = fixture.path("partition.metadata");
    std::fs::write(&topic_id, "version: 0\ntopic_id: nobody's\n").unwrap();

    let [beside, within] = found(&fixture);
    let told = |findings: &[Finding], path: &Path| {
        let mut told = findings.iter().filter(|finding| finding.path == *path);
        let finding = told
            .next()
            .unwrap_or_else(|| panic!("{path:?}: {findings:?}"));
        assert!(told.next().is_none(), "{path:?}: {findings:?}");
        finding.weight
    };
    for path in [&meta, &cleaned] {
        assert_eq!(told(&beside, path), Weight::Damage);
    }
    for path in &misplaced {
        assert_eq!(told(&within, path), Weight::Damage);
    }
    assert_eq!(told(&within, &topic_id), Weight::Note);
}
