//! A group's committed offset never goes back.
//!
//! Input: commits, which grow and come from one client a group; what is found. Output: a violation,
//! if less is found than was acknowledged, or found, before it was asked for.
//!
//! Source: the design's section on groups: a coordinator answers when all it says is committed.

use std::collections::BTreeMap;

use super::{ClusterInvariant, Facts};
use crate::cluster::event::{ClusterEvent, Told};
use crate::cluster::risks::Records;

/// See the module.
#[derive(Default)]
pub(crate) struct CommittedOffsets {
    /// By group: each offset that is known to be committed, and since when.
    known: BTreeMap<usize, Vec<(i64, Told)>>,
}

impl ClusterInvariant for CommittedOffsets {
    fn name(&self) -> &'static str {
        "committed_offsets"
    }

    fn observe(&mut self, event: &ClusterEvent, facts: &Facts<'_>) -> Result<(), String> {
        match *event {
            ClusterEvent::Committed {
                group,
                offset,
                sent,
            } => self.known.entry(group).or_default().push((offset, sent)),
            ClusterEvent::FoundOffset {
                group,
                offset,
                asked,
            } => {
                let known = self.known.entry(group).or_default();
                // One client asks after the other: whatever it knows came before it asked.
                known.retain(|(_, at)| !facts.risks.excuse(Records::Groups, *at));
                if let Some((best, _)) = known.iter().max().filter(|(best, _)| *best > offset) {
                    return Err(format!("group {group}: {offset} is found after {best}"));
                }
                known.push((offset, asked));
            }
            _ => {}
        }
        Ok(())
    }
}
