//! Reading the log again.
//!
//! Input: the files of `metadata.log.dir`. Output: the entries, and files that take appends; or
//! what was lost.
//!
//! Invariants:
//! - only what was never flushed is cut off. Each entry says up to where its file was flushed when
//!   it was written: if there is one behind the bad bytes that knows them flushed, they are
//!   corrupt, not torn, and the node stops;
//! - after a clean stop nothing is cut: the log must reach to where it was closed (`closed.rs`);
//! - entries follow each other without a gap, within a file and from file to file;
//! - what was read is on the disk before anybody relies on it: after `kill -9` it may be in memory
//!   only, and after a failed flush a second one would not write it. So the end of the last file,
//!   behind the last witness of a flush, is written anew past the page cache. The files before it
//!   were flushed before it was begun.
//!
//! Source: own design.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::{Disk, EntryKind};
use skein_metadata::envelope::{self, HEADER_BYTES};
use skein_metadata::{EnvelopeError, LogId};
use skein_storage::segment_file::{Frames, Head, SegmentFile};

use super::{Closed, LogFile, LogFiles, path_of, remove_file, sync_directory};
use crate::QuorumError;
use crate::frozen::{self, BLANK, FILE_HEAD, FRAME_PAYLOAD_MAX};
use crate::types::{RaftEntryOf, log_id_of};

/// The log as it was found.
pub(crate) struct Recovered {
    pub(crate) files: LogFiles,
    /// The entries, oldest first.
    pub(crate) entries: VecDeque<RaftEntryOf>,
    /// The entry before them.
    pub(crate) purged: Option<LogId>,
    /// What was cut off.
    pub(crate) cut: Option<Cut>,
}

/// A torn end that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) path: PathBuf,
    /// Where the last whole entry ends.
    pub(crate) end: u64,
    /// Bytes behind it.
    pub(crate) bytes: u64,
    pub(crate) reason: &'static str,
}

/// Reads the log in `directory`.
pub(crate) fn recover(disk: Arc<dyn Disk>, directory: &Path) -> Result<Recovered, QuorumError> {
    let numbers = numbers(&*disk, directory)?;
    let closed = Closed::read(&*disk, directory)?;
    if let Some(closed) = closed {
        closed.check_last(directory, numbers.last().copied())?;
    }
    let mut recovery = Recovery {
        disk: &*disk,
        directory,
        closed,
        files: Vec::new(),
        entries: VecDeque::new(),
        purged: None,
        last: None,
        cut: None,
    };
    for (position, number) in numbers.iter().enumerate() {
        recovery.read(*number, position + 1 == numbers.len())?;
    }
    sync_directory(&*disk, directory)?;
    let Recovery {
        files,
        entries,
        purged,
        last,
        cut,
        ..
    } = recovery;
    let files = LogFiles {
        disk,
        directory: directory.to_path_buf(),
        files,
        next_number: numbers.last().map_or(0, |number| number + 1),
        last,
        names_unflushed: false,
        is_closed: closed.is_some(),
        failed: false,
        _lock: None,
    };
    Ok(Recovered {
        files,
        entries,
        purged,
        cut,
    })
}

