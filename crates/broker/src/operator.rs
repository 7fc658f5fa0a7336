//! The operator's way to nodes that look for their cluster: over their peer listeners.
//!
//! Input: the cluster's secret, addresses of peer listeners, the operator's words. Output: what the
//! nodes say.
//!
//! Invariant: whoever speaks here has proved to know the secret, as a node does.
//!
//! Source: own design.

use std::sync::Arc;

use skein_config::ClusterSecret;
use skein_env::Env;
use skein_net::{LocalPeer, PeerLinks, PeerSecret};
use skein_quorum::NodeInFormation;

use crate::peers::QuorumTransport;

/// A way to the peer listeners of a cluster's nodes.
pub struct PeerDoor {
    transport: QuorumTransport,
}

impl PeerDoor {
    /// Of nodes with this `cluster.secret.file`, or with none.
    #[must_use]
    pub fn new(env: &Env, secret: Option<&ClusterSecret>) -> Self {
        let secret = secret.map(|secret| PeerSecret::new(secret.as_bytes()));
        // Nobody ever calls back.
        let local = LocalPeer::new(&*env.rng, secret, Vec::new());
        let links = PeerLinks::new(env, Arc::new(local));
        Self {
            transport: QuorumTransport::new(links),
        }
    }

    /// Asks the node at `address` how far it is.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn look_at(&self, address: &str) -> Result<NodeInFormation, String> {
        skein_quorum::look_at(&self.transport, address).await
    }

    /// Tells the node at `address` that its cluster is to be founded without these peers.
    ///
    /// # Errors
    /// Why it does not heed that, or why there is no answer.
    pub async fn leave_out(&self, address: &str, peers: &[String]) -> Result<(), String> {
        skein_quorum::leave_out(&self.transport, address, peers).await
    }
}
