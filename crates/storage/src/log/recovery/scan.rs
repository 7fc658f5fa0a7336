//! One segment whose end is unknown, and the verdict on it.
//!
//! Input: the segment's file, and the recovery point. Output: its indexes, made anew; where its
//! last good batch ends; whether what is wrong behind that may be cut.
//!
//! Invariants: those of [`super`] on what is cut.
//!
//! Source: `LogSegment.recover` of Kafka 4.1.1.

use std::ops::Range;
use std::sync::Arc;

use skein_record::{BatchHeader, BatchView, HEADER_BYTES};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Offset};

use super::{Run, Start, witness};
use crate::log::batches::{BatchWalk, Visited};
use crate::log::found::FoundPart;
use crate::log::names::FileKind;
use crate::log::refusal;
use crate::log::segment_index::SegmentIndexer;
use crate::segment_file::SegmentFile;
use crate::{StorageError, atomic_file};

/// A segment that was scanned.
pub(super) struct Scanned {
    pub(super) file: SegmentFile,
    pub(super) indexer: SegmentIndexer,
    pub(super) end_offset: Offset,
    pub(super) first_timestamp: Option<Millis>,
    pub(super) verified_bytes: u64,
    /// Bytes of the batches below the recovery point whose headers were read on the way to it.
    pub(super) walked_bytes: u64,
    /// Where the last batch begins, unless its checksum was compared.
    unverified: Option<u64>,
    /// Offsets that are missing before the last batch.
    gap: Range<Offset>,
    /// Where the first batch behind the recovery point begins, if there is one.
    found_from: Option<u64>,
    /// The first batch behind the recovery point that ends a transaction.
    pub(super) first_marker: Option<Offset>,
    /// Where zeros begin that end the file, if they do: room that was made ahead, or the rest of a
    /// block that was written anew.
    room_from: Option<u64>,
    /// Where the bytes go bad, if they do, and why.
    pub(super) fault: Option<(u64, &'static str)>,
}

impl Scanned {
    /// End of the last batch that was taken for good.
    pub(super) fn end(&self) -> u64 {
        let fault = self.fault.map(|(position, _)| position);
        fault.or(self.room_from).unwrap_or(self.file.end())
    }

    /// Cuts off the zeros that end the file.
    pub(super) fn drop_room(&mut self) -> Result<(), StorageError> {
        match self.room_from.take() {
            Some(position) => self.file.drop_zeros_from(position),
            None => Ok(()),
        }
    }

