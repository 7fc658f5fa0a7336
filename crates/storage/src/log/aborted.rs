//! The transaction index: which transactions were aborted.
//!
//! Input: what a marker has ended, or a segment's `.txnindex`. Output: the transactions that a
//! reader of committed records must skip.
//!
//! ```text
//!   segment 0            segment 1200
//!   ├── a a a ── b b ────┼── b ── A ── c ── B ── C ──┤     A, B abort; C commits
//!     no index             1200.txnindex: a, b             in the order of the markers
//! ```
//!
//! Most logs have no such file: it is made with the first entry of a segment.
//!
//! Invariants:
//! - an entry is in the index of the segment that has the marker, and goes with it: a reader that
//!   is told of a transaction and never meets its marker skips all that the producer wrote since;
//! - it is there before a reader sees the marker ([`Log::note_aborted`]);
//! - below the recovery point the files have all entries (`flush.rs`); above it a start makes them
//!   anew from the batches ([`Rebuild`], `aborted/rebuild.rs`);
//! - a file is checked when it is mapped, and one with nonsense in it is made anew
//!   ([`LogView::aborted_index`]); it is only ever appended to or replaced, never shortened.
//!
//! Source: KIP-98; `TransactionIndex`, `LocalLog.addAbortedTransactions` of Kafka 4.1.1.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skein_record::{ABORTED_TXN_BYTES, AbortedTxn, collect_aborted};
use skein_types::{Offset, ProducerId};

use super::Log;
use super::index::{Entry, IndexView, IndexWriter, OffsetEntry};
use super::names::FileKind;
use super::segment::{Home, SealedSegment, does_rise, map_file};
use super::snapshots::{self, Replay};
use super::view::{FileRange, LogView};
use crate::log_directory::Slot;
use crate::{StorageError, atomic_file};

mod rebuild;

pub(super) use rebuild::Rebuild;

/// What bytes that are no entry are read as: it follows no entry, and no reader is told of it.
const NONSENSE: AbortedTxn = AbortedTxn {
    producer_id: ProducerId::NONE,
    first_offset: Offset::NONE,
    last_offset: Offset::NONE,
    last_stable_offset: Offset::NONE,
};

impl Entry for AbortedTxn {
    const BYTES: usize = ABORTED_TXN_BYTES;
    type Cell = [AtomicU64; 4];

    fn encode(self, out: &mut [u8]) {
        out[..Self::BYTES].copy_from_slice(&Self::encode(&self));
    }

    fn decode(bytes: &[u8]) -> Self {
        let entry = bytes.first_chunk().map(Self::decode);
        entry.and_then(Result::ok).unwrap_or(NONSENSE)
    }

    fn store(self, cell: &Self::Cell) {
        let fields = [
            self.producer_id.0,
            self.first_offset.0,
            self.last_offset.0,
            self.last_stable_offset.0,
        ];
        for (cell, field) in cell.iter().zip(fields) {
            cell.store(field.cast_unsigned(), Ordering::Relaxed);
        }
    }

    fn load(cell: &Self::Cell) -> Self {
        let field = |at: usize| cell[at].load(Ordering::Relaxed).cast_signed();
        Self {
            producer_id: ProducerId(field(0)),
            first_offset: Offset(field(1)),
            last_offset: Offset(field(2)),
            last_stable_offset: Offset(field(3)),
        }
    }

    fn follows(self, before: Self) -> bool {
        self.last_offset > before.last_offset
    }
}

impl Log {
    /// Markers of the last append have aborted these transactions. Call it behind [`Log::append`]
    /// and before [`Log::publish`]: who sees a marker must be told of its transaction.
    ///
    /// # Panics
    /// For a marker that the last append did not write, and out of order: bugs.
    pub fn note_aborted(&mut self, aborted: &[AbortedTxn]) {
        for txn in aborted {
            let written = self.active.base_offset..self.log_end_offset;
            assert!(
                written.contains(&txn.last_offset),
                "{}: {txn:?} of {self:?}",
                self.home.partition
            );
            let had_file = self.active.aborted.has_file();
            self.active.aborted.push(*txn);
            self.note_aborted_file(had_file);
        }
    }

