//! Replicas are equal byte by byte below their high watermarks.
//!
//! Input: differences that the observer found in the files. Output: a violation for each.
//!
//! Source: the design's section on replication.

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
pub(crate) struct ReplicasAgree;

impl ClusterInvariant for ReplicasAgree {
    fn name(&self) -> &'static str {
        "replicas_agree"
    }

    fn observe(&mut self, event: &ClusterEvent, facts: &Facts<'_>) -> Result<(), String> {
        let ClusterEvent::Differs { partition, text } = event else {
            return Ok(());
        };
        Err(format!("{}: {text}", facts.plan.name_of(*partition)))
    }
}
