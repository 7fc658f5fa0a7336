//! Who hears of everything: keeps the history, asks the invariants.
//!
//! Input: events of all clients and of the nemesis. Output: the first violation, which ends the
//! run.
//!
//! Invariant: each event is judged at the moment at which it is told, in the order of the history;
//! after the first violation nothing is judged any more.
//!
//! Source: none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_env::Clock;
use skein_env::sim::SimClockControl;
use skein_record::BatchView;
use skein_types::{Millis, Offset, TopicId, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batches::{Batch, BatchId, Batches, Identified, Marks};
use crate::event::{End, Event, PartitionId, Stamp, Subject, WriteId};
use crate::hidden::{Candidate, Hidden};
use crate::history::{Actor, History};
use crate::invariants::{self, Facts, Invariant};
use crate::plan::{Plan, Slot};
use crate::topics::{Phase, Topics};

/// Events that a report of a violation shows.
const REPORT_LINES: usize = 60;

/// A broken promise.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// Which one: the name of its file in `invariants/`.
    pub(crate) invariant: &'static str,
    /// What is wrong.
    pub(crate) text: String,
    /// What led there.
    pub(crate) history: Vec<String>,
}

/// The witness of one run.
pub(crate) struct Witness {
    plan: Arc<Plan>,
    started: Instant,
    /// The node's time of day.
    clock: SimClockControl,
    state: Mutex<State>,
    violated: Notify,
}

struct State {
    batches: Batches,
    hidden: Hidden,
    invariants: Vec<Box<dyn Invariant>>,
    history: History,
    now: Stamp,
    operations: u64,
    strikes: u64,
    /// Commits and deletions of offsets so far.
    writes: i64,
    /// Whether groups can be used.
    has_groups: bool,
    violation: Option<Violation>,
    topics: Topics,
    /// The partition with a bad bit, and the last life of the node that may meet it.
    rotten: Option<(TopicPartition, u32)>,
    /// The latest time of day that the node can have seen, and the present one.
    node_time: Millis,
    node_clock: Millis,
    /// How far its clock was set back, all in all.
    set_back: Millis,
}

impl Witness {
    /// A witness at the beginning of a run.
    pub(crate) fn new(plan: Arc<Plan>, clock: SimClockControl, is_printed: bool) -> Self {
        let state = State {
            batches: Batches::default(),
            hidden: Hidden::default(),
            invariants: invariants::all(&plan),
            history: History::new(is_printed),
            now: Stamp {
                era: 0,
                life: 0,
                told: 0,
            },
            operations: 0,
            strikes: 0,
            writes: 0,
            has_groups: false,
            violation: None,
            topics: Topics::new(&plan),
            rotten: None,
            node_time: clock.now(),
            node_clock: clock.now(),
            set_back: Millis(0),
        };
        Self {
            plan,
            started: Instant::now(),
            clock,
            state: Mutex::new(state),
            violated: Notify::new(),
        }
    }

