//! Files that a crash, a disk or a person has damaged.
//!
//! Input: a stopped or killed node whose files are changed. Output: what can be rebuilt is rebuilt
//! and nothing is lost; a torn tail is cut; corruption that can't be repaired is never cut away
//! silently.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use skein_tests::wire::{Batch, error};
use skein_tests::{Node, System, on_both};

use super::{append, assert_holds, connect, create, numbered};

on_both!(
    missing_indexes_and_checkpoints_are_rebuilt,
    a_torn_tail_is_cut,
);

const TOPIC: &str = "damaged";
const BATCHES: u64 = 600;
const BATCH_BYTES: usize = 5_000;

/// A node with three segments of batches.
fn filled(system: System) -> Node {
    let node = Node::start(system, &[]);
    create(&node, TOPIC, &[("segment.bytes", "1048576")]);
    append(&node, TOPIC, 0..BATCHES, BATCH_BYTES);
    node
}

/// The files of the partition with one of these extensions or names, sorted.
fn partition_files(node: &Node, kinds: &[&str]) -> Vec<PathBuf> {
    files(&node.data_directory().join(format!("{TOPIC}-0")), kinds)
}

fn files(directory: &Path, kinds: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            kinds.iter().any(|kind| name.ends_with(kind))
        })
        .collect();
    found.sort();
    found
}

/// What can be derived from the log.
const DERIVED: [&str; 5] = [
    ".index",
    ".timeindex",
    ".snapshot",
    ".txnindex",
    "leader-epoch-checkpoint",
];
const CHECKPOINTS: [&str; 4] = [
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
];

fn derived_files(node: &Node) -> Vec<PathBuf> {
    [
        partition_files(node, &DERIVED),
        files(&node.data_directory(), &CHECKPOINTS),
    ]
    .concat()
}

/// Checks content, offsets by time and further appends.
fn assert_whole(node: &Node, end: u64) {
    assert_holds(node, TOPIC, end);
    let mut connection = connect(node);
    assert_eq!(connection.list_offset(TOPIC, 0, 1).unwrap().2, 0);
    append(node, TOPIC, end..end + 10, BATCH_BYTES);
    assert_holds(node, TOPIC, end + 10);
}

fn missing_indexes_and_checkpoints_are_rebuilt(system: System) {
    let mut node = filled(system);
    let mut end = BATCHES;
    for kill in [false, true] {
        if kill {
            node.kill();
        } else {
            node.stop();
        }
        let removed = derived_files(&node);
        assert!(removed.len() >= 6, "{removed:?}");
        for path in removed {
            fs::remove_file(path).unwrap();
        }
        node.start_again();
        assert_whole(&node, end);
        end += 10;
    }
}

#[test]
fn garbage_in_indexes_and_checkpoints_is_found_and_rebuilt() {
    let garbage: Vec<u8> = (0..16_384_u32)
        .flat_map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    let mut node = filled(System::Skein);
    let mut end = BATCHES;
    // Empty; not a whole number of entries; whole entries; and in place of a text.
    for length in [0, 1001, 8 * 12 * 20] {
        for kill in [false, true] {
            if kill {
                node.kill();
            } else {
                node.stop();
            }
            for path in derived_files(&node) {
                fs::write(path, &garbage[..length]).unwrap();
            }
            node.start_again();
            assert_whole(&node, end);
            end += 10;
        }
    }
}

fn a_torn_tail_is_cut(system: System) {
    let mut node = filled(system);
    let mut end = BATCHES;
    let next = || numbered(BATCHES, BATCH_BYTES);
    let mut flipped = next();
    *flipped.last_mut().unwrap() ^= 1;
    let tails = [
        // Half a batch, half a header, a batch with a bit flipped, zeros as a power cut leaves
        // them, anything.
        next()[..BATCH_BYTES / 2].to_vec(),
        next()[..30].to_vec(),
        flipped,
        vec![0; 100_000],
        (0..40_000_u32).map(|index| (index % 251) as u8).collect(),
    ];
    let tails = if system == System::Kafka {
        &tails[..1]
    } else {
        &tails
    };
    for tail in tails {
        node.kill();
        let log = partition_files(&node, &[".log"]).pop().unwrap();
        let mut file = fs::File::options().append(true).open(&log).unwrap();
        file.write_all(tail).unwrap();
        node.start_again();
        assert_whole(&node, end);
        end += 10;
    }
}

#[test]
fn a_cut_tail_is_logged_with_its_offsets() {
    let mut node = filled(System::Skein);
    node.kill();
    let log = partition_files(&node, &[".log"]).pop().unwrap();
    let mut file = fs::File::options().append(true).open(&log).unwrap();
    file.write_all(&numbered(BATCHES, BATCH_BYTES)[..1000])
        .unwrap();
    node.start_again();
    assert_whole(&node, BATCHES);
    let told = node
        .log()
        .lines()
        .any(|line| line.contains(TOPIC) && line.contains(&BATCHES.to_string()));
    assert!(
        told,
        "no line names {TOPIC} and offset {BATCHES}{}",
        node.log_tail()
    );
}

#[test]
fn a_corrupt_batch_below_the_recovery_point_is_never_cut_away() {
    let mut node = filled(System::Skein);
    // The clean stop flushes everything: the recovery point is the log's end.
    node.stop();
    let first = partition_files(&node, &[".log"]).remove(0);
    let mut bytes = fs::read(&first).unwrap();
    let batch_bytes = numbered(0, BATCH_BYTES).len();
    // In the records of batch 2.
    bytes[2 * batch_bytes + 1000] ^= 0x10;
    fs::write(&first, &bytes).unwrap();
    for kill in [false, true] {
        node.start_again();
        let mut connection = connect(&node);
        let end = connection.list_offset(TOPIC, 0, -1).unwrap();
        let expected = i64::try_from(BATCHES).unwrap();
        if end.0 == error::NONE {
            assert_eq!(end.2, expected, "records are gone{}", node.log_tail());
            let fetched = connection.fetch(TOPIC, 0, 3, 100).unwrap();
            assert_eq!(
                fetched.error_code,
                error::NONE,
                "a good batch is not served"
            );
        }
        assert_eq!(fs::read(&first).unwrap(), bytes, "the file was changed");
        // Others are not concerned.
        let other = format!("other-{kill}");
        create(&node, &other, &[]);
        let produced = connect(&node)
            .produce(&other, 0, &Batch::of(["x"]).encode())
            .unwrap();
        assert_eq!(produced.error_code, error::NONE);
        if kill {
            node.kill();
        } else {
            node.stop();
        }
    }
}
