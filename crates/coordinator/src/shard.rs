//! One shard: the groups whose records are in one partition.
//!
//! Input and output: see the head of the crate. A shard lives like this:
//!
//! ```text
//!  phase         what happens                                         next
//!  Loading       replay, record by record                             CatchingUp, at the log's end
//!  CatchingUp    the high watermark is below what was replayed        Active
//!  Active        requests are handled, deadlines come                 (resigned)
//!  (resigned)    all that waits is answered, the state is gone        a new shard
//! ```
//!
//! Before it is active every request is answered with COORDINATOR_LOAD_IN_PROGRESS, but a heartbeat
//! with success, so that nobody leaves a group because its coordinator moved.
//!
//! Invariants:
//! - each ticket is answered exactly once, at [`Shard::resign`] at the latest;
//! - the records of a step are one [`Effect::Append`], and its answers wait for that.
//!
//! Source: the coordinator runtime and `GroupCoordinatorShard` of Kafka 4.1.1.

mod replay;
mod serve;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skein_config::{GroupConfig, OffsetsConfig};
use skein_protocol::{GroupRecord, Str};
use skein_types::{ErrorCode, Millis, Now, Offset, ProducerId, Ticket};

pub use replay::{ReplayError, Replayed};

use crate::append;
use crate::group::Group;
use crate::parking::Parking;
use crate::request::{Request, Response, heartbeat, join_error, sync_error};
use crate::timers::{Timer, Timers};
use crate::turn::{Outcome, Turn};

/// An order to the runtime.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append the records, after those ordered before and all or none of them. Then say
    /// [`Shard::on_appended`], or take the shard's [resignation](Shard::resign).
    Append(Vec<GroupRecord>),
    /// Answer the request.
    Answer {
        /// Whose.
        ticket: Ticket,
        /// With what.
        response: Response,
    },
}

/// Why a shard ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resignation {
    /// An append failed: the state is ahead of the log. Another shard may begin here at once.
    AppendFailed,
    /// The same, because the records are more than the log takes at once: who asked for that is
    /// told not to try again.
    TooLarge,
    /// Another broker leads the partition.
    LeadershipEnded,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Shard {
    group_config: Arc<GroupConfig>,
    offsets_config: Arc<OffsetsConfig>,
    phase: Phase,
    groups: BTreeMap<Str, Group>,
    /// The groups for which a transaction that is open has committed.
    open_transactions: BTreeMap<ProducerId, BTreeSet<Str>>,
    /// How many records of commits have been applied.
    order: u64,
    timers: Timers,
    expiry: Timer,
    /// The first group that the search for expired offsets has not seen yet.
    expiry_from: Option<Str>,
    /// Tombstones for offsets of topics that went before the shard was active.
    stale_offsets: Vec<GroupRecord>,
    /// What the log takes at once.
    append_max_bytes: usize,
    parking: Parking,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    CatchingUp { log_end_offset: Offset },
    Active,
}

impl Shard {
    /// A shard without groups, which waits for [`Shard::replay`].
    #[must_use]
    pub fn new(group_config: Arc<GroupConfig>, offsets_config: Arc<OffsetsConfig>) -> Self {
        Self {
            group_config,
            offsets_config,
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            open_transactions: BTreeMap::new(),
            order: 0,
            timers: Timers::default(),
            expiry: Timer::default(),
            expiry_from: None,
            stale_offsets: Vec::new(),
            append_max_bytes: usize::MAX,
            parking: Parking::default(),
            outcome: Outcome::default(),
        }
    }

    /// How large a batch the log takes, in bytes. Who asks for more is refused.
    pub fn set_append_max_bytes(&mut self, bytes: usize) {
        self.append_max_bytes = bytes;
    }

    /// All of the log up to this offset has been replayed.
    ///
    /// # Panics
    /// It was said before.
    pub fn loaded(&mut self, log_end_offset: Offset, now: Now, effects: &mut Vec<Effect>) {
        assert_eq!(self.phase, Phase::Loading, "loaded twice");
        self.phase = Phase::CatchingUp { log_end_offset };
        self.activate_if_caught_up(now, effects);
    }

