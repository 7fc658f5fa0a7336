//! The command from outside: a node, topics, records, mistakes.

// Helpers of tests: a panic is how they fail.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skein_protocol::frame;
use skein_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};

const SKEIN: &str = env!("CARGO_BIN_EXE_skein");
const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    process: Child,
    bootstrap: String,
}

impl Node {
    /// Stops it in order: everything is flushed, and the next start scans nothing.
    fn stop(mut self) {
        let terminate = format!("kill -TERM {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &terminate]).status();
        assert!(sent.unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }

    fn start(directory: &Path) -> Self {
        // Held together, so that they differ.
        let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer, http] = free.map(|one| one.local_addr().unwrap().to_string());
        let process = Command::new(SKEIN)
            .arg("serve")
            .args(["--set", &format!("listeners=PLAINTEXT://{client}")])
            .args(["--set", &format!("peer.listener={peer}")])
            .args(["--set", &format!("http.listener={http}")])
            .args(["--set", &format!("log.dirs={}", directory.display())])
            .spawn()
            .unwrap();
        let node = Self {
            process,
            bootstrap: client,
        };
        let begin = Instant::now();
        while !node.run("topic list", "").status.success() {
            assert!(begin.elapsed() < PATIENCE, "the node does not serve");
        }
        node
    }

    fn run(&self, arguments: &str, input: &str) -> Output {
        let mut command = Command::new(SKEIN)
            .args(arguments.split(' '))
            .args(["--bootstrap", &self.bootstrap])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails early reads nothing.
        let _ = command.stdin.take().unwrap().write_all(input.as_bytes());
        command.wait_with_output().unwrap()
    }

    fn text(&self, arguments: &str, input: &str) -> String {
        let output = self.run(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn records_come_back_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    node.text("topic create orders --partitions 2", "");
    node.text(
        "produce orders --partition 1 --key-separator :",
        "a:1\nb:2\nplain\n",
    );
    let format = "consume orders --format {partition}/{offset}/{key}/{value};";
    assert_eq!(node.text(format, ""), "1/0/a/1;1/1/b/2;1/2//plain;");
    assert_eq!(
        node.text("consume orders --partition 1 --from 1 --count 1", ""),
        "2\n"
    );
    let described = node.text("topic describe orders --json", "");
    assert!(described.contains("\"high_watermark\": 3"), "{described}");
    node.text("topic delete orders", "");
}

#[test]
fn a_damaged_partition_is_told_at_once_the_others_go_on_and_repaired_it_leads_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    node.text("topic create orders --partitions 2", "");
    for partition in ["0", "1"] {
        let produce = format!("produce orders --partition {partition}");
        node.text(&produce, "first\nsecond\n");
    }
    node.stop();
    let log = directory.path().join("orders-0/00000000000000000000.log");
    let whole = std::fs::read(&log).unwrap();
    let mut damaged = whole.clone();
    damaged[16] = 9; // the magic of a batch below the recovery point
    std::fs::write(&log, &damaged).unwrap();

    let node = Node::start(directory.path());
    let begin = Instant::now();
    let described = loop {
        let described = node.text("topic describe orders", "");
        if described.contains("none") {
            break described;
        }
        assert!(begin.elapsed() < PATIENCE, "{described}");
    };
    let rows: Vec<Vec<_>> = described
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let leader = |partition: &str| {
        rows.iter()
            .find(|row| row.first() == Some(&partition))
            .unwrap()[1]
    };
    assert_eq!((leader("0"), leader("1")), ("none", "1"), "{described}");
    let begin = Instant::now();
    let described = node.text("topic describe orders --json", "");
    assert!(described.contains("\"leader\": null"), "{described}");
    let consumed = node.run("consume orders", "");
    let told = String::from_utf8_lossy(&consumed.stderr).into_owned();
    assert_eq!(consumed.status.code(), Some(1));
    assert!(told.contains("orders-0 has no leader"), "{told}");
    // Who waits for a leader does so for 15 s.
    assert!(
        begin.elapsed() < Duration::from_secs(12),
        "it was waited for"
    );
    node.text("produce orders --partition 1", "third\n");
    let others = node.text("consume orders --partition 1", "");
    assert_eq!(others, "first\nsecond\nthird\n");
    node.stop();
    assert_eq!(std::fs::read(&log).unwrap(), damaged, "nothing was cut");

    std::fs::write(&log, &whole).unwrap();
    let node = Node::start(directory.path());
    node.text("produce orders --partition 0", "third\n");
    let repaired = node.text("consume orders --partition 0", "");
    assert_eq!(repaired, "first\nsecond\nthird\n");
}

#[test]
fn what_fails_says_why_and_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    let output = node.run("consume nosuch", "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("skein topic create"));
    assert_eq!(node.run("topic create a/b", "").status.code(), Some(2));
    let serve = Command::new(SKEIN)
        .args(["serve", "--set", "listener=x"])
        .output()
        .unwrap();
    assert_eq!(serve.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&serve.stderr).contains("did you mean \"listeners\""));
}

/// Every file of the directory with its bytes, but for logs and locks of a node that runs.
fn snapshot(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

fn skein(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(SKEIN).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The data of a node that was stopped: a topic with a partition for each codec. The files are
/// verified once while the node runs.
fn stopped_node() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    node.text("topic create orders --partitions 5", "");
    for (partition, codec) in CODECS.iter().enumerate() {
        let produce = format!(
            "produce orders --partition {partition} --compression {codec} --key-separator : -H a=b"
        );
        node.text(&produce, "k1:first\nk2:second\nk3:third\n");
    }
    let data = directory.path().to_str().unwrap();
    let (code, text, errors) = skein(&["log", "verify", data, "--records"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("orders-4")),
        "{text}"
    );
    node.stop();
    directory
}

#[test]
fn records_of_every_codec_are_dumped_and_offsets_and_times_located() {
    let directory = stopped_node();
    let data = directory.path().to_str().unwrap();
    let before = snapshot(directory.path());
    for (partition, codec) in CODECS.iter().enumerate() {
        let path = format!("{data}/orders-{partition}");
        let (code, text, _) = skein(&["log", "dump", &path, "--records", "--json"]);
        assert_eq!(code, Some(0), "{text}");
        let parse = |line| serde_json::from_str(line).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(parse).collect();
        let of_kind =
            |kind: &str| -> Vec<_> { lines.iter().filter(|line| line["kind"] == *kind).collect() };
        assert_eq!(of_kind("batch")[0]["codec"], *codec);
        assert_eq!(of_kind("batch")[0]["is_crc_right"], true);
        let records = of_kind("record");
        assert_eq!(records.len(), 3);
        assert_eq!(records[1]["offset"], 1);
        assert_eq!(records[1]["key"], "k2");
        assert_eq!(records[1]["value"], "second");
        assert_eq!(records[1]["headers"][0]["name"], "a");
        // The clean stop left a snapshot with the idempotent producer.
        assert_eq!(of_kind("producer").len(), 1, "{text}");
        assert!(!of_kind("leader_epoch").is_empty(), "{text}");
    }
    let one = format!("{data}/orders-1");
    let (_, text, _) = skein(&["log", "dump", &one, "--records"]);
    assert!(text.contains("\"k3\" = \"third\"  \"a\": \"b\""), "{text}");
    let (_, text, _) = skein(&["log", "dump", data]);
    assert!(text.contains("recovery-point-offset-checkpoint"), "{text}");

    let (code, text, _) = skein(&["log", "locate", &one, "--offset", "2"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("record    offset 2, 20"), "{text}");
    let (code, text, _) = skein(&["log", "locate", &one, "--timestamp", "1h", "--json"]);
    let located: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &located["record"]["offset"]), (Some(0), &0.into()));
    let (code, _, errors) = skein(&["log", "locate", &one, "--offset", "3"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("there is no record for offset 3"),
        "{errors}"
    );
    assert_eq!(snapshot(directory.path()), before, "nothing is written");
}

#[test]
fn damage_is_told_with_its_place_and_remedy() {
    let directory = stopped_node();
    let data = directory.path().to_str().unwrap();
    let log = directory.path().join("orders-1/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let (code, text, errors) = skein(&["log", "verify", data]);
    assert_eq!(code, Some(1), "{text}");
    assert!(errors.contains("1 damage found"), "{errors}");
    let told = format!(
        "damage: {} at byte 0, offset 0: the checksum",
        log.display()
    );
    assert!(
        text.contains(&told) && text.contains("what to do: restore"),
        "{text}"
    );
    let (code, text, _) = skein(&["log", "dump", log.to_str().unwrap(), "--records"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("WRONG"), "{text}");
    assert_eq!(skein(&["log", "verify", "/no/such"]).0, Some(2));
}

/// Takes the records below an offset out of partition 1 of a topic.
fn delete_records(node: &Node, topic: &str, before: i64) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 1,
                offset: before,
            }],
        }],
        timeout_ms: 10_000,
    };
    let encoded = frame::encode_request(&request, 2, 1, None).unwrap();
    let mut stream = TcpStream::connect(&node.bootstrap).unwrap();
    stream.write_all(&encoded.into_bytes().unwrap()).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    let answer = Bytes::from(answer);
    let (_, response) = frame::decode_response::<DeleteRecordsRequest>(&answer, 2).unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

