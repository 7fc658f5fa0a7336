//! One compaction of one log, step by step.
//!
//! Input: what is dirty, and what memory there is. Output: new segments, one after the other, each
//! to be swapped in before the next is asked for.
//!
//! ```text
//!   Scan ─► Map ─► Write ─► (Cleaned, swapped by the caller) ─► Write ─► … ─► Ended
//! ```
//!
//! Invariants:
//! - a step reads and writes about [`STEP_BYTES`], or one batch if that is longer;
//! - memory: the table of keys, two buffers, and one batch as it is packed and unpacked, to no more
//!   than the step is given; a batch that it ended at is judged by the next one as if for the first
//!   time;
//! - groups are written in the order of their offsets: a record goes only when its later one is in
//!   a segment that is behind it, on the disk and flushed;
//! - after an error nothing is left of what was being written.
//!
//! Source: `Cleaner.doClean`, `buildOffsetMap` of Kafka 4.1.1.

use std::collections::VecDeque;
use std::sync::Arc;

use skein_record::{
    BatchError, BatchHeader, BatchView, CompressionError, EndTxnMarker, Retained, retain,
};
use skein_types::{Millis, Offset};

use super::super::batches::Headers;
use super::super::names::FileKind;
use super::super::segment::SealedSegment;
use super::cleaned::{self, CleanedSegment, Writer};
use super::groups::{self, Extent};
use super::offset_map::{OffsetMap, SLOT_BYTES};
use super::reader::BatchReader;
use super::rules::{Rules, Transactions};
use super::{CompactionError, CompactionSettings, CompactionSource, Dirty};
use crate::StorageError;
use crate::atomic_file::read_full;

/// Bytes after which a step ends.
const STEP_BYTES: u64 = 1024 * 1024;
/// Headers after which a step of the scan ends.
const SCAN_MAX_BATCHES: usize = 1024;
/// Aborted transactions that one compaction remembers; where there are more it ends earlier.
const ABORTED_MAX: usize = 1_000_000;

/// What a compaction may use.
#[derive(Clone, Copy, Debug)]
pub struct CompactionBudget {
    /// Memory for the table of keys, in bytes.
    pub dedupe_buffer_bytes: u64,
    /// How full the table may become, above 0 and at most 1.
    pub load_factor: f64,
    /// Memory for reading and writing, in bytes.
    pub io_buffer_bytes: usize,
    /// Records of one batch are unpacked to at most this many bytes; a log with one that has more
    /// cannot be compacted.
    pub unpacked_max_bytes: usize,
    /// Random bits.
    pub hash_key: [u8; 16],
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionStats {
    /// First offset that was dirty.
    pub start: Offset,
    /// The log is compacted up to here.
    pub end: Offset,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// Bytes of the segments after.
    pub bytes_after: u64,
}

/// The end of a compaction, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// How often the log had been truncated when it began.
    pub(super) truncations: u64,
    pub(super) end: Offset,
}

/// How far a step came.
pub enum CompactionStep {
    /// It read and wrote so many bytes; there is more to do.
    Worked(u64),
    /// It read and wrote so many bytes, and the next batch unpacks to more than it was given: the
    /// next step needs [`CompactionBudget::unpacked_max_bytes`], and handles that batch alone.
    Starved(u64),
    /// A segment is ready: swap it in with [`super::super::Log::swap_compacted`].
    Cleaned(Box<CleanedSegment>),
    /// All is done: tell the log with [`super::super::Log::complete_compaction`].
    Ended(CompactionStats),
}

/// How far a step may unpack a batch.
#[derive(Clone, Copy)]
struct Room {
    bytes: usize,
    /// No batch is given more.
    is_all: bool,
}

impl Room {
    fn new(bytes: usize, most: usize) -> Self {
        Self {
            bytes: bytes.min(most),
            is_all: bytes >= most,
        }
    }

    /// Bytes after which the step ends: all of the room is for one batch.
    fn step_bytes(self) -> u64 {
        if self.is_all { 1 } else { STEP_BYTES }
    }

