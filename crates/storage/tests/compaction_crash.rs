//! Compaction on a disk that fails at every call in turn.
//!
//! Input: keyed records, a compaction, a fault and the number of the disk call that it strikes.
//! Output: nothing, or the promise that was broken:
//!
//! - the last value of every key that was flushed is there, whatever was interrupted;
//! - each record that is there is one that was appended, at its offset, in order;
//! - below the cleaner's checkpoint each key is there once: it is not compared with itself again;
//! - indexes agree with the batches, and no file of a compaction is left;
//! - the log opens again, also when opening is itself interrupted, and can be compacted then;
//! - also under a policy that has changed to `delete` meanwhile.
//!
//! Invariants: the same seed tells the same story.
//!
//! Source: none.

#![allow(clippy::unwrap_used, clippy::expect_used)] // all of this is a test

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use skein_env::Disk;
use skein_env::sim::{Fault, SimWorld};
use skein_record::{BatchBuilder, BatchView, Codec, ProducerStates};
use skein_storage::{
    CacheLimits, CheckpointFile, Compaction, CompactionBudget, CompactionError, CompactionSettings,
    CompactionStep, FlushScope, Log, LogConfig, LogDirectory, StorageError, Swapped,
};
use skein_types::{
    LeaderEpoch, Millis, Offset, PartitionIndex, TopicId, TopicName, TopicPartition,
};

const NODE: &str = "node";
const ROOT: &str = "/data";
const NOW: Millis = Millis(5000);
/// Records of a story, and how many keys they have.
const RECORDS: i64 = 60;
const KEYS: i64 = 7;
/// Times that a log is opened after a fault, at most; each but the last is interrupted.
const REOPENINGS: u64 = 3;

fn partition() -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("orders").unwrap(),
        partition: PartitionIndex(0),
    }
}

fn config(is_compacting: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        segment_fill_after_bytes: Some(450),
        index_interval_bytes: 150,
        retention_ms: None,
        is_compacting,
        is_deleting: !is_compacting,
        ..LogConfig::default()
    }
}

fn open(
    disk: &Arc<dyn Disk>,
    is_compacting: bool,
) -> Result<(Arc<LogDirectory>, Log), StorageError> {
    let limits = CacheLimits {
        descriptors: 2,
        maps: 2,
    };
    let directory = LogDirectory::open(Arc::clone(disk), Path::new(ROOT), limits)?;
    let id = TopicId::from_random([3; 16]);
    let opened = Log::open(
        &directory,
        &partition(),
        Some(id),
        config(is_compacting),
        NOW,
    )?;
    let mut log = opened.log;
    let end = log.log_end_offset();
    log.publish(end, end);
    Ok((directory, log))
}

fn key(offset: i64) -> i64 {
    // Now and then a key that comes once.
    if offset % 11 == 5 {
        100 + offset
    } else {
        offset % KEYS
    }
}

fn append(log: &mut Log, offset: i64) -> Result<(), StorageError> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_base_offset(Offset(offset));
    builder.set_leader_epoch(LeaderEpoch(0));
    let mut value = offset.to_be_bytes().to_vec();
    value.resize(50, 7);
    let key = key(offset).to_be_bytes();
    builder
        .append(Millis(1000 + offset), Some(&key), Some(&value), &[])
        .unwrap();
    let batch = builder.build().unwrap();
    log.append(&[batch.as_slice()], NOW)
        .map_err(|error| error.cause)?;
    let end = log.log_end_offset();
    log.publish(end, end);
    Ok(())
}

fn flush(directory: &LogDirectory, log: &mut Log) -> Result<(), StorageError> {
    if log.is_snapshot_due() {
        log.write_snapshot(&ProducerStates::starting_at(log.log_end_offset()))?;
    }
    if let Some(plan) = log.flush_plan(FlushScope::All)? {
        let flushed = plan.run().inspect_err(|error| log.flush_failed(error))?;
        let _ = log.complete_flush(&flushed, NOW);
    }
    let recovery_point = BTreeMap::from([(partition(), log.recovery_point())]);
    directory.write_checkpoint(CheckpointFile::RecoveryPoint, &recovery_point)
}

/// Compacts the log once, in groups of about two segments.
fn compact(directory: &LogDirectory, log: &mut Log) -> Result<bool, CompactionError> {
    let settings = CompactionSettings {
        min_cleanable_dirty_ratio: 0.0,
        min_compaction_lag_ms: Millis(0),
        max_compaction_lag_ms: None,
        delete_retention_ms: Millis(0),
    };
    let budget = CompactionBudget {
        dedupe_buffer_bytes: 24 * 16,
        load_factor: 0.9,
        io_buffer_bytes: 700,
        unpacked_max_bytes: 10_000,
        hash_key: [3; 16],
    };
    log.set_config(LogConfig {
        segment_bytes: 2000,
        ..config(true)
    });
    let source = log.compaction_source(None);
    let Some(dirty) = source.dirty(&settings, NOW)? else {
        return Ok(false);
    };
    let mut compaction = Compaction::new(source, dirty, &settings, budget, NOW);
    loop {
        match compaction.step(usize::MAX)? {
            CompactionStep::Worked(_) | CompactionStep::Starved(_) => {}
            CompactionStep::Cleaned(cleaned) => match log.swap_compacted(&cleaned)? {
                Swapped::Done(files) => {
                    for file in files {
                        file.remove(&**directory.disk())?;
                    }
                }
                Swapped::Stale => panic!("nobody was faster"),
            },
            CompactionStep::Ended(stats) => {
                log.complete_compaction(compaction.completion())?;
                return Ok(stats.end > stats.start);
            }
        }
    }
}

