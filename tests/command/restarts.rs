//! A node that goes away and comes back while somebody writes and reads.

use std::process::Stdio;

use rustix::process::Signal;
use skein_tests::guardian::Guarded;
use skein_tests::{Node, System};

use super::follow::Following;
use super::{eventually, skein, values};

#[test]
fn a_node_that_is_killed_and_started_again_loses_no_line_and_doubles_none() {
    let mut node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    log.start(&node, "");
    let mut lines = Vec::new();
    let mut write = |log: &Following| {
        let from = lines.len();
        lines.extend((from..from + 500).map(|number| number.to_string()));
        let text: String = lines[from..].iter().map(|one| format!("{one}\n")).collect();
        log.append(&text);
        lines.clone()
    };
    write(&log);
    eventually("the first lines", || !values(&node, "logs").is_empty());
    for is_killed in [true, false] {
        write(&log);
        if is_killed {
            node.kill();
        } else {
            node.stop();
        }
        write(&log);
        node.start_again();
        let all = write(&log);
        eventually("all lines", || values(&node, "logs").len() >= all.len());
        assert_eq!(values(&node, "logs"), all, "{}", log.told());
    }
    assert!(log.end(Signal::TERM).success(), "{}", log.told());
}

#[test]
fn a_follower_told_to_stop_while_the_node_is_down_sends_the_rest_at_its_next_start() {
    let mut node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    log.append("one\n");
    log.start(&node, "");
    log.wait_for(&node, &["one"]);
    node.kill();
    log.append("two\n");
    // It has read the line, and tells that it is stuck with it.
    eventually("it is stuck", || log.told().contains("(1 line on the way)"));
    assert!(log.end(Signal::TERM).success(), "{}", log.told());
    assert!(
        log.told().contains("1 line not acknowledged"),
        "{}",
        log.told()
    );
    // It starts before the node does, too.
    log.start(&node, "");
    eventually("it waits", || log.told().contains("trying on"));
    node.start_again();
    log.wait_for(&node, &["one", "two"]);
}

#[test]
fn a_consumer_that_follows_goes_on_where_it_was_when_the_node_is_back() {
    let mut node = Node::start(System::Skein, &[]);
    super::text(&node, "topic create logs --partitions 1", "");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("read");
    let out = std::fs::File::create(&path).unwrap();
    let mut command = skein(&node, "consume logs --follow");
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::null());
    let consumer = Guarded::spawn(&mut command).unwrap();
    let mut expected = String::new();
    for number in 0..3 {
        let line = format!("{number}\n");
        super::text(&node, "produce logs", &line);
        expected += &line;
        eventually(&expected, || {
            std::fs::read_to_string(&path).unwrap() == expected
        });
        node.kill();
        node.start_again();
    }
    drop(consumer);
}
