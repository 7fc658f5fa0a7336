//! `skein group`, against Skein and against Kafka: lag by a known clock, offsets that are reset and
//! deleted, and what Kafka's own tool would have made of it.

use std::process::Command;
use std::time::SystemTime;

use serde_json::Value;
use skein_tests::client::kafka_tools::{self, CONSUMER_GROUPS};
use skein_tests::{Node, System, on_both, program};

use super::{PATIENCE, json, run, text};

on_both!(
    lag_is_told_by_the_producers_clock_and_offsets_are_reset_and_deleted,
    offsets_are_reset_to_where_kafkas_tool_resets_them,
);

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

/// The group's partition 0.
fn partition(node: &Node) -> Value {
    json(node, "group describe command-lag")[0]["partitions"][0].clone()
}

/// Checks that what is told, in seconds, is the age of a record of this timestamp.
fn assert_age(timestamp: i64, tell: impl FnOnce() -> f64) {
    let before = now_ms() - timestamp;
    let told = tell() * 1000.0;
    let after = now_ms() - timestamp;
    #[allow(clippy::cast_precision_loss, reason = "2^52 ms are 142,000 years")]
    let bounds = (before as f64 - 0.5)..=(after as f64 + 0.5);
    assert!(bounds.contains(&told), "{told} is not in {bounds:?}");
}

/// Checks that the group is behind since a record of this timestamp.
fn assert_behind_since(node: &Node, timestamp: i64) {
    assert_age(timestamp, || {
        let lag = partition(node);
        assert_eq!(lag["first_unread_timestamp"], timestamp, "{lag}");
        lag["lag_seconds"].as_f64().unwrap()
    });
}

/// As a command line says it.
fn date(ms: i64) -> String {
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{}", ms / 1000), "+%FT%T.000Z"]);
    let told = program::run(&mut date, PATIENCE);
    assert!(told.succeeded(), "{told}");
    told.stdout.trim().to_owned()
}

fn lag_is_told_by_the_producers_clock_and_offsets_are_reset_and_deleted(system: System) {
    let node = Node::shared(system);
    text(node, "topic create command-lag --partitions 2", "");
    // One record in ten seconds of the producer's clock, in batches of their own.
    let begin = now_ms() - 40_000;
    for number in 0..4 {
        let at = begin + number * 10_000;
        let words = format!("produce command-lag --partition 0 --timestamp @{at}");
        text(node, &words, &format!("{number}\n"));
    }
    let reset = |words: &str| {
        let words = format!("group reset command-lag --topic command-lag:0 {words}");
        text(node, &words, "")
    };
    assert!(reset("--to-offset 1 --dry-run").contains("nothing was changed"));
    let unknown = run(node, "group describe command-lag");
    assert!(!unknown.succeeded() && unknown.stderr.contains("there is no group command-lag"));
    reset("--to-offset 1");
    let lag = partition(node);
    assert_eq!(lag["committed_offset"], 1);
    assert_eq!(lag["lag_records"], 3);
    assert_behind_since(node, begin + 10_000);
    match system {
        System::Skein => assert!(lag["lag_bytes"].as_u64().unwrap() > 3 * 61, "{lag}"),
        System::Kafka => assert_eq!(lag["lag_bytes"], Value::Null),
    }
    reset("--shift-by 1");
    assert_behind_since(node, begin + 20_000);
    // The last record waits as the others do.
    reset(&format!("--to-time @{}", begin + 25_000));
    assert_eq!(partition(node)["committed_offset"], 3);
    assert_behind_since(node, begin + 30_000);
    reset("--shift-by -99");
    assert_eq!(
        partition(node)["committed_offset"],
        0,
        "it is the log's start"
    );
    reset("--to-latest");
    let lag = partition(node);
    assert_eq!(
        (&lag["lag_records"], &lag["lag_seconds"]),
        (&0.into(), &0.0.into())
    );

    let listed = json(node, "group list --state empty");
    let mut groups = listed.as_array().unwrap().iter();
    assert!(
        groups.any(|group| group["group"] == "command-lag"),
        "{listed}"
    );
    let listed = json(node, "group list --state stable");
    let mut groups = listed.as_array().unwrap().iter();
    assert!(
        !groups.any(|group| group["group"] == "command-lag"),
        "{listed}"
    );

    let delete = |words: &str| run(node, &format!("group delete command-lag {words}"));
    assert!(delete("--topic command-lag:0").succeeded());
    let nothing = delete("--topic command-lag");
    assert!(!nothing.succeeded() && nothing.stderr.contains("has no offsets of command-lag"));
    // A group of which the last offset goes may go with it.
    assert!(delete("--if-exists").succeeded());
    let gone = delete("");
    assert!(
        !gone.succeeded() && gone.stderr.contains("GROUP_ID_NOT_FOUND"),
        "{gone}"
    );
}

