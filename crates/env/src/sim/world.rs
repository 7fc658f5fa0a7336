//! The simulated world: its nodes, its thread, its end.
//!
//! Input: a seed; the names of nodes; kills and power cuts. Output: an [`Env`] for each process.
//!
//! A *node* is a name with a disk, a clock and an address; it is there for the whole run. A
//! *process* is what runs on it: it ends by a kill or a power cut, and the next call of
//! [`SimWorld::node`] starts another one.
//!
//! Invariants:
//! - a node has at most one living process; an [`Env`] belongs to one process for ever;
//! - every random decision comes from a fork of the world's seed that is named after its purpose.
//!
//! Source: none.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::sim::clock::SimClockControl;
use crate::sim::disk::{Death, SimDisk};
use crate::sim::net::{Fabric, HostId, SimNet, SimNetControl};
use crate::sim::rng::SimRng;
use crate::sim::spawn::{Schedule, SimSpawn};
use crate::sim::trace::Trace;
use crate::{Env, NoLoggers, Rng};

/// Simulated time after which a run counts as standing still.
const RUN_MAX: Duration = Duration::from_secs(60 * 60);

/// Handles of ended tasks are thrown away when a process has this many, and at each doubling.
const TASKS_BEFORE_CLEANING: usize = 64;

/// A world that one seed decides.
pub struct SimWorld {
    state: Arc<WorldState>,
    runtime: Runtime,
}

impl SimWorld {
    /// The world of `seed`, without nodes.
    ///
    /// # Panics
    /// If the system refuses a runtime.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        let runtime = match builder.build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("the simulation has no runtime: {error}"),
        };
        let start = {
            let _guard = runtime.enter();
            Instant::now()
        };
        let rng = SimRng::new(seed);
        let trace = Arc::new(Trace::default());
        let fabric = Fabric::new(
            rng.fork("net"),
            Arc::clone(&trace),
            runtime.handle().clone(),
        );
        let schedule = Scheduler {
            schedule: Schedule::default(),
            rng: rng.fork("schedule"),
        };
        let state = Arc::new(WorldState {
            seed,
            rng,
            runtime: runtime.handle().clone(),
            start,
            trace,
            fabric: Arc::new(fabric),
            scheduler: Mutex::new(schedule),
            nodes: Mutex::new(BTreeMap::new()),
            panic: Mutex::new(None),
            main: Mutex::new(None),
            tasks: AtomicU64::new(0),
        });
        Self { state, runtime }
    }

    /// The environment of the process that lives on the node `name`; makes the node when it is new,
    /// starts a process when none lives. `name` is a host name of the simulated network.
    #[must_use]
    pub fn node(&self, name: &str) -> Env {
        self.state.environment(name)
    }

    /// The node's address.
    #[must_use]
    pub fn address(&self, name: &str) -> IpAddr {
        let host = self.state.with_node(name, |node| node.host);
        self.state.fabric.address(host)
    }

    /// The node's disk.
    #[must_use]
    pub fn disk(&self, name: &str) -> SimDisk {
        self.state.with_node(name, |node| node.disk.clone())
    }

    /// The node's time of day.
    #[must_use]
    pub fn clock(&self, name: &str) -> SimClockControl {
        self.state.with_node(name, |node| node.clock.clone())
    }

    /// The network.
    #[must_use]
    pub fn net(&self) -> SimNetControl {
        SimNetControl::new(Arc::clone(&self.state.fabric))
    }

    /// Random numbers for the test itself, the same for the same seed and `purpose`.
    #[must_use]
    pub fn rng(&self, purpose: &str) -> SimRng {
        self.state.rng.fork("test").fork(purpose)
    }

    /// Sets how the seed disturbs tasks.
    pub fn set_schedule(&self, schedule: Schedule) {
        self.state.scheduler.lock().schedule = schedule;
    }

    /// Ends the node's process as `kill -9` does: its tasks stop, its connections close, what it
    /// wrote stays in the page cache.
    pub fn kill(&self, name: &str) {
        self.state.end_node(name, Death::Kill);
    }

    /// Takes the power of the node's machine: what it did not flush may be lost, its peers hear
    /// nothing until it is back.
    pub fn power_cut(&self, name: &str) {
        self.state.end_node(name, Death::PowerCut);
    }

    /// Whether a process lives on the node.
    #[must_use]
    pub fn is_alive(&self, name: &str) -> bool {
        let process = self
            .state
            .nodes
            .lock()
            .get(name)
            .and_then(|node| node.process.clone());
        process.is_some_and(|process| process.is_alive())
    }

    /// Runs `future` and everything that is spawned until it ends.
    ///
    /// # Panics
    /// With the panic of any task of a living process, and after an hour of simulated time: then
    /// nothing moves any more.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(async {
            let mut limit = pin!(sleep(RUN_MAX));
            let mut future = pin!(future);
            poll_fn(|context| {
                self.state.main.lock().replace(context.waker().clone());
                let result = future.as_mut().poll(context);
                if let Some(panic) = self.state.panic.lock().take() {
                    resume_unwind(panic);
                }
                if result.is_pending() && limit.as_mut().poll(context).is_ready() {
                    let seed = self.state.seed;
                    panic!("seed {seed}: the simulation stands still: {RUN_MAX:?} passed");
                }
                match result {
                    Poll::Ready(output) => Poll::Ready(output),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        })
    }

    /// Ends the world and everything in it.
    ///
    /// # Errors
    /// What is still there: something that lived in it holds it, and itself. A node that ended must
    /// leave nothing behind, or a process that starts and ends many of them grows without end.
    pub fn end(self) -> Result<(), String> {
        let world = Arc::downgrade(&self.state);
        let disks: Vec<_> = {
            let nodes = self.state.nodes.lock();
            let disks = nodes.iter().map(|(name, node)| (name, &node.disk));
            disks
                .map(|(name, disk)| (name.clone(), disk.downgrade()))
                .collect()
        };
        drop(self);
        let holders = world.strong_count();
        if holders > 0 {
            return Err(format!("{holders} parts of processes that have ended"));
        }
        for (name, disk) in disks {
            let holders = disk.strong_count();
            if holders > 0 {
                return Err(format!("{holders} handles of the disk of {name}"));
            }
        }
        Ok(())
    }

    /// A hash over everything that happened so far; the same for the same seed.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state.trace.hash()
    }

    /// Keeps what happens from now on as lines to read too.
    pub fn keep_log(&self) {
        self.state.trace.keep_log();
    }

    /// The last lines of the log, oldest first; empty unless it is kept.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.state.trace.log()
    }
}

