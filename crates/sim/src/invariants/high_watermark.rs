//! The high watermark does not go back while the node lives.
//!
//! Input: what each client is told of a partition's ends, in the order in which it asked. Output:
//! the first answer that contradicts an earlier one.
//!
//! Answers to different clients overtake one another on their way, so each client has books of its
//! own.
//!
//! Source: KIP-207.

use std::collections::BTreeMap;

use skein_types::Offset;

use super::{Facts, Invariant};
use crate::event::{Event, PartitionId};
use crate::history::Actor;

/// What each client knows of each partition, in this life of the node.
#[derive(Default)]
pub(crate) struct HighWatermark {
    seen: BTreeMap<(Actor, PartitionId), Seen>,
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
        let Event::Ends {
            partition,
            high_watermark,
            asked,
            ..
        } = event
        else {
            return Ok(());
        };
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
