//! Tasks of the real world.
//!
//! Input and output: as in [`crate::Spawn`].
//!
//! Invariant: neither a task nor blocking work of the control lane ever runs on a thread of the data
//! lane, or waits for one.
//!
//! Source: none.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::real::io_pool::IoPool;
use crate::{BoxFuture, Lane, Spawn, TaskHandle};

/// Jobs that wait for a thread of a pool before [`Spawn::offload`] makes its callers wait, for each
/// of its threads.
const QUEUED_JOBS_PER_IO_THREAD: usize = 64;

/// Threads for blocking work of the control lane: the metadata log needs one, and a snapshot, which
/// takes longer, another.
const CONTROL_IO_THREADS: usize = 2;

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
}

impl IoPools {
    /// Starts `data_threads` threads, and those of the control lane.
    pub(super) fn new(data_threads: usize) -> io::Result<Self> {
        let pool = |name, threads| IoPool::new(name, threads, threads * QUEUED_JOBS_PER_IO_THREAD);
        Ok(Self {
            data: pool("io", data_threads.max(1))?,
            control: pool("control-io", CONTROL_IO_THREADS)?,
        })
    }

    /// Ends the threads after what is queued; says whether all of them ended before `deadline`.
    pub(super) fn finish(&self, deadline: Instant) -> bool {
        let data = self.data.finish(deadline);
        self.control.finish(deadline) && data
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
            Lane::Data => &self.data,
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
        let pool = match lane {
            Lane::Data => &self.pools.data,
            Lane::Control => &self.pools.control,
        };
        Box::pin(pool.submit(name, work))
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
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
