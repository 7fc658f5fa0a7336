//! `skein group`, against Skein and against Kafka: lag by a known clock, resets, deletions.

use serde_json::Value;
use skein_tests::{Node, System, on_both};

use super::{run, text};

on_both!(lag_is_told_by_the_producers_clock_and_offsets_are_reset_and_deleted);

fn json(node: &Node, words: &str) -> Value {
    serde_json::from_str(&text(node, &format!("{words} --json"), "")).unwrap()
}

/// The group's partition 0.
fn partition(node: &Node) -> Value {
    json(node, "group describe command-lag")[0]["partitions"][0].clone()
}

fn lag_is_told_by_the_producers_clock_and_offsets_are_reset_and_deleted(system: System) {
    let node = Node::shared(system);
    text(node, "topic create command-lag --partitions 2", "");
    // One record in ten seconds of the producer's clock, in batches of their own.
    for number in 0..4 {
        let at = 1_700_000_000_000_i64 + number * 10_000;
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
    assert_eq!(lag["lag_seconds"], 20.0);
    assert_eq!(lag["first_unread_timestamp"], 1_700_000_010_000_i64);
    match system {
        System::Skein => assert!(lag["lag_bytes"].as_u64().unwrap() > 3 * 61, "{lag}"),
        System::Kafka => assert_eq!(lag["lag_bytes"], Value::Null),
    }
    reset("--shift-by 1");
    assert_eq!(partition(node)["lag_seconds"], 10.0);
    reset("--to-time @1700000025000");
    assert_eq!(partition(node)["committed_offset"], 3);
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