    /// Writes the entries that only the memory has; then they can be flushed.
    pub(super) fn write_aborted(&mut self) -> Result<(), StorageError> {
        let had_file = self.active.aborted.has_file();
        let result = self.active.write_aborted();
        self.note_aborted_file(had_file);
        result
    }

    /// These segments have an index file.
    pub(super) fn mark_aborted(&mut self, segments: &BTreeSet<Offset>) {
        for segment in self.sealed.iter() {
            if segments.contains(&segment.base_offset) {
                segment.mark_aborted();
                self.has_aborted = true;
            }
        }
    }

    fn note_aborted_file(&mut self, had_file: bool) {
        // A name that must be durable before the recovery point passes.
        self.flush.directory_changes += u64::from(self.active.aborted.has_file() != had_file);
    }
}

impl LogView {
    /// The transactions that were aborted and may have records in `range`, which a read from `from`
    /// has found: those whose marker lies at or behind `from`. `up_to` is the end of what the
    /// reader may see.
    ///
    /// # Errors
    /// What the disk says.
    pub fn aborted_in(
        &self,
        range: &FileRange,
        from: Offset,
        up_to: Offset,
    ) -> Result<Vec<AbortedTxn>, StorageError> {
        let mut found = Vec::new();
        if !self.has_aborted && self.active.aborted.len() == 0 {
            return Ok(found);
        }
        let first = self.segment_number(range.segment_base_offset);
        let end = self.end_of_range(first, range)?.min(up_to);
        for number in first..=self.sealed.len() {
            let Some(index) = self.aborted_index(number)? else {
                continue;
            };
            let start = index.partition_point(|txn| txn.last_offset < from)?;
            let mut failed = None;
            let entries = (start..index.len())
                .map_while(|number| index.get(number).map_err(|error| failed = Some(error)).ok());
            let is_all = collect_aborted(entries, from, end, &mut found);
            if let Some(error) = failed {
                return Err(error);
            }
            if is_all {
                break;
            }
        }
        Ok(found)
    }

    /// An offset that no record of the range reaches, close to its end.
    fn end_of_range(&self, number: usize, range: &FileRange) -> Result<Offset, StorageError> {
        let segment = self.segment(number)?;
        let end = range.position + range.length;
        let before = |entry: OffsetEntry| u64::from(entry.position) < end;
        let behind = segment.offsets.partition_point(before)?;
        if behind == segment.offsets.len() {
            return Ok(self.end_offset(number));
        }
        let relative_offset = segment.offsets.get(behind)?.relative_offset;
        Ok(Offset(segment.base_offset.0 + i64::from(relative_offset)))
    }

    /// The index of the segment `number`; `None` if it has none.
    pub(super) fn aborted_index(
        &self,
        number: usize,
    ) -> Result<Option<IndexView<AbortedTxn>>, StorageError> {
        let Some(segment) = self.sealed.get(number) else {
            return Ok(Some(self.active.aborted.clone()));
        };
        let Some(slot) = segment.aborted.get() else {
            return Ok(None);
        };
        if let Some(mapped) = slot.peek() {
            return Ok(Some(IndexView::clone(&mapped)));
        }
        let view = match segment.map_aborted()? {
            Some(view) => view,
            None => self.rebuild_aborted(segment)?,
        };
        // Not made within the slot: a rebuild fills other slots.
        let view = slot.get(&self.home.directory.maps, || Ok(Arc::new(view)))?;
        Ok(Some(IndexView::clone(&view)))
    }

