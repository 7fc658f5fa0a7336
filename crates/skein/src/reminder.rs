//! Tells of something that lasts, without telling it all the time.
//!
//! Input: how long it has lasted. Output: whether to tell: after a while, then after twice as long
//! each time, and at least every five minutes.

use std::time::Duration;

/// Between two times, at most.
const INTERVAL_MAX: Duration = Duration::from_secs(300);

/// When to tell of something that lasts.
#[derive(Debug)]
pub(crate) struct Reminder {
    first: Duration,
    next: Duration,
    /// How long it had lasted when it was told last.
    told: Option<Duration>,
}

impl Reminder {
    /// First told after so long.
    pub(crate) fn new(first: Duration) -> Self {
        Self {
            first,
            next: first,
            told: None,
        }
    }

    /// After how long to tell of it next.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// Whether to tell of it now; if so, it is taken for told.
    pub(crate) fn is_due(&mut self, lasts: Duration) -> bool {
        if lasts < self.next {
            return false;
        }
        let pause = lasts.max(self.first).min(INTERVAL_MAX);
        self.next = lasts.saturating_add(pause);
        self.told = Some(lasts);
        true
    }

    /// It is over. How long it had lasted when it was told last, if it was told.
    pub(crate) fn calm(&mut self) -> Option<Duration> {
        self.next = self.first;
        self.told.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_less_often_the_longer_it_lasts_and_anew_after_its_end() {
        let mut reminder = Reminder::new(Duration::from_secs(5));
        let told = |reminder: &mut Reminder, seconds: u64| -> Vec<u64> {
            let is_due = |at: &u64| reminder.is_due(Duration::from_secs(*at));
            (0..seconds).filter(is_due).collect()
        };
        let expected = [5, 10, 20, 40, 80, 160, 320, 620, 920];
        assert_eq!(told(&mut reminder, 1000), expected);
        assert_eq!(reminder.calm(), Some(Duration::from_secs(920)));
        assert_eq!(reminder.calm(), None);
        assert_eq!(told(&mut reminder, 12), [5, 10]);
    }
}
