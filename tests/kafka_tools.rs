//! Kafka's own command-line tools, unmodified, from its jars, against both systems.
//!
//! Input: command lines as in Kafka's documentation. Output: what the tools print, checked;
//! messages of errors are the server's own words, so only their class is compared.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "kafka_tools/administration.rs"]
mod administration;
#[path = "kafka_tools/dynamic.rs"]
mod dynamic;
#[path = "kafka_tools/groups.rs"]
mod groups;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use skein_tests::client::kafka_tools::{
    CONFIGS, CONSOLE_CONSUMER, CONSOLE_PRODUCER, DUMP_LOG, GET_OFFSETS, PRODUCER_PERFORMANCE,
    TOPICS, refused, run, run_with_input,
};
use skein_tests::wire::Connection;
use skein_tests::{Node, System, on_both};

on_both!(
    topics_are_created_listed_described_grown_and_deleted,
    topic_configs_are_altered_and_described,
    console_producer_and_consumer_keep_all_fields,
    console_producer_with_every_codec,
    console_consumer_starts_where_asked,
    producer_performance_and_get_offsets,
    get_offsets_by_time,
    dump_log_reads_the_segments_of_the_node,
    java_producer_writes_each_record_once_through_a_crash,
);

fn topics_are_created_listed_described_grown_and_deleted(system: System) {
    let node = Node::shared(system);
    let topic = "tools-topics";
    let create = ["--create", "--topic", topic, "--partitions", "3"];
    let config = ["--config", "segment.bytes=1048576"];
    run(node, TOPICS, &[&create[..], &config].concat());
    let again = refused(node, TOPICS, &create);
    assert!(again.contains("TopicExistsException"), "{again}");
    run(node, TOPICS, &[&create[..], &["--if-not-exists"]].concat());
    let illegal = refused(node, TOPICS, &["--create", "--topic", "a..b/c"]);
    assert!(illegal.contains("InvalidTopicException"), "{illegal}");

    let listed = run(node, TOPICS, &["--list"]);
    assert!(listed.lines().any(|line| line == topic), "{listed}");
    let described = run(node, TOPICS, &["--describe", "--topic", topic]);
    assert!(described.contains("PartitionCount: 3"), "{described}");
    assert!(described.contains("ReplicationFactor: 1"), "{described}");
    assert!(described.contains("segment.bytes=1048576"), "{described}");
    assert_eq!(described.matches("Isr: 1").count(), 3, "{described}");

    let grow = |partitions| ["--alter", "--topic", topic, "--partitions", partitions];
    run(node, TOPICS, &grow("5"));
    let described = run(node, TOPICS, &["--describe", "--topic", topic]);
    assert!(described.contains("PartitionCount: 5"), "{described}");
    let shrunk = refused(node, TOPICS, &grow("2"));
    assert!(shrunk.contains("InvalidPartitionsException"), "{shrunk}");

    run(node, TOPICS, &["--delete", "--topic", topic]);
    let listed = run(node, TOPICS, &["--list"]);
    assert!(!listed.lines().any(|line| line == topic), "{listed}");
    let gone = refused(node, TOPICS, &["--describe", "--topic", topic]);
    assert!(gone.contains("does not exist"), "{gone}");
}

fn topic_configs_are_altered_and_described(system: System) {
    let node = Node::shared(system);
    let topic = "tools-configs";
    run(node, TOPICS, &["--create", "--topic", topic]);
    let entity = ["--entity-type", "topics", "--entity-name", topic];
    let alter = |change: &[&str]| {
        let arguments = [&entity[..], &["--alter"], change].concat();
        run(node, CONFIGS, &arguments)
    };
    let describe = || run(node, CONFIGS, &[&entity[..], &["--describe"]].concat());

    alter(&[
        "--add-config",
        "retention.ms=3600000,max.message.bytes=2000000",
    ]);
    let described = describe();
    assert!(described.contains("retention.ms=3600000"), "{described}");
    assert!(
        described.contains("max.message.bytes=2000000"),
        "{described}"
    );
    alter(&["--delete-config", "retention.ms"]);
    let described = describe();
    assert!(!described.contains("retention.ms"), "{described}");
    assert!(
        described.contains("max.message.bytes=2000000"),
        "{described}"
    );

    let all = run(
        node,
        CONFIGS,
        &[&entity[..], &["--describe", "--all"]].concat(),
    );
    for default in [
        "retention.ms=604800000",
        "cleanup.policy=delete",
        "index.interval.bytes=4096",
    ] {
        assert!(all.contains(default), "{default} is missing:\n{all}");
    }
    for wrong in [
        "retention.millis=1",
        "retention.ms=-3",
        "max.message.bytes=many",
    ] {
        let arguments = [&entity[..], &["--alter", "--add-config", wrong]].concat();
        let output = refused(node, CONFIGS, &arguments);
        assert!(
            output.contains("InvalidConfigurationException"),
            "{wrong}: {output}"
        );
    }
}

