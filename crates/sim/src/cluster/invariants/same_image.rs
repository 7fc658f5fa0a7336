//! The same metadata log gives the same image on every node.
//!
//! Input: images as they are applied. Output: a violation, if two nodes differ behind one entry.
//!
//! Source: Raft, state machine safety.

use std::collections::BTreeMap;

use skein_metadata::Image;

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct SameImage {
    by_index: BTreeMap<u64, Image>,
}

impl ClusterInvariant for SameImage {
    fn name(&self) -> &'static str {
        "same_image"
    }

    fn observe(&mut self, event: &ClusterEvent, _facts: &Facts<'_>) -> Result<(), String> {
        let ClusterEvent::Applied(image) = event else {
            return Ok(());
        };
        image.check()?;
        let Some(log_id) = image.last_applied() else {
            return Ok(());
        };
        let first = self
            .by_index
            .entry(log_id.index)
            .or_insert_with(|| Image::clone(image));
        if first == &**image {
            return Ok(());
        }
        Err(format!(
            "entry {}: one node has applied {:?} and the decision {:?}, another {:?} and {:?}",
            log_id.index,
            first.last_applied(),
            first.last_decision(),
            image.last_applied(),
            image.last_decision()
        ))
    }
}
