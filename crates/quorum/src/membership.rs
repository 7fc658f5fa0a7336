//! Who votes: the controller lets nodes in, and gives them a vote.
//!
//! ```text
//!  a node asks ─► it is the one who answers there? ─► learner ─► caught up ─► voter
//!                                                        └─ in the place of the dead voter that
//!                                                           had its address, or while there are
//!                                                           fewer than five voters
//! ```
//!
//! Input: nodes that ask, what Raft says of its members. Output: changes of the membership.
//!
//! Invariants:
//! - one change at a time, each on a membership that is committed;
//! - an address has one living member: a node that answers there with another Raft id is another
//!   member, and the former one is dead, since its identity is gone;
//! - who gets a vote has all entries, answers at its address, and has marked its identity: it
//!   would notice the loss of a vote that it gave;
//! - the number of voters grows to an odd one;
//! - whom the image calls forgotten has no seat, and gets none.
//!
//! Source: Ongaro's thesis, chapter 4; openraft's joint changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::mpsc;

use crate::QuorumError;
use crate::answers::Joining;
use crate::forming::who_is;
use crate::node::{RaftHandle, VOTERS_MAX};
use crate::state_machine::Published;
use crate::transport::PeerTransport;
use crate::types::PeerNode;
use crate::wire::{Admission, JoinRequest, MEMBERS_MAX};

/// How often the controller looks for learners that could vote.
const PROMOTION_INTERVAL: Duration = Duration::from_millis(500);
/// How long a change may take: a majority has to agree.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(8);
/// Entries that a learner may be behind and count as caught up.
const LAG_MAX: u64 = 100;

/// See the module.
pub(crate) struct Membership {
    pub(crate) raft: RaftHandle,
    pub(crate) raft_id: u64,
    /// Where this node is reached, if it founded a cluster of its own.
    pub(crate) address: String,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) published: Published,
    pub(crate) joining: mpsc::Receiver<Joining>,
}

/// The members as the controller sees them.
#[derive(Clone, Debug, Default)]
struct View {
    voters: BTreeSet<u64>,
    nodes: BTreeMap<u64, PeerNode>,
    /// Learners that have nearly all entries.
    caught_up: BTreeSet<u64>,
    /// Members that were taken out for good.
    forgotten: BTreeSet<u64>,
    /// Whether the last change is through.
    is_settled: bool,
}

/// A change of the voters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    promoted: BTreeSet<u64>,
    /// Dead voters, whose seats they take.
    replaced: BTreeSet<u64>,
}

