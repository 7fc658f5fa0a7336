//! Tasks of the real world.
//!
//! Input and output: as in [`crate::Spawn`].
//!
//! Invariant: neither a task nor blocking work of the control lane ever runs on a thread of another
//! lane, or waits for one.
//!
//! Source: `proc_pid_stat(5)` for a thread's state.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::real::background::BackgroundPool;
use crate::real::courtesy::Courtesy;
use crate::real::io_pool::IoPool;
use crate::{BoxFuture, Lane, Spawn, TaskHandle, ThreadNumber};

/// Jobs that wait for a thread of a pool before [`Spawn::offload`] makes its callers wait, for each
/// of its threads.
const QUEUED_JOBS_PER_IO_THREAD: usize = 64;

/// Threads for blocking work of the control lane: the metadata log needs one, and a snapshot, which
/// takes longer, another.
const CONTROL_IO_THREADS: usize = 2;

/// Jobs of the background lane that wait for a thread.
const QUEUED_BACKGROUND_JOBS: usize = 2 * QUEUED_JOBS_PER_IO_THREAD;

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
    background: BackgroundPool,
}

impl IoPools {
    /// Starts `data_threads` threads, and those of the other lanes.
    pub(super) fn new(data_threads: usize) -> io::Result<Self> {
        let pool = |name, threads| {
            let queue_max = threads * QUEUED_JOBS_PER_IO_THREAD;
            IoPool::new(name, threads, queue_max, Courtesy::None)
        };
        Ok(Self {
            data: pool("io", data_threads.max(1))?,
            control: pool("control-io", CONTROL_IO_THREADS)?,
            background: BackgroundPool::new(QUEUED_BACKGROUND_JOBS)?,
        })
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
        match lane {
            Lane::Data => Box::pin(self.pools.data.submit(name, work)),
            Lane::Control => Box::pin(self.pools.control.submit(name, work)),
            Lane::Background => self.pools.background.submit(name, work),
        }
    }

    fn queued(&self, lane: Lane) -> usize {
        match lane {
            Lane::Data => self.pools.data.queued(),
            Lane::Control => self.pools.control.queued(),
            Lane::Background => self.pools.background.queued(),
        }
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
