//! How a node that belongs to a cluster gets its seat in it.
//!
//! Input: what the peers say, whom Raft names as members. Output: requests to be let in, until Raft
//! names this node.
//!
//! Invariant: the node asks for a seat at the address where it met itself, so that the controller
//! and all others reach it there.
//!
//! Source: own design.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::answers::PeerAnswers;
use crate::formation::FormationStatus;
use crate::forming::{call, who_is};
use crate::node::RaftHandle;
use crate::transport::PeerTransport;
use crate::wire::{self, Admission, JoinRequest, Standing};

/// Between two tries.
const JOIN_INTERVAL: Duration = Duration::from_millis(200);
/// How long the controller may take to let a node in: a majority has to agree.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one try is sent on to another node.
const REDIRECTS_MAX: u32 = 3;

/// See the module.
pub(crate) struct Seeker {
    pub(crate) raft: RaftHandle,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) answers: PeerAnswers,
    /// What this node says of itself.
    pub(crate) standing: Standing,
}

impl Seeker {
    /// Runs until Raft names this node, which for a founder it does from the beginning.
    pub(crate) async fn run(self) {
        let Some(founding) = self.standing.founding.clone() else {
            return;
        };
        let cluster_id = founding.cluster_id;
        while !is_seated(&self.raft, self.standing.raft_id) {
            if let Err(reason) = self.attempt(cluster_id).await {
                tracing::info!(reason, "no seat in the quorum yet");
                let waiting = FormationStatus::Waiting { cluster_id, reason };
                self.answers.tell_if_no_member(waiting);
            }
            tokio::time::sleep(JOIN_INTERVAL).await;
        }
    }

    /// Looks for its own address and for members, and asks one of them.
    async fn attempt(&self, cluster_id: skein_types::ClusterId) -> Result<(), String> {
        let mut own = None;
        let mut member = None;
        let mut silent = String::new();
        for address in &self.standing.list {
            match who_is(&*self.transport, address).await {
                Ok(standing) if standing.nonce == self.standing.nonce => own = Some(address),
                Ok(standing) => {
                    let theirs = standing.founding.map(|founding| founding.cluster_id);
                    let is_member = standing.is_member && theirs == Some(cluster_id);
                    member = member.or(is_member.then_some(address));
                }
                Err(reason) => silent = format!(" (peer {address}: {reason})"),
            }
        }
        let Some(own) = own else {
            let list = self.standing.list.join(",");
            return Err(format!(
                "no entry of cluster.peers={list} leads to this node{silent}"
            ));
        };
        let Some(member) = member else {
            return Err(format!(
                "no peer is a member of cluster {cluster_id}{silent}"
            ));
        };
        let request = JoinRequest {
            cluster_id,
            raft_id: self.standing.raft_id,
            address: own.clone(),
        };
        self.ask(member.clone(), &request).await
    }

    async fn ask(&self, mut address: String, request: &JoinRequest) -> Result<(), String> {
        for _ in 0..=REDIRECTS_MAX {
            let request = wire::encode(request).map_err(|error| error.to_string())?;
            match call(&*self.transport, &address, request, JOIN_TIMEOUT).await? {
                Admission::Seated => return Ok(()),
                Admission::Refused(reason) => return Err(format!("{address}: {reason}")),
                Admission::Elsewhere(controller) if controller.is_empty() => {
                    return Err(format!("{address} knows no controller"));
                }
                Admission::Elsewhere(controller) => address = controller,
            }
        }
        Err("the controller moves".into())
    }
}

/// Waits until Raft names this node. One that joins has the beginning of the log first, with the
/// founding in it, and not yet the entry that tells where the node is reached.
pub(crate) async fn seated(raft: &RaftHandle, own: u64) {
    let mut metrics = raft.server_metrics();
    while !is_seated(raft, own) {
        if metrics.changed().await.is_err() {
            // Raft has ended; with which error is told elsewhere.
            std::future::pending::<()>().await;
        }
    }
}

fn is_seated(raft: &RaftHandle, own: u64) -> bool {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    metrics.membership_config.get_node(&own).is_some()
}
