//! Tasks and blocking work.
//!
//! Input: futures and closures. Output: their execution, on the runtime of their lane.
//!
//! Invariants:
//! - Raft, controller and heartbeats have a runtime and a thread of their own ([`Lane::Control`]),
//!   so that no amount of data traffic delays them;
//! - offloaded work runs on a bounded number of threads and waits in a bounded queue, each lane's
//!   on its own: a data disk that hangs does not keep Raft from its log;
//! - what nobody waits for ([`Lane::Background`]) gets the processor time that others leave;
//! - in the simulation the seed decides when a ready task really runs, and killing a node aborts
//!   all of its tasks.
//!
//! Source: none.

use crate::BoxFuture;

/// Which runtime a task belongs to, and which threads its blocking work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Client connections, partitions, fetch waits: tokio's multi-thread runtime.
    Data,
    /// Raft, controller, heartbeats: a runtime on its own thread.
    Control,
    /// What nobody waits for, such as compaction. Its tasks run with those of the data lane; its
    /// blocking work has threads of its own, which give way to all others.
    Background,
}

/// A thread of this process, as the system numbers it; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadNumber(pub u32);

/// A running task.
pub trait TaskHandle: Send + Sync {
    /// Stops the task at its next await; nothing happens if it has ended.
    fn abort(&self);

    /// Whether the task has ended.
    fn is_finished(&self) -> bool;
}

/// Runs tasks and blocking work of one node.
pub trait Spawn: Send + Sync {
    /// Runs `future` as a task of `lane`; `name` is for logs and traces.
    fn spawn(
        &self,
        lane: Lane,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> Box<dyn TaskHandle>;

    /// Runs `work` on a thread that may block (a slow disk, a cold page, a flush); the returned
    /// future ends after it. The work runs also if that future is dropped. In the simulation it
    /// takes the simulated time of the disk calls it made.
    fn offload(
        &self,
        lane: Lane,
        name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()>;

    /// How much offloaded work waits for a thread of `lane`. Simulated nodes have no queue.
    fn queued(&self, lane: Lane) -> usize {
        let _ = lane;
        0
    }

    /// Threads of the data lane. Simulated nodes have none of their own and say as many as a small
    /// machine has.
    fn data_threads(&self) -> usize {
        4
    }

    /// The calling thread, for [`Spawn::is_asleep`]; `None` where threads cannot be told apart.
    fn this_thread(&self) -> Option<ThreadNumber> {
        None
    }

    /// Whether `thread` sleeps in a system call: it waits for the world, and not merely for a
    /// processor. `None` if that cannot be seen.
    fn is_asleep(&self, _thread: ThreadNumber) -> Option<bool> {
        None
    }

    /// Lets other ready tasks run first.
    fn yield_now(&self) -> BoxFuture<'static, ()>;
}
