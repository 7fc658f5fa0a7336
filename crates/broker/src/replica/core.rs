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
//! Source: the two-phase append of `skein_partition`.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skein_config::TopicConfig;
use skein_env::{Lane, TaskHandle};
use skein_net::BytesPermit;
use skein_partition::{Acks, Effect, Event, PublishedRole, Refusal, Ticket};
use skein_record::{BatchBuf, ProducerStates};
use skein_storage::{Log, LogReader, LogView};
use skein_types::{Millis, Offset, TopicPartition};
use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::writing::{Group, Writing};
use super::reply::{AckResult, ReplySender};
use super::{Replica, ReplicaView};
use crate::handoff::Work;
use crate::node::Shared;

mod writing;

/// How long one task works for all before another goes on.
const HOLD_MAX: Duration = Duration::from_millis(1);

/// Inputs that may wait for the log before produces are refused. The bytes in flight of the node
/// bound them before, unless the batches are tiny.
const HELD_MAX: usize = 65_536;

/// A replica whose log has just been opened.
pub(crate) struct Opened {
    pub(crate) name: TopicPartition,
    pub(crate) machine: skein_partition::Replica,
    pub(crate) log: Log,
    pub(crate) config: TopicConfig,
}

/// Something to do with the log while nothing is written, without blocking.
pub(crate) type LogTask =
    Box<dyn FnOnce(&mut Log, &mut skein_partition::Replica) -> Option<Event> + Send>;

/// Something to do with the log on the offload pool, where it may block. Appends wait meanwhile.
pub(crate) type Errand = Box<dyn FnOnce(&mut Log) -> Option<Event> + Send>;

/// What the writer takes.
pub(crate) enum Input {
    Produce(Produce),
    Event(Event),
    Task(LogTask),
    Errand(Errand),
    DeleteRecords {
        before_offset: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, Refusal>>,
    },
    TimerFired,
    /// Time for what is due by age alone.
    Aged,
    TakeLog {
        reply: oneshot::Sender<(Log, ProducerStates)>,
    },
    /// A write that ran elsewhere has ended.
    Completed(Box<Writing>),
    /// An errand has ended.
    Returned(Box<Log>, Option<Event>),
}

/// A batch to be appended.
pub(crate) struct Produce {
    pub(crate) batch: BatchBuf,
    pub(crate) acks: Acks,
    pub(crate) timeout: Millis,
    pub(crate) permit: BytesPermit,
    pub(crate) reply: ReplySender,
}

/// The state behind the hand-off.
pub(super) struct Core {
    machine: skein_partition::Replica,
    /// `None` while a write or an errand is in flight, and when it was taken.
    log: Option<Log>,
    /// The log was taken for good.
    is_closed: bool,
    /// The log as readers may see it while it is away.
    view: Arc<LogView>,
    reader: LogReader,
    effects: Vec<Effect>,
    group: Group,
    /// The batch of the produce that is being stepped.
    arriving: Option<(BatchBuf, BytesPermit)>,
    replies: Slab<ReplySender>,
    delete_replies: Slab<oneshot::Sender<Result<Offset, Refusal>>>,
    /// Inputs that wait for the log.
    held: VecDeque<Input>,
    timer: Option<Timer>,
    /// The file of the next segment was asked for; once in a while is enough.
    is_preparing: bool,
    replica: Weak<Replica>,
    shared: Arc<Shared>,
}

/// A task that sleeps until produces are to be timed out.
struct Timer {
    deadline: Millis,
    task: Box<dyn TaskHandle>,
}

/// One task's hold of the state, and what it does when it has let go.
pub(super) struct Step<'a> {
    replica: &'a Arc<Replica>,
    started: Instant,
    answers: SmallVec<[(ReplySender, AckResult); 2]>,
    is_published: bool,
}

impl Opened {
    pub(super) fn view(&self) -> ReplicaView {
        ReplicaView {
            log: self.log.reader().load(),
            offsets: self.machine.published(),
        }
    }
}

impl<'a> Step<'a> {
    pub(super) fn new(replica: &'a Arc<Replica>) -> Self {
        Self {
            replica,
            started: Instant::now(),
            answers: SmallVec::new(),
            is_published: false,
        }
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
        self.started.elapsed() < HOLD_MAX
    }

    fn released(&mut self) {
        if std::mem::take(&mut self.is_published) {
            self.replica.waits.wake_all();
        }
        for (reply, result) in self.answers.drain(..) {
            reply.answer(result);
        }
        self.started = Instant::now();
    }
}

