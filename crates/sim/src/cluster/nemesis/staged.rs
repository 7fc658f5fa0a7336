//! Faults that mean something only in one order, and at the right moments.
//!
//! Input: what the nodes show; the network, disks and machines. Output: the situations that the
//! rules of the replication, of the quorum and of the formation are made for.
//!
//! Each looks at the nodes to find its moment, gives up where that does not come, and undoes its
//! cuts. None does anything that a network, a disk or a machine could not do.
//!
//! Source: KIP-903; Raft, the persistence of votes; the design's sections on formation and flushes.

use std::time::Duration;

use skein_env::sim::{DiskSpeed, SimRng};
use tokio::time::sleep;

use super::{Nemesis, draw};
use crate::cluster::host;
use crate::event::End;

impl Nemesis<'_> {
    /// A machine loses its power while its disk is slow to flush.
    pub(super) async fn torn_flush(&self, node: usize, rng: &mut SimRng) {
        let disk = self.world.disk(&host(node));
        disk.set_speed(DiskSpeed {
            sync_max: Duration::from_millis(500),
            ..self.plan.speed
        });
        sleep(draw(rng, Duration::from_secs(1))).await;
        self.machines.get(node).end(End::PowerCut);
        disk.set_speed(self.plan.speed);
    }
}
