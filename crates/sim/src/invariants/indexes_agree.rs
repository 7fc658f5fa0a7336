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

/// Batches that were read, in each partition.
pub(crate) struct IndexesAgree {
    partitions: Vec<BTreeMap<Offset, BatchId>>,
}

impl IndexesAgree {
    /// Nothing is known.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            partitions: vec![BTreeMap::new(); plan.partitions().count()],
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
            } if asked.era == facts.now.era => {
                self.partitions[partition.0].insert(*base_offset, *batch);
            }
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
                let batches = &self.partitions[partition.0];
                return judge(batches, *time, *found, *is_all, facts);
            }
            Event::Ended(End::PowerCut) => self.partitions.iter_mut().for_each(BTreeMap::clear),
            _ => {}
        }
        Ok(())
    }
}

/// Compares a lookup with the batches that are known.
fn judge(
    batches: &BTreeMap<Offset, BatchId>,
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
    for (base_offset, batch) in batches.range(..=limit) {
        for (offset, timestamp) in (base_offset.0..).zip(facts.batches.timestamps(*batch)) {
            if offset < limit.0 && timestamp >= time {
                return Err(format!(
                    "the first record at or after {time} is said to be {found:?}, but {offset} has \
                     {timestamp}"
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
