//! Transactions that Kafka has aborted, and one that it has not ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use skein_tests::client::{kafka_tools, python};
use skein_tests::{Node, System, program};

use super::{COMPACTED_TIMEOUT, create, import, skein_on};

const SCRIPT: &str = "clients/librdkafka/transactions.py";
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(120);
const SETTINGS: [(&str, &str); 2] = [
    ("transaction.state.log.num.partitions", "3"),
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "500",
    ),
];
const PARTITIONS: &str = "2";
/// Longer than the open transaction may take, and Kafka to find out.
const ABORTED_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the client's program against the node.
fn transact(node: &Node, arguments: &[&str]) -> String {
    let mut command = python(SCRIPT);
    command.arg(node.bootstrap()).args(arguments);
    let finished = program::run(&mut command, SCRIPT_TIMEOUT);
    assert!(finished.succeeded(), "{finished}{}", node.log_tail());
    finished.stdout
}

/// What consumers of both kinds get: librdkafka all, Kafka's own the committed records.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    all: Vec<String>,
    committed: Vec<String>,
    committed_by_java: Vec<String>,
}

impl Read {
    fn of(node: &Node, topic: &str, partition: &str) -> Self {
        let lines = |isolation| {
            let read = transact(node, &["read", topic, partition, isolation]);
            let lines = read.lines().map(|line| line.trim().to_owned());
            lines.collect::<Vec<_>>()
        };
        let (all, committed) = (lines("read_uncommitted"), lines("read_committed"));
        let count = committed.len().to_string();
        let arguments = [
            "--topic",
            topic,
            "--partition",
            partition,
            "--offset",
            "earliest",
            "--isolation-level",
            "read_committed",
            "--max-messages",
            &count,
            "--timeout-ms",
            "30000",
            "--property",
            "print.key=true",
            "--property",
            "print.offset=true",
        ];
        let printed = kafka_tools::run(node, kafka_tools::CONSOLE_CONSUMER, &arguments);
        let committed_by_java = printed
            .lines()
            .filter_map(|line| line.strip_prefix("Offset:"))
            .map(|line| {
                line.trim_end_matches('.')
                    .replace('\t', " ")
                    .trim()
                    .to_owned()
            })
            .collect();
        Self {
            all,
            committed,
            committed_by_java,
        }
    }

    /// The last value of each key that is committed.
    fn last_committed(&self) -> BTreeMap<String, String> {
        let key_and_line = |line: &String| {
            let key = line
                .split(' ')
                .skip(1)
                .take(2)
                .collect::<Vec<_>>()
                .join(" ");
            (key, line.clone())
        };
        self.committed.iter().map(key_and_line).collect()
    }
}

fn all_partitions(node: &Node) -> Vec<Read> {
    ["0", "1"]
        .iter()
        .map(|partition| Read::of(node, "transactions", partition))
        .collect()
}

#[test]
fn aborted_transactions_of_a_kafka_that_stopped_stay_hidden() {
    aborted_stay_hidden(true);
}

#[test]
fn aborted_transactions_of_a_kafka_that_was_killed_stay_hidden() {
    aborted_stay_hidden(false);
}

