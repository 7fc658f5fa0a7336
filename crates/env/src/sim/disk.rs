//! A node's simulated disk.
//!
//! Input: calls of [`Disk`] and [`File`], a fault plan, crashes. Output: the same bytes and names
//! again, or an error, as plan and seed decide; the simulated time of the calls.
//!
//! [`SimDisk`] is the disk as the world and the tests see it; it outlives its node's processes.
//! Each process has a [`DiskView`] of its own, with the number of its incarnation: after a kill
//! every call through it, and through the files it opened, fails with [`Killed`].
//!
//! Invariants:
//! - a call is judged, traced and paid for exactly once, in `DiskView::begin`;
//! - no lock is held while the world is told of a death.
//!
//! Source: POSIX, as in [`crate::Disk`].

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Clock;
use crate::sim::clock::SimClockControl;
use crate::sim::rng::SimRng;
use crate::sim::trace::Trace;
use crate::sim::world::WorldState;

mod content;
mod faults;
mod file;
mod names;
mod view;

pub use faults::{Death, DiskSpeed, Fault, FaultPlan, Operation};

pub(super) use view::DiskView;

use content::Usage;
use faults::Faults;
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

/// Bits that went bad, in a file that may have another name by now, or none.
pub struct Rot {
    file: Arc<FileNode>,
    offset: u64,
    mask: u8,
}

impl Rot {
    /// Makes the bits good again; says whether the byte is still there.
    pub fn undo(self) -> bool {
        self.file.content.lock().rot(self.offset, self.mask)
    }
}

pub(super) struct Core {
    node: String,
    trace: Arc<Trace>,
    world: Weak<WorldState>,
    clock: SimClockControl,
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
    pub(super) fn new(
        node: &str,
        rng: SimRng,
        trace: Arc<Trace>,
        world: Weak<WorldState>,
        clock: SimClockControl,
    ) -> Self {
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
            clock,
            usage: Arc::new(usage),
            cost: AtomicU64::new(0),
            state: Mutex::new(state),
        };
        Self {
            core: Arc::new(core),
        }
    }

    /// Tells whether something still uses the disk.
    pub(super) fn downgrade(&self) -> Weak<Core> {
        Arc::downgrade(&self.core)
    }

    /// The disk of the process that lives now.
    pub(super) fn view(&self) -> DiskView {
        DiskView::new(self)
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

    /// The names in the directory at `path`, looked at without a call.
    #[must_use]
    pub fn names_in(&self, path: &Path) -> Vec<String> {
        let entries = self.core.state.lock().names.list(path).unwrap_or_default();
        let names = entries.into_iter().map(|(name, _)| name.into_string());
        names.filter_map(Result::ok).collect()
    }

    /// The bytes of the file at `path` as a program would read them, looked at without a call;
    /// `None` if there is no such file.
    #[must_use]
    pub fn bytes_of(&self, path: &Path) -> Option<Vec<u8>> {
        let entry = self.core.state.lock().names.find(path);
        let Ok(Entry::File(file)) = entry else {
            return None;
        };
        let content = file.content.lock();
        let mut bytes = vec![0; usize::try_from(content.length()).ok()?];
        let read = content.read(&mut bytes, 0);
        bytes.truncate(read);
        Some(bytes)
    }

    /// Flips the bits of `mask` in the byte at `offset` of the file at `path`, on the device too;
    /// `None` if there is no such byte.
    pub fn rot(&self, path: &Path, offset: u64, mask: u8) -> Option<Rot> {
        let entry = self.core.state.lock().names.find(path);
        let Ok(Entry::File(file)) = entry else {
            return None;
        };
        let has_rotten = file.content.lock().rot(offset, mask);
        has_rotten.then_some(Rot { file, offset, mask })
    }

    /// Ends the process: its handles die. With the power, what was not flushed is lost, kept or
    /// torn.
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

impl Core {
    /// Notes that the file's bytes or its length change now.
    fn touch(&self, file: &FileNode) {
        file.content.lock().modified = self.clock.now();
    }

    /// What calls have cost that nobody has waited for yet.
    fn charged(&self) -> Duration {
        Duration::from_nanos(self.cost.load(Ordering::Relaxed))
    }

    fn charge(&self, cost: Duration) {
        let nanoseconds = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        self.cost.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

fn times(unit: Duration, count: u64) -> Duration {
    unit.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}
