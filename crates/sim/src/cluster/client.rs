//! What every client of a cluster does: it finds out who leads, and asks there.
//!
//! Input: the plan, the nodes' addresses. Output: requests to the right nodes, and their answers.
//!
//! Invariant: what a client does depends on the plan, its own random numbers and what it is
//! answered.
//!
//! Source: none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_env::Env;
use skein_env::sim::SimRng;
use skein_protocol::Request;
use skein_protocol::messages::metadata::MetadataRequest;
use tokio::sync::watch;
use tokio::time::sleep;

use super::event::Told;
use super::host;
use super::plan::ClusterPlan;
use super::witness::ClusterWitness;
use crate::event::PartitionId;
use crate::history::Actor;
use crate::wire::{Wire, malformed};

/// Version of Metadata.
const METADATA_VERSION: i16 = 12;

/// The longest pause of a client that was refused, in milliseconds.
const BACK_OFF_MAX_MS: u64 = 100;

/// See the module.
pub(crate) struct ClusterClient {
    pub(crate) actor: Actor,
    pub(crate) env: Env,
    pub(crate) rng: SimRng,
    pub(crate) plan: Arc<ClusterPlan>,
    pub(crate) witness: Arc<ClusterWitness>,
    settle: watch::Receiver<bool>,
    wires: BTreeMap<usize, Wire>,
    leaders: BTreeMap<PartitionId, usize>,
}

impl ClusterClient {
    /// A client that has not connected yet.
    pub(crate) fn new(
        actor: Actor,
        (env, rng): (Env, SimRng),
        plan: Arc<ClusterPlan>,
        witness: Arc<ClusterWitness>,
        settle: watch::Receiver<bool>,
    ) -> Self {
        Self {
            actor,
            env,
            rng,
            plan,
            witness,
            settle,
            wires: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// Whether nothing new is to be begun.
    pub(crate) fn is_settling(&self) -> bool {
        *self.settle.borrow()
    }

    /// Some node.
    pub(crate) fn any_node(&mut self) -> usize {
        let nodes = self.plan.nodes as u64;
        usize::try_from(self.rng.below(nodes)).unwrap_or(0)
    }

    /// Sends one request to a node; `None` without an answer, after a pause.
    pub(crate) async fn call<R: Request>(
        &mut self,
        node: usize,
        request: &R,
        version: i16,
    ) -> Option<(R::Response, Told)> {
        let mut wire = match self.wires.remove(&node) {
            Some(wire) => wire,
            None => match Wire::open_to(&self.env, &host(node)).await {
                Ok(wire) => wire,
                Err(_) => {
                    self.back_off().await;
                    return None;
                }
            },
        };
        let asked = self.witness.ask();
        match wire.call(request, version).await {
            Ok(response) => {
                self.wires.insert(node, wire);
                Some((response, asked))
            }
            Err(error) => {
                if let Some(malformed) = malformed(&error) {
                    let text = malformed.to_string();
                    self.witness.accuse(self.actor, "well_formed", text);
                }
                self.back_off().await;
                None
            }
        }
    }

    /// Who leads a partition; `None` if nobody is known, after a pause.
    pub(crate) async fn leader(&mut self, partition: PartitionId) -> Option<usize> {
        if !self.leaders.contains_key(&partition) {
            self.look_around().await;
        }
        let leader = self.leaders.get(&partition).copied();
        if leader.is_none() {
            self.back_off().await;
        }
        leader
    }

    /// Another may lead a partition by now.
    pub(crate) fn forget_leader(&mut self, partition: PartitionId) {
        self.leaders.remove(&partition);
    }

    /// Asks some node who leads what.
    async fn look_around(&mut self) {
        let request = MetadataRequest {
            topics: None,
            ..Default::default()
        };
        let node = self.any_node();
        let Some((response, _)) = self.call(node, &request, METADATA_VERSION).await else {
            return;
        };
        for topic in &response.topics {
            let name = topic.name.as_ref().map(|name| name.as_str());
            for answer in &topic.partitions {
                let id = name.and_then(|name| self.plan.find(name, answer.partition_index));
                let leader = usize::try_from(answer.leader_id - 1).ok();
                if let Some((id, leader)) = id.zip(leader) {
                    self.leaders.insert(id, leader);
                }
            }
        }
    }

    /// Waits a little before the next attempt.
    pub(crate) async fn back_off(&mut self) {
        let pause = self.rng.between(1, BACK_OFF_MAX_MS);
        sleep(Duration::from_millis(pause)).await;
    }

    /// Waits up to `max`.
    pub(crate) async fn pause(&mut self, max: Duration) {
        let most = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        sleep(Duration::from_micros(self.rng.below(most + 1))).await;
    }
}
