//! Tasks of the real world.
//!
//! Input and output: as in [`crate::Spawn`].
//!
//! Invariant: neither a task nor blocking work of the control lane ever runs on a thread of another
//! lane, or waits for one.
//!
//! Source: `proc_pid_stat(5)` for a thread's state; `sched(7)` for what a nice value does.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::real::io_pool::{IoPool, Niceness};
use crate::{BoxFuture, Lane, Spawn, TaskHandle, ThreadNumber};

/// Jobs that wait for a thread of a pool before [`Spawn::offload`] makes its callers wait, for each
/// of its threads.
const QUEUED_JOBS_PER_IO_THREAD: usize = 64;

/// Threads for blocking work of the control lane: the metadata log needs one, and a snapshot, which
/// takes longer, another.
const CONTROL_IO_THREADS: usize = 2;

/// Threads for blocking work of the background lane.
const BACKGROUND_IO_THREADS: usize = 2;

/// How nice they are: beside a thread that always wants to run they get a tenth of a processor, and
/// a thread that wakes up takes the processor from them at once. Not the nicest: a node that is
/// busy for days must be compacted all the same.
const BACKGROUND_NICENESS: Niceness = Niceness(10);

/// Two tokio runtimes, and a pool of threads for each.
pub struct RealSpawn {
    data: Handle,
    control: Handle,
    pools: Arc<IoPools>,
}

/// The threads of blocking work, by lane.
pub(super) struct IoPools {
    data: IoPool,
    control: IoPool,
    background: IoPool,
}

impl IoPools {
    /// Starts `data_threads` threads, and those of the other lanes.
    pub(super) fn new(data_threads: usize) -> io::Result<Self> {
        let pool = |name, threads, niceness| {
            IoPool::new(name, threads, threads * QUEUED_JOBS_PER_IO_THREAD, niceness)
        };
        Ok(Self {
            data: pool("io", data_threads.max(1), Niceness::NONE)?,
            control: pool("control-io", CONTROL_IO_THREADS, Niceness::NONE)?,
            background: pool("background", BACKGROUND_IO_THREADS, BACKGROUND_NICENESS)?,
        })
    }

    fn of(&self, lane: Lane) -> &IoPool {
        match lane {
            Lane::Data => &self.data,
            Lane::Control => &self.control,
            Lane::Background => &self.background,
        }
    }

    /// Ends the threads after what is queued; says whether all of them ended before `deadline`.
    pub(super) fn finish(&self, deadline: Instant) -> bool {
        let data = self.data.finish(deadline);
        let background = self.background.finish(deadline);
        self.control.finish(deadline) && data && background
    }
}

impl RealSpawn {
    pub(super) fn new(data: Handle, control: Handle, pools: Arc<IoPools>) -> Self {
        Self {
            data,
            control,
            pools,
        }
    }
}

impl Spawn for RealSpawn {
    fn data_threads(&self) -> usize {
        self.data.metrics().num_workers()
    }

    fn spawn(
        &self,
        lane: Lane,
        _name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> Box<dyn TaskHandle> {
        let runtime = match lane {
            Lane::Data | Lane::Background => &self.data,
            Lane::Control => &self.control,
        };
        Box::new(RealTask {
            task: runtime.spawn(future).abort_handle(),
        })
    }

    fn offload(
        &self,
        lane: Lane,
        name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(self.pools.of(lane).submit(name, work))
    }

    fn queued(&self, lane: Lane) -> usize {
        self.pools.of(lane).queued()
    }

    fn this_thread(&self) -> Option<ThreadNumber> {
        thread_local! {
            static NUMBER: ThreadNumber =
                ThreadNumber(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        }
        NUMBER.try_with(|number| *number).ok()
    }

    fn is_asleep(&self, thread: ThreadNumber) -> Option<bool> {
        let stat = std::fs::read(format!("/proc/self/task/{}/stat", thread.0)).ok()?;
        state_of(&stat).map(|state| state != b'R')
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

/// The state in a thread's `stat`: the letter behind the name, which stands in parentheses and may
/// hold any byte.
fn state_of(stat: &[u8]) -> Option<u8> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).copied()
}

struct RealTask {
    task: AbortHandle,
}

impl TaskHandle for RealTask {
    fn abort(&self) {
        self.task.abort();
    }

    fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_a_name_of_any_bytes() {
        assert_eq!(state_of(b"7 (skein-data) R 1 7"), Some(b'R'));
        assert_eq!(state_of(b"7 (a) S (b) D 1 7"), Some(b'D'));
        assert_eq!(state_of(b"7 (cut"), None);
        assert_eq!(state_of(b"7 (cut)"), None);
    }
}
