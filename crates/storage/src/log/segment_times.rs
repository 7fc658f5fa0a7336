//! The file that tells the largest timestamp of each sealed segment.
//!
//! Input: sealed segments, once they are flushed. Output: after a start, what a lookup by time must
//! know of every segment before it opens one.
//!
//! ```text
//!   segment-timestamps, numbers big-endian:
//!   0     "SKNTIME1"
//!   8     base offset i64 │ bytes u64 │ timestamp i64 │ its offset i64 │ epoch i32 │ CRC-32C
//!   48    the next segment …
//! ```
//!
//! Kafka keeps a segment's largest timestamp at the end of its time index only. With 10,000
//! segments the first lookup by time would open as many files: half a second instead of half a
//! millisecond. Kafka passes over a file of this name.
//!
//! What the file says is a *claim*, which saves work and proves nothing.
//!
//! Invariants:
//! - a claim counts for a segment of the same base offset, bytes, and leader epoch at its end only:
//!   logs that end with the same offset and epoch hold the same records (KIP-101), whoever wrote
//!   them meanwhile ([`read`]);
//! - the file tells of flushed segments only, and is gone, durably, before one of them can change:
//!   by a truncation or a compaction, or when a start finds that it tells of the one that grows;
//! - no record is deleted on a claim: retention and compaction read the index
//!   (`SealedSegment::newest`);
//! - a lookup opens the segment that a claim led it to anyway. If that says otherwise, no claim of
//!   this log is believed any more (`SealedSegment::bears_claim`);
//! - a file that is missing, torn or cannot be written costs lookups time, never their answer.
//!
//! Source: none.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skein_env::OpenMode;
use skein_record::{LeaderEpochs, crc32c};
use skein_types::{LeaderEpoch, Millis, Offset};

use super::Log;
use super::missing;
use super::segment::{Home, SealedSegment};
use super::segment_index::TimestampOffset;
use crate::log_directory::CheckpointFile;
use crate::{StorageError, atomic_file};

/// The name of the file.
pub(crate) const SEGMENT_TIMESTAMPS: &str = "segment-timestamps";

const MAGIC: &[u8; 8] = b"SKNTIME1";
const ENTRY_BYTES: usize = 40;
/// The file is written anew when it tells of more than twice as many segments as there are, and of
/// so many more.
const SLACK_ENTRIES: usize = 64;

/// What is known of the claims of a log.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    are_wrong: AtomicBool,
    has_learned: AtomicBool,
}

impl Claims {
    /// Whether one was found to be wrong. It stays so.
    pub(crate) fn are_wrong(&self) -> bool {
        self.are_wrong.load(Ordering::Relaxed)
    }

    pub(crate) fn on_wrong(&self) {
        self.are_wrong.store(true, Ordering::Relaxed);
        self.on_learned();
    }

    /// An index told what the file does not have.
    pub(crate) fn on_learned(&self) {
        self.has_learned.store(true, Ordering::Relaxed);
    }

    fn take_learned(&self) -> bool {
        self.has_learned.load(Ordering::Relaxed) && self.has_learned.swap(false, Ordering::Relaxed)
    }
}

/// What the log knows of its file.
#[derive(Debug, Default)]
pub(super) struct TimesFile {
    /// `None`: it is to be written anew.
    written: Option<Written>,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    entries: usize,
    /// First offset of the last segment that was flushed when it was written.
    last: Offset,
}

/// What the file says of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentTimestamp {
    /// First offset of the segment.
    pub base_offset: Offset,
    /// Bytes of its log file.
    pub size: u64,
    /// Its largest timestamp, and the last offset of the first batch that has it.
    pub newest: TimestampOffset,
    /// Of its last record.
    pub leader_epoch: LeaderEpoch,
}

impl SegmentTimestamp {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(self.base_offset.0.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        out.extend(self.newest.timestamp.0.to_be_bytes());
        out.extend(self.newest.offset.0.to_be_bytes());
        out.extend(self.leader_epoch.0.to_be_bytes());
        let crc = crc32c(&out[start..]);
        out.extend(crc.to_be_bytes());
    }

    /// `None` if the checksum is not its own.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if u32::from_be_bytes(*crc) != crc32c(content) {
            return None;
        }
        let (base_offset, rest) = content.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let (timestamp, rest) = rest.split_first_chunk::<8>()?;
        let (offset, leader_epoch) = rest.split_first_chunk::<8>()?;
        Some(Self {
            base_offset: Offset(i64::from_be_bytes(*base_offset)),
            size: u64::from_be_bytes(*size),
            newest: TimestampOffset {
                timestamp: Millis(i64::from_be_bytes(*timestamp)),
                offset: Offset(i64::from_be_bytes(*offset)),
            },
            leader_epoch: LeaderEpoch(i32::from_be_bytes(*leader_epoch.first_chunk()?)),
        })
    }

    /// Whether it was written for this segment as it is.
    fn is_of(&self, segment: &SealedSegment, leader_epoch: LeaderEpoch) -> bool {
        self.base_offset == segment.base_offset
            && self.size == segment.end_position
            && self.leader_epoch == leader_epoch
    }
}

