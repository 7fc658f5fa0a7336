//! What a node serves at `/metrics`, against the table of it.
//!
//! Input: a node that has produced, fetched, refused and deleted. Output: every metric that it
//! serves is in the table with its type, labels and text, and every one of the table is served.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use skein_tests::node::skein_binary;
use skein_tests::program;
use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, System};

use super::table::{self, Row};

const TOPIC: &str = "observed";
/// A busy machine needs a moment; nothing needs this.
const GONE_MAX: Duration = Duration::from_secs(30);

#[test]
fn the_table_of_metrics_is_what_a_node_serves_and_nothing_else() {
    let node = Node::start(System::Skein, &[]);
    work(&node);
    let answer = node.get("/metrics").unwrap();
    let served: BTreeSet<_> = rows(&answer).iter().map(Row::line).collect();
    let documented: BTreeSet<_> = table::rows().iter().map(Row::line).collect();
    let lines = |lines: Vec<&String>| {
        let lines: Vec<_> = lines.into_iter().map(String::as_str).collect();
        lines.join("\n")
    };
    assert!(
        served == documented,
        "served, and not in config/METRICS.md as it is:\n{}\n\nin config/METRICS.md, and not \
         served so:\n{}",
        lines(served.difference(&documented).collect()),
        lines(documented.difference(&served).collect())
    );
    topics_are_counted_while_they_are_there(&node, &answer);
}

/// Has each metric tell something.
fn work(node: &Node) {
    let mut connection = Connection::open(node.ports().client).unwrap();
    let created = connection.create_topic(TOPIC, 1, &[]).unwrap();
    assert_eq!(created, error::NONE);
    for _ in 0..2 {
        let batch = Batch::of(["one", "two", "three"]).encode();
        let produced = connection.produce(TOPIC, 0, &batch).unwrap();
        assert_eq!(produced.error_code, error::NONE);
    }
    let fetched = connection.fetch(TOPIC, 0, 2, 100).unwrap();
    assert_eq!(fetched.error_code, error::NONE);
    let fetched = connection.fetch(TOPIC, 0, 1_000, 100).unwrap();
    assert_eq!(fetched.error_code, error::OFFSET_OUT_OF_RANGE);
    // A topic that stays: the lag of a group is told of what was measured a moment ago.
    assert_eq!(
        connection.create_topic("read", 1, &[]).unwrap(),
        error::NONE
    );
    let mut command = Command::new(skein_binary());
    command.args([
        "group",
        "reset",
        "readers",
        "--topic",
        "read",
        "--to-latest",
    ]);
    let reset = program::run(command.args(["--bootstrap", &node.bootstrap()]), GONE_MAX);
    assert!(reset.succeeded(), "{reset}");
}

fn topics_are_counted_while_they_are_there(node: &Node, answer: &str) {
    let value = |name: &str| {
        let line = format!("skein_topic_{name}_total{{topic=\"{TOPIC}\"}} ");
        let line = answer.lines().find_map(|told| told.strip_prefix(&line));
        let value = line.unwrap_or_else(|| panic!("no {name} of {TOPIC} in:\n{answer}"));
        value.parse::<u64>().unwrap()
    };
    let batch = Batch::of(["one", "two", "three"]).encode().len() as u64;
    assert_eq!([value("in_bytes"), value("in_records")], [2 * batch, 6]);
    // From the middle of the first batch on: all of its bytes, and the records that were asked for.
    assert_eq!([value("out_bytes"), value("out_records")], [2 * batch, 4]);
    let refused = "skein_request_errors_total{api=\"Fetch\",error=\"OFFSET_OUT_OF_RANGE\"} 1";
    assert!(answer.contains(refused), "{answer}");

    let mut connection = Connection::open(node.ports().client).unwrap();
    assert_eq!(connection.delete_topic(TOPIC).unwrap(), error::NONE);
    // The answer comes with the image, and the node follows the image in the background.
    let began = Instant::now();
    while node.get("/metrics").unwrap().contains(TOPIC) {
        assert!(began.elapsed() < GONE_MAX, "told still: {TOPIC}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The metrics in the text, a row each.
fn rows(answer: &str) -> Vec<Row> {
    let (_, text) = answer.split_once("\r\n\r\n").expect("a body");
    let mut kinds: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut found: BTreeMap<&str, Row> = BTreeMap::new();
    let (mut help, mut family) = ("", "");
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            // The encoder ends some with a full stop.
            help = line
                .split_once(' ')
                .expect("a help text")
                .1
                .trim_end_matches('.');
        } else if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').expect("a type");
            assert!(kinds.insert(name, (kind, help)).is_none(), "{name} twice");
            family = name;
        } else if line != "# EOF" {
            let (name, labels) = sample(line);
            let (kind, help) = kinds[family];
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("{family} is a {other}"),
            };
            let suffix = name.strip_prefix(family).expect("a sample of its family");
            assert!(suffixes.contains(&suffix), "{name} is a {kind}");
            let row = found.entry(family).or_insert_with(|| Row {
                name: match kind {
                    "counter" => format!("{family}_total"),
                    _ => family.to_owned(),
                },
                kind: kind.to_owned(),
                labels: BTreeSet::new(),
                help: help.to_owned(),
            });
            row.labels.extend(labels);
        }
    }
    // What has a type and no sample has not been served.
    let silent: Vec<_> = kinds
        .keys()
        .filter(|name| !found.contains_key(*name))
        .collect();
    assert!(silent.is_empty(), "without a sample: {silent:?}");
    found.into_values().collect()
}

/// Name and labels of a sample, without that of a histogram's buckets.
fn sample(line: &str) -> (&str, Vec<String>) {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, rest) = line.split_at(end);
    let Some(labels) = rest.strip_prefix('{') else {
        return (name, Vec::new());
    };
    let (labels, _) = labels.split_once('}').expect("an end of the labels");
    // No value here has a comma or a bracket.
    let keys = labels.split(',').filter_map(|label| label.split_once('='));
    let keys = keys.map(|(key, _)| key).filter(|key| *key != "le");
    (name, keys.map(str::to_owned).collect())
}
