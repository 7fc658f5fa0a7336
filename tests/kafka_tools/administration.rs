//! The tools with which an operator looks at a cluster and changes it.
//!
//! Input: command lines as in Kafka's documentation. Output: what the tools print, checked in what
//! does not depend on the machine.

use skein_tests::client::kafka_tools::{
    CLIENT_METRICS, CONFIGS, CONSOLE_PRODUCER, DELETE_RECORDS, FEATURES, LEADER_ELECTION, LOG_DIRS,
    METADATA_QUORUM, TOPICS, TRANSACTIONS, refused, run, run_with_input,
};
use skein_tests::{Node, System, on_both};

on_both!(
    broker_configs_are_altered_described_and_kept,
    impossible_broker_configs_are_refused,
    records_are_deleted_up_to_an_offset_and_not_beyond_the_end,
    log_dirs_and_producers_of_a_partition,
    leaders_are_elected_where_one_is_needed,
    the_quorum_has_a_leader_and_a_voter,
    features_and_client_metrics,
);

fn broker_configs_are_altered_described_and_kept(system: System) {
    let mut node = Node::start(system, &[]);
    let (one, all) = (["--entity-name", "1"], ["--entity-default"]);
    let brokers = ["--entity-type", "brokers"];
    let alter = |node: &Node, entity: &[&str], change: [&str; 2]| {
        run(
            node,
            CONFIGS,
            &[&brokers[..], entity, &["--alter"], &change].concat(),
        );
    };
    let describe = |node: &Node, entity: &[&str]| {
        run(
            node,
            CONFIGS,
            &[&brokers[..], entity, &["--describe"]].concat(),
        )
    };
    let (of_all, of_one) = ("log.retention.ms=7200000", "log.retention.ms=3600000");
    alter(&node, &all, ["--add-config", of_all]);
    alter(&node, &one, ["--add-config", of_one]);
    let synonyms = format!(
        "synonyms={{DYNAMIC_BROKER_CONFIG:{of_one}, DYNAMIC_DEFAULT_BROKER_CONFIG:{of_all}, "
    );
    let described = describe(&node, &one);
    assert!(described.contains(&synonyms), "{described}");
    assert!(describe(&node, &all).contains(of_all));

    let read_only = ["--alter", "--add-config", "num.partitions=3"];
    let output = refused(&node, CONFIGS, &[&brokers[..], &one, &read_only].concat());
    assert!(output.contains("InvalidRequestException"), "{output}");

    node.kill();
    node.start_again();
    let described = describe(&node, &one);
    assert!(described.contains(&synonyms), "{described}");
    alter(&node, &one, ["--delete-config", "log.retention.ms"]);
    let described = describe(&node, &one);
    assert!(!described.contains(of_one), "{described}");
    assert!(describe(&node, &all).contains(of_all));
}

fn impossible_broker_configs_are_refused(system: System) {
    let node = Node::shared(system);
    for wrong in [
        "log.cleaner.threads=0",
        "log.retention.ms=soon",
        "log.cleanup.policy=shred",
        "message.max.bytes=-1",
        "listeners=PLAINTEXT://127.0.0.1:1",
        "node.id=7",
    ] {
        for entity in [&["--entity-name", "1"][..], &["--entity-default"]] {
            let change = ["--alter", "--add-config", wrong];
            let arguments = [&["--entity-type", "brokers"], entity, &change].concat();
            let output = refused(node, CONFIGS, &arguments);
            assert!(output.contains("Invalid"), "{wrong}: {output}");
        }
    }
}

fn records_are_deleted_up_to_an_offset_and_not_beyond_the_end(system: System) {
    let node = Node::shared(system);
    let topic = "tools-delete-records";
    run(node, TOPICS, &["--create", "--topic", topic]);
    run_with_input(
        node,
        CONSOLE_PRODUCER,
        &["--topic", topic],
        "one\ntwo\nthree\n",
    );
    let path = node.directory().join("delete-records.json");
    let delete = |offset: i64| {
        let partition = format!("{{\"topic\":\"{topic}\",\"partition\":0,\"offset\":{offset}}}");
        let json = format!("{{\"version\":1,\"partitions\":[{partition}]}}");
        std::fs::write(&path, json).expect("write the file");
        let file = ["--offset-json-file", path.to_str().expect("UTF-8")];
        run(node, DELETE_RECORDS, &file)
    };
    // Nothing is deleted beyond the high watermark, nor below what is deleted already.
    for (offset, told) in [
        (2, "low_watermark: 2"),
        (1, "low_watermark: 2"),
        (4, "OffsetOutOfRangeException"),
        (-1, "low_watermark: 3"),
    ] {
        let output = delete(offset);
        assert!(output.contains(told), "{offset}: {output}");
    }
}

