//! Raft's requests and answers.
//!
//! Input and output: openraft's messages and their frozen structs. An entry travels in the frame
//! that it has in the log's files (`frozen.rs`), checksum included.
//!
//! Invariant: what openraft's message says is in the frozen struct, or the other member would
//! decide on something else.
//!
//! Source: openraft's messages.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use skein_metadata::envelope::{self, Envelope};
use skein_metadata::{EnvelopeError, LogIdV0};

use super::{
    APPEND, APPENDED, BALLOT, LEAD, LEADS, Message, PRE_VOTE, SNAPSHOT_PIECE, SNAPSHOT_TAKEN,
};
use crate::frozen::{self, FRAME_PAYLOAD_MAX, VoteV0};
use crate::types::{RaftLogId, RaftVote, TypeConfig, log_id, raft_log_id};

fn frozen_id(id: Option<&RaftLogId>) -> Option<LogIdV0> {
    id.map(|id| log_id(id).into())
}

fn thawed_id(id: Option<LogIdV0>) -> Option<RaftLogId> {
    id.map(|id| raft_log_id(id.into()))
}

/// Entries for a member, or none: a heartbeat.
pub(crate) struct Append {
    pub(crate) target: u64,
    pub(crate) request: AppendEntriesRequest<TypeConfig>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct AppendV0 {
    target: u64,
    vote: VoteV0,
    previous: Option<LogIdV0>,
    leader_commit: Option<LogIdV0>,
    entries: Vec<Vec<u8>>,
}

impl Message for Append {
    const KIND: u16 = APPEND;
    type V0 = AppendV0;

    fn freeze(&self) -> Result<AppendV0, EnvelopeError> {
        let frames = self.request.entries.iter().map(|entry| {
            let mut frame = Vec::new();
            // Where the sender's file was flushed means nothing to others.
            frozen::write_entry(entry, 0, &mut frame)?;
            Ok(frame)
        });
        Ok(AppendV0 {
            target: self.target,
            vote: (&self.request.vote).into(),
            previous: frozen_id(self.request.prev_log_id.as_ref()),
            leader_commit: frozen_id(self.request.leader_commit.as_ref()),
            entries: frames.collect::<Result<_, EnvelopeError>>()?,
        })
    }

    fn thaw(frozen: AppendV0, outer: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let entries = frozen.entries.iter().map(|frame| {
            let (envelope, length) = envelope::read(frame, FRAME_PAYLOAD_MAX)?;
            if length != frame.len() {
                return Err(outer.malformed("bytes behind an entry"));
            }
            frozen::read_entry(&envelope).map(|(entry, _)| entry)
        });
        let entries = entries.collect::<Result<Vec<_>, EnvelopeError>>()?;
        let previous = frozen.previous.map(|id| id.index);
        check_dense(previous, &entries).map_err(|reason| outer.malformed(reason))?;
        Ok(Self {
            target: frozen.target,
            request: AppendEntriesRequest {
                vote: frozen.vote.into(),
                prev_log_id: thawed_id(frozen.previous),
                leader_commit: thawed_id(frozen.leader_commit),
                entries,
            },
        })
    }
}

/// Entries follow each other and what is before them: openraft relies on it.
fn check_dense(previous: Option<u64>, entries: &[crate::types::RaftEntryOf]) -> Result<(), String> {
    let mut expected = previous.map_or(Some(0), |index| index.checked_add(1));
    for entry in entries {
        let index = crate::types::log_id_of(entry).index;
        if expected != Some(index) {
            return Err(format!("entry {index} does not follow the one before it"));
        }
        expected = index.checked_add(1);
    }
    Ok(())
}

/// What became of the entries.
pub(crate) struct Appended(pub(crate) AppendEntriesResponse<TypeConfig>);

#[derive(Serialize, Deserialize)]
pub(crate) enum AppendedV0 {
    Success,
    PartialSuccess(Option<LogIdV0>),
    Conflict,
    HigherVote(VoteV0),
}

impl Message for Appended {
    const KIND: u16 = APPENDED;
    type V0 = AppendedV0;

