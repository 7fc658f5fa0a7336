//! Every client reads what every client wrote, with every codec, against both systems.
//!
//! Input: the same records, written by each client to a topic of its own. Output: each client, and
//! Kafka's console consumer of one topic, prints exactly these records for every topic; and, where
//! some of them are hidden, all others at their offsets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::fmt::Write as _;

use skein_tests::client::Client;
use skein_tests::client::kafka_tools::{self, CONFIGS, CONSOLE_CONSUMER, TOPICS};
use skein_tests::{Node, System, on_both};

on_both!(every_client_reads_what_every_client_wrote);

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// What the console consumer shall print before the value.
const PRINTED: [&str; 4] = [
    "print.timestamp=true",
    "print.offset=true",
    "print.headers=true",
    "print.key=true",
];
const PER_CODEC: usize = 40;
const FIRST_TIMESTAMP_MS: usize = 1_700_000_000_000;

/// A record as all clients write it; see `clients/python/interop.py`.
struct Expected {
    timestamp: usize,
    key: String,
    value: String,
    headers: String,
}

fn expected(codec: &str, index: usize) -> Expected {
    let null = || "null".to_owned();
    let present = |content: String, is_null| if is_null { null() } else { content };
    Expected {
        timestamp: FIRST_TIMESTAMP_MS + index,
        key: present(format!("{codec}-{index}"), index.is_multiple_of(4)),
        value: present(
            format!("{codec}.{index}.").repeat(index % 7),
            index % 10 == 9,
        ),
        headers: match index % 3 {
            0 => format!("codec:{codec},index:{index}"),
            _ => String::new(),
        },
    }
}

fn all_expected() -> impl Iterator<Item = (usize, Expected)> {
    let records = CODECS
        .into_iter()
        .flat_map(|codec| (0..PER_CODEC).map(move |index| expected(codec, index)));
    records.enumerate()
}

fn every_client_reads_what_every_client_wrote(system: System) {
    let node = Node::shared(system);
    let topics = Client::ALL.map(|client| format!("interop-{client:?}"));
    std::thread::scope(|scope| {
        for (client, topic) in Client::ALL.iter().zip(&topics) {
            scope.spawn(move || {
                kafka_tools::run(node, TOPICS, &["--create", "--topic", topic]);
                client.run_with(node, &["write", topic]);
            });
        }
    });
    let mut lines = String::new();
    for topic in &topics {
        lines += &as_read(topic, all_expected());
    }
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    assert_all_read(node, &topics, &lines);
    // The Java client has read all topics; its tool prints one.
    assert_java_reads(node, topics[0], all_expected());
}

/// All clients at once: they wait for the node more than they work.
fn assert_all_read(node: &Node, topics: &[&str], lines: &str) {
    let arguments = [&["read"][..], topics].concat();
    std::thread::scope(|scope| {
        for client in Client::ALL {
            let arguments = &arguments;
            scope.spawn(move || {
                let printed = client.run_with(node, arguments);
                assert_same(&printed, lines, &format!("{client:?}"));
            });
        }
    });
}

/// Row M16: hidden by Kafka's own tool, seen by none of the clients, before and after a crash.
#[test]
fn a_redacted_record_is_seen_by_no_client_and_all_others_are() {
    let mut node = Node::start(System::Skein, &[]);
    let topic = "redacted";
    kafka_tools::run(&node, TOPICS, &["--create", "--topic", topic]);
    let records = CODECS.len() * PER_CODEC;
    for client in [Client::Librdkafka, Client::FranzGo] {
        client.run_with(&node, &["write", topic]);
    }
    // Every other one of the first half; then whole batches, and half of one. As many stay as each
    // client reads.
    let is_hidden = |offset: usize| {
        (offset < records && offset % 2 == 1) || (records..records * 3 / 2).contains(&offset)
    };
    let hidden = (0..2 * records).filter(|offset| is_hidden(*offset));
    let list: Vec<_> = hidden.map(|offset| format!("0:{offset}")).collect();
    assert_eq!(list.len(), records);
    let change = format!("redacted.records=[{}]", list.join(","));
    let entity = ["--entity-type", "topics", "--entity-name", topic];
    let alter = [&entity[..], &["--alter", "--add-config", &change]].concat();
    kafka_tools::run(&node, CONFIGS, &alter);
    let described = [&entity[..], &["--describe"]].concat();
    let described = kafka_tools::run(&node, CONFIGS, &described);
    assert!(described.contains(&list.join(",")), "{described}");

    let visible = || {
        let twice = all_expected().chain(all_expected().map(|(at, one)| (at + records, one)));
        twice.filter(|(offset, _)| !is_hidden(*offset))
    };
    let lines = as_read(topic, visible());
    for _ in 0..2 {
        assert_all_read(&node, &[topic], &lines);
        assert_java_reads(&node, topic, visible());
        node.kill();
        node.start_again();
    }
}

/// What a client prints of these records.
fn as_read(topic: &str, records: impl Iterator<Item = (usize, Expected)>) -> String {
    let mut lines = String::new();
    for (offset, record) in records {
        let Expected {
            timestamp,
            key,
            value,
            headers,
        } = record;
        writeln!(
            lines,
            "{topic}\t{offset}\t{timestamp}\t{key}\t{value}\t{headers}"
        )
        .unwrap();
    }
    lines
}

fn assert_java_reads(node: &Node, topic: &str, records: impl Iterator<Item = (usize, Expected)>) {
    let count = (CODECS.len() * PER_CODEC).to_string();
    let mut arguments = vec!["--topic", topic, "--partition", "0", "--offset", "0"];
    arguments.extend(["--max-messages", &count, "--timeout-ms", "20000"]);
    for property in PRINTED {
        arguments.extend(["--property", property]);
    }
    let mut lines = String::new();
    for (offset, record) in records {
        let Expected {
            timestamp,
            key,
            value,
            mut headers,
        } = record;
        if headers.is_empty() {
            headers = "NO_HEADERS".to_owned();
        }
        writeln!(
            lines,
            "CreateTime:{timestamp}\tOffset:{offset}\t{headers}\t{key}\t{value}"
        )
        .unwrap();
    }
    let printed = kafka_tools::run(node, CONSOLE_CONSUMER, &arguments);
    let printed: String = printed
        .lines()
        .take(CODECS.len() * PER_CODEC)
        .fold(String::new(), |text, line| text + line + "\n");
    assert_same(
        &printed,
        &lines,
        &format!("the console consumer of {topic}"),
    );
}

/// Compares line by line, so that a failure shows the first difference and not everything.
fn assert_same(printed: &str, expected: &str, reader: &str) {
    for (printed, expected) in printed.lines().zip(expected.lines()) {
        assert_eq!(printed, expected, "{reader}");
    }
    assert_eq!(
        printed.lines().count(),
        expected.lines().count(),
        "{reader}: lines"
    );
}