/// All that the console consumer can print of a record, but the timestamp.
const ALL_FIELDS: [&str; 8] = [
    "--property",
    "print.key=true",
    "--property",
    "print.headers=true",
    "--property",
    "print.offset=true",
    "--property",
    "print.partition=true",
];

fn console_producer_and_consumer_keep_all_fields(system: System) {
    let node = Node::shared(system);
    let topic = "tools-console";
    run(node, TOPICS, &["--create", "--topic", topic]);
    let produce = [
        "--topic",
        topic,
        "--property",
        "parse.key=true",
        "--property",
        "parse.headers=true",
        "--property",
        "null.marker=NULL",
    ];
    let lines = "h1:v1,h2:v2\tkey\tvalue\nNULL\tkey\tNULL\nh:v\tNULL\twert ☃\n";
    run_with_input(node, CONSOLE_PRODUCER, &produce, lines);
    let consumed = consume(node, topic, "earliest", 3, &ALL_FIELDS);
    let expected = "Partition:0\tOffset:0\th1:v1,h2:v2\tkey\tvalue\n\
                    Partition:0\tOffset:1\tNO_HEADERS\tkey\tnull\n\
                    Partition:0\tOffset:2\th:v\tnull\twert ☃";
    assert!(consumed.contains(expected), "{consumed}");
}

fn console_producer_with_every_codec(system: System) {
    let node = Node::shared(system);
    let topic = "tools-codecs";
    run(node, TOPICS, &["--create", "--topic", topic]);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let mut expected = String::new();
    for codec in codecs {
        let lines: String = (0..100)
            .map(|index| format!("{codec} {index} {}\n", "x".repeat(100)))
            .collect();
        let produce = [
            "--topic",
            topic,
            "--compression-codec",
            codec,
            "--timeout",
            "50",
        ];
        run_with_input(node, CONSOLE_PRODUCER, &produce, &lines);
        expected += &lines;
    }
    let consumed = consume(node, topic, "0", 100 * codecs.len(), &[]);
    assert!(consumed.starts_with(&expected), "{consumed}");
}

fn console_consumer_starts_where_asked(system: System) {
    let node = Node::shared(system);
    let topic = "tools-places";
    run(node, TOPICS, &["--create", "--topic", topic]);
    let lines: String = (0..100).map(|index| format!("{index}\n")).collect();
    run_with_input(node, CONSOLE_PRODUCER, &["--topic", topic], &lines);
    let last_two = consume(node, topic, "98", 2, &[]);
    assert!(last_two.starts_with("98\n99\n"), "{last_two}");
    let middle = consume(node, topic, "37", 1, &[]);
    assert!(middle.starts_with("37\n"), "{middle}");
}

fn producer_performance_and_get_offsets(system: System) {
    let node = Node::shared(system);
    let topic = "tools-performance";
    run(
        node,
        TOPICS,
        &["--create", "--topic", topic, "--partitions", "4"],
    );
    let rounds = [
        ("20000", "100", "acks=all", "compression.type=none"),
        ("20000", "100", "acks=1", "compression.type=zstd"),
        ("1000", "10000", "acks=0", "compression.type=lz4"),
    ];
    for (records, size, acks, codec) in rounds {
        let output = perform(
            node,
            topic,
            records,
            size,
            &["--throughput", "-1"],
            &[acks, codec],
        );
        assert!(
            output.contains(&format!("{records} records sent")),
            "{output}"
        );
    }
    let latest = offsets(node, topic, "latest");
    assert_eq!(latest.len(), 4, "{latest:?}");
    assert_eq!(latest.values().sum::<u64>(), 41_000, "{latest:?}");
    assert!(
        offsets(node, topic, "earliest")
            .values()
            .all(|offset| *offset == 0)
    );
}

fn get_offsets_by_time(system: System) {
    let node = Node::shared(system);
    let topic = "tools-times";
    run(node, TOPICS, &["--create", "--topic", topic]);
    run_with_input(node, CONSOLE_PRODUCER, &["--topic", topic], "1\n2\n3\n");
    std::thread::sleep(Duration::from_millis(5));
    let between = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let between = between.as_millis().to_string();
    std::thread::sleep(Duration::from_millis(5));
    run_with_input(node, CONSOLE_PRODUCER, &["--topic", topic], "4\n5\n");
    for (time, offset) in [("-2", 0), ("-1", 5), ("0", 0), (between.as_str(), 3)] {
        assert_eq!(offsets(node, topic, time)[&0], offset, "at {time}");
    }
    let of_the_latest_timestamp = offsets(node, topic, "max-timestamp")[&0];
    assert!(
        (3..5).contains(&of_the_latest_timestamp),
        "{of_the_latest_timestamp}"
    );
}

