//! What is known of one compacted partition.
//!
//! Input: batches that are in the log, parts of it that were read. Output: which records are gone,
//! and whether one has come back.
//!
//! Invariant: a power cut makes forget what it can take, and nothing else is forgotten.
//!
//! Source: none.

use std::collections::BTreeMap;

use skein_types::{Offset, ProducerId};

use super::Facts;
use crate::batches::{BatchId, Keyed};
use crate::event::{Event, PartitionId, Stamp};
use crate::plan::Compaction;

#[derive(Default)]
pub(super) struct Partition {
    pub(super) compaction: Option<Compaction>,
    pub(super) is_flushed: bool,
    /// The records that are known to be in the log, or to have been.
    pub(super) records: BTreeMap<Offset, Known>,
    /// The last of them of each key.
    pub(super) last: BTreeMap<u32, Offset>,
    /// Of each key the records that were found gone, and when: each later than all before it.
    pub(super) gone: BTreeMap<u32, Vec<(Offset, u64)>>,
    /// Where batches are known to be.
    pub(super) places: BTreeMap<BatchId, Offset>,
    /// The last batch of each producer that is known to be in the log.
    pub(super) producers: BTreeMap<ProducerId, (Offset, Strength)>,
    /// What is being read back, and the last header of each producer there.
    pub(super) present: BTreeMap<Offset, u32>,
    pub(super) headers: BTreeMap<ProducerId, Offset>,
}

/// A record that is in the log, or was.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) record: Keyed,
    pub(super) key: u32,
    pub(super) strength: Strength,
    pub(super) is_gone: bool,
}

/// What it takes to lose a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    PowerCut,
    Nothing,
}

/// A part of a log that somebody read: in these offsets there is nothing but this.
pub(super) struct Seen<'a> {
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) batch: Option<BatchId>,
    /// The places of its records that are there; `None`: all.
    pub(super) kept: Option<&'a [u32]>,
    pub(super) producer_id: Option<ProducerId>,
}

impl Partition {
    pub(super) fn strength_of(&self, acks: i16) -> Strength {
        match (self.is_flushed, acks) {
            (true, -1) => Strength::Nothing,
            _ => Strength::PowerCut,
        }
    }

    pub(super) fn strength_of_read(&self) -> Strength {
        self.strength_of(-1)
    }

    /// The batch is, or was, at `base_offset`.
    pub(super) fn learn(
        &mut self,
        id: BatchId,
        base_offset: Offset,
        strength: Strength,
        facts: &Facts<'_>,
    ) {
        let of = facts.batches.get(id);
        if let Some((identity, _)) = of.origin {
            let new = (base_offset, strength);
            let last = self.producers.entry(identity.id).or_insert(new);
            if last.0 == base_offset {
                last.1 = last.1.max(strength);
            } else if last.0 < base_offset {
                *last = new;
            }
        }
        self.places.insert(id, base_offset);
        let is_same = |known: &Known| known.record.batch == id && known.record.index == 0;
        if self.records.get(&base_offset).is_some_and(is_same) {
            let end = of.end(base_offset);
            for (_, known) in self.records.range_mut(base_offset..end) {
                known.strength = known.strength.max(strength);
            }
            return;
        }
        for (index, record) in facts.batches.records(id) {
            let offset = Offset(base_offset.0 + i64::from(index));
            let key = record.key.unwrap_or(0);
            let known = Known {
                record: Keyed {
                    batch: id,
                    index,
                    is_tombstone: record.is_tombstone,
                },
                key,
                strength,
                is_gone: false,
            };
            self.records.insert(offset, known);
            let last = self.last.entry(key).or_insert(offset);
            *last = offset.max(*last);
        }
    }

    pub(super) fn note_present(&mut self, seen: &Seen<'_>, facts: &Facts<'_>) {
        if let Some(producer_id) = seen.producer_id {
            self.headers.insert(producer_id, seen.start);
        }
        let Some(id) = seen.batch else { return };
        for (index, record) in facts.batches.records(id) {
            let (is_tombstone, batch) = (record.is_tombstone, id);
            let keyed = Keyed {
                batch,
                index,
                is_tombstone,
            };
            if seen.holds(&keyed) {
                let offset = Offset(seen.start.0 + i64::from(index));
                self.present.insert(offset, record.key.unwrap_or(0));
            }
        }
    }