    /// Whether this is for the next step, which has more room.
    fn is_short(self, error: &BatchError) -> bool {
        let is_too_large = matches!(
            error,
            BatchError::Compression {
                source: CompressionError::TooLarge { .. },
                ..
            }
        );
        is_too_large && !self.is_all
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Scan,
    Map,
    Write,
    Ended,
}

/// A compaction under way.
pub struct Compaction {
    source: CompactionSource,
    budget: CompactionBudget,
    /// Segments from the log's first to the last dirty one, and the first dirty one of them; from
    /// the third stage on those of the group that is being written.
    segments: Vec<Arc<SealedSegment>>,
    first_dirty: usize,
    stage: Stage,
    /// The segment that is being read, and where the scan is in it.
    at: usize,
    position: u64,
    reader: Option<BatchReader>,
    /// Records that the scan has met.
    records: u64,
    rules: Rules,
    /// What is to be written after that.
    groups: VecDeque<Vec<Arc<SealedSegment>>>,
    writer: Option<Writer>,
    /// Up to here the group's only segment stays as it is.
    copied_end: u64,
    /// What becomes of the batch there. To judge it twice might tell two things.
    judged: Option<Retained>,
    stats: CompactionStats,
}

impl Compaction {
    /// Begins. `dirty` is what [`CompactionSource::dirty`] said.
    #[must_use]
    pub fn new(
        mut source: CompactionSource,
        dirty: Dirty,
        settings: &CompactionSettings,
        budget: CompactionBudget,
        now: Millis,
    ) -> Self {
        let in_range = |segment: &&Arc<SealedSegment>| segment.end_offset <= dirty.end;
        let segments: Vec<_> = source.sealed.iter().filter(in_range).cloned().collect();
        let first_dirty = segments.partition_point(|segment| segment.end_offset <= dirty.start);
        let rules = Rules {
            map: OffsetMap::new(budget.hash_key, 0, 0),
            map_end: dirty.end,
            now,
            delete_horizon: now.saturating_add(settings.delete_retention_ms),
            last_batches: std::mem::take(&mut source.producers),
            transactions: Transactions::default(),
            seen: std::collections::BTreeSet::new(),
        };
        Self {
            source,
            budget,
            segments,
            first_dirty,
            stage: Stage::Scan,
            at: first_dirty,
            position: 0,
            reader: None,
            records: 0,
            rules,
            groups: VecDeque::new(),
            writer: None,
            copied_end: 0,
            judged: None,
            stats: CompactionStats {
                start: dirty.start,
                end: dirty.start,
                read_bytes: 0,
                written_bytes: 0,
                bytes_before: 0,
                bytes_after: 0,
            },
        }
    }

    /// Goes on for a moment, and unpacks no batch to more than `unpack_bytes`. Blocks for as long
    /// as the device takes.
    ///
    /// # Errors
    /// What the disk says, and what is wrong with a batch; then the compaction has ended, and the
    /// log is as the last swap left it.
    pub fn step(&mut self, unpack_bytes: usize) -> Result<CompactionStep, CompactionError> {
        let room = Room::new(unpack_bytes, self.budget.unpacked_max_bytes);
        let result = match self.stage {
            Stage::Scan => self.scan(room),
            Stage::Map => self.map(room),
            Stage::Write => self.write(room),
            Stage::Ended => Ok(CompactionStep::Ended(self.stats)),
        };
        if result.is_err() {
            self.abandon();
        }
        result
    }

    /// Ends it; nothing is left of what was being written.
    pub fn abandon(&mut self) {
        self.stage = Stage::Ended;
        if let Some(writer) = self.writer.take() {
            writer.discard();
        }
    }

    /// What the log is to be told when all is done.
    #[must_use]
    pub fn completion(&self) -> Completion {
        Completion {
            truncations: self.source.truncations,
            end: self.stats.end,
        }
    }

