//! The gate of the peer listener: who may pass.
//!
//! Input: a connection of anybody. Output: the peer that it belongs to, or nothing: then it was
//! told why, as far as it can understand that, and must be closed.
//!
//! Invariants:
//! - nobody passes who has not finished the handshake;
//! - at most [`GREETINGS_MAX`] connections are at the gate, each for [`GREETING_MAX`] and with one
//!   buffer of a few KiB: nothing of the bounds that peers share;
//! - what a stranger does is logged once in a while, with what it seems to be.
//!
//! Source: the first bytes of the Kafka protocol, of TLS (RFC 8446, 5.1) and of HTTP (RFC 9110, 9).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use skein_env::{Rng, Stream};
use skein_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use skein_protocol::messages::peer_handshake::PeerHandshakeRequest;
use skein_protocol::messages::peer_proof::PeerProofRequest;
use skein_protocol::{ApiKey, Decoder, Message, frame};
use skein_types::ErrorCode;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::peer::exchange::{self, VERSION};
use crate::peer::proof::NONCE_BYTES;
use crate::peer::{HandshakeError, LocalPeer, RemotePeer, Throttle, handshake};

/// How long a connection may take to pass.
const GREETING_MAX: Duration = Duration::from_secs(2);
/// Connections at the gate at one time. A peer that finds it full is back in milliseconds.
const GREETINGS_MAX: usize = 64;
/// Bytes of a first frame that tell what a stranger is: length, API key, version.
const OPENING_BYTES: usize = 8;

/// Lets peers pass.
pub struct PeerGate {
    local: Arc<LocalPeer>,
    rng: Arc<dyn Rng>,
    places: Semaphore,
    throttle: Throttle,
}

/// What someone is who is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    KafkaClient,
    Tls,
    Http,
    Unknown,
}

impl PeerGate {
    /// A gate of the node that is `local`.
    #[must_use]
    pub fn new(local: Arc<LocalPeer>, rng: Arc<dyn Rng>) -> Self {
        Self {
            local,
            rng,
            places: Semaphore::new(GREETINGS_MAX),
            throttle: Throttle::default(),
        }
    }

    /// Talks to whoever is at the other end of `stream`, which came from `from`. `None`: the
    /// connection must be closed.
    pub(crate) async fn greet(
        &self,
        stream: &mut dyn Stream,
        from: SocketAddr,
    ) -> Option<RemotePeer> {
        let Ok(_place) = self.places.try_acquire() else {
            self.log(from, "closed a connection: too many are in the handshake");
            return None;
        };
        let greeted = timeout(GREETING_MAX, self.hear(stream, from)).await;
        match greeted.unwrap_or(Err(HandshakeError::TimedOut(GREETING_MAX))) {
            Ok(remote) => remote,
            // A health check that connects and leaves, a peer that was killed.
            Err(error @ (HandshakeError::Closed | HandshakeError::Io(_))) => {
                tracing::debug!(%from, %error, "a connection ended in the handshake");
                None
            }
            Err(error) => {
                self.log(from, &format!("refused a connection: {error}"));
                None
            }
        }
    }

    async fn hear(
        &self,
        stream: &mut dyn Stream,
        from: SocketAddr,
    ) -> Result<Option<RemotePeer>, HandshakeError> {
        let mut opening = exchange::buffer();
        exchange::fill(stream, &mut opening, OPENING_BYTES).await?;
        if let Some(stranger) = stranger_of(&opening) {
            self.log(from, stranger.description());
            if stranger == Stranger::KafkaClient {
                // It may be gone by now: there is nothing more to tell it.
                let _ = refuse_kafka_client(stream, opening).await;
            }
            return Ok(None);
        }
        let first = exchange::receive(stream, opening).await?;
        let mut d = Decoder::new(&first);
        let header = frame::decode_request_header(&mut d)?;
        let (id, version) = (header.correlation_id, header.request_api_version);
        if version != VERSION {
            let (response, error) = handshake::unknown_version(version);
            exchange::answer::<PeerHandshakeRequest>(stream, VERSION, id, &response).await?;
            return Err(error);
        }
        let request = PeerHandshakeRequest::decode(&mut d, version)?;
        d.finish()?;
        let mut nonce = [0; NONCE_BYTES];
        self.rng.fill(&mut nonce);
        let (response, next) = handshake::take_hello(&self.local, nonce, &request);
        exchange::answer::<PeerHandshakeRequest>(stream, version, id, &response).await?;
        let next = next?;

        let second = exchange::receive(stream, exchange::buffer()).await?;
        let (id, request) = proof_in(&second)?;
        let (response, remote) = next.take(&request);
        exchange::answer::<PeerProofRequest>(stream, VERSION, id, &response).await?;
        remote.map(Some)
    }

