//! How nodes become a cluster: each finds out from the others what it belongs to.
//!
//! Input: what the peers say, in rounds; founding records that are offered; that a record is on the
//! disk. Output: questions, a record to flush, answers to offers, and what keeps the cluster from
//! forming.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | `Asking` | `RoundDue` | `Asking` | `Ask` every entry of the list |
//! | `Asking` | `Answered`, the last of the round: | | |
//! | | (a) one belongs to a cluster | `Persisting` | `Persist` that it is joined |
//! | | (b) one holds a record with my id | `Persisting` | `Persist` the record |
//! | | (c) all empty, same list, I am the smallest | `Persisting` | `Persist` a new record |
//! | | else | `Asking` | `Tell` the obstacles |
//! | `Asking` | `Offered`, with my id and my list | `Persisting` | `Persist` the record |
//! | `Asking` | `Offered`, else | `Asking` | `Refuse` |
//! | `Persisting` | `Persisted` | `Settled` | `Settled`, `Accept` if it was offered |
//! | `Settled` | `Offered`, what it holds | `Settled` | `Accept` |
//! | `Settled` | `Offered`, else | `Settled` | `Refuse` |
//! | `Asking` | `LeftOut`, and none of them answers | `Asking` | `Heed` |
//! | any | `LeftOut`, else | same | `Refuse` |
//!
//! `LeftOut` is the operator's word: the cluster is founded without peers that stay silent. They
//! are taken out of this node's list, and are asked all the same: one that answers is back in it.
//! So each founder must have been told, as lists that differ stop the founding.
//!
//! A node that joins another's cluster accepts no record either. What comes in another state is
//! stale, and ignored; while a record is being flushed the runtime lets nothing else in.
//!
//! Invariants:
//! - a node accepts one founding record in its life, and says so only when it is on the disk;
//! - it accepts none without its present Raft id, or with another list than its own;
//! - a new record names the nodes that answered in one and the same round, all of them without a
//!   record, all with the same list; whoever is left out was silent in that round.
//!
//! So two clusters from one list would need a node that accepted twice.
//!
//! Source: own design.

use std::collections::{BTreeMap, BTreeSet};

use skein_types::ClusterId;

use crate::identity::Founding;
use crate::wire::Standing;

mod status;

pub use status::{FormationStatus, Obstacle};

/// What a node knows of itself before it belongs to anything.
#[derive(Clone, Debug)]
pub(crate) struct Myself {
    /// Drawn when the process started.
    pub(crate) nonce: [u8; 16],
    /// On the disk.
    pub(crate) raft_id: u64,
    /// Sorted, without doubles.
    pub(crate) list: Vec<String>,
    /// The id of the cluster that it founds if it has to.
    pub(crate) new_cluster_id: ClusterId,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// It is time to ask.
    RoundDue,
    /// An entry of the list has answered, or has not: why. Each does once in a round.
    Answered {
        round: u64,
        entry: usize,
        answer: Result<Standing, String>,
    },
    /// Another node offers a founding record.
    Offered(Founding),
    /// What was to be flushed is.
    Persisted,
    /// The operator wants the cluster founded without these entries of the list.
    LeftOut(Vec<String>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the entry who it is.
    Ask { round: u64, entry: usize },
    /// Flush this into the identity, then say `Persisted`.
    Persist(Founding),
    /// Tell who offered that the record is on the disk.
    Accept,
    /// Tell who offered that it is not, or the operator that his word is not heeded, and why.
    Refuse(String),
    /// Tell the operator that his word is heeded.
    Heed,
    /// Tell the operator what keeps the cluster from forming.
    Tell(Vec<Obstacle>),
    /// The node knows what it belongs to.
    Settled(Founding),
}

/// See the module.
pub(crate) struct Formation {
    myself: Myself,
    state: State,
    round: u64,
    /// The answers of this round, by entry.
    answers: BTreeMap<usize, Result<Standing, String>>,
    /// Entries that the operator wants left out, and that have been silent since.
    left_out: BTreeSet<String>,
}

enum State {
    Asking,
    Persisting {
        founding: Founding,
        is_offered: bool,
    },
    Settled(Founding),
}

/// What the answers of a round come to.
enum Verdict {
    Take(Founding),
    Wait(Vec<Obstacle>),
}

impl Formation {
    pub(crate) fn new(myself: Myself) -> Self {
        Self {
            myself,
            state: State::Asking,
            round: 0,
            answers: BTreeMap::new(),
            left_out: BTreeSet::new(),
        }
    }

    /// What the node says to who asks: only what is on the disk.
    pub(crate) fn standing(&self) -> Standing {
        let founding = match &self.state {
            State::Settled(founding) => Some(founding.clone()),
            State::Asking | State::Persisting { .. } => None,
        };
        Standing {
            nonce: self.myself.nonce,
            raft_id: self.myself.raft_id,
            list: self.list(),
            founding,
            is_member: false,
        }
    }