/// The entries of a file up to the first bad one, and whether that is all of it.
#[must_use]
pub fn decode(content: &[u8]) -> (Vec<SegmentTimestamp>, bool) {
    let Some(content) = content.strip_prefix(MAGIC) else {
        return (Vec::new(), false);
    };
    let mut entries: Vec<SegmentTimestamp> = Vec::new();
    for bytes in content.chunks(ENTRY_BYTES) {
        let entry = SegmentTimestamp::decode(bytes).filter(|_| bytes.len() == ENTRY_BYTES);
        let follows = |entry: &SegmentTimestamp| {
            (entries.last()).is_none_or(|last| last.base_offset < entry.base_offset)
        };
        match entry.filter(follows) {
            Some(entry) => entries.push(entry),
            None => return (entries, false),
        }
    }
    (entries, true)
}

/// Hands the `sealed` segments of a log that is being opened what its file claims of them. Beyond
/// `known_end` nothing is believed, as nothing is known of its epochs. Also returns the offsets of
/// segments that it tells of and that are missing between others.
///
/// # Errors
/// What the disk says where a file that must go does not.
pub(super) fn read(
    home: &Home,
    sealed: &[Arc<SealedSegment>],
    active: Offset,
    epochs: Option<&LeaderEpochs>,
    known_end: Offset,
) -> Result<(TimesFile, Vec<Range<Offset>>), StorageError> {
    let path = home.segment_times_path();
    let content = atomic_file::read(&**home.disk(), &path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "reading time indexes instead");
        Some(Vec::new())
    });
    let Some(content) = content else {
        return Ok((TimesFile::default(), Vec::new()));
    };
    let (entries, is_whole) = decode(&content);
    let missing = missing_of(home, &entries, sealed, active);
    let last = entries.last().map(|last| last.base_offset);
    let mut rest = entries.iter().peekable();
    let mut are_all_taken = true;
    for segment in sealed {
        let mut entry = None;
        while let Some(next) = rest.next_if(|next| next.base_offset <= segment.base_offset) {
            entry = Some(next).filter(|next| next.base_offset == segment.base_offset);
        }
        let Some(entry) = entry else {
            continue;
        };
        let epoch = epochs.and_then(|epochs| epoch_at_end(epochs, segment));
        let is_known = segment.end_offset <= known_end;
        match epoch.filter(|epoch| is_known && entry.is_of(segment, *epoch)) {
            Some(_) => segment.claim(entry.newest),
            None => are_all_taken = false,
        }
    }
    if !is_whole || last.is_some_and(|last| last >= active) {
        // It could be believed later, of a segment that has come to the same size again.
        remove(home)?;
        atomic_file::sync_directory(&**home.disk(), &home.path)?;
        return Ok((TimesFile::default(), missing));
    }
    let written = Written {
        entries: entries.len(),
        last: last.unwrap_or(Offset(i64::MIN)),
    };
    let written = are_all_taken.then_some(written);
    Ok((TimesFile { written }, missing))
}

/// The offsets of segments that are in the file, and not in the directory.
fn missing_of(
    home: &Home,
    entries: &[SegmentTimestamp],
    sealed: &[Arc<SealedSegment>],
    active: Offset,
) -> Vec<Range<Offset>> {
    let were: Vec<Offset> = entries.iter().map(|entry| entry.base_offset).collect();
    let there = sealed.iter().map(|segment| segment.base_offset);
    let there: Vec<Offset> = there.chain([active]).collect();
    let cleaned_end = home
        .directory
        .checkpointed(CheckpointFile::Cleaner, &home.partition)
        .unwrap_or(Offset::ZERO);
    missing::between(&were, &there, cleaned_end)
}

/// Removes the file; the caller makes that durable.
pub(super) fn remove(home: &Home) -> Result<(), StorageError> {
    atomic_file::remove(&**home.disk(), &home.segment_times_path())
}

/// The leader epoch of a segment's last record.
fn epoch_at_end(epochs: &LeaderEpochs, segment: &SealedSegment) -> Option<LeaderEpoch> {
    epochs.epoch_for_offset(Offset(segment.end_offset.0 - 1))
}

impl Home {
    fn segment_times_path(&self) -> PathBuf {
        self.path.join(SEGMENT_TIMESTAMPS)
    }
}

impl Log {
    /// Brings the file to the flushed segments, if it lacks some. No error is one of the log's.
    pub(super) fn tell_segment_times(&mut self) {
        if self.is_broken {
            // The segments of the log may not be those of the directory.
            return;
        }
        let has_learned = self.home.claims.take_learned();
        let written = self.times_file.written.filter(|written| {
            let entries_max = self.sealed.len() * 2 + SLACK_ENTRIES;
            !has_learned && written.entries <= entries_max
        });
        let told = match written {
            Some(written) => self.append_segment_times(written).map(Some),
            None => self.write_segment_times(),
        };
        self.times_file.written = told.unwrap_or_else(|error| {
            let partition = &self.home.partition;
            tracing::warn!(%partition, %error, "lookups by time will read indexes");
            None
        });
    }

