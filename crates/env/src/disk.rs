//! Files and directories.
//!
//! Input: positions and bytes. Output: the same bytes again, after a crash only if they were
//! flushed.
//!
//! Invariants:
//! - a call either takes effect or says that it did not; a short write says how much it wrote;
//! - what [`File::sync_data`] returned for survives a power cut; a new name survives it only after
//!   [`Disk::sync_directory`];
//! - a flush that failed may have lost what was written before it, and a later one succeeds all the
//!   same; only [`File::rewrite`] brings what the file still shows to the device;
//! - an index map is read-only: nothing is ever written through a map, because a full disk would
//!   turn that into SIGBUS.
//!
//! Source: POSIX; `pwritev(2)`, `fallocate(2)`, `preadv2(2)` (`RWF_NOWAIT`), `mmap(2)`,
//! `posix_fadvise(2)`.

use std::any::Any;
use std::ffi::OsString;
use std::io;
use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skein_types::Millis;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it must not exist.
    CreateNew,
    /// For reading and writing; made if it does not exist, emptied if it does.
    CreateOrTruncate,
}

/// Whether a range of a file can be read without waiting for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// In the page cache.
    Hot,
    /// At least a part of it is not.
    Cold,
}

/// The steps in which it is told what a read brings into the page cache.
///
/// ```text
///   file   ├───────┼───────┼───────┼───────┼───────┤   steps of STEP bytes
///   range               ├──────────────────┤
///   steps          ├───────┼───────┼───────┤           where it ends, the next reader goes on
/// ```
///
/// A step is coarser than what the kernel reads on its own around a single byte that is looked at:
/// a step that nobody had in the cache does not pass for one that somebody had.
#[derive(Clone, Debug)]
pub struct CacheSteps(Range<u64>);

impl CacheSteps {
    /// Length of a step in bytes. Twice the kernel's default read-ahead window.
    pub const STEP: u64 = 256 * 1024;

    /// The steps of a range: from the one in which it begins up to the one in which it ends, which
    /// is not among them.
    #[must_use]
    pub fn of(offset: u64, length: u64) -> Self {
        Self(offset / Self::STEP..offset.saturating_add(length) / Self::STEP)
    }

    /// All of them as one range of bytes.
    #[must_use]
    pub fn bytes(&self) -> Range<u64> {
        self.0.start * Self::STEP..self.0.end * Self::STEP
    }

    /// Those that are `chosen`, in order; those that touch as one.
    #[must_use]
    pub fn pick(self, chosen: impl Fn(&Range<u64>) -> bool) -> Vec<Range<u64>> {
        let mut picked: Vec<Range<u64>> = Vec::new();
        for step in self.filter(chosen) {
            match picked.last_mut() {
                Some(last) if last.end == step.start => last.end = step.end,
                _ => picked.push(step),
            }
        }
        picked
    }
}

impl Iterator for CacheSteps {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let step = self.0.next()?;
        Some(step * Self::STEP..(step + 1) * Self::STEP)
    }
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file, of this many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// Room on the device of a directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What this process may still write.
    pub usable_bytes: u64,
}

/// The file system of one node.
pub trait Disk: Send + Sync {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Maps the first `length` bytes of `file` for reading. The file must be at least that long,
    /// and must not be cut below it while the map lives.
    ///
    /// # Errors
    /// What the system says.
    fn map_index(&self, file: &Arc<dyn File>, length: usize) -> io::Result<Arc<dyn IndexMap>>;

    /// Makes `path` and its parents; succeeds if it is there.
    ///
    /// # Errors
    /// What the system says.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Names and kinds of what is in the directory `path`, in the order of their names.
    ///
    /// # Errors
    /// What the system says.
    fn read_directory(&self, path: &Path) -> io::Result<Vec<(OsString, EntryKind)>>;

    /// What is at `path`.
    ///
    /// # Errors
    /// What the system says; `NotFound` if there is nothing.
    fn stat(&self, path: &Path) -> io::Result<EntryKind>;

