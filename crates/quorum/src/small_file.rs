//! Small files that change whole: vote, identity, snapshot.
//!
//! Input: a directory, a name, bytes. Output: the file, durable, with the old bytes or the new ones
//! and never anything in between.
//!
//! Invariants: when [`replace`] returns, the new bytes survive a power cut; when it fails or never
//! returns, the file has the old bytes or the new ones.
//!
//! Source: `rename(2)`, `fsync(2)`.

use std::io;
use std::io::IoSlice;
use std::path::Path;

use skein_env::{Disk, OpenMode};

use crate::QuorumError;

/// Gives the file `name` in `directory` these bytes.
pub(crate) fn replace(
    disk: &dyn Disk,
    directory: &Path,
    name: &str,
    pieces: &[&[u8]],
) -> Result<(), QuorumError> {
    let temporary = directory.join(format!("{name}.tmp"));
    let path = directory.join(name);
    write_temporary(disk, &temporary, pieces).inspect_err(|_| {
        // What did not fit must not hold the room that there is. If it stays, the next try empties
        // it.
        let _ = disk.remove_file(&temporary);
    })?;
    disk.rename(&temporary, &path)
        .map_err(|source| QuorumError::io("rename", &temporary, source))?;
    disk.sync_directory(directory)
        .map_err(|source| QuorumError::io("flush", directory, source))
}

fn write_temporary(disk: &dyn Disk, temporary: &Path, pieces: &[&[u8]]) -> Result<(), QuorumError> {
    let file = disk
        .open(temporary, OpenMode::CreateOrTruncate)
        .map_err(|source| QuorumError::io("create", temporary, source))?;
    let mut position = 0;
    for piece in pieces {
        write_all(&*file, piece, position)
            .map_err(|source| QuorumError::io("write", temporary, source))?;
        position += piece.len() as u64;
    }
    file.sync_data()
        .map_err(|source| QuorumError::io("flush", temporary, source))
}

/// [`replace`] that leaves it to the system when it is on the disk.
#[cfg(feature = "mutations")]
pub(crate) fn replace_unflushed(
    disk: &dyn Disk,
    directory: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), QuorumError> {
    let (path, temporary) = (directory.join(name), directory.join("unflushed"));
    let failed = |source| QuorumError::io("replace", &path, source);
    let file = disk
        .open(&temporary, OpenMode::CreateOrTruncate)
        .map_err(failed)?;
    write_all(&*file, bytes, 0).map_err(failed)?;
    disk.rename(&temporary, &path).map_err(failed)
}

/// The bytes of the file; `None` if it is not there.
pub(crate) fn read(
    disk: &dyn Disk,
    path: &Path,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, QuorumError> {
    let failed = |source| QuorumError::io("read", path, source);
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let length = file.length().map_err(failed)?;
    let Some(length) = usize::try_from(length)
        .ok()
        .filter(|length| *length <= bytes_max)
    else {
        return Err(QuorumError::lost(
            path,
            format!("{length} bytes long, more than it can be"),
        ));
    };
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file
            .read_at(&mut bytes[filled..], filled as u64)
            .map_err(failed)?
        {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(Some(bytes))
}

fn write_all(file: &dyn skein_env::File, bytes: &[u8], start: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&[IoSlice::new(&bytes[written..])], start + written as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    Ok(())
}
