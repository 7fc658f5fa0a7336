//! A compacted topic: what is in its files, and what must be.
//!
//! Input: a node with partition 0 of the topic, and the records that were written to it. Output:
//! the records that `kafka-dump-log` reads from the files, and those that compaction has to leave.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Node;
use crate::client::kafka_tools::{DUMP_LOG, run};
use crate::wire::Record;

/// How long a node may take to compact a topic.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A record: its key, and its value if it is no tombstone.
pub type Told = (String, Option<String>);

/// The record as it goes into a batch.
#[must_use]
pub fn to_record((key, value): &Told) -> Record {
    Record {
        timestamp_delta: 0,
        key: Some(key.clone().into_bytes()),
        value: value.clone().map(String::into_bytes),
    }
}

/// The log files of partition 0, with their base offsets.
#[must_use]
pub fn logs(node: &Node, topic: &str) -> BTreeMap<usize, PathBuf> {
    let directory = node.data_directory().join(format!("{topic}-0"));
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let logs = paths.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    let based = |path: PathBuf| {
        let base = path.file_stem().unwrap().to_str().unwrap();
        (base.parse().unwrap(), path)
    };
    logs.map(based).collect()
}

/// Waits until everything but the active segment is compacted; where that begins.
#[must_use]
pub fn compacted_end(node: &Node, topic: &str) -> usize {
    let started = Instant::now();
    loop {
        let path = node.data_directory().join("cleaner-offset-checkpoint");
        let text = fs::read_to_string(path).unwrap_or_default();
        let start = format!("{topic} 0 ");
        let entry = text.lines().find_map(|line| line.strip_prefix(&start));
        let is_swapping = is_swapping(node, topic);
        let active = *logs(node, topic).last_key_value().unwrap().0;
        if entry == Some(&active.to_string()) && active > 0 && !is_swapping {
            return active;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{topic} is compacted up to {entry:?}, and goes on at {active}{}",
            node.log_tail()
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Whether a new segment is about to take the place of others: the checkpoint comes before that.
fn is_swapping(node: &Node, topic: &str) -> bool {
    let directory = node.data_directory().join(format!("{topic}-0"));
    let mut names = fs::read_dir(directory).unwrap();
    let is_swap = |name: &OsStr| name.to_string_lossy().ends_with(".swap");
    names.any(|entry| is_swap(&entry.unwrap().file_name()))
}

/// What `kafka-dump-log` reads from the files.
#[must_use]
pub fn dump(node: &Node, topic: &str) -> BTreeMap<usize, Told> {
    let logs = logs(node, topic);
    let files: Vec<&str> = logs.values().map(|path| path.to_str().unwrap()).collect();
    let files = files.join(",");
    let dumped = run(node, DUMP_LOG, &["--print-data-log", "--files", &files]);
    assert!(!dumped.contains("Found"), "{topic}: {dumped:.2000}");
    let records = dumped.lines().filter(|line| line.starts_with("| offset: "));
    records.map(parse).collect()
}

/// What stays of `written` when everything before `end` is compacted.
#[must_use]
pub fn survivors(written: &[Told], end: usize) -> BTreeMap<usize, Told> {
    let (compacted, rest) = written.split_at(end);
    let last: BTreeMap<&str, usize> = (compacted.iter().enumerate())
        .map(|(offset, (key, _))| (key.as_str(), offset))
        .collect();
    let kept = last
        .values()
        .map(|offset| (*offset, written[*offset].clone()));
    kept.chain((end..).zip(rest.iter().cloned())).collect()
}

/// `| offset: 3 … valueSize: 250 … key: key-4 payload: abc`
fn parse(line: &str) -> (usize, Told) {
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}: "))?;
        rest.split(' ').next()
    };
    let is_tombstone = field("valueSize") == Some("-1");
    let value = field("payload").map(str::to_owned).unwrap_or_default();
    let key = field(" key").unwrap().to_owned();
    let offset = field("offset").unwrap().parse().unwrap();
    (offset, (key, (!is_tombstone).then_some(value)))
}