    /// Compares the known records of a part with what is there; those that are newly gone.
    pub(super) fn compare(
        &mut self,
        seen: &Seen<'_>,
        asked: Stamp,
        facts: &Facts<'_>,
    ) -> Result<Vec<Offset>, String> {
        let mut gone = Vec::new();
        for (offset, known) in self.records.range_mut(seen.start..seen.end) {
            if !seen.holds(&known.record) && !known.is_gone {
                known.is_gone = true;
                known.strength = Strength::Nothing;
                gone.push(*offset);
                let of_key = self.gone.entry(known.key).or_default();
                if of_key.last().is_none_or(|(last, _)| last < offset) {
                    of_key.push((*offset, facts.now.told));
                }
            }
        }
        let part = self.records.range(seen.start..seen.end);
        for (offset, known) in part.filter(|(_, known)| seen.holds(&known.record)) {
            let of_key = self.gone.get(&known.key).map_or(&[][..], |gone| gone);
            let first = of_key.partition_point(|(gone, _)| gone < offset);
            if let Some((later, _)) = of_key.get(first).filter(|(_, told)| *told < asked.told) {
                return Err(format!(
                    "key {} is at {offset} again, but what was at {later} is gone",
                    known.key
                ));
            }
        }
        Ok(gone)
    }

    /// What is there now is on the disk.
    pub(super) fn keep(&mut self) {
        let records = self.records.values_mut();
        records.for_each(|known| known.strength = Strength::Nothing);
        let producers = self.producers.values_mut();
        producers.for_each(|(_, strength)| *strength = Strength::Nothing);
    }

    /// What a power cut can take may be gone; and then its offset may be another's.
    pub(super) fn lose(&mut self) {
        let records = &mut self.records;
        records.retain(|_, known| known.strength == Strength::Nothing);
        self.last.clear();
        for (offset, known) in records.iter() {
            self.last.insert(known.key, *offset);
        }
        self.places.retain(|id, base_offset| {
            let first = records.get(base_offset);
            first.is_some_and(|known| known.record.batch == *id)
        });
        self.producers
            .retain(|_, (_, strength)| *strength == Strength::Nothing);
    }
}

impl<'a> Seen<'a> {
    /// The part that the event tells of, of which partition, and when it was asked for.
    pub(super) fn of(event: &'a Event, facts: &Facts<'_>) -> Option<(PartitionId, Self, Stamp)> {
        Some(match event {
            Event::Read {
                partition,
                base_offset,
                batch,
                asked,
            } => {
                let of = facts.batches.get(*batch);
                let seen = Self {
                    start: *base_offset,
                    end: of.end(*base_offset),
                    batch: Some(*batch),
                    kept: None,
                    producer_id: of.origin.map(|(identity, _)| identity.id),
                };
                (*partition, seen, *asked)
            }
            Event::ReadRest {
                partition,
                base_offset,
                end,
                batch,
                producer_id,
                kept,
                asked,
            } => {
                let seen = Self {
                    start: *base_offset,
                    end: *end,
                    batch: *batch,
                    kept: Some(kept),
                    producer_id: Some(*producer_id),
                };
                (*partition, seen, *asked)
            }
            Event::NothingAt {
                partition,
                start,
                end,
                asked,
            } => {
                let seen = Self {
                    start: *start,
                    end: *end,
                    batch: None,
                    kept: Some(&[]),
                    producer_id: None,
                };
                (*partition, seen, *asked)
            }
            _ => return None,
        })
    }

    fn holds(&self, record: &Keyed) -> bool {
        let is_kept = |kept: &[u32]| kept.binary_search(&record.index).is_ok();
        self.batch == Some(record.batch) && self.kept.is_none_or(is_kept)
    }
}
