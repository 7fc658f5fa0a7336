//! The indexes of a segment against its log.
//!
//! Input: both indexes, and the batches of the segment one by one. Output: entries that the log
//! does not bear out.
//!
//! ```text
//!   offset entry (o, p)   a batch begins at p; it or one of those before the next entry ends at o
//!   time entry   (t, o)   t is the largest timestamp so far when the batch that holds o is reached
//!   sealed segment        the last time entry has the segment's largest timestamp
//! ```
//!
//! Invariants: each index is read once, along with the log; an entry makes at most one finding.
//!
//! Source: `AbstractIndex.sanityCheck`, `LogSegment.append` of Kafka 4.1.1; before 4.0 an entry has
//! the offset of the append's last batch.

use std::path::Path;

use skein_types::{Millis, Offset};

use super::super::index_file::{IndexEntry, IndexFile};
use super::super::walk::InspectedBatch;
use crate::StorageError;

/// An index, and the entry that comes next.
struct Cursor {
    index: IndexFile,
    number: u64,
    next: Option<IndexEntry>,
    before: Option<IndexEntry>,
}

impl Cursor {
    fn advance(&mut self) -> Result<(), StorageError> {
        self.before = self.next;
        self.number += 1;
        self.next = self.index.get(self.number)?;
        Ok(())
    }

    fn at(&self, number: u64) -> u64 {
        number * self.index.entry_bytes() as u64
    }
}

/// The check of one segment.
pub(super) struct IndexCheck {
    offsets: Option<Cursor>,
    times: Option<Cursor>,
    /// An offset entry whose batch was found, and which names the end of a later one: its number
    /// and offset.
    pending: Option<(u64, Offset)>,
    max_timestamp: Millis,
}

/// Gets a finding: the file, where in it, the offset, what it is.
type Tell<'a> = dyn FnMut(&Path, u64, Offset, String) + 'a;
/// As [`Tell`], where the place may not be known.
type TellEnd<'a> = dyn FnMut(&Path, Option<u64>, Option<Offset>, String) + 'a;

impl IndexCheck {
    pub(super) fn new(offsets: Option<IndexFile>, times: Option<IndexFile>) -> Self {
        let cursor = |index: IndexFile| Cursor {
            index,
            number: 0,
            next: None,
            before: None,
        };
        Self {
            offsets: offsets.map(cursor),
            times: times.map(cursor),
            pending: None,
            max_timestamp: Millis::NONE,
        }
    }

    pub(super) fn entries(&self) -> u64 {
        let count = |cursor: &Option<Cursor>| cursor.as_ref().map_or(0, |one| one.index.len());
        count(&self.offsets) + count(&self.times)
    }

    /// The next batch of the log.
    pub(super) fn batch(
        &mut self,
        batch: &InspectedBatch,
        tell: &mut Tell<'_>,
    ) -> Result<(), StorageError> {
        self.check_offsets(batch, tell)?;
        self.check_times(batch, tell)
    }

    fn check_offsets(
        &mut self,
        batch: &InspectedBatch,
        tell: &mut Tell<'_>,
    ) -> Result<(), StorageError> {
        let Some(cursor) = &mut self.offsets else {
            return Ok(());
        };
        if cursor.number == 0 && cursor.next.is_none() {
            cursor.next = cursor.index.get(0)?;
        }
        let last_offset = batch.header.last_offset();
        while let Some(IndexEntry::Offset { offset, position }) = cursor.next {
            if position > batch.position {
                break;
            }
            let (path, at) = (cursor.index.path(), cursor.at(cursor.number));
            if let Some((number, named)) = self.pending.take() {
                tell(path, cursor.at(number), named, no_batch_ends(named));
            }
            let rises = match cursor.before {
                Some(IndexEntry::Offset { offset: before, .. }) => offset > before,
                _ => true,
            };
            if !rises {
                tell(
                    path,
                    at,
                    offset,
                    "the entry does not rise above the one before".into(),
                );
            } else if position < batch.position {
                tell(
                    path,
                    at,
                    offset,
                    format!("no batch begins at byte {position} of the log"),
                );
            } else if offset < last_offset {
                let what = format!("the entry says {offset}; its batch ends at {last_offset}");
                tell(path, at, offset, what);
            } else {
                self.pending = Some((cursor.number, offset));
            }
            cursor.advance()?;
        }
        if let Some((number, offset)) = self.pending.filter(|(_, offset)| *offset <= last_offset) {
            self.pending = None;
            if offset < last_offset {
                tell(
                    cursor.index.path(),
                    cursor.at(number),
                    offset,
                    no_batch_ends(offset),
                );
            }
        }
        Ok(())
    }