#[test]
fn a_redacted_record_is_hidden_listed_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path());
    node.text("topic create orders --partitions 2", "");
    for partition in ["0", "1"] {
        node.text(
            &format!("produce orders --partition {partition}"),
            "a\nb\nc\n",
        );
    }
    let all = "consume orders --partition 0 --format {offset}{value};";
    let redact = |node: &Node, rest: &str| node.run(&format!("record redact orders {rest}"), "");
    for (wrong, told) in [
        (
            "--partition 0 --offset 1 --offset 3",
            "no record at offset 3 of orders-0",
        ),
        (
            "--partition 2 --offset 1",
            "no record at offset 1 of orders-2",
        ),
    ] {
        let refused = redact(&node, wrong);
        assert_eq!(refused.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            errors.contains(told) && errors.contains("Nothing was hidden"),
            "{errors}"
        );
    }
    assert_eq!(node.text(all, ""), "0a;1b;2c;");
    let told = node.text("record redact orders --partition 0 --offset 1", "");
    assert!(told.contains("1 record hidden from readers"), "{told}");
    assert_eq!(node.text(all, ""), "0a;2c;");
    node.stop();
    node = Node::start(directory.path());
    assert_eq!(node.text(all, ""), "0a;2c;");
    let again = node.text(
        "record redact orders --partition 0 --offset 1 --offset 2 --json",
        "",
    );
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(
        (&again[0]["was_hidden"], &again[1]["was_hidden"]),
        (&true.into(), &false.into())
    );
    assert!(again[1]["timestamp"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!(node.text(all, ""), "0a;");
    let listed = node.text("record redacted orders", "");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let path = directory.path().join("orders-0");
    let (_, dumped, _) = skein(&["log", "dump", path.to_str().unwrap(), "--records"]);
    assert!(dumped.contains("\"b\""), "the disk has it: {dumped}");
    let refused = node.run("record restore orders --partition 0 --offset 0", "");
    assert_eq!(refused.status.code(), Some(1));
    node.text("record restore orders --partition 0 --offset 2", "");
    assert_eq!(node.text(all, ""), "0a;2c;");
    node.text("record restore orders --partition 0 --offset 1", "");
    assert_eq!(node.text(all, ""), "0a;1b;2c;");
}

#[test]
fn marks_of_records_that_are_gone_make_room_in_a_full_list() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    node.text("topic create orders --partitions 2", "");
    for partition in ["0", "1"] {
        node.text(
            &format!("produce orders --partition {partition}"),
            "a\nb\nc\n",
        );
    }
    let full: Vec<_> = (0..1_024).map(|offset| format!("1:{offset}")).collect();
    let set = format!(
        "config alter --topic orders --set redacted.records={}",
        full.join(",")
    );
    node.text(&set, "");
    let refused = node.run("record redact orders --partition 0 --offset 1", "");
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("at most 1024"), "{errors}");
    delete_records(&node, "orders", 2);
    node.text("record redact orders --partition 0 --offset 1", "");
    let listed = node.text("record redacted orders --json", "");
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 1_023);
    assert!(listed.iter().all(|one| one["in_log"] == true));
}

