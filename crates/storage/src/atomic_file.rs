//! Small files that are replaced as a whole.
//!
//! Input: a path and its new content. Output: after any crash the old content or the new one, never
//! a mixture.
//!
//! ```text
//! write x.tmp → flush x.tmp → rename x.tmp to x → flush the directory
//! ```
//!
//! Invariants: [`replace`] is durable when it returns; a file that is read is bounded by
//! [`FILE_MAX_BYTES`], so that a stray one does not fill the memory.
//!
//! Source: `org.apache.kafka.server.common.CheckpointFile` for the name of the temporary file.

use std::ffi::OsString;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use skein_env::{Disk, File, OpenMode};

use crate::StorageError;

/// Most bytes of a file that [`read`] reads: 100,000 partitions with long names are a fifth of it.
pub(crate) const FILE_MAX_BYTES: u64 = 128 * 1024 * 1024;

/// Replaces the content of the small file at `path`, durably.
///
/// # Errors
/// What the disk says; the file has the old content or the new one.
pub fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> Result<(), StorageError> {
    replace_unflushed(disk, path, content, true)?;
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    sync_directory(disk, directory)
}

/// Replaces the content of `path`; flushes the content if `flush`, the directory never.
///
/// A power cut may leave the old content, or, without `flush`, something that is neither.
pub(crate) fn replace_unflushed(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
    flush: bool,
) -> Result<(), StorageError> {
    replace_written(disk, path, flush, |file, temporary| {
        write_all(file, temporary, content, 0)
    })
}

/// As [`replace_unflushed`], for content that `write` puts into the new file, which is empty.
pub(crate) fn replace_written(
    disk: &dyn Disk,
    path: &Path,
    flush: bool,
    write: impl FnOnce(&dyn File, &Path) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let temporary = temporary_path(path);
    let file = disk
        .open(&temporary, OpenMode::CreateOrTruncate)
        .map_err(|source| StorageError::io("create", &temporary, source))?;
    write(&*file, &temporary)?;
    if flush {
        file.sync_data()
            .map_err(|source| StorageError::io("flush", &temporary, source))?;
    }
    disk.rename(&temporary, path)
        .map_err(|source| StorageError::io("rename", &temporary, source))
}

/// The content of `path`; `None` if there is no such file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StorageError::io("open", path, source)),
    };
    let length = file
        .length()
        .map_err(|source| StorageError::io("stat", path, source))?;
    if length > FILE_MAX_BYTES {
        return Err(StorageError::corrupt(
            path,
            FILE_MAX_BYTES,
            "the file is too long",
        ));
    }
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let filled = read_full(&*file, path, &mut content, 0)?;
    content.truncate(filled);
    Ok(Some(content))
}

/// Removes `path`; it may be missing.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match disk.remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

pub(crate) fn sync_directory(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    disk.sync_directory(path)
        .map_err(|source| StorageError::io("flush the directory", path, source))
}

/// Writes all of `content` at `position`, in as many calls as it takes.
pub(crate) fn write_all(
    file: &dyn File,
    path: &Path,
    content: &[u8],
    position: u64,
) -> Result<(), StorageError> {
    let mut written = 0;
    while written < content.len() {
        let at = position + written as u64;
        match file.write_at(&[IoSlice::new(&content[written..])], at) {
            Ok(0) => {
                let source = std::io::ErrorKind::StorageFull.into();
                return Err(StorageError::io_at("write", path, at, source));
            }
            Ok(count) => written += count,
            Err(source) => return Err(StorageError::io_at("write", path, at, source)),
        }
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends, and returns how much that was.
pub(crate) fn read_full(
    file: &dyn File,
    path: &Path,
    buffer: &mut [u8],
    position: u64,
) -> Result<usize, StorageError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = position + filled as u64;
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(source) => return Err(StorageError::io_at("read", path, at, source)),
        }
    }
    Ok(filled)
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".tmp");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FaultyDisk;

    #[test]
    fn content_is_replaced_and_read_back() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let path = directory.path().join("x");
        assert_eq!(read(&*disk, &path).unwrap(), None);
        replace(&*disk, &path, b"one").unwrap();
        replace(&*disk, &path, b"").unwrap();
        assert_eq!(read(&*disk, &path).unwrap().as_deref(), Some(&b""[..]));
        replace(&*disk, &path, b"two").unwrap();
        assert_eq!(read(&*disk, &path).unwrap().as_deref(), Some(&b"two"[..]));
        assert!(!directory.path().join("x.tmp").exists());
        remove(&*disk, &path).unwrap();
        remove(&*disk, &path).unwrap();
    }
}