    fn check_times(
        &mut self,
        batch: &InspectedBatch,
        tell: &mut Tell<'_>,
    ) -> Result<(), StorageError> {
        let rose = batch.header.max_timestamp > self.max_timestamp;
        self.max_timestamp = self.max_timestamp.max(batch.header.max_timestamp);
        let Some(cursor) = &mut self.times else {
            return Ok(());
        };
        if cursor.number == 0 && cursor.next.is_none() {
            cursor.next = cursor.index.get(0)?;
        }
        let range = batch.header.base_offset..=batch.header.last_offset();
        while let Some(IndexEntry::Time { timestamp, offset }) = cursor.next {
            if offset > *range.end() {
                break;
            }
            let (path, at) = (cursor.index.path(), cursor.at(cursor.number));
            let rises = match cursor.before {
                Some(IndexEntry::Time {
                    timestamp: before, ..
                }) => timestamp > before,
                _ => true,
            };
            let is_its = range.contains(&offset) && rose && timestamp == batch.header.max_timestamp;
            if !rises || !is_its {
                let what = format!(
                    "the entry says that {timestamp} ms is reached at offset {offset}; the batches \
                     say otherwise"
                );
                tell(path, at, offset, what);
            }
            cursor.advance()?;
        }
        Ok(())
    }

    /// The log ends. `is_whole`: with its last batch; `is_sealed`: another segment follows.
    pub(super) fn end(
        &mut self,
        is_whole: bool,
        is_sealed: bool,
        tell: &mut TellEnd<'_>,
    ) -> Result<(), StorageError> {
        for cursor in self.offsets.iter().chain(&self.times) {
            if cursor.index.odd_bytes() > 0 {
                let what = format!(
                    "{} bytes behind the last whole entry",
                    cursor.index.odd_bytes()
                );
                tell(
                    cursor.index.path(),
                    Some(cursor.at(cursor.index.len())),
                    None,
                    what,
                );
            }
        }
        if !is_whole {
            return Ok(());
        }
        if let (Some(cursor), Some((number, offset))) = (&self.offsets, self.pending) {
            let what = no_batch_ends(offset);
            tell(
                cursor.index.path(),
                Some(cursor.at(number)),
                Some(offset),
                what,
            );
        }
        for cursor in self.offsets.iter_mut().chain(&mut self.times) {
            while let Some(entry) = match cursor.next {
                None if cursor.number == 0 => cursor.index.get(0)?,
                next => next,
            } {
                let (IndexEntry::Offset { offset, .. } | IndexEntry::Time { offset, .. }) = entry;
                let what = "the entry points beyond the end of the log".to_owned();
                tell(
                    cursor.index.path(),
                    Some(cursor.at(cursor.number)),
                    Some(offset),
                    what,
                );
                cursor.next = Some(entry);
                cursor.advance()?;
            }
        }
        let Some(cursor) = self.times.as_mut().filter(|_| is_sealed) else {
            return Ok(());
        };
        let last = match cursor.index.len().checked_sub(1) {
            Some(last) => cursor.index.get(last)?,
            None => None,
        };
        let last = match last {
            Some(IndexEntry::Time { timestamp, .. }) => timestamp,
            _ => Millis::NONE,
        };
        if last < self.max_timestamp {
            let what = format!(
                "its last entry has the timestamp {last}, the segment's largest is {}: lookups by \
                 time miss records",
                self.max_timestamp
            );
            tell(cursor.index.path(), None, None, what);
        }
        Ok(())
    }
}

fn no_batch_ends(offset: Offset) -> String {
    format!("the entry says {offset}, and no batch from its own on ends there")
}
