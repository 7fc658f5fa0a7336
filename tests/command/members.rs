//! `skein consume --group` as one of many, against Skein and against Kafka: beside other clients,
//! in the place of another one, and one that nobody listens to.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use skein_tests::client::python;
use skein_tests::guardian::Guarded;
use skein_tests::{Node, System, on_both};

use super::{eventually, json, run, skein, text};

on_both!(
    a_group_goes_on_where_it_was_and_is_shared_with_librdkafka,
    groups_are_shared_by_either_way_to_share_out,
    of_two_with_one_instance_id_the_first_one_ends_and_says_why,
    a_member_that_nobody_listens_to_loses_its_partitions,
);

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

/// How many partitions each member of a group reads.
fn shares(node: &Node, group: &str) -> Vec<usize> {
    let described = run(node, &format!("group describe {group} --json"));
    let Ok(described) = serde_json::from_str::<Value>(&described.stdout) else {
        return Vec::new();
    };
    let members = described[0]["members"].as_array().unwrap();
    let share = |member: &Value| member["partitions"].as_array().unwrap().len();
    members.iter().map(share).collect()
}

/// Makes a topic; a broker may tell of it a moment after it was made.
fn create(node: &Node, topic: &str, partitions: u32) {
    let words = format!("topic create {topic} --partitions {partitions}");
    text(node, &words, "");
    let describe = format!("topic describe {topic}");
    eventually("the topic is there", || run(node, &describe).succeeded());
}

/// Writes numbers to a topic, to its partitions in turn.
fn produce(node: &Node, topic: &str, numbers: std::ops::Range<u32>) {
    let lines: String = numbers.map(|number| format!("{number}\n")).collect();
    let words = format!("produce {topic} --partitioner round-robin");
    text(node, &words, &lines);
}

fn a_group_goes_on_where_it_was_and_is_shared_with_librdkafka(system: System) {
    let node = Node::shared(system);
    create(node, "command-shared", 4);
    let produce = |numbers| produce(node, "command-shared", numbers);
    let shares = |node| shares(node, "command-shared");
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
    let shared = "command-shared";
    command.args([&node.bootstrap(), shared, shared, "range,roundrobin"]);
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

fn groups_are_shared_by_either_way_to_share_out(system: System) {
    let node = Node::shared(system);
    std::thread::scope(|scope| {
        for (script, assignor) in [
            ("clients/librdkafka/member.py", "cooperative-sticky"),
            ("clients/kafka_python/member.py", "cooperative-sticky"),
            ("clients/kafka_python/member.py", "range"),
        ] {
            scope.spawn(move || is_shared(node, script, assignor));
        }
    });
}

/// Has a member of ours go on while another client's comes and leaves.
fn is_shared(node: &Node, script: &str, assignor: &str) {
    let name = script.replace(['/', '.'], "-") + "-" + assignor;
    create(node, &name, 4);
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        directory.path().join("ours"),
        directory.path().join("theirs"),
    );
    let both = [&*ours, &*theirs];
    let words = format!("consume {name} --group {name} --follow --assignor {assignor}");
    let mut member = start(&mut skein(node, &words), &ours);
    eventually("a member of ours", || shares(node, &name) == [4]);
    produce(node, &name, 0..20);
    let mut command = python(script);
    command.args([&node.bootstrap(), &name, &name, assignor]);
    let mut other = start(&mut command, &theirs);
    eventually("one of each", || shares(node, &name) == [2, 2]);
    let described = json(node, &format!("group describe {name}"));
    assert_eq!(described[0]["assignor"], assignor, "{described}");
    produce(node, &name, 20..60);
    // What is read while the group shares out may come twice.
    let is_all_read = |end: u32| {
        let mut numbers = numbers(&both);
        numbers.dedup();
        numbers == (0..end).collect::<Vec<_>>()
    };
    eventually("all, by both", || is_all_read(60));
    assert!(!numbers(&[&theirs]).is_empty(), "{name}: it read nothing");
    drop(other.child().stdin.take());
    assert!(other.wait().success(), "{name}");
    eventually("ours alone", || shares(node, &name) == [4]);
    produce(node, &name, 60..70);
    eventually("the rest", || is_all_read(70));
    member.signal(Signal::TERM);
    assert!(member.wait().success(), "{name}");
}

fn of_two_with_one_instance_id_the_first_one_ends_and_says_why(system: System) {
    let node = Node::shared(system);
    let topic = "command-fenced";
    create(node, topic, 4);
    let directory = tempfile::tempdir().unwrap();
    let words = format!("consume {topic} --group {topic} --group-instance-id reader --follow");
    let begin = |name: &str| {
        let told = File::create(directory.path().join(format!("{name}.err"))).unwrap();
        let mut command = skein(node, &words);
        start(command.stderr(told), &directory.path().join(name))
    };
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let mut first = begin("first");
    produce(node, topic, 0..1);
    eventually("the first one reads", || read("first") == "0\n");
    let mut second = begin("second");
    eventually("the first one ends", || first.has_ended());
    let status = first.wait();
    assert_eq!(status.code(), Some(1), "{}", read("first.err"));
    let told = read("first.err");
    assert!(told.contains("FENCED_INSTANCE_ID"), "{told}");
    assert!(
        told.contains("has begun with the same --group-instance-id"),
        "{told}"
    );
    produce(node, topic, 1..2);
    eventually("the second one reads", || read("second").ends_with("1\n"));
    assert_eq!(shares(node, topic), [4]);
    second.signal(Signal::TERM);
    assert!(second.wait().success(), "{}", read("second.err"));
}

fn a_member_that_nobody_listens_to_loses_its_partitions(system: System) {
    let node = Node::shared(system);
    let topic = "command-unheard";
    create(node, topic, 1);
    let words = format!("consume {topic} --group {topic} --follow");
    let mut command = skein(node, &format!("{words} --max-poll-interval 1"));
    // A pipe is full long before these.
    let mut stuck = Guarded::spawn(command.stdout(Stdio::piped())).unwrap();
    let lines: Vec<String> = (0..400).map(|number| format!("{number:01000}")).collect();
    let all = lines.join("\n") + "\n";
    eventually("a member", || shares(node, topic) == [1]);
    text(node, &format!("produce {topic}"), &all);
    eventually("it is no member any more", || {
        shares(node, topic).is_empty()
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("read");
    let mut other = start(&mut skein(node, &words), &path);
    // Not all that is in the pipe was read by somebody, and nothing of it is committed.
    eventually("another one reads all of it", || {
        fs::read_to_string(&path).unwrap() == all
    });
    // Somebody listens again.
    drop(stuck.child().stdout.take());
    assert!(stuck.wait().success());
    other.signal(Signal::TERM);
    assert!(other.wait().success());
}