/// What the tool would reset partition 0 to; it changes nothing.
fn tool_resets(node: &Node, target: &[&str]) -> i64 {
    let reset = ["--reset-offsets", "--dry-run", "--group", "command-reset"];
    let of = ["--topic", "command-reset:0"];
    let told = kafka_tools::run(node, CONSUMER_GROUPS, &[&reset[..], &of, target].concat());
    // GROUP TOPIC PARTITION NEW-OFFSET
    let row = told.lines().find(|line| line.starts_with("command-reset"));
    let row = row.unwrap_or_else(|| panic!("{told}"));
    row.split_whitespace().nth(3).unwrap().parse().unwrap()
}

fn offsets_are_reset_to_where_kafkas_tool_resets_them(system: System) {
    let node = Node::shared(system);
    text(node, "topic create command-reset --partitions 1", "");
    // One record an hour, the last one an hour ago: no clock decides.
    let hour = 3_600_000;
    let begin = now_ms() - 5 * hour;
    for number in 0..5 {
        let at = begin + number * hour;
        let words = format!("produce command-reset --timestamp @{at}");
        text(node, &words, &format!("{number}\n"));
    }
    let reset = |words: &str| {
        let words = format!("group reset command-reset --topic command-reset:0 {words}");
        json(node, &words)["partitions"][0]["after"]
            .as_i64()
            .unwrap()
    };
    assert_eq!(reset("--to-offset 2"), 2);
    let date = date(begin + 5 * hour / 2);
    let to_time = format!("--to-time {date}");
    let table: [(&str, &[&str], i64); 9] = [
        ("--to-earliest", &["--to-earliest"], 0),
        ("--to-latest", &["--to-latest"], 5),
        ("--to-offset 3", &["--to-offset", "3"], 3),
        ("--to-offset 99", &["--to-offset", "99"], 5),
        ("--shift-by 2", &["--shift-by", "2"], 4),
        ("--shift-by -1", &["--shift-by", "-1"], 1),
        ("--shift-by -99", &["--shift-by", "-99"], 0),
        (&to_time, &["--to-datetime", &date], 3),
        ("--to-time 90m", &["--by-duration", "PT1H30M"], 4),
    ];
    // Nothing is changed, so all may run at once.
    std::thread::scope(|scope| {
        for (ours, theirs, offset) in table {
            let reset = &reset;
            scope.spawn(move || {
                assert_eq!(reset(&format!("{ours} --dry-run")), offset, "{ours}");
                assert_eq!(tool_resets(node, theirs), offset, "{theirs:?}");
            });
        }
    });
}

#[test]
fn the_lag_of_groups_is_among_the_metrics() {
    let node = Node::start(System::Skein, &[]);
    text(&node, "topic create orders --partitions 1", "");
    let begin = now_ms() - 7_500;
    for time in [begin, begin + 5_000] {
        text(&node, &format!("produce orders --timestamp @{time}"), "x\n");
    }
    let reset = "group reset a\"b --topic orders --to-earliest";
    text(&node, reset, "");
    let labels = r#"{group="a\"b",topic="orders",partition="0"}"#;
    let told = |name: &str| node.metric(name).to_string();
    assert_eq!(told(&format!("skein_group_lag_records{labels}")), "2");
    // A record that waits grows older, whenever it was looked for last.
    for _ in 0..2 {
        let name = format!("skein_group_lag_seconds{labels}");
        assert_age(begin, || node.metric(&name));
    }
    assert_eq!(told("skein_group_lag_left_out"), "0");
}