impl Membership {
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                joining = self.joining.recv() => {
                    let Some(Joining { request, answer }) = joining else {
                        return;
                    };
                    // Who asked may have gone.
                    let _ = answer.send(self.admit(request).await);
                }
                () = tokio::time::sleep(PROMOTION_INTERVAL) => self.promote().await,
            }
        }
    }

    /// Lets a node in as a learner.
    async fn admit(&self, request: JoinRequest) -> Admission {
        if !self.raft.is_leader() {
            return Admission::Elsewhere(self.controller_address());
        }
        let JoinRequest {
            raft_id, address, ..
        } = request;
        let view = self.view();
        if view.forgotten.contains(&raft_id) || self.published.image().is_forgotten(raft_id) {
            return Admission::Refused(QuorumError::Forgotten.to_string());
        }
        if view.nodes.contains_key(&raft_id) {
            return Admission::Seated;
        }
        if view.nodes.len() >= MEMBERS_MAX {
            return Admission::Refused(format!("the cluster has {MEMBERS_MAX} members"));
        }
        match who_is(&*self.transport, &address).await {
            Ok(standing) if standing.raft_id == raft_id => {}
            Ok(standing) => {
                let other = standing.raft_id;
                return Admission::Refused(format!("member {other:016x} answers at {address}"));
            }
            Err(reason) => return Admission::Refused(format!("{address} from here: {reason}")),
        }
        let changes = admission(&view, raft_id, address, self.raft_id, &self.address);
        match self.change(changes).await {
            Ok(()) => Admission::Seated,
            Err(reason) => Admission::Refused(reason),
        }
    }

    fn controller_address(&self) -> String {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let controller = metrics.current_leader.filter(|id| *id != self.raft_id);
        let node = controller.and_then(|id| metrics.membership_config.get_node(&id).cloned());
        node.unwrap_or_default().address
    }

    /// Gives learners a vote, if there is a seat for them.
    async fn promote(&self) {
        if !self.raft.is_leader() {
            return;
        }
        let view = self.view();
        if let Some(changes) = removal(&view) {
            tracing::info!(forgotten = ?view.forgotten, "taking forgotten members out");
            if let Err(reason) = self.change(changes).await {
                tracing::warn!(reason, "forgotten members keep their seats for now");
            }
            return;
        }
        let Some(Plan { promoted, replaced }) = plan(&view) else {
            return;
        };
        for raft_id in &promoted {
            let node = view.nodes.get(raft_id).cloned().unwrap_or_default();
            match who_is(&*self.transport, &node.address).await {
                Ok(standing) if standing.raft_id == *raft_id && standing.is_member => {}
                _ => return, // Not yet, or not any more; the next round looks again.
            }
        }
        tracing::info!(?promoted, ?replaced, "changing the voters");
        let changes = vec![
            ChangeMembers::AddVoterIds(promoted),
            ChangeMembers::RemoveVoters(replaced),
        ];
        if let Err(reason) = self.change(changes).await {
            tracing::warn!(reason, "the voters stay as they are");
        }
    }

    async fn change(&self, changes: Vec<ChangeMembers<u64, PeerNode>>) -> Result<(), String> {
        // Voters that lose their seats are dead: they stay no learners.
        let change = self
            .raft
            .change_membership(ChangeMembers::Batch(changes), false);
        match tokio::time::timeout(CHANGE_TIMEOUT, change).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no majority has agreed yet".into()),
        }
    }

    fn view(&self) -> View {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or_default();
        let replication = metrics.replication.iter().flatten();
        let caught_up = replication.filter_map(|(id, matched)| {
            let matched = matched.as_ref()?.index;
            (matched + LAG_MAX >= last).then_some(*id)
        });
        let image = self.published.image();
        let members = membership.nodes().map(|(id, _)| *id);
        View {
            forgotten: members.filter(|id| image.is_forgotten(*id)).collect(),
            voters: membership.voter_ids().collect(),
            nodes: membership
                .nodes()
                .map(|(id, node)| (*id, node.clone()))
                .collect(),
            caught_up: caught_up.collect(),
            is_settled: membership.get_joint_config().len() == 1
                && metrics.membership_config.log_id()
                    == metrics.committed_membership_config.log_id(),
        }
    }
}

/// The changes that let a node in. Learners that were at its address are dead; a founder of a
/// cluster of its own tells where it is reached, when the first other one comes.
fn admission(
    view: &View,
    raft_id: u64,
    address: String,
    own_raft_id: u64,
    own_address: &str,
) -> Vec<ChangeMembers<u64, PeerNode>> {
    let learners = view
        .nodes
        .iter()
        .filter(|(id, _)| !view.voters.contains(id));
    let dead = learners.filter(|(_, node)| node.address == address);
    let dead: BTreeSet<u64> = dead.map(|(id, _)| *id).collect();
    let mut changes = vec![
        ChangeMembers::RemoveNodes(dead),
        ChangeMembers::AddNodes(BTreeMap::from([(raft_id, PeerNode { address })])),
    ];
    let own = view.nodes.get(&own_raft_id);
    if own.is_some_and(|own| own.address.is_empty()) && !own_address.is_empty() {
        let own = PeerNode {
            address: own_address.to_owned(),
        };
        changes.push(ChangeMembers::SetNodes(BTreeMap::from([(
            own_raft_id,
            own,
        )])));
    }
    changes
}

/// The changes that take forgotten members out, if some still have seats.
fn removal(view: &View) -> Option<Vec<ChangeMembers<u64, PeerNode>>> {
    if !view.is_settled || view.forgotten.is_empty() {
        return None;
    }
    let (voters, learners): (BTreeSet<u64>, BTreeSet<u64>) =
        (view.forgotten.iter()).partition(|id| view.voters.contains(id));
    // A cluster without voters is none: who leads it is alive, and nobody forgets the living.
    (voters != view.voters).then(|| {
        vec![
            ChangeMembers::RemoveVoters(voters),
            ChangeMembers::RemoveNodes(learners),
        ]
    })
}

