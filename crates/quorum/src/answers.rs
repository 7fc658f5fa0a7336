//! What this node answers to the other members.
//!
//! ```text
//!  peer listener ─► PeerAnswers ─┬─ nobody yet ────► refused, ask again
//!                                ├─ forming ───────► forming.rs
//!                                └─ member ────────► Raft, membership.rs
//! ```
//!
//! Input: requests as bytes. Output: answers as bytes; always one.
//!
//! Invariants:
//! - a node whose identity is not on the disk says nothing of itself;
//! - a request to Raft is served only by the member that it names (`answers/member.rs`);
//! - bytes that are no request are refused, with the reason.
//!
//! Source: own design.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_metadata::EnvelopeError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::formation::FormationStatus;
use crate::identity::Founding;
use crate::wire::{
    self, LeaveOut, LeftOut, Message, Offered, PeerRefusal, RefusalReason, Standing,
};

mod member;
mod snapshots;

pub(crate) use member::{Joining, Member};

/// Questions that may wait while the identity is flushed.
pub(crate) const QUESTIONS_QUEUED_MAX: usize = 64;

/// The answering side of a member: there before the member is. Cheap to clone; all clones are the
/// same node's.
#[derive(Clone, Default)]
pub struct PeerAnswers {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    role: Mutex<Role>,
    status: watch::Sender<FormationStatus>,
}

/// Who answers.
#[derive(Clone, Default)]
pub(crate) enum Role {
    /// The node has not read its identity yet, or has stopped.
    #[default]
    Nobody,
    /// The node looks for its cluster.
    Forming(mpsc::Sender<Question>),
    /// The node is a member, or has asked to be one.
    Member(Arc<Member>),
}

/// A question to a node that is forming.
pub(crate) enum Question {
    Who(oneshot::Sender<Standing>),
    Offer(Founding, oneshot::Sender<Offered>),
    LeaveOut(Vec<String>, oneshot::Sender<LeftOut>),
}

impl PeerAnswers {
    /// Answers for a node that is about to start.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer to a request of another member, or of this node itself.
    pub async fn answer(&self, request: Bytes) -> Bytes {
        match self.serve(&request).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.to_bytes(),
        }
    }

    /// How far the node is on its way into a cluster, for health checks.
    #[must_use]
    pub fn formation_status(&self) -> watch::Receiver<FormationStatus> {
        self.inner.status.subscribe()
    }

    pub(crate) fn tell(&self, status: FormationStatus) {
        self.inner.status.send_if_modified(|told| {
            let is_new = *told != status;
            *told = status;
            is_new
        });
    }

    /// [`PeerAnswers::tell`], while there is something to wait for.
    pub(crate) fn tell_if_no_member(&self, status: FormationStatus) {
        if !matches!(*self.inner.status.borrow(), FormationStatus::Member(_)) {
            self.tell(status);
        }
    }

    pub(crate) fn set_role(&self, role: Role) {
        // The former role may hold the last handle of Raft: it is let go outside of the lock.
        let former = std::mem::replace(&mut *self.inner.role.lock(), role);
        drop(former);
    }

    async fn serve(&self, request: &[u8]) -> Result<Bytes, PeerRefusal> {
        let envelope = wire::open(request).map_err(|error| malformed(&error))?;
        let role = self.inner.role.lock().clone();
        match (role, envelope.kind) {
            (Role::Nobody, _) => Err(not_ready("the node is starting or stopping")),
            (Role::Member(member), _) => member.serve(&envelope).await,
            (Role::Forming(questions), wire::WHO) => {
                let standing = ask(&questions, Question::Who).await?;
                encoded(&standing)
            }
            (Role::Forming(questions), wire::OFFER) => {
                let founding = wire::decode(&envelope).map_err(|error| malformed(&error))?;
                let offered = ask(&questions, |answer| Question::Offer(founding, answer)).await?;
                encoded(&offered)
            }
            (Role::Forming(questions), wire::LEAVE_OUT) => {
                let LeaveOut { peers } = wire::decode(&envelope).map_err(|e| malformed(&e))?;
                let told = ask(&questions, |answer| Question::LeaveOut(peers, answer)).await?;
                encoded(&told)
            }
            (Role::Forming(_), wire::JOIN..=wire::IS_FORGOTTEN) => {
                Err(not_ready("the node belongs to no cluster yet"))
            }
            (Role::Forming(_), _) => Err(malformed(&envelope.unknown())),
        }
    }
}

async fn ask<A>(
    questions: &mpsc::Sender<Question>,
    question: impl FnOnce(oneshot::Sender<A>) -> Question,
) -> Result<A, PeerRefusal> {
    let (answer, answered) = oneshot::channel();
    questions
        .try_send(question(answer))
        .map_err(|_| not_ready("the node has no time for questions"))?;
    answered
        .await
        .map_err(|_| not_ready("the node has changed meanwhile"))
}

fn encoded<M: Message>(answer: &M) -> Result<Bytes, PeerRefusal> {
    wire::encode(answer).map_err(|error| PeerRefusal::new(RefusalReason::Failed, error.to_string()))
}

fn malformed(error: &EnvelopeError) -> PeerRefusal {
    PeerRefusal::new(RefusalReason::Malformed, error.to_string())
}

fn not_ready(reason: &str) -> PeerRefusal {
    PeerRefusal::new(RefusalReason::NotReady, reason)
}

#[cfg(test)]
mod tests;
