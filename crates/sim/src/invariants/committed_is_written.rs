//! What a client is told to be committed is written.
//!
//! Input: high watermarks that clients were told; where batches are. Output: the first offset below
//! a told high watermark that was still free when it was told.
//!
//! A node that counts what it has only ordered to be written takes it back when the write fails,
//! and the offsets go to somebody else. So:
//!
//! - whatever lies below a told high watermark was sent before that was told;
//! - a log that is read back reaches every high watermark that was told, across kills too.
//!
//! A power cut may take the end of a log with `durability=replicated`, and with it what was told.
//!
//! Source: the two events of an append: what is reserved counts only when it is written.

use std::collections::BTreeMap;

use skein_types::Offset;

use super::{Facts, Invariant};
use crate::batches::BatchId;
use crate::event::{End, Event, Stamp};
use crate::plan::Plan;

/// What clients were told of each partition.
pub(crate) struct CommittedIsWritten {
    partitions: Vec<Partition>,
    /// When each batch was sent first.
    first_sent: BTreeMap<BatchId, u64>,
}

#[derive(Default)]
struct Partition {
    is_flushed: bool,
    /// High watermarks, each higher than all that were told before it, and when it was told.
    told: Vec<(Offset, u64)>,
}

impl CommittedIsWritten {
    /// Nobody was told anything.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|partition| Partition {
            is_flushed: partition.is_flushed,
            ..Partition::default()
        });
        Self {
            partitions: partitions.collect(),
            first_sent: BTreeMap::new(),
        }
    }
}

impl Invariant for CommittedIsWritten {
    fn name(&self) -> &'static str {
        "committed_is_written"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        let (partition, base_offset, batch, stamp) = match event {
            Event::Sent { batch, .. } => {
                self.first_sent.entry(*batch).or_insert(facts.now.told);
                return Ok(());
            }
            Event::Ends {
                partition,
                high_watermark,
                asked,
                ..
            } => {
                self.partitions[partition.0].tell(*high_watermark, *asked, facts);
                return Ok(());
            }
            Event::ReadBack { partition, end, .. } => {
                return self.partitions[partition.0].reaches(*end);
            }
            Event::Ended(End::PowerCut) => {
                let replicated = self.partitions.iter_mut().filter(|p| !p.is_flushed);
                replicated.for_each(|partition| partition.told.clear());
                return Ok(());
            }
            Event::Acked {
                batch,
                base_offset: Some(at),
                sent,
            } => (facts.batches.get(*batch).partition, *at, *batch, *sent),
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
            } => (*partition, *base_offset, *batch, *asked),
            _ => return Ok(()),
        };
        let first_sent = self.first_sent.get(&batch).copied().unwrap_or(0);
        self.partitions[partition.0].judge(base_offset, batch, first_sent, stamp, facts)
    }
}

impl Partition {
    /// Whether news of the life `stamp` are about what is in the log now.
    fn holds(&self, stamp: Stamp, facts: &Facts<'_>) -> bool {
        self.is_flushed || stamp.era == facts.now.era
    }

    fn tell(&mut self, high_watermark: Offset, asked: Stamp, facts: &Facts<'_>) {
        let highest = self.told.last().map_or(Offset::ZERO, |(told, _)| *told);
        if self.holds(asked, facts) && high_watermark > highest {
            self.told.push((high_watermark, facts.now.told));
        }
    }

    fn judge(
        &self,
        base_offset: Offset,
        batch: BatchId,
        first_sent: u64,
        stamp: Stamp,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let first_above = self.told.partition_point(|(told, _)| *told <= base_offset);
        match self.told.get(first_above) {
            Some((told, at)) if *at < first_sent && self.holds(stamp, facts) => Err(format!(
                "{batch} is at {base_offset}, and was sent after {told} was told as the high \
                 watermark"
            )),
            _ => Ok(()),
        }
    }

    fn reaches(&self, end: Offset) -> Result<(), String> {
        match self.told.last() {
            Some((told, _)) if end < *told => Err(format!(
                "the log ends at {end}, but {told} was told as its high watermark"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use skein_env::sim::SimRng;
    use skein_record::Codec;
    use skein_types::Millis;

    use super::*;
    use crate::batches::{Batch, Batches};
    use crate::event::PartitionId;
    use crate::history::Actor;

    const PARTITION: PartitionId = PartitionId(0);

    /// A run of one partition, in which each event is told after the other.
    struct Story {
        invariant: CommittedIsWritten,
        batches: Batches,
        now: Stamp,
    }

    impl Story {
        fn new() -> Self {
            Self {
                invariant: CommittedIsWritten::new(&Plan::draw(&mut SimRng::new(1))),
                batches: Batches::default(),
                now: Stamp {
                    era: 0,
                    life: 1,
                    told: 0,
                },
            }
        }

        fn tell(&mut self, event: Event) -> Result<(), String> {
            self.now.told += 1;
            let facts = Facts {
                batches: &self.batches,
                actor: Actor::Reader,
                now: self.now,
                node_time: Millis(0),
                age_min: Millis(0),
                age_max: Millis(0),
            };
            self.invariant.observe(&event, &facts)
        }

        /// A batch of three records is sent.
        fn send(&mut self) -> BatchId {
            let (batch, _) = self.batches.make(Batch {
                partition: PARTITION,
                records: 3,
                value_max: 10,
                base_timestamp: Millis(0),
                timestamp_spread: 0,
                keys: 0,
                codec: Codec::None,
                acks: -1,
                origin: None,
            });
            let event = Event::Sent {
                batch,
                attempt: 1,
                is_head: true,
            };
            self.tell(event).unwrap();
            batch
        }

        fn tell_high_watermark(&mut self, high_watermark: i64) {
            let event = Event::Ends {
                partition: PARTITION,
                log_start_offset: None,
                high_watermark: Offset(high_watermark),
                asked: self.now,
            };
            self.tell(event).unwrap();
        }

        fn acknowledge(&mut self, batch: BatchId, base_offset: i64) -> Result<(), String> {
            self.tell(Event::Acked {
                batch,
                base_offset: Some(Offset(base_offset)),
                sent: self.now,
            })
        }
    }

    /// What a node does that publishes a view before it has written: the write fails, and another
    /// batch gets the offsets.
    #[test]
    fn a_view_before_its_write_is_found_when_the_write_fails() {
        let mut story = Story::new();
        let first = story.send();
        story.acknowledge(first, 0).unwrap();
        story.send();
        story.tell_high_watermark(6);
        let instead = story.send();
        let found = story.acknowledge(instead, 3);
        assert!(found.is_err_and(|text| text.contains("was sent after 6 was told")));
    }

    #[test]
    fn a_view_before_its_write_is_found_when_the_log_ends_below_it() {
        let mut story = Story::new();
        story.send();
        story.tell_high_watermark(3);
        let found = story.tell(Event::ReadBack {
            partition: PARTITION,
            start: Offset(0),
            end: Offset(0),
        });
        assert!(found.is_err_and(|text| text.contains("the log ends at 0")));
    }

    #[test]
    fn what_was_sent_before_the_high_watermark_was_told_may_be_below_it() {
        let mut story = Story::new();
        let (first, second) = (story.send(), story.send());
        story.tell_high_watermark(6);
        story.acknowledge(second, 0).unwrap();
        story.acknowledge(first, 3).unwrap();
    }
}
