//! The real world: Linux, through tokio and rustix.
//!
//! Input: [`RealOptions`], or the runtimes of somebody else. Output: an [`Env`] whose calls are
//! system calls.
//!
//! Invariants:
//! - one trait call is one system call where the kernel has one for it, and allocates nothing on
//!   the way of records (read, write, send file, append);
//! - [`Lane::Control`](crate::Lane::Control) has a thread that no other task runs on;
//! - unsafe code of the product stands in `real/disk.rs` (reading a map), `real/net.rs` (borrowing
//!   a descriptor) and `real/courtesy.rs` (a thread's policy and slice), nowhere else in the
//!   workspace.
//!
//! Source: Linux manual pages, section 2.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use skein_types::Millis;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::{Clock, Env, NoLoggers, Rng};

mod background;
mod courtesy;
mod disk;
mod io_pool;
mod net;
mod spawn;

pub use disk::RealDisk;
pub use net::RealNet;
pub use spawn::RealSpawn;

use courtesy::Courtesy;
use spawn::IoPools;

/// How many tasks a worker of the data lane polls before it looks at the sockets.
///
/// While one worker waits for the sockets, the others sleep; when it leaves with a single task,
/// none takes its place. A full-rate writer's task is ready again after each turn of a millisecond,
/// so with tokio's default of 61 all other connections were not heard for as many milliseconds. A
/// look is one `epoll_wait` that returns at once.
const POLLS_BETWEEN_EVENTS: u32 = 2;

/// How many threads the real world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealOptions {
    /// Threads of the data lane, at least 1.
    pub network_threads: usize,
    /// Threads for blocking work of the data lane, at least 1.
    pub io_threads: usize,
}

impl Default for RealOptions {
    /// Twice the cores and no fewer than four network threads: some of them stand in inline writes.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            network_threads: (2 * cores).max(4),
            io_threads: (2 * cores).max(8),
        }
    }
}

/// The runtimes and threads of one process, and the [`Env`] on them.
pub struct RealWorld {
    env: Env,
    pools: Arc<IoPools>,
    data: Runtime,
    /// Dropped, it ends the control thread.
    _control_stop: oneshot::Sender<()>,
}

impl RealWorld {
    /// Starts the threads.
    ///
    /// # Errors
    /// What the system says: no more threads, no more descriptors.
    pub fn new(options: RealOptions) -> io::Result<Self> {
        let data = Builder::new_multi_thread()
            .worker_threads(options.network_threads.max(1))
            .event_interval(POLLS_BETWEEN_EVENTS)
            .thread_name("skein-data")
            .on_thread_start(|| Courtesy::Brief.take_effect())
            .enable_all()
            .build()?;
        let (control, control_stop) = start_control_thread()?;
        let pools = Arc::new(IoPools::new(options.io_threads)?);
        let env = environment(data.handle().clone(), control, Arc::clone(&pools));
        Ok(Self {
            env,
            pools,
            data,
            _control_stop: control_stop,
        })
    }

    /// The environment of this process.
    #[must_use]
    pub fn env(&self) -> Env {
        self.env.clone()
    }

    /// Runs `future` on the calling thread, with the data lane around it, until it ends.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.data.block_on(future)
    }

    /// Aborts all tasks and finishes the offloaded work. Waits no longer than `timeout`, because a
    /// hung disk hangs its thread; says whether everything ended in time.
    #[must_use]
    pub fn shutdown(self, timeout: Duration) -> bool {
        let Self {
            env,
            pools,
            data,
            _control_stop,
        } = self;
        drop(env);
        data.shutdown_timeout(timeout);
        pools.finish(Instant::now() + timeout)
    }
}

/// The environment on runtimes that somebody else keeps: for tests and for programs that have one.
/// `control` may be the same as `data`.
///
/// # Errors
/// What the system says when it refuses a thread.
pub fn environment_on(data: Handle, control: Handle, options: RealOptions) -> io::Result<Env> {
    let pools = Arc::new(IoPools::new(options.io_threads)?);
    Ok(environment(data, control, pools))
}

/// Raises the soft limit of open descriptors to the hard one; returns it, `None` for no limit.
///
/// # Errors
/// What the system says.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(getrlimit(Resource::Nofile).current)
}

/// Waits for SIGTERM or SIGINT; returns the signal's name. Needs a runtime of [`RealWorld`] around
/// it.
///
/// # Errors
/// What the system says when it refuses the handler.
pub async fn termination_signal() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

fn environment(data: Handle, control: Handle, pools: Arc<IoPools>) -> Env {
    Env {
        clock: Arc::new(RealClock),
        disk: Arc::new(RealDisk),
        net: Arc::new(RealNet::new(data.clone())),
        rng: Arc::new(RealRng),
        spawn: Arc::new(RealSpawn::new(data, control, pools)),
        // Who starts the process logs, and puts its own here.
        loggers: Arc::new(NoLoggers),
    }
}

fn start_control_thread() -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    thread::Builder::new()
        .name("skein-control".into())
        .spawn(move || {
            Courtesy::Brief.take_effect();
            // Both outcomes, sent and dropped, mean the end.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
    Ok((handle, stop))
}

/// The system's time of day.
struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Millis {
        let since_epoch = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        Millis(since_epoch)
    }
}

/// The kernel's random numbers.
struct RealRng;

impl Rng for RealRng {
    /// # Panics
    /// If the kernel refuses; it does so only before Linux 3.17.
    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => panic!("getrandom: {errno}"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