    /// Hears of an event.
    pub(crate) fn tell(&self, actor: Actor, event: Event) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.now.told += 1;
        match event {
            Event::Starting => state.now.life += 1,
            // An answer that is still on its way comes from the era before.
            Event::Ended(End::PowerCut) => state.now.era += 1,
            Event::Sent { batch, .. } => state.batches.note_sent(batch),
            Event::Acked {
                batch,
                base_offset: Some(base_offset),
                ..
            } => {
                let batch = state.batches.get(batch);
                let plan = self.plan.partition(batch.partition);
                if plan.is_flushed && batch.acks == -1 && plan.compaction.is_none() {
                    state.hidden.add_candidate(Candidate {
                        partition: batch.partition,
                        base_offset,
                        records: batch.records,
                    });
                }
            }
            _ => {}
        }
        let clock = self.clock.now();
        state.node_time = state.node_time.max(clock);
        state.set_back.0 += (state.node_clock.0 - clock.0).max(0);
        state.node_clock = clock;
        let facts = Facts {
            batches: &state.batches,
            actor,
            now: state.now,
            node_time: state.node_time,
            age_min: Millis(clock.0 + state.set_back.0),
            age_max: Millis(state.node_time.0 + state.set_back.0),
        };
        let mut broken = None;
        if state.violation.is_none() {
            for invariant in &mut state.invariants {
                if let Err(text) = invariant.observe(&event, &facts) {
                    broken = Some((invariant.name(), text));
                    break;
                }
            }
        }
        let subject = event.subject(|batch| state.batches.get(batch).partition);
        state
            .history
            .add(self.started.elapsed(), actor, subject, event);
        if let Some((invariant, text)) = broken {
            self.violate(state, invariant, subject, text);
        }
    }

    /// Hears of something that must not be, and that needs no books.
    pub(crate) fn accuse(
        &self,
        actor: Actor,
        invariant: &'static str,
        subject: Option<Subject>,
        text: String,
    ) {
        let mut state = self.state.lock();
        let note = Event::Note(format!("accuses: {text}"));
        state
            .history
            .add(self.started.elapsed(), actor, subject, note);
        self.violate(&mut state, invariant, subject, text);
    }

    fn violate(
        &self,
        state: &mut State,
        invariant: &'static str,
        subject: Option<Subject>,
        text: String,
    ) {
        if state.violation.is_some() {
            return;
        }
        let text = match subject {
            Some(Subject::Partition(partition)) => {
                format!("{}: {text}", self.plan.name_of(partition))
            }
            Some(Subject::Group(group)) => format!("{}: {text}", self.plan.groups.names[group.0]),
            None => text,
        };
        let history = state.history.tail(subject, REPORT_LINES);
        state.violation = Some(Violation {
            invariant,
            text,
            history,
        });
        self.violated.notify_one();
    }

    /// Counts a request of a client, and says in which life of the node it is sent.
    pub(crate) fn ask(&self) -> Stamp {
        let mut state = self.state.lock();
        state.operations += 1;
        state.now
    }

    /// A number for a commit or a deletion of an offset.
    pub(crate) fn next_write(&self) -> WriteId {
        let mut state = self.state.lock();
        state.writes += 1;
        WriteId(state.writes)
    }

    /// Notes that the topics that groups need are there.
    pub(crate) fn note_groups(&self) {
        self.state.lock().has_groups = true;
    }

    /// Whether they are.
    pub(crate) fn has_groups(&self) -> bool {
        self.state.lock().has_groups
    }

    /// Requests that clients have sent.
    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// A fault strikes, or would have.
    pub(crate) fn count_strike(&self) {
        self.state.lock().strikes += 1;
    }

    /// How often faults struck.
    pub(crate) fn strikes(&self) -> u64 {
        self.state.lock().strikes
    }

    /// The first broken promise.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.state.lock().violation.clone()
    }

    /// Waits for the first broken promise.
    pub(crate) async fn violated(&self) {
        self.violated.notified().await;
    }

    /// The last events, for a report of a panic.
    pub(crate) fn tail(&self) -> Vec<String> {
        // A panic may come from inside: then there is no history to show.
        self.state
            .try_lock()
            .map_or_else(Vec::new, |state| state.history.tail(None, REPORT_LINES))
    }

    /// Makes a batch.
    pub(crate) fn make(&self, batch: Batch) -> (BatchId, Bytes) {
        self.state.lock().batches.make(batch)
    }

    /// Which batch these bytes are, or are left of; `asked` when they were asked for.
    pub(crate) fn identify(
        &self,
        partition: PartitionId,
        view: &BatchView<'_>,
        asked: Stamp,
    ) -> Result<Identified, String> {
        let state = self.state.lock();
        let marks = Marks {
            hidden: &state.hidden,
            partition,
            asked,
        };
        state.batches.identify(partition, view, &marks)
    }

    /// Batches of which a record may be hidden.
    pub(crate) fn may_be_hidden(&self) -> Vec<Candidate> {
        self.state.lock().hidden.candidates()
    }

    /// How many records are hidden, or about to be.
    pub(crate) fn hidden_count(&self) -> usize {
        self.state.lock().hidden.count()
    }

    /// A record is about to be hidden.
    pub(crate) fn hide(&self, partition: PartitionId, offset: Offset) {
        self.state.lock().hidden.order(partition, offset);
    }

    /// The node has answered that a record is hidden.
    pub(crate) fn is_hidden(&self, partition: PartitionId, offset: Offset) {
        let mut state = self.state.lock();
        let now = state.now;
        state.hidden.answer(partition, offset, now);
    }

    /// A batch in the partition's files has a bad bit from now on.
    pub(crate) fn rots(&self, partition: &TopicPartition) {
        self.state.lock().rotten = Some((partition.clone(), u32::MAX));
    }

    /// No batch has a bad bit any more; answers to what was asked until now may.
    pub(crate) fn rots_no_more(&self) {
        let mut state = self.state.lock();
        let life = state.now.life;
        if let Some((_, last)) = &mut state.rotten {
            *last = life;
        }
    }

    /// Whether what was asked of the partition may have met a bad bit.
    pub(crate) fn is_rotten(&self, partition: PartitionId, asked: Stamp) -> bool {
        let plan = self.plan.partition(partition);
        let name = self.plan.topics[plan.topic].name.as_str();
        let state = self.state.lock();
        state.rotten.as_ref().is_some_and(|(rotten, last)| {
            let index = usize::try_from(rotten.partition.0);
            rotten.topic.as_str() == name && index == Ok(plan.index) && asked.life <= *last
        })
    }

    /// Notes a topic that was created.
    pub(crate) fn note_topic(&self, topic: usize, id: TopicId, partitions: usize) {
        self.state.lock().topics.created(topic, id, partitions);
    }

    /// Notes how many partitions a topic has.
    pub(crate) fn note_partitions(&self, topic: usize, count: usize) {
        self.state.lock().topics.has_partitions(topic, count);
    }

    /// Notes what has become of a topic.
    pub(crate) fn enter_phase(&self, topic: usize, phase: Phase) {
        self.state.lock().topics.enter(topic, phase);
    }

    /// Where a topic is in its life.
    pub(crate) fn topic_phase(&self, topic: usize) -> Phase {
        self.state.lock().topics.phase(topic)
    }

    /// The id of a topic; `None` until it is created.
    pub(crate) fn topic_id(&self, topic: usize) -> Option<TopicId> {
        self.state.lock().topics.id(topic)
    }

    /// How many partitions a topic has.
    pub(crate) fn partitions_of(&self, topic: usize) -> usize {
        self.state.lock().topics.partitions(topic)
    }

    /// The partition that a slot means; `None` if there is none.
    pub(crate) fn find(&self, slot: Slot) -> Option<PartitionId> {
        self.state.lock().topics.find(&self.plan, slot)
    }

    /// Whether the partition is there for certain, and its name means it.
    pub(crate) fn is_live(&self, partition: PartitionId) -> bool {
        self.state.lock().topics.is_live(&self.plan, partition)
    }

    /// Every partition that is there.
    pub(crate) fn live_partitions(&self) -> Vec<PartitionId> {
        self.state.lock().topics.live(&self.plan)
    }

    /// Simulated time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
