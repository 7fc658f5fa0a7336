//! The transaction indexes of a log that was not closed.
//!
//! Input: the files of the segments that were scanned, and what their batches tell. Output: files
//! that tell what the batches do.
//!
//! ```text
//!   ├──────── entries of the file ────────┤
//!   ├── markers below the recovery ──┤....     believed: flushed before the point passed
//!   ├── copied ──────────────────────┤── told by the batches ──┤     the new file, if it differs
//! ```
//!
//! Invariants:
//! - no entry from the recovery point on is believed, and none of a file with nonsense in it;
//! - a file is looked at and copied in pieces of [`PIECE_BYTES`]: its size is bounded by that of
//!   its segment, which may be gigabytes, which the memory must not follow.
//!
//! Source: `LogSegment.recover` of Kafka 4.1.1, which makes the whole file anew.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use skein_env::{File, OpenMode};
use skein_record::{ABORTED_TXN_BYTES, AbortedTxn};
use skein_types::Offset;

use super::super::Log;
use super::super::index::Entry;
use super::super::names::FileKind;
use super::super::segment::Home;
use super::super::view::LogView;
use super::reopen;
use crate::{StorageError, atomic_file};

/// Bytes of a file that are looked at at a time: 2,048 entries.
const PIECE_BYTES: usize = 2048 * ABORTED_TXN_BYTES;

/// The indexes of the segments that were scanned after an unclean end.
pub(in crate::log) struct Rebuild {
    /// Segments with an index file.
    kept: Vec<(usize, Kept)>,
    /// From here on the batches tell what was aborted.
    from: Offset,
}

/// How much of a file stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    /// Bytes of the entries at its front that are believed.
    believed: u64,
    length: u64,
}

impl Rebuild {
    /// Looks at the files of the segments from `first` on. Entries from `recovery_point` on are not
    /// believed; the first marker there is at `first_marker`.
    pub(in crate::log) fn begin(
        view: &LogView,
        first: usize,
        recovery_point: Offset,
        first_marker: Option<Offset>,
    ) -> Result<Self, StorageError> {
        let mut kept = Vec::new();
        let mut from = first_marker.unwrap_or(view.log_end_offset);
        let believed_end = recovery_point.min(from);
        for number in first..=view.sealed.len() {
            let base_offset = view.base_offset(number);
            let path = view.home.file(base_offset, FileKind::TxnIndex);
            let Some(file) = open(&view.home, &path)? else {
                continue;
            };
            let markers = base_offset..view.end_offset(number);
            let length = length(&*file, &path)?;
            let believed = believed(&*file, &path, length, markers, believed_end)?;
            if believed.is_none() {
                tracing::warn!(path = %path.display(), "rebuilding a corrupt transaction index");
                from = from.min(base_offset);
            }
            let believed = believed.unwrap_or_default();
            kept.push((number, Kept { believed, length }));
        }
        Ok(Self { kept, from })
    }

    /// From where on the batches are to be asked.
    pub(in crate::log) fn from(&self) -> Offset {
        self.from
    }

    /// Writes the indexes that change. `aborted` is what the batches have told.
    pub(in crate::log) fn finish(
        self,
        log: &mut Log,
        aborted: &[AbortedTxn],
    ) -> Result<(), StorageError> {
        let view = log.view();
        let mut rest = aborted;
        let mut kept = self.kept.into_iter().peekable();
        let first = kept.peek().map(|(number, _)| *number);
        let told = rest.first().map(|txn| view.segment_number(txn.last_offset));
        let Some(first) = first.into_iter().chain(told).min() else {
            return Ok(());
        };
        for number in first..=view.sealed.len() {
            let (base_offset, end_offset) = (view.base_offset(number), view.end_offset(number));
            let of_file = kept.next_if(|(of, _)| *of == number).map(|(_, kept)| kept);
            let count = rest.partition_point(|txn| txn.last_offset < end_offset);
            let (told, behind) = rest.split_at(count);
            rest = behind;
            let is_there = of_file.is_some();
            let mut kept = of_file.unwrap_or_default();
            if base_offset >= self.from {
                // The batches tell of all its markers.
                kept.believed = 0;
            }
            if kept.believed < kept.length || !told.is_empty() {
                replace(&view.home, base_offset, kept.believed, told)?;
            }
            if let Some(segment) = log.sealed.get(number)
                && (is_there || !told.is_empty())
            {
                segment.mark_aborted();
                log.has_aborted = true;
            }
        }
        let (base_offset, end) = (log.active.base_offset, log.log_end_offset);
        let reopened = reopen(&view.home, base_offset, end)?;
        let path = view.home.file(base_offset, FileKind::TxnIndex);
        log.active.aborted = reopened
            .ok_or_else(|| StorageError::corrupt(&path, 0, "the index changes while it is made"))?;
        Ok(())
    }
}

