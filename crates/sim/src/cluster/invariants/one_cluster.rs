//! There are never two clusters.
//!
//! Input: the cluster that each node serves, and the one that its image names. Output: a violation,
//! if there are two.
//!
//! Source: the design's section on formation.

use skein_types::ClusterId;

use super::{ClusterInvariant, Facts};
use crate::cluster::event::ClusterEvent;

/// See the module.
#[derive(Default)]
pub(crate) struct OneCluster {
    first: Option<ClusterId>,
}

impl ClusterInvariant for OneCluster {
    fn name(&self) -> &'static str {
        "one_cluster"
    }

    fn observe(&mut self, event: &ClusterEvent, _facts: &Facts<'_>) -> Result<(), String> {
        let cluster_id = match event {
            ClusterEvent::Serving { cluster_id, .. } => *cluster_id,
            ClusterEvent::Applied(image) => match image.cluster_id() {
                Some(cluster_id) => cluster_id,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let first = *self.first.get_or_insert(cluster_id);
        match first == cluster_id {
            true => Ok(()),
            false => Err(format!("there are {first} and {cluster_id}")),
        }
    }
}
