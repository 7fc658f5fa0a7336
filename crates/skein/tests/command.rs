//! The command from outside: a node, topics, records, mistakes.

// Helpers of tests: a panic is how they fail.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SKEIN: &str = env!("CARGO_BIN_EXE_skein");
const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    process: Child,
    bootstrap: String,
}

impl Node {
    /// Stops it in order: everything is flushed, and the next start scans nothing.
    fn stop(mut self) {
        let terminate = format!("kill -TERM {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &terminate]).status();
        assert!(sent.unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }

    fn start(directory: &Path) -> Self {
        // Held together, so that they differ.
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer, http] = free.map(|one| one.local_addr().unwrap().to_string());
        let process = Command::new(SKEIN)
            .arg("serve")
            .args(["--set", &format!("listeners=PLAINTEXT://{client}")])
            .args(["--set", &format!("peer.listener={peer}")])
            .args(["--set", &format!("http.listener={http}")])
            .args(["--set", &format!("log.dirs={}", directory.display())])
            .spawn()
            .unwrap();
        let node = Self {
            process,
            bootstrap: client,
        };
        let begin = Instant::now();
        while !node.run("topic list", "").status.success() {
            assert!(begin.elapsed() < PATIENCE, "the node does not serve");
        }
        node
    }

    fn run(&self, arguments: &str, input: &str) -> Output {
        let mut command = Command::new(SKEIN)
            .args(arguments.split(' '))
            .args(["--bootstrap", &self.bootstrap])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails early reads nothing.
        let _ = command.stdin.take().unwrap().write_all(input.as_bytes());
        command.wait_with_output().unwrap()
    }

    fn text(&self, arguments: &str, input: &str) -> String {
        let output = self.run(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn records_come_back_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    node.text("topic create orders --partitions 2", "");
    node.text(
        "produce orders --partition 1 --key-separator :",
        "a:1\nb:2\nplain\n",
    );
    let format = "consume orders --format {partition}/{offset}/{key}/{value};";
    assert_eq!(node.text(format, ""), "1/0/a/1;1/1/b/2;1/2//plain;");
    assert_eq!(
        node.text("consume orders --partition 1 --from 1 --count 1", ""),
        "2\n"
    );
    let described = node.text("topic describe orders --json", "");
    assert!(described.contains("\"high_watermark\": 3"), "{described}");
    node.text("topic delete orders", "");
}

#[test]
fn a_damaged_partition_is_told_at_once_the_others_go_on_and_repaired_it_leads_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    node.text("topic create orders --partitions 2", "");
    for partition in ["0", "1"] {
        let produce = format!("produce orders --partition {partition}");
        node.text(&produce, "first\nsecond\n");
    }
    node.stop();
    let log = directory.path().join("orders-0/00000000000000000000.log");
    let whole = std::fs::read(&log).unwrap();
    let mut damaged = whole.clone();
    damaged[16] = 9; // the magic of a batch below the recovery point
    std::fs::write(&log, &damaged).unwrap();

    let node = Node::start(directory.path());
    let begin = Instant::now();
    let described = loop {
        let described = node.text("topic describe orders", "");
        if described.contains("none") {
            break described;
        }
        assert!(begin.elapsed() < PATIENCE, "{described}");
    };
    let rows: Vec<Vec<_>> = described
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let leader = |partition: &str| {
        rows.iter()
            .find(|row| row.first() == Some(&partition))
            .unwrap()[1]
    };
    assert_eq!((leader("0"), leader("1")), ("none", "1"), "{described}");
    let begin = Instant::now();
    let described = node.text("topic describe orders --json", "");
    assert!(described.contains("\"leader\": null"), "{described}");
    let consumed = node.run("consume orders", "");
    let told = String::from_utf8_lossy(&consumed.stderr).into_owned();
    assert_eq!(consumed.status.code(), Some(1));
    assert!(told.contains("orders-0 has no leader"), "{told}");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "it was waited for"
    );
    node.text("produce orders --partition 1", "third\n");
    let others = node.text("consume orders --partition 1", "");
    assert_eq!(others, "first\nsecond\nthird\n");
    node.stop();
    assert_eq!(std::fs::read(&log).unwrap(), damaged, "nothing was cut");

    std::fs::write(&log, &whole).unwrap();
    let node = Node::start(directory.path());
    node.text("produce orders --partition 0", "third\n");
    let repaired = node.text("consume orders --partition 0", "");
    assert_eq!(repaired, "first\nsecond\nthird\n");
}

#[test]
fn what_fails_says_why_and_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    let output = node.run("consume nosuch", "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("skein topic create"));
    assert_eq!(node.run("topic create a/b", "").status.code(), Some(2));
    let serve = Command::new(SKEIN)
        .args(["serve", "--set", "listener=x"])
        .output()
        .unwrap();
    assert_eq!(serve.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&serve.stderr).contains("did you mean \"listeners\""));
}