    /// Makes a sealed segment's index anew from the batches, and writes it if the disk lets us.
    fn rebuild_aborted(
        &self,
        segment: &SealedSegment,
    ) -> Result<IndexView<AbortedTxn>, StorageError> {
        let path = segment.path(FileKind::TxnIndex);
        tracing::warn!(path = %path.display(), "rebuilding a corrupt transaction index");
        let markers = segment.base_offset..segment.end_offset;
        let snapshots = snapshots::list(&self.home)?;
        let replay = Replay {
            view: self,
            snapshots: &snapshots,
        };
        let entries = replay.aborted_in(markers)?;
        if let Err(error) = segment.replace_aborted(&entries) {
            tracing::warn!(path = %path.display(), %error, "the rebuilt index stays in memory");
        }
        Ok(IndexView::in_memory(&entries))
    }
}

impl SealedSegment {
    /// The segment has a transaction index.
    pub(super) fn mark_aborted(&self) {
        let _ = self.aborted.set(Slot::empty());
    }

    pub(super) fn has_aborted(&self) -> bool {
        self.aborted.get().is_some()
    }

    /// The log was cut in this segment: the name of its index is that of what is left of it.
    pub(super) fn retire_aborted(&self) {
        let _alone = self.index_files.lock();
        self.is_cut.store(true, Ordering::Relaxed);
    }

    /// The index file; `None` if it is not what it must be.
    fn map_aborted(&self) -> Result<Option<IndexView<AbortedTxn>>, StorageError> {
        let _alone = self.index_files.lock();
        if let Some(pinned) = self.pinned.get() {
            return Ok(pinned.aborted.clone());
        }
        let view = self.map::<AbortedTxn>(FileKind::TxnIndex)?;
        are_of(view, self.base_offset, self.end_offset)
    }

    fn replace_aborted(&self, entries: &[AbortedTxn]) -> Result<(), StorageError> {
        let _alone = self.index_files.lock();
        if self.pinned.get().is_some() || self.is_cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        replace(&self.home, self.base_offset, entries)
    }
}

/// The entries, if they are in order, and their markers in the segment.
fn are_of(
    view: Option<IndexView<AbortedTxn>>,
    base_offset: Offset,
    end_offset: Offset,
) -> Result<Option<IndexView<AbortedTxn>>, StorageError> {
    let Some(view) = view else { return Ok(None) };
    let Some(last) = view.last()? else {
        return Ok(Some(view));
    };
    let is_good = view.get(0)?.last_offset >= base_offset
        && last.last_offset < end_offset
        && does_rise(&view)?;
    Ok(is_good.then_some(view))
}

/// Puts another index in the place of a segment's: with its content, but not its name, flushed.
pub(super) fn replace(
    home: &Home,
    base_offset: Offset,
    entries: &[AbortedTxn],
) -> Result<(), StorageError> {
    let content: Vec<u8> = entries.iter().flat_map(AbortedTxn::encode).collect();
    let path = home.file(base_offset, FileKind::TxnIndex);
    atomic_file::replace_unflushed(&**home.small_disk(), &path, &content, true)
}

/// The index of a new segment.
pub(super) fn create(home: &Home, base_offset: Offset) -> IndexWriter<AbortedTxn> {
    let path = home.file(base_offset, FileKind::TxnIndex);
    IndexWriter::new(Arc::clone(home.small_disk()), path)
}

/// Goes on with the index file of the segment at `base_offset`, which ends at `end_offset`; `None`
/// if it is not what it must be.
pub(super) fn reopen(
    home: &Home,
    base_offset: Offset,
    end_offset: Offset,
) -> Result<Option<IndexWriter<AbortedTxn>>, StorageError> {
    let disk = home.small_disk();
    let path = home.file(base_offset, FileKind::TxnIndex);
    let file = match disk.open(&path, skein_env::OpenMode::ReadWrite) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(create(home, base_offset)));
        }
        Err(source) => return Err(StorageError::io("open", &path, source)),
    };
    let view = map_file(disk, &path, &file)?;
    match are_of(view, base_offset, end_offset)? {
        Some(view) => IndexWriter::reopen(Arc::clone(disk), path, file, view).map(Some),
        None => Ok(None),
    }
}
