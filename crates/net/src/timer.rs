//! A deadline that moves often.
//!
//! Input: a limit, set anew whenever something happens. Output: whether nothing has for that long.
//!
//! Invariant: it is over at its deadline and never before. The sleep behind it is armed anew only
//! when it fires too early or would fire too late, so that moving the deadline costs a look at the
//! clock.
//!
//! Source: none.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A deadline that is cheap to move.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
    limit: Duration,
}

impl Timer {
    pub(crate) fn new(limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        Self {
            sleep: Box::pin(tokio::time::sleep_until(deadline)),
            deadline,
            limit,
        }
    }

    /// From now on it is over after `limit`.
    pub(crate) fn set(&mut self, limit: Duration) {
        self.limit = limit;
        self.deadline = Instant::now() + limit;
        if self.sleep.deadline() > self.deadline {
            self.sleep.as_mut().reset(self.deadline);
        }
    }

    /// Ready with the limit when it is over.
    pub(crate) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Duration> {
        while self.sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(self.limit);
            }
            self.sleep.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const SECOND: Duration = Duration::from_secs(1);

    async fn over_after(timer: &mut Timer) -> Duration {
        let start = Instant::now();
        poll_fn(|context| timer.poll_over(context)).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_back_is_not_over_at_the_first_one() {
        let mut timer = Timer::new(SECOND);
        tokio::time::advance(SECOND / 2).await;
        timer.set(3 * SECOND);
        let waited = over_after(&mut timer).await;
        assert!((3 * SECOND..4 * SECOND).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_forward_is_over_earlier() {
        let mut timer = Timer::new(600 * SECOND);
        timer.set(SECOND);
        let waited = over_after(&mut timer).await;
        assert!((SECOND..2 * SECOND).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_was_over_runs_again() {
        let mut timer = Timer::new(SECOND);
        over_after(&mut timer).await;
        timer.set(SECOND);
        assert!(over_after(&mut timer).await >= SECOND);
    }
}
