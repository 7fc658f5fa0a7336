//! The segments of a log after a restart.
//!
//! Input: the files, the recovery point, and whether the shutdown was clean. Output: sealed
//! segments and the active one, with a tail cut off if it was torn.
//!
//! ```text
//!   segments     [ 0 ───── ][ 120 ────────────── ][ 200 ──── torn
//!   recovery point                     ▲ 170
//!   opened                  └ indexes made anew, checksums from 170 on
//!                  not opened
//! ```
//!
//! Invariants:
//! - nothing below the recovery point is cut: bad bytes there are an error, and a cut above it asks
//!   the batch before it for its checksum first ([`Run::is_spoilt_below`]);
//! - above it the log ends at the last whole batch before the first bad byte, and offsets have no
//!   gap;
//! - a gap is no fault where compaction may have made it: in a topic that is compacted, and in one
//!   that was, below the recovery point and below what the cleaner has checkpointed. So compaction
//!   takes segments below the recovery point only, and checkpoints how far it came before a file
//!   with a gap takes its name;
//! - what was read from above it may be in the page cache only, and is handed on as *found*
//!   (`found.rs`);
//! - a cut is durable before anything is appended; zeros that end a file are no records, so their
//!   cut need not be.
//!
//! Source: `LogSegment.recover`, `LogLoader.recoverLog` of Kafka 4.1.1.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use skein_env::{File, OpenMode};
use skein_record::{BatchHeader, BatchView, HEADER_BYTES};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Offset};

use super::active::ActiveSegment;
use super::batches::{BatchWalk, Headers, Visited};
use super::found::FoundPart;
use super::index::{Entry, IndexView, IndexWriter, OffsetEntry, TimeEntry};
use super::names::FileKind;
use super::open::{Cut, Recovery};
use super::segment::{Home, SealedParts, SealedSegment, does_rise, map_file};
use super::segment_index::SegmentIndexer;
use crate::segment_file::SegmentFile;
use crate::{LogConfig, StorageError, atomic_file};

/// Where recovery begins.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) is_clean: bool,
    /// The recovery point as it was found, if it was.
    pub(super) checkpointed: Option<Offset>,
    /// Everything below is known to be on the disk.
    pub(super) recovery_point: Offset,
    /// Up to where the log was compacted, by a policy that may not be its own any more.
    pub(super) cleaned_end: Offset,
    /// What lies below may be gone: it was deleted.
    pub(super) log_start_offset: Offset,
    pub(super) now: Millis,
}

/// The segments of a log.
pub(super) struct Recovered {
    pub(super) sealed: Vec<Arc<SealedSegment>>,
    pub(super) active: ActiveSegment,
    pub(super) log_end_offset: Offset,
    /// Sealed segments that may not be on the disk.
    pub(super) unflushed: Vec<(Offset, Arc<dyn File>)>,
    /// Bytes behind the recovery point, which a former process wrote.
    pub(super) found: Vec<FoundPart>,
    pub(super) report: Recovery,
}

impl Recovered {
    pub(super) fn empty(active: ActiveSegment) -> Self {
        let log_end_offset = active.base_offset;
        Self {
            sealed: Vec::new(),
            active,
            log_end_offset,
            unflushed: Vec::new(),
            found: Vec::new(),
            report: Recovery::default(),
        }
    }
}

/// Makes the log's segments ready. `segments` maps base offsets to file sizes, and is not empty.
pub(super) fn recover(
    home: &Arc<Home>,
    config: &LogConfig,
    segments: &BTreeMap<Offset, u64>,
    start: Start,
) -> Result<Recovered, StorageError> {
    let bases: Vec<(Offset, u64)> = segments.iter().map(|(base, size)| (*base, *size)).collect();
    let recovery = Run {
        home,
        config,
        bases: &bases,
        start,
    };
    if start.is_clean
        && let Some(recovered) = recovery.reopen()?
    {
        return Ok(recovered);
    }
    recovery.scan()
}

struct Run<'a> {
    home: &'a Arc<Home>,
    config: &'a LogConfig,
    bases: &'a [(Offset, u64)],
    start: Start,
}

