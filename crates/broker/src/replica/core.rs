//! What the one writer of a replica works on, and how it takes an input.
//!
//! Input: [`Input`]s from the hand-off. Output: appends, views, and the answers that [`Step`] gives after
//! the state is let go.
//!
//! ```text
//!   Input ─┬─ needs the log, and a write is in flight ─► held ─┐
//!          └─ else ─► step ─► effects ─► group                 │ when the write has ended
//!                                          └─► write ──────────┘
//! ```
//!
//! Invariants, checked in [`Core::check`]:
//! - a write is in flight exactly while the log is away;
//! - inputs that wait for a write keep their order;
//! - every ticket of the state machine has a reply until it is answered.
//!
//! Source: the two-phase append of `skein_partition`.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skein_config::TopicConfig;
use skein_env::Lane;
use skein_net::BytesPermit;
use skein_partition::{Acks, Effect, Event, Refusal, Ticket, WriteFailure};
use skein_record::{BatchBuf, ProducerStates};
use skein_storage::segment_file::AppendError;
use skein_storage::{Appended, Log, LogReader, LogView};
use skein_types::{Millis, Offset, TopicPartition};
use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::reply::{AckResult, ReplySender};
use super::{Replica, ReplicaView};
use crate::handoff::Work;
use crate::node::Shared;

/// How long one task works for all before another goes on.
const HOLD_MAX: Duration = Duration::from_millis(1);

/// A replica whose log has just been opened.
pub(crate) struct Opened {
    pub(crate) name: TopicPartition,
    pub(crate) machine: skein_partition::Replica,
    pub(crate) log: Log,
    pub(crate) config: TopicConfig,
}

/// Something to do with the log while nothing is written.
pub(crate) type LogTask =
    Box<dyn FnOnce(&mut Log, &mut skein_partition::Replica) -> Option<Event> + Send>;

/// What the writer takes.
pub(crate) enum Input {
    Produce(Produce),
    Event(Event),
    Task(LogTask),
    DeleteRecords {
        before_offset: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, Refusal>>,
    },
    TimerFired,
    TakeLog {
        reply: oneshot::Sender<(Log, ProducerStates)>,
    },
    Completed(Box<Writing>),
}

/// A batch to be appended.
pub(crate) struct Produce {
    pub(crate) batch: BatchBuf,
    pub(crate) acks: Acks,
    pub(crate) timeout: Millis,
    pub(crate) permit: BytesPermit,
    pub(crate) reply: ReplySender,
}

/// Batches that one `pwritev` takes.
#[derive(Default)]
struct Group {
    tickets: Vec<Ticket>,
    batches: Vec<BatchBuf>,
    permits: Vec<BytesPermit>,
    bytes: usize,
}

