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
//! - memory: the table of keys, two buffers, and one batch as it is packed and unpacked;
//! - groups are written in the order of their offsets: a record goes only when its later one is in
//!   a segment that is behind it, on the disk and flushed;
//! - after an error nothing is left of what was being written.
//!
//! Source: `Cleaner.doClean`, `buildOffsetMap` of Kafka 4.1.1.

use std::ops::Range;
use std::sync::Arc;

use skein_record::{BatchError, BatchHeader, BatchView, EndTxnMarker, Retained, retain};
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
    /// Records of one batch are unpacked to at most this many bytes.
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

/// How far a step came.
pub enum CompactionStep {
    /// It read and wrote so many bytes; there is more to do.
    Worked(u64),
    /// A segment is ready: swap it in with [`super::super::Log::swap_compacted`].
    Cleaned(Box<CleanedSegment>),
    /// All is done: tell the log with [`super::super::Log::complete_compaction`].
    Ended(CompactionStats),
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
    /// Segments from the log's first to the last dirty one, and the first dirty one of them.
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
    groups: Vec<Range<usize>>,
    group: usize,
    writer: Option<Writer>,
    /// Whether the group that is being written is what it was.
    is_unchanged: bool,
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
            groups: Vec::new(),
            group: 0,
            writer: None,
            is_unchanged: true,
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

    /// Goes on for a moment. Blocks for as long as the device takes.
    ///
    /// # Errors
    /// What the disk says, and what is wrong with a batch; then the compaction has ended, and the
    /// log is as the last swap left it.
    pub fn step(&mut self) -> Result<CompactionStep, CompactionError> {
        let result = match self.stage {
            Stage::Scan => self.scan(),
            Stage::Map => self.map(),
            Stage::Write => self.write(),
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

    /// How often the log had been truncated when this began.
    pub(super) fn truncations(&self) -> u64 {
        self.source.truncations
    }

    fn scan(&mut self) -> Result<CompactionStep, CompactionError> {
        let Some(segment) = self.segments.get(self.at).cloned() else {
            self.begin_map(self.rules.map_end);
            return Ok(CompactionStep::Worked(0));
        };
        let (file, path) = (segment.log()?, segment.path(FileKind::Log));
        let mut headers = Headers::new(&*file, &path, self.position..segment.end_position);
        let mut read_bytes = 0;
        for _ in 0..SCAN_MAX_BATCHES {
            let Some((position, header)) = headers.next()? else {
                (self.at, self.position) = (self.at + 1, 0);
                break;
            };
            self.position = position + header.size_in_bytes() as u64;
            read_bytes += skein_record::HEADER_BYTES as u64;
            if header.last_offset() < self.stats.start {
                continue;
            }
            if self.rules.transactions.aborted_count() == ABORTED_MAX {
                self.begin_map(header.base_offset);
                break;
            }
            self.records += u64::from(header.records_count.cast_unsigned());
            if !header.attributes.is_control() {
                self.rules.transactions.on_batch(&header);
                continue;
            }
            let mut bytes = vec![0; header.size_in_bytes()];
            let filled = read_full(&*file, &path, &mut bytes, position)?;
            let batch = BatchView::parse(&bytes[..filled]);
            let batch = batch.map_err(|source| failed(&path, &header, position, source))?;
            let marker = marker_of(&batch, self.budget.unpacked_max_bytes)
                .map_err(|source| failed(&path, &header, position, source))?;
            if let Some(marker) = marker {
                self.rules.transactions.on_marker(&header, marker);
            }
        }
        self.stats.read_bytes += read_bytes;
        Ok(CompactionStep::Worked(read_bytes))
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

    fn map(&mut self) -> Result<CompactionStep, CompactionError> {
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
        let mut read_bytes = 0;
        while read_bytes < STEP_BYTES {
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
            let has_room = put_keys(&batch, stats.start, rules, budget.unpacked_max_bytes)
                .map_err(|source| failed(&path, &header, position, source))?;
            if !has_room {
                self.begin_write()?;
                break;
            }
        }
        self.stats.read_bytes += read_bytes;
        Ok(CompactionStep::Worked(read_bytes))
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
        self.groups = groups::group(&extents, &self.source.config);
        self.reader = None;
        self.stage = Stage::Write;
        self.stats.end = map_end;
        Ok(())
    }

    fn write(&mut self) -> Result<CompactionStep, CompactionError> {
        let Some(group) = self.groups.get(self.group).cloned() else {
            self.stage = Stage::Ended;
            return Ok(CompactionStep::Ended(self.stats));
        };
        if self.writer.is_none() {
            self.at = group.start;
            self.is_unchanged = true;
            let base_offset = self.segments[group.start].base_offset;
            self.writer = Some(Writer::create(
                &self.source.home,
                base_offset,
                &self.source.config,
                self.budget.io_buffer_bytes / 2,
            )?);
        }
        if self.at < group.end {
            return self.write_some(&group).map(CompactionStep::Worked);
        }
        self.finish_group(&group)
    }

    fn write_some(&mut self, group: &Range<usize>) -> Result<u64, CompactionError> {
        let segment = Arc::clone(&self.segments[self.at]);
        let later = &self.segments[self.at + 1..group.end];
        let is_last_segment = later.iter().all(|segment| segment.end_position == 0);
        let Self {
            reader,
            rules,
            budget,
            writer,
            ..
        } = self;
        let (reader, Some(writer)) = (open(reader, &segment, budget)?, writer) else {
            return Ok(0);
        };
        let path = reader.path().to_path_buf();
        let (mut read_bytes, mut written_bytes) = (0, 0);
        while read_bytes < STEP_BYTES {
            let Some((position, batch)) = reader.next()? else {
                (self.reader, self.at) = (None, self.at + 1);
                break;
            };
            let (header, size) = (*batch.header(), batch.as_slice().len() as u64);
            read_bytes += size;
            let is_last = is_last_segment && position + size == segment.end_position;
            let kept = judge(&batch, rules, is_last, budget.unpacked_max_bytes)
                .map_err(|source| failed(&path, &header, position, source))?;
            match kept {
                Retained::Unchanged => {
                    writer.add(&header, batch.as_slice())?;
                    written_bytes += size;
                }
                Retained::Changed(left) => {
                    writer.add(left.header(), left.as_slice())?;
                    written_bytes += left.as_slice().len() as u64;
                    self.is_unchanged = false;
                }
                Retained::Nothing => self.is_unchanged = false,
            }
        }
        self.stats.read_bytes += read_bytes;
        self.stats.written_bytes += written_bytes;
        Ok(read_bytes + written_bytes)
    }

    fn finish_group(&mut self, group: &Range<usize>) -> Result<CompactionStep, CompactionError> {
        self.group += 1;
        let sources = self.segments[group.clone()].to_vec();
        let before: u64 = sources.iter().map(|segment| segment.end_position).sum();
        self.stats.bytes_before += before;
        let Some(writer) = self.writer.take() else {
            return Ok(CompactionStep::Worked(0));
        };
        if self.is_unchanged && sources.len() == 1 {
            drop(writer);
            cleaned::discard_all(&self.source.home)?;
            self.stats.bytes_after += before;
            return Ok(CompactionStep::Worked(0));
        }
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
            max_timestamp: finished.max_timestamp,
            interval_bytes: self.source.config.index_interval_bytes,
            cleaned_end: end_offset.min(self.rules.map_end).max(self.stats.start),
            truncations: self.source.truncations,
        })))
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
