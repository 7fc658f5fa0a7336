//! What a forgotten node asks, and what an operator says to a node that serves no clients.
//!
//! Input and output: our values and their frozen structs.
//!
//! Invariant: a list of addresses from outside is bounded ([`super::MEMBERS_MAX`]).
//!
//! Source: own design.

use serde::{Deserialize, Serialize};
use skein_metadata::EnvelopeError;
use skein_metadata::envelope::Envelope;
use skein_types::ClusterId;

use super::formation::{check_count, cluster_id};
use super::{FATE, IS_FORGOTTEN, LEAVE_OUT, LEFT_OUT, Message};

/// A member asks whether it was taken out of the cluster for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IsForgotten {
    pub(crate) cluster_id: ClusterId,
    pub(crate) raft_id: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IsForgottenV0 {
    cluster_id: String,
    raft_id: u64,
}

impl Message for IsForgotten {
    const KIND: u16 = IS_FORGOTTEN;
    type V0 = IsForgottenV0;

    fn freeze(&self) -> Result<IsForgottenV0, EnvelopeError> {
        Ok(IsForgottenV0 {
            cluster_id: self.cluster_id.to_string(),
            raft_id: self.raft_id,
        })
    }

    fn thaw(frozen: IsForgottenV0, envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        Ok(Self {
            cluster_id: cluster_id(&frozen.cluster_id, envelope)?,
            raft_id: frozen.raft_id,
        })
    }
}

/// The answer to [`IsForgotten`], as far as who was asked knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) is_forgotten: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FateV0 {
    is_forgotten: bool,
}

impl Message for Fate {
    const KIND: u16 = FATE;
    type V0 = FateV0;

    fn freeze(&self) -> Result<FateV0, EnvelopeError> {
        let is_forgotten = self.is_forgotten;
        Ok(FateV0 { is_forgotten })
    }

    fn thaw(frozen: FateV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let is_forgotten = frozen.is_forgotten;
        Ok(Self { is_forgotten })
    }
}

/// The operator's word: the cluster is to be founded without these peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaveOut {
    pub(crate) peers: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LeaveOutV0 {
    peers: Vec<String>,
}

impl Message for LeaveOut {
    const KIND: u16 = LEAVE_OUT;
    type V0 = LeaveOutV0;

    fn freeze(&self) -> Result<LeaveOutV0, EnvelopeError> {
        let peers = self.peers.clone();
        Ok(LeaveOutV0 { peers })
    }

    fn thaw(frozen: LeaveOutV0, envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        check_count(frozen.peers.len(), envelope)?;
        let peers = frozen.peers;
        Ok(Self { peers })
    }
}

/// What became of a [`LeaveOut`]: it is heeded until the node's process ends, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) refused: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LeftOutV0 {
    refused: Option<String>,
}

impl Message for LeftOut {
    const KIND: u16 = LEFT_OUT;
    type V0 = LeftOutV0;

    fn freeze(&self) -> Result<LeftOutV0, EnvelopeError> {
        let refused = self.refused.clone();
        Ok(LeftOutV0 { refused })
    }

    fn thaw(frozen: LeftOutV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let refused = frozen.refused;
        Ok(Self { refused })
    }
}
