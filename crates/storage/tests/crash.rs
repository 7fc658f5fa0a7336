//! One story of a log, told on the real disk and on one that fails at every call in turn.
//!
//! Input: a script of appends, rolls, flushes, truncation, retention and shutdowns; a fault and the
//! number of the disk call that it strikes. Output: nothing, or the promise that was broken:
//!
//! - what was acknowledged as flushed survives a power cut, what was written survives a kill;
//! - what is there is what was appended, whole and without a gap; a truncated record never returns;
//! - indexes, producers and leader epochs agree with the batches; of each transaction that was
//!   aborted a reader is told, and of no other;
//! - the log always opens again, also when opening is itself interrupted, and goes on.
//!
//! Invariants: the same seed tells the same story.
//!
//! Source: none.

#![allow(clippy::unwrap_used, clippy::expect_used)] // all of this is a test

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skein_env::Disk;
use skein_env::real::RealDisk;
use skein_env::sim::{Fault, SimRng, SimWorld, is_killed};
use skein_record::{AbortedTxn, BatchBuilder, BatchView, Codec, ProducerStates};
use skein_storage::segment_file::AppendError;
use skein_storage::{
    CacheLimits, CheckpointFile, FlushScope, Log, LogConfig, LogDirectory, LogView, OpenedLog,
    StorageError,
};
use skein_types::{
    BrokerEpoch, LeaderEpoch, Millis, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    TopicId, TopicName, TopicPartition,
};

#[path = "crash/lives.rs"]
mod lives;
#[path = "crash/transactions.rs"]
mod transactions;

const NODE: &str = "node";
/// Times that a log is opened again after a fault, at most; each but the last is interrupted.
const REOPENINGS: u64 = 3;

fn partition() -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("orders").unwrap(),
        partition: PartitionIndex(0),
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1200,
        segment_fill_after_bytes: Some(600),
        index_interval_bytes: 150,
        retention_ms: None,
        ..LogConfig::default()
    }
}

/// A batch as the story remembers it.
#[derive(Clone)]
struct Appended {
    base: i64,
    end: i64,
    bytes: Vec<u8>,
}

/// What has happened to the log, and so what must be there.
struct Story {
    /// All that may be there, in order; the last ones perhaps not.
    batches: Vec<Appended>,
    /// Survives a kill.
    written: i64,
    /// Survives a power cut.
    flushed: i64,
    /// The log starts no earlier.
    start: i64,
    /// The log starts no later.
    start_max: i64,
    /// The log starts no earlier, also after a power cut: what `DeleteRecords` said.
    deleted: i64,
    /// A truncation has begun: what it cuts off may come back with a power cut until the next one
    /// has ended.
    is_truncating: bool,
    epoch: i32,
    sequence: i32,
}

/// How a chapter ended.
enum End {
    /// The process or the machine died.
    Died,
    /// The disk failed; the replica went offline.
    Offline,
}

impl From<StorageError> for End {
    fn from(error: StorageError) -> Self {
        assert!(!matches!(error, StorageError::Corrupt { .. }), "{error}");
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = source {
            if inner
                .downcast_ref::<std::io::Error>()
                .is_some_and(is_killed)
            {
                return Self::Died;
            }
            source = inner.source();
        }
        Self::Offline
    }
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        if is_killed(&error) {
            Self::Died
        } else {
            Self::Offline
        }
    }
}

impl From<skein_storage::ReadError> for End {
    fn from(error: skein_storage::ReadError) -> Self {
        match error {
            skein_storage::ReadError::Storage(error) => error.into(),
            other => panic!("{other}"),
        }
    }
}

impl From<AppendError> for End {
    fn from(error: AppendError) -> Self {
        error.cause.into()
    }
}