    /// Gives the file or directory at `from` the name `to`, replacing a file there in one step.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file at `path`; what has it open keeps it.
    ///
    /// # Errors
    /// What the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes the directory at `path` with all that is in it.
    ///
    /// # Errors
    /// What the system says.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in directory `path` durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Room on the device that holds `path`.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self, path: &Path) -> io::Result<DiskSpace>;

    /// Takes the lock file at `path` for this process until the guard is dropped or the process
    /// ends. Kafka's processes and ours exclude one another too.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it; else what the system says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;

    /// Simulated time that this node's disk calls took since the last call of this function; zero
    /// in the real world, where the calls themselves took it. The runtime delays the effects of its
    /// turn by as much.
    fn take_cost(&self) -> Duration {
        Duration::ZERO
    }
}

/// An open file. Every call names its position: there is no cursor to share.
pub trait File: Any + Send + Sync {
    /// Reads into `buffer` from `offset`; a short count means the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `pieces` one after the other at `offset`; the count may be short.
    ///
    /// # Errors
    /// What the system says; some of the bytes may have been written.
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Asks for room on the device for `range`, so that later writes there find their blocks. The
    /// file's length stays as it is; [`File::set_length`] gives back what lies behind it.
    ///
    /// # Errors
    /// What the system says, or that it can't or had better not: nothing depends on the room.
    fn reserve(&self, range: Range<u64>) -> io::Result<()>;

    /// Writes zeros in `range`. After an error some of them may be there.
    ///
    /// # Errors
    /// What the system says.
    fn fill(&self, range: Range<u64>) -> io::Result<()>;

    /// Makes the file's data and length durable.
    ///
    /// # Errors
    /// What the system says. After an error the unflushed data may be lost without a second error.
    fn sync_data(&self) -> io::Result<()>;

    /// Writes what the file shows in `range` once more, past whatever the page cache believes to be
    /// on the device; [`File::sync_data`] then makes it durable. Nobody may write or cut there, nor
    /// in the blocks where the range begins and ends, until the call returns. `scratch` is any
    /// buffer: kept from call to call, it saves allocations.
    ///
    /// If the range ends with the file, a crash in the middle may leave zeros behind that end, for
    /// the rest of a block. Where a write-back had failed, a reader may meet the device's older
    /// bytes in the moment of the call.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` if the file ends within the range.
    fn rewrite(&self, range: Range<u64>, scratch: &mut Vec<u8>) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;

    /// When its bytes or its length last changed, by the time of day there was then.
    ///
    /// # Errors
    /// What the system says.
    fn modified(&self) -> io::Result<Millis>;

    /// Cuts the file to `length`, or lengthens it with a hole.
    ///
    /// # Errors
    /// What the system says.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Whether the range can be read from the page cache; looks at one byte of some of its pages.
    fn residency(&self, offset: u64, length: u64) -> Residency;

    /// Reads the range into the page cache, waiting for the device. Returns what was not there
    /// before, for [`File::drop_cache`]: of the range's [`CacheSteps`] those of which any page was
    /// missing, those that touch as one.
    ///
    /// # Errors
    /// What the system says.
    fn read_ahead(&self, offset: u64, length: u64) -> io::Result<Vec<Range<u64>>>;

    /// Has the system begin to read the range into the page cache, and waits for nothing. Returns
    /// what is not there yet, as [`File::read_ahead`] does.
    fn prefetch(&self, offset: u64, length: u64) -> Vec<Range<u64>>;

    /// Tells the system that the range will not be read again soon.
    fn drop_cache(&self, offset: u64, length: u64);

    /// The descriptor for `sendfile`; `None` in the simulation, which reads instead.
    fn descriptor(&self) -> Option<RawFd>;
}

/// A read-only map of an index file. Reads what the file holds now.
pub trait IndexMap: Send + Sync {
    /// Length of the map in bytes.
    fn length(&self) -> usize;

    /// Copies the bytes from `at` on into `out`.
    ///
    /// # Panics
    /// If `at + out.len()` is past [`IndexMap::length`]: the caller knows the count of its entries.
    fn read(&self, at: usize, out: &mut [u8]);
}

/// Holds a lock file; dropped, it lets go.
pub trait LockGuard: Send + Sync {}
