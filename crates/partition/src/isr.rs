//! What a leader knows of its followers.
//!
//! Input: the partition's registration, fetches, flush reports, time. Output: who is in sync, who
//! should be, and how far each has the log.
//!
//! ```text
//!               proposed            accepted
//!   Outside ──────────────► Joining ────────► Member       in the ISR: Member, Leaving
//!      ▲ ▲      refused        │                │ ▲        in the maximal ISR: all but Outside
//!      │ └─────────────────────┤       proposed │ │ refused
//!      │                       ▼                ▼ │
//!      │◄───────────────── Withdrawn          Leaving
//!      │   outcome seen                         │
//!      └────────────────────────────────────────┘ accepted
//! ```
//!
//! What a leader proposes counts at once where it makes the high watermark wait (Joining), and only
//! when it is accepted where it would let it go on (Leaving). So whichever ISR a successor comes
//! from, it has all that was committed.
//!
//! A follower is *caught up* at the time of a fetch from the leader's log end, and at the time of
//! the fetch before if it has now what the log ended with then. So it may be behind at every single
//! moment and yet be in sync: lag is time, not records.
//!
//! Invariants, checked in [`Followers::check`] and by the types:
//! - the leader is in sync with itself and not listed;
//! - each follower is listed once, in ascending order;
//! - a follower whose fetch has not been seen in this leader epoch has no known end: it holds the
//!   high watermark where it is;
//! - what an earlier process of a follower says counts no more once a later one has fetched.
//!
//! See KIP-16 (lag is time), KIP-497 (maximal ISR), KIP-903 (broker epochs); `Replica` of Kafka
//! 4.1.

use skein_config::Durability;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{BrokerEpoch, BrokerId, Millis, Offset};

use crate::isr_change::IsrMember;
use crate::{FollowerFetch, FollowerFlush, INELIGIBLE_BACKOFF_MS, JOIN_WAIT_MAX_MS};

/// The followers of a leader.
#[derive(Debug)]
pub(crate) struct Followers(Vec<Follower>);

#[derive(Clone, Copy, Debug)]
struct Follower {
    broker_id: BrokerId,
    membership: Membership,
    /// Of the process that fetched last.
    broker_epoch: BrokerEpoch,
    log_end_offset: Option<Offset>,
    flushed_end_offset: Option<Offset>,
    /// On the monotonic clock.
    last_caught_up: Option<Millis>,
    last_heard: Option<Heard>,
    /// A moment after which it has fetched in this leader epoch, on the monotonic clock.
    last_fetched: Option<Millis>,
    /// Not in the ISR, but may be elected, or may be so for all that the leader knows.
    is_eligible: bool,
    /// The controller did not let it in.
    is_refused_until: Option<Millis>,
}

/// A sign of a follower's progress.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Millis,
    /// The leader's log end at that time.
    leader_end: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Membership {
    Outside,
    /// The leader has proposed it.
    Joining,
    /// The leader has proposed an ISR without it since, but the former proposal may take effect.
    Withdrawn,
    Member,
    /// The leader has proposed an ISR without it.
    Leaving,
}

/// What the leader measures its followers by, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub(crate) now: Millis,
    pub(crate) leader_end: Offset,
    pub(crate) durability: Durability,
    pub(crate) lag_time_max_ms: Millis,
}

impl Followers {
    /// The followers of a new leader epoch: nothing is known of them, and members have their time
    /// to catch up.
    pub(crate) fn new(
        leader: BrokerId,
        replicas: &[BrokerId],
        isr: &[BrokerId],
        now: Millis,
    ) -> Self {
        let mut followers = Self(Vec::new());
        followers.register(leader, replicas, isr, now);
        followers
    }

