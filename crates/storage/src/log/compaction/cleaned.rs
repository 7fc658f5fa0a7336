//! A new segment, not yet in its place.
//!
//! Input: batches, in order. Output: a `.cleaned` log with its indexes, flushed.
//!
//! Invariants: nobody reads these files before they are swapped in; when [`Writer::finish`]
//! returns, all of them are on the disk, though their names may not be.
//!
//! Source: `LogCleaner`, `LogSegment.onBecomeInactiveSegment` of Kafka 4.1.1.

use std::path::PathBuf;
use std::sync::Arc;

use skein_env::{Disk, File, OpenMode};
use skein_record::{AbortedTxn, BatchHeader};
use skein_types::Offset;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};

use super::super::index::{IndexView, IndexWriter};
use super::super::names::{self, FileKind, Leftover, Name};
use super::super::segment::{Home, SealedSegment};
use super::super::segment_index::{SegmentIndexer, TimestampOffset};
use super::{CALL_MAX_BYTES, CompactionError};
use crate::{LogConfig, StorageError, atomic_file};

/// Kafka's positions have 31 bits.
const SEGMENT_MAX_BYTES: u64 = i32::MAX as u64;

/// What is written from one flush to the next, in bytes. One flush of a whole segment at its end
/// would keep the device, and with it everybody's writes, for as long as that takes.
const FLUSH_EVERY_BYTES: u64 = 16 * 1024 * 1024;

/// The files of a new segment, which may be without a transaction index; the log comes last when
/// they become `.swap`, because it counts.
pub(super) const KINDS: [FileKind; 4] = [
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TxnIndex,
    FileKind::Log,
];

/// A segment that waits to take the place of others.
pub struct CleanedSegment {
    pub(super) home: Arc<Home>,
    pub(super) sources: Vec<Arc<SealedSegment>>,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) size: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) has_aborted: bool,
    pub(super) max_timestamp: TimestampOffset,
    pub(super) interval_bytes: u64,
    /// How far the log is compacted once it is in place.
    pub(super) cleaned_end: Offset,
    /// What the log must not have been through meanwhile.
    pub(super) truncations: u64,
}

impl CleanedSegment {
    /// Removes the files: they are not needed.
    pub fn discard(&self) {
        discard(&self.home, self.base_offset);
    }
}

/// Writes the files of a new segment.
pub(super) struct Writer {
    home: Arc<Home>,
    base_offset: Offset,
    path: PathBuf,
    file: Arc<dyn File>,
    indexer: SegmentIndexer,
    aborted: IndexWriter<AbortedTxn>,
    /// The transaction indexes of the sources, in their order.
    source_aborted: Vec<IndexView<AbortedTxn>>,
    interval_bytes: u64,
    /// Bytes that are in the file.
    written: u64,
    /// Bytes of these that were flushed.
    flushed: u64,
    buffer: Vec<u8>,
    buffer_bytes: usize,
}

/// What was written.
pub(super) struct Finished {
    pub(super) file: Arc<dyn File>,
    pub(super) size: u64,
    pub(super) has_aborted: bool,
    pub(super) max_timestamp: TimestampOffset,
}

impl Writer {
    pub(super) fn create(
        home: &Arc<Home>,
        base_offset: Offset,
        config: &LogConfig,
        buffer_bytes: usize,
        source_aborted: Vec<IndexView<AbortedTxn>>,
    ) -> Result<Self, StorageError> {
        let disk = home.disk();
        for kind in KINDS {
            atomic_file::remove(&**disk, &cleaned_path(home, base_offset, kind))?;
        }
        let path = cleaned_path(home, base_offset, FileKind::Log);
        let file = disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|source| StorageError::io("create", &path, source))?;
        let index_path = |kind| cleaned_path(home, base_offset, kind);
        Ok(Self {
            home: Arc::clone(home),
            base_offset,
            indexer: SegmentIndexer::at(disk, base_offset, index_path),
            aborted: IndexWriter::new(Arc::clone(disk), index_path(FileKind::TxnIndex)),
            source_aborted,
            path,
            file,
            interval_bytes: config.index_interval_bytes,
            written: 0,
            flushed: 0,
            buffer: Vec::with_capacity(buffer_bytes),
            buffer_bytes,
        })
    }

    /// Adds a whole batch.
    pub(super) fn add(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
    ) -> Result<(), CompactionError> {
        let position = self.written + self.buffer.len() as u64;
        if position + bytes.len() as u64 > SEGMENT_MAX_BYTES {
            let path = self.path.clone();
            return Err(CompactionError::TooLarge { path });
        }
        self.indexer.add(header, position, self.interval_bytes);
        if header.attributes.is_control() && header.records_count > 0 {
            self.keep_aborted(header.last_offset())?;
        }
        if self.buffer.len() + bytes.len() > self.buffer_bytes {
            self.write()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// What the marker at `offset` has aborted must be told as long as that is there.
    fn keep_aborted(&mut self, offset: Offset) -> Result<(), StorageError> {
        for index in &self.source_aborted {
            let number = index.partition_point(|txn| txn.last_offset < offset)?;
            if number < index.len() {
                let txn = index.get(number)?;
                if txn.last_offset == offset {
                    self.aborted.push(txn);
                }
                break;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Finished, StorageError> {
        self.write()?;
        self.indexer.finish()?;
        self.indexer.flush()?;
        let has_aborted = self.aborted.last().is_some();
        if has_aborted {
            self.aborted.write_tail()?;
            self.aborted.flush()?;
        }
        self.flush()?;
        Ok(Finished {
            file: self.file,
            size: self.written,
            has_aborted,
            max_timestamp: self.indexer.max_timestamp,
        })
    }

    fn flush(&self) -> Result<(), StorageError> {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::CompactedUnflushed) {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|source| StorageError::io("flush", &self.path, source))
    }

    pub(super) fn discard(&self) {
        discard(&self.home, self.base_offset);
    }

    fn write(&mut self) -> Result<(), StorageError> {
        for piece in self.buffer.chunks(CALL_MAX_BYTES) {
            atomic_file::write_all(&*self.file, &self.path, piece, self.written)?;
            self.written += piece.len() as u64;
        }
        self.buffer.clear();
        if self.written - self.flushed >= FLUSH_EVERY_BYTES {
            self.flush()?;
            self.flushed = self.written;
        }
        Ok(())
    }
}

pub(super) fn cleaned_path(home: &Home, base_offset: Offset, kind: FileKind) -> PathBuf {
    names::cleaned(&home.file(base_offset, kind))
}

/// Removes what earlier compactions of the log have left: beside a `.cleaned` file a start takes a
/// `.swap` for incomplete.
pub(super) fn discard_all(home: &Home) -> Result<(), StorageError> {
    let entries = home
        .disk()
        .read_directory(&home.path)
        .map_err(|source| StorageError::io("list", &home.path, source))?;
    for name in entries.iter().filter_map(|(name, _)| name.to_str()) {
        if let Name::Leftover(Leftover::Cleaned(_)) = names::parse(name) {
            atomic_file::remove(&**home.disk(), &home.path.join(name))?;
        }
    }
    Ok(())
}

/// What cannot be removed now is removed by the next start, or by the next compaction.
pub(super) fn discard(home: &Home, base_offset: Offset) {
    let disk: &dyn Disk = &**home.disk();
    for kind in KINDS {
        let path = cleaned_path(home, base_offset, kind);
        if let Err(error) = atomic_file::remove(disk, &path) {
            tracing::warn!(path = %path.display(), %error, "a file of a compaction stays");
        }
    }
}
