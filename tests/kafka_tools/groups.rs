//! Groups of Kafka's own consumer, and the tool that looks at them and changes them.
//!
//! Input: command lines as in Kafka's documentation. Output: what the tools print, checked in what
//! does not depend on the machine.

use skein_tests::client::kafka_tools::{
    CONSOLE_CONSUMER, CONSOLE_PRODUCER, CONSUMER_GROUPS, TOPICS, run, run_with_input,
};
use skein_tests::{Node, System, on_both};

on_both!(a_group_goes_on_where_it_was_through_a_crash_and_is_looked_after);

/// What the group reads, sorted, because partitions have no order among one another.
fn consume(node: &Node, topic: &str, count: &str) -> Vec<String> {
    let group = ["--topic", topic, "--group", "readers", "--from-beginning"];
    let limits = ["--max-messages", count, "--timeout-ms", "30000"];
    let read = run(node, CONSOLE_CONSUMER, &[&group[..], &limits].concat());
    // The tool says on the same output how many there were.
    let is_value = |line: &&str| !line.is_empty() && line.chars().all(char::is_numeric);
    let values = read.lines().filter(is_value);
    let mut read: Vec<String> = values.map(str::to_owned).collect();
    read.sort();
    read
}

/// The committed offset of each partition, as the tool prints it.
fn offsets(node: &Node) -> Vec<String> {
    let describe = ["--describe", "--group", "readers"];
    let described = run(node, CONSUMER_GROUPS, &describe);
    let rows = described.lines().filter(|line| line.starts_with("readers"));
    let columns = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG
    let mut offsets: Vec<String> = columns
        .map(|row| format!("{}: {} of {}", row[2], row[3], row[4]))
        .collect();
    offsets.sort();
    offsets
}

fn a_group_goes_on_where_it_was_through_a_crash_and_is_looked_after(system: System) {
    let mut node = Node::start(system, &[]);
    let topic = "tools-groups";
    run(
        &node,
        TOPICS,
        &["--create", "--topic", topic, "--partitions", "1"],
    );
    let produce = |node: &Node, lines| {
        run_with_input(node, CONSOLE_PRODUCER, &["--topic", topic], lines);
    };
    produce(&node, "1\n2\n3\n");
    assert_eq!(consume(&node, topic, "3"), ["1", "2", "3"]);
    assert_eq!(offsets(&node), ["0: 3 of 3"]);

    node.kill();
    node.start_again();
    produce(&node, "4\n5\n");
    assert_eq!(offsets(&node), ["0: 3 of 5"]);
    assert_eq!(consume(&node, topic, "2"), ["4", "5"]);

    let groups = |arguments: &[&str]| run(&node, CONSUMER_GROUPS, arguments);
    let listed = groups(&["--list"]);
    assert!(listed.lines().any(|line| line == "readers"), "{listed}");
    let of = ["--group", "readers"];
    let state = groups(&[&of[..], &["--describe", "--state"]].concat());
    assert!(state.contains("Empty"), "{state}");
    let reset = [
        "--reset-offsets",
        "--to-offset",
        "1",
        "--topic",
        topic,
        "--execute",
    ];
    groups(&[&of[..], &reset].concat());
    assert_eq!(offsets(&node), ["0: 1 of 5"]);
    assert_eq!(consume(&node, topic, "4"), ["2", "3", "4", "5"]);

    groups(&[&of[..], &["--delete-offsets", "--topic", topic]].concat());
    assert_eq!(offsets(&node), [""; 0]);
    groups(&[&of[..], &["--delete"]].concat());
    let listed = groups(&["--list"]);
    assert!(!listed.lines().any(|line| line == "readers"), "{listed}");
    // The tool tells the error, and does not fail.
    let gone = groups(&[&of[..], &["--delete"]].concat());
    assert!(gone.contains("GroupIdNotFoundException"), "{gone}");
}
