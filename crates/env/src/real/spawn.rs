//! Tasks of the real world.
//!
//! Input and output: as in [`crate::Spawn`].
//!
//! Invariant: a task of the control lane never runs on a thread of the data lane.
//!
//! Source: none.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::real::io_pool::IoPool;
use crate::{BoxFuture, Lane, Spawn, TaskHandle};

/// Two tokio runtimes and a pool of threads.
pub struct RealSpawn {
    data: Handle,
    control: Handle,
    pool: Arc<IoPool>,
}

impl RealSpawn {
    pub(crate) fn new(data: Handle, control: Handle, pool: Arc<IoPool>) -> Self {
        Self {
            data,
            control,
            pool,
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
        name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(self.pool.submit(name, work))
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
