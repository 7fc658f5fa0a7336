//! The way to the other members: Raft's requests over the [`PeerTransport`].
//!
//! Input: openraft's calls. Output: the other member's answers, or that it cannot be reached.
//!
//! Invariants:
//! - every call ends in time: its limit is a constant here, or openraft's own where that is meant
//!   to end an election or a heartbeat;
//! - no vote is granted on behalf of a peer, pre-vote included (openraft's default grants it);
//! - a snapshot goes in pieces of [`SNAPSHOT_PIECE_BYTES`]: no answer of another member, and no
//!   heartbeat behind it on the same connection, waits for more than one.
//!
//! Source: openraft's `RaftNetworkV2`.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RPCTypes};
use skein_metadata::EnvelopeError;

use crate::frozen::{SnapshotHead, snapshot_head_bytes};
use crate::transport::PeerTransport;
use crate::types::{PeerNode, RaftVote, TypeConfig, log_id};
use crate::wire::{
    self, Append, Appended, Ballot, BallotAnswer, Lead, Leads, Message, SnapshotPiece,
    SnapshotTaken, VoteKind,
};

/// How long a member may take over entries, which it flushes before it answers.
const APPEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Entries, and an image that is to be installed, are given so much more time as they need at this
/// speed.
const BYTES_PER_MILLI_MIN: usize = 8 * 1024;
/// Bytes of an image that travel together.
const SNAPSHOT_PIECE_BYTES: usize = 512 * 1024;
/// How long a member may take over a piece. It is short: a piece that a cut has swallowed keeps a
/// member without entries for so long.
const PIECE_TIMEOUT: Duration = Duration::from_secs(2);
/// Waits before a member that cannot be reached is tried again: the first, doubled up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(320));

type RaftSnapshot = openraft::alias::SnapshotOf<TypeConfig, Vec<u8>>;

/// Connects a member to all others; without a transport to nobody.
pub(crate) struct Peers {
    pub(crate) raft_id: u64,
    pub(crate) transport: Option<Arc<dyn PeerTransport>>,
}

/// The way to one member.
pub(crate) struct Peer {
    raft_id: u64,
    target: u64,
    address: String,
    transport: Option<Arc<dyn PeerTransport>>,
    /// Whether it carries heartbeats only: what is late is of no use then.
    is_heartbeat: bool,
}

impl Peers {
    fn peer(&self, target: u64, node: &PeerNode, is_heartbeat: bool) -> Peer {
        Peer {
            raft_id: self.raft_id,
            target,
            address: node.address.clone(),
            transport: self.transport.clone(),
            is_heartbeat,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> Peer {
        self.peer(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerNode) -> Peer {
        self.peer(target, node, true)
    }
}

impl Peer {
    /// Asks the member, and understands its answer.
    async fn ask<A: Message>(
        &self,
        action: RPCTypes,
        request: Result<Bytes, EnvelopeError>,
        timeout: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        // What cannot be sent now cannot be sent in a moment either.
        let request = request.map_err(|error| self.unreachable(&error))?;
        let Some(transport) = self.transport.as_ref().filter(|_| !self.address.is_empty()) else {
            return Err(self.unreachable(&"no way leads there").into());
        };
        let call = transport.call(&self.address, request, timeout);
        let timed_out = || Timeout {
            action,
            id: self.raft_id,
            target: self.target,
            timeout,
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(answer)) => Ok(wire::answer(&answer).map_err(|error| self.unreachable(&error))?),
            Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => {
                Err(self.unreachable(&error).into())
            }
            Ok(Err(_)) | Err(_) => Err(timed_out().into()),
        }
    }

    fn unreachable(&self, reason: &impl ToString) -> Unreachable<TypeConfig> {
        let (target, address) = (self.target, &self.address);
        let reason = format!(
            "member {target:016x} at {address:?}: {}",
            reason.to_string()
        );
        Unreachable::new(&AnyError::error(reason))
    }

    async fn ballot(
        &self,
        kind: VoteKind,
        request: VoteRequest<TypeConfig>,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let target = self.target;
        let ballot = wire::encode_as(kind.kind(), &Ballot { target, request });
        let answer: BallotAnswer = self.ask(RPCTypes::Vote, ballot, option.hard_ttl()).await?;
        Ok(answer.0)
    }

    /// Sends a snapshot, piece by piece.
    async fn send(&self, vote: RaftVote, snapshot: &RaftSnapshot) -> SentSnapshot {
        let image = &snapshot.snapshot;
        let head = SnapshotHead {
            last_log_id: snapshot.meta.last_log_id.as_ref().map(log_id),
            membership: snapshot.meta.last_membership.clone(),
            image_bytes: image.len() as u64,
        };
        let head = snapshot_head_bytes(&head).map_err(|error| self.unreachable(&error))?;
        let mut start = 0;
        loop {
            let end = image.len().min(start + SNAPSHOT_PIECE_BYTES);
            let piece = SnapshotPiece {
                target: self.target,
                vote,
                head: head.clone(),
                offset: start as u64,
                bytes: image[start..end].to_vec(),
            };
            // With the last piece the member reads the whole image and flushes it.
            let installed = if end == image.len() { end } else { 0 };
            let timeout = PIECE_TIMEOUT + time_for(installed);
            let piece = wire::encode(&piece);
            match self.ask(RPCTypes::InstallSnapshot, piece, timeout).await? {
                SnapshotTaken::Ended(vote) => return Ok(SnapshotResponse::new(vote)),
                SnapshotTaken::Continue(offset) if offset == end as u64 && end < image.len() => {
                    start = end;
                }
                // Another transfer has come in between, or the member has started anew.
                SnapshotTaken::Continue(_) => {
                    let error = NetworkError::from_string("the snapshot was interrupted");
                    return Err(error.into());
                }
            }
        }
    }
}

fn time_for(bytes: usize) -> Duration {
    Duration::from_millis((bytes / BYTES_PER_MILLI_MIN) as u64)
}

type SentSnapshot = Result<SnapshotResponse<TypeConfig>, RPCError<TypeConfig>>;

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let target = self.target;
        let append = wire::encode(&Append { target, request });
        let length = append.as_ref().map_or(0, Bytes::len);
        let timeout = match self.is_heartbeat {
            true => option.hard_ttl(),
            false => APPEND_TIMEOUT + time_for(length),
        };
        let answer: Appended = self.ask(RPCTypes::AppendEntries, append, timeout).await?;
        Ok(answer.0)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ballot(VoteKind::Vote, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ballot(VoteKind::PreVote, request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send(vote, &snapshot) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let target = self.target;
        let lead = wire::encode(&Lead { target, request });
        let action = RPCTypes::TransferLeader;
        let answer: Leads = self.ask(action, lead, option.hard_ttl()).await?;
        Ok(answer.0)
    }

    fn backoff(&self) -> Option<Backoff> {
        let (first, last) = BACKOFF;
        let waits = std::iter::successors(Some(first), move |wait| Some(last.min(*wait * 2)));
        Some(Backoff::new(waits))
    }
}
