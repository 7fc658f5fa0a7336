//! A sealed segment: a file that grows no more, with its indexes.
//!
//! Input: a segment's name and size. Output: its file and its indexes to readers, opened when they
//! are first needed.
//!
//! Invariants:
//! - an index is checked against itself and against the log once, at its first use; a missing or
//!   bad one is rebuilt from the log and written anew ([`SealedSegment::offset_index`]);
//! - that check does not see every wrong entry: one that a lookup finds out makes the next use
//!   rebuild the index ([`SealedSegment::on_bad_offset`]);
//! - an index file is mapped and made under one lock, which is taken before a slot's: nobody maps
//!   what another thread has half written (`SealedSegment::index_files`);
//! - a segment that was replaced keeps its own files, whatever their names mean by now
//!   ([`SealedSegment::pin`]);
//! - what is deleted or compacted does not depend on a claim ([`SealedSegment::newest`]);
//! - descriptors and maps live in the directory's caches; an index's descriptor is closed once the
//!   index is mapped.
//!
//! Source: `LogSegment` and `AbstractIndex.sanityCheck` of Kafka 4.1.1.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use skein_env::{Disk, File, OpenMode};
use skein_record::AbortedTxn;
use skein_types::{Millis, Offset, TopicPartition};

use super::batches::BatchWalk;
use super::index::{Entry, IndexView, OffsetEntry, TimeEntry, WrittenIndex};
use super::lookup::SegmentRef;
use super::names::{self, FileKind};
use super::segment_index::{SegmentIndexer, TimestampOffset};
use super::segment_times::Claims;
use crate::StorageError;
use crate::atomic_file;
use crate::log_directory::{LogDirectory, Slot};
use crate::segment_file::scan_frames;

/// Where a log lives, shared by its segments.
pub(crate) struct Home {
    pub(crate) directory: Arc<LogDirectory>,
    pub(crate) partition: TopicPartition,
    pub(crate) path: PathBuf,
    pub(crate) claims: Claims,
}

impl Home {
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        self.directory.disk()
    }

    /// For all but the batches.
    pub(crate) fn small_disk(&self) -> &Arc<dyn Disk> {
        self.directory.small_disk()
    }

    pub(crate) fn file(&self, base_offset: Offset, kind: FileKind) -> PathBuf {
        names::path(&self.path, base_offset, kind)
    }
}

/// A segment that grows no more.
pub(crate) struct SealedSegment {
    pub(super) home: Arc<Home>,
    pub(crate) base_offset: Offset,
    /// First offset of the segment behind it.
    pub(crate) end_offset: Offset,
    /// Bytes of the log file.
    pub(crate) end_position: u64,
    /// `index.interval.bytes`, for a rebuild.
    interval_bytes: u64,
    /// Held while an index file is mapped, checked and made.
    pub(super) index_files: Mutex<()>,
    log: Arc<Slot<dyn File>>,
    offsets: Arc<Slot<IndexView<OffsetEntry>>>,
    times: Arc<Slot<IndexView<TimeEntry>>>,
    are_offsets_checked: AtomicBool,
    are_times_checked: AtomicBool,
    /// Whether a lookup has found a wrong entry.
    are_offsets_bad: AtomicBool,
    are_times_bad: AtomicBool,
    max_timestamp: OnceLock<TimestampOffset>,
    /// What `segment-timestamps` says of it.
    claimed: OnceLock<TimestampOffset>,
    /// Its transaction index, if there is one (`aborted.rs`).
    pub(super) aborted: OnceLock<Arc<Slot<IndexView<AbortedTxn>>>>,
    /// Whether somebody was told that records are missing behind it.
    pub(super) is_gap_told: AtomicBool,
    /// Whether the log was cut in this segment.
    pub(super) is_cut: AtomicBool,
    pub(super) pinned: OnceLock<Pinned>,
}

/// The files of a segment whose names are about to mean others.
pub(super) struct Pinned {
    log: Arc<dyn File>,
    offsets: Arc<IndexView<OffsetEntry>>,
    times: Arc<IndexView<TimeEntry>>,
    pub(super) aborted: Option<IndexView<AbortedTxn>>,
}

