//! The segments of a log after a restart.
//!
//! Input: the files, the recovery point, and whether the shutdown was clean. Output: sealed
//! segments and the active one, with a tail cut off if it was torn.
//!
//! ```text
//!   segments     [ 0 ───── ][ 120 ────────────── ][ 200 ──── torn
//!   recovery point                     ▲ 170
//!   opened                           └ headers from the batch before it that the index names,
//!                                      checksums from 170 on, indexes made anew behind it
//!                  not opened
//! ```
//!
//! Invariants:
//! - nothing below the recovery point is cut: bad bytes there are an error, and a cut above it, of
//!   zeros too, asks the batch before it for its checksum first (`is_spoilt_below`);
//! - where the recovery point is lost, nothing is cut that has something whole behind it, and after
//!   a clean stop nothing at all (`check_lost`);
//! - a log that is refused for this is refused at the next start too (`refusal.rs`);
//! - above it the log ends at the last whole batch before the first bad byte, and offsets have no
//!   gap;
//! - a gap is no fault where compaction may have made it: inside of a segment in a topic that is
//!   compacted; between two, and in a topic that was compacted once, below the recovery point and
//!   below what the cleaner has checkpointed. So compaction
//!   takes segments below the recovery point only, and checkpoints how far it came before a file
//!   with a gap takes its name;
//! - what was read from above it may be in the page cache only, and is handed on as *found*
//!   (`found.rs`);
//! - a cut is durable before anything is appended; zeros that end a file are no records, so their
//!   cut need not be.
//!
//! Source: `LogSegment.recover`, `LogLoader.recoverLog` of Kafka 4.1.1.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use skein_env::{File, OpenMode};
use skein_types::{Millis, Offset};

use super::aborted;
use super::active::ActiveSegment;
use super::batches::Headers;
use super::found::FoundPart;
use super::index::{Entry, IndexView, OffsetEntry};
use super::names::FileKind;
use super::open::{Cut, Recovery};
use super::segment::{Home, SealedParts, SealedSegment, map_file};
use crate::segment_file::SegmentFile;
use crate::{LogConfig, StorageError, atomic_file};

/// Where recovery begins.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) is_clean: bool,
    /// The recovery point as it was found, if it was.
    pub(super) checkpointed: Option<Offset>,
    /// Whether there was one, which nobody knows any more.
    pub(super) is_lost: bool,
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
    /// The first end of a transaction behind the recovery point.
    pub(super) first_marker: Option<Offset>,
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
            first_marker: None,
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

mod anchor;
mod reopen;
mod scan;
mod witness;

use scan::Scanned;

struct Run<'a> {
    home: &'a Arc<Home>,
    config: &'a LogConfig,
    bases: &'a [(Offset, u64)],
    start: Start,
}

impl Run<'_> {
    /// The segments of a log whose end is unknown.
    fn scan(&self) -> Result<Recovered, StorageError> {
        let recovery_point = self.start.recovery_point;
        let after = self
            .bases
            .partition_point(|(base, _)| *base <= recovery_point);
        let (mut unflushed, mut found) = (Vec::new(), Vec::new());
        let first = self.first_to_scan(after.saturating_sub(1), &mut unflushed)?;
        let mut sealed = self.found(first);
        let mut report = Recovery::default();
        let (mut number, mut first_marker) = (first, None);
        let active = loop {
            let mut scanned = self.scan_segment(number)?;
            report.scanned_segments += 1;
            report.scanned_bytes += scanned.verified_bytes;
            report.walked_bytes += scanned.walked_bytes;
            let next = self.bases.get(number + 1).map(|(base, _)| *base);
            let fault = scanned.fault.or_else(|| self.gap_before(next, &scanned));
            let (base_offset, _) = self.bases[number];
            found.extend(scanned.found(base_offset));
            first_marker = first_marker.or(scanned.first_marker);
            self.check_recovery_point(&scanned, fault, next)?;
            scanned.drop_room()?;
            if let Some((position, reason)) = fault {
                self.check_lost(number, &scanned, position, reason)?;
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
            first_marker,
            report,
        })
    }

    /// The segment that holds the recovery point, or the one before it: if the recovery point came
    /// there while that still grew, the cut of the room behind its end may not be durable. The room
    /// that is back must be found, and a cut that is still there is to be flushed.
    fn first_to_scan(
        &self,
        number: usize,
        unflushed: &mut Vec<(Offset, Arc<dyn File>)>,
    ) -> Result<usize, StorageError> {
        let Some(before) = number.checked_sub(1) else {
            return Ok(number);
        };
        if self.bases[number].0 != self.start.recovery_point {
            return Ok(number);
        }
        let (base_offset, _) = self.bases[before];
        let path = self.home.file(base_offset, FileKind::Log);
        let file = SegmentFile::open(&**self.home.disk(), &path)?;
        if !self.fills_its_file(base_offset, &file)? {
            return Ok(before);
        }
        unflushed.push((base_offset, Arc::clone(file.file())));
        Ok(number)
    }

    /// Whether the segment before the recovery point has no room behind its batches: the walk from
    /// the last one that the index names, whatever that is worth, ends with the file, and there.
    fn fills_its_file(
        &self,
        base_offset: Offset,
        file: &SegmentFile,
    ) -> Result<bool, StorageError> {
        let index = self.index::<OffsetEntry>(base_offset, FileKind::OffsetIndex)?;
        let last = index.map(|index| index.last()).transpose()?.flatten();
        let range = last.map_or(0, |last| u64::from(last.position))..file.end();
        let mut headers = Headers::new(&**file.file(), file.path(), range);
        let mut end_offset = base_offset;
        loop {
            match headers.next() {
                Ok(Some((_, header))) => end_offset = header.next_offset(),
                Ok(None) => return Ok(end_offset == self.start.recovery_point),
                Err(StorageError::Corrupt { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// An index as it was found, whatever is in it; `None` if there is none.
    fn index<E: Entry>(
        &self,
        base_offset: Offset,
        kind: FileKind,
    ) -> Result<Option<IndexView<E>>, StorageError> {
        let (disk, path) = (self.home.disk(), self.home.file(base_offset, kind));
        let file: Arc<dyn File> = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StorageError::io("open", &path, source)),
        };
        map_file(disk, &path, &file)
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
        } else {
            file.drop_reserved()?;
        }
        let created = self.start.now;
        let active = ActiveSegment {
            base_offset,
            file,
            indexer,
            aborted: aborted::create(self.home, base_offset),
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