    /// Takes a changed registration; what is known of a follower that stays is kept.
    pub(crate) fn register(
        &mut self,
        leader: BrokerId,
        replicas: &[BrokerId],
        isr: &[BrokerId],
        now: Millis,
    ) {
        assert!(
            replicas.contains(&leader),
            "{leader:?} leads without being a replica"
        );
        assert!(
            isr.iter().all(|member| replicas.contains(member)),
            "{isr:?} of {replicas:?}"
        );
        let known = std::mem::take(&mut self.0);
        let others = replicas.iter().filter(|&&broker_id| broker_id != leader);
        self.0.extend(others.map(|&broker_id| {
            let known = known.iter().find(|known| known.broker_id == broker_id);
            known.map_or_else(|| Follower::unknown(broker_id), |known| *known)
        }));
        self.0.sort_unstable_by_key(|follower| follower.broker_id);
        self.commit(leader, isr, now);
    }

    /// Takes the ISR that the controller has decided on.
    pub(crate) fn commit(&mut self, leader: BrokerId, isr: &[BrokerId], now: Millis) {
        assert!(
            isr.contains(&leader),
            "{leader:?} leads without being in sync"
        );
        for follower in &mut self.0 {
            let was_outside = follower.membership == Membership::Outside;
            follower.membership = match isr.contains(&follower.broker_id) {
                true => Membership::Member,
                false => Membership::Outside,
            };
            // Whether who leaves is eligible the image tells later (`set_eligible`).
            follower.is_eligible |= !was_outside;
            if follower.membership == Membership::Member {
                follower.last_caught_up.get_or_insert(now);
            } else if !was_outside {
                // It lags, or it is dead: nobody waits for it to join before it is heard again.
                follower.last_caught_up = None;
            }
        }
    }

    /// Takes from the image who may be elected besides the ISR.
    pub(crate) fn set_eligible(&mut self, elr: &[BrokerId]) {
        for follower in &mut self.0 {
            follower.is_eligible = elr.contains(&follower.broker_id);
        }
    }

    /// Up to when all who could be elected, now or by an open proposal, say by their fetches that
    /// they know of no later leader; `None` if one of them has not fetched.
    pub(crate) fn confirm_until(&self, session_timeout_ms: Millis) -> Option<Millis> {
        let mut candidates = self
            .0
            .iter()
            .filter(|follower| follower.membership != Membership::Outside || follower.is_eligible);
        candidates.try_fold(Millis(i64::MAX), |until, follower| {
            let heard = follower.last_fetched?.saturating_add(session_timeout_ms);
            Some(until.min(heard))
        })
    }

    /// Notes the end of a follower's log; `is_same_log`: all that it has is in the leader's. Else
    /// nothing of it counts until it has cut its log. Strangers, and earlier processes, are
    /// ignored.
    pub(crate) fn note_fetched(
        &mut self,
        fetch: &FollowerFetch,
        is_same_log: bool,
        measure: Measure,
    ) {
        let Some(follower) = self.find(fetch.broker_id) else {
            return;
        };
        if fetch.broker_epoch < follower.broker_epoch {
            return;
        }
        if fetch.broker_epoch > follower.broker_epoch {
            follower.restart(fetch.broker_epoch);
        }
        follower.last_fetched = follower.last_fetched.max(fetch.sent_after);
        if !is_same_log {
            follower.log_end_offset = None;
            follower.flushed_end_offset = None;
            return;
        }
        let end = fetch.fetch_offset;
        follower.log_end_offset = Some(end);
        // It may have truncated: what it writes there next is not on its disk yet.
        let flushed_end_offset = follower.flushed_end_offset;
        follower.flushed_end_offset = flushed_end_offset.map(|flushed| flushed.min(end));
        if measure.durability == Durability::Replicated {
            follower.note_progress(end, measure);
        }
    }

    /// Notes the end of what a follower has on disk. Strangers, and other processes than the one
    /// that fetches, are ignored.
    pub(crate) fn note_flushed(&mut self, flush: &FollowerFlush, measure: Measure) {
        let Some(follower) = self.find(flush.broker_id) else {
            return;
        };
        if flush.broker_epoch != follower.broker_epoch {
            return;
        }
        follower.flushed_end_offset = Some(flush.end);
        if measure.durability == Durability::Flushed {
            follower.note_progress(flush.end, measure);
        }
    }

