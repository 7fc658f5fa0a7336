//! The layouts of what the quorum keeps on disk.
//!
//! | type | what | file |
//! |---|---|---|
//! | 200 | blank entry | log |
//! | 201 | entry with records | log |
//! | 202 | entry with the members | log |
//! | 203 | head of a log file | log |
//! | 204 | vote | `vote` |
//! | 205 | identity | `identity` |
//! | 206 | head of a snapshot | `snapshot` |
//! | 207 | end at a clean stop | `closed` |
//!
//! Input and output: our values and their envelopes.
//!
//! Invariant, held by the golden bytes below: no struct here ever changes; a change is a new
//! version.
//!
//! Source: our own format.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use serde::{Deserialize, Serialize};
use skein_metadata::envelope::{self, Envelope, HEADER_BYTES, TRAILER_BYTES};
use skein_metadata::{ENTRY_MAX_BYTES, EnvelopeError, LogId, LogIdV0};

use crate::log_files::Closed;
use crate::types::{
    PeerNode, Proposal, RaftEntryOf, RaftMembership, RaftStoredMembership, RaftVote, log_id,
    log_id_of, raft_log_id,
};

pub(crate) const BLANK: u16 = 200;
pub(crate) const NORMAL: u16 = 201;
pub(crate) const MEMBERSHIP: u16 = 202;
pub(crate) const FILE_HEAD: u16 = 203;
pub(crate) const VOTE: u16 = 204;
pub(crate) const IDENTITY: u16 = 205;
pub(crate) const SNAPSHOT_HEAD: u16 = 206;
pub(crate) const CLOSED: u16 = 207;

/// Largest payload of a frame of the log: an entry with what stands around it.
pub(crate) const FRAME_PAYLOAD_MAX: usize = ENTRY_MAX_BYTES + 1024;
/// Largest payload of a small file.
pub(crate) const SMALL_PAYLOAD_MAX: usize = 64 * 1024;
/// Largest small file.
pub(crate) const SMALL_FILE_MAX: usize = SMALL_PAYLOAD_MAX + HEADER_BYTES + TRAILER_BYTES;

/// Where an entry stands, and up to where its file was flushed when it was written.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct PlaceV0 {
    log_id: LogIdV0,
    flushed_end: u64,
}