/// What a sealed segment is made of.
pub(crate) struct SealedParts {
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) end_position: u64,
    pub(crate) interval_bytes: u64,
}

impl SealedSegment {
    /// A segment found in the directory; nothing is opened.
    pub(crate) fn found(home: &Arc<Home>, parts: SealedParts) -> Arc<Self> {
        Arc::new(Self::new(home, parts, Slot::empty(), false))
    }

    /// A segment that was just written: its file is open, its indexes are known to be right.
    pub(crate) fn written(
        home: &Arc<Home>,
        parts: SealedParts,
        file: Arc<dyn File>,
        max_timestamp: TimestampOffset,
    ) -> Arc<Self> {
        let segment = Self::new(
            home,
            parts,
            Slot::full(&home.directory.descriptors, file),
            true,
        );
        let _ = segment.max_timestamp.set(max_timestamp);
        Arc::new(segment)
    }

    fn new(
        home: &Arc<Home>,
        parts: SealedParts,
        log: Arc<Slot<dyn File>>,
        is_checked: bool,
    ) -> Self {
        let SealedParts {
            base_offset,
            end_offset,
            end_position,
            interval_bytes,
        } = parts;
        Self {
            home: Arc::clone(home),
            base_offset,
            end_offset,
            end_position,
            interval_bytes,
            index_files: Mutex::new(()),
            log,
            offsets: Slot::empty(),
            times: Slot::empty(),
            are_offsets_checked: AtomicBool::new(is_checked),
            are_times_checked: AtomicBool::new(is_checked),
            are_offsets_bad: AtomicBool::new(false),
            are_times_bad: AtomicBool::new(false),
            max_timestamp: OnceLock::new(),
            claimed: OnceLock::new(),
            aborted: OnceLock::new(),
            is_gap_told: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            pinned: OnceLock::new(),
        }
    }

    /// Holds the segment's files open as long as somebody holds the segment: another one is about
    /// to take their names. `aborted` is its transaction index, if there is one.
    pub(crate) fn pin(
        self: &Arc<Self>,
        aborted: Option<IndexView<AbortedTxn>>,
    ) -> Result<(), StorageError> {
        self.read_max_timestamp()?;
        let (offsets, times) = (self.offset_index()?, self.time_index()?);
        let log = self.log()?;
        // Nobody may be making an index meanwhile.
        let _alone = self.index_files.lock();
        let _ = self.pinned.set(Pinned {
            log,
            offsets,
            times,
            aborted,
        });
        Ok(())
    }

    /// The segment as lookups need it.
    pub(crate) fn open(self: &Arc<Self>) -> Result<SegmentRef, StorageError> {
        let offsets = self.offset_index()?;
        Ok(self.reference(self.log()?, IndexView::clone(&offsets)))
    }

    /// The log file, for reading.
    pub(crate) fn log(&self) -> Result<Arc<dyn File>, StorageError> {
        if let Some(pinned) = self.pinned.get() {
            return Ok(Arc::clone(&pinned.log));
        }
        let file = self.log.get(&self.home.directory.descriptors, || {
            let path = self.path(FileKind::Log);
            self.home
                .disk()
                .open(&path, OpenMode::Read)
                .map_err(|source| StorageError::io("open", &path, source))
        });
        // It may have been pinned, and its name be another's, before it was opened here.
        self.pinned
            .get()
            .map_or(file, |pinned| Ok(Arc::clone(&pinned.log)))
    }

