//! Files and directories of the real world.
//!
//! Input and output: as in [`crate::Disk`].
//!
//! Invariants:
//! - `write_at` is one `pwritev`, `read_at` one `pread` unless it comes back short;
//! - a map is read through a raw pointer, never as a slice: the file under it grows and changes
//!   while it is mapped.
//!
//! Source: `pwritev(2)`, `fallocate(2)`, `preadv2(2)`, `fdatasync(2)`, `posix_fadvise(2)`,
//! `mmap(2)`, `flock(2)`, `fcntl(2)` (record locks).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Advice, FallocateFlags, FlockOperation, StatFs};
use rustix::io::{Errno, ReadWriteFlags};
use skein_types::Millis;

use crate::{
    CacheSteps, Disk, DiskSpace, EntryKind, File, IndexMap, LockGuard, OpenMode, Residency,
};

mod missing;
mod rewrite;

/// The kernel's limit of pieces in one call (`IOV_MAX`).
const WRITE_PIECES_MAX: usize = 1024;

/// Distance of the residency probes: the kernel's default read-ahead window, in bytes.
const RESIDENCY_PROBE_STEP: u64 = 128 * 1024;

/// Buffer of a read-ahead, in bytes.
const READ_AHEAD_BUFFER: usize = 256 * 1024;

/// A reservation leaves this much of the device to others, in bytes.
const RESERVE_LEAVES: u64 = 1024 * 1024 * 1024;

/// What is filled with: small enough to stay in the processor's cache.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// So often in one write.
const FILL_PIECES: usize = 8;

/// `f_type` of a tmpfs (`TMPFS_MAGIC`).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// `f_type` of NFS (`NFS_SUPER_MAGIC`).
const NFS_SUPER_MAGIC: i64 = 0x6969;

