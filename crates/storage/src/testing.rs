//! Help for the tests of this crate: a real disk that fails when it is told to.
//!
//! Input: a list of failures to come. Output: the real disk's answers, or a failure.
//!
//! Invariants: none; tests only.
//!
//! Source: none.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use skein_env::real::RealDisk;
use skein_env::{Disk, DiskSpace, EntryKind, File, IndexMap, LockGuard, OpenMode, Residency};

pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EIO: i32 = 5;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write stores this many bytes, then says how many.
    Short(usize),
    /// A write stores this many bytes, then fails with this number.
    Error(usize, i32),
    /// A cut fails with this number.
    Cut(i32),
    /// A filling ahead stores this many bytes, then fails with this number.
    Fill(u64, i32),
    /// A flush fails with this number.
    Flush(i32),
}

/// A real disk whose next write, cut or flush fails as planned; the first fault of a kind comes
/// first.
#[derive(Default)]
pub(crate) struct FaultyDisk {
    real: RealDisk,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    faults: Mutex<VecDeque<Fault>>,
    writes: Mutex<Vec<(u64, u64)>>,
    rewrites: Mutex<Vec<(u64, u64)>>,
    usable_bytes: Mutex<Option<u64>>,
    cold_below: AtomicU64,
    reads: AtomicU64,
    on_write: Mutex<Option<Hook>>,
    on_flush: Mutex<Option<Hook>>,
    inodes: Mutex<BTreeMap<PathBuf, Weak<Inode>>>,
}

/// What the kernel knows of a file as long as somebody has it open.
#[derive(Default)]
struct Inode {
    /// A write-back failed, and nobody was told yet.
    has_failed: AtomicBool,
}

/// Sees the path of each call before it is done.
type Hook = Arc<dyn Fn(&Path) + Send + Sync>;

impl FaultyDisk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn plan(&self, faults: &[Fault]) {
        *self.plan.faults.lock() = faults.iter().copied().collect();
    }

    /// What lies below this position of a file is not in the page cache.
    pub(crate) fn set_cold_below(&self, position: u64) {
        self.plan.cold_below.store(position, Ordering::Relaxed);
    }

    /// Lets `hook` see each write before it is done.
    pub(crate) fn on_write(&self, hook: impl Fn(&Path) + Send + Sync + 'static) {
        *self.plan.on_write.lock() = Some(Arc::new(hook));
    }

    /// Lets `hook` see each flush of a file before it is done.
    pub(crate) fn on_flush(&self, hook: impl Fn(&Path) + Send + Sync + 'static) {
        *self.plan.on_flush.lock() = Some(Arc::new(hook));
    }

    /// The kernel writes the file back by itself now, and fails: the next flush is told so, unless
    /// the file leaves the kernel's memory before, as it may when nobody has it open.
    pub(crate) fn fail_write_back(&self, path: &Path) {
        let inode = self.plan.inodes.lock().get(path).and_then(Weak::upgrade);
        if let Some(inode) = inode {
            inode.has_failed.store(true, Ordering::SeqCst);
        }
    }

    /// Reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.plan.reads.load(Ordering::Relaxed)
    }

    /// What `space` says is usable.
    pub(crate) fn set_usable_bytes(&self, usable_bytes: Option<u64>) {
        *self.plan.usable_bytes.lock() = usable_bytes;
    }

    /// Position and length of every write so far; forgets them.
    pub(crate) fn take_writes(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.plan.writes.lock())
    }

    /// Start and end of every range that was written anew so far; forgets them.
    pub(crate) fn take_rewrites(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.plan.rewrites.lock())
    }
}

impl Plan {
    /// The inode at `path`, from memory if somebody has it open.
    fn inode(&self, path: &Path) -> Arc<Inode> {
        let mut inodes = self.inodes.lock();
        if let Some(inode) = inodes.get(path).and_then(Weak::upgrade) {
            return inode;
        }
        let inode = Arc::default();
        inodes.insert(path.to_path_buf(), Arc::downgrade(&inode));
        inode
    }

    fn take(&self, matches: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut faults = self.faults.lock();
        let at = faults.iter().position(matches)?;
        faults.remove(at)
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let real = self.real.open(path, mode)?;
        Ok(Arc::new(FaultyFile {
            real,
            plan: Arc::clone(&self.plan),
            path: path.to_path_buf(),
            inode: self.plan.inode(path),
        }))
    }

