//! What can go wrong between the log and the disk.
//!
//! Input: what the disk answered, where, and what was being done. Output: one error type with path,
//! position, source, and what an operator can do about it.
//!
//! Invariants: every error names the file it is about; [`StorageError::severity`] says what the
//! caller has to do, so that nobody matches on the text or on an error number.
//!
//! Source: errno(3) for the numbers.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the disk, or of what is on it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A call on a file or directory failed.
    #[error("cannot {operation} {}{}: {source}", .path.display(), at(.position))]
    Io {
        /// What was being done, as a verb: "write", "rename".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Position in the file in bytes, where there is one.
        position: Option<u64>,
        /// What the system said.
        source: io::Error,
    },
    /// A write stored only a part of its bytes, as it does when the device fills up.
    #[error("wrote {written} of {wanted} bytes to {} at byte {position}", .path.display())]
    ShortWrite {
        /// The file.
        path: PathBuf,
        /// Where the write began, in bytes.
        position: u64,
        /// Bytes that were stored.
        written: u64,
        /// Bytes that should have been.
        wanted: u64,
    },
    /// The device had no room for an append, so the append was not tried.
    #[error(
        "{} is full: {usable_bytes} bytes are free, {wanted_bytes} are needed",
        .path.display()
    )]
    Full {
        /// The log directory.
        path: PathBuf,
        /// Bytes this process may still write.
        usable_bytes: u64,
        /// Bytes that the append needs.
        wanted_bytes: u64,
    },
    /// Bytes that were known to be on the disk are not what was written.
    #[error("{} is corrupt at byte {position}: {reason}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the bad bytes begin.
        position: u64,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A small text file does not have the form it must have, and can't be rebuilt.
    #[error("{} line {line}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process uses the log directory.
    #[error("{} is locked by another process", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An earlier failure left the file in an unknown state; it takes no more writes.
    #[error("{} failed earlier and takes no more writes", .path.display())]
    Broken {
        /// The file or directory.
        path: PathBuf,
    },
}

/// What an error means for the replica that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The disk is full: nothing is lost, the same call may succeed later.
    Retriable,
    /// This replica must go offline and be restored from its peers.
    Replica,
    /// The device fails: every replica in the log directory must go offline.
    Directory,
    /// The node can't start with this directory.
    Startup,
}

impl StorageError {
    /// The error `source` of the call `operation` on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_path_buf(),
            position: None,
            source,
        }
    }

    /// The error `source` of the call `operation` on `path` at `position`.
    pub(crate) fn io_at(
        operation: &'static str,
        path: &Path,
        position: u64,
        source: io::Error,
    ) -> Self {
        Self::Io {
            operation,
            path: path.to_path_buf(),
            position: Some(position),
            source,
        }
    }

    /// Bad bytes in `path` at `position`.
    pub(crate) fn corrupt(path: &Path, position: u64, reason: &'static str) -> Self {
        Self::Corrupt {
            path: path.to_path_buf(),
            position,
            reason,
        }
    }

    /// The file or directory that this is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::ShortWrite { path, .. }
            | Self::Full { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Format { path, .. }
            | Self::Locked { path }
            | Self::Broken { path } => path,
        }
    }

    /// What the caller has to do.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Io { source, .. } if is_full(source) || is_shortage(source) => {
                Severity::Retriable
            }
            Self::Io { source, .. } if is_about_one_file(source) => Severity::Replica,
            Self::Io { .. } => Severity::Directory,
            Self::ShortWrite { .. } | Self::Full { .. } => Severity::Retriable,
            Self::Corrupt { .. } | Self::Broken { .. } => Severity::Replica,
            Self::Format { .. } | Self::Locked { .. } => Severity::Startup,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if is_full(source) => REMEDY_FULL,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "give the user that runs skein read and write permission on the log directory"
            }
            Self::Io { source, .. } if source.raw_os_error() == Some(EMFILE) => {
                "raise the limit on open files (ulimit -n)"
            }
            Self::Io { source, .. } if is_of_another_kind(source) => {
                "move away what stands there in the place of a file or directory of the log, and \
                 restore that from a backup"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => REMEDY_LOST,
            Self::Io { .. } => "check the device (dmesg, smartctl); replace it, then start again",
            Self::ShortWrite { .. } | Self::Full { .. } => REMEDY_FULL,
            Self::Corrupt { .. } => REMEDY_CORRUPT,
            Self::Broken { .. } => REMEDY_LOST,
            Self::Format { .. } => {
                "use the version of skein that wrote the file, or another log.dirs"
            }
            Self::Locked { .. } => "stop the other process, or give this one another log.dirs",
        }
    }

    /// Whether the device, or this user's share of it, has no room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::ShortWrite { .. } | Self::Full { .. } => true,
            _ => false,
        }
    }

    /// Whether the file or directory was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

const REMEDY_FULL: &str = "make room on the device: shorten retention, delete topics, or grow it";
const REMEDY_CORRUPT: &str = "restore the partition from its other replicas, or from a backup \
    (skein log verify tells what is damaged). To give up what lies behind the damage instead: stop \
    the node, remove refused-recovery-point in the partition's directory, lower its line in \
    recovery-point-offset-checkpoint to the last good offset, and start again";
const REMEDY_LOST: &str = "restore the partition from its other replicas, or from a backup";
/// "Too many open files", of the process and of the system; std has no kind for them.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Whether the process, not the device, lacks something that may come back.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted
    ) || matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Whether somebody has put something else, or nothing, where a file or directory should be, or may
/// look after it alone: nothing is said about the device and the other logs.
fn is_about_one_file(error: &io::Error) -> bool {
    is_of_another_kind(error)
        || matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        )
}

/// A directory in the place of a file, or a file in that of a directory.
fn is_of_another_kind(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory
    )
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn at(position: &Option<u64>) -> String {
    position.map_or_else(String::new, |position| format!(" at byte {position}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_retriable_and_a_failing_one_is_not() {
        let error = |number| {
            StorageError::io_at(
                "write",
                Path::new("/d/x"),
                7,
                io::Error::from_raw_os_error(number),
            )
        };
        const ENOSPC: i32 = 28;
        const EIO: i32 = 5;
        assert_eq!(error(ENOSPC).severity(), Severity::Retriable);
        assert_eq!(error(EIO).severity(), Severity::Directory);
        assert_eq!(error(ENOSPC).remedy(), REMEDY_FULL);
        // ENOENT, EACCES, ENOTDIR, EISDIR: of the one log, and a new device would not help.
        for number in [2, 13, 20, 21] {
            let error = error(number);
            assert_eq!(error.severity(), Severity::Replica, "{error}");
            assert!(!error.remedy().contains("device"), "{error}");
        }
        assert!(
            error(EIO)
                .to_string()
                .starts_with("cannot write /d/x at byte 7: ")
        );
    }
}