fn aborted_stay_hidden(is_clean: bool) {
    let small = ["--config", "segment.bytes=1048576"];
    let mut kafka = Node::start(System::Kafka, &SETTINGS);
    create(
        &kafka,
        "transactions",
        &[&["--partitions", PARTITIONS][..], &small].concat(),
    );
    let compacted = [
        "--config",
        "cleanup.policy=compact",
        "--config",
        "min.cleanable.dirty.ratio=0.01",
        // Not before Skein has the log.
        "--config",
        "min.compaction.lag.ms=3600000",
    ];
    create(&kafka, "compacted", &[&compacted[..], &small].concat());
    transact(&kafka, &["write", "transactions", PARTITIONS]);
    transact(&kafka, &["write", "compacted", "1"]);
    let before = all_partitions(&kafka);
    for read in &before {
        assert!(read.committed.len() * 2 < read.all.len(), "{read:?}");
        assert_eq!(read.committed, read.committed_by_java);
    }
    let compacted_before = Read::of(&kafka, "compacted", "0");
    if is_clean {
        kafka.stop();
    } else {
        kafka.kill();
    }

    let imported = import(&kafka.data_directory(), &[]);
    assert!(imported.succeeded(), "{imported}");
    let mut skein = skein_on(&kafka);
    skein.start_again();
    assert_eq!(all_partitions(&skein), before);
    assert_eq!(Read::of(&skein, "compacted", "0"), compacted_before);
    skein.stop();
    skein.start_again();
    assert_eq!(all_partitions(&skein), before);
    skein.kill();
    skein.start_again();
    assert_eq!(all_partitions(&skein), before);
    compact(&mut skein, &kafka.data_directory(), &compacted_before);

    // The way back: Kafka reads what is left of its index, and what Skein has made of it.
    let compacted_now = Read::of(&skein, "compacted", "0");
    skein.stop();
    let data = kafka.data_directory();
    std::fs::remove_dir_all(data.join("metadata")).unwrap();
    let taken_over = data.join("kafka-taken-over");
    std::fs::rename(taken_over, data.join("__cluster_metadata-0")).unwrap();
    kafka.start_again();
    assert_eq!(all_partitions(&kafka), before);
    assert_eq!(Read::of(&kafka, "compacted", "0"), compacted_now);
}

/// Lets Skein compact the topic, and compares what is left.
fn compact(skein: &mut Node, directory: &Path, before: &Read) {
    let alter = [
        "--alter",
        "--topic",
        "compacted",
        "--add-config",
        "min.compaction.lag.ms=0",
    ];
    kafka_tools::run(skein, kafka_tools::CONFIGS, &alter);
    let checkpoint = directory.join("cleaner-offset-checkpoint");
    let begun = Instant::now();
    while !std::fs::read_to_string(&checkpoint).is_ok_and(|text| text.contains("compacted 0 ")) {
        let tail = skein.log_tail();
        assert!(begun.elapsed() < COMPACTED_TIMEOUT, "not compacted{tail}");
        std::thread::sleep(Duration::from_millis(50));
    }
    for is_killed in [false, true] {
        let after = Read::of(skein, "compacted", "0");
        assert!(after.all.len() < before.all.len(), "{after:?}");
        assert_eq!(after.last_committed(), before.last_committed());
        assert_eq!(after.committed, after.committed_by_java);
        if is_killed {
            skein.kill();
        } else {
            skein.stop();
        }
        skein.start_again();
    }
}

#[test]
fn an_open_transaction_is_refused_until_kafka_has_ended_it() {
    let mut kafka = Node::start(System::Kafka, &SETTINGS);
    create(&kafka, "transactions", &[]);
    transact(&kafka, &["open", "transactions"]);
    kafka.stop();
    let refused = import(&kafka.data_directory(), &[]);
    let expected = "transactions-0: a transaction that began at offset 0 has not ended";
    assert!(refused.stdout.contains(expected), "{refused}");
    assert!(refused.stdout.contains("wait, or abort it"), "{refused}");

    // The remedy that is told.
    kafka.start_again();
    let begun = Instant::now();
    while stable_end(&kafka) == 0 {
        assert!(begun.elapsed() < ABORTED_TIMEOUT, "{}", kafka.log_tail());
        std::thread::sleep(Duration::from_millis(200));
    }
    kafka.stop();
    let imported = import(&kafka.data_directory(), &[]);
    assert!(imported.succeeded(), "{imported}");
    let mut skein = skein_on(&kafka);
    skein.start_again();
    let read = transact(&skein, &["read", "transactions", "0", "read_committed"]);
    assert_eq!(read, "");
    let read = transact(&skein, &["read", "transactions", "0", "read_uncommitted"]);
    assert_eq!(read.lines().count(), 10);
}

/// The last stable offset of the topic's partition.
fn stable_end(node: &Node) -> i64 {
    let arguments = [
        "describe-producers",
        "--topic",
        "transactions",
        "--partition",
        "0",
    ];
    let described = kafka_tools::run(node, kafka_tools::TRANSACTIONS, &arguments);
    let lines: Vec<&str> = described.lines().filter(|line| !line.is_empty()).collect();
    let is_open = lines
        .iter()
        .skip(1)
        .any(|line| !line.trim_end().ends_with("None"));
    i64::from(!is_open)
}