#[test]
fn configuration_is_changed_checked_and_explained() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path());
    node.text("topic create orders --partitions 1", "");
    let untouched = node.text("config describe --topic orders", "");
    assert!(untouched.contains("nothing is set"), "{untouched}");
    node.text(
        "config alter --topic orders --set retention.ms=1000 --set segment.bytes=2000000",
        "",
    );
    let set = node.text("config describe --topic orders --json", "");
    let set: serde_json::Value = serde_json::from_str(&set).unwrap();
    assert_eq!(set.as_array().unwrap().len(), 2);
    assert_eq!(
        (&set[0]["key"], &set[0]["value"]),
        (&"retention.ms".into(), &"1000".into())
    );
    assert_eq!(set[0]["origin"], "topic");
    // All or none.
    let refused = node.run(
        "config alter --topic orders --set segment.ms=5000 --set retention.ms=soon",
        "",
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("retention.ms"));
    node.text(
        "config alter --topic orders --delete retention.ms --validate-only",
        "",
    );
    let left = node.text("config describe --topic orders", "");
    assert!(
        left.contains("retention.ms") && !left.contains("segment.ms"),
        "{left}"
    );
    let one = node.text("config describe --topic orders max.message.bytes", "");
    assert!(one.contains("1048588") && one.contains("default"), "{one}");
    let misspelt = node.run("config describe --topic orders retention.msec", "");
    assert_eq!(misspelt.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&misspelt.stderr).contains("\"retention.ms\""));
    let broker = node.text("config describe --broker 1", "");
    assert!(
        broker.contains("log.dirs") && broker.contains("at start"),
        "{broker}"
    );

    let file = directory.path().join("server.properties");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "log.segment.bytes=2000000\n").unwrap();
    assert_eq!(skein(&["config", "check", path]).0, Some(0));
    assert_eq!(
        skein(&["config", "check", path, "--set", "log.segment.bytes=x"]).0,
        Some(2)
    );
    std::fs::write(&file, "log.segmnet.bytes=1\nnum.partitions=0\n").unwrap();
    let (code, text, _) = skein(&["config", "check", path, "--json"]);
    let checked: serde_json::Value = serde_json::from_str(&text).unwrap();
    let errors = checked["errors"].as_array().unwrap();
    assert_eq!((code, errors.len()), (Some(2), 2), "{text}");
    assert!(
        text.contains("log.segment.bytes") && text.contains("server.properties"),
        "{text}"
    );

    let (_, text, _) = skein(&["config", "doc", "segment.bytes"]);
    assert!(
        text.contains("TOPIC KEYS") && text.contains("Default:"),
        "{text}"
    );
    let (_, text, _) = skein(&["config", "doc", "--markdown"]);
    assert!(text.contains("| `log.segment.bytes` |"), "{text}");
    let (code, _, errors) = skein(&["config", "doc", "segment.bites"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("\"segment.bytes\""), "{errors}");
}

#[test]
fn a_file_without_a_secret_is_refused_by_serve_and_by_config_check() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("server.properties");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "").unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "too short\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let option = format!("cluster.secret.file={}", secret.display());
    for command in [
        &["config", "check", path, "--set", &option][..],
        &["serve", "--set", &option],
    ] {
        let (code, text, errors) = skein(command);
        assert_eq!(code, Some(2), "{text}{errors}");
        assert!(
            format!("{text}{errors}").contains("it has 9 bytes, and a secret has 16 to 4096"),
            "{text}{errors}"
        );
    }
}

#[test]
fn shells_get_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = skein(&["completions", shell]);
        assert_eq!(code, Some(0));
        assert!(
            ["locate", "validate-only", "bench", "latency", "rotate-wait"]
                .iter()
                .all(|word| script.contains(word)),
            "{shell}"
        );
    }
    assert_eq!(skein(&["completions", "cmd.exe"]).0, Some(2));
}
