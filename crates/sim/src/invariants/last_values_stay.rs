//! Compaction keeps the last value of every key, and what it has taken stays gone.
//!
//! Input: what was sent, acknowledged and read of compacted topics, power cuts; the log as it is
//! read back. Output: the first record that compaction must not have taken, or that came back.
//!
//! ```text
//!   key a    value ── value ── tombstone ── value      the last one stays
//!   key b    value ── tombstone                        the tombstone stays for its retention, and
//!                                                      until nothing of b is left before it
//! ```
//!
//! - A record that is known to be in the log is there, unless one of its key may be behind it, or
//!   it is a tombstone that had the time of `delete.retention.ms`.
//! - In a log that is read back, one of its key *is* behind it, or may have been a tombstone that
//!   had that time.
//! - Once a reader has found a record gone, nobody finds an earlier one of its key any more, also
//!   after a power cut: only what is on the disk is compacted, and seen once that is there too.
//! - The last batch of a producer is there, if only its header.
//!
//! What stays has its offset, its timestamp and its value: [`crate::batches`] compares it. What the
//! files hold below the cleaner's checkpoint: [`crate::compacted`].
//!
//! Source: KIP-58, KIP-534; `LogCleaner` of Kafka.

use std::collections::BTreeMap;

use skein_types::{Millis, Offset};

use super::{Facts, Invariant};
use crate::batches::{BatchId, Keyed};
use crate::event::{End, Event, PartitionId, Stamp};
use crate::history::Actor;
use crate::plan::Plan;

mod partition;

use partition::{Partition, Seen, Strength};

/// What is known of compacted topics.
pub(crate) struct LastValuesStay {
    partitions: Vec<Partition>,
    /// When each batch was sent first, for its age.
    sent: BTreeMap<BatchId, Millis>,
}

impl LastValuesStay {
    /// Nothing is known.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|partition| Partition {
            compaction: partition.compaction,
            is_flushed: partition.is_flushed,
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
        seen: &Seen<'_>,
        asked: Stamp,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let of = &mut self.partitions[partition.0];
        if of.compaction.is_none() || asked.era != facts.now.era {
            return Ok(());
        }
        if let Some(batch) = seen.batch {
            let strength = of.strength_of_read();
            of.learn(batch, seen.start, strength, facts);
        }
        if facts.actor == Actor::Reader {
            of.note_present(seen, facts);
        }
        let gone = of.compare(seen, asked, facts)?;
        for offset in gone {
            self.judge_absence(partition, offset, facts)?;
        }
        Ok(())
    }

    /// Whether the record at `offset`, which is gone, may be.
    fn judge_absence(
        &self,
        partition: PartitionId,
        offset: Offset,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let of = &self.partitions[partition.0];
        let Some(known) = of.records.get(&offset) else {
            return Ok(());
        };
        let made = facts.batches.of_key(partition, known.key).iter();
        // Sent twice, it may be there twice.
        let is_once = facts.batches.is_once(known.record.batch);
        let mut others = made
            .rev()
            .filter(|other| !is_once || **other != known.record);
        let has_later = others.any(|other| !self.is_before(of, other, offset, facts));
        if has_later || self.is_aged(of, &known.record, facts) {
            return Ok(());
        }
        let what = match known.record.is_tombstone {
            true => "a tombstone that did not have its time",
            false => "the last value of its key",
        };
        Err(format!(
            "record {} of {} at {offset}, {what} ({}), is gone",
            known.record.index, known.record.batch, known.key
        ))
    }

    /// Whether the record is at an offset below `offset`, and nowhere else.
    fn is_before(&self, of: &Partition, record: &Keyed, offset: Offset, facts: &Facts<'_>) -> bool {
        let is_once = facts.batches.is_once(record.batch);
        let base_offset = of.places.get(&record.batch);
        is_once && base_offset.is_some_and(|base| base.0 + i64::from(record.index) < offset.0)
    }

    /// Whether it is a tombstone that had its time.
    fn is_aged(&self, of: &Partition, record: &Keyed, facts: &Facts<'_>) -> bool {
        let sent = self.sent.get(&record.batch);
        let retention = of
            .compaction
            .map_or(0, |compaction| compaction.delete_retention_ms);
        record.is_tombstone && sent.is_some_and(|sent| facts.age_max.0 >= sent.0 + retention)
    }

    /// The whole log was read.
    fn settle(
        &mut self,
        partition: PartitionId,
        start: Offset,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let of = &mut self.partitions[partition.0];
        let present = std::mem::take(&mut of.present);
        let headers = std::mem::take(&mut of.headers);
        let mut last_present: BTreeMap<u32, Offset> = BTreeMap::new();
        for (offset, key) in present {
            last_present.insert(key, offset);
        }
        let of = &self.partitions[partition.0];
        for (key, last) in of.last.iter().filter(|(_, last)| **last >= start) {
            let is_kept = last_present.get(key).is_some_and(|present| present >= last);
            if !is_kept && !self.may_have_ended(partition, *key, *last, facts) {
                return Err(format!(
                    "the last record of key {key} that is known is at {last}, and none is there \
                     or behind it"
                ));
            }
        }
        for (producer_id, (base_offset, _)) in &of.producers {
            let last = headers.get(producer_id);
            if *base_offset >= start && last.is_none_or(|last| last < base_offset) {
                return Err(format!(
                    "the last batch of producer {producer_id} is at {base_offset}, and it is gone"
                ));
            }
        }
        Ok(())
    }

    /// Whether the key's last record may have been a tombstone, at `offset` or behind it, that had
    /// its time.
    fn may_have_ended(
        &self,
        partition: PartitionId,
        key: u32,
        offset: Offset,
        facts: &Facts<'_>,
    ) -> bool {
        let of = &self.partitions[partition.0];
        let mut made = facts.batches.of_key(partition, key).iter().rev();
        made.any(|record| {
            self.is_aged(of, record, facts) && !self.is_before(of, record, offset, facts)
        })
    }
}

impl Invariant for LastValuesStay {
    fn name(&self) -> &'static str {
        "last_values_stay"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        if let Some((partition, seen, asked)) = Seen::of(event, facts) {
            return self.see(partition, &seen, asked, facts);
        }
        match event {
            Event::Sent { batch, .. } => {
                self.sent.entry(*batch).or_insert(facts.age_min);
            }
            Event::Acked {
                batch,
                base_offset: Some(at),
                sent,
            } => {
                let of = facts.batches.get(*batch);
                let partition = &mut self.partitions[of.partition.0];
                let strength = partition.strength_of(of.acks);
                let is_certain = strength == Strength::Nothing || sent.era == facts.now.era;
                if partition.compaction.is_some() && is_certain {
                    partition.learn(*batch, *at, strength, facts);
                }
            }
            Event::ReadBack {
                partition, start, ..
            } if self.partitions[partition.0].compaction.is_some() => {
                return self.settle(*partition, *start, facts);
            }
            Event::Ended(End::Clean) => self.partitions.iter_mut().for_each(Partition::keep),
            Event::Ended(End::PowerCut) => self.partitions.iter_mut().for_each(Partition::lose),
            _ => {}
        }
        Ok(())
    }
}
