//! The metadata log, whole and damaged.

#![allow(clippy::unwrap_used)] // a test: what fails here is the verdict

use std::io::IoSlice;

use skein_env::OpenMode;
use skein_env::sim::SimWorld;

use super::*;
use crate::testing::{batch, batches, control, leader_change, producer_ids, topic, write};

const DIR: &str = "/d/__cluster_metadata-0";

/// Reads a log of these files.
fn read_files(files: &[(&str, Vec<u8>)], was_clean: bool) -> Result<MetadataLog, ImportError> {
    let world = SimWorld::new(1);
    let env = world.node("a");
    let directory = Path::new(DIR);
    env.disk.create_directory(directory).unwrap();
    for (name, content) in files {
        write(&*env.disk, &directory.join(name), content);
    }
    read(&*env.disk, directory, was_clean)
}

const FIRST: &str = "00000000000000000000.log";

fn names(log: &MetadataLog) -> Vec<&str> {
    let topics = log.metadata.topics.values();
    topics.map(|topic| topic.name.as_str()).collect()
}

fn snapshot(records: &[Vec<u8>]) -> Vec<u8> {
    let end = i64::try_from(records.len()).unwrap() + 1;
    let header = control(0, 3, &[0; 11]);
    let footer = control(end, 4, &[0; 3]);
    [vec![header], records.to_vec(), vec![footer]]
        .concat()
        .concat()
}

#[test]
fn a_log_is_read_from_its_beginning() {
    let log = read_files(&[(FIRST, batches().concat())], true).unwrap();
    assert_eq!(names(&log), ["orders", "audit"]);
    assert_eq!((log.end_offset, log.torn_bytes), (10, 0));
    assert_eq!(log.metadata.voters, BTreeSet::from([1]));
}

#[test]
fn a_snapshot_stands_for_what_is_before_its_end() {
    let first = snapshot(&[batch(1, &[topic(1, "a")]), batch(2, &[producer_ids(5)])]);
    let name = "00000000000000000100-0000000002.checkpoint";
    // The log goes on before the snapshot's end: what it repeats must not be applied twice.
    let second = [
        leader_change(90, &[1, 2, 3]),
        batch(91, &vec![topic(1, "a"); 9]),
        batch(100, &[topic(2, "b")]),
    ];
    let files = [
        (name, first.clone()),
        (
            "00000000000000000050-0000000001.checkpoint",
            b"old".to_vec(),
        ),
        (
            "00000000000000000100-0000000002.checkpoint.part",
            b"x".to_vec(),
        ),
        ("00000000000000000090.log", second.concat()),
    ];
    let log = read_files(&files, true).unwrap();
    assert_eq!(names(&log), ["a", "b"]);
    assert_eq!((log.metadata.next_producer_id, log.end_offset), (5, 101));
    assert_eq!(log.metadata.voters.len(), 3);
    // Without it, or with one that does not reach to the log, something is missing.
    let gap = "nothing reaches there";
    let error = read_files(&files[3..], true).unwrap_err().to_string();
    assert!(error.contains(gap), "{error}");
    for cut in [1, 30, first.len() / 2, first.len() - 1] {
        let files = [(name, first[..cut].to_vec()), files[3].clone()];
        assert!(read_files(&files, true).is_err(), "{cut}");
    }
}

#[test]
fn segments_follow_each_other() {
    let all = batches();
    let files = |second: &'static str| [(FIRST, all[..3].concat()), (second, all[3..].concat())];
    let log = read_files(&files("00000000000000000007.log"), true).unwrap();
    assert_eq!(names(&log), ["orders", "audit"]);
    assert!(read_files(&files("00000000000000000008.log"), false).is_err());
    // Only the last segment may be torn.
    let torn = [
        (FIRST, all.concat()[..500].to_vec()),
        ("00000000000000000007.log", all[3..].concat()),
    ];
    assert!(read_files(&torn, false).is_err());
}

#[test]
fn wherever_a_crash_cut_the_log_what_was_whole_counts() {
    let all = batches();
    let bytes = all.concat();
    let ends: Vec<usize> = (0..=all.len())
        .map(|count| all[..count].concat().len())
        .collect();
    for cut in 0..bytes.len() {
        let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
        let expected = read_files(&[(FIRST, bytes[..ends[whole]].to_vec())], true).unwrap();
        let is_boundary = ends.contains(&cut);
        let log = read_files(&[(FIRST, bytes[..cut].to_vec())], false).unwrap();
        assert_eq!(log.metadata, expected.metadata, "cut at {cut}");
        assert_eq!(log.torn_bytes, (cut - ends[whole]) as u64);
        // After a clean stop nothing is torn.
        let clean = read_files(&[(FIRST, bytes[..cut].to_vec())], true);
        assert_eq!(clean.is_ok(), is_boundary, "cut at {cut}");
        // The length was there, the bytes were not.
        let zeros = [&bytes[..ends[whole]], &vec![0; cut - ends[whole]]].concat();
        let log = read_files(&[(FIRST, zeros)], false).unwrap();
        assert_eq!(log.metadata, expected.metadata, "zeros to {cut}");
    }
}

#[test]
fn no_flipped_bit_gives_other_metadata() {
    let bytes = batches().concat();
    let whole = read_files(&[(FIRST, bytes.clone())], true).unwrap();
    let world = SimWorld::new(1);
    let env = world.node("a");
    let directory = Path::new(DIR);
    env.disk.create_directory(directory).unwrap();
    let path = directory.join(FIRST);
    write(&*env.disk, &path, &bytes);
    let file = env.disk.open(&path, OpenMode::ReadWrite).unwrap();
    let mut refused = 0;
    for (at, byte) in bytes.iter().enumerate() {
        for bit in 0..8 {
            let put = |byte: u8| {
                file.write_at(&[IoSlice::new(&[byte])], at as u64).unwrap();
            };
            put(byte ^ (1 << bit));
            for was_clean in [true, false] {
                match read(&*env.disk, directory, was_clean) {
                    // The leader epoch of a batch is not in its checksum, and says nothing here.
                    Ok(log) => assert_eq!(log.metadata, whole.metadata, "byte {at} bit {bit}"),
                    Err(_) => refused += 1,
                }
            }
            put(*byte);
        }
    }
    // All but the four bytes of each batch's epoch.
    let epochs = batches().len() * 4;
    assert_eq!(refused, (bytes.len() - epochs) * 16);
}