    fn scan(&mut self, room: Room) -> Result<CompactionStep, CompactionError> {
        let Some(segment) = self.segments.get(self.at).cloned() else {
            self.begin_map(self.rules.map_end);
            return Ok(CompactionStep::Worked(0));
        };
        let (file, path) = (segment.log()?, segment.path(FileKind::Log));
        let mut headers = Headers::new(&*file, &path, self.position..segment.end_position);
        let (mut read_bytes, mut is_starved) = (0, false);
        for _ in 0..SCAN_MAX_BATCHES {
            let Some((position, header)) = headers.next()? else {
                (self.at, self.position) = (self.at + 1, 0);
                break;
            };
            read_bytes += skein_record::HEADER_BYTES as u64;
            let is_dirty = header.last_offset() >= self.stats.start;
            if is_dirty && self.rules.transactions.aborted_count() == ABORTED_MAX {
                self.begin_map(header.base_offset);
                break;
            }
            let mut marker = None;
            if is_dirty && header.attributes.is_control() {
                let mut bytes = vec![0; header.size_in_bytes()];
                let filled = read_full(&*file, &path, &mut bytes, position)?;
                let batch = BatchView::parse(&bytes[..filled]);
                marker = match batch.and_then(|batch| marker_of(&batch, room.bytes)) {
                    Ok(marker) => marker,
                    Err(error) if room.is_short(&error) => {
                        is_starved = true;
                        break;
                    }
                    Err(error) => return Err(failed(&path, &header, position, error)),
                };
            }
            self.position = position + header.size_in_bytes() as u64;
            if is_dirty {
                self.scanned(&header, marker);
            }
        }
        self.stats.read_bytes += read_bytes;
        Ok(worked(read_bytes, is_starved))
    }

    fn scanned(&mut self, header: &BatchHeader, marker: Option<EndTxnMarker>) {
        self.records += u64::from(header.records_count.cast_unsigned());
        if !header.attributes.is_control() {
            self.rules.transactions.on_batch(header);
        }
        if let Some(marker) = marker {
            self.rules.transactions.on_marker(header, marker);
        }
    }

    /// What was scanned up to `end` is known.
    fn begin_map(&mut self, end: Offset) {
        let undecided = self.rules.transactions.undecided();
        let end = undecided.map_or(end, |undecided| undecided.min(end));
        self.rules.map_end = end;
        if end <= self.stats.start {
            self.stage = Stage::Ended;
            return;
        }
        let (slots, keys_max) = slots(&self.budget, self.records);
        self.rules.map = OffsetMap::new(self.budget.hash_key, slots, keys_max);
        self.stage = Stage::Map;
        self.at = self.first_dirty;
    }

    fn map(&mut self, room: Room) -> Result<CompactionStep, CompactionError> {
        let Self {
            reader,
            rules,
            budget,
            segments,
            stats,
            ..
        } = self;
        let Some(segment) = segments.get(self.at) else {
            self.begin_write()?;
            return Ok(CompactionStep::Worked(0));
        };
        let reader = open(reader, segment, budget)?;
        let path = reader.path().to_path_buf();
        let (mut read_bytes, mut is_starved) = (0, false);
        while read_bytes < room.step_bytes() {
            let Some((position, batch)) = reader.next()? else {
                (self.reader, self.at) = (None, self.at + 1);
                break;
            };
            read_bytes += batch.as_slice().len() as u64;
            let header = *batch.header();
            if header.base_offset >= rules.map_end {
                self.begin_write()?;
                break;
            }
            if header.last_offset() < stats.start || header.attributes.is_control() {
                continue;
            }
            match put_keys(&batch, stats.start, rules, room.bytes) {
                Ok(true) => {}
                Ok(false) => {
                    self.begin_write()?;
                    break;
                }
                Err(error) if room.is_short(&error) => {
                    reader.go_back_to(position);
                    is_starved = true;
                    break;
                }
                Err(error) => return Err(failed(&path, &header, position, error)),
            }
        }
        self.stats.read_bytes += read_bytes;
        Ok(worked(read_bytes, is_starved))
    }