    pub(crate) fn offset_index(
        self: &Arc<Self>,
    ) -> Result<Arc<IndexView<OffsetEntry>>, StorageError> {
        if let Some(pinned) = self.pinned.get() {
            return Ok(Arc::clone(&pinned.offsets));
        }
        if let Some(mapped) = self.offsets.peek() {
            return Ok(mapped);
        }
        let _alone = self.index_files.lock();
        if let Some(pinned) = self.pinned.get() {
            return Ok(Arc::clone(&pinned.offsets));
        }
        self.offsets.get(&self.home.directory.maps, || {
            let is_checked = self.are_offsets_checked.load(Ordering::Relaxed);
            let is_bad = self.are_offsets_bad.load(Ordering::Relaxed);
            let kind = FileKind::OffsetIndex;
            let view = self.map::<OffsetEntry>(kind)?.filter(|_| !is_bad);
            let good = match view {
                Some(view) if is_checked || self.are_offsets_good(&view)? => view,
                _ => self.rebuild(kind)?.0,
            };
            self.are_offsets_bad.store(false, Ordering::Relaxed);
            self.are_offsets_checked.store(true, Ordering::Relaxed);
            Ok(Arc::new(good))
        })
    }

    pub(crate) fn time_index(self: &Arc<Self>) -> Result<Arc<IndexView<TimeEntry>>, StorageError> {
        if let Some(pinned) = self.pinned.get() {
            return Ok(Arc::clone(&pinned.times));
        }
        if let Some(mapped) = self.times.peek() {
            return Ok(mapped);
        }
        // Taken before the locks: the check of the times needs the offsets.
        let offsets = self.offset_index()?;
        let _alone = self.index_files.lock();
        if let Some(pinned) = self.pinned.get() {
            return Ok(Arc::clone(&pinned.times));
        }
        self.times.get(&self.home.directory.maps, || {
            let is_checked = self.are_times_checked.load(Ordering::Relaxed);
            let is_bad = self.are_times_bad.load(Ordering::Relaxed);
            let kind = FileKind::TimeIndex;
            let view = self.map::<TimeEntry>(kind)?.filter(|_| !is_bad);
            let good = match view {
                Some(view) if is_checked || self.are_times_good(&view, &offsets)? => view,
                _ => self.rebuild(kind)?.1,
            };
            self.are_times_bad.store(false, Ordering::Relaxed);
            self.are_times_checked.store(true, Ordering::Relaxed);
            Ok(Arc::new(good))
        })
    }

    /// The largest timestamp, and the last offset of the first batch that has it; on a claim, if
    /// nobody has read the index.
    pub(crate) fn max_timestamp(self: &Arc<Self>) -> Result<TimestampOffset, StorageError> {
        match self.known_max_timestamp() {
            Some(known) => Ok(known),
            None => self.read_max_timestamp(),
        }
    }

    /// As [`SealedSegment::max_timestamp`], as far as that is known without reading.
    pub(crate) fn known_max_timestamp(&self) -> Option<TimestampOffset> {
        let claimed = || self.claimed.get().filter(|_| !self.claims().are_wrong());
        self.max_timestamp.get().or_else(claimed).copied()
    }

    /// Takes over what `segment-timestamps` says of the segment.
    pub(crate) fn claim(&self, max_timestamp: TimestampOffset) {
        let _ = self.claimed.set(max_timestamp);
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.home.claims
    }

    /// Whether the index tells the largest timestamp that [`SealedSegment::max_timestamp`] did.
    /// Else no claim of the log counts from now on.
    pub(crate) fn bears_claim(self: &Arc<Self>) -> Result<bool, StorageError> {
        let Some(known) = self.known_max_timestamp() else {
            return Ok(true);
        };
        let read = self.read_max_timestamp()?;
        if read != known {
            let path = self.path(FileKind::TimeIndex);
            tracing::error!(path = %path.display(), ?known, ?read, "a wrong largest timestamp");
            self.claims().on_wrong();
        }
        Ok(read == known)
    }

    /// The largest timestamp as the index has it.
    fn read_max_timestamp(self: &Arc<Self>) -> Result<TimestampOffset, StorageError> {
        if let Some(known) = self.max_timestamp.get() {
            return Ok(*known);
        }
        let max_timestamp = self
            .time_index()?
            .last()?
            .map_or(TimestampOffset::NONE, |last| TimestampOffset {
                timestamp: last.timestamp.into(),
                offset: Offset(self.base_offset.0 + i64::from(last.relative_offset)),
            });
        if self.claimed.get().is_none() {
            self.claims().on_learned();
        }
        Ok(*self.max_timestamp.get_or_init(|| max_timestamp))
    }

