//! A group of the classic protocol: who its members are, and in which state it is.
//!
//! Input: requests of members, and deadlines. Output: answers to them, and a record each time that
//! a generation begins to work, or nobody is left.
//!
//! ```text
//!  state                event                                         next state
//!  (no group)           a member joins                                Empty, then as there
//!  Empty                a member joins                                PreparingRebalance (initial)
//!                       deleted, or its last offset expired           (no group)
//!  PreparingRebalance   everybody has joined; or time is up, and who
//!                       has not joined is out, but static members     CompletingRebalance, or
//!                       stay                                          Empty, generation + 1
//!                       only static members are left, none joined     the same, for longer
//!  CompletingRebalance  the leader brings the assignment              Stable
//!                       a member joins with other metadata, a new
//!                       one joins, one leaves, dies or does not sync  PreparingRebalance
//!  Stable               as above; or the leader joins                 PreparingRebalance
//! ```
//!
//! The initial PreparingRebalance, out of Empty, does not end when everybody has joined, but after
//! `group.initial.rebalance.delay.ms`, which each new member extends up to the rebalance timeout.
//! What Kafka calls Dead is a group that is not there.
//!
//! Invariants, checked in [`Group::check`] at the end of each step and in [`Group::check_members`]
//! in tests:
//! - there are members exactly if the state is neither Empty nor PreparingRebalance; the leader is
//!   one of them, if there are any;
//! - who waits to join, the group prepares; who waits to sync, it completes;
//! - an instance id belongs to one member.
//!
//! Source: `ClassicGroup` and `GroupMetadataManager` of Kafka 4.1.1; KIP-62 (rebalance timeout),
//! KIP-134 (initial delay), KIP-345 (static members), KIP-394 (member id required).

mod describe;
mod heartbeat;
mod join;
mod leave;
mod member;
mod rebalance;
mod record;
mod retention;
mod static_join;
mod subscription;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use skein_protocol::Str;
use skein_protocol::messages::join_group::JoinGroupRequestProtocol;
#[cfg(feature = "mutations")]
use skein_types::transitions;
use skein_types::{ErrorCode, Millis, Now, Ticket};

pub(crate) use describe::not_found;
pub(crate) use join::Joining;
pub(crate) use leave::Leaver;
pub use record::GroupDamage;
pub(crate) use retention::ExpiryBase;

use self::member::Member;
use self::rebalance::InitialDelay;
use crate::offsets::GroupOffsets;
use crate::request::{join_error, sync_error};
use crate::timers::{Timer, TimerKey};
use crate::turn::Turn;

/// Protocol type of consumers, whose subscriptions can be read.
const CONSUMER: &str = "consumer";

/// Where a group is in its rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Group {
    id: Str,
    state: State,
    /// When it came into its state, in ms since 1970; not known of groups that only have offsets.
    state_timestamp: Option<Millis>,
    generation_id: i32,
    /// Stays when the last member goes. A group without is one that only commits.
    protocol_type: Option<Str>,
    /// The one that all members of the generation speak.
    protocol_name: Option<Str>,
    leader: Option<Str>,
    members: BTreeMap<Str, Member>,
    /// Member ids by instance id.
    static_members: BTreeMap<Str, Str>,
    /// Those who were given a member id and have not come back with it yet.
    pending_members: BTreeMap<Str, Timer>,
    /// Those of this generation who have not synced yet.
    pending_sync: BTreeSet<Str>,
    /// How many members speak a protocol.
    protocol_counts: BTreeMap<Str, usize>,
    awaiting_join: usize,
    /// Set in the initial PreparingRebalance.
    initial_delay: Option<InitialDelay>,
    join_timer: Timer,
    sync_timer: Timer,
    /// Of the generation; `None` if that is not known.
    subscribed_topics: Option<BTreeSet<Str>>,
    pub(crate) offsets: GroupOffsets,
}

impl State {
    /// Kafka's name of it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl Group {
    /// A group without members and offsets.
    pub(crate) fn new(id: &str, state_timestamp: Option<Millis>) -> Self {
        Self {
            id: Str::from(id),
            state: State::Empty,
            state_timestamp,
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            protocol_counts: BTreeMap::new(),
            awaiting_join: 0,
            initial_delay: None,
            join_timer: Timer::default(),
            sync_timer: Timer::default(),
            subscribed_topics: None,
            offsets: GroupOffsets::default(),
        }
    }

    pub(crate) fn id(&self) -> &Str {
        &self.id
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether somebody is about to be a member.
    pub(crate) fn has_pending_members(&self) -> bool {
        !self.pending_members.is_empty()
    }

    /// An entry of one of the group's timers has come up.
    pub(crate) fn timer_came_up(&mut self, entry: (Millis, TimerKey), turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        match &entry.1 {
            TimerKey::Join(_) => {
                if self.join_timer.comes_up(entry, now, turn.timers) {
                    self.join_timed_out(turn);
                }
            }
            TimerKey::Sync(_) => {
                if self.sync_timer.comes_up(entry, now, turn.timers) {
                    self.sync_timed_out(turn);
                }
            }
            TimerKey::Session(..) => self.session_came_up(entry, turn),
            TimerKey::Expiry => {}
        }
    }

    /// Every request that the group holds.
    pub(crate) fn held_requests(&self) -> impl Iterator<Item = (&Str, &Member)> {
        self.members
            .iter()
            .filter(|(_, member)| member.awaiting_join.or(member.awaiting_sync).is_some())
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether a member of this type that speaks these protocols can be one.
    fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| {
                let count = self.protocol_counts.get(protocol.name.as_str());
                count.copied().unwrap_or(0) == self.members.len()
            })
    }