impl Story {
    fn new() -> Self {
        Self {
            batches: Vec::new(),
            written: 0,
            flushed: 0,
            start: 0,
            start_max: 0,
            deleted: 0,
            is_truncating: false,
            epoch: 0,
            sequence: 0,
        }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.end)
    }

    /// The producers as of `end`, as far as the story's batches tell.
    fn producers(&self, end: i64) -> ProducerStates {
        let first = self.batches.first().map_or(end, |batch| batch.base);
        let mut producers = ProducerStates::starting_at(Offset(first));
        for batch in self.batches.iter().filter(|batch| batch.end <= end) {
            let _ = producers
                .replay(&BatchView::parse(&batch.bytes).unwrap())
                .unwrap();
        }
        producers.on_log_start(Offset(end));
        producers
    }

    /// The machine lost its power; returns the end that was promised.
    fn lose_power(&mut self) -> i64 {
        // What retention took out may come back.
        self.start = self.deleted;
        self.flushed
    }

    fn next_batch(&mut self, records: i64) -> Appended {
        let base = self.end();
        let mut builder = BatchBuilder::new(Codec::None);
        builder.set_base_offset(Offset(base));
        builder.set_leader_epoch(LeaderEpoch(self.epoch));
        builder.set_producer(
            ProducerId(base % 3),
            ProducerEpoch(0),
            Sequence(self.sequence),
        );
        builder.set_transactional(base % 3 == 2);
        self.sequence += i32::try_from(records).unwrap();
        for number in 0..records {
            // Out of order, and different in each epoch.
            let timestamp = 1000 + (base + number) * 7 % 50 + i64::from(self.epoch) * 1000;
            let value = vec![u8::try_from(self.epoch).unwrap(); 60];
            builder
                .append(Millis(timestamp), None, Some(&value), &[])
                .unwrap();
        }
        let bytes = builder.build().unwrap().as_slice().to_vec();
        let batch = Appended {
            base,
            end: base + records,
            bytes,
        };
        self.batches.push(batch.clone());
        batch
    }

    /// Compares the log with the story. What is not there any more is forgotten.
    fn check(&mut self, opened: &OpenedLog, at_least: i64) -> Result<(), End> {
        let log = &opened.log;
        log.check();
        let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
        assert!(
            end >= at_least,
            "the log ends at {end}, {at_least} was promised"
        );
        assert!(
            start >= self.start && start <= self.start_max.max(self.start),
            "start {start}"
        );
        let view = log.view();
        view.check_indexes()?;
        self.batches.retain(|batch| batch.end <= end);
        if self.end() != end {
            // Records that were deleted and then lost: the log begins anew behind them.
            assert!(
                start == end,
                "{} batches, the log ends at {end}",
                self.batches.len()
            );
            self.batches.clear();
        }
        let mut next = start;
        for batch in self.batches.iter().filter(|batch| batch.end > start) {
            let range = view
                .read(Offset(next), 1, Offset(end), true)?
                .expect("there is a batch");
            let mut bytes = vec![0; usize::try_from(range.length).unwrap()];
            range.file.read_at(&mut bytes, range.position)?;
            assert!(bytes == batch.bytes, "other bytes at {}", batch.base);
            next = batch.end;
        }
        self.check_times(&view, start)?;
        let last_epoch = self.batches.iter().rfind(|batch| batch.end > start);
        if let Some(batch) = last_epoch {
            let epoch = BatchView::parse(&batch.bytes)
                .unwrap()
                .header()
                .leader_epoch;
            assert_eq!(
                opened
                    .leader_epochs
                    .epoch_for_offset(Offset(batch.base.max(start))),
                Some(epoch)
            );
            assert_eq!(opened.leader_epochs.latest().unwrap().epoch, epoch);
        }
        self.check_producers(opened, start, end);
        self.check_aborted(opened)?;
        self.written = end;
        self.flushed = self.flushed.min(end);
        (self.start, self.start_max) = (start, start);
        self.epoch += 1;
        Ok(())
    }

    /// A lookup by time finds what a linear search would; asked of the last few epochs, whose
    /// timestamps are their own.
    fn check_times(&self, view: &LogView, start: i64) -> Result<(), End> {
        let mut records = Vec::new();
        for batch in &self.batches {
            let batch = BatchView::parse(&batch.bytes).unwrap();
            let all = batch.records(1 << 20).unwrap();
            let all = all.iter().map(|record| record.unwrap());
            records.extend(all.map(|record| (record.offset.0, record.timestamp.0)));
        }
        records.retain(|(offset, _)| *offset >= start);
        for epoch in (0..=self.epoch).rev().take(4) {
            let timestamp = 1000 + i64::from(epoch) * 1000 + 25;
            let found = view.offset_for_timestamp(Millis(timestamp), view.log_end_offset)?;
            let found = found.map(|found| (found.offset.0, found.timestamp.0));
            let first = records.iter().find(|(_, at)| *at >= timestamp).copied();
            assert_eq!(found, first, "at or after {timestamp}");
        }
        Ok(())
    }

    fn check_producers(&self, opened: &OpenedLog, start: i64, end: i64) {
        assert_eq!(opened.producers.map_end_offset(), Offset(end));
        let kept: Vec<&Appended> = self
            .batches
            .iter()
            .filter(|batch| batch.base >= start)
            .collect();
        for batch in kept {
            let header = *BatchView::parse(&batch.bytes).unwrap().header();
            let known = opened
                .producers
                .get(header.producer_id)
                .expect("a producer was forgotten");
            assert!(known.last_sequence() >= header.last_sequence());
        }
        let all = self.producers(end);
        for (id, known) in opened.producers.iter() {
            let told = all.get(id).expect("a producer that never was");
            // Of producers whose records were all deleted an older state may be left.
            let is_deleted = told
                .last_batch()
                .is_some_and(|batch| batch.base_offset().0 < start);
            let (known, told) = (known.last_sequence(), told.last_sequence());
            assert!(
                known == told || is_deleted && known < told,
                "producer {id} {known} {told}"
            );
        }
    }
}

