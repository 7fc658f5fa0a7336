//! A member does not stand for election while the address of its seat leads to somebody else.
//!
//! ```text
//!   its own seat's address ──► who are you? ─┬─ this node ─────► it may stand for election
//!                                            ├─ another one ───► it may not, until that changes
//!                                            └─ no answer ─────► as before; at a start not for the
//!                                                                first moment
//! ```
//!
//! Input: what Raft says of the members, who answers at the node's own address. Output: whether the
//! node may stand.
//!
//! A node whose data directory was changed for that of another one has the other's Raft id. It
//! could be elected, and then nobody would find it: all others look for that id where its seat is.
//!
//! What keeps it from standing is that its clock stands still: openraft has a switch for elections
//! too, and does not look at it (0.10.0-alpha.37).
//!
//! Source: own design.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::forming::who_is;
use crate::node::RaftHandle;
use crate::transport::PeerTransport;

/// How often the address is asked.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How often until it has answered once.
const FIRST_INTERVAL: Duration = Duration::from_millis(50);
/// An address that has not answered so often at a start is none that tells anything.
const SILENT_MAX: u32 = 20;

/// See the module.
pub(crate) struct OwnSeat {
    pub(crate) raft: RaftHandle,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) raft_id: u64,
    /// Drawn at this start: who answers with it is this node.
    pub(crate) nonce: [u8; 16],
}

/// What is known of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It has answered nothing yet, so often.
    Silent(u32),
    Own,
    Another,
}

impl OwnSeat {
    /// Keeps the node from standing until its address has led back to it, and asks again and again.
    pub(crate) async fn watch(self) {
        let mut known = Known::Silent(0);
        self.raft.runtime_config().tick(may_stand(known));
        loop {
            if let Some(address) = self.address() {
                let answered = who_is(&*self.transport, &address).await;
                let is_own = answered.map(|standing| standing.nonce == self.nonce);
                let now = next(known, is_own.ok());
                if now != known && now == Known::Another {
                    tracing::error!(
                        address,
                        raft_id = format!("{:016x}", self.raft_id),
                        "another node answers where this node's seat is: its data directory is \
                         that of another node; it does not stand for election"
                    );
                }
                known = now;
                self.raft.runtime_config().tick(may_stand(known));
                if known == Known::Another {
                    self.step_down().await;
                }
            }
            tokio::time::sleep(match known {
                Known::Silent(_) => FIRST_INTERVAL,
                Known::Own | Known::Another => CHECK_INTERVAL,
            })
            .await;
        }
    }

    /// Whoever led when it was stopped leads at once when it is started: then it decides nothing
    /// more, and waits for another leader.
    async fn step_down(&self) {
        if !self.raft.is_leader() {
            return;
        }
        let other = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let mut voters = metrics.membership_config.membership().voter_ids();
            voters.find(|id| *id != self.raft_id)
        };
        if let Some(other) = other {
            // Without Raft nobody leads either.
            let _ = self.raft.trigger().transfer_leader(other).await;
        }
    }

    /// Where the members look for this node; `None` without a seat, or if there are no others.
    fn address(&self) -> Option<String> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.membership_config.get_node(&self.raft_id)?;
        (!node.address.is_empty()).then(|| node.address.clone())
    }
}

fn next(known: Known, is_own: Option<bool>) -> Known {
    match (is_own, known) {
        (Some(true), _) => Known::Own,
        (Some(false), _) => Known::Another,
        (None, Known::Silent(count)) => Known::Silent(count.saturating_add(1)),
        (None, known) => known,
    }
}

const fn may_stand(known: Known) -> bool {
    match known {
        Known::Silent(count) => count >= SILENT_MAX,
        Known::Own => true,
        Known::Another => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_meets_another_at_its_own_address_does_not_stand() {
        let mut known = Known::Silent(0);
        assert!(!may_stand(known), "it has not looked yet");
        known = next(known, Some(false));
        assert!(!may_stand(known));
        known = next(known, None);
        assert!(!may_stand(known), "silence is no other answer");
        known = next(known, Some(true));
        assert!(may_stand(known));
        known = next(known, None);
        assert!(may_stand(known));
        assert!(!may_stand(next(known, Some(false))));
    }

    #[test]
    fn an_address_that_never_answers_keeps_nobody_from_standing() {
        let mut known = Known::Silent(0);
        for _ in 1..SILENT_MAX {
            known = next(known, None);
            assert!(!may_stand(known));
        }
        assert!(may_stand(next(known, None)));
    }
}