    fn freeze(&self) -> Result<AppendedV0, EnvelopeError> {
        Ok(match &self.0 {
            AppendEntriesResponse::Success => AppendedV0::Success,
            AppendEntriesResponse::PartialSuccess(id) => {
                AppendedV0::PartialSuccess(frozen_id(id.as_ref()))
            }
            AppendEntriesResponse::Conflict => AppendedV0::Conflict,
            AppendEntriesResponse::HigherVote(vote) => AppendedV0::HigherVote(vote.into()),
        })
    }

    fn thaw(frozen: AppendedV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        Ok(Self(match frozen {
            AppendedV0::Success => AppendEntriesResponse::Success,
            AppendedV0::PartialSuccess(id) => AppendEntriesResponse::PartialSuccess(thawed_id(id)),
            AppendedV0::Conflict => AppendEntriesResponse::Conflict,
            AppendedV0::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
        }))
    }
}

/// Which of the two questions a [`Ballot`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteKind {
    /// Vote for me.
    Vote,
    /// Would you.
    PreVote,
}

impl VoteKind {
    /// The type of the envelope.
    pub(crate) fn kind(self) -> u16 {
        match self {
            Self::Vote => super::VOTE,
            Self::PreVote => PRE_VOTE,
        }
    }
}

/// A request for a vote; its envelope's type is that of a [`VoteKind`].
pub(crate) struct Ballot {
    pub(crate) target: u64,
    pub(crate) request: VoteRequest<TypeConfig>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct BallotV0 {
    target: u64,
    vote: VoteV0,
    last_log_id: Option<LogIdV0>,
    leadership_transfer: bool,
}

impl Message for Ballot {
    const KIND: u16 = super::VOTE;
    type V0 = BallotV0;

    fn freeze(&self) -> Result<BallotV0, EnvelopeError> {
        Ok(BallotV0 {
            target: self.target,
            vote: (&self.request.vote).into(),
            last_log_id: frozen_id(self.request.last_log_id.as_ref()),
            leadership_transfer: self.request.leadership_transfer,
        })
    }

    fn thaw(frozen: BallotV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let last_log_id = thawed_id(frozen.last_log_id);
        let mut request = VoteRequest::new(frozen.vote.into(), last_log_id);
        request.leadership_transfer = frozen.leadership_transfer;
        let target = frozen.target;
        Ok(Self { target, request })
    }
}

/// The answer to both questions.
pub(crate) struct BallotAnswer(pub(crate) VoteResponse<TypeConfig>);

#[derive(Serialize, Deserialize)]
pub(crate) struct BallotAnswerV0 {
    vote: VoteV0,
    granted: bool,
    last_log_id: Option<LogIdV0>,
}

impl Message for BallotAnswer {
    const KIND: u16 = BALLOT;
    type V0 = BallotAnswerV0;

    fn freeze(&self) -> Result<BallotAnswerV0, EnvelopeError> {
        Ok(BallotAnswerV0 {
            vote: (&self.0.vote).into(),
            granted: self.0.vote_granted,
            last_log_id: frozen_id(self.0.last_log_id.as_ref()),
        })
    }

