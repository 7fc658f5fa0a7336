//! One step of a shard: what it may use, and what it brings about.
//!
//! Input: the time, the settings. Output: records to keep and answers to give, in order.
//!
//! Invariant: whoever changes what a record keeps pushes that record in the same turn; what does
//! not fit into the log at once is refused before anything is changed.

use skein_config::{GroupConfig, OffsetsConfig};
use skein_protocol::GroupRecord;
use skein_types::{Millis, Now, Ticket};

use crate::Response;
use crate::append;
use crate::timers::Timers;

/// What a step may use.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) group: &'a GroupConfig,
    pub(crate) offsets: &'a OffsetsConfig,
    /// What the log takes at once.
    pub(crate) append_max_bytes: usize,
    pub(crate) timers: &'a mut Timers,
    pub(crate) outcome: &'a mut Outcome,
}

/// What a step brings about. Kept from step to step, so that a heartbeat allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) records: Vec<GroupRecord>,
    pub(crate) answers: Vec<(Ticket, Response)>,
}

impl Turn<'_> {
    pub(crate) fn answer(&mut self, ticket: Ticket, response: Response) {
        self.outcome.answers.push((ticket, response));
    }

    pub(crate) fn keep(&mut self, record: GroupRecord) {
        self.outcome.records.push(record);
    }

    /// Whether the log takes the record, alone.
    pub(crate) fn fits(&self, record: &GroupRecord) -> bool {
        append::fits(std::slice::from_ref(record), self.append_max_bytes)
    }

    /// How many records are to be kept so far; for [`Self::fit_since`].
    pub(crate) fn kept(&self) -> usize {
        self.outcome.records.len()
    }

    /// Whether the log takes the records since there were `count` of them. If not they are not to
    /// be kept.
    pub(crate) fn fit_since(&mut self, count: usize) -> bool {
        let records = &mut self.outcome.records;
        let fit = append::fits(&records[count..], self.append_max_bytes);
        if !fit {
            records.truncate(count);
        }
        fit
    }

    /// The moment so many milliseconds from now, on the clock of the timers.
    pub(crate) fn after(&self, ms: i32) -> Millis {
        self.now.monotonic.saturating_add(Millis(ms.max(0).into()))
    }
}