    /// Whether `member_id` is a member, and the one that has this instance id.
    fn validate_member(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    fn add_member(&mut self, member_id: &Str, member: Member, protocol_type: &str) {
        if let Some(instance_id) = &member.group_instance_id {
            let former = self
                .static_members
                .insert(instance_id.clone(), member_id.clone());
            assert!(former.is_none(), "an instance id that another member has");
        }
        if self.members.is_empty() {
            self.protocol_type = Some(Str::from(protocol_type));
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        self.count_protocols(&member);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.members.insert(member_id.clone(), member);
    }

    /// Removes a member or a pending one; what it waits for is answered with UNKNOWN_MEMBER_ID, so
    /// that it joins anew if it is still there.
    fn remove_member(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        let session = || TimerKey::Session(self.id.clone(), Str::from(member_id));
        if let Some(mut timer) = self.pending_members.remove(member_id) {
            timer.cancel(turn.timers, session);
        }
        self.pending_sync.remove(member_id);
        let Some(mut member) = self.members.remove(member_id) else {
            return;
        };
        member.session.cancel(turn.timers, session);
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.remove(instance_id);
        }
        self.uncount_protocols(&member);
        if let Some(ticket) = member.awaiting_join {
            self.awaiting_join -= 1;
            turn.answer(
                ticket,
                join_error(Str::default(), ErrorCode::UnknownMemberId),
            );
        }
        if let Some(ticket) = member.awaiting_sync {
            turn.answer(ticket, sync_error(ErrorCode::UnknownMemberId));
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Parks a member's JoinGroup. One that it sent before came over a connection that it has given
    /// up; it is answered all the same, as to somebody who should try again.
    fn park_join(&mut self, member_id: &str, ticket: Ticket, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get_mut(member_id) {
            match member.awaiting_join.replace(ticket) {
                None => self.awaiting_join += 1,
                Some(former) => turn.answer(
                    former,
                    join_error(Str::from(member_id), ErrorCode::RebalanceInProgress),
                ),
            }
        }
    }

    /// Begins a new session of a member.
    fn renew_session(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline = turn.after(member.session_timeout_ms);
            member.session.set(deadline, turn.timers, || {
                TimerKey::Session(self.id.clone(), Str::from(member_id))
            });
        }
    }

    fn enter(&mut self, state: State, now: Now) {
        #[cfg(feature = "mutations")]
        transitions::made(|| format!("group {:?} -> {state:?}", self.state));
        self.state = state;
        self.state_timestamp = Some(now.time_of_day);
    }

    fn count_protocols(&mut self, member: &Member) {
        for (name, _) in &member.protocols {
            *self.protocol_counts.entry(name.clone()).or_default() += 1;
        }
    }

    fn uncount_protocols(&mut self, member: &Member) {
        for (name, _) in &member.protocols {
            if let Some(count) = self.protocol_counts.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.protocol_counts.remove(name);
                }
            }
        }
    }

    /// What can be checked without looking at every member.
    pub(crate) fn check(&self) {
        match self.state {
            State::Empty => assert!(self.members.is_empty()),
            State::PreparingRebalance => assert!(self.awaiting_join <= self.members.len()),
            State::CompletingRebalance | State::Stable => {
                assert!(!self.members.is_empty() && self.awaiting_join == 0);
                assert!(self.protocol_name.is_some());
            }
        }
        match &self.leader {
            Some(leader) => assert!(self.members.contains_key(leader)),
            None => assert!(self.members.is_empty()),
        }
    }

    #[cfg(test)]
    pub(crate) fn generation_for_tests(&self) -> i32 {
        self.generation_id
    }

    #[cfg(test)]
    pub(crate) fn state_for_tests(&self) -> &'static str {
        self.state.name()
    }

    #[cfg(test)]
    pub(crate) fn elect_protocol_for_tests(&self) -> String {
        self.elect_protocol().unwrap_or_default().to_string()
    }

    /// What takes a look at every member.
    #[cfg(test)]
    pub(crate) fn check_members(&self) {
        self.check();
        let waits = |member: &&Member| member.awaiting_join.is_some();
        assert_eq!(
            self.members.values().filter(waits).count(),
            self.awaiting_join
        );
        assert!(self.awaiting_join == 0 || self.state == State::PreparingRebalance);
        let mut instances = 0;
        let mut counts: BTreeMap<Str, usize> = BTreeMap::new();
        for (id, member) in &self.members {
            assert!(!self.pending_members.contains_key(id));
            assert!(member.awaiting_sync.is_none() || self.state == State::CompletingRebalance);
            if let Some(instance) = &member.group_instance_id {
                assert_eq!(self.static_members.get(instance), Some(id));
                instances += 1;
            }
            for (name, _) in &member.protocols {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
        assert_eq!(
            (self.static_members.len(), &self.protocol_counts),
            (instances, &counts)
        );
        assert!(
            self.pending_sync
                .iter()
                .all(|id| self.members.contains_key(id))
        );
    }
}