    /// Makes members that lag into leaving ones. Says whether there are any.
    pub(crate) fn leave_lagging(&mut self, measure: Measure) -> bool {
        self.change(|follower| (follower.is_lagging(measure)).then_some(Membership::Leaving))
    }

    /// Makes a follower into a joining one if it has all from `needed_end` back. Says whether it
    /// is.
    pub(crate) fn join_if_caught_up(
        &mut self,
        broker_id: BrokerId,
        needed_end: Offset,
        measure: Measure,
    ) -> bool {
        self.change(|follower| {
            let has_all = follower.replicated_end(measure.durability) >= Some(needed_end);
            let joins = follower.broker_id == broker_id && has_all;
            (joins && follower.may_join(measure.now)).then_some(Membership::Joining)
        })
    }

    /// The controller does not let those in who were to join: they are outside again, for a while.
    /// `may_take_effect`: an earlier attempt may still be carried out.
    pub(crate) fn refuse_joining(&mut self, may_take_effect: bool, now: Millis) {
        let outside = match may_take_effect {
            true => Membership::Withdrawn,
            false => Membership::Outside,
        };
        for follower in &mut self.0 {
            if follower.membership == Membership::Joining {
                follower.membership = outside;
                let until = now.saturating_add(INELIGIBLE_BACKOFF_MS);
                follower.is_refused_until = Some(until);
            }
        }
    }

    /// Nothing of what was proposed is or will be.
    pub(crate) fn revert(&mut self) {
        self.change(|follower| match follower.membership {
            Membership::Joining | Membership::Withdrawn => Some(Membership::Outside),
            Membership::Leaving => Some(Membership::Member),
            Membership::Outside | Membership::Member => None,
        });
    }

    /// The ISR to propose, the leader included, in ascending order.
    pub(crate) fn proposed_isr(&self, leader: BrokerId) -> Vec<IsrMember> {
        let stays = |follower: &&Follower| {
            matches!(
                follower.membership,
                Membership::Member | Membership::Joining
            )
        };
        let member = |broker_id, broker_epoch| IsrMember {
            broker_id,
            broker_epoch,
        };
        let others = self.0.iter().filter(stays);
        let mut isr: Vec<_> = others
            .map(|follower| member(follower.broker_id, follower.broker_epoch))
            .collect();
        // The request itself says the leader's own epoch.
        isr.push(member(leader, BrokerEpoch::NONE));
        isr.sort_unstable_by_key(|member| member.broker_id);
        isr
    }

    /// How many replicas there are, the leader included.
    pub(crate) fn replicas(&self) -> u32 {
        count(self.0.len())
    }

    /// How many replicas are in the ISR, the leader included.
    pub(crate) fn in_sync(&self) -> u32 {
        let is_in = |follower: &&Follower| {
            matches!(
                follower.membership,
                Membership::Member | Membership::Leaving
            )
        };
        count(self.0.iter().filter(is_in).count())
    }

    /// For each follower in the maximal ISR the end of what counts as replicated to it, if that is
    /// known; and of those that are about to join it.
    pub(crate) fn replicated_ends(&self, measure: Measure) -> impl Iterator<Item = Option<Offset>> {
        self.0
            .iter()
            .filter(move |follower| {
                #[cfg(feature = "mutations")]
                if mutation::has(Mutation::ProposedIsrCounts) {
                    let proposed = [Membership::Member, Membership::Joining];
                    return proposed.contains(&follower.membership);
                }
                follower.membership != Membership::Outside || follower.is_about_to_join(measure)
            })
            .map(move |follower| follower.replicated_end(measure.durability))
    }

    /// When a member will lag, unless it is heard before. It may come out early.
    pub(crate) fn next_lag(&self, measure: Measure) -> Option<Millis> {
        let members = self.0.iter().filter(|follower| {
            follower.membership == Membership::Member && !follower.is_at_end(measure)
        });
        let caught_up = members.map(|follower| follower.last_caught_up.unwrap_or(measure.now));
        caught_up.min().map(|at| after(at, measure.lag_time_max_ms))
    }

