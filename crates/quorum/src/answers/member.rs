//! What a member answers.
//!
//! Input: envelopes. Output: what Raft says to them, what the member says of itself, and what the
//! controller decides of a node that wants in.
//!
//! Invariant: a request to Raft names this member's Raft id, or it is refused: it was meant for a
//! former node at this address.
//!
//! Source: own design.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::AppendEntriesResponse;
use parking_lot::Mutex;
use skein_env::Env;
use skein_metadata::envelope::Envelope;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::snapshots::IncomingSnapshots;
use super::{encoded, malformed, not_ready};
use crate::identity::Founding;
use crate::node::RaftHandle;
use crate::runtime::within;
use crate::state_machine::Published;
use crate::types::TypeConfig;
use crate::wire::{
    self, Admission, Append, Appended, Ballot, BallotAnswer, Fate, IsForgotten, JoinRequest, Lead,
    Leads, LeftOut, Message, Offered, PeerRefusal, RefusalReason, SnapshotPiece, Standing,
    VoteKind,
};

/// A node that wants to be a member, and whom to tell.
pub(crate) struct Joining {
    pub(crate) request: JoinRequest,
    pub(crate) answer: oneshot::Sender<Admission>,
}

/// See the module.
pub(crate) struct Member {
    env: Env,
    raft: RaftHandle,
    raft_id: u64,
    /// What it says of itself, but for what changes.
    standing: Standing,
    is_member: AtomicBool,
    /// When a leader was last heard; at first, when the node began to listen.
    heard: Mutex<Instant>,
    published: Published,
    snapshots: IncomingSnapshots,
    joins: mpsc::Sender<Joining>,
    /// Where the identity is.
    #[cfg(feature = "mutations")]
    directory: std::path::PathBuf,
}

impl Member {
    pub(crate) fn new(
        env: Env,
        raft: RaftHandle,
        standing: Standing,
        published: Published,
        joins: mpsc::Sender<Joining>,
    ) -> Self {
        Self {
            env,
            raft,
            raft_id: standing.raft_id,
            is_member: AtomicBool::new(standing.is_member),
            standing,
            heard: Mutex::new(Instant::now()),
            published,
            snapshots: IncomingSnapshots::default(),
            joins,
            #[cfg(feature = "mutations")]
            directory: std::path::PathBuf::new(),
        }
    }

    /// The cluster has had a leader, and the identity says so on the disk.
    pub(crate) fn set_member(&self) {
        self.is_member.store(true, Ordering::Release);
    }

    /// Whether a leader that counts here has spoken within this time.
    pub(crate) fn has_heard_a_leader_within(&self, time: Duration) -> bool {
        self.heard.lock().elapsed() < time
    }

    pub(super) async fn serve(&self, envelope: &Envelope<'_>) -> Result<Bytes, PeerRefusal> {
        // openraft may start tasks of its own.
        within(self.env.clone(), self.serve_within(envelope)).await
    }