    /// Takes a request, which is answered by an [`Effect::Answer`] with its ticket, now or later.
    pub fn handle(
        &mut self,
        ticket: Ticket,
        request: Request,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if self.phase != Phase::Active {
            let response = match request {
                Request::Heartbeat(_) => heartbeat(ErrorCode::None),
                _ => request.refused(ErrorCode::CoordinatorLoadInProgress),
            };
            effects.push(Effect::Answer { ticket, response });
        } else if self.parking.is_full() {
            let response = request.refused(ErrorCode::CoordinatorNotAvailable);
            effects.push(Effect::Answer { ticket, response });
        } else {
            self.serve(ticket, request, now);
            self.settle(now, effects);
        }
    }

    /// The oldest append that was not answered for is in the log, which ends there now.
    ///
    /// # Panics
    /// None was ordered.
    pub fn on_appended(&mut self, log_end_offset: Offset, effects: &mut Vec<Effect>) {
        self.parking.append(log_end_offset, effects);
    }

    /// The partition's high watermark is there now.
    pub fn on_high_watermark(
        &mut self,
        high_watermark: Offset,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.parking.advance(high_watermark, effects);
        self.activate_if_caught_up(now, effects);
    }

    /// When [`Shard::on_time`] has something to do: on the monotonic clock, and perhaps too early.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let deadlines = [self.timers.first(), self.parking.first_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Ends the shard, and answers all that waits. What it has not been told to be appended and
    /// committed may be in the log or not; only a replay knows.
    pub fn resign(mut self, reason: Resignation, effects: &mut Vec<Effect>) {
        let error = match reason {
            Resignation::AppendFailed | Resignation::TooLarge => ErrorCode::CoordinatorNotAvailable,
            Resignation::LeadershipEnded => ErrorCode::NotCoordinator,
        };
        if reason == Resignation::TooLarge {
            self.parking
                .fail_next(ErrorCode::UnknownServerError, effects);
        }
        self.parking.fail(error, effects);
        let held = self.groups.values().flat_map(Group::held_requests);
        for (member_id, member) in held {
            let join = member.awaiting_join.map(|ticket| Effect::Answer {
                ticket,
                response: join_error(member_id.clone(), error),
            });
            let sync = member.awaiting_sync.map(|ticket| Effect::Answer {
                ticket,
                response: sync_error(error),
            });
            effects.extend(join.into_iter().chain(sync));
        }
    }

    fn activate_if_caught_up(&mut self, now: Now, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::CatchingUp { log_end_offset }
                if self.parking.high_watermark() >= log_end_offset =>
            {
                self.phase = Phase::Active;
                let (groups, mut turn) = self.parts(now);
                for group in groups.values_mut() {
                    group.wake(&mut turn);
                    group.check();
                }
                self.schedule_expiry(now);
                self.settle(now, effects);
                self.forget_stale_offsets(now, effects);
            }
            _ => {}
        }
    }

    /// The groups, and what a step may use beside them.
    fn parts(&mut self, now: Now) -> (&mut BTreeMap<Str, Group>, Turn<'_>) {
        let turn = Turn {
            now,
            group: &self.group_config,
            offsets: &self.offsets_config,
            append_max_bytes: self.append_max_bytes,
            timers: &mut self.timers,
            outcome: &mut self.outcome,
        };
        (&mut self.groups, turn)
    }

    /// Ends a step whose records are each of use without the others. Whether all could be kept: one
    /// that does not fit alone stays undone.
    fn settle_in_pieces(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        let mut rest = std::mem::take(&mut self.outcome.records);
        let mut all_fit = true;
        while !rest.is_empty() {
            let next = rest.split_off(append::first_piece(&rest, self.append_max_bytes));
            if append::fits(&rest, self.append_max_bytes) {
                self.outcome.records = rest;
                self.settle(now, effects);
            } else {
                all_fit = false;
            }
            rest = next;
        }
        self.settle(now, effects);
        all_fit
    }

    /// Ends a step: orders what it wants kept, applies what only records change, and parks its
    /// answers.
    fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.outcome.records.is_empty() {
            let records = std::mem::take(&mut self.outcome.records);
            for record in &records {
                self.apply_own(record);
            }
            self.parking.order();
            effects.push(Effect::Append(records));
        }
        let timeout_ms = self.offsets_config.commit_timeout_ms;
        let deadline = now.monotonic.saturating_add(timeout_ms);
        for (ticket, response) in self.outcome.answers.drain(..) {
            self.parking.park(ticket, response, deadline, effects);
        }
    }
}

#[cfg(test)]
mod tests;
