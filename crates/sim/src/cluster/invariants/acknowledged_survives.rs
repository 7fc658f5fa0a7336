//! What was acknowledged with acks=all is never lost.
//!
//! Input: acknowledgements, reads, logs as they are read back. Output: a violation, if a batch is
//! not where it was acknowledged.
//!
//! With acks=1 nobody has promised anything: the leader may lose it with its leadership.
//!
//! Source: the design's section on replication; `risks.rs` tells what may be lost.

use super::{ClusterInvariant, Facts, Promised};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct AcknowledgedSurvives {
    promised: Promised,
}

impl ClusterInvariant for AcknowledgedSurvives {
    fn name(&self) -> &'static str {
        "acknowledged_survives"
    }

    fn observe(&mut self, event: &ClusterEvent, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            ClusterEvent::Acked {
                partition,
                placed,
                acks: -1,
                sent,
            } => {
                // Two batches cannot have been acknowledged at one place.
                self.promised.see(*partition, *placed, facts)?;
                self.promised.add(*partition, *placed, *sent);
                Ok(())
            }
            ClusterEvent::Read {
                partition, placed, ..
            } => self.promised.see(*partition, *placed, facts),
            ClusterEvent::ReadBack { partition, log, .. } => {
                self.promised.compare(*partition, log, facts)
            }
            _ => Ok(()),
        }
    }
}
