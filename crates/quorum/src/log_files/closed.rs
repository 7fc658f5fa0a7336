//! Where the log ended at a clean stop.
//!
//! Input: the last file of a log that is closed, and its end. Output: a small file that says so,
//! and that is gone before the log is written again.
//!
//! After a crash a log may end early: its last writes were torn. After a clean stop it may not, and
//! what was taken from its end is lost, though nothing behind it bears witness of that.
//!
//! Invariants:
//! - the file is written when everything else is flushed, and is gone, durably, before the first
//!   write after it ([`LogFiles::close`], `LogFiles::guarded`);
//! - a log that is longer than it says is no fault: a version that does not know the file may have
//!   written it.
//!
//! Source: own design.
//!
//! [`LogFiles::close`]: super::LogFiles::close

use std::path::{Path, PathBuf};

use skein_env::Disk;

use crate::frozen::{self, SMALL_FILE_MAX};
use crate::{QuorumError, small_file};

/// Name of the file.
const CLOSED_FILE: &str = "closed";

/// The end of a log at a clean stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Number of the last file.
    pub(crate) number: u64,
    /// Its length in bytes.
    pub(crate) end: u64,
}

impl Closed {
    /// What the last clean stop left, if the log was not written since.
    pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, QuorumError> {
        let path = directory.join(CLOSED_FILE);
        let bytes = small_file::read(disk, &path, SMALL_FILE_MAX)?;
        let closed = bytes.map(|bytes| frozen::closed_of(&bytes)).transpose();
        closed.map_err(|error| QuorumError::lost(&path, format!("corrupt: {error}")))
    }

    /// Writes the file, durably.
    pub(super) fn write(self, disk: &dyn Disk, directory: &Path) -> Result<(), QuorumError> {
        let bytes = frozen::closed_bytes(self)
            .map_err(|error| QuorumError::lost(directory, error.to_string()))?;
        small_file::replace(disk, directory, CLOSED_FILE, &[&bytes])
    }

    /// Checks that the file `number`, which is good up to `end`, is as long as it was.
    pub(super) fn check(self, path: &Path, number: u64, end: u64) -> Result<(), QuorumError> {
        if number != self.number || end >= self.end {
            return Ok(());
        }
        let was = self.end;
        let reason = format!("good up to byte {end} only; at the last, clean stop it had {was}");
        Err(QuorumError::lost(path, reason))
    }

    /// Checks that the last file is still there, of which `last` is the number now.
    pub(super) fn check_last(self, directory: &Path, last: Option<u64>) -> Result<(), QuorumError> {
        if last >= Some(self.number) {
            return Ok(());
        }
        let path = super::path_of(directory, self.number);
        Err(QuorumError::lost(
            &path,
            "missing; it was there at the last, clean stop",
        ))
    }
}

/// Where the file is.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join(CLOSED_FILE)
}
