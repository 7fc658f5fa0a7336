//! What two nodes say before anything else, as a state machine without I/O.
//!
//! Input: this node, random nonces, the other side's messages. Output: the messages to send, and at
//! the end who is there, or why the connection must be closed.
//!
//! ```text
//!   client  ClientHello ──answered──► ClientProof ──answered──► RemotePeer
//!   server  take_hello  ────────────► ServerProof ──take──────► RemotePeer
//! ```
//!
//! A step takes the state that it starts from, so that none is made twice or left out.
//!
//! Invariants, checked by the tests of this file:
//! - the client proves first: a server computes nothing from the secret for a stranger;
//! - both sides have a secret, or neither has: which of the two is decided by the own
//!   configuration alone, and never by what the other side says;
//! - a refusal is told to the other side, with what its operator should do.
//!
//! Source: see [`crate::peer`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skein_protocol::messages::peer_handshake::{
    PeerHandshakeRequest, PeerHandshakeResponse, RequestApi, ResponseApi,
};
use skein_protocol::messages::peer_proof::{PeerProofRequest, PeerProofResponse};
use skein_protocol::{DecodeError, EncodeError, Str};
use skein_types::{ErrorCode, Uuid};
use thiserror::Error;

use crate::peer::proof::{Conversation, Nonce, Role};
use crate::peer::{LocalPeer, Purpose, RemotePeer};

/// Characters of the other side's words that an error repeats.
const MESSAGE_MAX_CHARS: usize = 200;

/// Why a connection between two nodes does not come about.
#[derive(Clone, Debug, Error)]
pub enum HandshakeError {
    /// The other side has a secret and this one has not.
    #[error(
        "the other node has a cluster.secret.file and this one has not: set the same on each node"
    )]
    SecretMissingHere,
    /// This side has a secret and the other has not.
    #[error(
        "this node has a cluster.secret.file and the other one has not: set the same on each node"
    )]
    SecretMissingThere,
    /// The other side's proof is wrong.
    #[error("the other node does not know this cluster's secret: its cluster.secret.file differs")]
    WrongSecret,
    /// The other side said no.
    #[error("the other node refuses this one: {message} ({})", code.name())]
    Refused {
        /// What it said.
        code: ErrorCode,
        /// And why, cut to a sensible length.
        message: String,
    },
    /// A version of the handshake that this side does not know.
    #[error("version {0} of the handshake is not known here: upgrade one version at a time")]
    UnknownVersion(i16),
    /// A purpose that this side does not know.
    #[error("a connection for purpose {0}, which is not known here")]
    UnknownPurpose(i8),
    /// A nonce of another length.
    #[error("a nonce of {0} bytes")]
    NonceLength(usize),
    /// Something else was sent where a message of the handshake was due.
    #[error("API {0} where a message of the handshake was due")]
    Unexpected(i16),
    /// A frame whose length no message of the handshake has.
    #[error("a frame of {0} bytes in the handshake")]
    FrameLength(i32),
    /// Not a message.
    #[error("a malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// A message that its version cannot carry.
    #[error("a message cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// The other side has closed the connection.
    #[error(
        "it was closed in the handshake: the other node is stopping or at its limit of \
         connections, or this is no peer.listener"
    )]
    Closed,
    /// The system reports an error.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// It took too long.
    #[error("it was not done within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

impl HandshakeError {
    /// What the other side is told.
    const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownVersion(_) => ErrorCode::UnsupportedVersion,
            Self::SecretMissingHere | Self::SecretMissingThere | Self::WrongSecret => {
                ErrorCode::SaslAuthenticationFailed
            }
            _ => ErrorCode::InvalidRequest,
        }
    }

    /// Whether a person must repair something before the next attempt can do better.
    pub(super) const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Closed | Self::Io(_) | Self::TimedOut(_))
    }
}

/// A client that has connected.
pub(super) struct ClientHello<'p> {
    local: &'p LocalPeer,
    purpose: Purpose,
    nonce: Nonce,
}