    /// The bytes behind the recovery point.
    pub(super) fn found(&self, base_offset: Offset) -> Option<FoundPart> {
        let end = self.end();
        let start = self.found_from.filter(|start| *start < end)?;
        let file = Arc::clone(self.file.file());
        Some(FoundPart {
            base_offset,
            file,
            bytes: start..end,
        })
    }
}

impl Run<'_> {
    /// Makes the segment's indexes anew, behind what is left of them below the recovery point, and
    /// compares the checksums above it.
    pub(super) fn scan_segment(&self, number: usize) -> Result<Scanned, StorageError> {
        let (base_offset, _) = self.bases[number];
        let next = self.bases.get(number + 1).map(|(base, _)| *base);
        let path = self.home.file(base_offset, FileKind::Log);
        let file = SegmentFile::open(&**self.home.disk(), &path)?;
        let anchor = self.anchor(base_offset, &file)?;
        let mut indexer =
            SegmentIndexer::rebuild(self.home.small_disk(), &self.home.path, base_offset)?;
        let (mut first_timestamp, mut from, mut before) = (None, 0, base_offset);
        if let Some(anchor) = &anchor {
            anchor.fill(&mut indexer)?;
            first_timestamp = Some(anchor.first_timestamp);
            (from, before) = (anchor.position, anchor.base_offset);
        }
        let (mut verified_bytes, mut walked_bytes, mut found_from) = (0, 0, None);
        let (mut unverified, mut gap, mut first_marker) = (None, before..before, None);
        let recovery_point = self.start.recovery_point;
        let mut walk = BatchWalk {
            expected: before,
            dense_from: self.dense_from(),
            end: next.unwrap_or(Offset(i64::MAX)),
            verify_from: recovery_point,
            visit: |visited: Visited<'_>| {
                let header = visited.header;
                indexer.add(header, visited.position, self.config.index_interval_bytes);
                first_timestamp.get_or_insert(header.max_timestamp);
                unverified = (header.last_offset() < recovery_point).then_some(visited.position);
                gap = before..header.base_offset;
                before = header.next_offset();
                let bytes = header.size_in_bytes() as u64;
                if header.last_offset() >= recovery_point {
                    found_from.get_or_insert(visited.position);
                    if header.attributes.is_control() {
                        first_marker.get_or_insert(header.base_offset);
                    }
                    verified_bytes += bytes;
                } else {
                    walked_bytes += bytes;
                }
                Ok(())
            },
        };
        let scan = file.scan(from, &mut walk)?;
        let end_offset = walk.expected;
        let is_room = scan.end < file.end() && file.is_zero_from(scan.end)?;
        let fault = scan.fault.filter(|_| !is_room);
        let fault = fault.map(|reason| (scan.end, reason));
        Ok(Scanned {
            file,
            indexer,
            end_offset,
            first_timestamp,
            verified_bytes,
            walked_bytes,
            unverified,
            gap,
            found_from,
            first_marker,
            room_from: is_room.then_some(scan.end),
            fault,
        })
    }

    /// Records that are missing between a whole segment and the next one. Compaction leaves none
    /// there: the last batch of what it writes stays, empty if need be. (Kafka's does, below its
    /// own checkpoint.) So above the checkpoints it is a tail that a power cut has taken, also in a
    /// topic that is compacted; a log that went on behind it would differ from its replicas for
    /// ever.
    pub(super) fn gap_before(
        &self,
        next: Option<Offset>,
        scanned: &Scanned,
    ) -> Option<(u64, &'static str)> {
        let checkpointed = self.start.recovery_point.max(self.start.cleaned_end);
        let dense_end = scanned.end_offset.max(checkpointed);
        next.is_some_and(|next| dense_end < next)
            .then(|| (scanned.end(), "offsets are missing before the next segment"))
    }

    /// From here on a missing offset is a lost record.
    fn dense_from(&self) -> Offset {
        if self.config.is_compacting {
            Offset(i64::MAX)
        } else {
            self.start.recovery_point.max(self.start.cleaned_end)
        }
    }

    /// Bad or missing bytes below the recovery point are never cut.
    pub(super) fn check_recovery_point(
        &self,
        scanned: &Scanned,
        fault: Option<(u64, &'static str)>,
        next: Option<Offset>,
    ) -> Result<(), StorageError> {
        let Start {
            recovery_point,
            log_start_offset,
            ..
        } = self.start;
        // A log that is being removed below its start may be found half removed.
        let is_kept = log_start_offset < recovery_point;
        let is_below = scanned.end_offset < recovery_point && is_kept;
        let has_room = scanned.room_from.is_some();
        let (position, reason) = match (fault, next) {
            (Some(fault), _) if is_below || is_kept && self.is_spoilt_below(scanned)? => fault,
            (None, None) if is_below => (scanned.end(), "the log ends before its recovery point"),
            (None, _) if has_room && is_kept && self.is_spoilt_below(scanned)? => {
                (scanned.end(), "the last batch before zeros is bad")
            }
            _ => return Ok(()),
        };
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::CorruptionCut) {
            return Ok(());
        }
        self.refuse(recovery_point, scanned, position, reason)
    }

    /// Where nobody knows what was flushed, the fault is the end that a crash tore only if the log
    /// was in use, and nothing whole lies behind it.
    pub(super) fn check_lost(
        &self,
        number: usize,
        scanned: &Scanned,
        position: u64,
        reason: &'static str,
    ) -> Result<(), StorageError> {
        if !self.start.is_lost {
            return Ok(());
        }
        let later = self.bases[number + 1..].last();
        let witness = match later {
            Some((base_offset, _)) => Some(*base_offset),
            None if self.start.is_clean => Some(scanned.end_offset),
            None => witness::batch_behind(&scanned.file, position, scanned.end_offset)?,
        };
        match witness {
            Some(end) => {
                let behind_fault = Offset(scanned.end_offset.0 + 1);
                self.refuse(end.max(behind_fault), scanned, position, reason)
            }
            None => Ok(()),
        }
    }

    /// Leaves the log as it is, also at the next start: it was whole up to `recovery_point`.
    fn refuse(
        &self,
        recovery_point: Offset,
        scanned: &Scanned,
        position: u64,
        reason: &'static str,
    ) -> Result<(), StorageError> {
        refusal::write(self.home, recovery_point)?;
        Err(StorageError::corrupt(scanned.file.path(), position, reason))
    }

    /// Whether a fault, or zeros, at or above the recovery point come from bytes below it: a length
    /// that went bad leads the walk astray, an offset that did puts good batches in the wrong.
    fn is_spoilt_below(&self, scanned: &Scanned) -> Result<bool, StorageError> {
        let (file, path, end) = (scanned.file.file(), scanned.file.path(), scanned.end());
        let mut head = [0; HEADER_BYTES];
        let filled = atomic_file::read_full(&**file, path, &mut head, end)?;
        // Refused batches may have come back here: they do not fill a gap.
        let fills_gap = BatchHeader::parse(&head[..filled])
            .is_ok_and(|header| scanned.gap.contains(&header.base_offset));
        if fills_gap && scanned.gap.start < self.start.recovery_point {
            return Ok(true);
        }
        let Some(start) = scanned.unverified else {
            return Ok(false);
        };
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        let filled = atomic_file::read_full(&**file, path, &mut bytes, start)?;
        let is_good = BatchView::parse(&bytes[..filled]).is_ok_and(|last| last.check_crc().is_ok());
        Ok(!is_good)
    }
}