/// What must be there.
#[derive(Default)]
struct Story {
    /// Survives a power cut.
    flushed: i64,
}

/// Appends and flushes what is missing, and compacts until nothing is dirty.
fn tell(disk: &Arc<dyn Disk>, story: &mut Story) -> Result<(), CompactionError> {
    let (directory, mut log) = open(disk, true)?;
    check(&directory, &log, story);
    flush(&directory, &mut log)?;
    story.flushed = log.log_end_offset().0;
    while log.log_end_offset().0 < RECORDS {
        for _ in 0..20 {
            let offset = log.log_end_offset().0;
            append(&mut log, offset)?;
        }
        flush(&directory, &mut log)?;
        story.flushed = log.log_end_offset().0;
        while compact(&directory, &mut log)? {}
    }
    while compact(&directory, &mut log)? {}
    Ok(())
}

/// What must hold of a log that was opened.
fn check(directory: &LogDirectory, log: &Log, story: &Story) {
    let promised = story.flushed;
    log.check();
    let (view, end) = (log.view(), log.log_end_offset());
    assert!(
        end.0 >= promised,
        "the log ends at {end}, {promised} was promised"
    );
    view.check_indexes().unwrap();
    let cleaned_end = directory.checkpointed(CheckpointFile::Cleaner, &partition());
    let cleaned_end = cleaned_end.unwrap_or(Offset(0)).0;
    let (mut next, mut last) = (Offset(0), BTreeMap::new());
    let mut missing: BTreeSet<i64> = (promised..end.0).collect();
    while let Some(range) = view.read(next, 1, end, true).unwrap() {
        let mut bytes = vec![0; usize::try_from(range.first_batch_bytes).unwrap()];
        range.file.read_at(&mut bytes, range.position).unwrap();
        let batch = BatchView::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        assert!(batch.header().base_offset >= next, "back to {next}");
        for record in &batch.records(1000).unwrap() {
            let record = record.unwrap();
            let offset = record.offset.0;
            assert_eq!(record.key.unwrap(), key(offset).to_be_bytes());
            assert_eq!(record.value.unwrap()[..8], offset.to_be_bytes());
            let before = last.insert(key(offset), offset);
            let is_twice = before.is_some() && offset < cleaned_end;
            assert!(
                !is_twice,
                "{offset} has a key that {before:?} has, below {cleaned_end}"
            );
            missing.remove(&offset);
        }
        next = batch.header().next_offset();
    }
    // Only flushed segments are compacted, and nothing goes on behind what was lost.
    assert_eq!(missing, BTreeSet::new(), "of a log that ends at {end}");
    let expected: BTreeMap<i64, i64> = (0..end.0).map(|offset| (key(offset), offset)).collect();
    assert_eq!(last, expected, "of a log that ends at {end}");
}

fn calls() -> u64 {
    let world = SimWorld::new(1);
    tell(&world.node(NODE).disk, &mut Story::default()).unwrap();
    world.disk(NODE).calls()
}

fn strike(call: u64, fault: Fault, seed: u64) {
    let world = SimWorld::new(seed);
    world.disk(NODE).fail_after(call, fault);
    let mut story = Story::default();
    let _ = tell(&world.node(NODE).disk, &mut story);
    let is_deadly = matches!(fault, Fault::Kill | Fault::PowerCut);
    for opening in 1..=REOPENINGS {
        let disk = world.node(NODE).disk;
        world.disk(NODE).heal();
        if is_deadly && opening < REOPENINGS {
            world
                .disk(NODE)
                .fail_after((call * 7 + opening * 13) % 60, fault);
            let _ = open(&disk, !seed.is_multiple_of(3));
        }
    }
    world.disk(NODE).heal();
    if !is_deadly {
        world.kill(NODE);
    }
    let disk = world.node(NODE).disk;
    // Every third story changes its policy before anything else.
    if seed.is_multiple_of(3) {
        let (directory, log) = open(&disk, false).unwrap();
        check(&directory, &log, &story);
        drop((directory, log));
    }
    tell(&disk, &mut story).unwrap();
    let (directory, log) = open(&disk, true).unwrap();
    assert!(story.flushed >= RECORDS);
    check(&directory, &log, &story);
    let names = disk
        .read_directory(&Path::new(ROOT).join("orders-0"))
        .unwrap();
    for (name, _) in names {
        let name = name.to_str().unwrap();
        assert!(
            !name.ends_with(".cleaned") && !name.ends_with(".swap"),
            "{name}"
        );
    }
    drop((directory, log));
}

fn strike_everywhere(fault: Fault) {
    let calls = calls();
    assert!(calls > 300, "{calls}");
    for call in 0..calls {
        let struck = std::panic::catch_unwind(|| strike(call, fault, call));
        assert!(struck.is_ok(), "{fault:?} at call {call}");
    }
}

#[test]
fn compaction_survives_a_kill_at_every_call() {
    strike_everywhere(Fault::Kill);
}

#[test]
fn compaction_survives_a_power_cut_at_every_call() {
    strike_everywhere(Fault::PowerCut);
}

#[test]
fn compaction_survives_an_io_error_at_every_call() {
    strike_everywhere(Fault::Eio);
}

#[test]
fn compaction_survives_a_full_disk_at_every_call() {
    strike_everywhere(Fault::NoSpace);
}

#[test]
fn compaction_survives_a_short_write_at_every_call() {
    strike_everywhere(Fault::ShortWrite);
}