    async fn serve_within(&self, envelope: &Envelope<'_>) -> Result<Bytes, PeerRefusal> {
        match envelope.kind {
            wire::WHO => encoded(&self.standing()),
            wire::OFFER => encoded(&self.offered(&decoded(envelope)?)),
            wire::JOIN => encoded(&self.join(decoded(envelope)?).await?),
            wire::APPEND => {
                let Append { target, request } = decoded(envelope)?;
                self.check_target(target)?;
                let answer = self
                    .raft
                    .append_entries(request)
                    .await
                    .map_err(|e| failed(&e))?;
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    *self.heard.lock() = Instant::now();
                }
                encoded(&Appended(answer))
            }
            wire::VOTE => self.vote(VoteKind::Vote, decoded(envelope)?).await,
            wire::PRE_VOTE => self.vote(VoteKind::PreVote, decoded(envelope)?).await,
            wire::SNAPSHOT_PIECE => {
                let piece: SnapshotPiece = decoded(envelope)?;
                self.check_target(piece.target)?;
                encoded(&self.snapshots.take(piece, &self.raft).await?)
            }
            wire::IS_FORGOTTEN => encoded(&self.fate(&decoded(envelope)?)),
            wire::LEAVE_OUT => encoded(&self.left_out()),
            wire::LEAD => {
                let Lead { target, request } = decoded(envelope)?;
                self.check_target(target)?;
                let answer = self.raft.handle_transfer_leader(request).await;
                encoded(&Leads(answer.map_err(|error| stopped(&error))?))
            }
            _ => Err(malformed(&envelope.unknown())),
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            is_member: self.is_member.load(Ordering::Acquire),
            ..self.standing.clone()
        }
    }

    /// A record that this node holds is accepted again: the offer may be a repetition.
    fn offered(&self, founding: &Founding) -> Offered {
        let held = self.standing.founding.as_ref();
        let is_held = held == Some(founding);
        #[cfg(feature = "mutations")]
        let is_held = is_held || self.takes_another(founding);
        let refused = (!is_held).then(|| match held {
            Some(held) => format!("it belongs to {}", held.cluster_id),
            None => "it founds nothing".to_owned(),
        });
        Offered { refused }
    }

    /// Tells where the identity is.
    #[cfg(feature = "mutations")]
    pub(crate) fn with_directory(self, directory: std::path::PathBuf) -> Self {
        Self { directory, ..self }
    }

    /// The bug on purpose: a node that holds a record takes another one that fits it.
    #[cfg(feature = "mutations")]
    fn takes_another(&self, founding: &Founding) -> bool {
        use skein_types::mutation::{self, Mutation};
        if !mutation::has(Mutation::FoundingRecordAcceptedTwice)
            || founding.address_of(self.raft_id).is_none()
        {
            return false;
        }
        let identity = crate::identity::Identity {
            raft_id: self.raft_id,
            initialised: true,
            founding: Some(founding.clone()),
        };
        identity.write(&*self.env.disk, &self.directory).is_ok()
    }

    /// What this node's image says of another member.
    fn fate(&self, question: &IsForgotten) -> Fate {
        let own = self.standing.founding.as_ref();
        let is_own = own.is_some_and(|founding| founding.cluster_id == question.cluster_id);
        Fate {
            is_forgotten: is_own && self.published.image().is_forgotten(question.raft_id),
        }
    }

    fn left_out(&self) -> LeftOut {
        let own = self.standing.founding.as_ref();
        let cluster_id = own.map(|founding| founding.cluster_id.to_string());
        let cluster_id = cluster_id.unwrap_or_default();
        LeftOut {
            refused: Some(format!("this node belongs to cluster {cluster_id} already")),
        }
    }

    async fn join(&self, request: JoinRequest) -> Result<Admission, PeerRefusal> {
        let own = self.standing.founding.as_ref();
        if own.is_none_or(|founding| founding.cluster_id != request.cluster_id) {
            let reason = format!("this node is not of cluster {}", request.cluster_id);
            return Ok(Admission::Refused(reason));
        }
        let (answer, answered) = oneshot::channel();
        self.joins
            .try_send(Joining { request, answer })
            .map_err(|_| not_ready("others are joining; ask again"))?;
        answered
            .await
            .map_err(|_| not_ready("the node is stopping"))
    }

    async fn vote(&self, kind: VoteKind, ballot: Ballot) -> Result<Bytes, PeerRefusal> {
        self.check_target(ballot.target)?;
        let answer = match kind {
            VoteKind::Vote => self.raft.vote(ballot.request).await,
            VoteKind::PreVote => self.raft.pre_vote(ballot.request).await,
        };
        encoded(&BallotAnswer(answer.map_err(|error| failed(&error))?))
    }

    fn check_target(&self, target: u64) -> Result<(), PeerRefusal> {
        if target == self.raft_id {
            return Ok(());
        }
        let text = format!("this is member {:016x}, not {target:016x}", self.raft_id);
        Err(PeerRefusal::new(RefusalReason::WrongMember, text))
    }
}

fn decoded<M: Message>(envelope: &Envelope<'_>) -> Result<M, PeerRefusal> {
    wire::decode(envelope).map_err(|error| malformed(&error))
}

pub(super) fn failed(error: &RaftError<TypeConfig>) -> PeerRefusal {
    PeerRefusal::new(RefusalReason::Failed, error.to_string())
}

pub(super) fn stopped(error: &Fatal<TypeConfig>) -> PeerRefusal {
    PeerRefusal::new(RefusalReason::Failed, error.to_string())
}

#[cfg(test)]
mod tests;
