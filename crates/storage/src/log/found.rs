//! What a former process wrote, and nobody knows to be on the device.
//!
//! Input: after an unclean end, the bytes behind the recovery point. Output: the same bytes on the
//! device, before the first flush of the log counts.
//!
//! ```text
//!   recovery point      found end          log end
//!   ├───────────────────┤──────────────────┤
//!    written anew by     appended since,
//!    the first flush     in a file of its own
//! ```
//!
//! Why: a write-back that failed leaves a page that is clean, readable and not on the device. A
//! process that starts on that page cache reads it as if nothing had happened, and its flush
//! succeeds, because nothing is dirty.
//!
//! Invariants:
//! - a plan that has run has rewritten all that was found, and flushed it afterwards
//!   (`FlushPlan::run`); until then the recovery point stays where it was;
//! - nothing is appended to a file with found bytes ([`Log::append`] begins a new segment): what is
//!   rewritten does not change meanwhile;
//! - nothing behind a cut is rewritten: a cut waits for the piece that is being written, and takes
//!   the rest out ([`Found::cut`]).
//!
//! Source: Rebello et al., "Can Applications Recover from fsync Failures?" (ATC 2020).
//!
//! [`Log::append`]: super::Log::append

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use skein_env::File;
use skein_types::Offset;

use super::names::FileKind;
use super::segment::Home;
use crate::StorageError;
use crate::segment_file::piece_end;

/// What was found, for whoever has the log.
#[derive(Default)]
pub(super) struct Found {
    /// The segments, known without waiting for a piece that is being written.
    segments: Vec<Offset>,
    rest: Rewrite,
}

/// What is left to be rewritten, for whoever flushes. Clones are handles of the same.
#[derive(Clone, Default)]
pub(super) struct Rewrite {
    /// Oldest first. Locked while a piece is being written.
    parts: Arc<Mutex<Vec<FoundPart>>>,
}

/// Bytes of one segment.
pub(super) struct FoundPart {
    pub(super) base_offset: Offset,
    pub(super) file: Arc<dyn File>,
    /// What is left; empty when all is rewritten and perhaps not flushed yet.
    pub(super) bytes: Range<u64>,
}

impl Found {
    pub(super) fn new(parts: Vec<FoundPart>) -> Self {
        let segments = parts.iter().map(|part| part.base_offset).collect();
        let parts = Arc::new(Mutex::new(parts));
        Self {
            segments,
            rest: Rewrite { parts },
        }
    }

    /// Whether everything was rewritten and flushed.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the segment has bytes that were not rewritten and flushed.
    pub(super) fn is_in(&self, base_offset: Offset) -> bool {
        self.segments.contains(&base_offset)
    }

    /// What a plan has to do first.
    pub(super) fn rest(&self) -> Rewrite {
        self.rest.clone()
    }

    /// The segment ends at `position` from now on; call it before the file is cut.
    pub(super) fn cut(&self, base_offset: Offset, position: u64) {
        for part in self.rest.parts.lock().iter_mut() {
            if part.base_offset == base_offset {
                part.bytes.end = part.bytes.end.min(position);
            }
        }
    }

    /// Segments from `end_offset` on are going away.
    pub(super) fn forget_from(&mut self, end_offset: Offset) {
        self.segments
            .retain(|base_offset| *base_offset < end_offset);
        let mut parts = self.rest.parts.lock();
        parts.retain(|part| part.base_offset < end_offset);
    }

    /// A plan has rewritten and flushed it all.
    pub(super) fn note_flushed(&mut self) {
        self.forget_from(Offset(i64::MIN));
    }
}

impl Rewrite {
    /// Rewrites what is left, piece by piece. It is durable after a flush of the files.
    pub(super) fn run(&self, home: &Home) -> Result<(), StorageError> {
        let mut scratch = Vec::new();
        while self.run_piece(home, &mut scratch)? {}
        Ok(())
    }

    /// Returns whether there was one.
    fn run_piece(&self, home: &Home, scratch: &mut Vec<u8>) -> Result<bool, StorageError> {
        let mut parts = self.parts.lock();
        let Some(part) = parts.iter_mut().find(|part| !part.bytes.is_empty()) else {
            return Ok(false);
        };
        let Range { start, end } = part.bytes;
        let piece_end = piece_end(start).min(end);
        part.file
            .rewrite(start..piece_end, scratch)
            .map_err(|source| {
                let path = home.file(part.base_offset, FileKind::Log);
                StorageError::io_at("rewrite", &path, start, source)
            })?;
        part.bytes.start = piece_end;
        home.directory.note_flush_step();
        Ok(true)
    }
}