    fn thaw(frozen: BallotAnswerV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let vote: RaftVote = frozen.vote.into();
        let last_log_id = thawed_id(frozen.last_log_id);
        let answer = VoteResponse::new(vote, last_log_id, frozen.granted);
        Ok(Self(answer))
    }
}

/// A part of a snapshot; the last one ends where the head says.
pub(crate) struct SnapshotPiece {
    pub(crate) target: u64,
    pub(crate) vote: RaftVote,
    /// The head that stands before the image in a file (`frozen.rs`).
    pub(crate) head: Vec<u8>,
    /// Where in the image the piece begins.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotPieceV0 {
    target: u64,
    vote: VoteV0,
    head: Vec<u8>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Message for SnapshotPiece {
    const KIND: u16 = SNAPSHOT_PIECE;
    type V0 = SnapshotPieceV0;

    fn freeze(&self) -> Result<SnapshotPieceV0, EnvelopeError> {
        Ok(SnapshotPieceV0 {
            target: self.target,
            vote: (&self.vote).into(),
            head: self.head.clone(),
            offset: self.offset,
            bytes: self.bytes.clone(),
        })
    }

    fn thaw(frozen: SnapshotPieceV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        Ok(Self {
            target: frozen.target,
            vote: frozen.vote.into(),
            head: frozen.head,
            offset: frozen.offset,
            bytes: frozen.bytes,
        })
    }
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotTaken {
    /// The snapshot goes on at this offset.
    Continue(u64),
    /// It is installed, or not wanted: this is the member's vote.
    Ended(RaftVote),
}

#[derive(Serialize, Deserialize)]
pub(crate) enum SnapshotTakenV0 {
    Continue(u64),
    Ended(VoteV0),
}

impl Message for SnapshotTaken {
    const KIND: u16 = SNAPSHOT_TAKEN;
    type V0 = SnapshotTakenV0;

    fn freeze(&self) -> Result<SnapshotTakenV0, EnvelopeError> {
        Ok(match self {
            Self::Continue(offset) => SnapshotTakenV0::Continue(*offset),
            Self::Ended(vote) => SnapshotTakenV0::Ended(vote.into()),
        })
    }

    fn thaw(frozen: SnapshotTakenV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        Ok(match frozen {
            SnapshotTakenV0::Continue(offset) => Self::Continue(offset),
            SnapshotTakenV0::Ended(vote) => Self::Ended(vote.into()),
        })
    }
}

/// A leader that goes asks another member to lead.
pub(crate) struct Lead {
    pub(crate) target: u64,
    pub(crate) request: TransferLeaderRequest<TypeConfig>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LeadV0 {
    target: u64,
    from_leader: VoteV0,
    to: u64,
    last_log_id: Option<LogIdV0>,
}

impl Message for Lead {
    const KIND: u16 = LEAD;
    type V0 = LeadV0;

    fn freeze(&self) -> Result<LeadV0, EnvelopeError> {
        Ok(LeadV0 {
            target: self.target,
            from_leader: self.request.from_leader().into(),
            to: *self.request.to_node_id(),
            last_log_id: frozen_id(self.request.last_log_id()),
        })
    }

    fn thaw(frozen: LeadV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        let last_log_id = thawed_id(frozen.last_log_id);
        let vote = frozen.from_leader.into();
        Ok(Self {
            target: frozen.target,
            request: TransferLeaderRequest::new(vote, frozen.to, last_log_id),
        })
    }
}

/// Whether it will.
pub(crate) struct Leads(pub(crate) TransferLeaderResponse<TypeConfig>);

#[derive(Serialize, Deserialize)]
pub(crate) enum LeadsV0 {
    Accepted,
    VoteChanged {
        expected: VoteV0,
        actual: VoteV0,
    },
    LogNotFlushed {
        expected: Option<LogIdV0>,
        actual: Option<LogIdV0>,
    },
}

impl Message for Leads {
    const KIND: u16 = LEADS;
    type V0 = LeadsV0;

    fn freeze(&self) -> Result<LeadsV0, EnvelopeError> {
        Ok(match &self.0 {
            Ok(()) => LeadsV0::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => LeadsV0::VoteChanged {
                expected: expected.into(),
                actual: actual.into(),
            },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                LeadsV0::LogNotFlushed {
                    expected: frozen_id(expected.as_ref()),
                    actual: frozen_id(actual.as_ref()),
                }
            }
        })
    }

    fn thaw(frozen: LeadsV0, _envelope: &Envelope<'_>) -> Result<Self, EnvelopeError> {
        Ok(Self(match frozen {
            LeadsV0::Accepted => Ok(()),
            LeadsV0::VoteChanged { expected, actual } => Err(TransferLeaderError::VoteChanged {
                expected: expected.into(),
                actual: actual.into(),
            }),
            LeadsV0::LogNotFlushed { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed {
                    expected: thawed_id(expected),
                    actual: thawed_id(actual),
                })
            }
        }))
    }
}
