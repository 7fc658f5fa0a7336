//! Acknowledged records survive as their durability promises.
//!
//! Input: acks, reads, deaths of the node; the log as it is read back. Output: the first record
//! that was promised and is not there.
//!
//! - `acks=1` and `acks=all` survive a kill;
//! - `acks=all` on a topic with `durability=flushed`, and whatever was read there, survives a power
//!   cut;
//! - everything that was acknowledged or read before a clean stop survives a power cut after it.
//!
//! Source: KIP-679 (what `acks=all` means); the topic key `durability`.

use std::collections::BTreeMap;

use skein_types::Offset;

use super::{Facts, Invariant};
use crate::batches::BatchId;
use crate::event::{End, Event};
use crate::plan::Plan;

/// The promises of each partition.
pub(crate) struct AcknowledgedSurvives {
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    is_compacted: bool,
    is_flushed: bool,
    /// Batches that must be where they are, by their base offset.
    promised: BTreeMap<Offset, Promise>,
    /// Batches that must be somewhere.
    unplaced: BTreeMap<BatchId, Strength>,
    /// What lies below survives a power cut.
    flushed_end: Offset,
    /// What is being read back.
    found: BTreeMap<Offset, BatchId>,
}

struct Promise {
    batch: BatchId,
    strength: Strength,
}

/// What a promise withstands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    Kill,
    PowerCut,
}

impl AcknowledgedSurvives {
    /// No promise yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|partition| Partition {
            is_flushed: partition.is_flushed,
            is_compacted: partition.compaction.is_some(),
            ..Partition::default()
        });
        Self {
            partitions: partitions.collect(),
        }
    }

    fn end(&mut self, end: End) {
        for partition in &mut self.partitions {
            match end {
                End::Clean => partition.stopped_cleanly(),
                End::Kill => {}
                End::PowerCut => partition.lost_power(),
            }
        }
    }
}

impl Invariant for AcknowledgedSurvives {
    fn name(&self) -> &'static str {
        "acknowledged_survives"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::Acked {
                batch,
                base_offset,
                sent,
            } => {
                let of = facts.batches.get(*batch);
                let partition = &mut self.partitions[of.partition.0];
                let strength = partition.strength_of(of.acks);
                // An answer from before a power cut that it did not need to survive.
                if strength == Strength::PowerCut || sent.era == facts.now.era {
                    partition.promise(*batch, *base_offset, strength);
                }
            }
            Event::Read {
                partition,
                base_offset,
                batch,
                asked,
            }
            | Event::ReadRest {
                partition,
                base_offset,
                batch: Some(batch),
                asked,
                ..
            } => {
                let partition = &mut self.partitions[partition.0];
                let is_of_now = asked.era == facts.now.era;
                // What an answer from before a power cut tells may be gone.
                if is_of_now || partition.is_flushed {
                    partition.found.insert(*base_offset, *batch);
                }
                if partition.is_flushed {
                    let end = facts.batches.get(*batch).end(*base_offset);
                    partition.flushed_end = partition.flushed_end.max(end);
                    partition.promise(*batch, Some(*base_offset), Strength::PowerCut);
                } else if is_of_now {
                    partition.promise(*batch, Some(*base_offset), Strength::Kill);
                }
            }
            Event::ReadBack {
                partition,
                start,
                end,
            } => {
                return self.partitions[partition.0].settle(*start, *end, facts);
            }
            Event::Ended(end) => self.end(*end),
            _ => {}
        }
        Ok(())
    }
}

impl Partition {
    fn strength_of(&self, acks: i16) -> Strength {
        match (self.is_flushed, acks) {
            (true, -1) => Strength::PowerCut,
            _ => Strength::Kill,
        }
    }

    fn promise(&mut self, batch: BatchId, at: Option<Offset>, strength: Strength) {
        let Some(at) = at else {
            let known = self.unplaced.entry(batch).or_insert(strength);
            *known = strength.max(*known);
            return;
        };
        let known = self
            .promised
            .entry(at)
            .or_insert(Promise { batch, strength });
        if known.batch == batch {
            known.strength = strength.max(known.strength);
        } else {
            // Two contents at one offset: `offsets_immutable` judges that.
            *known = Promise { batch, strength };
        }
    }

    fn stopped_cleanly(&mut self) {
        for promise in self.promised.values_mut() {
            promise.strength = Strength::PowerCut;
        }
        for strength in self.unplaced.values_mut() {
            *strength = Strength::PowerCut;
        }
    }

    fn lost_power(&mut self) {
        let flushed_end = self.flushed_end;
        self.promised
            .retain(|at, promise| *at < flushed_end || promise.strength == Strength::PowerCut);
        self.unplaced
            .retain(|_, strength| *strength == Strength::PowerCut);
        // What was read there may be elsewhere now.
        self.found.retain(|at, _| *at < flushed_end);
    }

    /// Whether compaction may have taken the batch at `at`, of a log that ends at `end`.
    fn may_be_compacted(&self, at: Offset, id: BatchId, end: Offset, facts: &Facts<'_>) -> bool {
        let is_sealed = facts.batches.get(id).end(at) <= end;
        self.is_compacted && is_sealed && facts.batches.may_all_be_compacted(id)
    }

    /// Compares the promises with what was read back. What lies before the log's start was deleted:
    /// `log_start` judges that.
    fn settle(&mut self, start: Offset, end: Offset, facts: &Facts<'_>) -> Result<(), String> {
        let found = std::mem::take(&mut self.found);
        self.promised
            .retain(|at, promise| facts.batches.get(promise.batch).end(*at) > start);
        if start > Offset::ZERO {
            // Where these were is unknown.
            self.unplaced.clear();
        }
        for (at, promise) in &self.promised {
            let Promise { batch, strength } = promise;
            if found.get(at) != Some(batch) {
                let instead = match found.range(..=*at).next_back() {
                    Some((base, other)) if facts.batches.get(*other).end(*base) > *at => {
                        format!("{other} is there")
                    }
                    _ if self.may_be_compacted(*at, *batch, end, facts) => continue,
                    _ => format!("the log ends at {end}"),
                };
                return Err(format!(
                    "{batch} at offset {at} was promised to survive a {strength:?}, but {instead}"
                ));
            }
        }
        let is_missing = |batch: &&BatchId| {
            let is_compacted = self.is_compacted && facts.batches.may_all_be_compacted(**batch);
            !is_compacted && !found.values().any(|found| found == *batch)
        };
        let missing = self.unplaced.keys().find(is_missing);
        match missing {
            Some(batch) => Err(format!(
                "{batch} was acknowledged, but is nowhere in the log"
            )),
            None => Ok(()),
        }
    }
}