    pub(crate) fn step(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::RoundDue => self.begin_round(effects),
            Event::Answered {
                round,
                entry,
                answer,
            } => self.take_answer(round, entry, answer, effects),
            Event::Offered(founding) => self.take_offer(founding, effects),
            Event::Persisted => self.settle(effects),
            Event::LeftOut(peers) => effects.push(self.leave_out(peers)),
        }
        self.check();
    }

    fn begin_round(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Asking) {
            return;
        }
        self.round += 1;
        self.answers.clear();
        let round = self.round;
        effects.extend((0..self.myself.list.len()).map(|entry| Effect::Ask { round, entry }));
    }

    fn take_answer(
        &mut self,
        round: u64,
        entry: usize,
        answer: Result<Standing, String>,
        effects: &mut Vec<Effect>,
    ) {
        let is_asking = matches!(self.state, State::Asking);
        if !is_asking || round != self.round || entry >= self.myself.list.len() {
            return;
        }
        if answer.is_ok() {
            self.left_out.remove(&self.myself.list[entry]);
        }
        self.answers.insert(entry, answer);
        if self.answers.len() < self.myself.list.len() {
            return;
        }
        match self.verdict() {
            Verdict::Take(founding) => self.persist(founding, false, effects),
            Verdict::Wait(obstacles) => effects.push(Effect::Tell(obstacles)),
        }
    }

    fn take_offer(&mut self, founding: Founding, effects: &mut Vec<Effect>) {
        let refusal = match &self.state {
            State::Settled(held) if *held == founding => {
                effects.push(Effect::Accept);
                return;
            }
            State::Settled(held) => Some(format!("it belongs to {}", held.cluster_id)),
            State::Persisting { .. } => Some("it is accepting another record".into()),
            State::Asking => self.unfit(&founding),
        };
        match refusal {
            Some(reason) => effects.push(Effect::Refuse(reason)),
            None => self.persist(founding, true, effects),
        }
    }

    fn leave_out(&mut self, peers: Vec<String>) -> Effect {
        match &self.state {
            State::Asking => {}
            State::Persisting { .. } => return Effect::Refuse("it is accepting a record".into()),
            State::Settled(held) => {
                return Effect::Refuse(format!("it belongs to {}", held.cluster_id));
            }
        }
        for peer in &peers {
            let Some(entry) = self.myself.list.iter().position(|listed| listed == peer) else {
                let list = self.myself.list.join(",");
                return Effect::Refuse(format!("{peer} is not in its cluster.peers={list}"));
            };
            if self.own_entry() == Some(peer) {
                return Effect::Refuse(format!("{peer} is this node itself"));
            }
            if matches!(self.answers.get(&entry), Some(Ok(_))) {
                return Effect::Refuse(format!("peer {peer} answers: stop it first"));
            }
        }
        self.left_out.extend(peers);
        Effect::Heed
    }

    /// The list without those that are left out.
    fn list(&self) -> Vec<String> {
        let list = self.myself.list.iter();
        let stays = |entry: &&String| !self.left_out.contains(*entry);
        list.filter(stays).cloned().collect()
    }

    fn persist(&mut self, founding: Founding, is_offered: bool, effects: &mut Vec<Effect>) {
        effects.push(Effect::Persist(founding.clone()));
        self.state = State::Persisting {
            founding,
            is_offered,
        };
    }

    fn settle(&mut self, effects: &mut Vec<Effect>) {
        let State::Persisting {
            founding,
            is_offered,
        } = &self.state
        else {
            return;
        };
        if *is_offered {
            effects.push(Effect::Accept);
        }
        effects.push(Effect::Settled(founding.clone()));
        self.state = State::Settled(founding.clone());
    }

    /// Why this node cannot accept a record; `None` if it can.
    fn unfit(&self, founding: &Founding) -> Option<String> {
        let (raft_id, list) = (self.myself.raft_id, self.list());
        if !founding.is_record() {
            return Some("it names no members".into());
        }
        if founding.address_of(raft_id).is_none() {
            return Some(format!(
                "it does not name this node's Raft id {raft_id:016x}"
            ));
        }
        let theirs: Vec<&String> = founding
            .members
            .iter()
            .map(|(_, address)| address)
            .collect();
        if !theirs.iter().copied().eq(&list) {
            return Some(format!("its list is {theirs:?}, this node's is {list:?}"));
        }
        None
    }

    /// The address at which this node met itself in this round.
    fn own_entry(&self) -> Option<&str> {
        let is_own = |standing: &Standing| standing.nonce == self.myself.nonce;
        let (own, _) = self.standings().find(|(_, standing)| is_own(standing))?;
        Some(own)
    }

    /// Who has answered in this round, with the addresses.
    fn standings(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.answers.iter().filter_map(|(entry, answer)| {
            let address = self.myself.list.get(*entry)?;
            Some((address.as_str(), answer.as_ref().ok()?))
        })
    }

    fn verdict(&self) -> Verdict {
        let mut obstacles = self.strange_answers();
        if !obstacles.is_empty() {
            return Verdict::Wait(obstacles);
        }
        let record = self.record_with_own_id();
        if let Some(cluster_id) = self.cluster_of_a_member() {
            // Its founders may have kept a seat for this node.
            let kept = record.filter(|record| record.cluster_id == cluster_id);
            return Verdict::Take(kept.unwrap_or_else(|| Founding::joined(cluster_id)));
        }
        if let Some(record) = record {
            return Verdict::Take(record);
        }
        obstacles.extend(self.why_not_founded());
        let list = self.list();
        let smallest = list.first();
        if obstacles.is_empty() && self.own_entry() == smallest.map(String::as_str) {
            return Verdict::Take(self.new_record());
        }
        if obstacles.is_empty() {
            obstacles.extend(smallest.map(|peer| Obstacle::Awaited { peer: peer.clone() }));
        }
        Verdict::Wait(obstacles)
    }

    /// What stops a node whatever else the others say.
    fn strange_answers(&self) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        let mut seen: BTreeMap<u64, (&str, [u8; 16])> = BTreeMap::new();
        let mut cluster: Option<(&str, ClusterId)> = None;
        for (address, standing) in self.standings() {
            let peer = address.to_owned();
            if let Some((other, nonce)) = seen.insert(standing.raft_id, (address, standing.nonce)) {
                let other = other.to_owned();
                obstacles.push(match nonce == standing.nonce {
                    true => Obstacle::SameNode { peer, other },
                    false => Obstacle::SameIdentity { peer, other },
                });
                continue;
            }
            // Who holds a record that never came to anything stops nobody.
            let member = standing.founding.as_ref().filter(|_| standing.is_member);
            let Some(theirs) = member.map(|founding| founding.cluster_id) else {
                continue;
            };
            match cluster {
                Some((other, id)) if id != theirs => obstacles.push(Obstacle::TwoClusters {
                    peer,
                    cluster_id: theirs,
                    other: other.to_owned(),
                    other_cluster_id: id,
                }),
                _ => cluster = Some((address, theirs)),
            }
        }
        if self.own_entry().is_none() {
            obstacles.push(Obstacle::NotListed {
                list: self.myself.list.clone(),
            });
            obstacles.extend(self.silent());
        }
        obstacles
    }

    fn record_with_own_id(&self) -> Option<Founding> {
        let mut held = self
            .standings()
            .filter_map(|(_, standing)| standing.founding.as_ref());
        held.find(|founding| self.unfit(founding).is_none())
            .cloned()
    }

    fn cluster_of_a_member(&self) -> Option<ClusterId> {
        let mut members = self.standings().filter(|(_, standing)| standing.is_member);
        members.find_map(|(_, standing)| Some(standing.founding.as_ref()?.cluster_id))
    }

    /// What is missing for a new record.
    fn why_not_founded(&self) -> Vec<Obstacle> {
        let ours = self.list();
        let mut obstacles: Vec<_> = self.silent().collect();
        for (address, standing) in self.standings() {
            let peer = address.to_owned();
            if let Some(founding) = &standing.founding {
                let cluster_id = founding.cluster_id;
                obstacles.push(Obstacle::HoldsRecord { peer, cluster_id });
            } else if standing.list != ours {
                obstacles.push(Obstacle::ListDiffers {
                    peer,
                    theirs: standing.list.clone(),
                    ours: ours.clone(),
                });
            }
        }
        obstacles
    }

    fn silent(&self) -> impl Iterator<Item = Obstacle> {
        self.answers.iter().filter_map(|(entry, answer)| {
            let peer = self.myself.list.get(*entry)?.clone();
            if self.left_out.contains(&peer) {
                return None;
            }
            let reason = answer.as_ref().err()?.clone();
            Some(Obstacle::Silent { peer, reason })
        })
    }

    /// The record of all who have answered.
    fn new_record(&self) -> Founding {
        let members = self.standings();
        let members = members.map(|(address, standing)| (standing.raft_id, address.to_owned()));
        Founding {
            cluster_id: self.myself.new_cluster_id,
            members: members.collect(),
        }
    }

    fn check(&self) {
        if let State::Persisting { founding, .. } | State::Settled(founding) = &self.state {
            assert!(
                !founding.is_record() || self.unfit(founding).is_none(),
                "a record is held that does not fit: {founding:?}"
            );
        }
        assert!(
            self.answers.len() <= self.myself.list.len(),
            "answers of nobody"
        );
    }
}

#[cfg(test)]
mod tests;
