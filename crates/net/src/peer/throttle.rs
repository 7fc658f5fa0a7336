//! A line of the log that strangers can cause, at most once in a while.
//!
//! Input: the time. Output: whether to log now, and how often it was left out since.
//!
//! Invariant, checked by the test below: at most one in [`INTERVAL`].
//!
//! Source: none.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long after a line the next one may follow.
const INTERVAL: Duration = Duration::from_secs(10);

/// Tells when to log again.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// `Some` if a line may be logged at `now`, with the number of those left out before.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now < last + INTERVAL) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_logged_once_in_an_interval_and_counts_those_left_out() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!(throttle.admit(start), None);
        assert_eq!(
            throttle.admit(start + INTERVAL - Duration::from_millis(1)),
            None
        );
        assert_eq!(throttle.admit(start + INTERVAL), Some(2));
        assert_eq!(throttle.admit(start + 3 * INTERVAL), Some(0));
    }
}