impl Core {
    pub(super) fn new(opened: Opened, replica: Weak<Replica>, shared: Arc<Shared>) -> Self {
        Self {
            machine: opened.machine,
            reader: opened.log.reader(),
            view: opened.log.reader().load(),
            log: Some(opened.log),
            effects: Vec::new(),
            group: Group::default(),
            arriving: None,
            replies: Slab::new(),
            delete_replies: Slab::new(),
            held: VecDeque::new(),
            timer: None,
            is_preparing: false,
            is_closed: false,
            replica,
            shared,
        }
    }

    /// Whether `input` must wait for the log, or behind others that do.
    fn must_wait(&self, input: &Input) -> bool {
        let needs_log = match input {
            Input::Produce(_) | Input::Task(_) | Input::Errand(_) | Input::TakeLog { .. } => true,
            Input::Event(event) => event.waits_while_writing(),
            Input::Completed(_)
            | Input::Returned(..)
            | Input::TimerFired
            | Input::Aged
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
                PublishedRole::Leader { .. } | PublishedRole::Unassigned => Refusal::NotLeader,
            };
            step.answers.push((produce.reply, Err(refusal)));
        }
    }

    fn apply(&mut self, input: Input, step: &mut Step<'_>) {
        match input {
            Input::Produce(produce) => self.produce(produce, step),
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
            Input::Completed(writing) => self.complete(*writing, step),
            Input::Returned(log, event) => {
                self.log = Some(*log);
                self.after_task(event, step);
            }
        }
    }

    fn produce(&mut self, produce: Produce, step: &mut Step<'_>) {
        if !self.make_room(&produce.batch, step) {
            // The group before it is being written elsewhere.
            self.held.push_front(Input::Produce(produce));
            return;
        }
        let Produce {
            batch,
            acks,
            timeout,
            permit,
            reply,
        } = produce;
        let header = *batch.header();
        let ticket = Ticket(self.replies.insert(reply) as u64);
        self.arriving = Some((batch, permit));
        let event = Event::ProduceReceived {
            ticket,
            header,
            acks,
            timeout,
            leader_epoch: None,
        };
        self.step(event, step);
        if self.arriving.take().is_some()
            && let Some(reply) = self.replies.get(index(ticket))
        {
            // A duplicate that waits, as its original does: in the group, or for the high
            // watermark.
            if self.group.is_empty() {
                reply.appended();
            } else {
                self.group.tickets.push(ticket);
            }
        }
    }

    /// Writes the group if `batch` does not fit into the same write. False: a write is in flight.
    fn make_room(&mut self, batch: &BatchBuf, step: &mut Step<'_>) -> bool {
        let Some(log) = &self.log else { return false };
        let bytes = (self.group.bytes + batch.as_slice().len()) as u64;
        // The tickets of duplicates count in the state machine's group too.
        let is_full = self.group.tickets.len() >= skein_partition::MAX_GROUP_BATCHES
            || bytes > log.group_max_bytes();
        if is_full {
            self.write_group(step);
        }
        self.log.is_some()
    }

    fn event(&mut self, event: Event, step: &mut Step<'_>) {
        if event.waits_while_writing() && !self.group.is_empty() {
            self.write_group(step);
            if self.log.is_none() {
                self.held.push_front(Input::Event(event));
                return;
            }
        }
        self.step(event, step);
    }

    fn task(&mut self, task: LogTask, step: &mut Step<'_>) {
        self.write_group(step);
        let Some(log) = self.log.as_mut() else {
            self.held.push_front(Input::Task(task));
            return;
        };
        let event = task(log, &mut self.machine);
        self.after_task(event, step);
    }

    fn after_task(&mut self, event: Option<Event>, step: &mut Step<'_>) {
        if let Some(event) = event {
            self.step(event, step);
        }
        // The task may have changed the list of segments, of which the state machine knows nothing.
        if !Arc::ptr_eq(&self.view, &self.reader.load()) {
            self.publish(step);
        }
    }

    fn errand(&mut self, errand: Errand, step: &mut Step<'_>) {
        self.write_group(step);
        let Some(mut log) = self.log.take() else {
            self.held.push_front(Input::Errand(errand));
            return;
        };
        let (replica, shared) = (Arc::clone(step.replica), Arc::clone(&self.shared));
        let spawn = Arc::clone(&shared.env.spawn);
        let task = async move {
            let work = move || {
                let event = errand(&mut log);
                (Box::new(log), event)
            };
            // Without an answer the node has ended.
            if let Some((log, event)) = shared.env.offload("errand", work).await {
                replica.submit(Input::Returned(log, event));
            }
        };
        spawn.spawn(Lane::Data, "errand", Box::pin(task));
    }

    /// Gives the log away. From here on every input is refused.
    fn take_log(&mut self, reply: oneshot::Sender<(Log, ProducerStates)>, step: &mut Step<'_>) {
        self.write_group(step);
        if self.log.is_none() {
            self.held.push_front(Input::TakeLog { reply });
            return;
        }
        if let PublishedRole::Leader { leader_epoch, .. } = self.machine.published().role {
            self.step(Event::Resigned { leader_epoch }, step);
        }
        let producers = self.machine.producers().cloned();
        if let (Some(log), Some(producers)) = (self.log.take(), producers) {
            // Who asked may have gone; then the log is closed by being dropped.
            let _ = reply.send((log, producers));
        }
        self.is_closed = true;
        self.timer = None;
        self.delete_replies.clear();
        for input in std::mem::take(&mut self.held) {
            self.refuse(input, step);
        }
    }

    fn step(&mut self, event: Event, step: &mut Step<'_>) {
        let now = self.shared.env.clock.now();
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.step(event, now, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect, step);
        }
        self.effects = effects;
        self.set_timer();
    }

    fn carry_out(&mut self, effect: Effect, step: &mut Step<'_>) {
        match effect {
            Effect::Write {
                base_offset,
                leader_epoch,
                log_append_time,
                ticket,
            } => {
                let Some((mut batch, permit)) = self.arriving.take() else {
                    return;
                };
                batch.set_base_offset(base_offset);
                batch.set_leader_epoch(leader_epoch);
                if let Some(now) = log_append_time {
                    batch.set_log_append_time(now);
                }
                self.group.push(ticket, batch, permit);
            }
            Effect::PublishView(_) => self.publish(step),
            Effect::AckProduce { ticket, result } => {
                if let Some(reply) = self.replies.try_remove(index(ticket)) {
                    step.answers.push((reply, result));
                }
            }
            Effect::RequestFlush { .. } => self.shared.flusher.request(step.replica),
            // The log writes the file itself before the first batch of an epoch.
            Effect::CheckpointLeaderEpochs => {}
            Effect::MoveLogStart {
                ticket,
                log_start_offset,
            } => {
                let errand = move_log_start(ticket, log_start_offset);
                self.held.push_back(Input::Errand(errand));
            }
            Effect::AnswerDeleteRecords { ticket, result } => {
                if let Some(reply) = self.delete_replies.try_remove(index(ticket)) {
                    // A client that has gone does not want to know.
                    let _ = reply.send(result);
                }
            }
            Effect::ReplicaOffline { reason } => {
                tracing::error!(partition = %step.replica.name, ?reason, "a replica is offline");
                self.shared.metrics.replicas_offline.inc();
            }
        }
    }

    fn publish(&mut self, step: &mut Step<'_>) {
        let offsets = self.machine.published();
        if let Some(log) = &mut self.log {
            log.publish(offsets.high_watermark, offsets.last_stable_offset);
            self.view = self.reader.load();
        }
        step.replica.publish(ReplicaView {
            log: Arc::clone(&self.view),
            offsets,
        });
        step.is_published = true;
    }
}

