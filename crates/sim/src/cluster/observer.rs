//! Who looks into the nodes of a cluster while they run.
//!
//! Input: what nodes show (`skein_broker::Inspector`), their files. Output: events of who leads
//! what, and of replicas that differ.
//!
//! Invariant: it only looks: a run with it and one without are the same to the nodes, but for the
//! moments at which its timer wakes it.
//!
//! Source: none.

use std::sync::Arc;
use std::time::Duration;

use skein_broker::ReplicaState;
use skein_env::sim::SimWorld;
use tokio::time::sleep;

use super::event::{ClusterEvent, Holding, Leading};
use super::logs::LogOf;
use super::machines::Machines;
use super::plan::ClusterPlan;
use super::witness::ClusterWitness;
use crate::event::PartitionId;
use crate::history::Actor;

/// How often it looks who leads.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How many looks lie between two looks at the files.
const LOOKS_PER_COMPARISON: u32 = 50;

/// See the module.
pub(crate) struct Observer<'a> {
    pub(crate) world: &'a SimWorld,
    pub(crate) machines: &'a Machines<'a>,
    pub(crate) plan: Arc<ClusterPlan>,
    pub(crate) witness: Arc<ClusterWitness>,
}

impl Observer<'_> {
    /// Looks for ever.
    pub(crate) async fn run(&self) {
        let mut looks: u32 = 0;
        loop {
            sleep(LOOK_EVERY).await;
            self.look();
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_PER_COMPARISON) {
                for partition in self.plan.partitions() {
                    // A follower may not have cut off yet what was lost.
                    if !self.witness.was_at_risk(partition) {
                        self.compare(partition);
                    }
                }
            }
        }
    }

    fn look(&self) {
        let mut held = Vec::new();
        for (node, machine) in self.machines.all() {
            let Some(inspector) = machine.inspector() else {
                continue;
            };
            if let Some(quorum) = inspector.quorum().filter(|quorum| quorum.leads) {
                let (term, raft_id) = (quorum.term, quorum.raft_id);
                self.tell(ClusterEvent::LeadsQuorum { term, raft_id });
            }
            let broker_epoch = inspector.broker_epoch().unwrap_or(-1);
            for replica in inspector.replicas() {
                held.push(Holding {
                    node,
                    broker_epoch,
                    topic_id: replica.topic_id,
                    partition: replica.partition,
                    leads_in: replica.leads_in,
                    high_watermark: replica.high_watermark,
                    log_end_offset: replica.log_end_offset,
                });
                if let Some(leader_epoch) = replica.leads_in {
                    self.tell(ClusterEvent::Leads(Leading {
                        topic_id: replica.topic_id,
                        partition: replica.partition,
                        leader_epoch,
                        node,
                        broker_epoch,
                        high_watermark: replica.high_watermark,
                    }));
                }
            }
        }
        self.tell(ClusterEvent::Held(held));
    }

    /// Compares the replicas of a partition, and tells of the first difference.
    pub(crate) fn compare(&self, partition: PartitionId) {
        let (topic, index) = self.plan.place(partition);
        let name = format!("{}-{index}", topic.name);
        let replicas = self.replicas(partition);
        let logs = replicas.iter().map(|(node, replica)| {
            let (start, end) = (replica.log_start_offset, replica.high_watermark);
            LogOf::read(self.world, *node, &name, start, end)
        });
        let logs: Vec<_> = logs.collect();
        // With the longest all others share the most.
        let Some(longest) = logs.iter().max_by_key(|log| log.high_watermark) else {
            return;
        };
        if let Some(text) = logs.iter().find_map(|log| longest.difference(log)) {
            self.tell(ClusterEvent::Differs { partition, text });
        }
    }

    /// The replicas of a partition on nodes that serve.
    pub(crate) fn replicas(&self, partition: PartitionId) -> Vec<(usize, ReplicaState)> {
        let (topic, index) = self.plan.place(partition);
        let mut found = Vec::new();
        for (node, machine) in self.machines.all() {
            let Some(inspector) = machine.inspector() else {
                continue;
            };
            let image = inspector.image();
            let id = image.and_then(|image| Some(image.topic_by_name(&topic.name)?.id));
            let replicas = inspector.replicas();
            let here = replicas
                .into_iter()
                .find(|replica| Some(replica.topic_id) == id && replica.partition.get() == index);
            found.extend(here.map(|replica| (node, replica)));
        }
        found
    }

    fn tell(&self, event: ClusterEvent) {
        self.witness.tell(Actor::Node, event);
    }
}
