//! What a cluster promises, one promise a file.
//!
//! Input: every event of a run, in its order. Output: the first promise that is broken.
//!
//! What may be lost, and when, is told by `risks.rs` alone.
//!
//! Source: the design's sections on replication, on the quorum and on simulation.

pub(crate) mod acknowledged_survives;
pub(crate) mod committed_offsets;
pub(crate) mod committed_on_isr;
pub(crate) mod high_watermark;
pub(crate) mod idempotence;
pub(crate) mod leaders_are_eligible;
pub(crate) mod one_cluster;
pub(crate) mod one_controller;
pub(crate) mod one_leader;
pub(crate) mod read_stays;
pub(crate) mod replicas_agree;
pub(crate) mod same_image;

use std::collections::BTreeMap;

use skein_types::Offset;

use super::event::{ClusterEvent, Placed, Told};
use super::plan::ClusterPlan;
use super::risks::{Records, Risks};
use crate::batches::Batches;
use crate::event::PartitionId;

/// What every invariant may know beside the event.
pub(crate) struct Facts<'a> {
    pub(crate) plan: &'a ClusterPlan,
    pub(crate) risks: &'a Risks,
    pub(crate) batches: &'a Batches,
}

/// A promise.
pub(crate) trait ClusterInvariant: Send {
    /// Its name: that of its file.
    fn name(&self) -> &'static str;

    /// Takes an event into account.
    ///
    /// # Errors
    /// How the event breaks the promise.
    fn observe(&mut self, event: &ClusterEvent, facts: &Facts<'_>) -> Result<(), String>;
}

/// All invariants, at the start of a run.
pub(crate) fn all() -> Vec<Box<dyn ClusterInvariant>> {
    vec![
        Box::new(acknowledged_survives::AcknowledgedSurvives::default()),
        Box::new(read_stays::ReadStays::default()),
        Box::new(replicas_agree::ReplicasAgree),
        Box::new(high_watermark::HighWatermark::default()),
        Box::new(committed_on_isr::CommittedOnIsr::default()),
        Box::new(one_leader::OneLeader::default()),
        Box::new(one_controller::OneController::default()),
        Box::new(leaders_are_eligible::LeadersAreEligible::default()),
        Box::new(same_image::SameImage::default()),
        Box::new(one_cluster::OneCluster::default()),
        Box::new(committed_offsets::CommittedOffsets::default()),
        Box::new(idempotence::Idempotence),
    ]
}

/// Where batches must stay, as somebody was told.
#[derive(Debug, Default)]
struct Promised {
    by_partition: BTreeMap<PartitionId, BTreeMap<Offset, (Placed, Told)>>,
}

impl Promised {
    /// From now on the batch is there.
    fn add(&mut self, partition: PartitionId, placed: Placed, at: Told) {
        let promised = self.by_partition.entry(partition).or_default();
        let (_, last) = promised.entry(placed.base_offset).or_insert((placed, at));
        *last = at.max(*last);
    }

    /// Somebody sees this batch there.
    ///
    /// # Errors
    /// Another one must be there.
    fn see(
        &mut self,
        partition: PartitionId,
        seen: Placed,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let promised = self.by_partition.entry(partition).or_default();
        let others = promised
            .range(..seen.end)
            .rev()
            .map(|(_, promise)| *promise)
            .take_while(|(placed, _)| placed.end > seen.base_offset)
            .filter(|(placed, _)| *placed != seen);
        for (placed, at) in others.collect::<Vec<_>>() {
            if !facts.risks.excuse(Records::Of(partition), at) {
                return Err(format!(
                    "{}: {} is at {}..{}, where {} must be, at {}..{}",
                    facts.plan.name_of(partition),
                    seen.batch,
                    seen.base_offset,
                    seen.end,
                    placed.batch,
                    placed.base_offset,
                    placed.end
                ));
            }
            promised.remove(&placed.base_offset);
        }
        Ok(())
    }

    /// The log has these batches, and no more.
    ///
    /// # Errors
    /// Which one is missing.
    fn compare(
        &mut self,
        partition: PartitionId,
        log: &[Placed],
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        for placed in log {
            self.see(partition, *placed, facts)?;
        }
        let there: BTreeMap<Offset, Placed> = log
            .iter()
            .map(|placed| (placed.base_offset, *placed))
            .collect();
        let promised = self.by_partition.entry(partition).or_default();
        let excuse = |at| facts.risks.excuse(Records::Of(partition), at);
        for (offset, (placed, at)) in promised.iter() {
            if there.get(offset) != Some(placed) && !excuse(*at) {
                let end = log.last().map_or(Offset::ZERO, |last| last.end);
                return Err(format!(
                    "{}: {} is not at {offset} any more; the log ends at {end}",
                    facts.plan.name_of(partition),
                    placed.batch
                ));
            }
        }
        promised.retain(|offset, (placed, _)| there.get(offset) == Some(placed));
        Ok(())
    }
}