fn log_dirs_and_producers_of_a_partition(system: System) {
    let node = Node::shared(system);
    let topic = "tools-log-dirs";
    run(node, TOPICS, &["--create", "--topic", topic]);
    // The console's producer is idempotent, as Java's are by default.
    run_with_input(node, CONSOLE_PRODUCER, &["--topic", topic], "one\ntwo\n");

    let told = run(node, LOG_DIRS, &["--describe", "--topic-list", topic]);
    let partition = format!("\"partition\":\"{topic}-0\",\"size\":");
    let size = told.split(&partition).nth(1).expect("the partition");
    let size = size.split(',').next().expect("its size");
    assert!(size.parse::<u64>().expect("a number") > 0, "{told}");
    let directory = format!("\"logDir\":\"{}\"", node.data_directory().display());
    assert!(told.contains(&directory), "{told}");
    assert!(told.contains("\"error\":null"), "{told}");
    assert!(run(node, LOG_DIRS, &["--describe"]).contains(&partition));

    let describe = ["describe-producers", "--topic", topic, "--partition", "0"];
    let told = run(node, TRANSACTIONS, &describe);
    let producer = told.lines().nth(1).expect("a producer");
    let fields: Vec<_> = producer.split_whitespace().collect();
    assert_eq!(fields.len(), 6, "{told}");
    assert_eq!(
        (fields[1], fields[2], fields[3]),
        ("0", "-1", "1"),
        "{told}"
    );
    assert_eq!(fields[5], "None", "{told}");
}

fn leaders_are_elected_where_one_is_needed(system: System) {
    let node = Node::shared(system);
    let topic = "tools-leaders";
    run(node, TOPICS, &["--create", "--topic", topic]);
    let elect = |kind, which: &[&'static str]| [&["--election-type", kind][..], which].concat();
    run(
        node,
        LEADER_ELECTION,
        &elect("preferred", &["--all-topic-partitions"]),
    );
    for kind in ["preferred", "unclean"] {
        let one = elect(kind, &["--topic", topic, "--partition", "0"]);
        let told = run(node, LEADER_ELECTION, &one);
        assert!(told.contains("Valid replica already elected"), "{told}");
        let absent = elect(kind, &["--topic", "tools-absent", "--partition", "0"]);
        let output = refused(node, LEADER_ELECTION, &absent);
        assert!(
            output.contains("UnknownTopicOrPartitionException"),
            "{output}"
        );
    }
}

fn the_quorum_has_a_leader_and_a_voter(system: System) {
    let node = Node::shared(system);
    let status = run(node, METADATA_QUORUM, &["describe", "--status"]);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().to_owned()
    };
    assert_eq!(
        (&*field("LeaderId:"), &*field("MaxFollowerLag:")),
        ("1", "0")
    );
    assert!(field("CurrentVoters:").contains("\"id\": 1"), "{status}");
    assert_eq!(field("CurrentObservers:"), "[]");
    assert!(field("HighWatermark:").parse::<u64>().expect("a number") > 0);
    let replication = run(node, METADATA_QUORUM, &["describe", "--replication"]);
    let leader = replication.lines().nth(1).expect("a replica");
    assert!(
        leader.starts_with("1 ") && leader.contains("Leader"),
        "{replication}"
    );
}

fn features_and_client_metrics(system: System) {
    let node = Node::shared(system);
    // A client would act on a level: none is told that is not served.
    let described = run(node, FEATURES, &["describe"]);
    let features = described.matches("Feature: ").count();
    match system {
        System::Skein => assert_eq!(features, 0, "{described}"),
        System::Kafka => assert!(features > 3, "{described}"),
    }
    for wrong in ["no.such.feature=1", "group.version=100"] {
        let output = refused(node, FEATURES, &["upgrade", "--feature", wrong]);
        assert!(
            output.contains("1 out of 1 operation(s) failed"),
            "{output}"
        );
    }
    let subscriptions = run(node, CLIENT_METRICS, &["--list"]);
    assert_eq!(subscriptions.trim(), "");
}