/// A client that knows who is there.
pub(super) struct ClientProof<'p> {
    local: &'p LocalPeer,
    conversation: Conversation,
    remote: RemotePeer,
}

/// A server that waits for the client's proof.
pub(super) struct ServerProof<'p> {
    local: &'p LocalPeer,
    conversation: Conversation,
    remote: RemotePeer,
}

impl<'p> ClientHello<'p> {
    pub(super) const fn new(local: &'p LocalPeer, purpose: Purpose, nonce: Nonce) -> Self {
        Self {
            local,
            purpose,
            nonce,
        }
    }

    /// The first message.
    pub(super) fn request(&self) -> PeerHandshakeRequest {
        let apis = self.local.apis.iter().map(|(key, versions)| RequestApi {
            api_key: key.code(),
            min_version: *versions.start(),
            max_version: *versions.end(),
        });
        PeerHandshakeRequest {
            purpose: self.purpose.code(),
            process_id: self.local.process_id,
            has_secret: self.local.secret.is_some(),
            nonce: Bytes::copy_from_slice(&self.nonce),
            apis: apis.collect(),
        }
    }

    /// Takes the answer to it.
    pub(super) fn answered(
        self,
        response: &PeerHandshakeResponse,
    ) -> Result<ClientProof<'p>, HandshakeError> {
        check_answer(response.error_code, response.error_message.as_ref())?;
        check_secrets(self.local, response.has_secret)?;
        let apis = response
            .apis
            .iter()
            .map(|api| (api.api_key, api.min_version..=api.max_version));
        Ok(ClientProof {
            local: self.local,
            conversation: Conversation {
                purpose: self.purpose,
                client_id: self.local.process_id,
                server_id: response.process_id,
                client_nonce: self.nonce,
                server_nonce: nonce_of(&response.nonce)?,
            },
            remote: remote(
                self.local,
                response.process_id,
                self.purpose,
                apis.collect(),
            ),
        })
    }
}

impl ClientProof<'_> {
    /// The second message.
    pub(super) fn request(&self) -> PeerProofRequest {
        let proof = proof_of(self.local, Role::Client, &self.conversation);
        PeerProofRequest { proof }
    }

    /// Takes the answer to it.
    pub(super) fn answered(
        self,
        response: &PeerProofResponse,
    ) -> Result<RemotePeer, HandshakeError> {
        check_answer(response.error_code, response.error_message.as_ref())?;
        check_proof(
            self.local,
            &response.proof,
            Role::Server,
            &self.conversation,
        )?;
        Ok(self.remote)
    }
}

/// Takes the first message of a client; the answer is sent in any case.
pub(super) fn take_hello<'p>(
    local: &'p LocalPeer,
    nonce: Nonce,
    request: &PeerHandshakeRequest,
) -> (
    PeerHandshakeResponse,
    Result<ServerProof<'p>, HandshakeError>,
) {
    let apis = local.apis.iter().map(|(key, versions)| ResponseApi {
        api_key: key.code(),
        min_version: *versions.start(),
        max_version: *versions.end(),
    });
    let mut response = PeerHandshakeResponse {
        process_id: local.process_id,
        has_secret: local.secret.is_some(),
        nonce: Bytes::copy_from_slice(&nonce),
        apis: apis.collect(),
        ..Default::default()
    };
    let next = ServerProof::new(local, nonce, request);
    if let Err(error) = &next {
        (response.error_code, response.error_message) = refusal(error);
    }
    (response, next)
}

impl<'p> ServerProof<'p> {
    fn new(
        local: &'p LocalPeer,
        nonce: Nonce,
        request: &PeerHandshakeRequest,
    ) -> Result<Self, HandshakeError> {
        let purpose = Purpose::from_code(request.purpose)
            .ok_or(HandshakeError::UnknownPurpose(request.purpose))?;
        check_secrets(local, request.has_secret)?;
        let apis = request
            .apis
            .iter()
            .map(|api| (api.api_key, api.min_version..=api.max_version));
        Ok(Self {
            local,
            conversation: Conversation {
                purpose,
                client_id: request.process_id,
                server_id: local.process_id,
                client_nonce: nonce_of(&request.nonce)?,
                server_nonce: nonce,
            },
            remote: remote(local, request.process_id, purpose, apis.collect()),
        })
    }

