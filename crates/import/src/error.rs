//! Why a directory is not taken over.
//!
//! Input: what is wrong with the directory, the disk, the quorum. Output: errors with a path, what
//! is there, and what to do.
//!
//! Invariant: whatever the error, Kafka or a second import goes on from where the directory is.

use std::path::{Path, PathBuf};

use skein_quorum::QuorumError;
use skein_storage::StorageError;

use crate::{Finding, Weight};

/// Why a directory is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The directory is not one that can be taken over.
    #[error("{}: {what}", .path.display())]
    Unfit {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// Kafka's metadata log is not what Kafka wrote.
    #[error("{} at byte {position}: {what}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// Something of the directory cannot be taken.
    #[error("{}", stand_against(.0))]
    Refused(Vec<Finding>),
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The metadata could not be written.
    #[error("the metadata of Skein cannot be written: {0}")]
    Quorum(#[from] QuorumError),
    /// The process was ended.
    #[error("the import was stopped")]
    Stopped,
}

impl ImportError {
    pub(crate) fn unfit(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unfit {
            path: path.to_path_buf(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn corrupt(path: &Path, position: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_path_buf(),
            position,
            what: what.into(),
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Storage(StorageError::Io {
            operation,
            path: path.to_path_buf(),
            position: None,
            source,
        })
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            Self::Unfit { remedy, .. } => remedy,
            Self::Corrupt { .. } => {
                "start Kafka on the directory: if it comes up, stop it cleanly and try again; if \
                 not, restore the directory from a backup"
            }
            Self::Refused(_) => "what is said at each of them",
            Self::Storage(error) => error.remedy(),
            Self::Quorum(_) | Self::Stopped => "mend that, then run the import again",
        }
    }
}

fn stand_against(findings: &[Finding]) -> String {
    let refused = |finding: &&Finding| finding.weight == Weight::Refused;
    match findings.iter().filter(refused).count() {
        1 => "1 thing stands against the import".to_owned(),
        count => format!("{count} things stand against the import"),
    }
}
