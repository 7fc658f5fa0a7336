//! Who hears of everything in a cluster: keeps the history, asks the invariants.
//!
//! Input: events of clients, nemesis and observer. Output: the first violation, which ends the run.
//!
//! Invariant: each event is judged at the moment at which it is told, in the order of the history;
//! after the first violation nothing is judged any more.
//!
//! Source: none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_metadata::Image;
use skein_record::BatchView;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::{ClusterEvent, Told};
use super::invariants::{self, ClusterInvariant, Facts};
use super::plan::ClusterPlan;
use super::risks::{Records, Risks};
use crate::batches::{Batch, BatchId, Batches, Identified, Marks};
use crate::event::{End, PartitionId, Stamp};
use crate::hidden::Hidden;
use crate::history::Actor;
use crate::run::Remembers;
use crate::witness::Violation;

/// Events that are kept; older ones are forgotten.
const LINES_MAX: usize = 4_000;

/// Events that a report of a violation shows.
const REPORT_LINES: usize = 80;

/// The witness of one run.
pub(crate) struct ClusterWitness {
    plan: Arc<ClusterPlan>,
    started: Instant,
    is_printed: bool,
    state: Mutex<State>,
    violated: Notify,
}

struct State {
    batches: Batches,
    hidden: Hidden,
    risks: Risks,
    invariants: Vec<Box<dyn ClusterInvariant>>,
    lines: VecDeque<String>,
    told: Told,
    operations: u64,
    strikes: u64,
    violation: Option<Violation>,
}

impl ClusterWitness {
    /// A witness at the beginning of a run.
    pub(crate) fn new(plan: Arc<ClusterPlan>, is_printed: bool) -> Self {
        let state = State {
            batches: Batches::default(),
            hidden: Hidden::default(),
            risks: Risks::default(),
            invariants: invariants::all(),
            lines: VecDeque::new(),
            told: 0,
            operations: 0,
            strikes: 0,
            violation: None,
        };
        Self {
            plan,
            started: Instant::now(),
            is_printed,
            state: Mutex::new(state),
            violated: Notify::new(),
        }
    }

    /// Hears of an event.
    pub(crate) fn tell(&self, actor: Actor, event: ClusterEvent) {
        let mut state = self.state.lock();
        // What was applied came first.
        for image in skein_quorum::inspect::take() {
            self.hear(
                &mut state,
                Actor::Node,
                ClusterEvent::Applied(Box::new(image)),
            );
        }
        self.hear(&mut state, actor, event);
    }

    fn hear(&self, state: &mut State, actor: Actor, event: ClusterEvent) {
        if state.violation.is_some() {
            return;
        }
        state.told += 1;
        let now = state.told;
        let is_of_observer = matches!(
            event,
            ClusterEvent::Applied(_)
                | ClusterEvent::Leads(_)
                | ClusterEvent::Held(_)
                | ClusterEvent::Survived { .. }
                | ClusterEvent::LeadsQuorum { .. }
        );
        if !is_of_observer {
            self.keep(state, actor, &event.to_string());
        }
        match &event {
            ClusterEvent::Sent { batch, .. } => state.batches.note_sent(*batch),
            ClusterEvent::Ended {
                node,
                end: End::PowerCut,
            } => state.risks.power_cut(*node, &self.plan, now),
            ClusterEvent::Wiped { node } => state.risks.wiped(*node, &self.plan, now),
            ClusterEvent::ElectedUnclean => state.risks.elected_unclean(&self.plan, now),
            ClusterEvent::Applied(image) => {
                for line in changes(state.risks.newest(), image) {
                    self.keep(state, Actor::Node, &line);
                }
                state.risks.applied(image, &self.plan, now);
            }
            _ => {}
        }
        let facts = Facts {
            plan: &self.plan,
            risks: &state.risks,
            batches: &state.batches,
        };
        let broken = state.invariants.iter_mut().find_map(|invariant| {
            let observed = invariant.observe(&event, &facts);
            Some((invariant.name(), observed.err()?))
        });
        if let Some((invariant, text)) = broken {
            self.violate(state, invariant, text);
        }
    }

