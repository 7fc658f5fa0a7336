//! The layouts of what members say to each other.
//!
//! | type | question | answer | |
//! |---|---|---|---|
//! | 220 | | refused | instead of any other answer |
//! | 221, 222 | who are you | standing | formation |
//! | 223, 224 | founding record | taken | formation |
//! | 225, 226 | let me in | let in | a node that joins |
//! | 227, 228 | entries | appended | Raft |
//! | 229, 231 | vote | ballot | Raft |
//! | 230, 231 | vote beforehand | ballot | Raft |
//! | 232, 233 | piece of a snapshot | piece taken | Raft |
//! | 234, 235 | lead | leads | Raft |
//! | 236, 237 | am I forgotten | fate | a member that hears no leader |
//! | 238, 239 | leave these peers out | left out | the operator, to a node that is forming |
//!
//! Input and output: our values and their envelopes.
//!
//! Invariants:
//! - no struct here ever changes; a change is a new version (golden bytes in `wire/tests.rs`);
//! - a request to Raft names the Raft id that it is for: a node that was wiped is another member,
//!   and nothing that was meant for the former one reaches it (`answers.rs`).
//!
//! Source: our own format; what the structs hold is openraft's.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skein_metadata::EnvelopeError;
use skein_metadata::envelope::{self, Envelope, HEADER_BYTES, TRAILER_BYTES};

use crate::transport::PEER_MESSAGE_MAX_BYTES;

mod formation;
mod operator;
mod raft;

pub(crate) use formation::{Admission, JoinRequest, MEMBERS_MAX, Offered, Standing};
pub(crate) use operator::{Fate, IsForgotten, LeaveOut, LeftOut};
pub(crate) use raft::{
    Append, Appended, Ballot, BallotAnswer, Lead, Leads, SnapshotPiece, SnapshotTaken, VoteKind,
};

pub(crate) const REFUSED: u16 = 220;
pub(crate) const WHO: u16 = 221;
pub(crate) const STANDING: u16 = 222;
pub(crate) const OFFER: u16 = 223;
pub(crate) const OFFERED: u16 = 224;
pub(crate) const JOIN: u16 = 225;
pub(crate) const ADMISSION: u16 = 226;
pub(crate) const APPEND: u16 = 227;
pub(crate) const APPENDED: u16 = 228;
pub(crate) const VOTE: u16 = 229;
pub(crate) const PRE_VOTE: u16 = 230;
pub(crate) const BALLOT: u16 = 231;
pub(crate) const SNAPSHOT_PIECE: u16 = 232;
pub(crate) const SNAPSHOT_TAKEN: u16 = 233;
pub(crate) const LEAD: u16 = 234;
pub(crate) const LEADS: u16 = 235;
pub(crate) const IS_FORGOTTEN: u16 = 236;
pub(crate) const FATE: u16 = 237;
pub(crate) const LEAVE_OUT: u16 = 238;
pub(crate) const LEFT_OUT: u16 = 239;

const PAYLOAD_MAX: usize = PEER_MESSAGE_MAX_BYTES - HEADER_BYTES - TRAILER_BYTES;
/// Bytes of a refusal's text; a longer one is cut.
const REFUSAL_TEXT_MAX: usize = 1024;

/// Something that members say. `Frozen` is its layout.
pub(crate) trait Message: Sized {
    /// Its type.
    const KIND: u16;
    /// Version 0 of its layout.
    type V0: Serialize + DeserializeOwned;

    fn freeze(&self) -> Result<Self::V0, EnvelopeError>;

    fn thaw(frozen: Self::V0, envelope: &Envelope<'_>) -> Result<Self, EnvelopeError>;
}

/// The bytes of a message.
pub(crate) fn encode<M: Message>(message: &M) -> Result<Bytes, EnvelopeError> {
    encode_as(M::KIND, message)
}

/// The bytes of a message that goes under several types.
pub(crate) fn encode_as<M: Message>(kind: u16, message: &M) -> Result<Bytes, EnvelopeError> {
    let mut bytes = Vec::new();
    envelope::write(kind, 0, &message.freeze()?, PAYLOAD_MAX, &mut bytes)?;
    Ok(bytes.into())
}

/// The question who a node is. It has no content: the answer does not depend on who asks.
pub(crate) fn who() -> Bytes {
    let mut bytes = Vec::new();
    // Nothing is too long for no limit.
    let _ = envelope::write(WHO, 0, &(), PAYLOAD_MAX, &mut bytes);
    bytes.into()
}

/// The envelope that is all of a request or an answer.
pub(crate) fn open(bytes: &[u8]) -> Result<Envelope<'_>, EnvelopeError> {
    let (envelope, length) = envelope::read(bytes, PAYLOAD_MAX)?;
    if length == bytes.len() {
        Ok(envelope)
    } else {
        Err(envelope.malformed("bytes behind it"))
    }
}

/// The message in an envelope of its type; the caller has looked at the type.
pub(crate) fn decode<M: Message>(envelope: &Envelope<'_>) -> Result<M, EnvelopeError> {
    if envelope.version != 0 {
        return Err(envelope.unknown());
    }
    M::thaw(envelope.decode()?, envelope)
}

/// The answer in these bytes.
///
/// # Errors
/// What the other member said when it refused, or why its answer is none.
pub(crate) fn answer<M: Message>(bytes: &[u8]) -> Result<M, PeerRefusal> {
    let garbled = |error: EnvelopeError| PeerRefusal {
        reason: RefusalReason::Malformed,
        text: format!("its answer is no answer: {error}"),
    };
    let envelope = open(bytes).map_err(garbled)?;
    match envelope.kind {
        kind if kind == M::KIND => decode(&envelope).map_err(garbled),
        REFUSED => Err(decode(&envelope).map_err(garbled)?),
        _ => Err(garbled(envelope.unknown())),
    }
}

/// Why a member gives no other answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// The bytes are no request, or one of a newer release.
    Malformed,
    /// The node cannot serve it yet, or not any more: ask again.
    NotReady,
    /// The request is for another Raft id.
    WrongMember,
    /// Raft has stopped on the node.
    Failed,
}

/// A refusal with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct PeerRefusal {
    pub(crate) reason: RefusalReason,
    pub(crate) text: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RefusedV0 {
    reason: u8,
    text: String,
}

impl PeerRefusal {
    pub(crate) fn new(reason: RefusalReason, text: impl Into<String>) -> Self {
        let mut text = text.into();
        let mut end = REFUSAL_TEXT_MAX.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self { reason, text }
    }

    /// Its bytes. A refusal always has some: its text is short.
    pub(crate) fn to_bytes(&self) -> Bytes {
        encode(self).unwrap_or_default()
    }
}

impl Message for PeerRefusal {
    const KIND: u16 = REFUSED;
    type V0 = RefusedV0;

    fn freeze(&self) -> Result<RefusedV0, EnvelopeError> {
        let reason = match self.reason {
            RefusalReason::Malformed => 0,
            RefusalReason::NotReady => 1,
            RefusalReason::WrongMember => 2,
            RefusalReason::Failed => 3,
        };
        let text = self.text.clone();
        Ok(RefusedV0 { reason, text })
    }

    fn thaw(frozen: RefusedV0, envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let reason = match frozen.reason {
            0 => RefusalReason::Malformed,
            1 => RefusalReason::NotReady,
            2 => RefusalReason::WrongMember,
            3 => RefusalReason::Failed,
            other => return Err(envelope.malformed(format!("reason {other}"))),
        };
        Ok(Self::new(reason, frozen.text))
    }
}

#[cfg(test)]
mod tests;