    fn log(&self, from: SocketAddr, what: &str) {
        if let Some(left_out) = self.throttle.admit(Instant::now()) {
            tracing::warn!(%from, left_out, "peer.listener: {what}");
        }
    }
}

/// The second message of a client, with its correlation id.
fn proof_in(frame: &Bytes) -> Result<(i32, PeerProofRequest), HandshakeError> {
    let mut d = Decoder::new(frame);
    let header = frame::decode_request_header(&mut d)?;
    if header.request_api_key != ApiKey::PeerProof.code() {
        return Err(HandshakeError::Unexpected(header.request_api_key));
    }
    let request = PeerProofRequest::decode(&mut d, header.request_api_version)?;
    d.finish()?;
    Ok((header.correlation_id, request))
}

impl Stranger {
    const fn description(self) -> &'static str {
        match self {
            Self::KafkaClient => {
                "a Kafka client connected, where only the nodes of the cluster may: its \
                 bootstrap.servers must name an address of `listeners`"
            }
            Self::Tls => "someone speaks TLS here, which this listener does not",
            Self::Http => "someone speaks HTTP here: health and metrics are at http.listener",
            Self::Unknown => "someone connected who is no node of a cluster",
        }
    }
}

/// What the first bytes say of someone who is no peer; `None` for a handshake.
fn stranger_of(opening: &[u8]) -> Option<Stranger> {
    const TLS_HANDSHAKE: [u8; 2] = [22, 3];
    const HTTP_METHODS: [&[u8]; 4] = [b"GET ", b"HEAD", b"POST", b"OPTI"];
    let Some(&[a, b, c, d, e, f, g, h]) = opening.first_chunk::<OPENING_BYTES>() else {
        return Some(Stranger::Unknown);
    };
    let length = i32::from_be_bytes([a, b, c, d]);
    let (key, version) = (i16::from_be_bytes([e, f]), i16::from_be_bytes([g, h]));
    match ApiKey::from_i16(key) {
        _ if HTTP_METHODS.contains(&&opening[..4]) => Some(Stranger::Http),
        _ if opening[..2] == TLS_HANDSHAKE => Some(Stranger::Tls),
        Some(ApiKey::PeerHandshake) if length > 0 => None,
        Some(api) if length > 0 && !api.is_for_peers() && version >= 0 => {
            Some(Stranger::KafkaClient)
        }
        _ => Some(Stranger::Unknown),
    }
}

/// Tells a Kafka client that asks for the versions, as all do first, that this is no place for it.
/// Whatever else one asks, it is merely closed.
async fn refuse_kafka_client(
    stream: &mut dyn Stream,
    opening: BytesMut,
) -> Result<(), HandshakeError> {
    // The whole frame is read, so that closing does not reset the connection under the answer.
    let request = exchange::receive(stream, opening).await?;
    let header = frame::decode_request_header(&mut Decoder::new(&request))?;
    if header.request_api_key != ApiKey::ApiVersions.code() {
        return Ok(());
    }
    let asked = header.request_api_version;
    let known = ApiVersionsRequest::VERSIONS.contains(&asked);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::ClusterAuthorizationFailed.code(),
        ..Default::default()
    };
    let version = if known { asked } else { 0 };
    exchange::answer::<ApiVersionsRequest>(stream, version, header.correlation_id, &response).await
}

#[cfg(test)]
mod tests;