impl Drop for SimWorld {
    fn drop(&mut self) {
        // Processes and world hold each other; this cuts the circle.
        let nodes = std::mem::take(&mut *self.state.nodes.lock());
        for process in nodes.into_values().filter_map(|node| node.process) {
            process.end();
        }
    }
}

/// What all parts of a world share.
pub(super) struct WorldState {
    /// For who has to tell of a run that stands still.
    seed: u64,
    rng: SimRng,
    runtime: Handle,
    start: Instant,
    trace: Arc<Trace>,
    fabric: Arc<Fabric>,
    scheduler: Mutex<Scheduler>,
    nodes: Mutex<BTreeMap<String, Node>>,
    /// The first panic of a task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Wakes the run's main future.
    main: Mutex<Option<Waker>>,
    tasks: AtomicU64,
}

struct Scheduler {
    schedule: Schedule,
    rng: SimRng,
}

struct Node {
    host: HostId,
    disk: SimDisk,
    clock: SimClockControl,
    process: Option<Arc<Process>>,
    processes: u64,
}

impl WorldState {
    fn with_node<T>(self: &Arc<Self>, name: &str, see: impl FnOnce(&mut Node) -> T) -> T {
        let mut nodes = self.nodes.lock();
        let node = nodes.entry(name.to_owned()).or_insert_with(|| {
            let rng = self.rng.fork("disk").fork(name);
            let world: Weak<Self> = Arc::downgrade(self);
            let clock = SimClockControl::new(self.runtime.clone(), self.start);
            Node {
                host: self.fabric.add_host(name),
                disk: SimDisk::new(name, rng, Arc::clone(&self.trace), world, clock.clone()),
                clock,
                process: None,
                processes: 0,
            }
        });
        see(node)
    }