/// A segment that was scanned.
struct Scanned {
    file: SegmentFile,
    indexer: SegmentIndexer,
    end_offset: Offset,
    first_timestamp: Option<Millis>,
    verified_bytes: u64,
    /// Where the last batch begins, unless its checksum was compared.
    unverified: Option<u64>,
    /// Offsets that are missing before the last batch.
    gap: Range<Offset>,
    /// Where the first batch behind the recovery point begins, if there is one.
    found_from: Option<u64>,
    /// Where the bytes go bad, if they do, and why.
    fault: Option<(u64, &'static str)>,
}

impl Scanned {
    /// End of the last batch that was taken for good.
    fn end(&self) -> u64 {
        self.fault.map_or(self.file.end(), |(position, _)| position)
    }

    /// The bytes behind the recovery point.
    fn found(&self, base_offset: Offset) -> Option<FoundPart> {
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
    /// The segments of a log that was closed: only the end of the last one is looked at. `None` if
    /// it is not what it must be.
    fn reopen(&self) -> Result<Option<Recovered>, StorageError> {
        let last = self.bases.len() - 1;
        let (base_offset, _) = self.bases[last];
        let path = self.home.file(base_offset, FileKind::Log);
        let file = SegmentFile::open(&**self.home.disk(), &path)?;
        let Some((indexer, log_end_offset)) = self.reopen_indexes(base_offset, &file)? else {
            return Ok(None);
        };
        // Who closed the log checkpointed its end. Another one may be that of a batch gone bad.
        let Start {
            checkpointed,
            recovery_point,
            ..
        } = self.start;
        if log_end_offset != checkpointed.unwrap_or(log_end_offset.max(recovery_point)) {
            return Ok(None);
        }
        let first_timestamp = Headers::new(&**file.file(), &path, 0..file.end())
            .next()?
            .map(|(_, header)| header.max_timestamp);
        let created = self.start.now;
        let active = ActiveSegment {
            base_offset,
            file,
            indexer,
            first_timestamp,
            created,
        };
        let report = Recovery {
            was_clean: true,
            ..Recovery::default()
        };
        let sealed = self.found(last);
        Ok(Some(Recovered {
            sealed,
            active,
            log_end_offset,
            unflushed: Vec::new(),
            found: Vec::new(),
            report,
        }))
    }

    /// The active segment's indexes as they are, and the log's end behind them.
    fn reopen_indexes(
        &self,
        base_offset: Offset,
        file: &SegmentFile,
    ) -> Result<Option<(SegmentIndexer, Offset)>, StorageError> {
        let Some(offsets) = self.reopen_index::<OffsetEntry>(base_offset, FileKind::OffsetIndex)?
        else {
            return Ok(None);
        };
        let Some(times) = self.reopen_index::<TimeEntry>(base_offset, FileKind::TimeIndex)? else {
            return Ok(None);
        };
        let last = offsets.last();
        let mut indexer = SegmentIndexer::of(base_offset, offsets, times);
        let anchor = last.map_or(0, |last| u64::from(last.position));
        let anchor_end = last.map(|last| Offset(base_offset.0 + i64::from(last.relative_offset)));
        let mut end_offset = base_offset;
        let interval_bytes = self.config.index_interval_bytes;
        let mut walk = BatchWalk {
            expected: base_offset,
            dense_from: Offset(i64::MAX),
            end: Offset(i64::MAX),
            verify_from: Offset(i64::MAX),
            visit: |visited: Visited<'_>| {
                let last_offset = visited.header.last_offset();
                if visited.position == anchor && anchor_end.is_some_and(|end| last_offset > end) {
                    return Err("the index names another batch");
                }
                indexer.add(visited.header, visited.position, interval_bytes);
                end_offset = visited.header.next_offset();
                Ok(())
            },
        };
        let scan = file.scan(anchor, &mut walk)?;
        if let Some(reason) = scan.fault {
            let path = file.path().display();
            tracing::warn!(%path, position = scan.end, reason, "recovering after a clean shutdown");
            return Ok(None);
        }
        Ok(Some((indexer, end_offset)))
    }

