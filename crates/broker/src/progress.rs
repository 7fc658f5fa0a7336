//! How far a node has come on its way to serving, for whoever asks before it does.
//!
//! ```text
//!   starting ─► finding its cluster ─► registering ─► broker
//! ```
//!
//! Input: what the start has reached. Output: whether the node serves, or what it waits for.
//!
//! Invariants:
//! - a node is ready only as a broker whose clients are accepted, and which the cluster lets lead;
//! - one that is not ready says what is missing: without a cluster, which peers and why.
//!
//! Source: none.

use std::sync::Arc;

use parking_lot::Mutex;
use skein_quorum::FormationStatus;
use tokio::sync::watch;

use crate::node::Shared;

/// See the module. The start moves it on, and the HTTP listener asks it.
#[derive(Default)]
pub(crate) struct Progress {
    stage: Mutex<Stage>,
}

#[derive(Clone, Default)]
enum Stage {
    /// Its directories are opened.
    #[default]
    Starting,
    /// It asks its peers which cluster they are.
    Finding(watch::Receiver<FormationStatus>),
    /// It belongs to a cluster, which does not know it as a broker yet; and what it waits for.
    Registering(String),
    /// It accepts clients.
    Broker(Arc<Shared>),
}

impl Progress {
    /// The node looks for its cluster, and `status` says how that goes.
    pub(crate) fn finds_its_cluster(&self, status: watch::Receiver<FormationStatus>) {
        self.reach(Stage::Finding(status));
    }

    /// The node has its cluster, and still waits for `awaited` to be a broker of it.
    pub(crate) fn registers(&self, awaited: impl Into<String>) {
        self.reach(Stage::Registering(awaited.into()));
    }

    /// The node accepts clients.
    pub(crate) fn is_broker(&self, shared: &Arc<Shared>) {
        self.reach(Stage::Broker(Arc::clone(shared)));
    }

    /// The broker, as soon as it accepts clients.
    pub(crate) fn broker(&self) -> Option<Arc<Shared>> {
        match self.stage() {
            Stage::Broker(shared) => Some(shared),
            _ => None,
        }
    }

    /// Whether the node serves.
    ///
    /// # Errors
    /// What is missing, as a sentence for an operator.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        match self.stage() {
            Stage::Starting => Err("the node is opening its directories".to_owned()),
            Stage::Finding(status) => Err(status.borrow().to_string()),
            Stage::Registering(awaited) => Err(format!("not registered yet: {awaited}")),
            Stage::Broker(shared) => readiness_of(&shared),
        }
    }

    fn stage(&self) -> Stage {
        self.stage.lock().clone()
    }

    fn reach(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }
}

/// A broker serves when the cluster says that it may lead.
fn readiness_of(shared: &Shared) -> Result<(), String> {
    let broker_id = shared.identity.broker_id;
    match shared.image().broker(broker_id) {
        None => Err(format!("broker {broker_id} is not registered")),
        Some(broker) if broker.stopping => Err(format!("broker {broker_id} is stopping")),
        Some(broker) if broker.fenced => Err(format!("broker {broker_id} is fenced")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use skein_quorum::Obstacle;

    use super::*;

    #[test]
    fn until_it_is_a_broker_a_node_says_what_is_missing() {
        let progress = Progress::default();
        let told = || progress.readiness().unwrap_err();
        assert_eq!(told(), "the node is opening its directories");

        let (status, watched) = watch::channel(FormationStatus::Starting);
        progress.finds_its_cluster(watched);
        assert_eq!(told(), "the quorum is starting");
        status.send_replace(FormationStatus::Asking(vec![Obstacle::Silent {
            peer: "10.0.0.2:9192".to_owned(),
            reason: "connection refused".to_owned(),
        }]));
        let silent = "no cluster yet: peer 10.0.0.2:9192 does not answer: connection refused";
        assert_eq!(told(), silent);

        progress.registers("no controller is known");
        assert_eq!(told(), "not registered yet: no controller is known");
        assert!(progress.broker().is_none());
    }
}
