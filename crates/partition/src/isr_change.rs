//! How a leader gets another ISR: it proposes, the controller decides.
//!
//! Input: what is known of the followers, time, the controller's answers, the image. Output: the
//! next proposal; there is one at a time.
//!
//! ```text
//!   answer                              what it means                      then
//!   ──────────────────────────────────  ─────────────────────────────────  ──────────────────────
//!   accepted                            the ISR is as it says              take it
//!   INELIGIBLE_REPLICA                  nothing happened, and will not     as before; who was to
//!                                                                          join must wait
//!   OPERATION_NOT_ATTEMPTED             nothing happened                   as before
//!   INVALID_UPDATE_VERSION,             the image has moved on, or will    wait for the image
//!   FENCED_LEADER_EPOCH, …
//!   anything else, or none              it may have happened, or will yet  the same again, later
//! ```
//!
//! An attempt whose answer was lost may be carried out later, as long as the controller has the
//! partition epoch that it was based on. So after one, nothing that was proposed is taken back
//! before a later partition epoch is seen: who is refused then is *withdrawn*, and a proposal
//! without it goes out on the same partition epoch. Either that or the former one takes effect, and
//! the answer tells which. (An accepted proposal always gives a new partition epoch, also one that
//! changes nothing.)
//!
//! Invariants, checked in `Replica::check` and by the model test:
//! - one proposal is open at most, and the followers are in transition only while it is;
//! - a follower is proposed only when it has all up to the high watermark, and up to the start of
//!   the leader epoch: before that the high watermark says too little; and only when it was just
//!   heard, because one that is silent may have all there is and yet be gone;
//! - a proposal is repeated as it was: the follower may have another process by then.
//!
//! See KIP-497, KIP-903; `Partition.handleAlterPartitionError` of Kafka 4.1.

use skein_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Millis, PartitionEpoch};

use crate::isr::Measure;
use crate::replica::{Leader, Replica, Role};
use crate::{Effect, ISR_RETRY_BACKOFF_MS};

/// Another ISR, as a leader wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrProposal {
    /// Which attempt it is, in this leader epoch: the answer says it back.
    pub attempt: u64,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that it is based on.
    pub partition_epoch: PartitionEpoch,
    /// The ISR, in ascending order.
    pub isr: Vec<IsrMember>,
}

/// A member of a proposed ISR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IsrMember {
    /// Which broker.
    pub broker_id: BrokerId,
    /// Which of its processes; [`BrokerEpoch::NONE`] for the leader itself, and for a member that
    /// has not been heard of in this leader epoch.
    pub broker_epoch: BrokerEpoch,
}

/// The controller's answer to a proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrAnswer {
    /// As in the proposal.
    pub attempt: u64,
    /// As in the proposal.
    pub leader_epoch: LeaderEpoch,
    /// What was decided, or why nothing was; any retriable code where nobody answered.
    pub result: Result<IsrDecision, ErrorCode>,
}

/// What the controller has decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrDecision {
    /// The partition epoch that came with it.
    pub partition_epoch: PartitionEpoch,
    /// The ISR from then on.
    pub isr: Vec<BrokerId>,
}

/// Proposals of one leader epoch.
#[derive(Debug, Default)]
pub(crate) struct IsrChanges {
    attempts: u64,
    open: Option<OpenProposal>,
}

#[derive(Debug)]
struct OpenProposal {
    proposal: IsrProposal,
    state: State,
    /// An attempt was not answered.
    may_take_effect: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Sent,
    Rests(Millis),
    AwaitsImage,
}

/// What an answer without a decision means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Ineligible,
    NotAttempted,
    AwaitImage,
    Unknown,
}

impl Replica {
    /// Proposes another ISR if one is due, or the open proposal once more. Who was `heard` just now
    /// may join.
    pub(crate) fn propose_isr(&mut self, heard: Option<BrokerId>, effects: &mut Vec<Effect>) {
        let measure = self.measure();
        let (broker_id, leader_epoch) = (self.broker_id, self.leader_epoch);
        let high_watermark = self.high_watermark;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if leader.isr_changes.open.is_some() {
            effects.extend(leader.isr_changes.repeat(measure.now));
            return;
        }
        let needed_end = high_watermark.max(leader.leader_epoch_start_offset);
        let leaves = leader.followers.leave_lagging(measure);
        let followers = &mut leader.followers;
        let joins = heard.is_some_and(|id| followers.join_if_caught_up(id, needed_end, measure));
        if leaves || joins {
            effects.push(leader.propose(broker_id, leader_epoch, false));
        }
    }

