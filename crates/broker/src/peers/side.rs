//! A node's side of the cluster: its peer listener, and its links to the others.
//!
//! Input: the configuration with a peer list. Output: a listener behind which the service grows
//! with the node, and the links; both are there before the node knows its cluster, because nodes
//! that look for it ask each other.
//!
//! Invariant: what peers may hold of this node's memory is bounded by itself, so that replication
//! and the quorum never wait for clients.
//!
//! Source: none.

use std::sync::Arc;
use std::time::Duration;

use skein_config::{Address, ClusterSecret};
use skein_env::{Env, Lane, Listener};
use skein_net::{
    AcceptLimits, Acceptor, Budget, BufferPool, ConnectionLimits, LocalPeer, PeerGate, PeerLinks,
    PeerSecret,
};
use skein_quorum::{FormationStatus, PEER_MESSAGE_MAX_BYTES, PeerAnswers, QuorumPeers};
use tokio::sync::watch;

use super::{PeerService, QuorumTransport};

/// Connections of peers: a few purposes of each of very many nodes, and those that they replace.
const CONNECTIONS_MAX: usize = 10_000;
/// Bytes of requests of peers in flight: two of the largest ones.
const IN_FLIGHT_MAX_BYTES: usize = 2 * REQUEST_MAX_BYTES;
/// Bytes of one request of a peer: what the quorum sends, and what is around it.
const REQUEST_MAX_BYTES: usize = PEER_MESSAGE_MAX_BYTES + 64 * 1024;
/// An idle connection of a peer is closed after this: it has forgotten it.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);
/// A peer that stalls within a request is cut off after this.
const STALL_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct PeerSide {
    pub(crate) links: PeerLinks,
    pub(crate) service: PeerService,
    answers: PeerAnswers,
    address: String,
}

impl PeerSide {
    /// Serves peers at `listener` from now on.
    pub(crate) fn begin(
        env: &Env,
        address: &Address,
        secret: Option<&ClusterSecret>,
        listener: Box<dyn Listener>,
        stop: &watch::Receiver<bool>,
    ) -> Self {
        let secret = secret.map(|secret| PeerSecret::new(secret.as_bytes()));
        let local = LocalPeer::new(&*env.rng, secret, PeerService::apis());
        let local = Arc::new(local);
        let links = PeerLinks::new(env, Arc::clone(&local));
        let answers = PeerAnswers::new();
        let service = PeerService::new(answers.clone());
        let gate = PeerGate::new(local, Arc::clone(&env.rng));
        let limits = AcceptLimits {
            max_connections: CONNECTIONS_MAX,
            max_connections_per_ip: CONNECTIONS_MAX,
            ..Default::default()
        };
        let acceptor = Acceptor {
            listener_name: Arc::from("peer"),
            service: Arc::new(service.clone()),
            accept_limits: watch::Sender::new(limits).subscribe(),
            limits: ConnectionLimits {
                request_max_bytes: REQUEST_MAX_BYTES,
                idle_max: IDLE_MAX,
                stall_max: STALL_MAX,
            },
            pool: Arc::new(BufferPool::new()),
            budget: Budget::new(u32::try_from(IN_FLIGHT_MAX_BYTES).unwrap_or(u32::MAX)),
            counters: Arc::default(),
            spawn: Arc::clone(&env.spawn),
            stop: stop.clone(),
        };
        let accepting = acceptor.run_behind(gate, listener);
        let _task = env
            .spawn
            .spawn(Lane::Control, "peer acceptor", Box::pin(accepting));
        Self {
            links,
            service,
            answers,
            address: address.to_string(),
        }
    }

    /// How far this node is on its way into a cluster.
    pub(crate) fn formation_status(&self) -> watch::Receiver<FormationStatus> {
        self.answers.formation_status()
    }

    /// What the quorum has to know.
    pub(crate) fn of_quorum(&self) -> QuorumPeers {
        QuorumPeers {
            transport: Arc::new(QuorumTransport::new(self.links.clone())),
            answers: self.answers.clone(),
            address: self.address.clone(),
        }
    }
}