#[derive(Serialize, Deserialize)]
struct NormalV0 {
    place: PlaceV0,
    entry: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct MembersV0 {
    configs: Vec<Vec<u64>>,
    nodes: Vec<(u64, String)>,
}

#[derive(Serialize, Deserialize)]
struct MembershipV0 {
    place: PlaceV0,
    members: MembersV0,
}

#[derive(Serialize, Deserialize)]
struct FileHeadV0 {
    previous: Option<LogIdV0>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct VoteV0 {
    term: u64,
    voted_for: u64,
    committed: bool,
}

#[derive(Serialize, Deserialize)]
struct SnapshotHeadV0 {
    last_log_id: Option<LogIdV0>,
    membership_log_id: Option<LogIdV0>,
    members: MembersV0,
    image_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct ClosedV0 {
    number: u64,
    end: u64,
}

/// What stands before the image in a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHead {
    pub(crate) last_log_id: Option<LogId>,
    pub(crate) membership: RaftStoredMembership,
    pub(crate) image_bytes: u64,
}

/// Appends the frame of `entry` to `out`.
pub(crate) fn write_entry(
    entry: &RaftEntryOf,
    flushed_end: u64,
    out: &mut Vec<u8>,
) -> Result<(), EnvelopeError> {
    let place = PlaceV0 {
        log_id: log_id_of(entry).into(),
        flushed_end,
    };
    match &entry.payload {
        EntryPayload::Blank => envelope::write(BLANK, 0, &place, FRAME_PAYLOAD_MAX, out),
        EntryPayload::Normal(proposal) => {
            let normal = NormalV0 {
                place,
                entry: proposal.encoded.to_vec(),
            };
            envelope::write(NORMAL, 0, &normal, FRAME_PAYLOAD_MAX, out)
        }
        EntryPayload::Membership(membership) => {
            let membership = MembershipV0 {
                place,
                members: membership.into(),
            };
            envelope::write(MEMBERSHIP, 0, &membership, FRAME_PAYLOAD_MAX, out)
        }
    }
}

/// The entry of a frame, and up to where its file was flushed when it was written.
pub(crate) fn read_entry(envelope: &Envelope<'_>) -> Result<(RaftEntryOf, u64), EnvelopeError> {
    let (place, payload) = match (envelope.kind, envelope.version) {
        (BLANK, 0) => (envelope.decode()?, EntryPayload::Blank),
        (NORMAL, 0) => {
            let NormalV0 { place, entry } = envelope.decode()?;
            (place, EntryPayload::Normal(Proposal::decode(entry)?))
        }
        (MEMBERSHIP, 0) => {
            let MembershipV0 { place, members } = envelope.decode()?;
            (
                place,
                EntryPayload::Membership(members.try_into_membership(envelope)?),
            )
        }
        _ => return Err(envelope.unknown()),
    };
    let log_id = raft_log_id(place.log_id.into());
    Ok((RaftEntryOf::new(log_id, payload), place.flushed_end))
}

/// Appends the head of a log file to `out`; `previous` is the entry before its first one.
pub(crate) fn write_file_head(
    previous: Option<LogId>,
    out: &mut Vec<u8>,
) -> Result<(), EnvelopeError> {
    let head = FileHeadV0 {
        previous: previous.map(LogIdV0::from),
    };
    envelope::write(FILE_HEAD, 0, &head, SMALL_PAYLOAD_MAX, out)
}

/// The entry before the first one of a log file.
pub(crate) fn read_file_head(envelope: &Envelope<'_>) -> Result<Option<LogId>, EnvelopeError> {
    match (envelope.kind, envelope.version) {
        (FILE_HEAD, 0) => envelope
            .decode()
            .map(|head: FileHeadV0| head.previous.map(LogId::from)),
        _ => Err(envelope.unknown()),
    }
}

pub(crate) fn vote_bytes(vote: &RaftVote) -> Result<Vec<u8>, EnvelopeError> {
    let mut bytes = Vec::new();
    envelope::write(VOTE, 0, &VoteV0::from(vote), SMALL_PAYLOAD_MAX, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn vote_of(bytes: &[u8]) -> Result<RaftVote, EnvelopeError> {
    let envelope = only_envelope(bytes)?;
    match (envelope.kind, envelope.version) {
        (VOTE, 0) => envelope.decode::<VoteV0>().map(RaftVote::from),
        _ => Err(envelope.unknown()),
    }
}

pub(crate) fn closed_bytes(closed: Closed) -> Result<Vec<u8>, EnvelopeError> {
    let Closed { number, end } = closed;
    let mut bytes = Vec::new();
    let closed = ClosedV0 { number, end };
    envelope::write(CLOSED, 0, &closed, SMALL_PAYLOAD_MAX, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn closed_of(bytes: &[u8]) -> Result<Closed, EnvelopeError> {
    let envelope = only_envelope(bytes)?;
    match (envelope.kind, envelope.version) {
        (CLOSED, 0) => {
            let ClosedV0 { number, end } = envelope.decode()?;
            Ok(Closed { number, end })
        }
        _ => Err(envelope.unknown()),
    }
}

pub(crate) fn snapshot_head_bytes(head: &SnapshotHead) -> Result<Vec<u8>, EnvelopeError> {
    let frozen = SnapshotHeadV0 {
        last_log_id: head.last_log_id.map(LogIdV0::from),
        membership_log_id: head
            .membership
            .log_id()
            .as_ref()
            .map(|id| log_id(id).into()),
        members: head.membership.membership().into(),
        image_bytes: head.image_bytes,
    };
    let mut bytes = Vec::new();
    envelope::write(SNAPSHOT_HEAD, 0, &frozen, SMALL_PAYLOAD_MAX, &mut bytes)?;
    Ok(bytes)
}

/// The head of a snapshot file, and where the image begins.
pub(crate) fn snapshot_head_of(bytes: &[u8]) -> Result<(SnapshotHead, usize), EnvelopeError> {
    let (envelope, length) = envelope::read(bytes, SMALL_PAYLOAD_MAX)?;
    let frozen: SnapshotHeadV0 = match (envelope.kind, envelope.version) {
        (SNAPSHOT_HEAD, 0) => envelope.decode()?,
        _ => return Err(envelope.unknown()),
    };
    let membership_log_id = frozen.membership_log_id.map(|id| raft_log_id(id.into()));
    let membership = if membership_log_id.is_none() {
        RaftMembership::default()
    } else {
        frozen.members.try_into_membership(&envelope)?
    };
    let head = SnapshotHead {
        last_log_id: frozen.last_log_id.map(LogId::from),
        membership: RaftStoredMembership::new(membership_log_id, membership),
        image_bytes: frozen.image_bytes,
    };
    Ok((head, length))
}

/// The envelope that is all of a small file.
pub(crate) fn only_envelope(bytes: &[u8]) -> Result<Envelope<'_>, EnvelopeError> {
    let (envelope, length) = envelope::read(bytes, SMALL_PAYLOAD_MAX)?;
    if length == bytes.len() {
        Ok(envelope)
    } else {
        Err(envelope.malformed("bytes behind it"))
    }
}

impl From<&RaftVote> for VoteV0 {
    fn from(vote: &RaftVote) -> Self {
        let (term, voted_for) = (vote.leader_id.term, vote.leader_id.voted_for);
        Self {
            term,
            voted_for,
            committed: vote.committed,
        }
    }
}

impl From<VoteV0> for RaftVote {
    fn from(vote: VoteV0) -> Self {
        if vote.committed {
            Self::new_committed(vote.term, vote.voted_for)
        } else {
            Self::new(vote.term, vote.voted_for)
        }
    }
}

impl From<&RaftMembership> for MembersV0 {
    fn from(membership: &RaftMembership) -> Self {
        let configs = membership.get_joint_config().iter();
        let nodes = membership.nodes();
        Self {
            configs: configs.map(|ids| ids.iter().copied().collect()).collect(),
            nodes: nodes
                .map(|(id, node)| (*id, node.address.clone()))
                .collect(),
        }
    }
}

impl MembersV0 {
    fn try_into_membership(self, envelope: &Envelope<'_>) -> Result<RaftMembership, EnvelopeError> {
        let configs = self.configs.into_iter().map(BTreeSet::from_iter).collect();
        let nodes = self
            .nodes
            .into_iter()
            .map(|(id, address)| (id, PeerNode { address }));
        let nodes: BTreeMap<u64, PeerNode> = nodes.collect();
        RaftMembership::new(configs, nodes).map_err(|error| envelope.malformed(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
