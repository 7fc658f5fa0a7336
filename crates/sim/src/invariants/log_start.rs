//! A log's start moves only where it may, and never back.
//!
//! Input: DeleteRecords and its acknowledgements; what clients are told of a log's start; what lies
//! before it. Output: the first start that has no reason, or that went back.
//!
//! - without retention, a log starts where it began, or where a DeleteRecords wanted it;
//! - retention takes whole segments, so it leaves a start between two batches; by time it takes
//!   only what is older than `retention.ms`; by size it leaves at least `retention.bytes`;
//! - the start is never above the high watermark;
//! - it does not go back while the machine lives; and what DeleteRecords has acknowledged stays
//!   gone, whatever happens. (A power cut may bring files back that retention has taken: their
//!   removal is not flushed, and nobody was promised it.)
//!
//! Answers to different clients overtake one another on their way, so each client has books of its
//! own.
//!
//! Source: KIP-107; `retention.ms`, `retention.bytes`; `UnifiedLog.deleteOldSegments` of Kafka.

use std::collections::{BTreeMap, BTreeSet};

use skein_types::Offset;

use super::{Facts, Invariant};
use crate::batches::BatchId;
use crate::event::{End, Event, PartitionId, Stamp};
use crate::history::Actor;
use crate::plan::{Plan, Retention};

/// What is known of each log's start.
pub(crate) struct LogStart {
    partitions: Vec<Partition>,
    /// The last start that each client was told, and in which era.
    told: BTreeMap<(Actor, PartitionId), (u32, Offset)>,
}

#[derive(Default)]
struct Partition {
    is_compacted: bool,
    retention: Retention,
    /// Where DeleteRecords was to move it.
    wanted: BTreeSet<Offset>,
    /// DeleteRecords was to move it to the high watermark.
    wanted_all: bool,
    /// Starts that were acknowledged, each later than those before it, and when.
    kept: Vec<(Offset, u64)>,
    /// Batches of this era, where retention is to be judged.
    batches: BTreeMap<Offset, BatchId>,
    /// The highest start of this era that was judged.
    judged: Offset,
    /// What was lost by a power cut counts no more for a limit of size.
    has_lost_power: bool,
}

impl LogStart {
    /// Every log starts at 0.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|partition| Partition {
            retention: partition.retention,
            is_compacted: partition.compaction.is_some(),
            ..Partition::default()
        });
        Self {
            partitions: partitions.collect(),
            told: BTreeMap::new(),
        }
    }

    fn tell(
        &mut self,
        partition: PartitionId,
        start: Offset,
        asked: Stamp,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let of = &mut self.partitions[partition.0];
        let kept = of.kept_since(asked.told);
        if start < kept {
            return Err(format!(
                "the log starts at {start}, but everything before {kept} was deleted"
            ));
        }
        if asked.era != facts.now.era {
            return Ok(());
        }
        of.judge(start, facts)?;
        match self
            .told
            .insert((facts.actor, partition), (asked.era, start))
        {
            Some((era, former)) if era == asked.era && former > start => {
                Err(format!("the log start went back from {former} to {start}"))
            }
            _ => Ok(()),
        }
    }
}