    /// The log contradicts an entry of the offset index: the next use makes it anew.
    pub(crate) fn on_bad_offset(&self, view: &IndexView<OffsetEntry>, entry: OffsetEntry) {
        let path = self.path(FileKind::OffsetIndex);
        tracing::error!(path = %path.display(), ?entry, "an index entry contradicts the log");
        // Another reader may have seen to it already.
        self.offsets.discard_if(|current| {
            let is_it = current.is_same_map(view);
            self.are_offsets_bad.fetch_or(is_it, Ordering::Relaxed);
            is_it
        });
    }

    /// As [`SealedSegment::on_bad_offset`], for the time index.
    pub(crate) fn on_bad_time(&self, view: &IndexView<TimeEntry>, entry: TimeEntry) {
        let path = self.path(FileKind::TimeIndex);
        tracing::error!(path = %path.display(), ?entry, "an index entry contradicts the log");
        self.times.discard_if(|current| {
            let is_it = current.is_same_map(view);
            self.are_times_bad.fetch_or(is_it, Ordering::Relaxed);
            is_it
        });
    }

    /// What the segment's age counts from: its largest timestamp, not on a claim; or without any
    /// the time of its last append, which its file keeps.
    pub(crate) fn newest(self: &Arc<Self>) -> Result<Millis, StorageError> {
        match self.read_max_timestamp()?.timestamp {
            timestamp if timestamp.0 >= 0 => Ok(timestamp),
            _ => modified(&*self.log()?, &self.path(FileKind::Log)),
        }
    }

    /// Empties the slot, as the directory's cache may do at any time.
    #[cfg(test)]
    pub(crate) fn evict_offsets(&self) {
        self.offsets.discard_if(|_| true);
    }

    /// As [`SealedSegment::evict_offsets`].
    #[cfg(test)]
    pub(crate) fn evict_times(&self) {
        self.times.discard_if(|_| true);
    }

    pub(crate) fn path(&self, kind: FileKind) -> PathBuf {
        self.home.file(self.base_offset, kind)
    }

    fn reference(
        self: &Arc<Self>,
        file: Arc<dyn File>,
        offsets: IndexView<OffsetEntry>,
    ) -> SegmentRef {
        SegmentRef {
            path: self.path(FileKind::Log),
            base_offset: self.base_offset,
            end_position: self.end_position,
            file,
            offsets,
            sealed: Some(Arc::clone(self)),
        }
    }

