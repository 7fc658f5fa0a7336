//! How long a connection may keep its worker.
//!
//! Input: the start of each poll, bytes moved. Output: whether it is time to let others run.
//!
//! Invariant: a connection yields after about [`TURN_MAX`] or [`TURN_MAX_BYTES`]. Without it, side
//! requests beside a full-rate writer wait for seconds; with it their p99 is a few milliseconds.
//!
//! Source: measured; see "Fair turns" in `ARCHITECTURE.md`.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time after which a connection yields.
pub(crate) const TURN_MAX: Duration = Duration::from_millis(1);

/// Bytes received or sent after which a connection yields.
pub(crate) const TURN_MAX_BYTES: usize = 2 * 1024 * 1024;

/// One connection's turn. Only its task uses it; the lock is never contended.
pub(crate) struct Turn {
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    started: Instant,
    bytes: usize,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                started: Instant::now(),
                bytes: 0,
            }),
        }
    }

    /// The task has been polled: a new turn.
    pub(crate) fn start(&self) {
        *self.state.lock() = State {
            started: Instant::now(),
            bytes: 0,
        };
    }

    pub(crate) fn count(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_add(bytes);
    }

    /// Whatever is left of it, it is spent.
    pub(crate) fn end(&self) {
        self.state.lock().bytes = TURN_MAX_BYTES;
    }

    pub(crate) fn is_spent(&self) -> bool {
        let state = *self.state.lock();
        state.bytes >= TURN_MAX_BYTES || state.started.elapsed() >= TURN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_spent_by_time_or_by_bytes() {
        let turn = Turn::new();
        assert!(!turn.is_spent());
        turn.count(TURN_MAX_BYTES);
        assert!(turn.is_spent());
        turn.start();
        assert!(!turn.is_spent());
        tokio::time::advance(TURN_MAX).await;
        assert!(turn.is_spent());
        turn.start();
        turn.end();
        assert!(turn.is_spent(), "ended early");
    }
}
