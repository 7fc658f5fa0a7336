//! A batch of an idempotent producer is in the log once, however often it was sent.
//!
//! Input: logs as they are read back. Output: a violation, if such a batch is there twice.
//!
//! Source: KIP-98.

use std::collections::BTreeSet;

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
pub(crate) struct Idempotence;

impl ClusterInvariant for Idempotence {
    fn name(&self) -> &'static str {
        "idempotence"
    }

    fn observe(&mut self, event: &ClusterEvent, facts: &Facts<'_>) -> Result<(), String> {
        let ClusterEvent::ReadBack { partition, log, .. } = event else {
            return Ok(());
        };
        let mut seen = BTreeSet::new();
        for placed in log {
            let is_idempotent = facts.batches.get(placed.batch).origin.is_some();
            if is_idempotent && !seen.insert(placed.batch) {
                let name = facts.plan.name_of(*partition);
                let (batch, offset) = (placed.batch, placed.base_offset);
                return Err(format!("{name}: {batch} is there twice, again at {offset}"));
            }
        }
        Ok(())
    }
}
