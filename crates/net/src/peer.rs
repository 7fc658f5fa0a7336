//! The link between the nodes of a cluster: who may connect, and how a node calls another.
//!
//! Input: connections of the peer listener, and requests to peers. Output: sessions of the broker
//! for peers that have proved to belong to the cluster, and responses.
//!
//! ```text
//!   PeerLinks ─ Link (address, purpose) ─ ClientHello ─┐        ┌─ PeerGate ─ Acceptor ─ Service
//!                                                      │        │
//!      1  PeerHandshake  purpose, nonce, APIs  ────────┼───────►│
//!                        nonce, APIs           ◄───────┼────────┤
//!      2  PeerProof      the client's proof    ────────┼───────►│
//!                        the server's proof    ◄───────┴────────┤
//!      3  requests and responses, as on every connection of Kafka's protocol
//! ```
//!
//! Invariants:
//! - nothing of a stranger is served, and what it makes a node hold is a few KiB for two seconds
//!   (`gate.rs`);
//! - who merely connects learns nothing that was computed from the secret: the client proves first
//!   (`handshake.rs`);
//! - Raft, control and fetch traffic and the forwarded requests of clients have connections of
//!   their own, so that none waits behind another;
//! - both sides say which versions they serve before the first request, so that a cluster can be
//!   upgraded node by node.
//!
//! The handshake keeps strangers out. It does not encrypt, and who sits on the path between two
//! nodes can still read and change what they say: that takes TLS.
//!
//! Source: RFC 2104 (HMAC); challenge and response as in RFC 5802 (SCRAM), without its passwords.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use skein_env::{Lane, Rng};
use skein_protocol::{ApiKey, Request};
use skein_types::Uuid;

mod backoff;
mod exchange;
mod gate;
mod handshake;
mod link;
mod links;
mod proof;
mod throttle;

pub use gate::PeerGate;
pub use handshake::HandshakeError;
pub use links::{PeerError, PeerLinks, Presence};
pub use proof::PeerSecret;
pub(crate) use throttle::Throttle;

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// A host name or an IP address; IPv6 without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

impl PeerAddress {
    /// The address of that host and port.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: Arc::from(host),
            port,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a connection between two nodes is for. Each purpose has its own, so that an answer of many
/// megabytes, or one that takes its time, delays no heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// What the members of the quorum say to one another.
    Raft,
    /// Registration, heartbeats, changes of ISRs: little at a time.
    Control,
    /// Followers fetching from leaders.
    Fetch,
    /// Requests of clients on their way to the controller, which may wait for an election.
    Forward,
}

impl Purpose {
    /// All of them, in the order of their declaration.
    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::Raft, Self::Control, Self::Fetch, Self::Forward];

    /// How many there are.
    pub(crate) const COUNT: usize = 4;

    /// The number that the handshake carries.
    pub(crate) const fn code(self) -> i8 {
        match self {
            Self::Raft => 1,
            Self::Control => 2,
            Self::Fetch => 3,
            Self::Forward => 4,
        }
    }

    pub(crate) fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.code() == code)
    }

    /// Where its connections are served, on both sides.
    pub(crate) const fn lane(self) -> Lane {
        match self {
            Self::Raft | Self::Control | Self::Forward => Lane::Control,
            Self::Fetch => Lane::Data,
        }
    }
}

/// This node, as it presents itself to its peers.
#[derive(Debug)]
pub struct LocalPeer {
    process_id: Uuid,
    secret: Option<PeerSecret>,
    apis: Vec<(ApiKey, RangeInclusive<i16>)>,
}

impl LocalPeer {
    /// A process that knows `secret` and serves `apis` to its peers. Without a secret it talks to
    /// processes without one only; the configuration allows that on loopback.
    #[must_use]
    pub fn new(
        rng: &dyn Rng,
        secret: Option<PeerSecret>,
        apis: Vec<(ApiKey, RangeInclusive<i16>)>,
    ) -> Self {
        let mut process_id = Uuid::ZERO;
        rng.fill(&mut process_id.0);
        Self {
            process_id,
            secret,
            apis,
        }
    }

    /// A random number that names this process: another after each start.
    #[must_use]
    pub const fn process_id(&self) -> Uuid {
        self.process_id
    }
}

/// The process at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePeer {
    /// The random number that names it.
    pub process_id: Uuid,
    /// Whether it is this very process: an address that leads here is the node's own.
    pub is_self: bool,
    /// What the connection is for.
    pub purpose: Purpose,
    /// What it serves to its peers, by API key; also APIs that this version does not know.
    pub apis: BTreeMap<i16, RangeInclusive<i16>>,
}

impl RemotePeer {
    /// The newest version of `R` that both sides know.
    #[must_use]
    pub fn version_of<R: Request>(&self) -> Option<i16> {
        let theirs = self.apis.get(&R::KEY.code())?;
        let newest = *R::VERSIONS.end().min(theirs.end());
        let oldest = *R::VERSIONS.start().max(theirs.start());
        (oldest <= newest).then_some(newest)
    }
}

#[cfg(test)]
mod tests;
