//! A sparse index: a sorted list of fixed-size entries, most of it in a file.
//!
//! Input: entries in rising order. Output: the same entries to any number of readers, by their
//! number.
//!
//! ```text
//!   number   0 ─────────────── written_count ──────── count
//!            │ in the file, mapped │ in the tail, memory │
//! ```
//!
//! The tail is written with one `pwrite` when it is full, and when the segment ends; the next tail
//! is twice as long, up to [`TAIL_MAX_ENTRIES`]: a small log spends little memory, a fast one few
//! calls. A reader maps what has been written only when it looks for something that old.
//!
//! Invariants:
//! - a cell of a tail is stored once, before the view that counts it is published, and so read
//!   without a lock;
//! - an entry that can't be written stays in the tail: the log's append has succeeded, and does not
//!   fail because of its index;
//! - a map is never longer than the file, and the file is never shortened.
//!
//! Source: `OffsetIndex` and `TimeIndex` of `org.apache.kafka.storage.internals.log` for the
//! formats.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use skein_env::{Disk, File, IndexMap, OpenMode};

use crate::StorageError;
use crate::atomic_file;

/// Entries of the first tail of a segment.
const TAIL_MIN_ENTRIES: usize = 16;
/// Entries of a tail of a segment that grows fast: 1 MiB of log with the usual interval.
const TAIL_MAX_ENTRIES: usize = 256;
/// Bytes of the longest entry, that of an aborted transaction.
const ENTRY_MAX_BYTES: usize = 34;

/// One entry of an index.
pub(crate) trait Entry: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// Bytes of an entry in the file.
    const BYTES: usize;

    /// Where a tail keeps an entry.
    type Cell: Default + Send + Sync;

    fn encode(self, out: &mut [u8]);

    fn decode(bytes: &[u8]) -> Self;

    fn store(self, cell: &Self::Cell);

    fn load(cell: &Self::Cell) -> Self;

    /// Whether this one may stand behind `before`.
    fn follows(self, before: Self) -> bool;
}

/// `[relative offset u32][position u32]`: the batch at `position` ends with that offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Last offset of the batch minus the segment's base offset.
    pub(crate) relative_offset: u32,
    /// Where the batch begins in the file, in bytes.
    pub(crate) position: u32,
}

/// `[timestamp i64][relative offset u32]`: so far no timestamp was larger, and this offset has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The largest timestamp so far, in ms.
    pub(crate) timestamp: i64,
    /// Last offset of the first batch that has it, minus the segment's base offset.
    pub(crate) relative_offset: u32,
}

impl Entry for OffsetEntry {
    const BYTES: usize = 8;
    type Cell = AtomicU64;

    fn encode(self, out: &mut [u8]) {
        out[..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        out[4..8].copy_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        Self {
            relative_offset: u32_at(bytes, 0),
            position: u32_at(bytes, 4),
        }
    }

    fn store(self, cell: &AtomicU64) {
        let bits = u64::from(self.relative_offset) << 32 | u64::from(self.position);
        cell.store(bits, Ordering::Relaxed);
    }

    #[allow(clippy::cast_possible_truncation)] // two halves
    fn load(cell: &AtomicU64) -> Self {
        let bits = cell.load(Ordering::Relaxed);
        Self {
            relative_offset: (bits >> 32) as u32,
            position: bits as u32,
        }
    }

    fn follows(self, before: Self) -> bool {
        self.relative_offset > before.relative_offset && self.position > before.position
    }
}

impl Entry for TimeEntry {
    const BYTES: usize = 12;
    type Cell = (AtomicU64, AtomicU32);

    fn encode(self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        let high = u64::from(u32_at(bytes, 0)) << 32;
        let timestamp = (high | u64::from(u32_at(bytes, 4))).cast_signed();
        Self {
            timestamp,
            relative_offset: u32_at(bytes, 8),
        }
    }

    fn store(self, cell: &Self::Cell) {
        cell.0
            .store(self.timestamp.cast_unsigned(), Ordering::Relaxed);
        cell.1.store(self.relative_offset, Ordering::Relaxed);
    }

    fn load(cell: &Self::Cell) -> Self {
        Self {
            timestamp: cell.0.load(Ordering::Relaxed).cast_signed(),
            relative_offset: cell.1.load(Ordering::Relaxed),
        }
    }

