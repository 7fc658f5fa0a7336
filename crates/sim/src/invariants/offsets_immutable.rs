//! Offsets are dense and immutable, and none is ever given to another record.
//!
//! Input: acks with an offset, batches that were read, power cuts; the log as it is read back.
//! Output: the first offset that had two contents, or none.
//!
//! The one exception is the end of a log that a power cut may have taken: what lay there is
//! *doubtful* until it is seen again. The log keeps a prefix of it: one doubtful batch that is seen
//! again vouches for those before it, and one that is missing takes those after it along.
//!
//! ```text
//!   offsets   0 ──────────── flushed_end ─────────────── end
//!                 certain    │  doubtful after a power cut │
//! ```
//!
//! Source: the log's contract with consumers, which remember offsets.

use std::collections::BTreeMap;

use skein_types::Offset;

use super::{Facts, Invariant};
use crate::batches::BatchId;
use crate::event::{End, Event, PartitionId, Stamp};
use crate::plan::Plan;

/// What is known to be where, in each partition.
pub(crate) struct OffsetsImmutable {
    partitions: Vec<Partition>,
    /// The era in which each batch was sent last, and how often it was.
    sent: BTreeMap<BatchId, (u32, u32)>,
}

#[derive(Default)]
struct Partition {
    is_compacted: bool,
    is_flushed: bool,
    slots: BTreeMap<Offset, Slot>,
    flushed_end: Offset,
    /// Retention or DeleteRecords may move its start.
    may_lose_start: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    batch: BatchId,
    end: Offset,
    /// When it was first seen, in this era.
    told: u64,
    /// The era that ended with a power cut which may have taken it; `None`: it is certain.
    doubtful_since: Option<u32>,
}

impl OffsetsImmutable {
    /// Nothing is known.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|partition| Partition {
            is_flushed: partition.is_flushed,
            is_compacted: partition.compaction.is_some(),
            may_lose_start: partition.retention.is_on(),
            ..Partition::default()
        });
        Self {
            partitions: partitions.collect(),
            sent: BTreeMap::new(),
        }
    }

    fn see(
        &mut self,
        partition: PartitionId,
        base_offset: Offset,
        batch: BatchId,
        stamp: Stamp,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let end = facts.batches.get(batch).end(base_offset);
        let is_doubtful = stamp.era != facts.now.era;
        let sent = self.sent.get(&batch).map_or(0, |(era, _)| *era);
        let partition = &mut self.partitions[partition.0];
        if is_doubtful && end > partition.flushed_end {
            // News from before a power cut: it may have been lost since.
            return Ok(());
        }
        partition.place(
            base_offset,
            Slot {
                batch,
                end,
                told: facts.now.told,
                doubtful_since: None,
            },
            sent,
        )
    }
}

impl OffsetsImmutable {
    /// How many records may be in a compacted log at places that nobody was told.
    fn unplaced_records(&self, partition: PartitionId, facts: &Facts<'_>) -> i64 {
        let of = &self.partitions[partition.0];
        if !of.is_compacted {
            return 0;
        }
        let mut placed: BTreeMap<BatchId, u32> = BTreeMap::new();
        for slot in of
            .slots
            .values()
            .filter(|slot| slot.doubtful_since.is_none())
        {
            *placed.entry(slot.batch).or_default() += 1;
        }
        let sent = self.sent.iter().map(|(batch, (_, times))| {
            let made = facts.batches.get(*batch);
            let most = if made.origin.is_some() { 1 } else { *times };
            let placed = placed.get(batch).copied().unwrap_or(0);
            let is_here = made.partition == partition;
            i64::from(is_here) * i64::from(made.records) * i64::from(most.saturating_sub(placed))
        });
        sent.sum()
    }
}