    /// A segment is about to change: the file goes first. The caller makes that durable.
    pub(super) fn forget_segment_times(&mut self) -> Result<(), StorageError> {
        self.times_file.written = None;
        remove(&self.home)
    }

    fn append_segment_times(&self, written: Written) -> Result<Written, StorageError> {
        let from_last = self.sealed.iter().rev();
        let mut new: Vec<_> = from_last
            .take_while(|segment| segment.base_offset > written.last)
            .collect();
        new.reverse();
        let (entries, last) = self.entries_of(new.into_iter());
        if !entries.is_empty() {
            let path = self.home.segment_times_path();
            let open = |source| StorageError::io("open", &path, source);
            let file = (self.home.disk().open(&path, OpenMode::ReadWrite)).map_err(open)?;
            let position = (MAGIC.len() + written.entries * ENTRY_BYTES) as u64;
            atomic_file::write_all(&*file, &path, &encoded(&entries), position)?;
        }
        Ok(Written {
            entries: written.entries + entries.len(),
            last: last.unwrap_or(written.last),
        })
    }

    fn write_segment_times(&self) -> Result<Option<Written>, StorageError> {
        let (entries, last) = self.entries_of(self.sealed.iter());
        let Some(last) = last else {
            return Ok(None);
        };
        let path = self.home.segment_times_path();
        let content = whole(&entries);
        atomic_file::replace_unflushed(&**self.home.disk(), &path, &content, false)?;
        let entries = entries.len();
        Ok(Some(Written { entries, last }))
    }

    /// What the file is to say of those of the segments that are flushed and known; and which of
    /// the flushed ones is the last.
    fn entries_of<'a>(
        &self,
        segments: impl Iterator<Item = &'a Arc<SealedSegment>>,
    ) -> (Vec<SegmentTimestamp>, Option<Offset>) {
        let (mut entries, mut last) = (Vec::new(), None);
        for segment in segments.take_while(|segment| segment.end_offset <= self.recovery_point) {
            last = Some(segment.base_offset);
            let newest = segment.known_max_timestamp();
            let leader_epoch = epoch_at_end(&self.leader_epochs, segment);
            if let (Some(newest), Some(leader_epoch)) = (newest, leader_epoch) {
                entries.push(SegmentTimestamp {
                    base_offset: segment.base_offset,
                    size: segment.end_position,
                    newest,
                    leader_epoch,
                });
            }
        }
        (entries, last)
    }
}

/// A file with these entries.
pub(super) fn whole(entries: &[SegmentTimestamp]) -> Vec<u8> {
    [&MAGIC[..], &encoded(entries)].concat()
}

fn encoded(entries: &[SegmentTimestamp]) -> Vec<u8> {
    let mut content = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    entries.iter().for_each(|entry| entry.encode(&mut content));
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: i64) -> SegmentTimestamp {
        SegmentTimestamp {
            base_offset: Offset(number * 10),
            size: 1000 + number.unsigned_abs(),
            newest: TimestampOffset {
                timestamp: Millis(5000 - number),
                offset: Offset(number * 10 + 3),
            },
            leader_epoch: LeaderEpoch(7),
        }
    }

    #[test]
    fn what_is_written_is_read_back_up_to_the_first_damage() {
        let entries: Vec<SegmentTimestamp> = (0..5).map(entry).collect();
        let content = whole(&entries);
        assert_eq!(content.len(), 8 + 5 * ENTRY_BYTES);
        assert_eq!(decode(&content), (entries.clone(), true));
        for length in 0..content.len() {
            let (read, is_whole) = decode(&content[..length]);
            let whole = length.saturating_sub(8) / ENTRY_BYTES;
            assert_eq!(read, entries[..whole], "{length} bytes");
            let is_at_end = length >= 8 && (length - 8).is_multiple_of(ENTRY_BYTES);
            assert_eq!(is_whole, is_at_end, "{length} bytes");
        }
        for at in 0..content.len() {
            let mut bad = content.clone();
            bad[at] ^= 0x10;
            let (read, is_whole) = decode(&bad);
            let before = at.saturating_sub(8) / ENTRY_BYTES;
            let before = if at < 8 { 0 } else { before };
            assert_eq!((read.as_slice(), is_whole), (&entries[..before], false));
        }
    }

    #[test]
    fn entries_out_of_order_are_damage() {
        for (first, second) in [(2, 1), (1, 1)] {
            let content = whole(&[entry(first), entry(second)]);
            assert_eq!(decode(&content), (vec![entry(first)], false));
        }
    }

    #[test]
    fn garbage_claims_nothing() {
        assert_eq!(decode(b""), (Vec::new(), false));
        assert_eq!(decode(&[0; 500]), (Vec::new(), false));
    }
}
