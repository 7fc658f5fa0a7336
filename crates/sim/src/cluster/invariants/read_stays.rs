//! What was read never vanishes, and never becomes another.
//!
//! Input: reads, logs as they are read back. Output: a violation, if a batch is not where somebody
//! has read it.
//!
//! Source: KIP-101; the high watermark passes only what no clean election can lose.

use super::{ClusterInvariant, Facts, Promised};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct ReadStays {
    read: Promised,
}

impl ClusterInvariant for ReadStays {
    fn name(&self) -> &'static str {
        "read_stays"
    }

    fn observe(&mut self, event: &ClusterEvent, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            ClusterEvent::Read {
                partition,
                placed,
                asked,
            } => {
                self.read.see(*partition, *placed, facts)?;
                self.read.add(*partition, *placed, *asked);
                Ok(())
            }
            ClusterEvent::ReadBack {
                partition,
                log,
                asked,
            } => {
                self.read.compare(*partition, log, facts)?;
                for placed in log {
                    self.read.add(*partition, *placed, *asked);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
