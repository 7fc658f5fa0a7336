//! Directories that are not taken over, and what is said of them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skein_tests::client::kafka_tools::{REASSIGN_PARTITIONS, TOPICS, run};
use skein_tests::{Node, System};

use super::seen::Seen;
use super::{create, import, perform, skein_on};

/// Until Kafka has moved a few records and told its controller.
const MOVED_TRIES: u32 = 10;
const MOVED_TIMEOUT: Duration = Duration::from_secs(60);
/// A partition with three segments, as the whole files of its directory.
const SEGMENTED: [(&str, i32); 1] = [("segmented", 1)];

#[test]
fn what_stands_against_an_import_is_told_and_nothing_changes() {
    let mut kafka = Node::start(System::Kafka, &[]);
    create(&kafka, "kept", &[]);
    create(&kafka, "damaged", &["--partitions", "2"]);
    perform(&kafka, "kept", "10", "none");
    let data = kafka.data_directory();

    let running = import(&data, &[]);
    assert!(
        !running.succeeded() && running.stderr.contains("a process holds"),
        "{running}"
    );
    kafka.stop();
    let empty = import(kafka.directory(), &[]);
    assert!(
        empty.stderr.contains("no log directory of Kafka"),
        "{empty}"
    );

    let part = data.join("damaged-1");
    fs::rename(&part, kafka.directory().join("elsewhere")).unwrap();
    fs::create_dir(data.join("stranger-0")).unwrap();
    let refused = import(&data, &["--dry-run"]);
    for expected in [
        "damaged-1: its directory is missing",
        "stranger-0: Kafka's metadata know",
    ] {
        assert!(refused.stdout.contains(expected), "{expected}: {refused}");
    }
    assert_eq!(refused.status.and_then(|status| status.code()), Some(1));
    let json = import(&data, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["outcome"], "refused");
    assert_eq!(json["findings"][0]["weight"], "refused");
    fs::remove_dir(data.join("stranger-0")).unwrap();

    // Without that topic it works; its files are put aside, and Skein does not see them.
    let imported = import(&data, &["--leave-out", "damaged"]);
    assert!(imported.succeeded(), "{imported}");
    assert!(data.join("kafka-taken-over/left-out/damaged-0").is_dir());
    let mut skein = skein_on(&kafka);
    skein.start_again();
    let topics = run(&skein, TOPICS, &["--list"]);
    assert_eq!(topics.trim(), "kept");
    skein.stop();
    let again = import(&data, &[]);
    assert!(
        again.stderr.contains("was taken over from Kafka before"),
        "{again}"
    );
}

#[test]
fn a_torn_metadata_log_is_taken_and_a_damaged_one_is_not() {
    let mut kafka = Node::start(System::Kafka, &[]);
    create(&kafka, "kept", &[]);
    kafka.kill();
    let data = kafka.data_directory();
    let log = data.join("__cluster_metadata-0/00000000000000000000.log");
    let whole = fs::read(&log).unwrap();
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    fs::write(&log, &damaged).unwrap();
    let refused = import(&data, &[]);
    assert!(
        refused.stderr.contains("does not bear its checksum"),
        "{refused}"
    );
    fs::write(&log, &whole).unwrap();
    // The beginning of a batch that was never finished.
    let last = i64::from_be_bytes(whole[..8].try_into().unwrap());
    assert_eq!(last, 0);
    let mut torn = fs::File::options().append(true).open(&log).unwrap();
    torn.write_all(&next_batch_head(&whole)).unwrap();
    let told = import(&data, &["--dry-run"]);
    assert!(
        told.succeeded() && told.stdout.contains("a write that never ended"),
        "{told}"
    );
    let imported = import(&data, &[]);
    assert!(imported.succeeded(), "{imported}");
    let mut skein = skein_on(&kafka);
    skein.start_again();
}

/// The first bytes of the batch that would follow.
fn next_batch_head(log: &[u8]) -> Vec<u8> {
    let (mut at, mut next) = (0, 0);
    while at < log.len() {
        let number = |from: usize, length: usize| {
            let bytes = &log[at + from..at + from + length];
            bytes
                .iter()
                .fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte))
        };
        next = number(0, 8) + number(23, 4) + 1;
        at += usize::try_from(number(8, 4)).unwrap() + 12;
    }
    let mut head = next.to_be_bytes().to_vec();
    head.extend([0, 0, 1, 0, 0, 0, 0, 1, 2]);
    head
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The files of the partition with this ending, by their offsets.
fn files(partition: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(partition)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .collect();
    found.sort();
    found
}