    /// All whole entries of an index file; `None` if there is no file or it has no whole number of
    /// them.
    pub(super) fn map<E: Entry>(
        &self,
        kind: FileKind,
    ) -> Result<Option<IndexView<E>>, StorageError> {
        let path = self.path(kind);
        let disk = self.home.disk();
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The segment itself may be gone: then nothing must be rebuilt.
                self.log()?;
                return Ok(None);
            }
            Err(source) => return Err(StorageError::io("open", &path, source)),
        };
        map_file(disk, &path, &file)
    }

    fn are_offsets_good(
        self: &Arc<Self>,
        view: &IndexView<OffsetEntry>,
    ) -> Result<bool, StorageError> {
        let Some(last) = view.last()? else {
            return Ok(true);
        };
        let in_segment = u64::from(last.position) < self.end_position
            && self.base_offset.0 + i64::from(last.relative_offset) < self.end_offset.0;
        if !in_segment || !does_rise(view)? {
            return Ok(false);
        }
        let offset = Offset(self.base_offset.0 + i64::from(last.relative_offset));
        let segment = self.reference(self.log()?, view.clone());
        segment.is_batch_at(u64::from(last.position), offset)
    }

    fn are_times_good(
        self: &Arc<Self>,
        view: &IndexView<TimeEntry>,
        offsets: &IndexView<OffsetEntry>,
    ) -> Result<bool, StorageError> {
        let segment = self.reference(self.log()?, offsets.clone());
        let Some(last) = view.last()? else {
            let first = segment.find_batch(self.base_offset)?;
            return Ok(first.is_none_or(|first| first.header.max_timestamp.0 < 0));
        };
        let offset = Offset(self.base_offset.0 + i64::from(last.relative_offset));
        if offset >= self.end_offset || !does_rise(view)? {
            return Ok(false);
        }
        let batch = segment.find_batch(offset)?;
        Ok(batch.is_some_and(|batch| batch.header.max_timestamp.0 == last.timestamp))
    }

    /// Makes both indexes anew from the log, and writes them if the disk lets us.
    fn rebuild(
        &self,
        bad: FileKind,
    ) -> Result<(IndexView<OffsetEntry>, IndexView<TimeEntry>), StorageError> {
        let path = self.path(bad);
        tracing::warn!(path = %path.display(), "rebuilding a missing or corrupt index");
        let mut indexer =
            SegmentIndexer::rebuild(self.home.small_disk(), &self.home.path, self.base_offset)?;
        let log_path = self.path(FileKind::Log);
        let mut walk = BatchWalk {
            expected: self.base_offset,
            dense_from: Offset(i64::MAX),
            end: self.end_offset,
            verify_from: Offset(i64::MAX),
            visit: |visited: super::batches::Visited<'_>| {
                indexer.add(visited.header, visited.position, self.interval_bytes);
                Ok(())
            },
        };
        let scan = scan_frames(&*self.log()?, &log_path, 0..self.end_position, &mut walk)?;
        if let Some(reason) = scan.fault {
            return Err(StorageError::corrupt(&log_path, scan.end, reason));
        }
        let in_memory = |indexer: &SegmentIndexer| {
            (indexer.offsets.view().clone(), indexer.times.view().clone())
        };
        // Below the recovery point an index is believed, so it must not be half there after a
        // crash.
        if let Err(error) = indexer.finish().and_then(|()| indexer.flush()) {
            tracing::warn!(path = %path.display(), %error, "the rebuilt index stays in memory");
            // The next use makes it again: a flush that failed is not asked twice.
            for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
                let _ = atomic_file::remove(&**self.home.disk(), &self.path(kind));
            }
            return Ok(in_memory(&indexer));
        }
        // Mapped anew, so that the descriptors are closed.
        match (
            self.map(FileKind::OffsetIndex)?,
            self.map(FileKind::TimeIndex)?,
        ) {
            (Some(offsets), Some(times)) => Ok((offsets, times)),
            _ => Ok(in_memory(&indexer)),
        }
    }
}

/// When the file at `path` was last written.
pub(crate) fn modified(file: &dyn File, path: &Path) -> Result<Millis, StorageError> {
    file.modified()
        .map_err(|source| StorageError::io("stat", path, source))
}

/// All entries of an index file; `None` if it has no whole number of them.
pub(crate) fn map_file<E: Entry>(
    disk: &Arc<dyn Disk>,
    path: &Path,
    file: &Arc<dyn File>,
) -> Result<Option<IndexView<E>>, StorageError> {
    let length = file
        .length()
        .map_err(|source| StorageError::io("stat", path, source))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !length.is_multiple_of(E::BYTES) {
        return Ok(None);
    }
    let map = disk
        .map_index(file, length)
        .map_err(|source| StorageError::io("map", path, source))?;
    Ok(Some(IndexView::of_written(
        WrittenIndex::mapped(map),
        length / E::BYTES,
    )))
}

/// Whether each entry may stand behind the one before it.
pub(crate) fn does_rise<E: Entry>(view: &IndexView<E>) -> Result<bool, StorageError> {
    let mut before = None;
    for number in 0..view.len() {
        let entry = view.get(number)?;
        if before.is_some_and(|before| !entry.follows(before)) {
            return Ok(false);
        }
        before = Some(entry);
    }
    Ok(true)
}