/// The next change of the voters, if there is one to make.
fn plan(view: &View) -> Option<Plan> {
    if !view.is_settled {
        return None;
    }
    let learners = view.caught_up.iter().filter(|id| !view.voters.contains(id));
    let mut waiting = Vec::new();
    for learner in learners {
        let Some(node) = view.nodes.get(learner) else {
            continue;
        };
        let is_former = |id: &&u64| {
            view.nodes
                .get(id)
                .is_some_and(|n| n.address == node.address)
        };
        if let Some(former) = view.voters.iter().find(is_former) {
            return Some(Plan {
                promoted: BTreeSet::from([*learner]),
                replaced: BTreeSet::from([*former]),
            });
        }
        waiting.push((&node.address, *learner));
    }
    // The same ones on every controller.
    waiting.sort_unstable();
    let voters = view.voters.len();
    let total = VOTERS_MAX.min(voters + waiting.len());
    let odd = if total % 2 == 1 { total } else { total - 1 };
    let missing = odd.checked_sub(voters).filter(|missing| *missing > 0)?;
    let promoted = waiting.into_iter().take(missing).map(|(_, id)| id);
    Some(Plan {
        promoted: promoted.collect(),
        replaced: BTreeSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(voters: &[u64], learners: &[u64]) -> View {
        let node = |id: &u64| PeerNode {
            address: format!("n{id}:1"),
        };
        View {
            voters: voters.iter().copied().collect(),
            nodes: voters
                .iter()
                .chain(learners)
                .map(|id| (*id, node(id)))
                .collect(),
            caught_up: learners.iter().copied().collect(),
            forgotten: BTreeSet::new(),
            is_settled: true,
        }
    }

    #[track_caller]
    fn check(view: &View, promoted: &[u64], replaced: &[u64]) {
        let expected = (!promoted.is_empty()).then(|| Plan {
            promoted: promoted.iter().copied().collect(),
            replaced: replaced.iter().copied().collect(),
        });
        assert_eq!(plan(view), expected);
    }

    #[test]
    fn the_number_of_voters_grows_to_an_odd_one_and_to_five() {
        check(&view(&[1], &[]), &[], &[]);
        check(&view(&[1], &[2]), &[], &[]);
        check(&view(&[1], &[2, 3]), &[2, 3], &[]);
        check(&view(&[1, 2], &[3]), &[3], &[]);
        check(&view(&[1, 2, 3], &[4]), &[], &[]);
        check(&view(&[1, 2, 3], &[6, 5, 4]), &[4, 5], &[]);
        check(&view(&[1, 2, 3, 4], &[5]), &[5], &[]);
        check(&view(&[1, 2, 3, 4, 5], &[6, 7]), &[], &[]);
    }

    #[test]
    fn a_node_takes_the_seat_of_the_dead_voter_at_its_address() {
        let mut view = view(&[1, 2, 3, 4, 5], &[6]);
        view.nodes.get_mut(&6).unwrap().address = "n3:1".into();
        check(&view, &[6], &[3]);
    }

    #[test]
    fn who_is_behind_gets_no_vote_and_nobody_does_during_a_change() {
        let mut behind = view(&[1], &[2, 3]);
        behind.caught_up.remove(&3);
        check(&behind, &[], &[]);
        let mut changing = view(&[1], &[2, 3]);
        changing.is_settled = false;
        check(&changing, &[], &[]);
    }

    #[test]
    fn forgotten_members_lose_their_seats_when_no_other_change_is_under_way() {
        let mut view = view(&[1, 2, 3], &[4, 5]);
        assert!(removal(&view).is_none());
        view.forgotten = [3, 5].into();
        let changes = removal(&view).unwrap();
        let [
            ChangeMembers::RemoveVoters(voters),
            ChangeMembers::RemoveNodes(learners),
        ] = &changes[..]
        else {
            panic!("{changes:?}");
        };
        assert_eq!((voters, learners), (&[3].into(), &[5].into()));
        view.is_settled = false;
        assert!(removal(&view).is_none());
        view.is_settled = true;
        view.forgotten = [1, 2, 3].into();
        assert!(removal(&view).is_none(), "somebody must vote");
    }

    #[test]
    fn a_new_node_takes_the_place_of_the_learner_at_its_address() {
        let view = view(&[1, 2, 3], &[4]);
        let changes = admission(&view, 5, "n4:1".into(), 1, "");
        let ChangeMembers::RemoveNodes(dead) = &changes[0] else {
            panic!("{changes:?}");
        };
        assert_eq!(dead, &BTreeSet::from([4]));
        assert_eq!(changes.len(), 2);
        // A dead voter stays until somebody can take its seat.
        let changes = admission(&view, 5, "n3:1".into(), 1, "");
        assert!(matches!(&changes[0], ChangeMembers::RemoveNodes(dead) if dead.is_empty()));
    }

    #[test]
    fn a_founder_without_an_address_tells_it_when_another_node_comes() {
        let mut view = view(&[1], &[]);
        view.nodes.get_mut(&1).unwrap().address.clear();
        let changes = admission(&view, 2, "n2:1".into(), 1, "n1:1");
        let ChangeMembers::SetNodes(nodes) = &changes[2] else {
            panic!("{changes:?}");
        };
        assert_eq!(nodes[&1].address, "n1:1");
    }
}
