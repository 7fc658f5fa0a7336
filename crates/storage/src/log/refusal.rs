//! The note that a log was refused: it is damaged below what was flushed.
//!
//! Input: the offset up to which a log is known to have been whole. Output: the same offset at the
//! next start, whatever became of the checkpoint of the recovery points meanwhile.
//!
//! ```text
//!   <topic>-<partition>/refused-recovery-point      text: the version 0, and the offset
//! ```
//!
//! Without it a log that was refused once would be cut at the next start by whoever removed the
//! checkpoint, or lost it: it would look like one that was never flushed. Kafka passes over a file
//! of this name.
//!
//! Invariants:
//! - the note is written, durably, before the refusal is told;
//! - it goes when the log opens again, whole, and its recovery point is in the checkpoint; or with
//!   the log; or by the hand of an operator who gives up what lies behind the damage;
//! - a note that cannot be read is an error: it stands for damage.
//!
//! Source: none.

use std::path::{Path, PathBuf};

use skein_env::Disk;
use skein_types::Offset;

use super::segment::Home;
use crate::log_directory::CheckpointFile;
use crate::{StorageError, atomic_file};

/// The name of the file.
const REFUSED: &str = "refused-recovery-point";

/// Up to where the log in `directory` was whole, if it was refused.
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Offset>, StorageError> {
    let path = directory.join(REFUSED);
    let Some(content) = atomic_file::read(disk, &path)? else {
        return Ok(None);
    };
    match parse(&content) {
        Some(offset) => Ok(Some(offset)),
        None => Err(StorageError::corrupt(
            &path,
            0,
            "the note of a refusal cannot be read",
        )),
    }
}

/// Notes that the log was whole up to `recovery_point`, and is not now.
pub(super) fn write(home: &Home, recovery_point: Offset) -> Result<(), StorageError> {
    let content = format!("0\n{recovery_point}\n");
    atomic_file::replace(&**home.small_disk(), &path(home), content.as_bytes())?;
    home.directory.settle_recovery_point(&home.partition);
    Ok(())
}

/// Takes the note away from a log that is whole up to its `recovery_point`.
pub(super) fn lift(home: &Home, recovery_point: Offset) -> Result<(), StorageError> {
    let file = CheckpointFile::RecoveryPoint;
    home.directory
        .set_checkpointed(file, &home.partition, recovery_point)?;
    atomic_file::remove(&**home.disk(), &path(home))?;
    atomic_file::sync_directory(&**home.disk(), &home.path)
}

fn path(home: &Home) -> PathBuf {
    home.path.join(REFUSED)
}

fn parse(content: &[u8]) -> Option<Offset> {
    let mut lines = std::str::from_utf8(content).ok()?.lines();
    let (version, offset) = (lines.next()?, lines.next()?);
    let offset: i64 = offset.trim().parse().ok()?;
    (version.trim() == "0" && offset >= 0 && lines.next().is_none()).then_some(Offset(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_garbage_is_none() {
        assert_eq!(parse(b"0\n1200\n"), Some(Offset(1200)));
        for garbage in [
            "",
            "0",
            "0\n",
            "1\n5\n",
            "0\n-5\n",
            "0\nx\n",
            "0\n5\n6\n",
            "\0\0",
        ] {
            assert_eq!(parse(garbage.as_bytes()), None, "{garbage:?}");
        }
    }
}
