//! What nodes say to each other before they are members, and to become such.
//!
//! Input and output: our values and their frozen structs.
//!
//! Invariant: a list of addresses or members from a stranger is bounded ([`MEMBERS_MAX`]).
//!
//! Source: own design.

use serde::{Deserialize, Serialize};
use skein_metadata::EnvelopeError;
use skein_metadata::envelope::Envelope;
use skein_types::ClusterId;

use super::{ADMISSION, JOIN, Message, OFFER, OFFERED, STANDING};
use crate::identity::Founding;

/// Entries of a peer list, and members of a founding record.
pub(crate) const MEMBERS_MAX: usize = 1024;

/// Who a node is and what it belongs to; the answer to [`super::WHO`], which has no content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Drawn by the process when it started: a node that asks itself meets its own.
    pub(crate) nonce: [u8; 16],
    pub(crate) raft_id: u64,
    /// Its peer list, sorted.
    pub(crate) list: Vec<String>,
    /// The founding record that it holds, or the cluster that it joined.
    pub(crate) founding: Option<Founding>,
    /// Whether its cluster has had a leader: what it was founded with is in the log.
    pub(crate) is_member: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FoundingV0 {
    cluster_id: String,
    members: Vec<(u64, String)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StandingV0 {
    nonce: [u8; 16],
    raft_id: u64,
    list: Vec<String>,
    founding: Option<FoundingV0>,
    is_member: bool,
}

fn freeze(founding: &Founding) -> FoundingV0 {
    FoundingV0 {
        cluster_id: founding.cluster_id.to_string(),
        members: founding.members.clone(),
    }
}

fn thaw(frozen: FoundingV0, envelope: &Envelope<'_>) -> Result<Founding, EnvelopeError> {
    let cluster_id = cluster_id(&frozen.cluster_id, envelope)?;
    check_count(frozen.members.len(), envelope)?;
    let members = frozen.members;
    Ok(Founding {
        cluster_id,
        members,
    })
}

pub(super) fn cluster_id(text: &str, envelope: &Envelope<'_>) -> Result<ClusterId, EnvelopeError> {
    text.parse()
        .map_err(|error| envelope.malformed(format!("cluster id: {error}")))
}

pub(super) fn check_count(count: usize, envelope: &Envelope<'_>) -> Result<(), EnvelopeError> {
    if count > MEMBERS_MAX {
        return Err(envelope.malformed(format!("{count} members")));
    }
    Ok(())
}

impl Message for Standing {
    const KIND: u16 = STANDING;
    type V0 = StandingV0;

    fn freeze(&self) -> Result<StandingV0, EnvelopeError> {
        Ok(StandingV0 {
            nonce: self.nonce,
            raft_id: self.raft_id,
            list: self.list.clone(),
            founding: self.founding.as_ref().map(freeze),
            is_member: self.is_member,
        })
    }

    fn thaw(frozen: StandingV0, envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        check_count(frozen.list.len(), envelope)?;
        let founding = frozen.founding.map(|founding| thaw(founding, envelope));
        Ok(Self {
            nonce: frozen.nonce,
            raft_id: frozen.raft_id,
            list: frozen.list,
            founding: founding.transpose()?,
            is_member: frozen.is_member,
        })
    }
}

/// A founding record is offered as it is.
impl Message for Founding {
    const KIND: u16 = OFFER;
    type V0 = FoundingV0;

    fn freeze(&self) -> Result<FoundingV0, EnvelopeError> {
        Ok(freeze(self))
    }

    fn thaw(frozen: FoundingV0, envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        thaw(frozen, envelope)
    }
}

/// What became of an offer: the record is on the disk of who was asked, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) refused: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OfferedV0 {
    refused: Option<String>,
}

impl Message for Offered {
    const KIND: u16 = OFFERED;
    type V0 = OfferedV0;

    fn freeze(&self) -> Result<OfferedV0, EnvelopeError> {
        let refused = self.refused.clone();
        Ok(OfferedV0 { refused })
    }

    fn thaw(frozen: OfferedV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let refused = frozen.refused;
        Ok(Self { refused })
    }
}

/// A node without a seat asks for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinRequest {
    pub(crate) cluster_id: ClusterId,
    pub(crate) raft_id: u64,
    /// Where it is reached.
    pub(crate) address: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct JoinRequestV0 {
    cluster_id: String,
    raft_id: u64,
    address: String,
}

impl Message for JoinRequest {
    const KIND: u16 = JOIN;
    type V0 = JoinRequestV0;

    fn freeze(&self) -> Result<JoinRequestV0, EnvelopeError> {
        Ok(JoinRequestV0 {
            cluster_id: self.cluster_id.to_string(),
            raft_id: self.raft_id,
            address: self.address.clone(),
        })
    }

    fn thaw(frozen: JoinRequestV0, envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        Ok(Self {
            cluster_id: cluster_id(&frozen.cluster_id, envelope)?,
            raft_id: frozen.raft_id,
            address: frozen.address,
        })
    }
}

/// The answer to a [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It has a seat: the leader sends it the log.
    Seated,
    /// Ask the controller, which is there; empty where nobody knows it.
    Elsewhere(String),
    /// Not now, or never: why.
    Refused(String),
}

#[derive(Serialize, Deserialize)]
pub(crate) enum AdmissionV0 {
    Seated,
    Elsewhere(String),
    Refused(String),
}

impl Message for Admission {
    const KIND: u16 = ADMISSION;
    type V0 = AdmissionV0;

    fn freeze(&self) -> Result<AdmissionV0, EnvelopeError> {
        Ok(match self {
            Self::Seated => AdmissionV0::Seated,
            Self::Elsewhere(address) => AdmissionV0::Elsewhere(address.clone()),
            Self::Refused(reason) => AdmissionV0::Refused(reason.clone()),
        })
    }

    fn thaw(frozen: AdmissionV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        Ok(match frozen {
            AdmissionV0::Seated => Self::Seated,
            AdmissionV0::Elsewhere(address) => Self::Elsewhere(address),
            AdmissionV0::Refused(reason) => Self::Refused(reason),
        })
    }
}
