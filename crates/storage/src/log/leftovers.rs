//! What is in a log's directory when it is opened.
//!
//! Input: the directory. Output: its segments; what interrupted steps left behind is finished or
//! removed.
//!
//! ```text
//!   .deleted            retention had taken it out     removed
//!   .cleaned            a compaction that did not end  removed
//!   .swap               a compaction that did          takes the place of what it replaces, unless
//!                                                      a .cleaned at or before it shows that its
//!                                                      set is not complete
//!   .txnindex.swap      its log has its name already   takes its own
//!   .tmp                a small file being replaced,   removed
//!                       a segment prepared ahead
//!   index without log   a segment half removed         removed
//! ```
//!
//! Invariants: a `.log` that may hold the only copy of a record is removed only when its
//! replacement is complete and flushed; the replacement takes its name when nothing that it
//! replaces is left, so that no two segments ever hold the same offsets.
//!
//! Source: `LogLoader.load` of Kafka 4.1.1.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use skein_env::{EntryKind, OpenMode};
use skein_types::Offset;

use super::batches::{BatchWalk, Visited};
use super::compaction;
use super::names::{self, FileKind, Leftover, Name};
use super::segment::Home;
use crate::StorageError;
use crate::atomic_file;
use crate::log_directory::CheckpointFile;
use crate::segment_file::scan_frames;

/// The segments of a log's directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Base offsets, and the bytes of their log files.
    pub(super) segments: BTreeMap<Offset, u64>,
    /// Those of them that have a transaction index.
    pub(super) with_aborted: BTreeSet<Offset>,
}

#[derive(Default)]
struct Found {
    segments: BTreeMap<Offset, u64>,
    others: BTreeSet<(Offset, FileKind)>,
    cleaned: Vec<(Offset, PathBuf)>,
    swaps: BTreeSet<(Offset, FileKind)>,
}

/// Reads the directory, which is made if it is missing, and tidies it. `is_compacting`: gaps in the
/// log's offsets are legal without a checkpoint that tells of them.
pub(super) fn list(home: &Home, is_compacting: bool) -> Result<Listing, StorageError> {
    let disk = home.disk();
    let entries = match disk.read_directory(&home.path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.create_directory(&home.path)
                .map_err(|source| StorageError::io("create the directory", &home.path, source))?;
            return Ok(Listing::default());
        }
        Err(source) => return Err(StorageError::io("list", &home.path, source)),
    };
    let mut found = Found::default();
    for (name, kind) in entries {
        let (Some(name), EntryKind::File(size)) = (name.to_str(), kind) else {
            continue;
        };
        match names::parse(name) {
            Name::Segment(base_offset, FileKind::Log) => {
                found.segments.insert(base_offset, size);
            }
            Name::Segment(base_offset, kind) => {
                found.others.insert((base_offset, kind));
            }
            Name::Leftover(Leftover::Swap(base_offset, kind)) => {
                found.swaps.insert((base_offset, kind));
            }
            Name::Leftover(leftover) => {
                let path = home.path.join(name);
                match leftover {
                    Leftover::Cleaned(base_offset) => found.cleaned.push((base_offset, path)),
                    _ => atomic_file::remove(&**disk, &path)?,
                }
            }
            Name::Other => {}
        }
    }
    finish_swaps(home, &mut found, is_compacting)?;
    // Last: until here they tell which swaps are not complete.
    for (_, path) in &found.cleaned {
        atomic_file::remove(&**disk, path)?;
    }
    remove_orphans(home, &found)?;
    let of_kind = |&(base, kind): &(Offset, FileKind)| (kind == FileKind::TxnIndex).then_some(base);
    Ok(Listing {
        with_aborted: found.others.iter().filter_map(of_kind).collect(),
        segments: found.segments,
    })
}

