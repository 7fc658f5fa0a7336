//! `skein log verify` beside a node that writes, and what it says to do about damage.
//!
//! Input: a node under load, or files that are damaged on purpose. Output: no damage where there is
//! none; and a node that serves everything after the remedy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skein_tests::program::{self, Finished};
use skein_tests::wire::{Batch, Record, error};
use skein_tests::{Node, System};

use super::{append, assert_holds, connect, create};

const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// Looks at the files while the node writes.
const LOOKS: usize = 20;
/// Batches that are written meanwhile.
const WRITTEN_MIN: u64 = 1_000;
const BATCHES: u64 = 700;
const BATCH_BYTES: usize = 5_000;
const TOPIC: &str = "damaged";

/// Runs `skein log verify` on the directory of a partition.
fn verify(node: &Node, topic: &str) -> Finished {
    let mut command = Command::new(node.command().get_program());
    let directory = node.data_directory().join(format!("{topic}-0"));
    command.args(["log", "verify"]).arg(directory);
    program::run(&mut command, VERIFY_TIMEOUT)
}

#[test]
fn beside_a_node_that_writes_rolls_deletes_and_compacts_nothing_is_called_damaged() {
    let settings = [
        ("log.retention.check.interval.ms", "100"),
        ("log.segment.delete.delay.ms", "50"),
        ("log.cleaner.backoff.ms", "50"),
        ("log.flush.offset.checkpoint.interval.ms", "100"),
    ];
    let node = Node::start(System::Skein, &settings);
    let small = ("segment.bytes", "1048576");
    create(&node, "short", &[small, ("retention.bytes", "3000000")]);
    let compact = ("cleanup.policy", "compact");
    let dirty = ("min.cleanable.dirty.ratio", "0.01");
    create(&node, "compacted", &[small, compact, dirty]);
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let (node, is_over, written) = (&node, &is_over, &written);
    std::thread::scope(|scope| {
        for topic in ["short", "compacted"] {
            scope.spawn(move || write_until(node, topic, is_over, written));
        }
        // Until much was written; a failed look must end the writers too.
        let (asked, mut looks) = (Instant::now(), Vec::new());
        while looks.len() < LOOKS || written.load(Ordering::SeqCst) < WRITTEN_MIN {
            looks.extend(["short", "compacted"].map(|topic| verify(node, topic)));
            if asked.elapsed() > VERIFY_TIMEOUT {
                break;
            }
        }
        is_over.store(true, Ordering::SeqCst);
        for look in looks {
            assert!(look.succeeded(), "{look}{}", node.log_tail());
            assert!(!look.stdout.contains("damage:"), "{look}");
        }
    });
    let written = written.load(Ordering::SeqCst);
    assert!(
        written >= WRITTEN_MIN,
        "only {written} batches were written"
    );
    assert!(
        node.metric("skein_compactions_total") > 0.0,
        "{}",
        node.log_tail()
    );
    let (code, _, start) = connect(node).list_offset("short", 0, -2).unwrap();
    assert!(code == error::NONE && start > 0, "nothing was deleted");
}

/// Writes batches of 20 KB with a few keys.
fn write_until(node: &Node, topic: &str, is_over: &AtomicBool, written: &AtomicU64) {
    let mut connection = connect(node);
    let mut number = 0_u64;
    while !is_over.load(Ordering::SeqCst) {
        let mut batch = Batch::of([[0x33_u8; 20_000]]);
        batch.records = vec![Record {
            key: Some((number % 7).to_be_bytes().to_vec()),
            ..batch.records.remove(0)
        }];
        let produced = connection.produce(topic, 0, &batch.encode()).unwrap();
        assert_eq!(produced.error_code, error::NONE, "{}", node.log_tail());
        number += 1;
        written.fetch_add(1, Ordering::SeqCst);
    }
}

/// The file of the partition whose name ends like this: the first, or the last.
fn file(node: &Node, ending: &str, last: bool) -> PathBuf {
    let directory = node.data_directory().join(format!("{TOPIC}-0"));
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    found.sort();
    let found = if last {
        found.pop()
    } else {
        found.into_iter().next()
    };
    found.unwrap_or_else(|| panic!("no {ending}"))
}