    fn follows(self, before: Self) -> bool {
        self.timestamp > before.timestamp && self.relative_offset >= before.relative_offset
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// The entries of an index as of one moment.
pub(crate) struct IndexView<E: Entry> {
    written: Option<Arc<WrittenIndex>>,
    written_count: usize,
    tail: Option<Arc<Tail<E>>>,
    count: usize,
}

impl<E: Entry> Clone for IndexView<E> {
    fn clone(&self) -> Self {
        Self {
            written: self.written.clone(),
            written_count: self.written_count,
            tail: self.tail.clone(),
            count: self.count,
        }
    }
}

impl<E: Entry> IndexView<E> {
    /// The first `count` entries of a written index.
    pub(crate) fn of_written(written: Arc<WrittenIndex>, count: usize) -> Self {
        Self {
            written: Some(written),
            written_count: count,
            tail: None,
            count,
        }
    }

    /// These entries, and no file.
    pub(crate) fn in_memory(entries: &[E]) -> Self {
        let tail = Tail::new(entries.len());
        for (entry, cell) in entries.iter().zip(&tail.0) {
            entry.store(cell);
        }
        Self {
            written: None,
            written_count: 0,
            tail: Some(tail),
            count: entries.len(),
        }
    }

    /// Whether both read the same map of a file.
    pub(crate) fn is_same_map(&self, other: &Self) -> bool {
        match (&self.written, &other.written) {
            (Some(mine), Some(others)) => Arc::ptr_eq(mine, others),
            _ => false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The entry `number`, which must be below the length.
    pub(crate) fn get(&self, number: usize) -> Result<E, StorageError> {
        assert!(number < self.count, "entry {number} of {}", self.count);
        if let Some(written) = self
            .written
            .as_ref()
            .filter(|_| number < self.written_count)
        {
            let mut bytes = [0; ENTRY_MAX_BYTES];
            written
                .map()?
                .read(number * E::BYTES, &mut bytes[..E::BYTES]);
            return Ok(E::decode(&bytes[..E::BYTES]));
        }
        let tail = self
            .tail
            .as_ref()
            .map(|tail| tail.get(number - self.written_count));
        Ok(tail.unwrap_or_else(|| unreachable!("entry {number} is neither written nor in memory")))
    }

    pub(crate) fn last(&self) -> Result<Option<E>, StorageError> {
        self.count
            .checked_sub(1)
            .map(|last| self.get(last))
            .transpose()
    }

    /// How many entries at the front satisfy `before`; those that do stand before those that don't.
    pub(crate) fn partition_point(
        &self,
        before: impl Fn(E) -> bool,
    ) -> Result<usize, StorageError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// All entries.
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Result<Vec<E>, StorageError> {
        (0..self.count).map(|number| self.get(number)).collect()
    }
}

/// The part of an index that is in its file.
pub(crate) struct WrittenIndex {
    map: OnceLock<Arc<dyn IndexMap>>,
    /// What to map, until it is.
    source: Option<Source>,
}

struct Source {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    path: Arc<Path>,
    length: usize,
}

impl WrittenIndex {
    /// Reads through `map`; no descriptor is needed any more.
    pub(crate) fn mapped(map: Arc<dyn IndexMap>) -> Arc<Self> {
        let cell = OnceLock::new();
        let _ = cell.set(map);
        Arc::new(Self {
            map: cell,
            source: None,
        })
    }

    pub(crate) fn map(&self) -> Result<&Arc<dyn IndexMap>, StorageError> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let Some(source) = &self.source else {
            unreachable!("neither a map nor a file")
        };
        let map = source
            .disk
            .map_index(&source.file, source.length)
            .map_err(|error| StorageError::io("map", &source.path, error))?;
        // Of two readers at once the first one's map stays.
        Ok(self.map.get_or_init(|| map))
    }
}

/// Entries that are not in the file yet.
struct Tail<E: Entry>(Box<[E::Cell]>);

impl<E: Entry> Tail<E> {
    fn new(length: usize) -> Arc<Self> {
        Arc::new(Self((0..length).map(|_| E::Cell::default()).collect()))
    }

    fn get(&self, at: usize) -> E {
        E::load(&self.0[at])
    }
}

/// The writer of one index.
pub(crate) struct IndexWriter<E: Entry> {
    disk: Arc<dyn Disk>,
    path: Arc<Path>,
    file: Option<Arc<dyn File>>,
    view: IndexView<E>,
    last: Option<E>,
    tail_entries: usize,
}

impl<E: Entry> IndexWriter<E> {
    /// A new index; its file is made when there is something to write.
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self {
            disk,
            path: Arc::from(path),
            file: None,
            view: IndexView {
                written: None,
                written_count: 0,
                tail: None,
                count: 0,
            },
            last: None,
            tail_entries: TAIL_MIN_ENTRIES,
        }
    }

    /// Goes on with the index in `file`, whose `view` shows all of it.
    pub(crate) fn reopen(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        file: Arc<dyn File>,
        view: IndexView<E>,
    ) -> Result<Self, StorageError> {
        let last = view.last()?;
        let file = Some(file);
        Ok(Self {
            file,
            view,
            last,
            ..Self::new(disk, path)
        })
    }

    pub(crate) fn view(&self) -> &IndexView<E> {
        &self.view
    }

    pub(crate) fn last(&self) -> Option<E> {
        self.last
    }

    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The file, once it is made.
    pub(crate) fn file(&self) -> Option<&Arc<dyn File>> {
        self.file.as_ref()
    }

    /// Bytes of the file once all entries are in it.
    pub(crate) fn size_in_bytes(&self) -> u64 {
        (self.view.count * E::BYTES) as u64
    }

    pub(crate) fn push(&mut self, entry: E) {
        assert!(
            self.last.is_none_or(|last| entry.follows(last)),
            "{entry:?} after {:?}",
            self.last
        );
        let at = self.view.count - self.view.written_count;
        let tail = self
            .view
            .tail
            .get_or_insert_with(|| Tail::new(self.tail_entries));
        entry.store(&tail.0[at]);
        let is_full = at + 1 == tail.0.len();
        self.view.count += 1;
        self.last = Some(entry);
        if is_full && let Err(error) = self.write_tail() {
            tracing::warn!(path = %self.path.display(), %error, "index entries stay in memory");
            self.lengthen_tail();
        }
    }

    /// Writes what is not written. The file exists afterwards, even if there is no entry.
    pub(crate) fn write_tail(&mut self) -> Result<(), StorageError> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = self.create()?;
                Arc::clone(self.file.insert(file))
            }
        };
        let Some(tail) = &self.view.tail else {
            return Ok(());
        };
        let entries = self.view.count - self.view.written_count;
        let mut bytes = vec![0; entries * E::BYTES];
        for (at, out) in bytes.chunks_exact_mut(E::BYTES).enumerate() {
            tail.get(at).encode(out);
        }
        let position = (self.view.written_count * E::BYTES) as u64;
        atomic_file::write_all(&*file, &self.path, &bytes, position)?;
        let source = Source {
            disk: Arc::clone(&self.disk),
            file,
            path: Arc::clone(&self.path),
            length: self.view.count * E::BYTES,
        };
        self.view = IndexView {
            written: Some(Arc::new(WrittenIndex {
                map: OnceLock::new(),
                source: Some(source),
            })),
            written_count: self.view.count,
            tail: None,
            count: self.view.count,
        };
        self.tail_entries = (self.tail_entries * 2).min(TAIL_MAX_ENTRIES);
        Ok(())
    }

    /// Makes what is written durable.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        file.sync_data()
            .map_err(|source| StorageError::io("flush", &self.path, source))
    }

    /// Makes the file anew: an older one may be mapped by a reader, and is left to it.
    fn create(&self) -> Result<Arc<dyn File>, StorageError> {
        let create = |source| StorageError::io("create", &self.path, source);
        match self.disk.open(&self.path, OpenMode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                atomic_file::remove(&*self.disk, &self.path)?;
                self.disk
                    .open(&self.path, OpenMode::CreateNew)
                    .map_err(create)
            }
            other => other.map_err(create),
        }
    }

    fn lengthen_tail(&mut self) {
        let Some(tail) = &self.view.tail else { return };
        let longer = Tail::<E>::new(tail.0.len() * 2);
        for at in 0..tail.0.len() {
            tail.get(at).store(&longer.0[at]);
        }
        self.view.tail = Some(longer);
    }
}

#[cfg(test)]
mod tests;
