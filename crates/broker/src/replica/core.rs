//! What the one writer of a replica works on, and how it takes an input.
//!
//! Input: [`Input`]s from the hand-off. Output: appends, views, and the answers that [`Step`] gives
//! after the state is let go.
//!
//! ```text
//!   Input ─┬─ needs the log, and the log is away ─► held ─┐
//!          └─ else ─► step ─► effects ─► group            │ when the log is back
//!                                          └─► write ─────┘
//! ```
//!
//! Invariants, checked in [`Core::check`]:
//! - the log is away exactly while a write or an errand is in flight, and after it was taken;
//! - inputs that wait for the log keep their order, and are bounded;
//! - every ticket of the state machine has a reply until it is answered;
//! - once the log was taken, nothing waits: every input is refused at once.
//!
//! What an input is stands in `input.rs`; a step and its effects in `stepping.rs`, those of a
//! follower in `following.rs`, writes in
//! `writing.rs`, other work with the log in `log_access.rs`, time-outs in `timer.rs`.
//!
//! Source: the two-phase append of `skein_partition`.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skein_net::BytesPermit;
use skein_partition::{Effect, Event, PublishedRole, Refusal, Ticket};
use skein_record::{BatchBuf, LeaderEpochs};
use skein_storage::{Log, LogView};
use skein_types::{BrokerId, LeaderEpoch, Offset};
use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use self::input::{Errand, Input, LogTask, Opened, Produce};
use self::timer::Timer;
use self::writing::Group;
use super::reply::{AckResult, ReplySender};
use super::{Replica, ReplicaView};
use crate::handoff::Work;
use crate::node::ReplicaBasis;
use crate::replication::FetchedGroup;

mod following;
mod input;
mod log_access;
mod stepping;
mod timer;
mod writing;

/// How long one task works for all before another goes on.
const HOLD_MAX: Duration = Duration::from_millis(1);

/// Inputs that may wait for the log before produces are refused. The bytes in flight of the node
/// bound them before, unless the batches are tiny.
const HELD_MAX: usize = 65_536;

/// The state behind the hand-off.
pub(super) struct Core {
    machine: skein_partition::Replica,
    /// `None` while a write or an errand is in flight, and when it was taken.
    log: Option<Log>,
    /// The log was taken for good.
    is_closed: bool,
    /// The log as readers may see it while it is away.
    view: Arc<LogView>,
    /// As readers see them; published with the next view.
    leader_epochs: Arc<LeaderEpochs>,
    effects: Vec<Effect>,
    group: Group,
    /// The batch of the produce that is being stepped.
    arriving: Option<(BatchBuf, BytesPermit)>,
    /// The batches of the leader's answer that is being stepped.
    fetched: Option<FetchedGroup>,
    /// Whom the replica follows, and in which epoch.
    followed: (LeaderEpoch, BrokerId),
    replies: Slab<ReplySender>,
    delete_replies: Slab<oneshot::Sender<Result<Offset, Refusal>>>,
    /// Inputs that wait for the log.
    held: VecDeque<Input>,
    timer: Option<Timer>,
    /// The file of the next segment was asked for; once in a while is enough.
    is_preparing: bool,
    /// Where the log ended when its room was last looked at; `None` if that is not watched.
    room_seen_at: Option<Offset>,
    replica: Weak<Replica>,
    basis: Arc<ReplicaBasis>,
}

/// One task's hold of the state, and what it does when it has let go.
pub(super) struct Step<'a> {
    replica: &'a Arc<Replica>,
    started: Instant,
    answers: SmallVec<[(ReplySender, AckResult); 2]>,
    is_published: bool,
    /// Others than the task that holds the state were woken.
    has_woken: bool,
}

impl<'a> Step<'a> {
    pub(super) fn new(replica: &'a Arc<Replica>) -> Self {
        Self {
            replica,
            started: Instant::now(),
            answers: SmallVec::new(),
            is_published: false,
            has_woken: false,
        }
    }
}

impl Step<'_> {
    /// Whether others than the task that held the state were woken.
    pub(super) fn has_woken(&self) -> bool {
        self.has_woken
    }
}

impl Work<Core, Input> for Step<'_> {
    fn take(&mut self, core: &mut Core, input: Input) {
        if core.is_closed {
            core.refuse(input, self);
        } else if core.must_wait(&input) {
            core.hold(input, self);
        } else {
            core.apply(input, self);
        }
    }

    fn settle(&mut self, core: &mut Core) -> bool {
        core.settle(self);
        core.check();
        let until = core.machine.followers_confirm_until();
        self.replica.set_followers_confirm_until(until);
        self.started.elapsed() < HOLD_MAX
    }

    fn released(&mut self) {
        if std::mem::take(&mut self.is_published) {
            self.has_woken |= self.replica.waits.wake_all();
        }
        for (reply, result) in self.answers.drain(..) {
            self.has_woken |= reply.answer(result);
        }
        self.started = Instant::now();
    }
}

