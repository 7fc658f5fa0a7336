//! What the node promises, one promise a file.
//!
//! Input: every event of a run, in its order. Output: the first promise that is broken.
//!
//! Each invariant keeps its own books and trusts no other, but that `last_values_stay` alone tells
//! what compaction may take: of a compacted topic the others miss nothing that it may ever take.
//! All of them judge by these facts:
//!
//! - after a clean stop nothing may be lost, and the power may go;
//! - after a kill, what was neither acknowledged nor read;
//! - after a power cut, on topics with `durability=replicated`, the end of the log, back to what
//!   was there at the last clean stop; with `flushed`, what was neither read nor acknowledged with
//!   `acks=all`.
//!
//! Source: the design's sections on flush and on what a disk kept.

pub(crate) mod acknowledged_survives;
pub(crate) mod committed_is_written;
pub(crate) mod committed_offsets;
pub(crate) mod current_generation;
pub(crate) mod high_watermark;
pub(crate) mod idempotence;
pub(crate) mod indexes_agree;
pub(crate) mod last_values_stay;
pub(crate) mod log_start;
pub(crate) mod offsets_expire;
pub(crate) mod offsets_immutable;
pub(crate) mod one_owner;
pub(crate) mod replay_agrees;
pub(crate) mod topics_stay;

use std::collections::BTreeMap;

use skein_types::Millis;

use crate::batches::Batches;
use crate::event::{Event, GroupEvent, GroupId, Membership, Stamp};
use crate::history::Actor;
use crate::plan::Plan;

/// What every invariant may know beside the event.
pub(crate) struct Facts<'a> {
    /// The batches that were made so far.
    pub(crate) batches: &'a Batches,
    /// Who tells of the event.
    pub(crate) actor: Actor,
    /// The node's life at this moment.
    pub(crate) now: Stamp,
    /// The latest time of day that the node can have seen.
    pub(crate) node_time: Millis,
    /// To measure an age: between two events the node can have seen at most the `age_max` of the
    /// later less the `age_min` of the earlier go by, however its clock was set.
    pub(crate) age_min: Millis,
    pub(crate) age_max: Millis,
}

/// A promise.
pub(crate) trait Invariant: Send {
    /// Its name: that of its file.
    fn name(&self) -> &'static str;

    /// Takes an event into account.
    ///
    /// # Errors
    /// How the event breaks the promise.
    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String>;
}

/// A promise about generations of groups, as long as nobody has deleted the group: the next group
/// of its name counts them anew. Where offsets expire, the node deletes those without offsets whose
/// members' sessions have all ended.
struct UntilDeleted<I> {
    promise: I,
    expires: bool,
    /// How many deletions of each group were asked for and not refused, or seen.
    deletions: BTreeMap<GroupId, i64>,
    /// When a generation of each group was first complete.
    synced: BTreeMap<GroupId, u64>,
}

impl<I> UntilDeleted<I> {
    fn new(plan: &Plan, promise: I) -> Self {
        Self {
            promise,
            expires: plan.groups.expires,
            deletions: BTreeMap::new(),
            synced: BTreeMap::new(),
        }
    }

    /// Whether it is the first generation that `asked` led into, though there was one before.
    fn begins_anew(&self, group: GroupId, of: &Membership, asked: Stamp) -> bool {
        let synced = self.synced.get(&group);
        self.expires && of.generation == 1 && synced.is_some_and(|told| *told < asked.told)
    }
}

impl<I: Invariant> Invariant for UntilDeleted<I> {
    fn name(&self) -> &'static str {
        self.promise.name()
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        let observed = self.promise.observe(event, facts);
        let Event::Group(group, event) = event else {
            return observed;
        };
        let begins_anew = match event {
            GroupEvent::Joined { of, asked } => self.begins_anew(*group, of, *asked),
            _ => false,
        };
        let deletions = self.deletions.entry(*group).or_default();
        match event {
            _ if begins_anew => *deletions += 1,
            GroupEvent::Deleting => *deletions += 1,
            GroupEvent::NotDeleted => *deletions -= 1,
            _ if *deletions > 0 => {}
            GroupEvent::Synced { .. } => {
                self.synced.entry(*group).or_insert(facts.now.told);
                return observed;
            }
            _ => return observed,
        }
        Ok(())
    }
}

/// All invariants, at the start of a run.
pub(crate) fn all(plan: &Plan) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(acknowledged_survives::AcknowledgedSurvives::new(plan)),
        Box::new(offsets_immutable::OffsetsImmutable::new(plan)),
        Box::new(last_values_stay::LastValuesStay::new(plan)),
        Box::new(committed_is_written::CommittedIsWritten::new(plan)),
        Box::new(idempotence::Idempotence::new(plan)),
        Box::new(indexes_agree::IndexesAgree::new(plan)),
        Box::new(high_watermark::HighWatermark::default()),
        Box::new(log_start::LogStart::new(plan)),
        Box::new(topics_stay::TopicsStay::new(plan)),
        Box::new(committed_offsets::CommittedOffsets::new(plan)),
        Box::new(offsets_expire::OffsetsExpire::default()),
        Box::new(UntilDeleted::new(plan, one_owner::OneOwner::new(plan))),
        Box::new(UntilDeleted::new(
            plan,
            current_generation::CurrentGeneration::new(plan),
        )),
        Box::new(replay_agrees::ReplayAgrees::new(plan)),
    ]
}