/// The file; `None` if there is none.
fn open(home: &Home, path: &Path) -> Result<Option<std::sync::Arc<dyn File>>, StorageError> {
    match home.disk().open(path, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StorageError::io("open", path, source)),
    }
}

fn length(file: &dyn File, path: &Path) -> Result<u64, StorageError> {
    file.length()
        .map_err(|source| StorageError::io("stat", path, source))
}

/// Bytes of the entries at the front of a file whose markers lie below `end`; `None` if there is
/// nonsense in the file: no whole entry, one out of order, or one whose marker is in no batch of
/// the segment, which are `markers`.
fn believed(
    file: &dyn File,
    path: &Path,
    length: u64,
    markers: Range<Offset>,
    end: Offset,
) -> Result<Option<u64>, StorageError> {
    if !length.is_multiple_of(ABORTED_TXN_BYTES as u64) {
        return Ok(None);
    }
    let (mut believed, mut last) = (0, None::<AbortedTxn>);
    let mut pieces = Pieces::of(file, path, length);
    while let Some(piece) = pieces.next()? {
        for entry in AbortedTxn::decode_all(piece) {
            let Ok(entry) = entry else { return Ok(None) };
            let follows = last.is_none_or(|last| entry.follows(last));
            if !follows || !markers.contains(&entry.last_offset) {
                return Ok(None);
            }
            believed += u64::from(entry.last_offset < end) * ABORTED_TXN_BYTES as u64;
            last = Some(entry);
        }
    }
    Ok((pieces.position == length).then_some(believed))
}

/// Puts another index in the place of a segment's, with its content, but not its name, flushed: so
/// many bytes of the one that is there, and then `told`.
fn replace(
    home: &Home,
    base_offset: Offset,
    believed: u64,
    told: &[AbortedTxn],
) -> Result<(), StorageError> {
    let path = home.file(base_offset, FileKind::TxnIndex);
    let old = match believed {
        0 => None,
        _ => open(home, &path)?,
    };
    let disk = &**home.small_disk();
    atomic_file::replace_written(disk, &path, true, |new, new_path| {
        let mut written = 0;
        if let Some(old) = &old {
            let mut pieces = Pieces::of(&**old, &path, believed);
            while let Some(piece) = pieces.next()? {
                atomic_file::write_all(new, new_path, piece, written)?;
                written += piece.len() as u64;
            }
        }
        if written < believed {
            return Err(StorageError::corrupt(&path, written, "the index shrinks"));
        }
        for told in told.chunks(PIECE_BYTES / ABORTED_TXN_BYTES) {
            let piece: Vec<u8> = told.iter().flat_map(AbortedTxn::encode).collect();
            atomic_file::write_all(new, new_path, &piece, written)?;
            written += piece.len() as u64;
        }
        Ok(())
    })
}

/// The front of a file, piece by piece.
struct Pieces<'a> {
    file: &'a dyn File,
    path: &'a Path,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn of(file: &'a dyn File, path: &'a Path, end: u64) -> Self {
        Self {
            file,
            path,
            position: 0,
            end,
            buffer: vec![0; PIECE_BYTES],
        }
    }

    /// The next one; `None` at the end, or where the file ends before it.
    fn next(&mut self) -> Result<Option<&[u8]>, StorageError> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let buffer = &mut self.buffer[..left.min(PIECE_BYTES)];
        let filled = atomic_file::read_full(self.file, self.path, buffer, self.position)?;
        self.position += filled as u64;
        Ok((filled > 0).then_some(&self.buffer[..filled]))
    }
}
