//! Whether a log directory takes appends.
//!
//! Input: what appends ran into. Output: take them, refuse them for now, or refuse them for good.
//!
//! ```text
//!           ENOSPC, short write                EIO, EROFS, …
//!  Online ─────────────────────► Full    any ─────────────────► Offline
//!     ▲       an append succeeds   │
//!     └────────────────────────────┘
//! ```
//!
//! A full directory asks the device for its free space before it tries an append again: a write
//! that is doomed would only have to be cut back.
//!
//! Invariants, held by [`Condition`]: a directory that is offline stays so until the node restarts;
//! reads go on in every state.
//!
//! Source: none.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use skein_env::Disk;

use crate::{Severity, StorageError};

/// Free bytes beyond the append itself that a full directory needs before it takes appends again:
/// indexes and checkpoints want room too.
const RESERVE_BYTES: u64 = 1024 * 1024;

const ONLINE: u8 = 0;
const FULL: u8 = 1;
const OFFLINE: u8 = 2;

/// Whether a log directory takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryState {
    /// It does.
    Online,
    /// The device is full: appends are refused retriably until there is room.
    Full,
    /// The device fails: appends are refused until the node restarts.
    Offline,
}

#[derive(Default)]
pub(crate) struct Condition(AtomicU8);

impl Condition {
    pub(crate) fn state(&self) -> DirectoryState {
        match self.0.load(Ordering::Relaxed) {
            ONLINE => DirectoryState::Online,
            FULL => DirectoryState::Full,
            _ => DirectoryState::Offline,
        }
    }

    /// Refuses an append of `wanted_bytes` that can't succeed. Costs one load while all is well.
    pub(crate) fn before_append(
        &self,
        disk: &dyn Disk,
        path: &Path,
        wanted_bytes: u64,
    ) -> Result<(), StorageError> {
        match self.state() {
            DirectoryState::Online => Ok(()),
            DirectoryState::Offline => Err(StorageError::Broken {
                path: path.to_path_buf(),
            }),
            DirectoryState::Full => {
                let space = disk
                    .space(path)
                    .map_err(|source| StorageError::io("stat", path, source))?;
                let (usable_bytes, path) = (space.usable_bytes, path.to_path_buf());
                if usable_bytes < wanted_bytes.saturating_add(RESERVE_BYTES) {
                    return Err(StorageError::Full {
                        path,
                        usable_bytes,
                        wanted_bytes,
                    });
                }
                Ok(())
            }
        }
    }

    pub(crate) fn on_append(&self, path: &Path) {
        // A plain load on the path of every append; the exchange only where there is news.
        if self.0.load(Ordering::Relaxed) == FULL
            && self
                .0
                .compare_exchange(FULL, ONLINE, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::info!(path = %path.display(), "the log directory has room again");
        }
    }

    pub(crate) fn on_error(&self, path: &Path, error: &StorageError) {
        match (error.severity(), self.state()) {
            (_, DirectoryState::Offline) => {}
            (Severity::Directory, _) => {
                self.0.store(OFFLINE, Ordering::Relaxed);
                let remedy = error.remedy();
                tracing::error!(path = %path.display(), %error, remedy, "the log directory fails");
            }
            (Severity::Retriable, DirectoryState::Online) if error.is_disk_full() => {
                let full =
                    self.0
                        .compare_exchange(ONLINE, FULL, Ordering::Relaxed, Ordering::Relaxed);
                if full.is_ok() {
                    let remedy = error.remedy();
                    tracing::warn!(path = %path.display(), %error, remedy, "the disk is full");
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EIO, ENOSPC, FaultyDisk};

    #[test]
    fn a_full_directory_recovers_and_a_failed_one_does_not() {
        let directory = tempfile::TempDir::new().unwrap();
        let (disk, path) = (FaultyDisk::new(), directory.path());
        let condition = Condition::default();
        let error =
            |number| StorageError::io("write", path, std::io::Error::from_raw_os_error(number));
        condition.before_append(&*disk, path, u64::MAX).unwrap();

        condition.on_error(path, &error(ENOSPC));
        assert_eq!(condition.state(), DirectoryState::Full);
        disk.set_usable_bytes(Some(RESERVE_BYTES + 9));
        let refused = condition.before_append(&*disk, path, 10).unwrap_err();
        assert!(matches!(
            refused,
            StorageError::Full {
                wanted_bytes: 10,
                ..
            }
        ));
        assert_eq!(refused.severity(), Severity::Retriable);
        disk.set_usable_bytes(Some(RESERVE_BYTES + 10));
        condition.before_append(&*disk, path, 10).unwrap();
        condition.on_append(path);
        assert_eq!(condition.state(), DirectoryState::Online);

        condition.on_error(path, &error(EIO));
        condition.on_append(path);
        condition.on_error(path, &error(ENOSPC));
        assert_eq!(condition.state(), DirectoryState::Offline);
        assert!(condition.before_append(&*disk, path, 10).is_err());
    }

    #[test]
    fn a_lack_of_descriptors_does_not_look_like_a_full_disk() {
        const EMFILE: i32 = 24;
        let condition = Condition::default();
        let path = Path::new("/d");
        let source = std::io::Error::from_raw_os_error(EMFILE);
        condition.on_error(path, &StorageError::io("open", path, source));
        assert_eq!(condition.state(), DirectoryState::Online);
    }
}
