//! All nodes of the cluster.
//!
//! Input: the plan. Output: a machine for each node, with its configuration.
//!
//! Invariant: the configurations differ in nothing but addresses and ids.
//!
//! Source: none.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use skein_config::{BrokerConfig, Layers};
use skein_env::sim::SimWorld;

use super::host;
use super::machine::Machine;
use super::plan::ClusterPlan;
use super::witness::ClusterWitness;
use crate::node::{LOG_DIR, PORT};

/// The port of the peer listeners.
const PEER_PORT: u16 = 9192;

/// See the module.
pub(crate) struct Machines<'a>(Vec<Machine<'a>>);

impl<'a> Machines<'a> {
    /// The machines, switched off.
    pub(crate) fn new(
        world: &'a SimWorld,
        plan: &ClusterPlan,
        witness: &Arc<ClusterWitness>,
    ) -> Self {
        let machines = (0..plan.nodes).map(|node| {
            world.disk(&host(node)).set_speed(plan.speed);
            Machine::new(world, node, config(world, plan, node), Arc::clone(witness))
        });
        Self(machines.collect())
    }

    /// Keeps all nodes running for ever.
    pub(crate) async fn keep_alive(&self) {
        let lives = self.0.iter().map(|machine| {
            let life: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(machine.keep_alive());
            life
        });
        let mut lives: Vec<_> = lives.collect();
        poll_fn(|context| {
            for life in &mut lives {
                // None of them ever ends.
                let _ = life.as_mut().poll(context);
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// One of them.
    pub(crate) fn get(&self, node: usize) -> &Machine<'a> {
        &self.0[node]
    }

    /// All of them, with their numbers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &Machine<'a>)> {
        self.0.iter().enumerate()
    }

    /// Whether every node serves.
    pub(crate) fn all_serve(&self) -> bool {
        self.0.iter().all(|machine| machine.inspector().is_some())
    }
}

fn config(world: &SimWorld, plan: &ClusterPlan, node: usize) -> BrokerConfig {
    let peer = |node: usize| format!("{}:{PEER_PORT}", world.address(&host(node)));
    let peers: Vec<_> = (0..plan.nodes).map(peer).collect();
    let address = world.address(&host(node));
    let mut layers = Layers::new()
        .set(&format!("listeners=PLAINTEXT://{address}:{PORT}"))
        .set(&format!("node.id={}", node + 1))
        .set(&format!("log.dirs={LOG_DIR}"))
        .set(&format!("peer.listener={}", peer(node)))
        .set(&format!("cluster.peers={}", peers.join(",")))
        .set("cluster.secret.file=/secret")
        .set("http.listener=")
        .set("auto.create.topics.enable=false");
    for (key, value) in &plan.broker {
        layers = layers.set(&format!("{key}={value}"));
    }
    match layers.build() {
        Ok((config, _)) => config,
        Err(errors) => panic!("the plan's configuration is wrong: {errors:?}"),
    }
}
