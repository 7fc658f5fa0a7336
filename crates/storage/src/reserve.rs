//! Bytes kept back for what must be written on a full device.
//!
//! Input: small files that must change, such as a checkpoint or the metadata log. Output: the same
//! on a device without room, from a spare file that is given up for them.
//!
//! ```text
//!            a write finds no room              there is room again
//!   Held ──────────────────────────► Spent ──────────────────────────► Held
//!        the spare file is emptied         it is filled with zeros
//! ```
//!
//! Deleting is what makes room on a full device, and every way to delete writes first: where a log
//! starts, that a topic is gone. Records never get these bytes: who spends them has the log
//! directory refuse records until they are back ([`Reserve::when_spent`]).
//!
//! Invariants: a write is tried again once, at its own place, and only where the first try wrote no
//! more than a part; a flush is never tried again.
//!
//! Source: none. The idea is that of root's blocks on ext4.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use skein_env::{Disk, DiskSpace, EntryKind, File, IndexMap, LockGuard, OpenMode, Residency};
use skein_types::Millis;

use crate::error::is_full;

/// Bytes of a spare file: checkpoints of 100,000 partitions, or some ten thousand deletions.
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

/// A small device keeps back this share of its size at most.
const DEVICE_SHARE: u64 = 32;

/// Free bytes that stay for others when a spare file is filled.
const LEFT_BYTES: u64 = 1024 * 1024;

/// A spare file.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    is_spent: AtomicBool,
    /// Held while the file is filled or emptied.
    changing: Mutex<()>,
    when_spent: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Reserve {
    /// A reserve whose spare file is at `path`. It holds nothing before [`Reserve::fill`].
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            disk,
            path,
            is_spent: AtomicBool::new(true),
            changing: Mutex::new(()),
            when_spent: OnceLock::new(),
        })
    }

    /// A disk whose small files may take from the reserve. No record must be written through it.
    #[must_use]
    pub fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(ReservedDisk {
            disk: Arc::clone(&self.disk),
            reserve: Arc::clone(self),
        })
    }

    /// Has `listener` called whenever the reserve is spent. The first listener stays.
    pub fn when_spent(&self, listener: impl Fn() + Send + Sync + 'static) {
        let _ = self.when_spent.set(Box::new(listener));
    }

    /// Whether the bytes are not there.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::SeqCst)
    }

    /// What it lacks on a device with this `space`.
    pub(crate) fn missing_bytes(&self, space: DiskSpace) -> u64 {
        if self.is_spent() {
            wanted_bytes(space)
        } else {
            0
        }
    }

    /// Fills the spare file if it is empty and the device has room; says whether it is held.
    pub fn fill(&self) -> bool {
        let _alone = self.changing.lock();
        if self.is_spent() && self.try_fill().unwrap_or(false) {
            self.is_spent.store(false, Ordering::SeqCst);
        }
        !self.is_spent()
    }

    fn try_fill(&self) -> io::Result<bool> {
        let directory = self.path.parent().unwrap_or(&self.path);
        let space = self.disk.space(directory)?;
        let bytes = wanted_bytes(space);
        // A former process may have left it.
        if self.disk.stat(&self.path).ok() == Some(EntryKind::File(bytes)) {
            return Ok(true);
        }
        if space.usable_bytes < bytes.saturating_add(LEFT_BYTES) {
            return Ok(false);
        }
        let file = self.disk.open(&self.path, OpenMode::CreateOrTruncate)?;
        if let Err(error) = file.fill(0..bytes) {
            file.set_length(0)?;
            return Err(error);
        }
        Ok(true)
    }

    /// Gives the bytes up; says whether there were any.
    fn spend(&self) -> bool {
        let _alone = self.changing.lock();
        if self.is_spent() {
            return false;
        }
        let emptied = self
            .disk
            .open(&self.path, OpenMode::ReadWrite)
            .and_then(|file| file.set_length(0));
        if let Err(error) = emptied {
            tracing::warn!(path = %self.path.display(), %error, "cannot give up the reserve");
            return false;
        }
        self.is_spent.store(true, Ordering::SeqCst);
        tracing::warn!(path = %self.path.display(), "the disk is full: gave up the reserve");
        if let Some(listener) = self.when_spent.get() {
            listener();
        }
        true
    }

    /// Does `work`, and once more with the reserve's bytes if it found no room.
    fn with<T>(&self, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match work() {
            Err(error) if is_full(&error) && self.spend() => work(),
            result => result,
        }
    }
}

fn wanted_bytes(space: DiskSpace) -> u64 {
    RESERVE_BYTES.min(space.total_bytes / DEVICE_SHARE)
}

/// A disk whose files take from the reserve.
struct ReservedDisk {
    disk: Arc<dyn Disk>,
    reserve: Arc<Reserve>,
}