    /// Tells of something for a person.
    pub(crate) fn note(&self, actor: Actor, text: impl Into<String>) {
        self.tell(actor, ClusterEvent::Note(text.into()));
    }

    /// A client has found something wrong by itself.
    pub(crate) fn accuse(&self, actor: Actor, invariant: &'static str, text: impl Into<String>) {
        let text = format!("{actor}: {}", text.into());
        self.violate(&mut self.state.lock(), invariant, text);
    }

    fn violate(&self, state: &mut State, invariant: &'static str, text: String) {
        if state.violation.is_some() {
            return;
        }
        let skipped = state.lines.len().saturating_sub(REPORT_LINES);
        state.violation = Some(Violation {
            invariant,
            text,
            history: state.lines.iter().skip(skipped).cloned().collect(),
        });
        self.violated.notify_one();
    }

    #[allow(clippy::print_stderr, reason = "a person asked to see it")]
    fn keep(&self, state: &mut State, actor: Actor, text: &str) {
        let at = self.started.elapsed().as_secs_f64();
        let line = format!("{at:>10.6} {:<12} {text}", actor.to_string());
        if self.is_printed {
            eprintln!("{line}");
        }
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    /// The present moment, for a question that is about to be sent.
    pub(crate) fn ask(&self) -> Told {
        let mut state = self.state.lock();
        state.operations += 1;
        state.told
    }

    /// Counts a fault.
    pub(crate) fn count_strike(&self) {
        self.state.lock().strikes += 1;
    }

    /// Requests of clients, and faults, so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.operations, state.strikes)
    }

    /// The first broken promise.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.state.lock().violation.clone()
    }

    /// Returns when a promise is broken.
    pub(crate) async fn violated(&self) {
        self.violated.notified().await;
    }

    /// Makes a batch.
    pub(crate) fn make(&self, batch: Batch) -> (BatchId, Bytes) {
        self.state.lock().batches.make(batch)
    }

    /// Which batch these bytes are.
    pub(crate) fn identify(
        &self,
        partition: PartitionId,
        view: &BatchView<'_>,
    ) -> Result<BatchId, String> {
        let state = self.state.lock();
        let marks = Marks {
            hidden: &state.hidden,
            partition,
            asked: Stamp {
                era: 0,
                life: 0,
                told: 0,
            },
        };
        match state.batches.identify(partition, view, &marks)? {
            Identified::Whole(batch) => Ok(batch),
            other => Err(format!("it is no whole batch: {other:?}")),
        }
    }

    /// Whether records of this partition may have been lost, at any time.
    pub(crate) fn was_at_risk(&self, partition: PartitionId) -> bool {
        self.state.lock().risks.ever(Records::Of(partition))
    }

    /// The newest image of all nodes.
    pub(crate) fn newest_image(&self) -> Option<Image> {
        self.state.lock().risks.newest().cloned()
    }

    /// The plan of the run.
    pub(crate) fn plan(&self) -> &ClusterPlan {
        &self.plan
    }

    /// Simulated time so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Remembers for ClusterWitness {
    fn tail(&self) -> Vec<String> {
        let state = self.state.lock();
        let skipped = state.lines.len().saturating_sub(REPORT_LINES);
        state.lines.iter().skip(skipped).cloned().collect()
    }
}

/// What an image says anew of partitions and brokers.
fn changes(former: Option<&Image>, image: &Image) -> Vec<String> {
    let Some(former) = former.filter(|former| former.last_applied() < image.last_applied()) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for broker in image.brokers() {
        if former.broker(broker.id) != Some(broker) {
            let (id, epoch, fenced) = (broker.id, broker.epoch, broker.fenced);
            lines.push(format!("broker {id} has epoch {epoch}, fenced: {fenced}"));
        }
    }
    for topic in image.topics() {
        for (index, now) in topic.partitions() {
            let before = former.partition(topic.id, index);
            if before == Some(now) || topic.name.as_str().starts_with("__") {
                continue;
            }
            lines.push(format!(
                "{}-{index}: leader {} in {}, epoch {}, ISR {:?}, ELR {:?}, last {:?}",
                topic.name,
                now.leader,
                now.leader_epoch,
                now.partition_epoch,
                now.isr,
                now.elr,
                now.last_known
            ));
        }
    }
    lines
}