impl Invariant for OffsetsImmutable {
    fn name(&self) -> &'static str {
        "offsets_immutable"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        if let Some(found) = event.found() {
            let end = facts.batches.get(found.batch).end(found.base_offset);
            self.partitions[found.partition.0].note_committed(end);
            return self.see(
                found.partition,
                found.base_offset,
                found.batch,
                found.asked,
                facts,
            );
        }
        match event {
            Event::Acked {
                batch,
                base_offset: Some(at),
                sent,
            } => {
                let of = facts.batches.get(*batch);
                if of.acks == -1 {
                    self.partitions[of.partition.0].note_committed(of.end(*at));
                }
                self.see(of.partition, *at, *batch, *sent, facts)
            }
            Event::Sent { batch, .. } => {
                let (era, times) = self.sent.entry(*batch).or_default();
                (*era, *times) = (facts.now.era, *times + 1);
                Ok(())
            }
            Event::OutOfRange {
                partition,
                position,
                log_start_offset,
                asked,
            } => {
                let partition = &self.partitions[partition.0];
                let end = partition.certain_end(asked.told);
                let is_before = match log_start_offset {
                    Some(start) => position < start,
                    // An old version of Fetch does not tell.
                    None => partition.may_lose_start,
                };
                if asked.era == facts.now.era && *position <= end && !is_before {
                    return Err(format!(
                        "{position} is out of range, but the log reaches {end}"
                    ));
                }
                Ok(())
            }
            Event::ReadBack {
                partition,
                start,
                end,
            } => {
                let unplaced = self.unplaced_records(*partition, facts);
                self.partitions[partition.0].settle(*start, *end, unplaced)
            }
            Event::DeletingRecords { partition, .. } => {
                self.partitions[partition.0].may_lose_start = true;
                Ok(())
            }
            Event::Ended(end) => {
                for partition in &mut self.partitions {
                    partition.node_ended(*end, facts.now.era);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Partition {
    /// Consumers may see what lies below `end`.
    fn note_committed(&mut self, end: Offset) {
        if self.is_flushed {
            self.flushed_end = self.flushed_end.max(end);
        }
    }

    /// `sent`: the era in which the batch was sent last.
    fn place(&mut self, base_offset: Offset, new: Slot, sent: u32) -> Result<(), String> {
        let overlapping: Vec<(Offset, Slot)> = self
            .slots
            .range(..new.end)
            .rev()
            .take_while(|(_, slot)| slot.end > base_offset)
            .map(|(at, slot)| (*at, *slot))
            .collect();
        for (at, old) in overlapping {
            let is_same = (at, old.batch) == (base_offset, new.batch);
            match old.doubtful_since {
                None if is_same => return Ok(()),
                // Sent again since, it may be back at its place by chance, and vouches for itself
                // only.
                Some(era) if is_same && sent >= era => {
                    self.slots.insert(base_offset, new);
                    return Ok(());
                }
                Some(era) if is_same => {
                    self.vouch_for(base_offset, era, new.told);
                    return Ok(());
                }
                Some(era) => self.lose_from(at, era),
                None => {
                    return Err(format!(
                        "{} is at {base_offset}..{}, where {} was at {at}..{}",
                        new.batch, new.end, old.batch, old.end
                    ));
                }
            }
        }
        self.slots.insert(base_offset, new);
        Ok(())
    }

    /// The batch at `offset`, in doubt since `era`, is there; and so is what was certain with it
    /// and lies before it.
    fn vouch_for(&mut self, offset: Offset, era: u32, told: u64) {
        for (_, slot) in self.slots.range_mut(..=offset).rev() {
            match slot.doubtful_since {
                Some(since) if since >= era => (slot.doubtful_since, slot.told) = (None, told),
                Some(_) => {}
                None => break,
            }
        }
    }

    /// The batch at `offset`, in doubt since `era`, is not there; and so is nothing after it that
    /// was there before it went.
    fn lose_from(&mut self, offset: Offset, era: u32) {
        self.slots
            .retain(|at, slot| *at < offset || slot.doubtful_since.is_none_or(|since| since > era));
    }

    fn node_ended(&mut self, end: End, era: u32) {
        match end {
            End::Kill => {}
            End::Clean => {
                let certain_end = self.certain_end(u64::MAX);
                self.flushed_end = self.flushed_end.max(certain_end);
            }
            End::PowerCut => {
                let flushed_end = self.flushed_end;
                for slot in self
                    .slots
                    .values_mut()
                    .filter(|slot| slot.end > flushed_end)
                {
                    slot.doubtful_since.get_or_insert(era);
                }
            }
        }
    }

    /// The log reaches at least here, by what was known before the event `told`.
    fn certain_end(&self, told: u64) -> Offset {
        let is_certain = |slot: &&Slot| slot.doubtful_since.is_none() && slot.told < told;
        let certain = self.slots.values().rev().find(is_certain);
        certain
            .map_or(Offset::ZERO, |slot| slot.end)
            .max(self.flushed_end)
    }

    /// The whole log was seen: it has no hole, and reaches as far as it must.
    /// But for `unplaced` records, which compaction may have taken before anybody was told of them.
    fn settle(&mut self, start: Offset, end: Offset, unplaced: i64) -> Result<(), String> {
        // What is still in doubt was not seen, so it is gone; and so is what was deleted.
        self.slots
            .retain(|_, slot| slot.doubtful_since.is_none() && slot.end > start);
        let certain_end = self.certain_end(u64::MAX).max(self.flushed_end);
        if end < certain_end {
            return Err(format!(
                "the log ends at {end}, but has reached {certain_end} before"
            ));
        }
        let first = self.slots.first_key_value().map(|(at, _)| *at);
        let mut next = first.filter(|at| *at <= start).unwrap_or(start);
        let mut unplaced = unplaced;
        for (at, slot) in &self.slots {
            let gap = at.0 - next.0;
            let is_legal = gap > 0 && gap <= unplaced;
            unplaced -= gap;
            if gap != 0 && !is_legal {
                return Err(format!(
                    "nothing is at {next}..{at}, but {} follows",
                    slot.batch
                ));
            }
            next = slot.end;
        }
        if next != end {
            return Err(format!(
                "the log ends at {end}, but what was read ends at {next}"
            ));
        }
        Ok(())
    }
}
