//! `skein bench`: each measures for a moment, and its numbers hang together.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use skein_tests::guardian::Guarded;
use skein_tests::{Node, System};

use super::{eventually, run, skein, text};

fn bench(node: &Node, words: &str) -> Value {
    let report = text(node, &format!("bench {words} --json"), "");
    serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
}

/// Percentiles rise, and none is 0.
fn assert_latencies(value: &Value) {
    let of = |key: &str| value[key].as_f64().unwrap();
    let rising = ["p50", "p90", "p99", "p99_9", "max"].map(of);
    assert!(rising[0] > 0.0 && rising.is_sorted(), "{value}");
    assert!((0.0..=of("max")).contains(&of("mean")), "{value}");
}

fn topics(node: &Node) -> String {
    text(node, "topic list --json", "")
}

#[test]
fn each_measures_and_leaves_no_topic_behind() {
    let node = Node::start(System::Skein, &[]);
    let words = "produce --records 3000 --warmup 100 --record-bytes 200 --partitions 3";
    let produced = bench(&node, words);
    assert_eq!(produced["records"], 3000);
    assert_eq!(produced["bytes"], 3000 * 200);
    assert!(produced["records_per_second"].as_f64().unwrap() > 0.0);
    assert_latencies(&produced["latency_ms"]);
    let client = &produced["client"];
    let (requests, batches) = (client["requests"].as_u64(), client["batches"].as_u64());
    assert!(requests.unwrap() >= 1 && batches >= requests, "{client}");
    assert!(
        client["records_per_batch"].as_f64().unwrap() >= 1.0,
        "{client}"
    );

    let consumed = bench(
        &node,
        "consume --records 3000 --record-bytes 200 --compression zstd",
    );
    assert_eq!(consumed["records"], 3000);
    assert_eq!(consumed["bytes"], 3000 * 200);
    let client = &consumed["client"];
    assert!(client["fetches"].as_u64().unwrap() >= 1, "{client}");
    // Words compress.
    assert!(client["bytes"].as_u64().unwrap() < 3000 * 200, "{client}");

    let latency = bench(&node, "latency --records 100 --record-bytes 50");
    assert_eq!(latency["records"], 100);
    assert_latencies(&latency["latency_ms"]);
    assert_latencies(&latency["ack_latency_ms"]);
    eventually("no topic is left", || topics(&node).trim() == "[]");
}

#[test]
fn a_topic_that_exists_is_measured_and_kept() {
    let node = Node::start(System::Skein, &[]);
    text(&node, "topic create mine --partitions 2", "");
    bench(
        &node,
        "produce --topic mine --records 500 --warmup 0 --acks 1",
    );
    let consumed = bench(&node, "consume --topic mine");
    assert_eq!(consumed["records"], 500);
    assert!(topics(&node).contains("mine"));
    let unknown = run(&node, "bench produce --topic mien --records 5");
    assert_eq!(unknown.status.unwrap().code(), Some(1), "{unknown}");
    assert!(unknown.stderr.contains("skein topic list"), "{unknown}");
}

#[test]
fn ended_early_it_reports_and_deletes_its_topic_all_the_same() {
    let node = Node::start(System::Skein, &[]);
    let mut command = skein(
        &node,
        "bench produce --records 1000000 --warmup 0 --throughput 1000 --json",
    );
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Guarded::spawn(&mut command).unwrap();
    eventually("records arrive", || {
        let listed: Value = serde_json::from_str(&topics(&node)).unwrap();
        let Some(topic) = listed[0]["topic"].as_str() else {
            return false;
        };
        let read = run(&node, &format!("consume {topic} --count 1"));
        read.succeeded() && !read.stdout.is_empty()
    });
    process.signal(Signal::INT);
    let mut report = String::new();
    let mut stdout = process.child().stdout.take().unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut report).unwrap();
    assert!(process.wait().success());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["interrupted"], true, "{report}");
    assert!(report["records"].as_u64().unwrap() >= 1, "{report}");
    eventually("no topic is left", || topics(&node).trim() == "[]");
}