/// A log directory and a log in use.
struct Run<'a> {
    directory: Arc<LogDirectory>,
    log: Log,
    story: &'a mut Story,
}

impl<'a> Run<'a> {
    fn open(
        disk: &Arc<dyn Disk>,
        root: &Path,
        story: &'a mut Story,
        at_least: i64,
    ) -> Result<Self, End> {
        let limits = CacheLimits {
            descriptors: 2,
            maps: 2,
        };
        let directory = LogDirectory::open(Arc::clone(disk), root, limits)?;
        Self::open_in(&directory, story, at_least)
    }

    fn open_in(
        directory: &Arc<LogDirectory>,
        story: &'a mut Story,
        at_least: i64,
    ) -> Result<Self, End> {
        let id = TopicId::from_random([3; 16]);
        let opened = Log::open(directory, &partition(), Some(id), config(), Millis(5000))?;
        story.check(&opened, at_least)?;
        let mut log = opened.log;
        let end = log.log_end_offset();
        log.publish(end, end);
        Ok(Self {
            directory: Arc::clone(directory),
            log,
            story,
        })
    }

    fn append(&mut self, sizes: &[i64]) -> Result<(), End> {
        let mut batches: Vec<Appended> = sizes
            .iter()
            .map(|records| self.story.next_batch(*records))
            .collect();
        batches.extend(self.story.next_marker(sizes.iter().sum()));
        let aborted = self.story.aborted();
        let mut rest: &[Appended] = &batches;
        let mut retried = false;
        while !rest.is_empty() {
            let slices: Vec<&[u8]> = rest.iter().map(|batch| batch.bytes.as_slice()).collect();
            match self.log.append(&slices, Millis(5000)) {
                Ok(appended) => {
                    let begin = rest.first().map_or(i64::MAX, |batch| batch.base);
                    rest = &rest[appended.batches..];
                    self.story.written = appended.log_end_offset.0;
                    let is_of_these = |txn: &&AbortedTxn| {
                        let marker = txn.last_offset;
                        appended.log_end_offset > marker && marker.0 >= begin
                    };
                    let ended: Vec<_> = aborted.iter().filter(is_of_these).copied().collect();
                    self.log.note_aborted(&ended);
                    self.log
                        .publish(appended.log_end_offset, appended.log_end_offset);
                    if self.log.is_snapshot_due() {
                        let producers = self.story.producers(appended.log_end_offset.0);
                        self.log.write_snapshot(&producers)?;
                    }
                }
                // The producer tries again what was refused for now.
                Err(error) if error.is_cut_back() && !retried && error.cause.is_disk_full() => {
                    retried = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn flush(&mut self, scope: FlushScope) -> Result<(), End> {
        if let Some(plan) = self.log.flush_plan(scope)? {
            let flushed = plan
                .run()
                .inspect_err(|error| self.log.flush_failed(error))?;
            self.story.flushed = self.log.complete_flush(&flushed, Millis(5000)).0;
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), End> {
        let recovery_point = BTreeMap::from([(partition(), self.log.recovery_point())]);
        self.directory
            .write_checkpoint(CheckpointFile::RecoveryPoint, &recovery_point)?;
        let high_watermark = BTreeMap::from([(partition(), self.log.log_end_offset())]);
        Ok(self
            .directory
            .write_checkpoint(CheckpointFile::HighWatermark, &high_watermark)?)
    }

    fn truncate(&mut self, by: i64) -> Result<(), End> {
        let target = (self.log.log_end_offset().0 - by).max(self.log.log_start_offset().0);
        // From here on the log may end anywhere from the target on.
        let batch = self.story.batches.iter().find(|batch| batch.end > target);
        let end = batch.map_or(target, |batch| batch.base.min(target));
        self.story.written = self.story.written.min(end);
        self.story.flushed = self.story.flushed.min(end);
        self.story.start = self.story.start.min(end);
        self.story.deleted = self.story.deleted.min(end);
        self.story.is_truncating = true;
        if let Some(truncated) = self.log.truncate_to(Offset(target), Millis(5000))? {
            assert_eq!(truncated.log_end_offset, Offset(end));
            self.story.batches.retain(|batch| batch.end <= end);
            self.story.epoch += 1;
            let producers = self.story.producers(end);
            self.log.write_snapshot(&producers)?;
            self.log.publish(Offset(end), Offset(end));
        }
        self.story.is_truncating = false;
        Ok(())
    }

    fn delete_records(&mut self, before: i64) -> Result<(), End> {
        let before = before.min(self.log.log_end_offset().0);
        self.story.start_max = self.story.start_max.max(before);
        self.log.advance_log_start(Offset(before))?;
        self.story.start = self.story.start.max(before);
        self.story.deleted = self.story.deleted.max(before);
        Ok(())
    }

    fn retain(&mut self, bytes: u64) -> Result<(), End> {
        self.log.set_config(LogConfig {
            retention_bytes: Some(bytes),
            ..config()
        });
        self.story.start_max = self.log.log_end_offset().0;
        let deleted = self.log.delete_old_segments(Millis(5000))?;
        self.log.set_config(config());
        for segment in deleted {
            segment.remove(&**self.directory.disk())?;
        }
        Ok(())
    }

    fn shut_down(self) -> Result<(), End> {
        let Self {
            directory,
            log,
            story,
        } = self;
        let producers = story.producers(log.log_end_offset().0);
        let recovery_point = log.close(&producers, Millis(5000))?;
        story.flushed = recovery_point.0;
        let offsets = BTreeMap::from([(partition(), recovery_point)]);
        directory.write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)?;
        Ok(directory.mark_clean_shutdown(BrokerEpoch(1))?)
    }
}

/// A step of a script. Each leaves the log in another state for the fault to strike.
#[derive(Clone, Debug)]
enum Step {
    /// Batches of so many records.
    Append(Vec<i64>),
    /// A transaction and its abort.
    Abort,
    Flush(FlushScope),
    Checkpoint,
    Prepare,
    Roll,
    /// By so many records.
    Truncate(i64),
    /// All but so many records.
    DeleteRecords(i64),
    /// Down to so many bytes.
    Retain(u64),
    /// Ends the run cleanly; the next step is in another one.
    ShutDown,
}

/// The script that is struck at every call.
fn script() -> Vec<Step> {
    use Step::{
        Abort, Append, Checkpoint, DeleteRecords, Flush, Prepare, Retain, Roll, ShutDown, Truncate,
    };
    vec![
        Append(vec![2, 1, 3]),
        Append(vec![1]),
        Flush(FlushScope::All),
        Append(vec![4, 4, 4, 2]),
        Flush(FlushScope::Sealed),
        Checkpoint,
        Prepare,
        Append(vec![5, 5, 1, 1, 1]),
        Flush(FlushScope::All),
        Checkpoint,
        Append(vec![3]),
        Truncate(2),
        Append(vec![2, 2]),
        Truncate(12),
        Append(vec![3, 3, 3]),
        Flush(FlushScope::All),
        DeleteRecords(30),
        Append(vec![6, 6, 6]),
        Retain(2500),
        Roll,
        Append(vec![1]),
        ShutDown,
        Append(vec![2, 2, 7]),
        Retain(1500),
        Flush(FlushScope::All),
        Checkpoint,
        Append(vec![2, 2, 7]),
        Truncate(30),
        Append(vec![2]),
        // The entry of an abort is in a file that only a flush of sealed segments brings to the
        // disk, and then in one whose name only a flush of everything does.
        Abort,
        Roll,
        Flush(FlushScope::Sealed),
        Checkpoint,
        Append(vec![1]),
        Flush(FlushScope::All),
        Abort,
        Flush(FlushScope::All),
        Checkpoint,
        Append(vec![1]),
        ShutDown,
    ]
}

/// A script that the seed decides.
fn random_script(rng: &mut SimRng) -> Vec<Step> {
    let mut below = |limit: u64| i64::try_from(rng.next_u64() % limit).unwrap();
    let mut steps = Vec::new();
    for _ in 0..40 {
        steps.push(match below(20) {
            0..8 => Step::Append((0..=below(4)).map(|_| 1 + below(6)).collect()),
            8..11 => Step::Flush(FlushScope::All),
            11 => Step::Flush(FlushScope::Sealed),
            12 | 13 => Step::Checkpoint,
            14 => Step::Prepare,
            15 => Step::Roll,
            16 => Step::Truncate(below(25)),
            17 => Step::DeleteRecords(below(25)),
            18 => Step::Retain(below(4000).unsigned_abs()),
            _ => Step::ShutDown,
        });
    }
    steps
}

fn tell(disk: &Arc<dyn Disk>, root: &Path, story: &mut Story, script: &[Step]) -> Result<(), End> {
    for steps in script.split_inclusive(|step| matches!(step, Step::ShutDown)) {
        let written = story.written;
        let mut run = Run::open(disk, root, story, written)?;
        for step in steps {
            match step {
                Step::Append(sizes) => run.append(sizes)?,
                Step::Abort => run.append(run.story.sizes_to_abort())?,
                Step::Flush(scope) => run.flush(*scope)?,
                Step::Checkpoint => run.checkpoint()?,
                Step::Prepare => run.log.prepare_next_segment()?,
                Step::Roll => run.log.roll(Millis(5000))?,
                Step::Truncate(by) => run.truncate(*by)?,
                Step::DeleteRecords(left) => {
                    let before = run.log.log_end_offset().0 - left;
                    run.delete_records(before)?;
                }
                Step::Retain(bytes) => run.retain(*bytes)?,
                Step::ShutDown => {
                    run.shut_down()?;
                    break;
                }
            }
        }
    }
    Ok(())
}

/// After a fault: the log opens, holds what was promised, and goes on.
fn go_on(disk: &Arc<dyn Disk>, root: &Path, story: &mut Story, at_least: i64) -> Result<(), End> {
    let mut run = Run::open(disk, root, story, at_least)?;
    run.append(&[3, 3, 3])?;
    run.flush(FlushScope::All)?;
    run.checkpoint()?;
    run.append(&[2])?;
    drop(run);
    let written = story.written;
    drop(Run::open(disk, root, story, written)?);
    Ok(())
}

/// Number of disk calls that the story takes.
fn calls(script: &[Step]) -> u64 {
    let world = SimWorld::new(1);
    let disk = world.node(NODE).disk;
    assert!(tell(&disk, Path::new("/data"), &mut Story::new(), script).is_ok());
    world.disk(NODE).calls()
}

fn strike(script: &[Step], call: u64, fault: Fault, seed: u64) {
    let world = SimWorld::new(seed);
    let root = Path::new("/data");
    let mut story = Story::new();
    let disk = world.node(NODE).disk;
    world.disk(NODE).fail_after(call, fault);
    let ended = tell(&disk, root, &mut story, script);
    let mut at_least = match (&ended, fault) {
        // A flush that fails may have lost what was only written.
        (Err(_), Fault::PowerCut | Fault::Eio) => story.flushed,
        _ => story.written,
    };
    drop(disk);
    // Opening is struck as well, at another call each time.
    for opening in 1..=REOPENINGS {
        let disk = world.node(NODE).disk;
        let interrupts = matches!(fault, Fault::Kill | Fault::PowerCut);
        world.disk(NODE).heal();
        if interrupts && opening < REOPENINGS {
            world
                .disk(NODE)
                .fail_after((call * 7 + opening * 13) % 90, fault);
        }
        match go_on(&disk, root, &mut story, at_least) {
            Ok(()) => {}
            Err(End::Died) => {
                at_least = if fault == Fault::PowerCut {
                    story.flushed
                } else {
                    story.written
                };
            }
            Err(End::Offline) => panic!("the log does not open"),
        }
    }
}

fn strike_everywhere(fault: Fault) {
    let script = script();
    let calls = calls(&script);
    assert!(calls > 300, "{calls}");
    for call in 0..calls {
        for seed in 0..2 {
            let seed = call * 1000 + seed;
            let struck = std::panic::catch_unwind(|| strike(&script, call, fault, seed));
            assert!(struck.is_ok(), "{fault:?} at call {call}, seed {seed}");
        }
    }
}

#[test]
fn the_story_on_the_real_disk() {
    let temporary = tempfile::TempDir::new().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut story = Story::new();
    assert!(tell(&disk, temporary.path(), &mut story, &script()).is_ok());
    let written = story.written;
    assert!(go_on(&disk, temporary.path(), &mut story, written).is_ok());
}

#[test]
fn what_was_written_survives_a_kill_at_every_call() {
    strike_everywhere(Fault::Kill);
}

#[test]
fn what_was_flushed_survives_a_power_cut_at_every_call() {
    strike_everywhere(Fault::PowerCut);
}

#[test]
fn a_log_survives_an_io_error_at_every_call() {
    strike_everywhere(Fault::Eio);
}

#[test]
fn a_log_survives_a_full_disk_at_every_call() {
    strike_everywhere(Fault::NoSpace);
}

#[test]
fn a_log_survives_a_short_write_at_every_call() {
    strike_everywhere(Fault::ShortWrite);
}

#[test]
fn records_of_a_deleted_topic_do_not_come_back_under_a_later_one_of_its_name() {
    let id = |byte| Some(TopicId::from_random([byte; 16]));
    for seed in 0..20 {
        let world = SimWorld::new(seed);
        let root = Path::new("/logs");
        let open = |disk: &Arc<dyn Disk>, topic_id| {
            let limits = CacheLimits::default();
            let directory = LogDirectory::open(Arc::clone(disk), root, limits).unwrap();
            let opened = Log::open(&directory, &partition(), topic_id, config(), Millis(1));
            (directory, opened)
        };
        let disk = world.node(NODE).disk;
        let (directory, opened) = open(&disk, id(1));
        let mut log = opened.unwrap().log;
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .append(Millis(1), None, Some(b"of the first"), &[])
            .unwrap();
        log.append(&[builder.build().unwrap().as_slice()], Millis(1))
            .unwrap();
        log.flush(Millis(1)).unwrap();
        drop(log);
        directory.delete_partition(&partition(), [7; 16]).unwrap();
        // The topic is made again, and its log is opened, before the power goes.
        drop(Log::open(&directory, &partition(), id(2), config(), Millis(1)).unwrap());
        drop(directory);
        world.power_cut(NODE);
        let (_, opened) = open(&world.node(NODE).disk, id(2));
        // A directory that was told of the first topic may be refused: the caller moves it away.
        if let Ok(opened) = opened {
            assert_eq!(opened.log.log_end_offset(), Offset(0), "seed {seed}");
        }
    }
}

/// Seeds of random scripts, each struck once by each fault. More with `STORAGE_CRASH_SEEDS`.
const RANDOM_SCRIPTS: u64 = 150;

#[test]
fn random_stories_survive_random_faults() {
    let seeds = std::env::var("STORAGE_CRASH_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(RANDOM_SCRIPTS) {
        let mut rng = SimWorld::new(seed).rng("script");
        let script = random_script(&mut rng);
        let calls = calls(&script);
        for fault in [
            Fault::Kill,
            Fault::PowerCut,
            Fault::Eio,
            Fault::NoSpace,
            Fault::ShortWrite,
        ] {
            let call = rng.next_u64() % calls;
            let struck = std::panic::catch_unwind(|| strike(&script, call, fault, seed));
            assert!(struck.is_ok(), "{fault:?} at call {call} of script {seed}");
        }
    }
}
