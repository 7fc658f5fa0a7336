//! The runtime that openraft runs on: the environment's control lane.
//!
//! Input: openraft's calls, which name no environment. Output: tasks and random numbers of the node
//! that the calling task belongs to, found through a task-local.
//!
//! Invariant: a task that openraft starts inherits its parent's environment, so that in simulation
//! the seed decides when it runs and killing the node ends it.
//!
//! Source: openraft's `AsyncRuntime`; timers and channels are tokio's, as everywhere.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::OptionalSend;
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_tokio::{
    TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch,
};
use skein_env::{Env, Lane, TaskHandle};
use tokio::sync::oneshot;

tokio::task_local! {
    static NODE: Env;
}

/// Runs `future` as a part of the node that `env` is.
pub(crate) async fn within<F: Future>(env: Env, future: F) -> F::Output {
    NODE.scope(env, future).await
}

/// Runs `future` as a task of the node's control lane and waits for its result; `None` if the node
/// ends before.
pub(crate) async fn on_control_lane<T: Send + 'static>(
    env: &Env,
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (result, done) = oneshot::channel();
    let task = within(env.clone(), async move {
        // The caller may have gone.
        let _ = result.send(future.await);
    });
    let _task = env.spawn.spawn(Lane::Control, name, Box::pin(task));
    done.await.ok()
}

/// [`on_control_lane`], but the task ends when nobody waits for it any more.
pub(crate) async fn on_control_lane_while_awaited<T: Send + 'static>(
    env: &Env,
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (result, done) = oneshot::channel();
    let task = within(env.clone(), async move {
        // The caller may have gone at this very moment: what it gets is dropped then.
        let _ = result.send(future.await);
    });
    let _task = AbortOnDrop(env.spawn.spawn(Lane::Control, name, Box::pin(task)));
    done.await.ok()
}

struct AbortOnDrop(Box<dyn TaskHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ControlRuntime {
    /// For openraft's own tests, which run on a runtime of their own.
    own: TokioRuntime,
}

/// The task ended without a result: its node was killed.
#[derive(Debug, thiserror::Error)]
#[error("the task was ended")]
pub(crate) struct TaskEnded;

/// The result of a task, when it is there.
pub(crate) struct TaskResult<T>(oneshot::Receiver<T>);

impl<T> Future for TaskResult<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| TaskEnded)
    }
}

/// Random numbers of the node.
pub(crate) struct NodeRng(Option<Env>);

impl rand_core::TryRng for NodeRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match &self.0 {
            Some(env) => env.rng.fill(bytes),
            None => rand_core::Rng::fill_bytes(&mut TokioRuntime::thread_rng(), bytes),
        }
        Ok(())
    }
}

impl AsyncRuntime for ControlRuntime {
    type JoinError = TaskEnded;
    type JoinHandle<T: OptionalSend + 'static> = TaskResult<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = NodeRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> TaskResult<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (result, done) = oneshot::channel();
        let task = async move {
            // Nobody may be waiting for it.
            let _ = result.send(future.await);
        };
        match NODE.try_with(Env::clone) {
            Ok(env) => {
                let task = Box::pin(within(env.clone(), task));
                let _task = env.spawn.spawn(Lane::Control, "raft", task);
            }
            Err(_) => drop(TokioRuntime::spawn(task)),
        }
        TaskResult(done)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: TokioInstant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: TokioInstant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(_join_error: &TaskEnded) -> bool {
        false
    }

    fn thread_rng() -> NodeRng {
        NodeRng(NODE.try_with(Env::clone).ok())
    }

    fn new(threads: usize) -> Self {
        Self {
            own: TokioRuntime::new(threads),
        }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.own.block_on(future)
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let env = NODE.try_with(Env::clone).ok();
        async move {
            match env {
                Some(env) => env
                    .offload_on(Lane::Control, "raft", work)
                    .await
                    .ok_or_else(|| io::Error::other(TaskEnded)),
                None => Ok(work()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_passes_openrafts_suite() {
        openraft::testing::runtime::Suite::<ControlRuntime>::test_all();
    }
}
