//! Groups of Kafka's own consumer, and the tool that looks at them and changes them.
//!
//! Input: command lines as in Kafka's documentation. Output: what the tools print, checked in what
//! does not depend on the machine.

use serde_json::Value;
use skein_tests::client::kafka_tools::{
    CONSOLE_CONSUMER, CONSOLE_PRODUCER, CONSUMER_GROUPS, TOPICS, VERIFIABLE_CONSUMER,
    VERIFIABLE_PRODUCER, run, run_with_input,
};
use skein_tests::{Node, System, on_both};

on_both!(
    a_group_goes_on_where_it_was_through_a_crash_and_is_looked_after,
    kafkas_own_test_clients_write_read_and_commit,
);

/// `kafka-consumer-perf-test.sh`.
const CONSUMER_PERFORMANCE: &str = "org.apache.kafka.tools.ConsumerPerformance";

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

/// The lines of JSON with this name that a verifiable client printed.
fn events(printed: &str, name: &str) -> Vec<Value> {
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    let events = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["name"] == name).collect()
}

/// They start together, because a JVM takes longer to start than to do its work here.
fn kafkas_own_test_clients_write_read_and_commit(system: System) {
    let node = Node::shared(system);
    let (topic, count) = ("tools-verifiable", "2000");
    run(
        node,
        TOPICS,
        &["--create", "--topic", topic, "--partitions", "4"],
    );
    let of = ["--topic", topic];
    let start = |class: &'static str, options: &'static [&'static str]| {
        std::thread::spawn(move || run(node, class, &[&of[..], options].concat()))
    };
    let producer = start(VERIFIABLE_PRODUCER, &["--max-messages", "2000"]);
    let consumer = start(
        VERIFIABLE_CONSUMER,
        &["--group-id", "verifiable", "--max-messages", "2000"],
    );
    let performance = start(
        CONSUMER_PERFORMANCE,
        &["--group", "performance", "--messages", "2000"],
    );

    let printed = producer.join().unwrap();
    let told = &events(&printed, "tool_data")[0];
    assert_eq!(
        (&told["sent"], &told["acked"]),
        (&2000.into(), &2000.into())
    );
    assert_eq!(events(&printed, "producer_send_success").len(), 2000);

    let printed = consumer.join().unwrap();
    let assigned = &events(&printed, "partitions_assigned")[0]["partitions"];
    assert_eq!(assigned.as_array().unwrap().len(), 4, "{assigned}");
    let counts = events(&printed, "records_consumed");
    let read: u64 = counts
        .iter()
        .map(|event| event["count"].as_u64().unwrap())
        .sum();
    assert_eq!(read.to_string(), count);
    let commits = events(&printed, "offsets_committed");
    assert!(commits.iter().all(|commit| commit["success"] == true));
    assert!(!commits.is_empty(), "{printed}");

    // A row of comma-separated figures; the fifth is the number of records.
    let printed = performance.join().unwrap();
    let row = printed.lines().find(|line| line.starts_with("20")).unwrap();
    assert_eq!(row.split(", ").nth(4), Some(count), "{printed}");
    // What the groups have left is there.
    let listed = run(node, CONSUMER_GROUPS, &["--list", "--state", "Empty"]);
    for group in ["verifiable", "performance"] {
        assert!(listed.contains(group), "{listed}");
    }
}
