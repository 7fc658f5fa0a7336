//! Skein writes, and Kafka opens its partitions.

use std::fs;
use std::path::Path;

use skein_tests::client::kafka_tools::{DUMP_LOG, run};
use skein_tests::{Node, System};

use super::seen::Seen;
use super::{Producer, compact, create, fill, perform};

const TOPICS: [(&str, i32); 5] = [
    ("codecs", 2),
    ("append-time", 1),
    ("shortened", 1),
    ("compacted", 1),
    ("sequences", 1),
];
pub(crate) const CHECKPOINTS: [&str; 4] = [
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
];
pub(crate) const CLEAN: &str = ".kafka_cleanshutdown";

#[test]
fn kafka_opens_what_skein_closed() {
    kafka_opens(true);
}

#[test]
fn kafka_recovers_what_skein_wrote() {
    kafka_opens(false);
}

/// `is_clean`: Kafka finds its mark of a clean stop, and trusts indexes, snapshots and checkpoints;
/// without it, it reads every segment anew.
fn kafka_opens(is_clean: bool) {
    let mut skein = Node::start(System::Skein, &[("log.cleaner.backoff.ms", "100")]);
    fill(&skein);
    compact(&skein);
    create(&skein, "sequences", &[]);
    let producer = Producer::begin(&skein, "sequences");
    let before = Seen::of(&skein, &TOPICS);
    skein.stop();

    let mut kafka = Node::start(System::Kafka, &[]);
    fill_empty(&kafka);
    kafka.stop();
    let (from, to) = (skein.data_directory(), kafka.data_directory());
    for (topic, partitions) in TOPICS {
        for partition in 0..partitions {
            let name = format!("{topic}-{partition}");
            replace_partition(&from.join(&name), &to.join(&name));
        }
    }
    for name in CHECKPOINTS {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    if !is_clean {
        fs::remove_file(to.join(CLEAN)).unwrap();
    }
    kafka.start_again();
    let now = Seen::of(&kafka, &TOPICS);
    for (key, partition) in &before.partitions {
        let now = &now.partitions[key];
        let is_same = now.offsets == partition.offsets && now.batches == partition.batches;
        assert!(
            is_same,
            "{key:?}: {now:?} after {partition:?}{}",
            kafka.log_tail()
        );
        assert_eq!(now.times, partition.times, "{key:?}");
    }
    for complaint in ["orrupt", "Found invalid", "rebuild"] {
        let log = kafka.log();
        let line = log.lines().find(|line| line.contains(complaint));
        assert!(!is_clean || line.is_none(), "{line:?}");
    }
    // The producer is known by its snapshot, or by its batches.
    producer.expect(&kafka, "sequences", 4, (0, 4));
    producer.expect(&kafka, "sequences", 6, (0, 6));
    perform(&kafka, "codecs", "100", "lz4");
}

/// Topics of the same names and settings, empty.
fn fill_empty(kafka: &Node) {
    create(kafka, "codecs", &["--partitions", "2"]);
    create(kafka, "append-time", &[]);
    create(kafka, "shortened", &[]);
    create(kafka, "compacted", &["--config", "cleanup.policy=compact"]);
    create(kafka, "sequences", &[]);
}

/// Puts Skein's directory in the place of Kafka's, with Kafka's topic id.
pub(crate) fn replace_partition(from: &Path, to: &Path) {
    let id = fs::read(to.join("partition.metadata")).unwrap();
    fs::remove_dir_all(to).unwrap();
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(to.join("partition.metadata"), id).unwrap();
}

#[test]
fn dump_log_reads_snapshots_and_indexes_of_a_node_that_stopped() {
    for system in [System::Skein, System::Kafka] {
        let mut node = Node::start(system, &[]);
        create(&node, "sequences", &["--config", "segment.bytes=1048576"]);
        let producer = Producer::begin(&node, "sequences");
        perform(&node, "sequences", "20000", "none");
        node.stop();
        let directory = node.data_directory().join("sequences-0");
        let files = |kind: &str| {
            let mut found: Vec<_> = fs::read_dir(&directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == kind))
                .map(|path| path.display().to_string())
                .collect();
            found.sort();
            found
        };
        let snapshots = files("snapshot");
        assert!(snapshots.len() >= 3, "{system:?}: {snapshots:?}");
        let dumped = run(&node, DUMP_LOG, &["--files", &snapshots.join(",")]);
        let entry = format!(
            "producerId: {} producerEpoch: {}",
            producer.id, producer.epoch
        );
        assert_eq!(
            dumped.matches(&entry).count(),
            snapshots.len(),
            "{system:?}: {dumped}"
        );
        let last = dumped.lines().rfind(|line| line.contains(&entry)).unwrap();
        assert!(
            last.contains("firstSequence: 4 lastSequence: 5 lastOffset: 5"),
            "{last}"
        );
        for kind in ["index", "timeindex"] {
            let indexes = files(kind).join(",");
            let arguments = ["--index-sanity-check", "--files", &indexes];
            let dumped = run(&node, DUMP_LOG, &arguments);
            assert!(
                !dumped.to_lowercase().contains("mismatch"),
                "{system:?}: {dumped}"
            );
        }
    }
}
