//! A simulated disk as one process of its node sees it.
//!
//! Input and output: as in [`crate::Disk`].
//!
//! Invariant: every call goes through [`DiskView::begin`], which refuses those of a dead process,
//! asks the faults, writes the trace and charges the time; and through [`DiskView::end`], where a
//! process dies.
//!
//! Source: none.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use crate::sim::disk::content::Usage;
use crate::sim::disk::faults::{Operation, Verdict};
use crate::sim::disk::file::{SimFile, SimIndexMap};
use crate::sim::disk::names::{Entry, FileNode, Names};
use crate::sim::disk::{Core, SimDisk, State, killed, times};
use crate::sim::rng::mix;
use crate::{Disk, DiskSpace, EntryKind, File, IndexMap, LockGuard, OpenMode};

/// The disk as one process of the node sees it.
pub(in crate::sim) struct DiskView {
    pub(super) core: Arc<Core>,
    incarnation: u64,
}

/// A judged call. `dies`: the process dies in it, after a part of its effect that the seed drew.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// Random bits for how far a call gets that does not get to its end.
    bits: u64,
}

impl Judged {
    /// Bytes that a write of `total` bytes may write.
    pub(super) fn write_limit(&self, total: usize) -> usize {
        let part = usize::try_from(self.bits >> 8).unwrap_or(usize::MAX);
        match self.verdict {
            Verdict::Whole => total,
            // A short write makes some progress, as the kernel's do; a failed one may make none.
            Verdict::Short => 1 + part % total.max(1),
            Verdict::Fails(_) | Verdict::Dies(_) => part % (total + 1),
        }
    }

    /// Whether a call that can't be done in part is done.
    pub(super) fn takes_effect(&self) -> bool {
        match self.verdict {
            Verdict::Whole | Verdict::Short => true,
            Verdict::Fails(_) => false,
            Verdict::Dies(_) => self.bits & 1 == 0,
        }
    }
}

impl DiskView {
    /// The disk of the process that lives now.
    pub(super) fn new(disk: &SimDisk) -> Self {
        let incarnation = disk.core.state.lock().incarnation;
        Self {
            core: Arc::clone(&disk.core),
            incarnation,
        }
    }

    fn again(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            incarnation: self.incarnation,
        }
    }

    /// Judges, traces and charges a call that copies `pages` pages.
    pub(super) fn begin(
        &self,
        operation: Operation,
        path: &Path,
        words: [u64; 3],
        pages: u64,
    ) -> io::Result<Judged> {
        let mut state = self.core.state.lock();
        let state = &mut *state;
        if state.incarnation != self.incarnation {
            return Err(killed());
        }
        let number = state.calls;
        state.calls += 1;
        let verdict = state.faults.judge(number, operation, path, &mut state.rng);
        let bits = if verdict == Verdict::Whole {
            0
        } else {
            state.rng.next_u64()
        };
        let speed = state.faults.speed;
        let mut cost = speed.call + times(speed.page, pages);
        if matches!(operation, Operation::Sync | Operation::SyncDirectory) {
            cost += times(speed.sync_max, state.rng.between(200, 1000)) / 1000;
        }
        if let Some(until) = state.faults.stalled_until {
            // What the calls before it cost is still to be waited for.
            let now = Instant::now() + self.core.charged();
            cost = cost.max(until.saturating_duration_since(now));
        }
        self.core.charge(cost);
        let [first, second, third] = words;
        let failed = u64::from(verdict != Verdict::Whole);
        let event = [operation as u64, failed, bits, first, second, third];
        self.core.trace.note("disk", &event, || {
            format!(
                "{} {operation:?} {} {words:?} {verdict:?}",
                self.core.node,
                path.display()
            )
        });
        Ok(Judged { verdict, bits })
    }

    /// The end of a judged call that did what it was to do, and gave `result`.
    pub(super) fn end<T>(&self, judged: &Judged, result: io::Result<T>) -> io::Result<T> {
        match judged.verdict {
            Verdict::Whole | Verdict::Short => result,
            Verdict::Fails(errno) => Err(errno.into()),
            Verdict::Dies(death) => {
                if let Some(world) = self.core.world.upgrade() {
                    world.end_node(&self.core.node, death);
                }
                Err(killed())
            }
        }
    }

    /// A call on names: judged, done or not, ended.
    fn on_names<T>(
        &self,
        operation: Operation,
        path: &Path,
        call: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let judged = self.begin(operation, path, [hash_path(path), 0, 0], 0)?;
        let result = if judged.takes_effect() {
            call(&mut self.core.state.lock())
        } else {
            Err(Errno::IO)
        };
        self.end(&judged, result.map_err(io::Error::from))
    }

    /// What is in the file, or the errors of a call by a dead process.
    pub(super) fn check_alive(&self) -> io::Result<()> {
        let alive = self.core.state.lock().incarnation == self.incarnation;
        if alive { Ok(()) } else { Err(killed()) }
    }
}

