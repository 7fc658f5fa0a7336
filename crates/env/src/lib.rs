//! The outside world as traits: disk, network, clock, random numbers, tasks, loggers.
//!
//! Input: what the runtimes ask of the world. Output: the real world (`real`, on tokio and rustix)
//! or, with the feature `sim`, a simulated one that fails on purpose and is decided by a seed
//! (`sim`).
//!
//! Invariants:
//! - no crate above this one names `std::fs`, `std::net`, `tokio::net`, `std::thread` or a random
//!   number generator; `tests/tidy.rs` checks it. Timers are `tokio::time` everywhere: the
//!   simulation runs on tokio's paused clock;
//! - the seam stands only where a system call stands anyway, so that a trait object costs nothing.
//!
//! Source: the design of simulators such as FoundationDB's and TigerBeetle's: production code
//! above, faults below.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;

mod clock;
mod disk;
mod loggers;
mod net;
pub mod real;
mod rng;
#[cfg(feature = "sim")]
pub mod sim;
mod spawn;

pub use clock::Clock;
pub use disk::{
    CacheSteps, Disk, DiskSpace, EntryKind, File, IndexMap, LockGuard, OpenMode, Residency,
};
pub use loggers::{LogLevel, Loggers, NoLoggers, ROOT_LOGGER};
pub use net::{ListenOptions, Listener, Net, Stream};
pub use rng::Rng;
pub use spawn::{Lane, Spawn, TaskHandle, ThreadNumber};

/// A future on the heap, as the object-safe traits here return them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One node's view of the world. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Connections.
    pub net: Arc<dyn Net>,
    /// Random numbers.
    pub rng: Arc<dyn Rng>,
    /// Tasks and blocking work.
    pub spawn: Arc<dyn Spawn>,
    /// What is logged.
    pub loggers: Arc<dyn Loggers>,
}

impl Env {
    /// Runs `work` of the data lane where it may block, and returns what it says; `None` if the
    /// node was ended before.
    pub async fn offload<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.offload_on(Lane::Data, name, work).await
    }

    /// [`Env::offload`] for any lane.
    pub async fn offload_on<T: Send + 'static>(
        &self,
        lane: Lane,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (result, done) = oneshot::channel();
        let work = Box::new(move || {
            // The caller may have gone.
            let _ = result.send(work());
        });
        self.spawn.offload(lane, name, work).await;
        done.await.ok()
    }
}
