//! A member of a group.
//!
//! Input: what it said when it joined. Output: its vote for a protocol, and what it says in one.
//!
//! Invariant, held by [`protocols_of`]: it names each protocol once.

use std::collections::BTreeSet;

use bytes::Bytes;
use skein_protocol::Str;
use skein_protocol::messages::join_group::JoinGroupRequestProtocol;
use skein_types::Ticket;

use crate::timers::Timer;

/// A member, without its id.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(super) group_instance_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// What it says in each protocol that it speaks, the one it likes best first.
    pub(super) protocols: Vec<(Str, Bytes)>,
    pub(super) assignment: Bytes,
    pub(crate) awaiting_join: Option<Ticket>,
    pub(crate) awaiting_sync: Option<Ticket>,
    /// It has not been told its id yet, so that it cannot send heartbeats.
    pub(super) is_new: bool,
    pub(super) session: Timer,
}

/// What a member says of itself each time that it joins.
pub(super) struct Terms {
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    protocols: Vec<(Str, Bytes)>,
}

impl Member {
    pub(super) fn terms(&self) -> Terms {
        Terms {
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols: self.protocols.clone(),
        }
    }

    pub(super) fn set_terms(&mut self, terms: Terms) {
        self.rebalance_timeout_ms = terms.rebalance_timeout_ms;
        self.session_timeout_ms = terms.session_timeout_ms;
        self.protocols = terms.protocols;
    }

    pub(super) fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    /// What it says in a protocol; nothing in one that it does not speak.
    pub(super) fn metadata(&self, protocol_name: Option<&Str>) -> Bytes {
        let mut protocols = self.protocols.iter();
        let found = protocols.find(|(name, _)| Some(name) == protocol_name);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// The first of its protocols that is a candidate.
    pub(super) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&Str> {
        let mut names = self.protocols.iter().map(|(name, _)| name);
        names.find(|name| is_candidate(name))
    }

    /// Whether it would say the same again.
    pub(super) fn matches(&self, protocols: &[JoinGroupRequestProtocol]) -> bool {
        let known = self.protocols.iter();
        let known = known.map(|(name, metadata)| (name, metadata));
        let now = first_of_each_name(protocols);
        known.eq(now.map(|protocol| (&protocol.name, &protocol.metadata)))
    }

    /// Whether it cannot be expected to send heartbeats: it waits for an answer. A new member must
    /// not wait for ever, because nobody knows whether it is still there.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && self.awaiting_join.or(self.awaiting_sync).is_some()
    }
}

/// What a request says of protocols, in memory of its own.
pub(super) fn protocols_of(protocols: &[JoinGroupRequestProtocol]) -> Vec<(Str, Bytes)> {
    let first = first_of_each_name(protocols).map(|protocol| {
        let metadata = Bytes::copy_from_slice(&protocol.metadata);
        (protocol.name.detached(), metadata)
    });
    first.collect()
}

fn first_of_each_name(
    protocols: &[JoinGroupRequestProtocol],
) -> impl Iterator<Item = &JoinGroupRequestProtocol> {
    let mut names = BTreeSet::new();
    protocols
        .iter()
        .filter(move |protocol| names.insert(protocol.name.as_str()))
}