fn finish_swaps(home: &Home, found: &mut Found, is_compacting: bool) -> Result<(), StorageError> {
    let disk = &**home.disk();
    let incomplete_from = found
        .cleaned
        .iter()
        .map(|(base_offset, _)| *base_offset)
        .min();
    let incomplete_from = incomplete_from.unwrap_or(Offset(i64::MAX));
    let swaps = std::mem::take(&mut found.swaps);
    for (base_offset, kind) in swaps.iter().copied() {
        let from = names::swap(&home.file(base_offset, kind));
        if kind == FileKind::TxnIndex
            && is_next(found, base_offset)
            && base_offset < incomplete_from
        {
            disk.rename(&from, &home.file(base_offset, kind))
                .map_err(|source| StorageError::io("rename", &from, source))?;
            found.others.insert((base_offset, kind));
            continue;
        }
        if kind != FileKind::Log || base_offset >= incomplete_from {
            // Indexes are rebuilt: those in place belong to what is being replaced.
            atomic_file::remove(disk, &from)?;
            continue;
        }
        let Extent {
            end_offset,
            gaps_end,
            size,
        } = extent(home, &from, base_offset)?;
        let replaced: Vec<Offset> = found
            .segments
            .range(base_offset..end_offset)
            .map(|(base, _)| *base)
            .collect();
        if !is_compacting {
            // The policy has changed since: only the checkpoint says that its gaps are legal. What
            // is behind the last of them may not be compacted yet: the table of keys was full.
            checkpoint_gaps(home, gaps_end)?;
        }
        compaction::finish_swap(home, base_offset, &replaced)?;
        for replaced in replaced {
            found.segments.remove(&replaced);
            found.others.remove(&(replaced, FileKind::TxnIndex));
        }
        if swaps.contains(&(base_offset, FileKind::TxnIndex)) {
            found.others.insert((base_offset, FileKind::TxnIndex));
        }
        found.segments.insert(base_offset, size);
    }
    Ok(())
}

/// Whether the transaction index of the new segment is what does not have its name yet: it gets it
/// behind the log, of which the other indexes can be made anew.
fn is_next(found: &Found, base_offset: Offset) -> bool {
    found.segments.contains_key(&base_offset)
        && !found.others.contains(&(base_offset, FileKind::TxnIndex))
}

fn checkpoint_gaps(home: &Home, end: Offset) -> Result<(), StorageError> {
    let file = CheckpointFile::Cleaner;
    let known = home.directory.checkpointed(file, &home.partition);
    if known.is_some_and(|known| known >= end) {
        return Ok(());
    }
    home.directory.set_checkpointed(file, &home.partition, end)
}

/// A finished replacement.
struct Extent {
    end_offset: Offset,
    /// Behind this offset none is missing.
    gaps_end: Offset,
    /// In bytes.
    size: u64,
}

fn extent(
    home: &Home,
    path: &std::path::Path,
    base_offset: Offset,
) -> Result<Extent, StorageError> {
    let file = home
        .disk()
        .open(path, OpenMode::Read)
        .map_err(|source| StorageError::io("open", path, source))?;
    let size = file
        .length()
        .map_err(|source| StorageError::io("stat", path, source))?;
    let (mut gaps_end, mut before) = (base_offset, base_offset);
    let mut walk = BatchWalk {
        expected: base_offset,
        dense_from: Offset(i64::MAX),
        end: Offset(i64::MAX),
        verify_from: Offset::ZERO,
        visit: |visited: Visited<'_>| {
            if visited.header.base_offset > before {
                gaps_end = visited.header.base_offset;
            }
            before = visited.header.next_offset();
            Ok(())
        },
    };
    let scan = scan_frames(&*file, path, 0..size, &mut walk)?;
    match scan.fault {
        Some(reason) => Err(StorageError::corrupt(path, scan.end, reason)),
        None => {
            let end_offset = walk.expected.max(Offset(base_offset.0.saturating_add(1)));
            Ok(Extent {
                end_offset,
                gaps_end,
                size,
            })
        }
    }
}

fn remove_orphans(home: &Home, found: &Found) -> Result<(), StorageError> {
    for (base_offset, kind) in &found.others {
        if *kind != FileKind::Snapshot && !found.segments.contains_key(base_offset) {
            atomic_file::remove(&**home.disk(), &home.file(*base_offset, *kind))?;
        }
    }
    Ok(())
}
