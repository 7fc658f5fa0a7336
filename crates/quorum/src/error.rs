//! What can go wrong with the quorum.
//!
//! Input: failures of the disk, of what is on it, of Raft. Output: errors with a path and what to
//! do.
//!
//! Invariant: an error that needs a person says so in words that tell the person what to do.

use std::io;
use std::path::{Path, PathBuf};

use skein_controller::FORGOTTEN;
use skein_storage::StorageError;

/// A failure of the quorum on this node.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    /// A call on a file or directory failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A call on a file of the log failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another process uses the directory.
    #[error(
        "{} is in use by another process; stop it, or give this node another metadata.log.dir",
        .path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file does not hold what this node once wrote and flushed.
    #[error(
        "{} is {reason}. This node took part in a cluster and must not found another: restore \
         the directory from a copy that was taken while the node was stopped; only if the \
         cluster's metadata is lost for good, move the whole directory away and start anew",
        .path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A peer list, and no way to the peers.
    #[error("cluster.peers names {count} peers, which only a running node reaches: leave it empty")]
    Peers {
        /// How many.
        count: usize,
    },
    /// The peer list names a node twice.
    #[error("cluster.peers names {address} twice")]
    PeerTwice {
        /// Its address.
        address: String,
    },
    /// The cluster has taken this node out for good.
    #[error("{FORGOTTEN}")]
    Forgotten,
    /// There is no founding record to drop.
    #[error("{}: {reason}", .directory.display())]
    NoRecord {
        /// The directory.
        directory: PathBuf,
        /// What there is instead.
        reason: String,
    },
    /// Raft stopped or did not start.
    #[error("the metadata quorum has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl QuorumError {
    /// The error `source` of the call `operation` on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_path_buf(),
            source,
        }
    }

    /// The file at `path` is not what it was.
    pub(crate) fn lost(path: &Path, reason: impl Into<String>) -> Self {
        Self::Lost {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    /// Raft is not, for this reason.
    pub(crate) fn stopped(reason: impl ToString) -> Self {
        Self::Stopped {
            reason: reason.to_string(),
        }
    }

    /// Whether the device has no room.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Storage(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// As openraft takes errors of its storage.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Io {
                operation,
                path,
                source,
            } => {
                let message = format!("cannot {operation} {}: {source}", path.display());
                io::Error::new(source.kind(), message)
            }
            other => io::Error::other(other),
        }
    }
}
