//! `skein group` and `skein consume --group`, against Skein and against Kafka: lag by a known
//! clock, resets, deletions; a group that goes on where it was, and one that is shared with
//! librdkafka.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use skein_tests::client::python;
use skein_tests::guardian::Guarded;
use skein_tests::{Node, System, on_both};

use super::{eventually, run, skein, text};

on_both!(
    lag_is_told_by_the_producers_clock_and_offsets_are_reset_and_deleted,
    a_group_goes_on_where_it_was_and_is_shared_with_librdkafka,
);

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

/// Starts a process with its output in a file.
fn start(command: &mut Command, out: &Path) -> Guarded {
    let out = File::create(out).unwrap();
    Guarded::spawn(command.stdin(Stdio::piped()).stdout(out)).unwrap()
}

/// The numbers in some files, sorted; those that were read twice twice.
fn numbers(files: &[&Path]) -> Vec<u32> {
    let read = |path: &&Path| fs::read_to_string(path).unwrap();
    let text: String = files.iter().map(read).collect();
    let mut numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// How many partitions each member reads.
fn shares(node: &Node) -> Vec<usize> {
    let described = run(node, "group describe command-shared --json");
    let Ok(described) = serde_json::from_str::<Value>(&described.stdout) else {
        return Vec::new();
    };
    let members = described[0]["members"].as_array().unwrap();
    let share = |member: &Value| member["partitions"].as_array().unwrap().len();
    members.iter().map(share).collect()
}

fn a_group_goes_on_where_it_was_and_is_shared_with_librdkafka(system: System) {
    let node = Node::shared(system);
    text(node, "topic create command-shared --partitions 4", "");
    let produce = |numbers: std::ops::Range<u32>| {
        let lines: String = numbers.map(|number| format!("{number}\n")).collect();
        let words = "produce command-shared --partitioner round-robin";
        text(node, words, &lines);
    };
    let words = "consume command-shared --group command-shared";
    let read = |more: &str| {
        let read = text(node, &format!("{words} {more}"), "");
        read.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    produce(0..10);
    // What nobody has taken is not read.
    let mut unheard = skein(node, words);
    let mut unheard = Guarded::spawn(unheard.stdout(Stdio::piped())).unwrap();
    drop(unheard.child().stdout.take());
    assert!(unheard.wait().success());
    let mut all = read("--count 3");
    assert_eq!(all.len(), 3);
    all.extend(read(""));
    assert_eq!(all.len(), 10, "the rest, and nothing twice: {all:?}");
    assert_eq!(read(""), [""; 0], "all is read");
    assert_eq!(shares(node), [0; 0], "who ends leaves");

    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        directory.path().join("ours"),
        directory.path().join("theirs"),
    );
    let both = [&*ours, &*theirs];
    let mut member = start(&mut skein(node, &format!("{words} --follow")), &ours);
    eventually("a member of ours", || shares(node) == [4]);
    let refused = run(
        node,
        "group reset command-shared --all-topics --to-earliest",
    );
    assert!(
        !refused.succeeded() && refused.stderr.contains("has 1 member"),
        "{refused}"
    );

    let mut command = python("clients/librdkafka/member.py");
    command.args([&node.bootstrap(), "command-shared", "command-shared"]);
    let mut other = start(&mut command, &theirs);
    eventually("one of each", || shares(node) == [2, 2]);
    produce(10..50);
    eventually("all, once", || {
        numbers(&both) == (10..50).collect::<Vec<_>>()
    });
    for path in both {
        assert!(
            !numbers(&[path]).is_empty(),
            "{} read nothing",
            path.display()
        );
    }
    // Each gives the other its place.
    drop(other.child().stdin.take());
    assert!(other.wait().success());
    eventually("ours alone", || shares(node) == [4]);
    produce(50..60);
    eventually("the rest", || {
        numbers(&both) == (10..60).collect::<Vec<_>>()
    });
    member.signal(Signal::TERM);
    assert!(member.wait().success());
    let lag = json(node, "group describe command-shared");
    let partitions = lag[0]["partitions"].as_array().unwrap();
    assert!(
        partitions.iter().all(|one| one["lag_records"] == 0),
        "{lag}"
    );
    assert_eq!(lag[0]["state"], "Empty");
}

#[test]
fn the_lag_of_groups_is_among_the_metrics() {
    let node = Node::start(System::Skein, &[]);
    text(&node, "topic create orders --partitions 1", "");
    for time in [1_700_000_000_000_i64, 1_700_000_007_500] {
        text(&node, &format!("produce orders --timestamp @{time}"), "x\n");
    }
    let reset = "group reset a\"b --topic orders --to-earliest";
    text(&node, reset, "");
    let labels = r#"{group="a\"b",topic="orders",partition="0"}"#;
    let told = |name: &str| node.metric(name).to_string();
    assert_eq!(told(&format!("skein_group_lag_records{labels}")), "2");
    assert_eq!(told(&format!("skein_group_lag_seconds{labels}")), "7.5");
    assert_eq!(told("skein_group_lag_left_out"), "0");
}