    fn reopen_index<E: Entry>(
        &self,
        base_offset: Offset,
        kind: FileKind,
    ) -> Result<Option<IndexWriter<E>>, StorageError> {
        let (disk, path) = (self.home.disk(), self.home.file(base_offset, kind));
        let file = match disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StorageError::io("open", &path, source)),
        };
        let view: Option<IndexView<E>> = map_file(disk, &path, &file)?;
        match view {
            Some(view) if does_rise(&view)? => {
                IndexWriter::reopen(Arc::clone(disk), path, file, view).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The segments of a log whose end is unknown.
    fn scan(&self) -> Result<Recovered, StorageError> {
        let recovery_point = self.start.recovery_point;
        let after = self
            .bases
            .partition_point(|(base, _)| *base <= recovery_point);
        let first = self.first_to_scan(after.saturating_sub(1))?;
        let mut sealed = self.found(first);
        let (mut unflushed, mut found) = (Vec::new(), Vec::new());
        let mut report = Recovery::default();
        let mut number = first;
        let active = loop {
            let scanned = self.scan_segment(number)?;
            report.scanned_bytes += scanned.verified_bytes;
            let next = self.bases.get(number + 1).map(|(base, _)| *base);
            let fault = scanned.fault.or_else(|| self.gap_before(next, &scanned));
            let (base_offset, _) = self.bases[number];
            found.extend(scanned.found(base_offset));
            self.check_recovery_point(&scanned, fault, next)?;
            if let Some((position, reason)) = fault {
                report.cut = Some(self.cut(number, &scanned, position, reason)?);
                break self.active(base_offset, scanned, position)?;
            }
            let Some(next) = next else {
                let end = scanned.file.end();
                break self.active(base_offset, scanned, end)?;
            };
            sealed.push(self.seal(base_offset, next, scanned, &mut unflushed)?);
            number += 1;
        };
        let (active, log_end_offset) = active;
        Ok(Recovered {
            sealed,
            active,
            log_end_offset,
            unflushed,
            found,
            report,
        })
    }

    /// The segment that holds the recovery point, or the one before it. The latter may have lost
    /// the cut of the room behind its end, if the recovery point came there while it still grew.
    fn first_to_scan(&self, number: usize) -> Result<usize, StorageError> {
        let Some(before) = number.checked_sub(1) else {
            return Ok(number);
        };
        if self.bases[number].0 != self.start.recovery_point {
            return Ok(number);
        }
        let path = self.home.file(self.bases[before].0, FileKind::Log);
        let file = SegmentFile::open(&**self.home.disk(), &path)?;
        let tail = file.end().saturating_sub(HEADER_BYTES as u64);
        Ok(if file.is_zero_from(tail)? {
            before
        } else {
            number
        })
    }

    /// Makes the segment's indexes anew and compares the checksums above the recovery point.
    fn scan_segment(&self, number: usize) -> Result<Scanned, StorageError> {
        let (base_offset, _) = self.bases[number];
        let next = self.bases.get(number + 1).map(|(base, _)| *base);
        let path = self.home.file(base_offset, FileKind::Log);
        let mut file = SegmentFile::open(&**self.home.disk(), &path)?;
        let mut indexer = SegmentIndexer::rebuild(self.home.disk(), &self.home.path, base_offset)?;
        let (mut first_timestamp, mut verified_bytes, mut found_from) = (None, 0, None);
        let (mut unverified, mut gap, mut before) = (None, base_offset..base_offset, base_offset);
        let recovery_point = self.start.recovery_point;
        let mut walk = BatchWalk {
            expected: base_offset,
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
                if header.last_offset() >= recovery_point {
                    found_from.get_or_insert(visited.position);
                    verified_bytes += header.size_in_bytes() as u64;
                }
                Ok(())
            },
        };
        let scan = file.scan(0, &mut walk)?;
        let end_offset = walk.expected;
        // Room that was made ahead, or the rest of a block that was written anew.
        let is_room = scan.end < file.end() && file.is_zero_from(scan.end)?;
        if is_room {
            file.drop_zeros_from(scan.end)?;
        }
        let fault = scan.fault.filter(|_| !is_room);
        let fault = fault.map(|reason| (scan.end, reason));
        Ok(Scanned {
            file,
            indexer,
            end_offset,
            first_timestamp,
            verified_bytes,
            unverified,
            gap,
            found_from,
            fault,
        })
    }

    /// Records that are missing between a whole segment and the next one.
    fn gap_before(&self, next: Option<Offset>, scanned: &Scanned) -> Option<(u64, &'static str)> {
        let dense_end = scanned.end_offset.max(self.dense_from());
        next.is_some_and(|next| dense_end < next).then(|| {
            (
                scanned.file.end(),
                "offsets are missing before the next segment",
            )
        })
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
    fn check_recovery_point(
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
        let (position, reason) = match (fault, next) {
            (Some(fault), _) if is_below || is_kept && self.is_spoilt_below(scanned)? => fault,
            (None, None) if is_below => {
                (scanned.file.end(), "the log ends before its recovery point")
            }
            _ => return Ok(()),
        };
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::CorruptionCut) {
            return Ok(());
        }
        Err(StorageError::corrupt(scanned.file.path(), position, reason))
    }

    /// Whether a fault at or above the recovery point comes from bytes below it: a length that went
    /// bad leads the walk astray, an offset that did puts good batches in the wrong.
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

    /// Reports a cut and removes the segments behind it, newest first.
    fn cut(
        &self,
        number: usize,
        scanned: &Scanned,
        position: u64,
        reason: &'static str,
    ) -> Result<Cut, StorageError> {
        let later = &self.bases[number + 1..];
        let later_bytes: u64 = later.iter().map(|(_, size)| size).sum();
        let cut = Cut {
            log_end_offset: scanned.end_offset,
            segment_base_offset: self.bases[number].0,
            position,
            bytes: scanned.file.end() - position + later_bytes,
            reason,
        };
        tracing::warn!(
            path = %scanned.file.path().display(),
            position,
            log_end_offset = %cut.log_end_offset,
            recovery_point = %self.start.recovery_point,
            bytes = cut.bytes,
            reason,
            "cutting off a torn or corrupt tail"
        );
        for (base_offset, _) in later.iter().rev() {
            self.home.unlink_segment(*base_offset)?;
            atomic_file::sync_directory(&**self.home.disk(), &self.home.path)?;
        }
        Ok(cut)
    }

    fn active(
        &self,
        base_offset: Offset,
        scanned: Scanned,
        end: u64,
    ) -> Result<(ActiveSegment, Offset), StorageError> {
        let Scanned {
            mut file,
            indexer,
            end_offset,
            first_timestamp,
            ..
        } = scanned;
        if end < file.end() {
            file.cut(end)?;
        }
        let created = self.start.now;
        let active = ActiveSegment {
            base_offset,
            file,
            indexer,
            first_timestamp,
            created,
        };
        Ok((active, end_offset))
    }

    fn seal(
        &self,
        base_offset: Offset,
        next: Offset,
        scanned: Scanned,
        unflushed: &mut Vec<(Offset, Arc<dyn File>)>,
    ) -> Result<Arc<SealedSegment>, StorageError> {
        let Scanned {
            file, mut indexer, ..
        } = scanned;
        indexer.finish()?;
        unflushed.push((base_offset, Arc::clone(file.file())));
        let parts = self.parts(base_offset, next, file.end());
        let max_timestamp = indexer.max_timestamp;
        Ok(SealedSegment::written(
            self.home,
            parts,
            Arc::clone(file.file()),
            max_timestamp,
        ))
    }

    /// The first `count` segments, as they are.
    fn found(&self, count: usize) -> Vec<Arc<SealedSegment>> {
        let pairs = self.bases.windows(2).take(count);
        pairs
            .map(|pair| {
                let (base_offset, size) = pair[0];
                SealedSegment::found(self.home, self.parts(base_offset, pair[1].0, size))
            })
            .collect()
    }

    fn parts(&self, base_offset: Offset, end_offset: Offset, end_position: u64) -> SealedParts {
        let interval_bytes = self.config.index_interval_bytes;
        SealedParts {
            base_offset,
            end_offset,
            end_position,
            interval_bytes,
        }
    }
}