#[test]
fn a_directory_that_was_copied_in_part_is_refused_and_one_with_odd_files_is_not() {
    let mut kafka = Node::start(System::Kafka, &[]);
    create(&kafka, "segmented", &["--config", "segment.bytes=1048576"]);
    perform(&kafka, "segmented", "12000", "none");
    let before = Seen::of(&kafka, &SEGMENTED);
    kafka.stop();
    let copy = |name: &str| {
        let copy = kafka.directory().join(name);
        copy_all(&kafka.data_directory(), &copy);
        (copy.join("segmented-0"), copy)
    };
    let refused = |directory: &Path, what: &str| {
        let refused = import(directory, &[]);
        assert!(
            !refused.succeeded() && refused.stdout.contains(what),
            "{what}: {refused}"
        );
        let remedy = "bring the whole directory, as it was when Kafka stopped";
        assert!(refused.stdout.contains(remedy), "{refused}");
    };
    let (partition, directory) = copy("without-a-middle");
    let logs = files(&partition, "log");
    assert!(logs.len() > 2, "{logs:?}");
    fs::remove_file(&logs[1]).unwrap();
    refused(&directory, "are missing between two segments");
    let (partition, directory) = copy("without-an-end");
    fs::remove_file(files(&partition, "log").last().unwrap()).unwrap();
    refused(&directory, "segments are missing or cut");
    let (partition, directory) = copy("cut");
    let last = files(&partition, "log").pop().unwrap();
    let length = fs::metadata(&last).unwrap().len();
    let file = fs::File::options().write(true).open(last).unwrap();
    file.set_len(length - 10).unwrap();
    refused(&directory, "segments are missing or cut");

    let (partition, directory) = copy("odd");
    fs::remove_file(&files(&partition, "index")[0]).unwrap();
    fs::remove_file(&files(&partition, "timeindex")[1]).unwrap();
    for name in ["notes.txt", "00000000000000000000.log.deleted", "5.log"] {
        fs::write(partition.join(name), "odd").unwrap();
    }
    for name in [
        "00000000000000000000.log.cleaned",
        "00000000000000000000.index.swap",
    ] {
        fs::write(partition.join(name), "of a compaction").unwrap();
    }
    fs::write(directory.join("notes.txt"), "odd").unwrap();
    for name in ["log-start-offset-checkpoint", "cleaner-offset-checkpoint"] {
        fs::write(directory.join(name), "0\n1\ngarbage\n").unwrap();
    }
    fs::write(
        directory.join("recovery-point-offset-checkpoint"),
        [0xff; 99],
    )
    .unwrap();
    fs::write(directory.join("replication-offset-checkpoint"), "").unwrap();
    let imported = import(&directory, &[]);
    assert!(imported.succeeded(), "{imported}");
    let path = directory.display().to_string();
    let mut skein = Node::prepare(System::Skein, &[("log.dirs", &path)]);
    skein.start_again();
    Seen::of(&skein, &SEGMENTED).assert_same(&before);
    for ending in ["cleaned", "swap", "deleted"] {
        assert_eq!(files(&partition, ending), [] as [PathBuf; 0]);
    }
    assert!(partition.join("notes.txt").exists());
    skein.kill();
    skein.start_again();
    Seen::of(&skein, &SEGMENTED).assert_same(&before);
}

#[test]
fn of_several_log_directories_one_is_taken_once_all_partitions_lie_in_it() {
    let both = tempfile::tempdir().unwrap();
    let (first, second) = (both.path().join("first"), both.path().join("second"));
    let dirs = format!("{},{}", first.display(), second.display());
    let mut kafka = Node::start(System::Kafka, &[("log.dirs", &dirs)]);
    create(&kafka, "spread", &["--partitions", "4"]);
    perform(&kafka, "spread", "100", "none");
    let before = Seen::of(&kafka, &[("spread", 4)]);
    kafka.stop();
    let refused = import(&first, &[]);
    for expected in [
        "it lies in another directory of the node",
        "kafka-reassign-partitions.sh",
    ] {
        assert!(
            !refused.succeeded() && refused.stdout.contains(expected),
            "{refused}"
        );
    }

    // The remedy that is told.
    let place = |partition| {
        format!(
            r#"{{"topic":"spread","partition":{partition},"replicas":[1],"log_dirs":["{}"]}}"#,
            first.display()
        )
    };
    let places: Vec<_> = (0..4).map(place).collect();
    let order = format!(r#"{{"version":1,"partitions":[{}]}}"#, places.join(","));
    let file = both.path().join("order.json");
    fs::write(&file, order).unwrap();
    let file = file.display().to_string();
    // The directories are in their place before the controller knows of it: then once more.
    let mut imported = refused;
    for _ in 0..MOVED_TRIES {
        kafka.start_again();
        let arguments = ["--execute", "--reassignment-json-file", &file];
        run(&kafka, REASSIGN_PARTITIONS, &arguments);
        let begun = Instant::now();
        while !(0..4).all(|partition| first.join(format!("spread-{partition}")).is_dir()) {
            assert!(begun.elapsed() < MOVED_TIMEOUT, "{}", kafka.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
        kafka.stop();
        imported = import(&first, &[]);
        if imported.succeeded() {
            break;
        }
    }
    assert!(imported.succeeded(), "{imported}");
    let path = first.display().to_string();
    let mut skein = Node::prepare(System::Skein, &[("log.dirs", &path)]);
    skein.start_again();
    Seen::of(&skein, &[("spread", 4)]).assert_same(&before);
}