    /// Takes the client's proof; the answer is sent in any case.
    pub(super) fn take(
        self,
        request: &PeerProofRequest,
    ) -> (PeerProofResponse, Result<RemotePeer, HandshakeError>) {
        let mut response = PeerProofResponse::default();
        match check_proof(self.local, &request.proof, Role::Client, &self.conversation) {
            Ok(()) => {
                response.proof = proof_of(self.local, Role::Server, &self.conversation);
                (response, Ok(self.remote))
            }
            Err(error) => {
                (response.error_code, response.error_message) = refusal(&error);
                (response, Err(error))
            }
        }
    }
}

/// What a client of a version that is not known here is told; it may come back with an older one.
pub(super) fn unknown_version(version: i16) -> (PeerHandshakeResponse, HandshakeError) {
    let error = HandshakeError::UnknownVersion(version);
    let (error_code, error_message) = refusal(&error);
    let response = PeerHandshakeResponse {
        error_code,
        error_message,
        ..Default::default()
    };
    (response, error)
}

/// The other side is told what this one knows, as it looks from there.
fn refusal(error: &HandshakeError) -> (i16, Option<Str>) {
    let message = match error {
        HandshakeError::SecretMissingHere => HandshakeError::SecretMissingThere.to_string(),
        HandshakeError::SecretMissingThere => HandshakeError::SecretMissingHere.to_string(),
        HandshakeError::WrongSecret => "the secrets in cluster.secret.file differ".to_owned(),
        other => other.to_string(),
    };
    (error.code().code(), Some(message.as_str().into()))
}

fn check_answer(code: i16, message: Option<&Str>) -> Result<(), HandshakeError> {
    let code = ErrorCode::from_code(code);
    if code.is_none() {
        return Ok(());
    }
    // Another node's words, so far as this one knows: short, and on one line.
    let words = message.map_or("", |message| message).chars();
    let words = words.filter(|char| !char.is_control());
    Err(HandshakeError::Refused {
        code,
        message: words.take(MESSAGE_MAX_CHARS).collect(),
    })
}

fn check_secrets(local: &LocalPeer, has_secret_there: bool) -> Result<(), HandshakeError> {
    match (local.secret.is_some(), has_secret_there) {
        (false, true) => Err(HandshakeError::SecretMissingHere),
        (true, false) => Err(HandshakeError::SecretMissingThere),
        _ => Ok(()),
    }
}

fn check_proof(
    local: &LocalPeer,
    proof: &[u8],
    role: Role,
    conversation: &Conversation,
) -> Result<(), HandshakeError> {
    match &local.secret {
        Some(secret) if !secret.is_proof(proof, role, conversation) => {
            Err(HandshakeError::WrongSecret)
        }
        _ => Ok(()),
    }
}

/// Nothing where there is no secret.
fn proof_of(local: &LocalPeer, role: Role, conversation: &Conversation) -> Bytes {
    local.secret.as_ref().map_or_else(Bytes::new, |secret| {
        Bytes::copy_from_slice(&secret.prove(role, conversation))
    })
}

fn nonce_of(bytes: &Bytes) -> Result<Nonce, HandshakeError> {
    let nonce = bytes.as_ref().try_into();
    nonce.map_err(|_| HandshakeError::NonceLength(bytes.len()))
}

fn remote(
    local: &LocalPeer,
    process_id: Uuid,
    purpose: Purpose,
    apis: BTreeMap<i16, std::ops::RangeInclusive<i16>>,
) -> RemotePeer {
    RemotePeer {
        process_id,
        is_self: process_id == local.process_id,
        purpose,
        apis,
    }
}

#[cfg(test)]
mod tests;