/// The state behind the hand-off.
pub(super) struct Core {
    machine: skein_partition::Replica,
    /// `None` while a write is in flight.
    log: Option<Log>,
    /// The log as readers may see it while it is away.
    view: Arc<LogView>,
    reader: LogReader,
    effects: Vec<Effect>,
    group: Group,
    /// The batch of the produce that is being stepped.
    arriving: Option<(BatchBuf, BytesPermit)>,
    replies: Slab<ReplySender>,
    delete_replies: Slab<oneshot::Sender<Result<Offset, Refusal>>>,
    /// Inputs that wait for the write in flight.
    pub(super) held: VecDeque<Input>,
    timer_is_set: bool,
    replica: Weak<Replica>,
    shared: Arc<Shared>,
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
        match input {
            Input::Completed(completed) => core.complete(*completed, self),
            input if core.must_wait(&input) => core.held.push_back(input),
            input => core.apply(input, self),
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
            timer_is_set: false,
            replica,
            shared,
        }
    }

    /// Whether `input` must wait for the write in flight, or behind others that do.
    fn must_wait(&self, input: &Input) -> bool {
        let needs_log = match input {
            Input::Produce(_) | Input::Task(_) | Input::TakeLog { .. } => true,
            Input::Event(event) => event.waits_while_writing(),
            Input::Completed(_) | Input::TimerFired | Input::DeleteRecords { .. } => false,
        };
        needs_log && (self.log.is_none() || !self.held.is_empty())
    }

    fn apply(&mut self, input: Input, step: &mut Step<'_>) {
        match input {
            Input::Produce(produce) => self.produce(produce, step),
            Input::Event(event) => self.event(event, step),
            Input::Task(task) => self.task(task, step),
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
                self.timer_is_set = false;
                self.step(Event::TimePassed, step);
            }
            Input::Completed(writing) => self.complete(*writing, step),
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
        // A refused batch, or a duplicate, was not taken for the group.
        self.arriving = None;
    }

    /// Writes the group if `batch` does not fit into the same write. False: a write is in flight.
    fn make_room(&mut self, batch: &BatchBuf, step: &mut Step<'_>) -> bool {
        let Some(log) = &self.log else { return false };
        let bytes = (self.group.bytes + batch.as_slice().len()) as u64;
        let is_full = self.group.batches.len() >= skein_partition::MAX_GROUP_BATCHES
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
        if let Some(event) = event {
            self.step(event, step);
        }
        self.publish(step);
    }

    /// Without its log the replica is as if it were writing, for ever.
    fn take_log(&mut self, reply: oneshot::Sender<(Log, ProducerStates)>, step: &mut Step<'_>) {
        self.write_group(step);
        if self.log.is_none() {
            self.held.push_front(Input::TakeLog { reply });
            return;
        }
        let producers = self.machine.producers().cloned();
        if let (Some(log), Some(producers)) = (self.log.take(), producers) {
            // Who asked may have gone; then the log is closed by being dropped.
            let _ = reply.send((log, producers));
        }
        self.held.clear();
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
                self.held
                    .push_back(Input::Task(move_log_start(ticket, log_start_offset)));
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

/// How writes run and end.
impl Core {
    /// Writes what has gathered: at once, or on the offload pool while the disk is slow.
    fn write_group(&mut self, step: &mut Step<'_>) {
        if self.group.is_empty() {
            return;
        }
        let Some(log) = self.log.take() else { return };
        let group = std::mem::take(&mut self.group);
        let mut writing = Writing {
            log,
            group,
            result: None,
        };
        let shared = Arc::clone(&self.shared);
        let Some(inline) = shared.disk_watch.begin() else {
            shared.metrics.writes_offloaded.inc();
            return writing.run_elsewhere(step.replica, &shared);
        };
        writing.run(shared.env.clock.now());
        drop(inline);
        shared
            .metrics
            .write_seconds
            .observe(step.started.elapsed().as_secs_f64());
        let cost = shared.env.disk.take_cost();
        if cost.is_zero() {
            self.complete(writing, step);
        } else {
            writing.run_later(step.replica, &shared, cost);
        }
    }

    /// A write has ended: the log is back.
    fn complete(&mut self, writing: Writing, step: &mut Step<'_>) {
        let Writing {
            log,
            mut group,
            result,
        } = writing;
        let event = match result {
            Some(Ok(appended)) => {
                let metrics = &self.shared.metrics;
                metrics.writes.inc();
                metrics.batches_appended.inc_by(group.batches.len() as u64);
                metrics.appended_bytes.inc_by(appended.bytes);
                Event::Written {
                    end: appended.log_end_offset,
                }
            }
            Some(Err(error)) => {
                tracing::error!(partition = %step.replica.name, %error, "cannot append");
                write_failed(&error)
            }
            // The offload pool has dropped the write: the node is stopping.
            None => Event::WriteFailed {
                failure: WriteFailure::Io,
                is_cut_back: true,
            },
        };
        group.batches.clear();
        group.permits.clear();
        group.bytes = 0;
        self.log = Some(log);
        self.step(event, step);
        for ticket in group.tickets.drain(..) {
            if let Some(reply) = self.replies.get(index(ticket)) {
                reply.appended();
            }
        }
        if self.group.batches.capacity() == 0 {
            // Its memory serves the next group.
            self.group = group;
        }
        self.after_write(step);
    }

    /// Snapshots and flushes that the write made due.
    fn after_write(&mut self, step: &mut Step<'_>) {
        let now = self.shared.env.clock.now();
        if let (Some(log), Some(producers)) = (self.log.as_mut(), self.machine.producers()) {
            if log.is_snapshot_due()
                && let Err(error) = log.write_snapshot(producers)
            {
                tracing::warn!(partition = %step.replica.name, %error, "no producer snapshot");
            }
            if log.is_flush_due(now) {
                self.shared.flusher.request(step.replica);
            }
        }
    }

    /// Writes what has gathered, and takes what has waited for that.
    fn settle(&mut self, step: &mut Step<'_>) {
        loop {
            self.write_group(step);
            if self.log.is_none() {
                return;
            }
            let Some(input) = self.held.pop_front() else {
                return;
            };
            self.apply(input, step);
        }
    }

    /// Sees to it that produces whose time is up are answered.
    fn set_timer(&mut self) {
        let Some(deadline) = self.machine.next_deadline() else {
            return;
        };
        let Some(replica) = self.replica.upgrade() else {
            return;
        };
        if std::mem::replace(&mut self.timer_is_set, true) {
            return;
        }
        let now = self.shared.env.clock.now();
        let wait = u64::try_from(deadline.saturating_sub(now).get()).unwrap_or(0);
        let timer = async move {
            tokio::time::sleep(Duration::from_millis(wait.max(1))).await;
            replica.submit(Input::TimerFired);
        };
        self.shared
            .env
            .spawn
            .spawn(Lane::Data, "produce-timeout", Box::pin(timer));
    }

    fn check(&self) {
        assert!(
            self.log.is_none() || self.group.is_empty(),
            "a group was left unwritten"
        );
        assert!(
            self.arriving.is_none(),
            "a batch was left between the state machine and the log"
        );
    }
}

/// A write, and the log that it has taken along.
pub(crate) struct Writing {
    log: Log,
    group: Group,
    result: Option<Result<Appended, AppendError>>,
}

impl Writing {
    fn run(&mut self, now: Millis) {
        let batches: SmallVec<[&[u8]; 8]> =
            self.group.batches.iter().map(BatchBuf::as_slice).collect();
        let result = self.log.append(&batches, now);
        if let Ok(appended) = &result {
            assert!(appended.batches == batches.len(), "a group was torn apart");
        }
        self.result = Some(result);
    }

    /// Runs on the offload pool.
    fn run_elsewhere(self, replica: &Arc<Replica>, shared: &Arc<Shared>) {
        let (replica, shared) = (Arc::clone(replica), Arc::clone(shared));
        let spawn = Arc::clone(&shared.env.spawn);
        let task = async move {
            let slot = Arc::new(Mutex::new(Some(self)));
            let work = {
                let (slot, shared) = (Arc::clone(&slot), Arc::clone(&shared));
                move || {
                    let started = Instant::now();
                    if let Some(writing) = slot.lock().as_mut() {
                        writing.run(shared.env.clock.now());
                    }
                    shared.disk_watch.took(started.elapsed());
                }
            };
            shared.env.spawn.offload("append", Box::new(work)).await;
            let writing = slot.lock().take();
            if let Some(writing) = writing {
                replica.submit(Input::Completed(Box::new(writing)));
            }
        };
        spawn.spawn(Lane::Data, "append", Box::pin(task));
    }

    /// Has run, and takes effect after `cost`: the simulated disk's way to be slow.
    fn run_later(self, replica: &Arc<Replica>, shared: &Arc<Shared>, cost: Duration) {
        let replica = Arc::clone(replica);
        let task = async move {
            tokio::time::sleep(cost).await;
            replica.submit(Input::Completed(Box::new(self)));
        };
        shared.env.spawn.spawn(Lane::Data, "append", Box::pin(task));
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    fn push(&mut self, ticket: Ticket, batch: BatchBuf, permit: BytesPermit) {
        self.bytes += batch.as_slice().len();
        self.tickets.push(ticket);
        self.batches.push(batch);
        self.permits.push(permit);
    }
}

fn write_failed(error: &AppendError) -> Event {
    let failure = if error.cause.is_disk_full() {
        WriteFailure::DiskFull
    } else {
        WriteFailure::Io
    };
    Event::WriteFailed {
        failure,
        is_cut_back: error.is_cut_back(),
    }
}

fn move_log_start(ticket: Ticket, log_start_offset: Offset) -> LogTask {
    Box::new(move |log, _| {
        Some(match log.advance_log_start(log_start_offset) {
            Ok(_) => Event::LogStartOffsetMoved {
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