    fn begin_write(&mut self) -> Result<(), StorageError> {
        cleaned::discard_all(&self.source.home)?;
        let map_end = self.rules.map_end;
        self.segments
            .retain(|segment| segment.base_offset < map_end);
        let extents: Vec<Extent> = (self.segments.iter())
            .map(|segment| Extent {
                base_offset: segment.base_offset,
                end_offset: segment.end_offset,
                size: segment.end_position,
            })
            .collect();
        let mut segments = std::mem::take(&mut self.segments).into_iter();
        for group in groups::group(&extents, &self.source.config) {
            self.groups
                .push_back(segments.by_ref().take(group.len()).collect());
        }
        // What was replaced is let go of group by group: a file that is held keeps its room.
        self.source.sealed = Arc::default();
        self.reader = None;
        self.stage = Stage::Write;
        self.stats.end = map_end;
        Ok(())
    }

    fn write(&mut self, room: Room) -> Result<CompactionStep, CompactionError> {
        if self.segments.is_empty() {
            let Some(group) = self.groups.pop_front() else {
                self.stage = Stage::Ended;
                return Ok(CompactionStep::Ended(self.stats));
            };
            self.segments = group;
            self.at = 0;
            (self.copied_end, self.judged) = (0, None);
            // Of a single segment nothing is written before something of it goes.
            self.writer = match self.segments.len() {
                1 => None,
                _ => Some(self.create_writer()?),
            };
        }
        if self.at < self.segments.len() {
            return self.write_some(room);
        }
        self.finish_group()
    }

    fn create_writer(&self) -> Result<Writer, StorageError> {
        let source = &self.source;
        let base_offset = self.segments[0].base_offset;
        let buffer_bytes = self.budget.io_buffer_bytes / 2;
        let aborted = source.aborted_of(&self.segments)?;
        Writer::create(
            &source.home,
            base_offset,
            &source.config,
            buffer_bytes,
            aborted,
        )
    }

    fn write_some(&mut self, room: Room) -> Result<CompactionStep, CompactionError> {
        let segment = Arc::clone(&self.segments[self.at]);
        let later = &self.segments[self.at + 1..];
        let is_last_segment = later.iter().all(|segment| segment.end_position == 0);
        let reader = open(&mut self.reader, &segment, &self.budget)?;
        let path = reader.path().to_path_buf();
        let (mut read_bytes, mut written_bytes, mut is_starved) = (0, 0, false);
        while read_bytes < room.step_bytes() {
            let Some((position, batch)) = reader.next()? else {
                (self.reader, self.at) = (None, self.at + 1);
                break;
            };
            let (header, size) = (*batch.header(), batch.as_slice().len() as u64);
            read_bytes += size;
            let is_last = is_last_segment && position + size == segment.end_position;
            let kept = match self.judged.take() {
                judged if position < self.copied_end => {
                    self.judged = judged;
                    Ok(Retained::Unchanged)
                }
                Some(judged) => Ok(judged),
                None => judge(&batch, &mut self.rules, is_last, room.bytes),
            };
            match (kept, &mut self.writer) {
                (Ok(Retained::Unchanged), None) => {}
                (Ok(Retained::Unchanged), Some(writer)) => {
                    writer.add(&header, batch.as_slice())?;
                    written_bytes += size;
                }
                (Ok(Retained::Changed(left)), Some(writer)) => {
                    writer.add(left.header(), left.as_slice())?;
                    written_bytes += left.as_slice().len() as u64;
                }
                (Ok(Retained::Nothing), Some(_)) => {}
                (Ok(changed), None) => {
                    // From its beginning, now with somewhere to write to.
                    (self.copied_end, self.judged) = (position, Some(changed));
                    self.reader = None;
                    self.writer = Some(self.create_writer()?);
                    break;
                }
                (Err(error), _) if room.is_short(&error) => {
                    reader.go_back_to(position);
                    is_starved = true;
                    break;
                }
                (Err(error), _) => return Err(failed(&path, &header, position, error)),
            }
        }
        self.stats.read_bytes += read_bytes;
        self.stats.written_bytes += written_bytes;
        Ok(worked(read_bytes + written_bytes, is_starved))
    }