    /// When one will not be waited for any more that is about to join.
    pub(crate) fn next_join_wait_end(&self, measure: Measure) -> Option<Millis> {
        let waited = self
            .0
            .iter()
            .filter(|follower| follower.is_about_to_join(measure) && !follower.is_at_end(measure));
        let caught_up = waited.filter_map(|follower| follower.last_caught_up);
        caught_up.min().map(|at| after(at, JOIN_WAIT_MAX_MS))
    }

    /// Asserts the invariants of the list.
    pub(crate) fn check(&self) {
        assert!(
            self.0.is_sorted_by(|a, b| a.broker_id < b.broker_id),
            "{self:?}"
        );
    }

    /// Whether a proposal is open.
    pub(crate) fn is_changing(&self) -> bool {
        let settled = [Membership::Outside, Membership::Member];
        let is_settled = |follower: &Follower| settled.contains(&follower.membership);
        !self.0.iter().all(is_settled)
    }

    fn change(&mut self, to: impl Fn(&Follower) -> Option<Membership>) -> bool {
        let mut is_changed = false;
        for follower in &mut self.0 {
            if let Some(membership) = to(follower) {
                follower.membership = membership;
                is_changed = true;
            }
        }
        is_changed
    }

    fn find(&mut self, broker_id: BrokerId) -> Option<&mut Follower> {
        self.0
            .iter_mut()
            .find(|follower| follower.broker_id == broker_id)
    }
}

impl Follower {
    fn unknown(broker_id: BrokerId) -> Self {
        Self {
            broker_id,
            membership: Membership::Outside,
            broker_epoch: BrokerEpoch::NONE,
            log_end_offset: None,
            flushed_end_offset: None,
            last_caught_up: None,
            last_heard: None,
            last_fetched: None,
            is_eligible: false,
            is_refused_until: None,
        }
    }

    /// Another process fetches: what its disk kept is not known.
    fn restart(&mut self, broker_epoch: BrokerEpoch) {
        self.broker_epoch = broker_epoch;
        self.flushed_end_offset = None;
        self.last_heard = None;
        self.is_refused_until = None;
        if self.membership == Membership::Outside {
            self.last_caught_up = None;
        }
    }

    fn note_progress(&mut self, end: Offset, measure: Measure) {
        let Measure {
            now, leader_end, ..
        } = measure;
        let before = self.last_heard;
        let caught_up = if end >= leader_end {
            Some(now)
        } else {
            before
                .filter(|before| end >= before.leader_end)
                .map(|before| before.at)
        };
        self.last_caught_up = self.last_caught_up.max(caught_up);
        self.last_heard = Some(Heard {
            at: now,
            leader_end,
        });
    }

    fn replicated_end(&self, durability: Durability) -> Option<Offset> {
        match durability {
            Durability::Replicated => self.log_end_offset,
            Durability::Flushed => self.flushed_end_offset,
        }
    }

    fn is_at_end(&self, measure: Measure) -> bool {
        self.replicated_end(measure.durability) == Some(measure.leader_end)
    }

    fn is_lagging(&self, measure: Measure) -> bool {
        let is_late = |at: Millis| measure.now >= after(at, measure.lag_time_max_ms);
        self.membership == Membership::Member
            && !self.is_at_end(measure)
            && self.last_caught_up.is_none_or(is_late)
    }

    fn may_join(&self, now: Millis) -> bool {
        self.membership == Membership::Outside
            && self.broker_epoch != BrokerEpoch::NONE
            && self.is_refused_until.is_none_or(|until| now >= until)
    }

    fn is_about_to_join(&self, measure: Measure) -> bool {
        let is_recent = |at: Millis| measure.now < after(at, JOIN_WAIT_MAX_MS);
        self.may_join(measure.now)
            && self.last_caught_up.is_some_and(is_recent)
            && self.replicated_end(measure.durability).is_some()
    }
}

/// The first moment that is more than `span` later.
fn after(at: Millis, span: Millis) -> Millis {
    at.saturating_add(span).saturating_add(Millis(1))
}

/// Others than the leader, plus the leader.
fn count(others: usize) -> u32 {
    u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
}
