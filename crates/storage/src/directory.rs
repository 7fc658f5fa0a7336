//! Directories that outlive a power cut.
//!
//! Input: a path. Output: the directory, with its parents, there and durable.
//!
//! Invariants: when [`create_directory`] returns, a power cut takes no name on the way to the
//! directory away, whoever made it: a process that was killed may have made some of them and
//! flushed none.
//!
//! Source: `fsync(2)`: a file's name needs a flush of its directory.

use std::io;
use std::path::Path;

use skein_env::Disk;

use crate::StorageError;
use crate::atomic_file;

/// Makes the directory and its parents, durably.
///
/// # Errors
/// What the disk says.
pub fn create_directory(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    disk.create_directory(path)
        .map_err(|source| StorageError::io("create the directory", path, source))?;
    for parent in path.ancestors().skip(1) {
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        match atomic_file::sync_directory(disk, parent) {
            // A parent that we may not read, or that lies where there is nothing to flush, is none
            // that we made.
            Err(StorageError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
                ) => {}
            other => other?,
        }
    }
    Ok(())
}