impl Disk for ReservedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.reserve.with(|| self.disk.open(path, mode))?;
        Ok(Arc::new(ReservedFile {
            file,
            reserve: Arc::clone(&self.reserve),
        }))
    }

    fn map_index(&self, file: &Arc<dyn File>, length: usize) -> io::Result<Arc<dyn IndexMap>> {
        let any: &dyn std::any::Any = &**file;
        match any.downcast_ref::<ReservedFile>() {
            Some(reserved) => self.disk.map_index(&reserved.file, length),
            None => self.disk.map_index(file, length),
        }
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.reserve.with(|| self.disk.create_directory(path))
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
        self.disk.read_directory(path)
    }

    fn stat(&self, path: &Path) -> io::Result<EntryKind> {
        self.disk.stat(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.reserve.with(|| self.disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.reserve.with(|| self.disk.remove_file(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.reserve.with(|| self.disk.remove_directory(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }

    /// With what is kept back: it may be written here.
    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        let mut space = self.disk.space(path)?;
        let kept = wanted_bytes(space) - self.reserve.missing_bytes(space);
        space.usable_bytes = space.usable_bytes.saturating_add(kept);
        Ok(space)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.disk.lock(path)
    }

    fn take_cost(&self) -> Duration {
        self.disk.take_cost()
    }
}

struct ReservedFile {
    file: Arc<dyn File>,
    reserve: Arc<Reserve>,
}

impl File for ReservedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let wanted = pieces.iter().map(|piece| piece.len()).sum();
        match self.file.write_at(pieces, offset) {
            Ok(count) if count < wanted && self.reserve.spend() => {
                self.file.write_at(pieces, offset)
            }
            Err(error) if is_full(&error) && self.reserve.spend() => {
                self.file.write_at(pieces, offset)
            }
            result => result,
        }
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.file.reserve(range)
    }

    fn fill(&self, range: Range<u64>) -> io::Result<()> {
        self.reserve.with(|| self.file.fill(range.clone()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn rewrite(&self, range: Range<u64>, scratch: &mut Vec<u8>) -> io::Result<()> {
        self.file.rewrite(range, scratch)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn modified(&self) -> io::Result<Millis> {
        self.file.modified()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn residency(&self, offset: u64, length: u64) -> Residency {
        self.file.residency(offset, length)
    }

    fn read_ahead(&self, offset: u64, length: u64) -> io::Result<Vec<Range<u64>>> {
        self.file.read_ahead(offset, length)
    }

    fn prefetch(&self, offset: u64, length: u64) -> Vec<Range<u64>> {
        self.file.prefetch(offset, length)
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        self.file.drop_cache(offset, length);
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.file.descriptor()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::atomic_file;
    use crate::testing::{EIO, ENOSPC, Fault, FaultyDisk};

    const SPARE: &str = ".reserve";

    fn reserve(directory: &Path, disk: &Arc<FaultyDisk>) -> Arc<Reserve> {
        let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(disk);
        Reserve::new(disk, directory.join(SPARE))
    }

    #[test]
    fn a_small_file_is_written_on_a_full_disk_and_the_reserve_comes_back_with_room() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let reserve = reserve(directory.path(), &disk);
        let spent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&spent);
        reserve.when_spent(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let usable = |disk: &dyn Disk| disk.space(directory.path()).unwrap().usable_bytes;
        disk.set_usable_bytes(Some(9_000_000));
        assert_eq!(usable(&*reserve.disk()), 9_000_000);
        assert!(reserve.fill());
        assert_eq!(usable(&*reserve.disk()), 9_000_000 + RESERVE_BYTES);
        disk.set_usable_bytes(None);
        let spare = directory.path().join(SPARE);
        let length = || std::fs::metadata(&spare).unwrap().len();
        assert_eq!(length(), RESERVE_BYTES);
        let small = reserve.disk();
        let path = directory.path().join("x");
        for fault in [Fault::Error(0, ENOSPC), Fault::Short(3)] {
            disk.plan(&[fault]);
            atomic_file::replace(&*small, &path, b"content").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"content");
            assert!(reserve.is_spent());
            assert_eq!(length(), 0);
            // Once; then the disk is as full as it is.
            disk.plan(&[fault]);
            let error = atomic_file::replace(&*small, &path, b"other");
            assert_eq!(error.is_err(), matches!(fault, Fault::Error(..)));
            disk.set_usable_bytes(Some(RESERVE_BYTES));
            assert!(!reserve.fill());
            disk.set_usable_bytes(None);
            assert!(reserve.fill());
            assert_eq!(length(), RESERVE_BYTES);
        }
        assert_eq!(spent.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_failing_disk_does_not_get_the_reserve() {
        let directory = tempfile::TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let reserve = reserve(directory.path(), &disk);
        assert!(reserve.fill());
        disk.plan(&[Fault::Error(0, EIO)]);
        let path = directory.path().join("x");
        assert!(atomic_file::replace(&*reserve.disk(), &path, b"content").is_err());
        assert!(!reserve.is_spent());
    }
}
