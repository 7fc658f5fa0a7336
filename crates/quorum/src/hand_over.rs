//! A controller that is about to stop has another member lead.
//!
//! Input: what Raft says of the voters, whom the broker would like best. Output: an election that
//! does not wait for the end of a lease, and its outcome.
//!
//! Invariant: only a voter that has all entries of this node's log is asked, as far as is known;
//! another one would lose the election, and the cluster the time.
//!
//! Source: Ongaro's thesis, 3.10 (leadership transfer); openraft's `transfer_leader`.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::timeout;

use crate::Controller;

/// A voter, and how far its log is known to agree with this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    raft_id: u64,
    matched_index: Option<u64>,
    is_wanted: bool,
}

impl Controller {
    /// Has another member lead the quorum, one that `is_wanted` if there is one, and waits until
    /// this node knows it, but no longer than `within`. Whether this node does not lead; if it does
    /// after this, it decides nothing more all the same.
    pub async fn hand_over(&self, is_wanted: impl Fn(u64) -> bool, within: Duration) -> bool {
        if !self.is_controller() {
            return true;
        }
        let Some(successor) = self.successor(is_wanted) else {
            return false;
        };
        tracing::info!(
            successor = format!("{successor:016x}"),
            "handing the quorum over"
        );
        let own = self.raft_id();
        let mut leaders = self.watch_leader();
        if self
            .inner
            .raft
            .trigger()
            .transfer_leader(successor)
            .await
            .is_err()
        {
            return false; // Raft has ended
        }
        let is_another = |leader: &Option<crate::ActiveController>| {
            leader.as_ref().is_some_and(|leader| leader.raft_id != own)
        };
        let handed_over = timeout(within, leaders.wait_for(is_another)).await;
        handed_over.is_ok_and(|leader| leader.is_ok())
    }

    fn successor(&self, is_wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last_index = metrics.last_log_index.unwrap_or_default();
        let replication = metrics.replication.as_ref();
        let voters = metrics.membership_config.voter_ids();
        let others = voters.filter(|id| *id != self.inner.raft_id);
        let candidates = others.map(|raft_id| {
            let matched = replication.and_then(|all| all.get(&raft_id)?.as_ref());
            Candidate {
                raft_id,
                matched_index: matched.map(|matched| matched.index),
                is_wanted: is_wanted(raft_id),
            }
        });
        choose(candidates, last_index)
    }
}

/// Who has all comes first, then who is wanted; of several the one with the lowest id.
fn choose(candidates: impl Iterator<Item = Candidate>, last_index: u64) -> Option<u64> {
    let heard = candidates.filter(|candidate| candidate.matched_index.is_some());
    let best = heard.min_by_key(|candidate| {
        let behind = last_index.saturating_sub(candidate.matched_index.unwrap_or(0));
        (behind > 0, !candidate.is_wanted, behind, candidate.raft_id)
    });
    best.map(|candidate| candidate.raft_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(candidates: &[(u64, Option<u64>, bool)], expected: Option<u64>) {
        let candidate = |&(raft_id, matched_index, is_wanted)| Candidate {
            raft_id,
            matched_index,
            is_wanted,
        };
        assert_eq!(choose(candidates.iter().map(candidate), 100), expected);
    }

    #[test]
    fn who_has_all_entries_and_is_wanted_leads_next() {
        check(&[], None);
        check(&[(1, None, true)], None);
        check(&[(1, Some(100), false), (2, Some(100), true)], Some(2));
        check(&[(1, Some(100), false), (2, Some(99), true)], Some(1));
        check(&[(2, Some(100), true), (1, Some(100), true)], Some(1));
        check(&[(1, Some(7), false), (2, Some(9), false)], Some(2));
    }
}
