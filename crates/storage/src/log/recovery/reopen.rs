//! The segments of a log that was closed.
//!
//! Input: the last segment's indexes, and the end of its file. Output: the log as it was, or that
//! it has to be scanned.
//!
//! Invariant: a log that does not end where it was closed is scanned.
//!
//! Source: `LogLoader.load` of Kafka 4.1.1.

use std::sync::Arc;

use skein_env::OpenMode;
use skein_types::Offset;

use super::{Recovered, Run, Start};
use crate::StorageError;
use crate::log::aborted;
use crate::log::active::ActiveSegment;
use crate::log::batches::{BatchWalk, Headers, Visited};
use crate::log::index::{Entry, IndexView, IndexWriter, OffsetEntry, TimeEntry};
use crate::log::names::FileKind;
use crate::log::open::Recovery;
use crate::log::segment::{does_rise, map_file};
use crate::log::segment_index::SegmentIndexer;
use crate::segment_file::SegmentFile;

impl Run<'_> {
    /// The segments of a log that was closed: only the end of the last one is looked at. `None` if
    /// it is not what it must be.
    pub(super) fn reopen(&self) -> Result<Option<Recovered>, StorageError> {
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
        let Some(aborted) = aborted::reopen(self.home, base_offset, log_end_offset)? else {
            return Ok(None);
        };
        let created = self.start.now;
        let active = ActiveSegment {
            base_offset,
            file,
            indexer,
            aborted,
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
            first_marker: None,
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
        let (disk, path) = (self.home.small_disk(), self.home.file(base_offset, kind));
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
}