    fn environment(self: &Arc<Self>, name: &str) -> Env {
        self.with_node(name, |node| {
            let process = match &node.process {
                Some(process) => Arc::clone(process),
                None => {
                    node.processes += 1;
                    self.trace
                        .note("start", &[node.processes], || name.to_owned());
                    self.fabric.start_host(node.host);
                    let random = self.rng.fork("random").fork(name);
                    let rng = random.fork(&node.processes.to_string());
                    let process = Arc::new(Process::new(Arc::clone(self), rng));
                    node.process = Some(Arc::clone(&process));
                    process
                }
            };
            let disk = Arc::new(node.disk.view());
            let net = SimNet::new(Arc::clone(&self.fabric), Arc::clone(&process), node.host);
            Env {
                clock: Arc::new(node.clock.clone()),
                disk: Arc::clone(&disk) as _,
                net: Arc::new(net),
                rng: Arc::clone(&process) as _,
                spawn: Arc::new(SimSpawn::new(process, disk)),
                loggers: Arc::new(NoLoggers),
            }
        })
    }

    /// Ends the process on the node; nothing happens if none lives.
    pub(super) fn end_node(&self, name: &str, death: Death) {
        let mut nodes = self.nodes.lock();
        let Some(node) = nodes.get_mut(name) else {
            return;
        };
        let Some(process) = node.process.take() else {
            return;
        };
        let (host, disk) = (node.host, node.disk.clone());
        drop(nodes);
        self.trace
            .note("end", &[death as u64], || format!("{name} {death:?}"));
        process.end();
        disk.die(death);
        self.fabric.end_host(host, death);
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn next_task(&self) -> u64 {
        self.tasks.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether, and for how long, a task waits before its poll; zero is the end of the queue.
    pub(super) fn draw_disturbance(&self, task: u64, name: &str) -> Option<Duration> {
        let Scheduler { schedule, rng } = &mut *self.scheduler.lock();
        let delay = if rng.chance(schedule.delay_one_in) {
            Some(draw_duration(rng, schedule.delay_max))
        } else if rng.chance(schedule.yield_one_in) {
            Some(Duration::ZERO)
        } else {
            None
        };
        let word = delay.map_or(u64::MAX, |delay| delay.as_micros().try_into().unwrap_or(0));
        self.trace.note("poll", &[task, word], || {
            format!("task {task} {name} delay {delay:?}")
        });
        delay
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn draw_offload_delay(&self) -> Duration {
        let Scheduler { schedule, rng } = &mut *self.scheduler.lock();
        draw_duration(rng, schedule.offload_delay_max)
    }

    /// Ends the run with `panic`, if it is the first.
    pub(super) fn record_panic(&self, panic: Box<dyn Any + Send>) {
        self.panic.lock().get_or_insert(panic);
        if let Some(main) = self.main.lock().take() {
            main.wake();
        }
    }
}

fn draw_duration(rng: &mut SimRng, max: Duration) -> Duration {
    let max_micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.between(0, max_micros))
}

/// What runs on a node between its start and its end.
pub(super) struct Process {
    pub(super) world: Arc<WorldState>,
    alive: AtomicBool,
    rng: Mutex<SimRng>,
    tasks: Mutex<Tasks>,
}

struct Tasks {
    handles: Vec<AbortHandle>,
    clean_at: usize,
}

impl Process {
    fn new(world: Arc<WorldState>, rng: SimRng) -> Self {
        let tasks = Tasks {
            handles: Vec::new(),
            clean_at: TASKS_BEFORE_CLEANING,
        };
        Self {
            world,
            alive: AtomicBool::new(true),
            rng: Mutex::new(rng),
            tasks: Mutex::new(tasks),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(super) fn add_task(&self, task: AbortHandle) {
        let mut tasks = self.tasks.lock();
        if tasks.handles.len() >= tasks.clean_at {
            tasks.handles.retain(|task| !task.is_finished());
            tasks.clean_at = TASKS_BEFORE_CLEANING.max(2 * tasks.handles.len());
        }
        tasks.handles.push(task);
    }

    fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
        // Not under the lock: a task that is dropped at once may spawn.
        let handles = std::mem::take(&mut self.tasks.lock().handles);
        for task in handles {
            task.abort();
        }
    }
}

impl Rng for Process {
    fn fill(&self, bytes: &mut [u8]) {
        self.rng.lock().fill(bytes);
    }
}
