//! The quorum's bytes on the links between the nodes.
//!
//! Input: what a member of the quorum says to another. Output: the answer, over the connections
//! that are Raft's alone.
//!
//! Invariant: a dead process is told apart from a silent one (`ConnectionRefused`, `TimedOut`).
//!
//! Source: none.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use skein_config::Address;
use skein_env::BoxFuture;
use skein_metadata::{Broker, Endpoint};
use skein_net::{PeerAddress, PeerError, PeerLinks, Purpose};
use skein_protocol::messages::quorum_rpc::QuorumRpcRequest;
use skein_quorum::PeerTransport;
use skein_types::ErrorCode;

/// Carries what the members of the quorum say to each other.
pub(crate) struct QuorumTransport {
    links: PeerLinks,
}

impl QuorumTransport {
    pub(crate) const fn new(links: PeerLinks) -> Self {
        Self { links }
    }
}

impl PeerTransport for QuorumTransport {
    fn call<'a>(
        &'a self,
        address: &'a str,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Bytes>> {
        Box::pin(async move {
            let address = peer_address(address)?;
            let request = QuorumRpcRequest { body: request };
            let call = self.links.call(&address, Purpose::Raft, &request, timeout);
            let answer = call.await.map_err(|error| to_io(&error))?;
            match ErrorCode::from_code(answer.error_code) {
                ErrorCode::None => Ok(answer.body),
                code => Err(io::Error::other(format!("the peer answers {code}"))),
            }
        })
    }
}

/// An entry of `cluster.peers`, or of what was one on another node.
///
/// # Errors
/// It is no address.
pub(super) fn peer_address(text: &str) -> io::Result<PeerAddress> {
    let address: Address = text.parse().map_err(|_| {
        let message = format!("{text:?} is not HOST:PORT");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    Ok(PeerAddress::new(
        address.host.trim_matches(['[', ']']),
        address.port,
    ))
}

/// The listener of peers among a broker's endpoints: no name of a client's listener, so that no
/// client is told of it.
const PEER_LISTENER: &str = "peer.listener";

/// Where a broker's peers reach it; `None` in a cluster of one.
pub(crate) fn peer_address_of(broker: &Broker) -> Option<PeerAddress> {
    let mut endpoints = broker.endpoints.iter();
    let endpoint = endpoints.find(|endpoint| endpoint.listener == PEER_LISTENER)?;
    Some(PeerAddress::new(&endpoint.host, endpoint.port))
}

/// What a broker registers for its peers.
pub(crate) fn peer_endpoint(address: &str) -> Option<Endpoint> {
    let PeerAddress { host, port } = peer_address(address).ok()?;
    Some(Endpoint {
        listener: PEER_LISTENER.to_owned(),
        host: host.to_string(),
        port,
        security_protocol: 0, // it is no client's business
    })
}

fn to_io(error: &PeerError) -> io::Error {
    let kind = if error.is_refused() {
        io::ErrorKind::ConnectionRefused
    } else if error.is_timed_out() {
        io::ErrorKind::TimedOut
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error.to_string())
}