    pub(crate) fn isr_proposal_answered(&mut self, answer: &IsrAnswer, effects: &mut Vec<Effect>) {
        let (broker_id, now) = (self.broker_id, self.now);
        let Some(leader) = self.leader_in(answer.leader_epoch) else {
            return;
        };
        match &answer.result {
            // True whichever attempt it was; the image may have said it, or more, before.
            Ok(decision) => {
                let is_news = decision.partition_epoch > leader.partition_epoch;
                if !is_news || !decision.isr.contains(&broker_id) {
                    return;
                }
                leader.partition_epoch = decision.partition_epoch;
                leader.followers.commit(broker_id, &decision.isr, now);
                leader.isr_changes.open = None;
            }
            Err(error_code) => {
                if !leader.isr_changes.is_awaited(answer.attempt) {
                    return;
                }
                let epoch = answer.leader_epoch;
                effects.extend(leader.proposal_refused(*error_code, broker_id, epoch, now));
            }
        }
        self.settle(effects);
        self.propose_isr(None, effects);
    }

    /// What followers are measured by now.
    pub(crate) fn measure(&self) -> Measure {
        Measure {
            now: self.now,
            leader_end: self.log_end_offset,
            durability: self.settings.durability,
            lag_time_max_ms: self.settings.replica_lag_time_max_ms,
        }
    }
}

impl Leader {
    fn propose(
        &mut self,
        broker_id: BrokerId,
        leader_epoch: LeaderEpoch,
        may_take_effect: bool,
    ) -> Effect {
        self.isr_changes.attempts += 1;
        let proposal = IsrProposal {
            attempt: self.isr_changes.attempts,
            leader_epoch,
            partition_epoch: self.partition_epoch,
            isr: self.followers.proposed_isr(broker_id),
        };
        self.isr_changes.open = Some(OpenProposal {
            proposal: proposal.clone(),
            state: State::Sent,
            may_take_effect,
        });
        Effect::ProposeIsr(proposal)
    }

    fn proposal_refused(
        &mut self,
        error_code: ErrorCode,
        broker_id: BrokerId,
        leader_epoch: LeaderEpoch,
        now: Millis,
    ) -> Option<Effect> {
        let open = self.isr_changes.open.as_mut()?;
        let rests = State::Rests(now.saturating_add(ISR_RETRY_BACKOFF_MS));
        match (meaning(error_code), open.may_take_effect) {
            (Meaning::Ineligible, true) => {
                self.followers.refuse_joining(true, now);
                return Some(self.propose(broker_id, leader_epoch, true));
            }
            (Meaning::Ineligible, false) => {
                self.followers.refuse_joining(false, now);
                self.followers.revert();
                self.isr_changes.open = None;
            }
            (Meaning::NotAttempted, false) => {
                self.followers.revert();
                self.isr_changes.open = None;
            }
            (Meaning::NotAttempted, true) => open.state = rests,
            (Meaning::AwaitImage, _) => open.state = State::AwaitsImage,
            (Meaning::Unknown, _) => {
                open.may_take_effect = true;
                open.state = rests;
            }
        }
        None
    }
}

impl IsrChanges {
    /// The outcome is seen: the image has a later partition epoch.
    pub(crate) fn resolve(&mut self) {
        self.open = None;
    }

    /// Whether a proposal is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When the open proposal is due again.
    pub(crate) fn next_attempt(&self) -> Option<Millis> {
        match self.open.as_ref()?.state {
            State::Rests(until) => Some(until),
            State::Sent | State::AwaitsImage => None,
        }
    }

    fn is_awaited(&self, attempt: u64) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.state == State::Sent && open.proposal.attempt == attempt)
    }

    fn repeat(&mut self, now: Millis) -> Option<Effect> {
        if self.next_attempt().is_none_or(|due| now < due) {
            return None;
        }
        let open = self.open.as_mut()?;
        self.attempts += 1;
        open.proposal.attempt = self.attempts;
        open.state = State::Sent;
        Some(Effect::ProposeIsr(open.proposal.clone()))
    }
}

fn meaning(error_code: ErrorCode) -> Meaning {
    match error_code {
        ErrorCode::IneligibleReplica => Meaning::Ineligible,
        ErrorCode::OperationNotAttempted => Meaning::NotAttempted,
        ErrorCode::InvalidUpdateVersion
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::NewLeaderElected
        | ErrorCode::InvalidRequest
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId => Meaning::AwaitImage,
        _ => Meaning::Unknown,
    }
}
