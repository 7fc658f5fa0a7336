//! The `skein` command as its users meet it: files that are followed, groups, benches, what goes
//! wrong.
//!
//! Input: nodes of their own, processes, real files. Output: records that are there once, and
//! messages that say what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "command/bench.rs"]
mod bench;
#[path = "command/failures.rs"]
mod failures;
#[path = "command/follow.rs"]
mod follow;
#[path = "command/groups.rs"]
mod groups;
#[path = "command/members.rs"]
mod members;
#[path = "command/restarts.rs"]
mod restarts;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use skein_tests::Node;
use skein_tests::node::skein_binary;
use skein_tests::program::{self, Finished};

/// Nothing here takes that long on a healthy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `skein` with these words; the bootstrap address is put behind them.
fn skein(node: &Node, words: &str) -> Command {
    let mut command = Command::new(skein_binary());
    command
        .args(words.split_whitespace())
        .args(["--bootstrap", &node.bootstrap()]);
    command
}

/// Runs it to its end.
fn run(node: &Node, words: &str) -> Finished {
    program::run(&mut skein(node, words), PATIENCE)
}

/// Runs it to its end with this on standard input; it must succeed. Its standard output.
fn text(node: &Node, words: &str, input: &str) -> String {
    let finished = program::run_with_input(&mut skein(node, words), input, PATIENCE);
    assert!(finished.succeeded(), "{finished}{}", node.log_tail());
    finished.stdout
}

/// As [`text`], with what it says as JSON.
fn json(node: &Node, words: &str) -> Value {
    serde_json::from_str(&text(node, &format!("{words} --json"), "")).unwrap()
}

/// The values of all records of a topic, of partition 0 first.
fn values(node: &Node, topic: &str) -> Vec<String> {
    let read = text(node, &format!("consume {topic}"), "");
    read.lines().map(str::to_owned).collect()
}

/// Waits until it holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