impl Invariant for LogStart {
    fn name(&self) -> &'static str {
        "log_start"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        if let Some(found) = event
            .found()
            .filter(|found| found.asked.era == facts.now.era)
        {
            let partition = &mut self.partitions[found.partition.0];
            if partition.retention.is_on() {
                partition.batches.insert(found.base_offset, found.batch);
            }
        }
        match event {
            Event::DeletingRecords {
                partition,
                before_offset,
            } => {
                let partition = &mut self.partitions[partition.0];
                match before_offset {
                    Some(offset) => drop(partition.wanted.insert(*offset)),
                    None => partition.wanted_all = true,
                }
            }
            Event::RecordsDeleted {
                partition,
                before_offset,
                low_watermark,
            } => {
                let partition = &mut self.partitions[partition.0];
                return partition.deleted(*before_offset, *low_watermark, facts);
            }
            Event::Ends {
                partition,
                log_start_offset: Some(start),
                high_watermark,
                asked,
            } => {
                if start > high_watermark {
                    return Err(format!(
                        "the log starts at {start}, past its high watermark {high_watermark}"
                    ));
                }
                return self.tell(*partition, *start, *asked, facts);
            }
            Event::Starts {
                partition,
                log_start_offset: start,
                asked,
            }
            | Event::OutOfRange {
                partition,
                log_start_offset: Some(start),
                asked,
                ..
            } => return self.tell(*partition, *start, *asked, facts),
            Event::ReadBack {
                partition,
                start,
                end,
            } => return self.partitions[partition.0].settle(*start, *end, facts),
            Event::Ended(End::PowerCut) => {
                self.partitions.iter_mut().for_each(Partition::lost_power);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Partition {
    fn deleted(
        &mut self,
        before_offset: Option<Offset>,
        low_watermark: Offset,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        // If the low watermark is higher, that is the work of retention.
        let deleted = before_offset.unwrap_or(low_watermark);
        if deleted > low_watermark {
            return Err(format!(
                "records before {deleted} were to go, but the log starts at {low_watermark}"
            ));
        }
        if self.kept.last().is_none_or(|(last, _)| *last < deleted) {
            self.kept.push((deleted, facts.now.told));
        }
        Ok(())
    }

    /// Below this nothing may be there, for who asked at `asked`.
    fn kept_since(&self, asked: u64) -> Offset {
        let known = self.kept.partition_point(|(_, told)| *told <= asked);
        let last = known.checked_sub(1).and_then(|at| self.kept.get(at));
        last.map_or(Offset::ZERO, |(kept, _)| *kept)
    }

    fn judge(&mut self, start: Offset, facts: &Facts<'_>) -> Result<(), String> {
        let is_wanted = start == Offset::ZERO || self.wanted_all || self.wanted.contains(&start);
        if !is_wanted && !self.retention.is_on() {
            return Err(format!("the log starts at {start}, where nobody wanted it"));
        }
        if is_wanted || start <= self.judged {
            return Ok(());
        }
        // Deleted on demand, it did not have to be old.
        let demanded = self.wanted.range(..start).next_back().copied();
        let from = self.judged.max(demanded.unwrap_or(Offset::ZERO));
        self.judged = start;
        for (at, batch) in self.batches.range(..start) {
            let end = facts.batches.get(*batch).end(*at);
            if end > start {
                return Err(format!(
                    "retention has moved the log start to {start}, into {batch} at {at}..{end}"
                ));
            }
            if end <= from || self.retention.bytes.is_some() {
                continue;
            }
            // What compaction has taken makes no segment younger.
            let may_be_gone =
                |index| self.is_compacted && facts.batches.may_be_compacted(*batch, index);
            let timestamps = (0..).zip(facts.batches.timestamps(*batch));
            let there = timestamps.filter(|(index, _)| !may_be_gone(*index));
            let youngest = there.map(|(_, timestamp)| timestamp).max();
            let (Some(youngest), Some(limit)) = (youngest, self.retention.ms) else {
                continue;
            };
            if facts.node_time.0 - youngest.0 <= limit {
                return Err(format!(
                    "retention has moved the log start to {start}, past {batch} at {at}, which is \
                     not older than {limit} ms: it has {youngest}, and it is {} at most",
                    facts.node_time
                ));
            }
        }
        Ok(())
    }

    fn lost_power(&mut self) {
        self.batches.clear();
        self.judged = Offset::ZERO;
        self.has_lost_power = true;
    }

    /// The whole log was read: retention by size has left enough.
    fn settle(&mut self, start: Offset, end: Offset, facts: &Facts<'_>) -> Result<(), String> {
        let kept = self.kept_since(u64::MAX);
        if start < kept {
            return Err(format!(
                "the log starts at {start}, but everything before {kept} was deleted"
            ));
        }
        let Retention {
            ms: None,
            bytes: Some(limit),
        } = self.retention
        else {
            return Ok(());
        };
        let is_wanted = start == Offset::ZERO || self.wanted_all || self.wanted.contains(&start);
        // Compaction may take more from what retention has left.
        if is_wanted || self.has_lost_power || self.is_compacted {
            return Ok(());
        }
        let kept_bytes: u64 = self
            .batches
            .range(start..end)
            .map(|(_, batch)| facts.batches.size_in_bytes(*batch))
            .sum();
        if kept_bytes < limit {
            return Err(format!(
                "retention has left {kept_bytes} bytes from {start} to {end}, and {limit} must stay"
            ));
        }
        Ok(())
    }
}
