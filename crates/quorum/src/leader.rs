//! Who the controller is, as this node knows it; and whether Raft's clock must tick here.
//!
//! Input: what Raft says of vote, leader and members. Output: a watch for who forwards requests,
//! one for who must hear that Raft has failed, and the clock.
//!
//! Invariant: a node alone has nobody to send heartbeats to or to stand against, and its leadership
//! does not end: its clock stands still, or it would wake it a hundred times a second for nothing.
//!
//! Source: own design.

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::audit::AuditLog;
use crate::controller::Failure;
use crate::node::RaftHandle;

/// The controller of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveController {
    /// The term in which it leads.
    pub term: u64,
    /// Its Raft id.
    pub raft_id: u64,
    /// Its peer listener, as the members know it.
    pub address: String,
}

/// Follows Raft until it ends, or fails: then it tells `failure` why.
///
/// This is the only one who waits for these metrics: of several tokio wakes any one first, and no
/// run would be like another. (openraft itself waits for its `server_metrics`.)
pub(crate) async fn follow(
    raft: RaftHandle,
    controller: watch::Sender<Option<ActiveController>>,
    failure: watch::Sender<Option<Failure>>,
    audit: Option<AuditLog>,
) {
    let mut metrics = raft.metrics();
    let mut ticks = true;
    let mut audited = None;
    loop {
        let (term, active, is_alone) = {
            let metrics = metrics.borrow_watched();
            if let Err(fatal) = &metrics.running_state {
                failure.send_replace(Some(Failure::Raft(fatal.to_string())));
                return;
            }
            let membership = metrics.membership_config.membership();
            let node = |id: u64| membership.get_node(&id).cloned();
            let active = metrics.current_leader.map(|raft_id| ActiveController {
                term: metrics.vote.leader_id.term,
                raft_id,
                address: node(raft_id).unwrap_or_default().address,
            });
            let is_alone = membership.nodes().all(|(id, _)| *id == metrics.id);
            let term = metrics.vote.leader_id.term;
            (term, active, is_alone && metrics.state.is_leader())
        };
        if let Some(audit) = &audit {
            let seen = (term, active.as_ref().map(|active| active.raft_id));
            if audited.replace(seen) != Some(seen) {
                audit.leader(seen.0, seen.1);
            }
        }
        controller.send_if_modified(|told| {
            let is_new = *told != active;
            *told = active;
            is_new
        });
        if ticks == is_alone {
            ticks = !is_alone;
            raft.runtime_config().tick(ticks);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
