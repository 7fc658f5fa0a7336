//! A node's simulated disk.
//!
//! Input: calls of [`Disk`] and [`File`], a fault plan, crashes. Output: the same bytes and names again,
//! or an error, as plan and seed decide; the simulated time of the calls.
//!
//! [`SimDisk`] is the disk as the world and the tests see it; it outlives its node's processes. Each
//! process has a [`DiskView`] of its own, with the number of its incarnation: after a kill every call
//! through it, and through the files it opened, fails with [`Killed`].
//!
//! Invariants:
//! - a call is judged, traced and paid for exactly once, in [`DiskView::begin`];
//! - no lock is held while the world is told of a death.
//!
//! Source: POSIX, as in [`crate::Disk`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::time::Instant;

use crate::sim::rng::{SimRng, mix};
use crate::sim::trace::Trace;
use crate::sim::world::WorldState;
use crate::{Disk, DiskSpace, EntryKind, File, IndexMap, LockGuard, OpenMode};

mod content;
mod faults;
mod file;
mod names;

pub use faults::{Death, DiskSpeed, Fault, FaultPlan, Operation};

use content::Usage;
use faults::{Faults, Verdict};
use file::{SimFile, SimIndexMap};
use names::{Entry, FileNode, Names};

/// Size of a disk for which a test sets none: 1 TiB.
const DEFAULT_CAPACITY: u64 = 1 << 40;

/// The error of every call by a process that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulation killed this process")]
pub struct Killed;

/// Whether `error` comes from a process that the simulation killed.
#[must_use]
pub fn is_killed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Killed>())
}

pub(super) fn killed() -> io::Error {
    io::Error::other(Killed)
}

/// One node's disk, for the world and for tests. Cheap to clone.
#[derive(Clone)]
pub struct SimDisk {
    core: Arc<Core>,
}

struct Core {
    node: String,
    trace: Arc<Trace>,
    world: Weak<WorldState>,
    usage: Arc<Usage>,
    /// Simulated time of the calls since it was last taken, in nanoseconds.
    cost: AtomicU64,
    state: Mutex<State>,
}

struct State {
    incarnation: u64,
    calls: u64,
    names: Names,
    faults: Faults,
    rng: SimRng,
    /// Files that are locked, by which incarnation.
    locks: BTreeMap<u64, u64>,
}

impl SimDisk {
    pub(super) fn new(node: &str, rng: SimRng, trace: Arc<Trace>, world: Weak<WorldState>) -> Self {
        let usage = Usage {
            used: AtomicU64::new(0),
            capacity: AtomicU64::new(DEFAULT_CAPACITY),
        };
        let state = State {
            incarnation: 0,
            calls: 0,
            names: Names::new(),
            faults: Faults::default(),
            rng,
            locks: BTreeMap::new(),
        };
        let core = Core {
            node: node.to_owned(),
            trace,
            world,
            usage: Arc::new(usage),
            cost: AtomicU64::new(0),
            state: Mutex::new(state),
        };
        Self {
            core: Arc::new(core),
        }
    }

    /// The disk of the process that lives now.
    pub(super) fn view(&self) -> DiskView {
        let incarnation = self.core.state.lock().incarnation;
        DiskView {
            core: Arc::clone(&self.core),
            incarnation,
        }
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.core.state.lock().calls
    }

    /// Lets the call after the next `calls` ones go wrong, once; 0 is the very next one.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        let mut state = self.core.state.lock();
        let at = state.calls + calls;
        state.faults.set_at_call(Some((at, fault)));
    }

    /// Lets the next `times` calls of that kind go wrong on paths that contain `path`.
    pub fn fail_path(&self, path: &str, operation: Operation, fault: Fault, times: u64) {
        self.core
            .state
            .lock()
            .faults
            .add_rule(path, operation, fault, times);
    }

    /// Sets the faults at random.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.core.state.lock().faults.set_plan(plan);
    }

    /// Ends all faults, and a stall; room and speed stay.
    pub fn heal(&self) {
        self.core.state.lock().faults.heal();
    }

    /// Sets the size of the device in bytes; what is there stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.core.usage.capacity.store(bytes, Ordering::Relaxed);
    }

    /// Bytes taken on the device, in whole pages.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.core.usage.used.load(Ordering::Relaxed)
    }

    /// Sets how long calls take.
    pub fn set_speed(&self, speed: DiskSpeed) {
        self.core.state.lock().faults.speed = speed;
    }

    /// Lets every call from now on end no earlier than `time`.
    pub fn stall_until(&self, time: Instant) {
        self.core.state.lock().faults.stalled_until = Some(time);
    }

    /// Flips the bits of `mask` in the byte at `offset` of the file at `path`, on the device too; says
    /// whether there is such a byte.
    #[must_use]
    pub fn rot(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let entry = self.core.state.lock().names.find(path);
        match entry {
            Ok(Entry::File(file)) => file.content.lock().rot(offset, mask),
            _ => false,
        }
    }

    /// Ends the process: its handles die. With the power, what was not flushed is lost, kept or torn.
    pub(super) fn die(&self, death: Death) {
        let mut state = self.core.state.lock();
        let state = &mut *state;
        state.incarnation += 1;
        state.locks.clear();
        self.core.cost.store(0, Ordering::Relaxed);
        if death == Death::PowerCut {
            for file in state.names.power_cut(&mut state.rng) {
                file.content.lock().power_cut(&mut state.rng);
            }
        }
    }
}

/// The disk as one process of the node sees it.
pub(super) struct DiskView {
    core: Arc<Core>,
    incarnation: u64,
}

/// A judged call. `dies`: the process dies in it, after a part of its effect that the seed drew.
pub(super) struct Judged {
    verdict: Verdict,
    /// Random bits for how far a call gets that does not get to its end.
    bits: u64,
}

impl Judged {
    /// Bytes that a write of `total` bytes may write.
    fn write_limit(&self, total: usize) -> usize {
        let part = usize::try_from(self.bits >> 8).unwrap_or(usize::MAX);
        match self.verdict {
            Verdict::Whole => total,
            // A short write makes some progress, as the kernel's do; a failed one may make none.
            Verdict::Short => 1 + part % total.max(1),
            Verdict::Fails(_) | Verdict::Dies(_) => part % (total + 1),
        }
    }

    /// Whether a call that can't be done in part is done.
    fn takes_effect(&self) -> bool {
        match self.verdict {
            Verdict::Whole | Verdict::Short => true,
            Verdict::Fails(_) => false,
            Verdict::Dies(_) => self.bits & 1 == 0,
        }
    }
}

impl DiskView {
    fn again(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            incarnation: self.incarnation,
        }
    }

    /// Judges, traces and charges a call that copies `pages` pages.
    fn begin(
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
            cost = cost.max(until.saturating_duration_since(Instant::now()));
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
    fn end<T>(&self, judged: &Judged, result: io::Result<T>) -> io::Result<T> {
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
    fn check_alive(&self) -> io::Result<()> {
        let alive = self.core.state.lock().incarnation == self.incarnation;
        if alive { Ok(()) } else { Err(killed()) }
    }
}

impl Core {
    fn charge(&self, cost: Duration) {
        let nanoseconds = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        self.cost.fetch_add(nanoseconds, Ordering::Relaxed);
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
    pub(super) fn cost_of(&self, work: impl FnOnce()) -> Duration {
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

fn times(unit: Duration, count: u64) -> Duration {
    unit.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
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
