//! How often something that does not succeed is tried again, and how often the log hears of it.
//!
//! Input: each failure, the time. Output: a pause; whether to write a line.
//!
//! Invariants, checked by the tests below:
//! - pauses grow up to [`PAUSE_MAX`]: what is over soon is found out soon, and what lasts costs
//!   little;
//! - a trouble has a line when it begins, and then ever fewer.
//!
//! Source: none.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// From the first line to the second; each further one takes twice as long.
const LINES_MIN: Duration = Duration::from_secs(1);

/// The longest time between lines.
const LINES_MAX: Duration = Duration::from_secs(60);

/// Of one trouble.
pub(super) struct Patience {
    pause: Duration,
    /// When the next line is due, and how long after it the one that follows.
    lines: Option<(Instant, Duration)>,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self {
            pause: PAUSE_MIN,
            lines: None,
        }
    }

    /// How long to wait after one more failure.
    pub(super) fn pause(&mut self) -> Duration {
        let longer = self.pause.saturating_mul(2).min(PAUSE_MAX);
        std::mem::replace(&mut self.pause, longer)
    }

    /// Something has changed: the next pause is the shortest again.
    pub(super) const fn hurry(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// Whether a failure at `now` has a line.
    pub(super) fn may_log(&mut self, now: Instant) -> bool {
        let (due, interval) = self.lines.unwrap_or((now, LINES_MIN));
        let is_due = now >= due;
        if is_due {
            self.lines = Some((now + interval, interval.saturating_mul(2).min(LINES_MAX)));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_short_again_after_a_change() {
        let mut patience = Patience::new();
        let mut pauses = |count| -> Vec<u128> {
            let pauses = (0..count).map(|_| patience.pause().as_millis());
            pauses.collect()
        };
        assert_eq!(pauses(7), [10, 20, 40, 80, 160, 200, 200]);
        patience.hurry();
        assert_eq!(patience.pause(), PAUSE_MIN);
    }

    #[test]
    fn a_trouble_has_a_line_when_it_begins_and_then_ever_fewer() {
        let (mut patience, begun) = (Patience::new(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        let lines = (0..200_000).step_by(10);
        let lines: Vec<u64> = lines.filter(|ms| patience.may_log(at(*ms))).collect();
        let expected = [
            0, 1_000, 3_000, 7_000, 15_000, 31_000, 63_000, 123_000, 183_000,
        ];
        assert_eq!(lines, expected);
    }
}
