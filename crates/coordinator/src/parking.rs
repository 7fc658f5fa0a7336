//! Answers that wait until the log has what they say.
//!
//! Input: answers as they are computed, appends as they are ordered and carried out, the high
//! watermark. Output: the answers that may leave.
//!
//! ```text
//!   appends ordered   1   2   3   4   5        an answer computed here waits for append 5,
//!   appended (ends)   ├───┼───┼───┤            also if it is that of a read
//!   committed         ├───┤
//! ```
//!
//! Invariants, checked in [`Parking::check`] and by the tests below:
//! - committed ≤ appended ≤ ordered;
//! - an answer leaves with what it says only when everything that was ordered before it was
//!   computed is committed. What it says cannot be taken back then, whoever coordinates next.
//!
//! Source: the coordinator runtime of Kafka 4 (KIP-848), whose reads see the last committed state;
//! here they see the newest and wait for it.

use std::collections::VecDeque;

#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, Millis, Offset, Ticket};

use crate::Response;
use crate::shard::Effect;

/// Most answers that wait in a shard. At the bound further requests are refused unseen.
pub(crate) const PARKED_ANSWERS_MAX: usize = 65_536;

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    ordered: u64,
    appended: u64,
    committed: u64,
    /// Where the appends after `committed` end, as far as they were carried out.
    ends: VecDeque<Offset>,
    high_watermark: Offset,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// The append that has to be committed.
    append: u64,
    deadline: Millis,
    ticket: Ticket,
    response: Response,
}

impl Parking {
    /// Whether a request must be refused, for want of a place for its answer.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= PARKED_ANSWERS_MAX
    }

    /// Another append was ordered.
    pub(crate) fn order(&mut self) {
        self.ordered += 1;
    }

    /// Takes an answer; it leaves at once if there is nothing to wait for.
    pub(crate) fn park(
        &mut self,
        ticket: Ticket,
        response: Response,
        deadline: Millis,
        effects: &mut Vec<Effect>,
    ) {
        let is_committed = self.committed == self.ordered;
        #[cfg(feature = "mutations")]
        let is_committed = is_committed || mutation::has(Mutation::GroupAnsweredEarly);
        if is_committed {
            effects.push(Effect::Answer { ticket, response });
        } else {
            self.waiting.push_back(Waiting {
                append: self.ordered,
                deadline,
                ticket,
                response,
            });
        }
    }

    /// The oldest append that was only ordered is in the log, which ends there now.
    pub(crate) fn append(&mut self, end: Offset, effects: &mut Vec<Effect>) {
        assert!(
            self.appended < self.ordered,
            "an append that nobody ordered"
        );
        self.appended += 1;
        self.ends.push_back(end);
        self.release(effects);
    }

    /// The high watermark is there now. One that lies behind is old news.
    pub(crate) fn advance(&mut self, high_watermark: Offset, effects: &mut Vec<Effect>) {
        self.high_watermark = self.high_watermark.max(high_watermark);
        self.release(effects);
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// When the oldest waiting answer has waited too long.
    pub(crate) fn first_deadline(&self) -> Option<Millis> {
        self.waiting.front().map(|waiting| waiting.deadline)
    }

    /// Answers those that have waited too long. What they asked for may come true all the same.
    pub(crate) fn time_out(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.deadline <= now) {
            effects.push(waiting.failed(ErrorCode::CoordinatorNotAvailable));
        }
    }

    /// Answers those that wait for the next append with an error.
    pub(crate) fn fail_next(&mut self, error: ErrorCode, effects: &mut Vec<Effect>) {
        let next = self.appended + 1;
        let waiting = std::mem::take(&mut self.waiting);
        let (failed, waiting): (VecDeque<_>, _) = waiting
            .into_iter()
            .partition(|waiting| waiting.append == next);
        self.waiting = waiting;
        effects.extend(failed.into_iter().map(|waiting| waiting.failed(error)));
    }

    /// Answers all with an error: nobody here will know any more whether it came true.
    pub(crate) fn fail(&mut self, error: ErrorCode, effects: &mut Vec<Effect>) {
        effects.extend(self.waiting.drain(..).map(|waiting| waiting.failed(error)));
    }

    fn release(&mut self, effects: &mut Vec<Effect>) {
        let high_watermark = self.high_watermark;
        while self
            .ends
            .pop_front_if(|end| *end <= high_watermark)
            .is_some()
        {
            self.committed += 1;
        }
        let committed = self.committed;
        while let Some(waiting) = self
            .waiting
            .pop_front_if(|waiting| waiting.append <= committed)
        {
            effects.push(Effect::Answer {
                ticket: waiting.ticket,
                response: waiting.response,
            });
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.committed <= self.appended && self.appended <= self.ordered);
        assert_eq!(self.ends.len() as u64, self.appended - self.committed);
    }
}

impl Waiting {
    fn failed(self, error: ErrorCode) -> Effect {
        Effect::Answer {
            ticket: self.ticket,
            response: self.response.failed(error),
        }
    }
}
