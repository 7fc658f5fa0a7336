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