    fn finish_group(&mut self) -> Result<CompactionStep, CompactionError> {
        let sources = std::mem::take(&mut self.segments);
        let before: u64 = sources.iter().map(|segment| segment.end_position).sum();
        self.stats.bytes_before += before;
        let Some(writer) = self.writer.take() else {
            self.stats.bytes_after += before;
            return Ok(CompactionStep::Worked(0));
        };
        let (first, last) = (&sources[0], &sources[sources.len() - 1]);
        let (base_offset, end_offset) = (first.base_offset, last.end_offset);
        let finished = match writer.finish() {
            Ok(finished) => finished,
            Err(error) => {
                cleaned::discard(&self.source.home, base_offset);
                return Err(error.into());
            }
        };
        self.stats.bytes_after += finished.size;
        Ok(CompactionStep::Cleaned(Box::new(CleanedSegment {
            home: Arc::clone(&self.source.home),
            base_offset,
            end_offset,
            sources,
            size: finished.size,
            file: finished.file,
            has_aborted: finished.has_aborted,
            max_timestamp: finished.max_timestamp,
            interval_bytes: self.source.config.index_interval_bytes,
            cleaned_end: end_offset.min(self.rules.map_end).max(self.stats.start),
            truncations: self.source.truncations,
        })))
    }
}

fn worked(bytes: u64, is_starved: bool) -> CompactionStep {
    if is_starved {
        CompactionStep::Starved(bytes)
    } else {
        CompactionStep::Worked(bytes)
    }
}

/// How many slots the table gets for so many records, and how many keys it may hold.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // sizes of a table
fn slots(budget: &CompactionBudget, records: u64) -> (usize, usize) {
    let load_factor = budget.load_factor.clamp(0.01, 1.0);
    let slots_max = (budget.dedupe_buffer_bytes / SLOT_BYTES).max(2);
    let wanted = (records as f64 / load_factor) as u64 + 2;
    let slots = wanted.min(slots_max);
    let keys_max = (slots as f64 * load_factor) as u64;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    (count(slots), count(keys_max))
}

fn open<'a>(
    reader: &'a mut Option<BatchReader>,
    segment: &SealedSegment,
    budget: &CompactionBudget,
) -> Result<&'a mut BatchReader, StorageError> {
    match reader {
        Some(reader) => Ok(reader),
        None => Ok(reader.insert(BatchReader::new(segment, budget.io_buffer_bytes / 2)?)),
    }
}

/// Puts the keys of a batch into the table. `false`, with the end of what is in it, if it is full.
fn put_keys(
    batch: &BatchView<'_>,
    start: Offset,
    rules: &mut Rules,
    max_bytes: usize,
) -> Result<bool, BatchError> {
    if rules.transactions.is_aborted(batch.header()) {
        return Ok(true);
    }
    for record in &batch.records(max_bytes)? {
        let record = record?;
        let Some(key) = record.key.filter(|_| record.offset >= start) else {
            continue;
        };
        if !rules.map.put(key, record.offset) {
            rules.map_end = record.offset;
            return Ok(false);
        }
    }
    Ok(true)
}

fn judge(
    batch: &BatchView<'_>,
    rules: &mut Rules,
    is_last: bool,
    max_bytes: usize,
) -> Result<Retained, BatchError> {
    let header = batch.header();
    if header.base_offset >= rules.map_end {
        return Ok(Retained::Unchanged);
    }
    let marker = match header.attributes.is_control() {
        true => marker_of(batch, max_bytes)?,
        false => None,
    };
    let verdict = rules.judge(header, marker, is_last);
    retain(batch, verdict.keeping, max_bytes, |record| {
        !verdict.discards && rules.stays(header, record)
    })
}

/// The marker in a control batch, if it ends a transaction.
fn marker_of(batch: &BatchView<'_>, max_bytes: usize) -> Result<Option<EndTxnMarker>, BatchError> {
    let records = batch.records(max_bytes)?;
    let first = records.iter().next().transpose()?;
    Ok(first.as_ref().and_then(EndTxnMarker::parse))
}

fn failed(
    path: &std::path::Path,
    header: &BatchHeader,
    position: u64,
    source: BatchError,
) -> CompactionError {
    CompactionError::Batch {
        path: path.to_path_buf(),
        base_offset: header.base_offset,
        position,
        source,
    }
}
