//! What goes wrong is told at once, precisely, and with what to do.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use skein_tests::node::skein_binary;
use skein_tests::program::{self, Finished};
use skein_tests::{Node, System};

use super::{PATIENCE, run, skein, text};

/// Fails with 1, and tells all of this.
fn assert_told(finished: &Finished, parts: &[&str]) {
    assert_eq!(finished.status.unwrap().code(), Some(1), "{finished}");
    for part in parts {
        assert!(finished.stderr.contains(part), "{part}: {finished}");
    }
}

fn at(words: &str, port: u16) -> Finished {
    let mut command = Command::new(skein_binary());
    command
        .args(words.split(' '))
        .args(["--bootstrap", &format!("127.0.0.1:{port}")]);
    program::run_with_input(&mut command, "line\n", PATIENCE)
}

#[test]
fn a_port_without_a_broker_is_told_with_its_address() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    for words in ["produce t", "consume t", "topic list", "bench produce"] {
        let address = format!("no broker answers at 127.0.0.1:{port}");
        assert_told(&at(words, port), &[&address, "Is a node running?"]);
    }
    // Whoever speaks something else there.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let _ = stream.and_then(|mut stream| {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            });
        }
    });
    let address = format!("127.0.0.1:{port}");
    assert_told(&at("topic list", port), &[&address, "not a Kafka broker"]);
}

#[test]
fn an_unknown_topic_and_a_record_that_is_too_large_are_told_with_a_remedy() {
    let node = Node::start(System::Skein, &[("auto.create.topics.enable", "false")]);
    let produce = |words: &str, input: &str| {
        program::run_with_input(&mut skein(&node, words), input, PATIENCE)
    };
    for finished in [
        produce("produce nosuch", "a\n"),
        run(&node, "consume nosuch"),
    ] {
        assert_told(&finished, &["nosuch", "skein topic create"]);
    }
    text(
        &node,
        "topic create small --partitions 1 --config max.message.bytes=500",
        "",
    );
    let line = "x".repeat(2000) + "\n";
    let refused = produce("produce small", &line);
    assert_told(&refused, &["small-0", "max.message.bytes"]);
    let refused = produce("produce small --max-request-size 1000", &line);
    assert_told(&refused, &["1000", "--max-request-size"]);
}

#[test]
fn a_partition_that_is_offline_is_told_soon_and_the_others_go_on() {
    let mut node = Node::start(System::Skein, &[]);
    text(&node, "topic create logs --partitions 2", "");
    for partition in [0, 1] {
        text(
            &node,
            &format!("produce logs --partition {partition}"),
            "one\n",
        );
    }
    node.stop();
    let segment = node
        .data_directory()
        .join("logs-0/00000000000000000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[16] = 9; // the magic of a batch below the recovery point
    fs::write(&segment, bytes).unwrap();
    node.start_again();
    // Both at the moment when the partition still has a leader, and later. The timeout is one that
    // must not be waited for: the test would be over before.
    let produced = program::run_with_input(
        &mut skein(&node, "produce logs --partition 0 --timeout 3600"),
        "two\n",
        PATIENCE,
    );
    assert_told(&produced, &["logs-0 has no leader", "broker 1"]);
    let consumed = run(&node, "consume logs --timeout 3600");
    assert_told(&consumed, &["logs-0 has no leader"]);
    let described = text(&node, "topic describe logs --timeout 3600", "");
    assert!(
        described.contains("1 partition without a leader"),
        "{described}"
    );
    let others = text(&node, "consume logs --partition 1 --timeout 3600", "");
    assert_eq!(others, "one\n");
    text(&node, "produce logs --partition 1", "two\n");
}

#[test]
fn a_disk_that_is_full_is_told_as_what_it_is() {
    const SIZE_BYTES: usize = 24 << 20;
    let mut node = Node::prepare(System::Skein, &[]);
    fs::create_dir(node.data_directory()).unwrap();
    node.mount_small_disk(SIZE_BYTES);
    node.start_again();
    text(&node, "topic create full --partitions 1", "");
    let input = ("x".repeat(100_000) + "\n").repeat(SIZE_BYTES / 100_000 + 1);
    let mut command = skein(&node, "produce full --timeout 3");
    let refused = program::run_with_input(&mut command, &input, PATIENCE);
    assert_told(
        &refused,
        &["KAFKA_STORAGE_ERROR", "is it full?", "written before"],
    );
    assert!(node.is_alive(), "{}", node.log_tail());
}