/// The system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::CreateOrTruncate => options.write(true).create(true).truncate(true),
        };
        let file = options.open(path)?;
        Ok(Arc::new(RealFile {
            file,
            probing: AtomicU8::new(PROBES_UNTRIED),
        }))
    }

    fn map_index(&self, file: &Arc<dyn File>, length: usize) -> io::Result<Arc<dyn IndexMap>> {
        let descriptor = file.descriptor().ok_or(io::ErrorKind::Unsupported)?;
        if (file.length()? as u128) < length as u128 {
            // A map past the end would be SIGBUS at its first use.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "map of {length} bytes of a file of {} bytes",
                    file.length()?
                ),
            ));
        }
        let map = match length {
            0 => None,
            _ => Some(
                MmapOptions::new()
                    .len(length)
                    .map_raw_read_only(descriptor)?,
            ),
        };
        Ok(Arc::new(RealIndexMap { map }))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // By its name within the directory: a whole path costs several times as much.
            let found = match entry.metadata() {
                Ok(link) if link.is_symlink() => kind_at(&entry.path()),
                found => found.map(|metadata| kind_of(&metadata)),
            };
            match found {
                Ok(kind) => entries.push((entry.file_name(), kind)),
                // Removed since it was listed, or a symbolic link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(entries)
    }

    fn stat(&self, path: &Path) -> io::Result<EntryKind> {
        kind_at(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        let status = rustix::fs::statvfs(path)?;
        Ok(DiskSpace {
            total_bytes: status.f_blocks.saturating_mul(status.f_frsize),
            usable_bytes: status.f_bavail.saturating_mul(status.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        lock_record(&file)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// Locks the file for programs that know record locks only: Java's, and so Kafka.
///
/// `flock` is what excludes this process itself. A record lock is the whole process's, so that
/// whoever tries to lock a file twice takes it away from the first one. On NFS both are the same.
fn lock_record(file: &fs::File) -> io::Result<()> {
    let on_nfs = rustix::fs::fstatfs(file)
        .is_ok_and(|status| i128::from(status.f_type) == i128::from(NFS_SUPER_MAGIC));
    if on_nfs {
        return Ok(());
    }
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        // What a system call says of a lock that is held; `flock` says the latter.
        Err(Errno::ACCESS | Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
        other => Ok(other?),
    }
}

fn kind_at(path: &Path) -> io::Result<EntryKind> {
    Ok(kind_of(&fs::metadata(path)?))
}

fn kind_of(metadata: &fs::Metadata) -> EntryKind {
    if metadata.is_file() {
        EntryKind::File(metadata.len())
    } else if metadata.is_dir() {
        EntryKind::Directory
    } else {
        EntryKind::Other
    }
}

/// An open file of the system.
struct RealFile {
    file: fs::File,
    /// What is known about `RWF_NOWAIT` on this file's file system: one of the `PROBES_` values.
    probing: AtomicU8,
}

const PROBES_UNTRIED: u8 = 0;
const PROBES_WORK: u8 = 1;
/// Unsupported, and the file lies on tmpfs, which is memory.
const PROBES_ALWAYS_HOT: u8 = 2;
/// Unsupported elsewhere: take the careful way.
const PROBES_ALWAYS_COLD: u8 = 3;

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(&self.file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let pieces = &pieces[..pieces.len().min(WRITE_PIECES_MAX)];
        retry(|| rustix::io::pwritev(&self.file, pieces, offset))
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        let status = rustix::fs::fstatfs(&self.file)?;
        let free = u64::try_from(status.f_bsize)
            .unwrap_or(0)
            .saturating_mul(status.f_bavail);
        let length = range.end.saturating_sub(range.start);
        if is_tmpfs(&status) || free.saturating_sub(length) < RESERVE_LEAVES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        retry(|| {
            let flags = FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.file, flags, range.start, length)
        })
    }

    fn fill(&self, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let mut left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let pieces = [0; FILL_PIECES].map(|_: usize| {
                let length = left.min(ZEROS.len());
                left -= length;
                IoSlice::new(&ZEROS[..length])
            });
            match self.write_at(&pieces, at)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => at += count as u64,
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        retry(|| rustix::fs::fdatasync(&self.file))
    }

    fn rewrite(&self, range: Range<u64>, scratch: &mut Vec<u8>) -> io::Result<()> {
        self.rewrite_blocks(&range, scratch)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn modified(&self) -> io::Result<Millis> {
        let metadata = self.file.metadata()?;
        let seconds = metadata.mtime().saturating_mul(1000);
        Ok(Millis(
            seconds.saturating_add(metadata.mtime_nsec() / 1_000_000),
        ))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        retry(|| rustix::fs::ftruncate(&self.file, length))
    }

    fn residency(&self, offset: u64, length: u64) -> Residency {
        match self.probing.load(Ordering::Relaxed) {
            PROBES_ALWAYS_HOT => return Residency::Hot,
            PROBES_ALWAYS_COLD => return Residency::Cold,
            _ => {}
        }
        let Some(last) = length
            .checked_sub(1)
            .and_then(|rest| offset.checked_add(rest))
        else {
            return Residency::Hot;
        };
        let mut at = offset;
        loop {
            if self.probe(at) == Residency::Cold {
                return Residency::Cold;
            }
            if at >= last {
                return Residency::Hot;
            }
            at = at.saturating_add(RESIDENCY_PROBE_STEP).min(last);
        }
    }

    fn read_ahead(&self, offset: u64, length: u64) -> io::Result<Vec<Range<u64>>> {
        let Some(nonzero_length) = NonZeroU64::new(length) else {
            return Ok(Vec::new());
        };
        let missing = missing::steps(&self.file, CacheSteps::of(offset, length));
        // The hint starts all of the range at once; the reads below wait for it piece by piece.
        rustix::fs::fadvise(&self.file, offset, Some(nonzero_length), Advice::WillNeed)?;
        let size = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(READ_AHEAD_BUFFER);
        let mut scratch = vec![0; size];
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from(length - done)
                .unwrap_or(usize::MAX)
                .min(size);
            match self.read_at(&mut scratch[..wanted], offset + done)? {
                0 => break,
                count => done += count as u64,
            }
        }
        Ok(missing)
    }

    fn prefetch(&self, offset: u64, length: u64) -> Vec<Range<u64>> {
        let missing = missing::steps(&self.file, CacheSteps::of(offset, length));
        // Only a hint, as below.
        if let Some(length) = NonZeroU64::new(length) {
            let _ = rustix::fs::fadvise(&self.file, offset, Some(length), Advice::WillNeed);
        }
        missing
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        // Only a hint, so its failure is nobody's concern. (A length of 0 would mean "to the end".)
        if let Some(length) = NonZeroU64::new(length) {
            let _ = rustix::fs::fadvise(&self.file, offset, Some(length), Advice::DontNeed);
        }
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}

impl RealFile {
    /// Tries to read the byte at `at` without waiting for the device.
    fn probe(&self, at: u64) -> Residency {
        let mut byte = [0];
        let mut target = [IoSliceMut::new(&mut byte)];
        match rustix::io::preadv2(&self.file, &mut target, at, ReadWriteFlags::NOWAIT) {
            Ok(_) => {
                // Only a change is stored: the line is shared between the readers of the file.
                if self.probing.load(Ordering::Relaxed) == PROBES_UNTRIED {
                    self.probing.store(PROBES_WORK, Ordering::Relaxed);
                }
                Residency::Hot
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                let on_tmpfs =
                    rustix::fs::fstatfs(&self.file).is_ok_and(|status| is_tmpfs(&status));
                let (probing, residency) = if on_tmpfs {
                    (PROBES_ALWAYS_HOT, Residency::Hot)
                } else {
                    (PROBES_ALWAYS_COLD, Residency::Cold)
                };
                self.probing.store(probing, Ordering::Relaxed);
                residency
            }
            // "Would wait", and errors: the read on the pool reports those.
            Err(_) => Residency::Cold,
        }
    }
}

/// Whether the file system is memory.
fn is_tmpfs(status: &StatFs) -> bool {
    i128::from(status.f_type) == i128::from(TMPFS_MAGIC)
}

/// Calls again while a signal interrupts.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// A map, or nothing for a map of no bytes, which the system refuses.
struct RealIndexMap {
    map: Option<MmapRaw>,
}

impl IndexMap for RealIndexMap {
    fn length(&self) -> usize {
        self.map.as_ref().map_or(0, MmapRaw::len)
    }

    #[allow(unsafe_code)] // the map changes under its readers, so it can't be a slice
    fn read(&self, at: usize, out: &mut [u8]) {
        let end = at.checked_add(out.len());
        assert!(
            end.is_some_and(|end| end <= self.length()),
            "index map of {} bytes read at {at} for {}",
            self.length(),
            out.len()
        );
        let Some(map) = &self.map else { return };
        // SAFETY: `at + out.len()` is within the map, as just checked; the map lives as long as
        // `self`; `out` is exclusive and so does not overlap it. The file is never cut below the
        // map's length (contract of `Disk::map_index`), so that every page of it is there. Entries
        // that are being written meanwhile lie past the count of the view that the caller holds.
        unsafe { ptr::copy_nonoverlapping(map.as_ptr().add(at), out.as_mut_ptr(), out.len()) }
    }
}

/// The lock goes with the descriptor.
struct RealLock {
    _file: fs::File,
}

impl LockGuard for RealLock {}
