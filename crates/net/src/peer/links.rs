//! Calls of this node to its peers.
//!
//! Input: requests with an address and a purpose. Output: responses, or why there is none; and for
//! each address what is known of the process there.
//!
//! Invariants:
//! - a call ends within its timeout, whatever the peer does, and at most [`HAND_OVER_MAX`] later;
//! - a request is sent once at most: what may have taken effect is not repeated in silence;
//! - calls of one purpose leave in the order in which they were made, and wait for none of another.
//!
//! Source: none.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_env::Env;
use skein_protocol::{ApiKey, DecodeError, EncodeError, Request};
use skein_types::Uuid;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::CallError;
use crate::peer::backoff::Fault;
use crate::peer::link::{Link, Node, Open};
use crate::peer::{HandshakeError, LocalPeer, PeerAddress, Purpose, RemotePeer};

/// How much later than its timeout a call may end: the connection tells that the time is over, and
/// it closes before it says so.
const HAND_OVER_MAX: Duration = Duration::from_millis(20);
/// The least that must be left of a timeout to send a request: the connection is closed when the
/// answer is late, and others use it too.
const LEFT_MIN: Duration = Duration::from_millis(1);

/// Why a call has no response.
#[derive(Clone, Debug, Error)]
pub enum PeerError {
    /// Its machine is there, and no process listens: evidence of a dead process.
    #[error("nobody listens there")]
    NobodyListens,
    /// No connection: no such host, no route, no word.
    #[error("it cannot be reached: {0}")]
    Unreachable(Arc<io::Error>),
    /// One of the two nodes did not accept the other.
    #[error("no handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// The peer serves no version of the API that this node knows. Nothing was sent.
    #[error("the peer serves {theirs:?} of {api_key}, and this node knows {ours:?}")]
    Unsupported {
        /// What was asked.
        api_key: ApiKey,
        /// Versions that this node knows.
        ours: RangeInclusive<i16>,
        /// Versions that the peer serves, if any.
        theirs: Option<RangeInclusive<i16>>,
    },
    /// There was no response in time. The request may have taken effect; the connection was closed,
    /// if it had been sent.
    #[error("no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection ended before the response came. The request may have taken effect.
    #[error("the connection was lost: {0}")]
    Lost(CallError),
    /// The version cannot carry the request. Nothing was sent.
    #[error("the request cannot be encoded: {0}")]
    Encode(EncodeError),
    /// The response is not what its version says.
    #[error("the response cannot be decoded: {0}")]
    Decode(DecodeError),
    /// The peer was forgotten meanwhile.
    #[error("the peer was forgotten")]
    Forgotten,
}

impl PeerError {
    /// Whether the peer's machine refused the connection: no process listens there.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::NobodyListens)
    }

    /// Whether the peer was silent: it may be paused, cut off, or slow.
    #[must_use]
    pub const fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }

    /// What it says about when to try again.
    pub(super) const fn fault(&self) -> Fault {
        match self {
            Self::Handshake(error) if error.is_refusal() => Fault::Refused,
            Self::Handshake(_) => Fault::HungUp,
            _ => Fault::Unreachable,
        }
    }
}

/// What is known of the process at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Connections of this node to it that are open.
    pub open: u32,
    /// Connections that were open and that it ended, by a close or a reset; only grows. A process
    /// that dies ends all of them at once.
    pub lost: u64,
    /// Connections that its machine refused; only grows.
    pub refused: u64,
    /// The process that was last there.
    pub process_id: Option<Uuid>,
}

/// The links of this node to all others. Cheap to clone; with the last clone the connections end.
#[derive(Clone)]
pub struct PeerLinks {
    node: Arc<Node>,
    peers: Arc<Mutex<BTreeMap<PeerAddress, Peer>>>,
}

/// A peer that was called once, or is watched.
struct Peer {
    presence: watch::Sender<Presence>,
    /// One for each of [`Purpose::ALL`].
    links: [Arc<Link>; Purpose::COUNT],
}

impl PeerLinks {
    /// Links of the node that is `local`; none is made before it is needed.
    #[must_use]
    pub fn new(env: &Env, local: Arc<LocalPeer>) -> Self {
        let env = env.clone();
        Self {
            node: Arc::new(Node { env, local }),
            peers: Arc::default(),
        }
    }

