//! The time-outs of produces that wait.
//!
//! Input: the earliest deadline of the state machine. Output: [`Input::TimerFired`] when it has
//! come.
//!
//! Invariants:
//! - at most one task sleeps for a replica, and for the earliest deadline;
//! - it keeps no replica alive: a client may ask for weeks;
//! - the time of day has no part in it: that may jump.
//!
//! Source: none.

use std::sync::Weak;
use std::time::Duration;

use skein_env::{Lane, TaskHandle};
use skein_types::Millis;
use tokio::time::Instant;

use super::{Core, Input};

/// A task that sleeps until produces are to be timed out.
pub(super) struct Timer {
    deadline: Millis,
    task: Box<dyn TaskHandle>,
}

impl Core {
    /// Sees to it that produces whose time is up are answered.
    pub(super) fn set_timer(&mut self) {
        let Some(deadline) = self.machine.next_deadline() else {
            return;
        };
        if self
            .timer
            .as_ref()
            .is_some_and(|timer| timer.deadline <= deadline)
        {
            return;
        }
        let now = self.basis.monotonic(Instant::now());
        let wait = u64::try_from(deadline.saturating_sub(now).get()).unwrap_or(0);
        // Not for as long as the timer runs: a client may ask for weeks.
        let replica = Weak::clone(&self.replica);
        let task = async move {
            tokio::time::sleep(Duration::from_millis(wait.max(1))).await;
            if let Some(replica) = replica.upgrade() {
                replica.submit(Input::TimerFired);
            }
        };
        let spawn = &self.basis.env.spawn;
        let task = spawn.spawn(Lane::Data, "produce-timeout", Box::pin(task));
        self.timer = Some(Timer { deadline, task });
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
