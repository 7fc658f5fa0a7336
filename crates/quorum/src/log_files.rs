//! The log on disk: files of frames in `metadata.log.dir`.
//!
//! ```text
//!  00000000000000000007.log: head(previous entry) entry entry ...  numbered as they are made
//!  00000000000000000008.log: head(previous entry) entry entry ...  the last takes the appends
//!  closed: where the last one ended at a clean stop                gone before the next write
//! ```
//!
//! Input: entries, cuts, purges, in the order in which Raft asks for them. Output: the same,
//! durable.
//!
//! Invariants:
//! - a file is begun only when the one before it is flushed, so that only the last can be torn;
//! - files go one by one, each removal flushed: at the end when Raft cuts the log, at the beginning
//!   when it purges it, so that no crash leaves a hole;
//! - after a failure the files take nothing more: what is in memory and what is on disk may differ.
//!
//! Source: Raft's persistent log; `skein_storage::segment_file` for a single file.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::{Disk, LockGuard};
use skein_metadata::{EnvelopeError, LogId};
use skein_storage::StorageError;
use skein_storage::segment_file::SegmentFile;

use crate::types::{RaftEntryOf, RaftVote, log_id_of};
use crate::{QuorumError, frozen, small_file};

mod closed;
mod recovery;

pub(crate) use closed::Closed;
pub(crate) use recovery::{Recovered, log_file_names, recover};

/// Name of the file with the vote.
pub(crate) const VOTE_FILE: &str = "vote";
/// A file that is longer takes no further appends.
const FILE_ROLL_BYTES: u64 = 8 * 1024 * 1024;

/// The log's files, and the lock of their directory.
pub(crate) struct LogFiles {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// Oldest first.
    files: Vec<LogFile>,
    next_number: u64,
    /// The last entry, or the last purged one if there is none.
    last: Option<LogId>,
    /// Whether a new file's name is not flushed yet.
    names_unflushed: bool,
    /// Whether a clean stop has told where the log ends.
    is_closed: bool,
    failed: bool,
    _lock: Option<Box<dyn LockGuard>>,
}

/// One of them.
struct LogFile {
    number: u64,
    file: SegmentFile,
    /// Index of its first entry, there or to come.
    first_index: u64,
    /// Where each of its entries starts.
    starts: Vec<u64>,
    /// Everything below is on the disk.
    flushed_end: u64,
}

impl LogFile {
    /// The index behind its last entry.
    fn end_index(&self) -> u64 {
        self.first_index + self.starts.len() as u64
    }
}

impl LogFiles {
    /// Keeps the directory's lock for as long as the files are open.
    pub(crate) fn hold(&mut self, lock: Box<dyn LockGuard>) {
        self._lock = Some(lock);
    }

    /// Whether there is a file: without one the log was never begun.
    pub(crate) fn is_begun(&self) -> bool {
        !self.files.is_empty()
    }

    /// Writes entries, which follow the last one. They are durable after [`LogFiles::flush`].
    pub(crate) fn append(&mut self, entries: &[RaftEntryOf]) -> Result<(), QuorumError> {
        self.guarded(|files| files.append_unguarded(entries))
    }

    /// Makes all entries durable.
    pub(crate) fn flush(&mut self) -> Result<(), QuorumError> {
        self.guarded(Self::flush_unguarded)
    }

    /// Takes the entries behind `after` away, durably; all of them if it is `None`.
    pub(crate) fn truncate_after(&mut self, after: Option<LogId>) -> Result<(), QuorumError> {
        self.guarded(|files| files.truncate_unguarded(after))
    }

    /// Lets go of entries up to `upto`; whole files only, so that some of them may come back after
    /// a restart, where they do no harm.
    pub(crate) fn purge(&mut self, upto: LogId) -> Result<(), QuorumError> {
        self.guarded(|files| files.purge_unguarded(upto))
    }

    /// Makes the vote durable.
    pub(crate) fn save_vote(&mut self, vote: &RaftVote) -> Result<(), QuorumError> {
        self.guarded(|files| {
            let bytes = frozen::vote_bytes(vote).map_err(|error| files.oversized(&error))?;
            #[cfg(feature = "mutations")]
            if skein_types::mutation::has(skein_types::mutation::Mutation::VoteNotFlushed) {
                let (disk, directory) = (&*files.disk, &files.directory);
                return small_file::replace_unflushed(disk, directory, VOTE_FILE, &bytes);
            }
            small_file::replace(&*files.disk, &files.directory, VOTE_FILE, &[&bytes])
        })
    }

    /// Ends the use of the files, and tells the next process where they end.
    pub(crate) fn close(mut self) -> Result<(), QuorumError> {
        self.guarded(|files| {
            files.flush_unguarded()?;
            let Some(last) = files.files.last() else {
                return Ok(());
            };
            let (number, end) = (last.number, last.file.end());
            Closed { number, end }.write(&*files.disk, &files.directory)
        })
    }

    fn guarded(
        &mut self,
        call: impl FnOnce(&mut Self) -> Result<(), QuorumError>,
    ) -> Result<(), QuorumError> {
        if self.failed {
            let path = self.directory.clone();
            return Err(QuorumError::Storage(StorageError::Broken { path }));
        }
        let result = self.begin_use().and_then(|()| call(self));
        self.failed = result.is_err();
        result
    }

