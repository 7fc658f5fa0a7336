//! The high watermark does not go back while the node lives, and covers what was acknowledged.
//!
//! Input: what each client is told of a partition's ends, in the order in which it asked; acks.
//! Output: the first answer that contradicts an earlier one.
//!
//! - answers to different clients overtake one another on their way, so each client has books of
//!   its own;
//! - who asks after a batch was acknowledged with `acks=all` is told a high watermark behind it, in
//!   the same life of the node: a view is published before the acknowledgement that it makes true.
//!
//! Source: KIP-207.

use std::collections::BTreeMap;

use skein_types::Offset;

use super::{Facts, Invariant};
use crate::event::{Event, PartitionId, Stamp};
use crate::history::Actor;

/// What each client knows of each partition, in this life of the node.
#[derive(Default)]
pub(crate) struct HighWatermark {
    seen: BTreeMap<(Actor, PartitionId), Seen>,
    acknowledged: BTreeMap<PartitionId, Acknowledged>,
}

/// What was acknowledged in one life of the node.
#[derive(Default)]
struct Acknowledged {
    life: u32,
    /// Ends of batches, each higher than all before it, and when it was acknowledged.
    ends: Vec<(Offset, u64)>,
}

#[derive(Clone, Copy)]
struct Seen {
    life: u32,
    high_watermark: Offset,
}

impl Invariant for HighWatermark {
    fn name(&self) -> &'static str {
        "high_watermark"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        let (partition, high_watermark, asked) = match event {
            Event::Ends {
                partition,
                high_watermark,
                asked,
                ..
            } => (partition, high_watermark, asked),
            Event::Acked {
                batch,
                base_offset: Some(at),
                sent,
            } => {
                let of = facts.batches.get(*batch);
                if of.acks == -1 && sent.life == facts.now.life {
                    let acknowledged = self.acknowledged.entry(of.partition).or_default();
                    acknowledged.add(of.end(*at), facts.now);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(acknowledged) = self.acknowledged.get(partition) {
            acknowledged.judge(*high_watermark, *asked)?;
        }
        let new = Seen {
            life: asked.life,
            high_watermark: *high_watermark,
        };
        let former = self.seen.insert((facts.actor, *partition), new);
        match former {
            Some(former)
                if former.life == new.life && former.high_watermark > new.high_watermark =>
            {
                Err(format!(
                    "the high watermark went back from {} to {high_watermark}",
                    former.high_watermark
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Acknowledged {
    fn add(&mut self, end: Offset, now: Stamp) {
        if self.life != now.life {
            (self.life, self.ends) = (now.life, Vec::new());
        }
        if self.ends.last().is_none_or(|(last, _)| *last < end) {
            self.ends.push((end, now.told));
        }
    }

    fn judge(&self, high_watermark: Offset, asked: Stamp) -> Result<(), String> {
        let known = self.ends.partition_point(|(_, told)| *told <= asked.told);
        match known.checked_sub(1).and_then(|last| self.ends.get(last)) {
            Some((end, _)) if self.life == asked.life && high_watermark < *end => Err(format!(
                "the high watermark is {high_watermark}, and everything up to {end} was \
                 acknowledged before"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(life: u32, told: u64) -> Stamp {
        Stamp { era: 0, life, told }
    }

    #[test]
    fn who_asks_after_an_acknowledgement_is_told_of_it_in_the_same_life() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.add(Offset(3), at(1, 10));
        acknowledged.add(Offset(6), at(1, 20));
        assert!(acknowledged.judge(Offset(0), at(1, 9)).is_ok());
        assert!(acknowledged.judge(Offset(3), at(1, 19)).is_ok());
        assert!(acknowledged.judge(Offset(2), at(1, 19)).is_err());
        assert!(acknowledged.judge(Offset(5), at(1, 20)).is_err());
        assert!(acknowledged.judge(Offset(0), at(2, 30)).is_ok());
        acknowledged.add(Offset(2), at(2, 40));
        assert!(acknowledged.judge(Offset(2), at(2, 40)).is_ok());
        assert!(acknowledged.judge(Offset(1), at(2, 40)).is_err());
    }
}
