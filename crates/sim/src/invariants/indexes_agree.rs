//! Indexes agree with the log: a lookup by time finds the first record that is late enough.
//!
//! Input: lookups and what is known of the log. Output: the first lookup that went astray. The
//! entries themselves are compared with the log on the disk ([`crate::offline`]), and lookups by
//! offset are what every fetch begins with: a batch that does not hold the fetched offset is
//! refused by the consumer.
//!
//! Source: KIP-79 (ListOffsets by timestamp).

use std::collections::BTreeMap;

use skein_types::{Millis, Offset};

use super::{Facts, Invariant};
use crate::batches::BatchId;
use crate::event::{End, Event, FoundTime};
use crate::plan::Plan;

/// What is known of each partition.
pub(crate) struct IndexesAgree {
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    is_compacted: bool,
    has_retention: bool,
    /// What lies below may be deleted: a lookup need not find it.
    floor: Offset,
    /// Batches that were read.
    batches: BTreeMap<Offset, BatchId>,
}

impl IndexesAgree {
    /// Nothing is known.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|partition| Partition {
            has_retention: partition.retention.is_on(),
            is_compacted: partition.compaction.is_some(),
            ..Partition::default()
        });
        Self {
            partitions: partitions.collect(),
        }
    }
}

impl Invariant for IndexesAgree {
    fn name(&self) -> &'static str {
        "indexes_agree"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        match event {
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
            } if asked.era == facts.now.era => {
                let partition = &mut self.partitions[partition.0];
                partition.batches.insert(*base_offset, *batch);
            }
            Event::DeletingRecords {
                partition,
                before_offset,
            } => {
                let floor = &mut self.partitions[partition.0].floor;
                *floor = before_offset.unwrap_or(Offset(i64::MAX)).max(*floor);
            }
            // Nobody deletes records any more.
            Event::ReadBack {
                partition, start, ..
            } => self.partitions[partition.0].floor = *start,
            Event::TimeLooked {
                partition,
                time,
                found,
                asked,
                is_all,
            } => {
                if asked.era != facts.now.era {
                    return Ok(());
                }
                let partition = &self.partitions[partition.0];
                return partition.judge(*time, *found, *is_all, facts);
            }
            Event::Ended(End::PowerCut) => {
                let partitions = self.partitions.iter_mut();
                partitions.for_each(|partition| partition.batches.clear());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Partition {
    /// Compares a lookup with the batches that are known.
    fn judge(
        &self,
        time: Millis,
        found: FoundTime,
        is_all: bool,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let limit = match found {
            Some((offset, _)) => offset,
            None if is_all => Offset(i64::MAX),
            None => return Ok(()),
        };
        // Retention may take what is before it at any time.
        let floor = match self.has_retention {
            true => limit,
            false => self.floor.min(limit),
        };
        let first = self.batches.range(..=floor).next_back();
        let first = first.map_or(floor, |(at, _)| *at);
        for (base_offset, batch) in self.batches.range(first..=limit) {
            let timestamps = facts.batches.timestamps(*batch);
            for (index, timestamp) in (0..).zip(timestamps) {
                let offset = base_offset.0 + i64::from(index);
                let is_between = offset >= floor.0 && offset < limit.0;
                let may_be_gone =
                    || self.is_compacted && facts.batches.may_be_compacted(*batch, index);
                if is_between && timestamp >= time && !may_be_gone() {
                    return Err(format!(
                        "the first record at or after {time} is said to be {found:?}, but \
                         {offset} has {timestamp}"
                    ));
                }
                if offset == limit.0 && found.is_some_and(|(_, told)| told != timestamp) {
                    return Err(format!(
                        "offset {offset} is said to have {found:?}, not {timestamp}"
                    ));
                }
            }
        }
        match found {
            Some((_, told)) if told < time => Err(format!("{told} is before {time}")),
            _ => Ok(()),
        }
    }
}