    /// From here on the log need not end where it did.
    fn begin_use(&mut self) -> Result<(), QuorumError> {
        if self.is_closed {
            remove_file(&*self.disk, &self.directory, &closed::path(&self.directory))?;
            self.is_closed = false;
        }
        Ok(())
    }

    fn append_unguarded(&mut self, entries: &[RaftEntryOf]) -> Result<(), QuorumError> {
        let Some(last) = entries.last().map(log_id_of) else {
            return Ok(());
        };
        let full = |file: &LogFile| file.file.is_sealed() || file.file.end() >= FILE_ROLL_BYTES;
        if self.files.last().is_none_or(full) {
            let first_index = entries.first().map_or(0, |first| log_id_of(first).index);
            self.begin_file(self.last, first_index)?;
        }
        let directory = &self.directory;
        let Some(file) = self.files.last_mut() else {
            return Err(QuorumError::lost(directory, "without a file to append to"));
        };
        let mut bytes = Vec::new();
        let mut starts = Vec::with_capacity(entries.len());
        for entry in entries {
            starts.push(file.file.end() + bytes.len() as u64);
            frozen::write_entry(entry, file.flushed_end, &mut bytes)
                .map_err(|error| QuorumError::lost(directory, error.to_string()))?;
        }
        file.file
            .append(&[IoSlice::new(&bytes)])
            .map_err(|error| error.cause)?;
        file.starts.extend(starts);
        self.last = Some(last);
        Ok(())
    }

    fn flush_unguarded(&mut self) -> Result<(), QuorumError> {
        #[cfg(feature = "mutations")]
        if skein_types::mutation::has(skein_types::mutation::Mutation::MetadataUnflushed) {
            return Ok(());
        }
        if let Some(file) = self.files.last_mut()
            && file.flushed_end < file.file.end()
        {
            file.file.flush()?;
            file.flushed_end = file.file.end();
        }
        if self.names_unflushed {
            sync_directory(&*self.disk, &self.directory)?;
            self.names_unflushed = false;
        }
        Ok(())
    }

    /// Begins a file for the entries from `first_index` on, which follow `previous`.
    fn begin_file(&mut self, previous: Option<LogId>, first_index: u64) -> Result<(), QuorumError> {
        self.flush_unguarded()?;
        let number = self.next_number;
        let path = path_of(&self.directory, number);
        let mut file = SegmentFile::create(&*self.disk, &path)?;
        self.next_number += 1;
        self.names_unflushed = true;
        let mut head = Vec::new();
        frozen::write_file_head(previous, &mut head).map_err(|error| self.oversized(&error))?;
        file.append(&[IoSlice::new(&head)])
            .map_err(|error| error.cause)?;
        self.files.push(LogFile {
            number,
            file,
            first_index,
            starts: Vec::new(),
            flushed_end: 0,
        });
        Ok(())
    }

    fn truncate_unguarded(&mut self, after: Option<LogId>) -> Result<(), QuorumError> {
        let end = after.map_or(0, |after| after.index + 1);
        while self.files.len() > 1 && self.files.last().is_some_and(|f| f.first_index >= end) {
            if let Some(file) = self.files.pop() {
                self.remove(file)?;
            }
        }
        if let Some(file) = self.files.last_mut() {
            let kept = usize::try_from(end.saturating_sub(file.first_index)).unwrap_or(usize::MAX);
            if let Some(start) = file.starts.get(kept).copied() {
                file.file.truncate(start)?;
                file.starts.truncate(kept);
                file.flushed_end = start;
            }
        }
        self.last = after;
        Ok(())
    }

    fn purge_unguarded(&mut self, upto: LogId) -> Result<(), QuorumError> {
        if self.last.is_none_or(|last| last.index <= upto.index) {
            // Nothing stays. The new file says where the log goes on.
            self.begin_file(Some(upto), upto.index + 1)?;
            self.flush_unguarded()?;
            self.last = Some(upto);
        }
        while self.files.len() > 1 && self.files[0].end_index() <= upto.index + 1 {
            let file = self.files.remove(0);
            self.remove(file)?;
        }
        Ok(())
    }

    fn remove(&self, file: LogFile) -> Result<(), QuorumError> {
        remove_file(&*self.disk, &self.directory, file.file.path())
    }

    fn oversized(&self, error: &EnvelopeError) -> QuorumError {
        QuorumError::lost(&self.directory, error.to_string())
    }
}

/// The path of the file `number`.
fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.log"))
}

/// Removes a file of the directory, durably.
fn remove_file(disk: &dyn Disk, directory: &Path, path: &Path) -> Result<(), QuorumError> {
    disk.remove_file(path)
        .map_err(|source| QuorumError::io("remove", path, source))?;
    sync_directory(disk, directory)
}

fn sync_directory(disk: &dyn Disk, directory: &Path) -> Result<(), QuorumError> {
    disk.sync_directory(directory)
        .map_err(|source| QuorumError::io("flush", directory, source))
}

#[cfg(test)]
mod tests;