/// The numbers of the files, ascending.
fn numbers(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, QuorumError> {
    let entries = disk
        .read_directory(directory)
        .map_err(|source| QuorumError::io("list", directory, source))?;
    let mut numbers: Vec<u64> = entries
        .into_iter()
        .filter(|(_, kind)| matches!(kind, EntryKind::File(_)))
        .filter_map(|(name, _)| {
            let digits = name.to_str()?.strip_suffix(".log")?;
            (digits.len() == 20).then(|| digits.parse().ok()).flatten()
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The names of the files.
pub(crate) fn log_file_names(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<Vec<String>, QuorumError> {
    let numbers = numbers(disk, directory)?.into_iter();
    Ok(numbers.map(|number| format!("{number:020}.log")).collect())
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    closed: Option<Closed>,
    files: Vec<LogFile>,
    entries: VecDeque<RaftEntryOf>,
    purged: Option<LogId>,
    last: Option<LogId>,
    cut: Option<Cut>,
}

impl Recovery<'_> {
    fn read(&mut self, number: u64, is_last: bool) -> Result<(), QuorumError> {
        let path = &path_of(self.directory, number);
        let mut file = SegmentFile::open(self.disk, path)?;
        let mut reader = Reader {
            previous: None,
            entries: Vec::new(),
            starts: vec![],
            flushed_end: 0,
            wrong: None,
        };
        let scan = file.scan(0, &mut reader)?;
        if let Some(reason) = reader.wrong {
            return Err(QuorumError::lost(
                path,
                format!("corrupt at byte {}: {reason}", scan.end),
            ));
        }
        if let Some(closed) = self.closed {
            closed.check(path, number, scan.end)?;
        }
        if let Some(reason) = scan.fault {
            if !is_last || knows_flushed(&file, scan.end)? {
                let reason = format!("corrupt at byte {}: {reason}", scan.end);
                return Err(QuorumError::lost(path, reason));
            }
            let bytes = file.end() - scan.end;
            self.cut = Some(Cut {
                path: path.to_path_buf(),
                end: scan.end,
                bytes,
                reason,
            });
        }
        let Some(previous) = reader.previous else {
            // Not even its head was flushed: nothing in it was acknowledged.
            return if is_last {
                remove_file(self.disk, self.directory, path)
            } else {
                Err(QuorumError::lost(path, "corrupt at byte 0: it has no head"))
            };
        };
        if scan.fault.is_some() {
            file.recover(0, &mut Whole)?;
        }
        self.take(path, previous, &reader.entries)?;
        if is_last {
            file.rewrite_from(reader.flushed_end.min(file.end()))?;
        } else {
            file.seal();
        }
        let flushed_end = file.end();
        let first_index = reader.entries.first().map_or_else(
            || previous.map_or(0, |previous| previous.index + 1),
            |first| log_id_of(first).index,
        );
        self.files.push(LogFile {
            number,
            file,
            first_index,
            starts: reader.starts,
            flushed_end,
        });
        self.entries.extend(reader.entries);
        Ok(())
    }

    /// Checks that the entries of a file go on where the former file ended.
    fn take(
        &mut self,
        path: &Path,
        previous: Option<LogId>,
        entries: &[RaftEntryOf],
    ) -> Result<(), QuorumError> {
        if self.files.is_empty() {
            self.purged = previous;
            self.last = previous;
        } else if previous
            .is_some_and(|previous| self.last.is_none_or(|last| last.index < previous.index))
            && self
                .entries
                .iter()
                .all(|entry| Some(log_id_of(entry)) <= previous)
        {
            // Everything before was purged; the crash came before the files were removed.
            self.entries.clear();
            self.purged = previous;
            self.last = previous;
        } else if previous != self.last {
            return Err(QuorumError::lost(
                path,
                "not the continuation of the file before it",
            ));
        }
        for entry in entries {
            let log_id = log_id_of(entry);
            let follows = match self.last {
                Some(last) => log_id.index == last.index + 1 && log_id.term >= last.term,
                None => true, // an empty log may begin anywhere
            };
            if !follows {
                let reason = format!("corrupt: entry {log_id} does not follow the one before it");
                return Err(QuorumError::lost(path, reason));
            }
            self.last = Some(log_id);
        }
        Ok(())
    }
}

/// Reads the frames of a file.
struct Reader {
    /// What the file's head says; `None` as long as there is no head.
    previous: Option<Option<LogId>>,
    entries: Vec<RaftEntryOf>,
    starts: Vec<u64>,
    /// Up to where the entries know the file to be flushed.
    flushed_end: u64,
    /// What is wrong with a frame whose checksum is right: no crash makes such a thing.
    wrong: Option<String>,
}

impl Frames for Reader {
    fn head_bytes(&self) -> usize {
        HEADER_BYTES
    }

    fn head(&mut self, _position: u64, head: &[u8]) -> Head {
        frame_length(head)
    }

    fn body(&mut self, position: u64, frame: &[u8]) -> Result<(), &'static str> {
        let Ok((envelope, _)) = envelope::read(frame, FRAME_PAYLOAD_MAX) else {
            return Err("the checksum does not match");
        };
        let result = if position == 0 {
            frozen::read_file_head(&envelope).map(|previous| self.previous = Some(previous))
        } else {
            frozen::read_entry(&envelope).map(|(entry, flushed_end)| {
                self.flushed_end = self.flushed_end.max(flushed_end);
                self.entries.push(entry);
                self.starts.push(position);
            })
        };
        result.map_err(|error: EnvelopeError| {
            self.wrong = Some(error.to_string());
            "it can't be read"
        })
    }
}

/// Walks over whole frames.
struct Whole;

impl Frames for Whole {
    fn head_bytes(&self) -> usize {
        HEADER_BYTES
    }

    fn head(&mut self, _position: u64, head: &[u8]) -> Head {
        frame_length(head)
    }

    fn body(&mut self, _position: u64, frame: &[u8]) -> Result<(), &'static str> {
        match envelope::read(frame, FRAME_PAYLOAD_MAX) {
            Ok(_) => Ok(()),
            Err(_) => Err("the checksum does not match"),
        }
    }
}

fn frame_length(head: &[u8]) -> Head {
    let kind = head
        .first_chunk::<2>()
        .map_or(0, |bytes| u16::from_le_bytes(*bytes));
    if !(BLANK..=FILE_HEAD).contains(&kind) {
        return Head::Bad("it is no frame of a log");
    }
    match envelope::length(head, FRAME_PAYLOAD_MAX) {
        Ok(length) => Head::Read(length as u64),
        Err(_) => Head::Bad("it is longer than a frame can be"),
    }
}

/// Whether a whole entry behind `fault` says that the bytes at `fault` were flushed.
fn knows_flushed(file: &SegmentFile, fault: u64) -> Result<bool, QuorumError> {
    let length = usize::try_from(file.end() - fault).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let count = file
            .file()
            .read_at(&mut bytes[filled..], fault + filled as u64)
            .map_err(|source| QuorumError::io("read", file.path(), source))?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    // Where the next frame starts is not known: the bad one's length may be what is bad.
    Ok((1..filled).any(|at| {
        let rest = &bytes[at..filled];
        if rest.len() < HEADER_BYTES
            || !matches!(frame_length(&rest[..HEADER_BYTES]), Head::Read(_))
        {
            return false;
        }
        let entry = envelope::read(rest, FRAME_PAYLOAD_MAX)
            .and_then(|(envelope, _)| frozen::read_entry(&envelope));
        entry.is_ok_and(|(_, flushed_end)| flushed_end > fault)
    }))
}
