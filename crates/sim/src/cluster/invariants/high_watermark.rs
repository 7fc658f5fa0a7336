//! The high watermark of a leader never goes back.
//!
//! Input: what leaders show. Output: a violation, if one shows less than before in its epoch.
//!
//! Over a change of leaders it may: a follower hears of the high watermark later (KIP-207); what
//! was read stays all the same, and `read_stays.rs` sees to that.
//!
//! Source: KIP-101, KIP-207.

use std::collections::BTreeMap;

use skein_types::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct HighWatermark {
    seen: BTreeMap<(TopicId, PartitionIndex, LeaderEpoch, usize), Offset>,
}

impl ClusterInvariant for HighWatermark {
    fn name(&self) -> &'static str {
        "high_watermark"
    }

    fn observe(&mut self, event: &ClusterEvent, _facts: &Facts<'_>) -> Result<(), String> {
        let ClusterEvent::Leads(leading) = event else {
            return Ok(());
        };
        let key = (
            leading.topic_id,
            leading.partition,
            leading.leader_epoch,
            leading.node,
        );
        let now = leading.high_watermark;
        let before = self.seen.insert(key, now).unwrap_or(Offset::ZERO);
        match now < before {
            true => Err(format!("it was {before} before: {leading:?}")),
            false => Ok(()),
        }
    }
}
