//! Simulated times of day.
//!
//! Input: the paused clock of tokio, skews and jumps that a test asks for. Output: milliseconds.
//!
//! Invariant: between two jumps a node's time of day runs as fast as the timers do.
//!
//! Source: none.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use skein_types::Millis;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::Clock;

/// The time of day at which every simulation starts: 2024-01-01 UTC.
const EPOCH_MILLIS: i64 = 1_704_067_200_000;

/// One node's time of day, for tests. Cheap to clone.
#[derive(Clone)]
pub struct SimClockControl {
    runtime: Handle,
    start: Instant,
    skew_millis: Arc<AtomicI64>,
}

impl SimClockControl {
    pub(super) fn new(runtime: Handle, start: Instant) -> Self {
        Self {
            runtime,
            start,
            skew_millis: Arc::new(AtomicI64::new(0)),
        }
    }

    /// Sets by how much this node's time of day is ahead of the simulation's.
    pub fn set_skew(&self, skew: Millis) {
        self.skew_millis.store(skew.get(), Ordering::Relaxed);
    }

    /// Moves the time of day by `distance`, forwards or backwards.
    pub fn jump(&self, distance: Millis) {
        self.skew_millis
            .fetch_add(distance.get(), Ordering::Relaxed);
    }
}

impl Clock for SimClockControl {
    fn now(&self) -> Millis {
        // Outside of the runtime `Instant::now` would be the real time.
        let _guard = self.runtime.enter();
        let elapsed = Instant::now()
            .saturating_duration_since(self.start)
            .as_millis();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let skew = self.skew_millis.load(Ordering::Relaxed);
        Millis(EPOCH_MILLIS.saturating_add(elapsed).saturating_add(skew))
    }
}