/// What follows a step: writes, timers, checks.
impl Core {
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

    /// Sees to it that produces whose time is up are answered.
    fn set_timer(&mut self) {
        let Some(deadline) = self.machine.next_deadline() else {
            return;
        };
        if self
            .timer
            .as_ref()
            .is_some_and(|timer| timer.deadline <= deadline)
        {
            return;
        }
        let now = self.shared.env.clock.now();
        let wait = u64::try_from(deadline.saturating_sub(now).get()).unwrap_or(0);
        // Not for as long as the timer runs: a client may ask for weeks.
        let replica = Weak::clone(&self.replica);
        let task = async move {
            tokio::time::sleep(Duration::from_millis(wait.max(1))).await;
            if let Some(replica) = replica.upgrade() {
                replica.submit(Input::TimerFired);
            }
        };
        let spawn = &self.shared.env.spawn;
        let task = spawn.spawn(Lane::Data, "produce-timeout", Box::pin(task));
        self.timer = Some(Timer { deadline, task });
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

impl Drop for Timer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn move_log_start(ticket: Ticket, log_start_offset: Offset) -> Errand {
    Box::new(move |log| {
        Some(match log.advance_log_start(log_start_offset) {
            Ok(()) => Event::LogStartOffsetMoved {
                ticket: Some(ticket),
                log_start_offset,
            },
            Err(error) => {
                tracing::error!(partition = %log.partition(), %error, "cannot move the log start");
                Event::LogStartMoveFailed { ticket }
            }
        })
    })
}

fn index(ticket: Ticket) -> usize {
    // Tickets are indexes of the slab.
    usize::try_from(ticket.0).unwrap_or(usize::MAX)
}
