//! The segment that grows.
//!
//! Input: groups of whole batches. Output: their bytes at the end of the file, their entries in the
//! indexes; and when it is time for the next segment.
//!
//! Invariants: the indexes know exactly the batches below the file's end.
//!
//! Source: `LogSegment.shouldRoll` of Kafka 4.1.1 for the conditions of a roll.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use skein_record::{AbortedTxn, BatchHeader};
use skein_types::{Millis, Offset};

use super::aborted;
use super::flush::OpenIndexes;
use super::index::IndexWriter;
use super::names::FileKind;
use super::segment::{Home, modified};
use super::segment_index::SegmentIndexer;
use super::view::ActiveView;
use crate::segment_file::{AppendError, SegmentFile};
use crate::{LogConfig, StorageError};

/// The segment that grows.
pub(crate) struct ActiveSegment {
    pub(crate) base_offset: Offset,
    pub(crate) file: SegmentFile,
    pub(crate) indexer: SegmentIndexer,
    pub(crate) aborted: IndexWriter<AbortedTxn>,
    /// Largest timestamp of the first batch: what `segment.ms` counts from.
    pub(crate) first_timestamp: Option<Millis>,
    /// When the segment was made or opened: what `segment.ms` counts from without timestamps.
    pub(crate) created: Millis,
}

/// Makes a file that a segment can grow in.
pub(crate) fn create_file(
    home: &Home,
    path: &Path,
    config: &LogConfig,
) -> Result<SegmentFile, StorageError> {
    let mut file = SegmentFile::create(&**home.disk(), path)?;
    if config.preallocate {
        file.preallocate(config.segment_bytes);
    }
    Ok(file)
}

impl ActiveSegment {
    /// Makes the segment's file, or takes the `prepared` one.
    pub(crate) fn create(
        home: &Home,
        base_offset: Offset,
        prepared: Option<SegmentFile>,
        config: &LogConfig,
        now: Millis,
    ) -> Result<Self, StorageError> {
        let path = home.file(base_offset, FileKind::Log);
        let file = match prepared {
            Some(mut file) => {
                file.rename(&**home.small_disk(), &path)?;
                file
            }
            None => create_file(home, &path, config)?,
        };
        let indexer = SegmentIndexer::new(home.small_disk(), &home.path, base_offset);
        Ok(Self {
            base_offset,
            file,
            indexer,
            aborted: aborted::create(home, base_offset),
            first_timestamp: None,
            created: now,
        })
    }

    /// Whether the batch must go into the next segment.
    pub(crate) fn should_roll(
        &self,
        header: &BatchHeader,
        config: &LogConfig,
        now: Millis,
    ) -> bool {
        if !self.can_index(header) {
            return true;
        }
        if self.file.end() == 0 {
            return false;
        }
        let size = header.size_in_bytes() as u64;
        let waited = match self.first_timestamp {
            Some(first) if first.0 >= 0 => header.max_timestamp.saturating_sub(first),
            _ => now.saturating_sub(self.created),
        };
        self.file.end() + size > config.segment_bytes
            || waited.0 > config.segment_ms.0 - self.jitter(config)
            || self.indexer.is_full(config.segment_index_bytes)
    }

    /// As [`super::segment::SealedSegment::newest`].
    pub(crate) fn newest(&self) -> Result<Millis, StorageError> {
        match self.indexer.max_timestamp.timestamp {
            timestamp if timestamp.0 >= 0 => Ok(timestamp),
            _ => modified(&**self.file.file(), self.file.path()),
        }
    }

    /// Whether the batch's last offset can be told from the base offset in the index's 31 bits.
    pub(crate) fn can_index(&self, header: &BatchHeader) -> bool {
        i32::try_from(header.last_offset().0 - self.base_offset.0).is_ok()
    }

    /// Writes the batches at the end, all or none.
    pub(crate) fn append(
        &mut self,
        headers: &[BatchHeader],
        pieces: &[IoSlice<'_>],
        config: &LogConfig,
    ) -> Result<(), AppendError> {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let fill_after = config.segment_fill_after_bytes;
        self.file.make_room(bytes, config.segment_bytes, fill_after);
        let mut position = self.file.append(pieces)?;
        if self.first_timestamp.is_none() {
            self.first_timestamp = headers.first().map(|header| header.max_timestamp);
        }
        for header in headers {
            self.indexer
                .add(header, position, config.index_interval_bytes);
            position += header.size_in_bytes() as u64;
        }
        assert!(
            position == self.file.end(),
            "the pieces are not the batches"
        );
        Ok(())
    }

    /// Writes the entries of aborted transactions, if there are any.
    pub(crate) fn write_aborted(&mut self) -> Result<(), StorageError> {
        match self.aborted.last() {
            Some(_) => self.aborted.write_tail(),
            None => Ok(()),
        }
    }

    /// The index files as they were written.
    pub(crate) fn open_indexes(&self) -> OpenIndexes {
        OpenIndexes {
            offsets: self.indexer.offsets.file().cloned(),
            times: self.indexer.times.file().cloned(),
            aborted: self.aborted.file().cloned(),
        }
    }

    pub(crate) fn view(&self) -> ActiveView {
        ActiveView {
            base_offset: self.base_offset,
            file: Arc::clone(self.file.file()),
            end_position: self.file.end(),
            offsets: self.indexer.offsets.view().clone(),
            times: self.indexer.times.view().clone(),
            aborted: self.aborted.view().clone(),
            max_timestamp: self.indexer.max_timestamp,
        }
    }

    /// How much earlier than `segment.ms` this segment rolls: by when and where it began, which
    /// differs from log to log as well as a random number would.
    fn jitter(&self, config: &LogConfig) -> i64 {
        // The golden ratio spreads neighbours over the range (Knuth's multiplicative hash).
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let range = config
            .segment_jitter_ms
            .0
            .min(config.segment_ms.0)
            .max(0)
            .cast_unsigned();
        if range == 0 {
            return 0;
        }
        let seed = self.base_offset.0.cast_unsigned() ^ self.created.0.cast_unsigned();
        (seed.wrapping_mul(SPREAD) % range).cast_signed()
    }
}