    /// Calls the peer at `address`, in the newest version that both know, over the connection of
    /// `purpose`, which is made first if there is none.
    ///
    /// # Errors
    /// See [`PeerError`]. A timeout closes the connection: what comes late is not the answer to
    /// something else.
    pub async fn call<R: Request>(
        &self,
        address: &PeerAddress,
        purpose: Purpose,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, PeerError> {
        let (open, version, left) = self.prepare::<R>(address, purpose, timeout).await?;
        let answered = open.caller.call(request, version, left);
        within(timeout, left, answered).await
    }

    /// Tells the peer something that it does not answer; returns when the bytes are handed to the
    /// system.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn tell<R: Request>(
        &self,
        address: &PeerAddress,
        purpose: Purpose,
        request: &R,
        timeout: Duration,
    ) -> Result<(), PeerError> {
        let (open, version, left) = self.prepare::<R>(address, purpose, timeout).await?;
        let written = open.caller.tell(request, version, left);
        within(timeout, left, written).await
    }

    /// Sees to an open connection, and says who is there. With one that is open already it asks
    /// nobody: what it says is then as old as that.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn connect(
        &self,
        address: &PeerAddress,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<RemotePeer, PeerError> {
        let link = self.link(address, purpose);
        let opened = tokio::time::timeout(timeout, link.open()).await;
        let open = opened.unwrap_or(Err(PeerError::TimedOut(timeout)))?;
        Ok(open.remote.as_ref().clone())
    }

    /// What becomes known of the process at `address` from now on.
    #[must_use]
    pub fn watch(&self, address: &PeerAddress) -> watch::Receiver<Presence> {
        self.with_peer(address, |peer| peer.presence.subscribe())
    }

    /// Ends the connections to a peer that belongs to the cluster no longer, when what was asked is
    /// answered.
    pub fn forget(&self, address: &PeerAddress) {
        let forgotten = self.peers.lock().remove(address);
        drop(forgotten);
    }

    /// An open connection, the version of `R` on it, and what is left of the time.
    async fn prepare<R: Request>(
        &self,
        address: &PeerAddress,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<(Open, i16, Duration), PeerError> {
        let deadline = Instant::now() + timeout;
        let link = self.link(address, purpose);
        let opened = timeout_at(deadline, link.open()).await;
        let open = opened.unwrap_or(Err(PeerError::TimedOut(timeout)))?;
        let Some(version) = open.remote.version_of::<R>() else {
            return Err(PeerError::Unsupported {
                api_key: R::KEY,
                ours: R::VERSIONS,
                theirs: open.remote.apis.get(&R::KEY.code()).cloned(),
            });
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left < LEFT_MIN {
            return Err(PeerError::TimedOut(timeout));
        }
        Ok((open, version, left))
    }

    fn link(&self, address: &PeerAddress, purpose: Purpose) -> Arc<Link> {
        self.with_peer(address, |peer| Arc::clone(&peer.links[purpose as usize]))
    }

    fn with_peer<T>(&self, address: &PeerAddress, see: impl FnOnce(&Peer) -> T) -> T {
        let mut peers = self.peers.lock();
        let peer = peers.entry(address.clone()).or_insert_with(|| {
            let presence = watch::Sender::default();
            let links = Purpose::ALL.map(|purpose| {
                let node = Arc::clone(&self.node);
                let (address, presence) = (address.clone(), presence.clone());
                Arc::new(Link::new(node, address, purpose, presence))
            });
            Peer { presence, links }
        });
        see(peer)
    }
}

/// The end of a call that was given `timeout`, of which `left` was left when it was sent.
async fn within<T>(
    total: Duration,
    left: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, PeerError> {
    let deadline = Instant::now() + left;
    // The connection watches over the time of what was sent; this is for what waits for its turn.
    let Ok(ended) = timeout(left + HAND_OVER_MAX, call).await else {
        return Err(PeerError::TimedOut(total));
    };
    ended.map_err(|error| match error {
        CallError::Encode(error) => PeerError::Encode(error),
        CallError::Decode { source, .. } => PeerError::Decode(source),
        // An earlier request of another caller may have been the one that was waited for in vain.
        CallError::TimedOut { .. } if Instant::now() >= deadline => PeerError::TimedOut(total),
        other => PeerError::Lost(other),
    })
}
