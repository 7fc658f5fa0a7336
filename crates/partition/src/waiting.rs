//! Produces that are written and wait to be committed.
//!
//! Input: produces in the order of their offsets, the high watermark, time. Output: one answer for
//! each.
//!
//! ```text
//!        high watermark        log end
//!  ├───────────┼──────────────────┤
//!              └─ ends of the waiting produces, ascending ─┘
//! ```
//!
//! Invariants, checked in [`WaitingProduces::check`]:
//! - they stand in the order of their ends, so that a release takes from the front only;
//! - none of them is committed, and none is past the log's end;
//! - there are at most [`MAX_WAITING_PRODUCES`].
//!
//! Source: Kafka keeps them in a `DelayedProduce` purgatory; one queue per partition needs no
//! index.

use std::collections::VecDeque;

use skein_types::{Millis, Offset};

use crate::{AckOk, Effect, MAX_WAITING_PRODUCES, Refusal, Ticket};

/// The queue, in ascending order of `end`.
#[derive(Debug, Default)]
pub(crate) struct WaitingProduces {
    queue: VecDeque<PlacedProduce>,
    /// At most the smallest deadline in the queue; it may be that of one that has left.
    earliest_deadline: Option<Millis>,
}

/// A produce with its place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacedProduce {
    pub(crate) ticket: Ticket,
    pub(crate) base_offset: Offset,
    /// What the high watermark has to reach.
    pub(crate) end: Offset,
    pub(crate) log_append_time: Millis,
    /// When to give up, on the monotonic clock.
    pub(crate) deadline: Millis,
}

impl PlacedProduce {
    /// Says where it is.
    pub(crate) fn acknowledge(&self, log_start_offset: Offset) -> Effect {
        let Self {
            ticket,
            base_offset,
            log_append_time,
            ..
        } = *self;
        let result = Ok(AckOk {
            base_offset,
            log_append_time,
            log_start_offset,
        });
        Effect::AckProduce { ticket, result }
    }

    /// Says why it is not there, or may not stay.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Effect {
        Effect::AckProduce {
            ticket: self.ticket,
            result: Err(refusal),
        }
    }
}

impl WaitingProduces {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// A time by which [`WaitingProduces::time_out`] must be called.
    pub(crate) fn earliest_deadline(&self) -> Option<Millis> {
        self.earliest_deadline
    }

    /// Takes one more. Nearly always it is the last; a duplicate of an earlier batch waits with
    /// that one.
    pub(crate) fn insert(&mut self, produce: PlacedProduce) {
        let in_order = self.queue.back().is_none_or(|last| last.end <= produce.end);
        if in_order {
            self.queue.push_back(produce);
        } else {
            let at = self
                .queue
                .partition_point(|waiting| waiting.end <= produce.end);
            self.queue.insert(at, produce);
        }
        let earliest = self.earliest_deadline.unwrap_or(produce.deadline);
        self.earliest_deadline = Some(earliest.min(produce.deadline));
    }

    /// Acknowledges those that the high watermark has passed.
    pub(crate) fn release(
        &mut self,
        high_watermark: Offset,
        log_start_offset: Offset,
        effects: &mut Vec<Effect>,
    ) {
        while let Some(&produce) = self.queue.front()
            && produce.end <= high_watermark
        {
            self.queue.pop_front();
            effects.push(produce.acknowledge(log_start_offset));
        }
        if self.queue.is_empty() {
            self.earliest_deadline = None;
        }
    }

    /// Refuses those whose time is up.
    pub(crate) fn time_out(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        if self.earliest_deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        self.queue.retain(|waiting| {
            let waits_on = now < waiting.deadline;
            if !waits_on {
                effects.push(waiting.refuse(Refusal::TimedOut));
            }
            waits_on
        });
        self.earliest_deadline = self.queue.iter().map(|waiting| waiting.deadline).min();
    }

    /// None waits longer than to `end`, on the monotonic clock.
    pub(crate) fn wait_no_longer_than(&mut self, end: Millis) {
        for waiting in &mut self.queue {
            waiting.deadline = waiting.deadline.min(end);
        }
        self.earliest_deadline = self.earliest_deadline.map(|earliest| earliest.min(end));
    }

    /// Refuses those that are not in a log which ends here.
    pub(crate) fn refuse_behind(
        &mut self,
        log_end_offset: Offset,
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        let kept = self
            .queue
            .partition_point(|waiting| waiting.end <= log_end_offset);
        let cut = self.queue.drain(kept..);
        effects.extend(cut.map(|waiting| waiting.refuse(refusal)));
        if self.queue.is_empty() {
            self.earliest_deadline = None;
        }
    }

    /// Refuses all.
    pub(crate) fn refuse_all(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        effects.extend(self.queue.drain(..).map(|waiting| waiting.refuse(refusal)));
        self.earliest_deadline = None;
    }

    /// Asserts the invariants; of the order the ends alone, because it runs once per step.
    pub(crate) fn check(&self, high_watermark: Offset, log_end_offset: Offset) {
        assert!(self.queue.len() <= MAX_WAITING_PRODUCES);
        assert_eq!(self.queue.is_empty(), self.earliest_deadline.is_none());
        if let (Some(first), Some(last)) = (self.queue.front(), self.queue.back()) {
            assert!(high_watermark < first.end, "{first:?} is committed");
            assert!(first.end <= last.end, "{first:?} {last:?}");
            assert!(last.end <= log_end_offset, "{last:?} is not written");
        }
        debug_assert!(self.queue.iter().is_sorted_by_key(|waiting| waiting.end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produce(ticket: u64, end: i64, deadline: i64) -> PlacedProduce {
        PlacedProduce {
            ticket: Ticket(ticket),
            base_offset: Offset(end - 1),
            end: Offset(end),
            log_append_time: Millis::NONE,
            deadline: Millis(deadline),
        }
    }

    fn answered(effects: &[Effect]) -> Vec<(u64, bool)> {
        let answer = |effect: &Effect| match effect {
            Effect::AckProduce { ticket, result } => (ticket.0, result.is_ok()),
            other => panic!("{other:?}"),
        };
        effects.iter().map(answer).collect()
    }

    #[test]
    fn a_duplicate_waits_with_its_original() {
        let mut waiting = WaitingProduces::default();
        waiting.insert(produce(1, 10, 100));
        waiting.insert(produce(2, 20, 100));
        waiting.insert(produce(3, 10, 100));
        waiting.check(Offset(0), Offset(20));
        let mut effects = Vec::new();
        waiting.release(Offset(19), Offset(0), &mut effects);
        assert_eq!(answered(&effects), [(1, true), (3, true)]);
        waiting.check(Offset(19), Offset(20));
    }

    #[test]
    fn each_times_out_at_its_own_deadline() {
        let mut waiting = WaitingProduces::default();
        waiting.insert(produce(1, 10, 300));
        waiting.insert(produce(2, 20, 100));
        waiting.insert(produce(3, 30, 200));
        let mut effects = Vec::new();
        waiting.time_out(Millis(99), &mut effects);
        assert_eq!(answered(&effects), []);
        assert_eq!(waiting.earliest_deadline(), Some(Millis(100)));
        waiting.time_out(Millis(200), &mut effects);
        assert_eq!(answered(&effects), [(2, false), (3, false)]);
        assert_eq!(waiting.earliest_deadline(), Some(Millis(300)));
        waiting.check(Offset(0), Offset(30));
    }
}