    fn map_index(&self, file: &Arc<dyn File>, length: usize) -> io::Result<Arc<dyn IndexMap>> {
        let descriptor = file.descriptor();
        assert!(descriptor.is_some());
        self.real.map_index(file, length)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.real.create_directory(path)
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
        self.real.read_directory(path)
    }

    fn stat(&self, path: &Path) -> io::Result<EntryKind> {
        self.real.stat(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)?;
        let mut inodes = self.plan.inodes.lock();
        let moved = inodes.remove(from).unwrap_or_default();
        inodes.insert(to.to_path_buf(), moved);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.real.remove_file(path)?;
        self.plan.inodes.lock().remove(path);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.real.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.real.sync_directory(path)
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        let mut space = self.real.space(path)?;
        if let Some(usable_bytes) = *self.plan.usable_bytes.lock() {
            space.usable_bytes = usable_bytes;
        }
        Ok(space)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.real.lock(path)
    }
}

struct FaultyFile {
    real: Arc<dyn File>,
    plan: Arc<Plan>,
    path: PathBuf,
    inode: Arc<Inode>,
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.plan.reads.fetch_add(1, Ordering::Relaxed);
        self.real.read_at(buffer, offset)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let hook = self.plan.on_write.lock().clone();
        if let Some(hook) = hook {
            hook(&self.path);
        }
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if self
            .path
            .extension()
            .is_some_and(|extension| extension == "log")
        {
            self.plan.writes.lock().push((offset, length));
        }
        let fault = self
            .plan
            .take(|fault| matches!(fault, Fault::Short(_) | Fault::Error(..)));
        let (Some(Fault::Short(stored)) | Some(Fault::Error(stored, _))) = fault else {
            return self.real.write_at(pieces, offset);
        };
        let bytes = pieces
            .iter()
            .flat_map(|piece| piece.iter().copied())
            .take(stored);
        self.real
            .write_at(&[IoSlice::new(&bytes.collect::<Vec<u8>>())], offset)?;
        match fault {
            Some(Fault::Error(_, number)) => Err(io::Error::from_raw_os_error(number)),
            _ => Ok(stored),
        }
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.real.reserve(range)
    }

    fn fill(&self, range: Range<u64>) -> io::Result<()> {
        match self.plan.take(|fault| matches!(fault, Fault::Fill(..))) {
            Some(Fault::Fill(done, number)) => {
                self.real.fill(range.start..range.start + done)?;
                Err(io::Error::from_raw_os_error(number))
            }
            _ => self.real.fill(range),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let hook = self.plan.on_flush.lock().clone();
        if let Some(hook) = hook {
            hook(&self.path);
        }
        match self.plan.take(|fault| matches!(fault, Fault::Flush(_))) {
            Some(Fault::Flush(number)) => Err(io::Error::from_raw_os_error(number)),
            _ if self.inode.has_failed.swap(false, Ordering::SeqCst) => {
                Err(io::Error::from_raw_os_error(EIO))
            }
            _ => self.real.sync_data(),
        }
    }

    fn rewrite(&self, range: Range<u64>, scratch: &mut Vec<u8>) -> io::Result<()> {
        self.plan.rewrites.lock().push((range.start, range.end));
        self.real.rewrite(range, scratch)
    }

    fn length(&self) -> io::Result<u64> {
        self.real.length()
    }

    fn modified(&self) -> io::Result<skein_types::Millis> {
        self.real.modified()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        match self.plan.take(|fault| matches!(fault, Fault::Cut(_))) {
            Some(Fault::Cut(number)) => Err(io::Error::from_raw_os_error(number)),
            _ => self.real.set_length(length),
        }
    }

    fn residency(&self, offset: u64, length: u64) -> Residency {
        match offset < self.plan.cold_below.load(Ordering::Relaxed) {
            true => Residency::Cold,
            false => self.real.residency(offset, length),
        }
    }

    fn read_ahead(&self, offset: u64, length: u64) -> io::Result<Vec<Range<u64>>> {
        self.real.read_ahead(offset, length)
    }

    fn prefetch(&self, offset: u64, length: u64) -> Vec<Range<u64>> {
        self.real.prefetch(offset, length)
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        self.real.drop_cache(offset, length);
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.real.descriptor()
    }
}