fn spoil(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

/// A damage, what makes it, and the start of what to do about it.
struct Damage {
    what: &'static str,
    make: fn(&Node),
    told: &'static str,
    remedy: fn(&Node),
}

const REMOVE: &str = "stop the node and remove the file";

fn remove(node: &Node, ending: &str) {
    fs::remove_file(file(node, ending, false)).unwrap();
}

const DAMAGES: [Damage; 5] = [
    Damage {
        what: "an index of garbage",
        make: |node| fs::write(file(node, ".index", false), [0x5a; 8 * 100]).unwrap(),
        told: REMOVE,
        remedy: |node| remove(node, ".index"),
    },
    Damage {
        what: "an index that points beyond its log",
        make: |node| {
            let path = file(node, ".index", false);
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend([0, 0, 0xff, 0, 0x7f, 0, 0, 0]);
            fs::write(path, bytes).unwrap();
        },
        told: REMOVE,
        remedy: |node| remove(node, ".index"),
    },
    Damage {
        what: "a time index with a wrong entry",
        make: |node| spoil(&file(node, ".timeindex", false), 12 * 3 + 6),
        told: REMOVE,
        remedy: |node| remove(node, ".timeindex"),
    },
    Damage {
        what: "a torn tail above the recovery point",
        make: |node| {
            let path = file(node, ".log", true);
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend([0xab; 3_000]);
            fs::write(path, bytes).unwrap();
        },
        told: "the next start of the node cuts the file here by itself",
        remedy: |_| {},
    },
    Damage {
        what: "a snapshot of garbage",
        make: |node| fs::write(file(node, ".snapshot", true), "garbage").unwrap(),
        told: REMOVE,
        remedy: |node| fs::remove_file(file(node, ".snapshot", true)).unwrap(),
    },
];

#[test]
fn a_node_serves_everything_once_the_remedy_is_done() {
    let mut node = Node::start(System::Skein, &[]);
    create(&node, TOPIC, &[("segment.bytes", "1048576")]);
    append(&node, TOPIC, 0..BATCHES, BATCH_BYTES);
    let mut end = BATCHES;
    for Damage {
        what,
        make,
        told,
        remedy,
    } in DAMAGES
    {
        // Not a clean stop: a log that was closed has no torn tail.
        node.kill();
        make(&node);
        let damaged = verify(&node, TOPIC);
        assert!(damaged.stdout.contains(told), "{what}: {damaged}");
        remedy(&node);
        node.start_again();
        assert_holds(&node, TOPIC, end);
        append(&node, TOPIC, end..end + 10, BATCH_BYTES);
        end += 10;
        let asked = Instant::now();
        loop {
            // An index that is made anew is written when it is first used.
            let whole = verify(&node, TOPIC);
            if whole.succeeded() {
                break;
            }
            assert!(asked.elapsed() < VERIFY_TIMEOUT, "{what}: {whole}");
            connect(&node).list_offset(TOPIC, 0, 1).unwrap();
        }
    }
}

/// What only a backup mends: verify says so, and the node keeps what it can.
#[test]
fn a_corrupt_batch_below_the_recovery_point_is_mended_from_a_backup() {
    let mut node = Node::start(System::Skein, &[]);
    create(&node, TOPIC, &[("segment.bytes", "1048576")]);
    append(&node, TOPIC, 0..BATCHES, BATCH_BYTES);
    node.stop();
    let path = file(&node, ".log", false);
    let backup = fs::read(&path).unwrap();
    spoil(&path, 2_000);
    let damaged = verify(&node, TOPIC);
    assert!(!damaged.succeeded(), "{damaged}");
    assert!(damaged.stdout.contains("from a backup"), "{damaged}");
    node.start_again();
    // The batch is served as it is, for its reader to find out; those behind it are whole.
    let behind = connect(&node).fetch(TOPIC, 0, 5, 100).unwrap();
    assert_eq!(behind.error_code, error::NONE);
    node.stop();
    fs::write(path, backup).unwrap();
    let whole = verify(&node, TOPIC);
    assert!(whole.succeeded(), "{whole}");
    node.start_again();
    assert_holds(&node, TOPIC, BATCHES);
}

/// Runs `skein log COMMAND` on a directory, with more words behind it.
fn look(node: &Node, words: &[&str], directory: &Path) -> Finished {
    let mut command = Command::new(node.command().get_program());
    command
        .args(["log", words[0]])
        .arg(directory)
        .args(&words[1..]);
    program::run(&mut command, VERIFY_TIMEOUT)
}

/// A copy of a stopped node's data directory that ended in the middle: files come in the order of
/// their names, checkpoints before partitions.
#[test]
fn a_half_copied_directory_is_told_as_what_it_is() {
    let mut node = Node::start(System::Skein, &[]);
    create(&node, TOPIC, &[("segment.bytes", "1048576")]);
    append(&node, TOPIC, 0..BATCHES, BATCH_BYTES);
    node.stop();
    let parent = tempfile::tempdir().unwrap();
    let (from, partition) = (node.data_directory(), format!("{TOPIC}-0"));
    let copy = parent.path().join(&partition);
    fs::create_dir(&copy).unwrap();
    let copied = |name: &str| fs::copy(from.join(name), parent.path().join(name)).unwrap();
    copied("recovery-point-offset-checkpoint");
    copied("replication-offset-checkpoint");
    let entries = fs::read_dir(from.join(&partition)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let half = &names[..names.len() / 2];
    for name in half {
        fs::copy(from.join(&partition).join(name), copy.join(name)).unwrap();
    }
    let damaged = look(&node, &["verify"], &copy);
    assert!(!damaged.succeeded(), "{damaged}");
    // The node had flushed and acknowledged more than there is.
    for told in [
        "the recovery point is 700",
        "the high watermark is 700",
        "and the log ends at",
    ] {
        assert!(damaged.stdout.contains(told), "{told}: {damaged}");
    }
    // Cut in the middle of a file, and with a whole one missing before it.
    let is_log = |name: &&std::ffi::OsString| name.to_str().unwrap().ends_with(".log");
    let logs: Vec<_> = half.iter().filter(is_log).collect();
    assert!(logs.len() > 1, "{logs:?}");
    let last = copy.join(logs[logs.len() - 1]);
    let length = fs::metadata(&last).unwrap().len();
    let file = fs::File::options().write(true).open(&last).unwrap();
    file.set_len(length - 1_000).unwrap();
    let torn = look(&node, &["verify"], &copy);
    assert!(
        !torn.succeeded() && torn.stdout.contains("up to the end of the file"),
        "{torn}"
    );
    fs::remove_file(copy.join(logs[0])).unwrap();
    let gap = look(&node, &["verify"], &copy);
    assert!(
        !gap.succeeded() && gap.stdout.contains("an index without its log"),
        "{gap}"
    );
    // What it was copied from is whole.
    let whole = verify(&node, TOPIC);
    assert!(whole.succeeded(), "{whole}");
}

#[test]
fn a_checkpoint_of_garbage_is_told_with_its_path_and_the_node_starts_without_it() {
    let mut node = Node::start(System::Skein, &[]);
    create(&node, TOPIC, &[("segment.bytes", "1048576")]);
    append(&node, TOPIC, 0..BATCHES, BATCH_BYTES);
    for name in [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
    ] {
        for garbage in [
            "rubbish\n",
            "0\n1\ndamaged 0\n",
            "0\n7\ndamaged 0 700\n",
            "\u{0}\u{0}",
        ] {
            node.stop();
            let path = node.data_directory().join(name);
            fs::write(&path, garbage).unwrap();
            let told = verify(&node, TOPIC);
            let is_named = told.stdout.contains(name) || told.stderr.contains(name);
            assert!(!told.succeeded() && is_named, "{garbage:?}: {told}");
            node.start_again();
            assert_holds(&node, TOPIC, BATCHES);
        }
    }
    // What was garbled is written anew.
    node.stop();
    let whole = verify(&node, TOPIC);
    assert!(whole.succeeded(), "{whole}");
}

/// `dump` and `locate` of a partition that is written to, rolled and shortened meanwhile.
#[test]
fn what_a_running_node_writes_is_dumped_and_located() {
    let settings = [
        ("log.retention.check.interval.ms", "100"),
        ("log.segment.delete.delay.ms", "50"),
    ];
    let node = Node::start(System::Skein, &settings);
    let small = ("segment.bytes", "1048576");
    create(&node, TOPIC, &[small, ("retention.bytes", "20000000")]);
    append(&node, TOPIC, 0..BATCHES, BATCH_BYTES);
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let (node, is_over, written) = (&node, &is_over, &written);
    let directory = node.data_directory().join(format!("{TOPIC}-0"));
    std::thread::scope(|scope| {
        scope.spawn(move || write_until(node, TOPIC, is_over, written));
        let mut looks = Vec::new();
        for _ in 0..5 {
            looks.push((None, look(node, &["dump"], &directory)));
            // Acknowledged before, and well within what retention keeps.
            let offset = BATCHES + written.load(Ordering::SeqCst);
            let offset = offset.saturating_sub(20).max(1).to_string();
            let located = look(node, &["locate", "--offset", &offset], &directory);
            looks.push((Some(offset), located));
        }
        is_over.store(true, Ordering::SeqCst);
        for (offset, look) in looks {
            assert!(look.succeeded(), "{look}{}", node.log_tail());
            if let Some(offset) = offset {
                let record = format!("offset {offset},");
                assert!(look.stdout.contains(&record), "{record}: {look}");
            }
        }
    });
    assert!(
        written.load(Ordering::SeqCst) > 0,
        "nothing was written meanwhile"
    );
}
