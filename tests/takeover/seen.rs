//! What a client sees of a node's topics.

use std::collections::BTreeMap;

use skein_tests::Node;
use skein_tests::client::kafka_tools::{TOPICS, run};
use skein_tests::wire::{Frame, api, error};

use super::connect;

/// All that must stay as it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Ids and settings of the topics, as Kafka's tool prints them.
    pub(crate) topics: BTreeMap<String, String>,
    /// By topic and partition.
    pub(crate) partitions: BTreeMap<(String, i32), SeenPartition>,
}

/// A partition.
#[derive(PartialEq, Eq)]
pub(crate) struct SeenPartition {
    /// Earliest and latest offset.
    pub(crate) offsets: (i64, i64),
    /// Offset and timestamp of the newest record, and of the first at some times.
    pub(crate) times: Vec<(i64, i64)>,
    /// Every batch, without the leader epoch, which is no record's.
    pub(crate) batches: Vec<u8>,
}

impl std::fmt::Debug for SeenPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.batches.len();
        write!(f, "{:?} {:?} {bytes} bytes", self.offsets, self.times)
    }
}

impl Seen {
    /// Looks at the topics.
    pub(crate) fn of(node: &Node, topics: &[(&str, i32)]) -> Self {
        let described = run(node, TOPICS, &["--describe"]);
        let line = |topic: &str| {
            let start = format!("Topic: {topic}\tTopicId: ");
            let line = described.lines().find(|line| line.starts_with(&start));
            line.unwrap_or_else(|| panic!("{topic}: {described}"))
                .to_owned()
        };
        let mut seen = Self {
            topics: BTreeMap::new(),
            partitions: BTreeMap::new(),
        };
        for (topic, partitions) in topics {
            seen.topics
                .insert((*topic).to_owned(), settings(&line(topic)));
            for partition in 0..*partitions {
                let key = ((*topic).to_owned(), partition);
                seen.partitions
                    .insert(key, SeenPartition::of(node, topic, partition));
            }
        }
        seen
    }

    /// How many offsets the topics hold together.
    pub(crate) fn records(&self) -> i64 {
        let offsets = self.partitions.values().map(|partition| partition.offsets);
        offsets.map(|(earliest, latest)| latest - earliest).sum()
    }

    /// Compares part by part, so that a failure shows the first difference.
    pub(crate) fn assert_same(&self, former: &Self) {
        assert_eq!(self.topics, former.topics);
        for (key, partition) in &former.partitions {
            let now = &self.partitions[key];
            assert_eq!(now.offsets, partition.offsets, "{key:?}");
            assert_eq!(now.times, partition.times, "{key:?}");
            let same = now
                .batches
                .iter()
                .zip(&partition.batches)
                .take_while(|(a, b)| a == b);
            let same = same.count();
            assert!(
                now.batches == partition.batches,
                "{key:?}: differ at byte {same}"
            );
        }
        assert_eq!(self.partitions.len(), former.partitions.len());
    }
}

/// The line of a topic with its settings in order.
fn settings(line: &str) -> String {
    let (head, configs) = line.split_once("Configs: ").unwrap();
    let mut configs: Vec<_> = configs.split(',').collect();
    configs.sort_unstable();
    format!("{head}{configs:?}")
}

impl SeenPartition {
    fn of(node: &Node, topic: &str, partition: i32) -> Self {
        let mut connection = connect(node);
        let mut offset_at = |time: i64| {
            let (error_code, timestamp, offset) =
                connection.list_offset(topic, partition, time).unwrap();
            assert_eq!(error_code, error::NONE, "{topic}{}", node.log_tail());
            (timestamp, offset)
        };
        let (first, end) = (offset_at(-2).1, offset_at(-1).1);
        let mut batches = Vec::new();
        let mut offset = first;
        let mut connection = connect(node);
        while offset < end {
            let fetched = connection.fetch(topic, partition, offset, 500).unwrap();
            assert_eq!(fetched.error_code, error::NONE, "{topic} at {offset}");
            let before = offset;
            take_whole(&fetched.records, &mut offset, &mut batches);
            assert!(
                offset > before,
                "{topic}-{partition}: stuck at {offset} of {end}"
            );
        }
        let newest = max_timestamp(&batches);
        let times = [0, newest / 2, newest - 100, newest, newest + 1];
        let mut connection = connect(node);
        let times = times.map(|time| {
            let answer = connection.list_offset(topic, partition, time).unwrap();
            (answer.1, answer.2)
        });
        Self {
            offsets: (first, end),
            times: times.to_vec(),
            batches,
        }
    }
}

/// Appends the whole batches of a response that are not there yet.
fn take_whole(mut rest: &[u8], offset: &mut i64, batches: &mut Vec<u8>) {
    while rest.len() >= 61 {
        let number = |at: usize, length: usize| {
            let bytes = &rest[at..at + length];
            bytes
                .iter()
                .fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte))
        };
        let size = usize::try_from(number(8, 4)).unwrap() + 12;
        if rest.len() < size {
            break;
        }
        let end = number(0, 8) + number(23, 4) + 1;
        if end > *offset {
            let mut batch = rest[..size].to_vec();
            batch[12..16].fill(0);
            batches.extend(batch);
            *offset = end;
        }
        rest = &rest[size..];
    }
}

fn max_timestamp(batches: &[u8]) -> i64 {
    let (mut rest, mut newest) = (batches, 0);
    while rest.len() >= 61 {
        let size = u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize + 12;
        let timestamp = i64::from_be_bytes(rest[35..43].try_into().unwrap());
        newest = newest.max(timestamp);
        rest = &rest[size..];
    }
    newest
}

/// The cluster id, the ids of the brokers, and the leader epochs of a topic.
pub(crate) fn cluster(node: &Node, topic: &str) -> (String, Vec<i32>, Vec<i32>) {
    let body = Frame::new().i32(1).string(topic).i8(0);
    let mut answer = connect(node).call(api::METADATA, 7, &body).unwrap();
    answer.i32();
    let mut brokers = Vec::new();
    for _ in 0..answer.i32() {
        brokers.push(answer.i32());
        answer.string();
        answer.i32();
        answer.string();
    }
    let cluster_id = answer.string().unwrap();
    answer.i32();
    assert_eq!(answer.i32(), 1, "topics");
    assert_eq!(answer.i16(), error::NONE);
    answer.string();
    answer.i8();
    let mut epochs = Vec::new();
    for _ in 0..answer.i32() {
        assert_eq!(answer.i16(), error::NONE);
        answer.i32();
        answer.i32();
        epochs.push(answer.i32());
        for _ in 0..3 {
            for _ in 0..answer.i32() {
                answer.i32();
            }
        }
    }
    (cluster_id, brokers, epochs)
}
