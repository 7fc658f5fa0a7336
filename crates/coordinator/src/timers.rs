//! The deadlines of a shard.
//!
//! Input: deadlines that are set, moved and cancelled. Output: the earliest moment at which one may
//! be due, and whose it is.
//!
//! A [`Timer`] lies with what it is for; the queue of [`Timers`] holds at most one entry for it, at
//! its deadline or before. Moving a deadline later, as each heartbeat does, touches the timer only:
//! when the entry comes up early, it is put back to where the deadline is by then. So a heartbeat
//! costs a comparison, without allocation, and a member costs one turn of the queue a session.
//!
//! Invariant, checked by the tests below: a timer fires once, never before its deadline, and not
//! when it was cancelled; the queue has no entry more than there are timers set.

use std::collections::BTreeSet;

use skein_protocol::Str;
use skein_types::Millis;

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// The group's rebalance goes on without those who have not joined.
    Join(Str),
    /// The group goes on without those who have not synced.
    Sync(Str),
    /// The group's member was not heard of for a session.
    Session(Str, Str),
    /// Offsets may have expired.
    Expiry,
}

/// A deadline, or none, on the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    deadline: Option<Millis>,
    /// Where its entry in the queue is: never after the deadline.
    queued_at: Option<Millis>,
}

/// The queue of all timers of a shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Millis, TimerKey)>,
}

impl Timer {
    /// Sets or moves the deadline; `key` is the timer's own, the same each time.
    pub(crate) fn set(
        &mut self,
        deadline: Millis,
        timers: &mut Timers,
        key: impl FnOnce() -> TimerKey,
    ) {
        self.deadline = Some(deadline);
        match self.queued_at {
            Some(queued_at) if queued_at <= deadline => {}
            earlier => {
                let key = key();
                if let Some(queued_at) = earlier {
                    let entry = (queued_at, key);
                    timers.queue.remove(&entry);
                    timers.queue.insert((deadline, entry.1));
                } else {
                    timers.queue.insert((deadline, key));
                }
                self.queued_at = Some(deadline);
            }
        }
    }

    /// Forgets the deadline.
    pub(crate) fn cancel(&mut self, timers: &mut Timers, key: impl FnOnce() -> TimerKey) {
        self.deadline = None;
        if let Some(queued_at) = self.queued_at.take() {
            timers.queue.remove(&(queued_at, key()));
        }
    }

    /// Whether it fires now that its entry at `entry_at` came up. If the deadline has moved, there
    /// is a new entry.
    pub(crate) fn comes_up(
        &mut self,
        (entry_at, key): (Millis, TimerKey),
        now: Millis,
        timers: &mut Timers,
    ) -> bool {
        if self.queued_at != Some(entry_at) {
            return false;
        }
        self.queued_at = None;
        match self.deadline {
            Some(deadline) if deadline > now => {
                self.set(deadline, timers, || key);
                false
            }
            deadline => {
                self.deadline = None;
                deadline.is_some()
            }
        }
    }
}

impl Timers {
    /// When something may be due.
    pub(crate) fn first(&self) -> Option<Millis> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// The next entry at or before `now`, which leaves the queue.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<(Millis, TimerKey)> {
        if self.first()? > now {
            return None;
        }
        self.queue.pop_first()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TimerKey {
        TimerKey::Join(Str::from_static("g"))
    }

    fn fires(timer: &mut Timer, timers: &mut Timers, now: i64) -> bool {
        let mut fired = false;
        while let Some(entry) = timers.pop(Millis(now)) {
            fired |= timer.comes_up(entry, Millis(now), timers);
        }
        fired
    }

    #[test]
    fn a_deadline_that_moves_later_keeps_its_entry_until_that_comes_up() {
        let (mut timer, mut timers) = (Timer::default(), Timers::default());
        timer.set(Millis(10), &mut timers, key);
        timer.set(Millis(25), &mut timers, || panic!("no key is needed"));
        assert_eq!((timers.first(), timers.len()), (Some(Millis(10)), 1));
        assert!(!fires(&mut timer, &mut timers, 10));
        assert_eq!((timers.first(), timers.len()), (Some(Millis(25)), 1));
        assert!(!fires(&mut timer, &mut timers, 24));
        assert!(fires(&mut timer, &mut timers, 25));
        assert!(!fires(&mut timer, &mut timers, 1_000));
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_deadline_that_moves_earlier_or_goes_leaves_nothing_behind() {
        let (mut timer, mut timers) = (Timer::default(), Timers::default());
        timer.set(Millis(30), &mut timers, key);
        timer.set(Millis(20), &mut timers, key);
        assert_eq!((timers.first(), timers.len()), (Some(Millis(20)), 1));
        timer.cancel(&mut timers, key);
        assert_eq!((timers.first(), timers.len()), (None, 0));
        timer.cancel(&mut timers, key);
        timer.set(Millis(40), &mut timers, key);
        assert!(fires(&mut timer, &mut timers, 50));
    }

    #[test]
    fn an_entry_of_somebody_who_had_the_key_before_does_not_fire() {
        let (mut former, mut timers) = (Timer::default(), Timers::default());
        former.set(Millis(10), &mut timers, key);
        let mut timer = Timer::default();
        timer.set(Millis(20), &mut timers, key);
        assert!(!fires(&mut timer, &mut timers, 10));
        assert!(fires(&mut timer, &mut timers, 20));
    }
}