fn dump_log_reads_the_segments_of_the_node(system: System) {
    let node = Node::shared(system);
    let topic = "tools-dump";
    let config = ["--config", "segment.bytes=1048576"];
    run(
        node,
        TOPICS,
        &[&["--create", "--topic", topic][..], &config].concat(),
    );
    perform(
        node,
        topic,
        "25000",
        "150",
        &["--throughput", "-1"],
        &["acks=all"],
    );

    let directory = node.data_directory().join(format!("{topic}-0"));
    let logs = files(&directory, "log");
    assert!(logs.len() >= 4, "3.6 MiB in segments of 1 MiB: {logs:?}");
    // The active segment gets its indexes with their first entries.
    for kind in ["index", "timeindex"] {
        let count = files(&directory, kind).len();
        assert!(
            (logs.len() - 1..=logs.len()).contains(&count),
            "one .{kind} for each .log, not {count} for {}",
            logs.len()
        );
    }
    let all = [
        logs,
        files(&directory, "index"),
        files(&directory, "timeindex"),
    ]
    .concat();
    let dumped = run(
        node,
        DUMP_LOG,
        &["--deep-iteration", "--files", &all.join(",")],
    );
    let problem = [
        "ismatch",
        "out of order",
        "Non-consecutive",
        "isvalid: false",
        "rror",
    ]
    .into_iter()
    .find(|problem| dumped.contains(problem));
    assert_eq!(
        problem,
        None,
        "{}",
        dumped.lines().take(50).collect::<Vec<_>>().join("\n")
    );
    let records: u64 = dumped
        .lines()
        .filter_map(|line| line.strip_prefix("baseOffset: ")?.split("count: ").nth(1))
        .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(records, 25_000);
}

fn java_producer_writes_each_record_once_through_a_crash(system: System) {
    let mut node = Node::start(system, &[]);
    let topic = "tools-crash";
    run(&node, TOPICS, &["--create", "--topic", topic]);
    let (address, records) = (node.bootstrap(), "8000");
    let output = std::thread::scope(|scope| {
        let producer = scope.spawn(move || perform_at(&address, topic, records));
        let mut connection = Connection::open(node.ports().client).unwrap();
        while connection.list_offset(topic, 0, -1).unwrap().2 < 500 {
            assert!(!producer.is_finished(), "nothing was written");
            std::thread::sleep(Duration::from_millis(20));
        }
        node.kill();
        node.start_again();
        producer.join().expect("the producer")
    });
    assert!(
        output.contains("8000 records sent"),
        "{output}{}",
        node.log_tail()
    );
    // Idempotent by default: neither lost nor written twice.
    assert_eq!(offsets(&node, topic, "latest")[&0], 8000, "{output}");
}

/// Runs the producer at a pace that leaves time to kill its broker.
fn perform_at(address: &str, topic: &str, records: &str) -> String {
    use skein_tests::client::kafka_tools::java;
    let mut command = java(PRODUCER_PERFORMANCE);
    command
        .args([
            "--topic",
            topic,
            "--num-records",
            records,
            "--record-size",
            "100",
        ])
        .args([
            "--throughput",
            "1500",
            "--producer-props",
            "acks=all",
            "linger.ms=0",
        ])
        .arg(format!("bootstrap.servers={address}"));
    let finished = skein_tests::program::run(&mut command, Duration::from_secs(90));
    assert!(finished.succeeded(), "{finished}");
    finished.output()
}

fn perform(
    node: &Node,
    topic: &str,
    records: &str,
    size: &str,
    options: &[&str],
    properties: &[&str],
) -> String {
    let bootstrap = format!("bootstrap.servers={}", node.bootstrap());
    let arguments = [
        &[
            "--topic",
            topic,
            "--num-records",
            records,
            "--record-size",
            size,
        ],
        options,
        &["--producer-props", &bootstrap],
        properties,
    ];
    run(node, PRODUCER_PERFORMANCE, &arguments.concat())
}

/// What the console consumer prints of `count` records of partition 0.
fn consume(node: &Node, topic: &str, offset: &str, count: usize, options: &[&str]) -> String {
    let count = count.to_string();
    let arguments = ["--topic", topic, "--partition", "0", "--offset", offset];
    let limits = ["--max-messages", &count, "--timeout-ms", "20000"];
    run(
        node,
        CONSOLE_CONSUMER,
        &[&arguments[..], &limits, options].concat(),
    )
}

/// The offsets of all partitions at a time.
fn offsets(node: &Node, topic: &str, time: &str) -> BTreeMap<u32, u64> {
    let printed = run(node, GET_OFFSETS, &["--topic", topic, "--time", time]);
    let parse = |line: &str| {
        let (partition, offset) = line
            .strip_prefix(topic)?
            .strip_prefix(':')?
            .split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    let found: BTreeMap<u32, u64> = printed.lines().filter_map(parse).collect();
    assert!(!found.is_empty(), "{printed}");
    found
}

/// The names of a partition's files of one kind, sorted; each is 20 digits.
fn files(directory: &Path, kind: &str) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == kind))
        .inspect(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit()));
        })
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    found
}
