//! A term of the quorum has one leader.
//!
//! Input: who leads the quorum, as the nodes themselves believe. Output: a violation, if two do in
//! one term.
//!
//! Source: Raft, election safety.

use std::collections::BTreeMap;

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct OneController {
    by_term: BTreeMap<u64, u64>,
}

impl ClusterInvariant for OneController {
    fn name(&self) -> &'static str {
        "one_controller"
    }

    fn observe(&mut self, event: &ClusterEvent, _facts: &Facts<'_>) -> Result<(), String> {
        let ClusterEvent::LeadsQuorum { term, raft_id } = event else {
            return Ok(());
        };
        let first = *self.by_term.entry(*term).or_insert(*raft_id);
        match first == *raft_id {
            true => Ok(()),
            false => Err(format!("term {term} has {first:016x} and {raft_id:016x}")),
        }
    }
}
