//! Tests of the log: what they share. Each file below has one subject.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use skein_record::{BatchBuilder, BatchView, Batches, Codec, ProducerStates};
use skein_types::{
    LeaderEpoch, Millis, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicName,
    TopicPartition,
};
use tempfile::TempDir;

use super::*;
use crate::log_directory::{CacheLimits, CheckpointFile, LogDirectory};
use crate::testing::FaultyDisk;

mod anchors;
mod append;
mod bad_indexes;
mod compacting;
mod flushing;
mod found;
mod inspecting;
mod kafka;
mod model;
mod reading;
mod recovering;
mod recovery_point;
mod retaining;
mod segment_times;
mod swapping;
mod transactions;
mod truncating;

/// A log directory that can be opened again and again.
struct Fixture {
    temporary: TempDir,
    disk: Arc<FaultyDisk>,
    limits: CacheLimits,
}

fn fixture() -> Fixture {
    Fixture {
        temporary: TempDir::new().unwrap(),
        disk: FaultyDisk::new(),
        limits: CacheLimits::default(),
    }
}

fn orders() -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("orders").unwrap(),
        partition: PartitionIndex(0),
    }
}

/// Small numbers, so that a few batches make many segments and index entries.
fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 200,
        ..LogConfig::default()
    }
}

impl Fixture {
    fn directory(&self) -> Arc<LogDirectory> {
        LogDirectory::open(self.disk.clone(), self.temporary.path(), self.limits).unwrap()
    }

    fn open(&self, config: LogConfig) -> OpenedLog {
        self.try_open(config).unwrap()
    }

    fn try_open(&self, config: LogConfig) -> Result<OpenedLog, StorageError> {
        Log::open(&self.directory(), &orders(), None, config, Millis(1000))
    }

    fn log(&self, config: LogConfig) -> Log {
        self.open(config).log
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join("orders-0").join(name)
    }

    /// Names in the partition's directory that end with `suffix`, in order.
    fn names(&self, suffix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.temporary.path().join("orders-0")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(suffix))
            .collect();
        names.sort();
        names
    }
}

/// A batch of `count` records of about `size` bytes each at `base`, with timestamps from
/// `timestamp` on.
fn batch_at(base: i64, count: i64, size: usize, timestamp: i64) -> Vec<u8> {
    let timestamps: Vec<i64> = (0..count).map(|number| timestamp + number).collect();
    batch(base, 0, size, &timestamps)
}

fn batch(base: i64, epoch: i32, size: usize, timestamps: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    fill(&mut builder, base, epoch, size, timestamps)
}

fn fill(
    builder: &mut BatchBuilder,
    base: i64,
    epoch: i32,
    size: usize,
    timestamps: &[i64],
) -> Vec<u8> {
    builder.set_base_offset(Offset(base));
    builder.set_leader_epoch(LeaderEpoch(epoch));
    for (number, timestamp) in timestamps.iter().enumerate() {
        // The value tells the offset, so that a read can prove what it got.
        let mut value = (base + i64::try_from(number).unwrap())
            .to_be_bytes()
            .to_vec();
        value.resize(size.max(8), 7);
        builder
            .append(Millis(*timestamp), None, Some(&value), &[])
            .unwrap();
    }
    let builder = std::mem::replace(builder, BatchBuilder::new(Codec::None));
    builder.build().unwrap().as_slice().to_vec()
}

/// A batch of one record of an idempotent producer.
fn idempotent(base: i64, producer: i64, sequence: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(
        ProducerId(producer),
        ProducerEpoch(0),
        Sequence(i32::try_from(sequence).unwrap()),
    );
    fill(&mut builder, base, 0, 100, &[1000])
}

impl Log {
    /// Appends batches of `count` records until the log ends at `end`, and publishes each.
    fn fill_to(&mut self, end: i64, count: i64, size: usize) {
        while self.log_end_offset.0 < end {
            let base = self.log_end_offset.0;
            let count = count.min(end - base);
            self.append_all(&[batch_at(base, count, size, 1000 + base)]);
        }
    }

    /// Appends all batches, in as many writes as it takes, and publishes.
    fn append_all(&mut self, batches: &[Vec<u8>]) {
        let mut rest: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
        while !rest.is_empty() {
            let appended = self.append(&rest, Millis(1000)).unwrap();
            rest.drain(..appended.batches);
        }
        self.publish_all();
    }

    /// Takes old segments out, as often as it takes, with snapshots of no producers.
    fn retain(&mut self, now: Millis) -> Vec<DeletedSegment> {
        let mut all = Vec::new();
        loop {
            if self.is_snapshot_due() {
                let producers = ProducerStates::starting_at(self.log_end_offset);
                self.write_snapshot(&producers).unwrap();
            }
            let deleted = self.delete_old_segments(now).unwrap();
            if deleted.is_empty() && !self.is_snapshot_due() {
                return all;
            }
            all.extend(deleted);
        }
    }

    fn publish_all(&mut self) {
        self.publish(self.log_end_offset, self.log_end_offset);
    }
}

/// Offsets that the values of the records in `[from, up_to)` tell, read one batch or more at a
/// time.
fn offsets(view: &LogView, from: i64, up_to: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut next = from;
    while let Some(range) = view.read(Offset(next), 700, Offset(up_to), true).unwrap() {
        for record in records(&range) {
            if record.0 >= from {
                found.push(record.0);
            }
            next = record.0 + 1;
        }
    }
    found
}

/// Offset, timestamp and the offset in the value, of all whole batches of a range.
fn records(range: &FileRange) -> Vec<(i64, i64)> {
    let mut bytes = vec![0; usize::try_from(range.length).unwrap()];
    let filled = range.file.read_at(&mut bytes, range.position).unwrap();
    bytes.truncate(filled);
    let mut records = Vec::new();
    for batch in Batches::new(&bytes) {
        let batch: BatchView<'_> = batch.unwrap();
        batch.check_crc().unwrap();
        for record in &batch.records(1 << 20).unwrap() {
            let record = record.unwrap();
            let told = i64::from_be_bytes(record.value.unwrap()[..8].try_into().unwrap());
            assert_eq!(record.offset.0, told, "a record is not where it was put");
            records.push((record.offset.0, record.timestamp.0));
        }
    }
    records
}

fn upto(end: i64) -> Vec<i64> {
    (0..end).collect()
}

/// The producers as of the log's end, by replay of what the view holds.
fn producers_of(batches: &[Vec<u8>]) -> ProducerStates {
    let mut producers = ProducerStates::default();
    for batch in batches {
        let _ = producers.replay(&BatchView::parse(batch).unwrap()).unwrap();
    }
    producers
}