impl Core {
    pub(super) fn new(opened: Opened, replica: Weak<Replica>, basis: Arc<ReplicaBasis>) -> Self {
        let ReplicaView {
            log, leader_epochs, ..
        } = opened.view();
        Self {
            machine: opened.machine,
            leader_epochs,
            room_seen_at: None,
            view: log,
            log: Some(opened.log),
            effects: Vec::new(),
            group: Group::default(),
            arriving: None,
            fetched: None,
            followed: (LeaderEpoch::NONE, BrokerId::NONE),
            replies: Slab::new(),
            delete_replies: Slab::new(),
            held: VecDeque::new(),
            timer: None,
            is_preparing: false,
            is_closed: false,
            replica,
            basis,
        }
    }

    /// Whether `input` must wait for the log, or behind others that do.
    fn must_wait(&self, input: &Input) -> bool {
        let needs_log = match input {
            Input::Produce(_)
            | Input::Fetched(..)
            | Input::Task(_)
            | Input::Errand(_)
            | Input::TakeLog { .. } => true,
            Input::Event(event) => event.waits_while_writing(),
            Input::Completed(_)
            | Input::Returned(..)
            | Input::TimerFired
            | Input::Aged
            | Input::RoomLookedAt
            | Input::DeleteRecords { .. } => false,
        };
        needs_log && (self.log.is_none() || !self.held.is_empty())
    }

    fn hold(&mut self, input: Input, step: &mut Step<'_>) {
        match input {
            Input::Produce(produce) if self.held.len() >= HELD_MAX => {
                let refusal = Refusal::TooManyWaitingProduces;
                step.answers.push((produce.reply, Err(refusal)));
            }
            input => self.held.push_back(input),
        }
    }

    /// Answers what comes after the log was taken. What has another kind of reply answers by being
    /// dropped.
    fn refuse(&self, input: Input, step: &mut Step<'_>) {
        if let Input::Produce(produce) = input {
            let refusal = match self.machine.published().role {
                PublishedRole::Offline => Refusal::Offline,
                PublishedRole::Leader { .. }
                | PublishedRole::Follower { .. }
                | PublishedRole::Unassigned => Refusal::NotLeader,
            };
            step.answers.push((produce.reply, Err(refusal)));
        }
    }

    fn apply(&mut self, input: Input, step: &mut Step<'_>) {
        match input {
            Input::Produce(produce) => self.produce(produce, step),
            Input::Fetched(fetched, group) => self.fetched(fetched, group, step),
            Input::Event(event) => self.event(event, step),
            Input::Task(task) => self.task(task, step),
            Input::Errand(errand) => self.errand(errand, step),
            Input::DeleteRecords {
                before_offset,
                reply,
            } => {
                let ticket = Ticket(self.delete_replies.insert(reply) as u64);
                self.step(
                    Event::DeleteRecordsReceived {
                        ticket,
                        before_offset,
                    },
                    step,
                );
            }
            Input::TakeLog { reply } => self.take_log(reply, step),
            Input::TimerFired => {
                self.timer = None;
                self.step(Event::TimePassed, step);
            }
            Input::Aged => {
                self.is_preparing = false;
                self.after_write(step);
                self.step(Event::TimePassed, step);
            }
            Input::RoomLookedAt => self.look_at_room(step),
            Input::Completed(writing) => self.complete(*writing, step),
            Input::Returned(log, event) => {
                self.log = Some(*log);
                self.after_task(event, step);
                self.after_write(step);
            }
        }
    }

    /// Writes what has gathered, and takes what has waited for that, as much as one write holds at
    /// a time.
    fn settle(&mut self, step: &mut Step<'_>) {
        loop {
            self.write_group(step);
            while self.log.is_some()
                && let Some(input) = self.held.pop_front()
            {
                self.apply(input, step);
            }
            if self.log.is_none() || self.group.is_empty() {
                return;
            }
        }
    }

    fn check(&self) {
        assert!(
            self.log.is_none() || self.group.is_empty(),
            "a group was left unwritten"
        );
        assert!(
            self.log.is_none() || self.held.is_empty(),
            "an input is held and nothing will take it"
        );
        assert!(
            self.arriving.is_none(),
            "a batch was left between the state machine and the log"
        );
        assert!(
            !self.is_closed || (self.held.is_empty() && self.replies.is_empty()),
            "the log was taken and somebody waits"
        );
    }
}

fn index(ticket: Ticket) -> usize {
    // Tickets are indexes of the slab.
    usize::try_from(ticket.0).unwrap_or(usize::MAX)
}