impl Disk for DiskView {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let usage = &self.core.usage;
        let node = match mode {
            OpenMode::Read | OpenMode::ReadWrite => {
                self.on_names(Operation::Open, path, |state| find_file(&state.names, path))?
            }
            OpenMode::CreateNew => self.on_names(Operation::Name, path, |state| {
                match state.names.find(path) {
                    Ok(_) => Err(Errno::EXIST),
                    Err(Errno::NOENT) => state.names.create_file(path, usage),
                    Err(errno) => Err(errno),
                }
            })?,
            OpenMode::CreateOrTruncate => self.on_names(Operation::Name, path, |state| {
                let file = find_or_create(&mut state.names, path, usage)?;
                file.content.lock().set_length(0);
                Ok(file)
            })?,
        };
        if matches!(mode, OpenMode::CreateNew | OpenMode::CreateOrTruncate) {
            self.core.touch(&node);
        }
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile::new(
            self.again(),
            node,
            path.to_owned(),
            writable,
        )))
    }

    fn map_index(&self, file: &Arc<dyn File>, length: usize) -> io::Result<Arc<dyn IndexMap>> {
        // The trait gives the file without its type; its own number leads back to it.
        let node = SimFile::node_of(file).ok_or(Errno::BADF)?;
        let words = [node.id, length as u64, 1];
        let judged = self.begin(Operation::Open, Path::new("map"), words, 0)?;
        let result = if node.content.lock().length() < length as u64 {
            Err(Errno::INVAL.into())
        } else {
            Ok(Arc::new(SimIndexMap::new(node, length)) as Arc<dyn IndexMap>)
        };
        self.end(&judged, result)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.on_names(Operation::Name, path, |state| {
            state.names.create_directory(path)
        })
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
        let entries = self.on_names(Operation::Look, path, |state| state.names.list(path))?;
        Ok(entries
            .into_iter()
            .map(|(name, entry)| (name, kind_of(&entry)))
            .collect())
    }

    fn stat(&self, path: &Path) -> io::Result<EntryKind> {
        self.on_names(Operation::Look, path, |state| {
            Ok(kind_of(&state.names.find(path)?))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on_names(Operation::Name, from, |state| state.names.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.on_names(Operation::Name, path, |state| state.names.remove_file(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.on_names(Operation::Name, path, |state| {
            state.names.remove_directory(path)
        })
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.on_names(Operation::SyncDirectory, path, |state| {
            state.names.sync(path)
        })
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        self.on_names(Operation::Look, path, |state| {
            state.names.find(path).map(drop)
        })?;
        let total_bytes = self.core.usage.capacity.load(Ordering::Relaxed);
        let used = self.core.usage.used.load(Ordering::Relaxed);
        Ok(DiskSpace {
            total_bytes,
            usable_bytes: total_bytes.saturating_sub(used),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let (core, incarnation) = (Arc::clone(&self.core), self.incarnation);
        let file = self.on_names(Operation::Open, path, |state| {
            let file = find_or_create(&mut state.names, path, &self.core.usage)?;
            match state.locks.insert(file.id, incarnation) {
                None => Ok(file.id),
                Some(_) => Err(Errno::WOULDBLOCK),
            }
        })?;
        Ok(Box::new(SimLock {
            core,
            incarnation,
            file,
        }))
    }

    fn take_cost(&self) -> Duration {
        Duration::from_nanos(self.core.cost.swap(0, Ordering::Relaxed))
    }
}

impl DiskView {
    /// Runs `work` and says what its disk calls cost, apart from what was owed before.
    pub(in crate::sim) fn cost_of(&self, work: impl FnOnce()) -> Duration {
        let owed = self.core.cost.swap(0, Ordering::Relaxed);
        work();
        Duration::from_nanos(self.core.cost.swap(owed, Ordering::Relaxed))
    }
}

fn find_file(names: &Names, path: &Path) -> Result<Arc<FileNode>, Errno> {
    match names.find(path)? {
        Entry::File(file) => Ok(file),
        Entry::Directory(_) => Err(Errno::ISDIR),
    }
}

fn find_or_create(
    names: &mut Names,
    path: &Path,
    usage: &Arc<Usage>,
) -> Result<Arc<FileNode>, Errno> {
    match find_file(names, path) {
        Err(Errno::NOENT) => names.create_file(path, usage),
        result => result,
    }
}

fn kind_of(entry: &Entry) -> EntryKind {
    match entry {
        Entry::File(file) => EntryKind::File(file.content.lock().length()),
        Entry::Directory(_) => EntryKind::Directory,
    }
}

fn hash_path(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0, |hash, byte| mix(hash ^ u64::from(*byte)))
}

/// Gives its lock back when it is dropped, unless its process was killed, which did so.
struct SimLock {
    core: Arc<Core>,
    incarnation: u64,
    file: u64,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.core.state.lock();
        if state.locks.get(&self.file) == Some(&self.incarnation) {
            state.locks.remove(&self.file);
        }
    }
}
