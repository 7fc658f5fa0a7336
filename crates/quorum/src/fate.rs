//! Whether this node still belongs to its cluster.
//!
//! ```text
//!   a leader speaks ──► it does
//!   nobody speaks ──► ask the peers ──┬─ one of them knows that it was forgotten ─► the node ends
//!                                     └─ nobody does, or nobody answers ──────────► ask again
//! ```
//!
//! Input: when a leader was last heard, what the peers say. Output: the end of the quorum here.
//!
//! Invariant: a node whose Raft id is a tombstone does not go on without a word: nobody would ever
//! send it an entry again, and it would wait for ever.
//!
//! Source: own design.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use skein_types::ClusterId;
use tokio::sync::watch;

use crate::answers::Member;
use crate::controller::Failure;
use crate::forming::call;
use crate::node::RaftHandle;
use crate::state_machine::Published;
use crate::transport::PeerTransport;
use crate::wire::{self, Fate, IsForgotten};

/// How often it is looked at. Nothing is asked while a leader speaks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Silence of leaders after which the peers are asked: many heartbeats, a few elections.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct FateWatch {
    pub(crate) raft: RaftHandle,
    pub(crate) raft_id: u64,
    pub(crate) cluster_id: ClusterId,
    pub(crate) list: Vec<String>,
    pub(crate) published: Published,
    pub(crate) member: Arc<Member>,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) failed: watch::Sender<Option<Failure>>,
}

impl FateWatch {
    /// Runs until the node was forgotten.
    pub(crate) async fn run(self) {
        loop {
            if self.is_forgotten().await {
                self.failed.send_replace(Some(Failure::Forgotten));
                return;
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    async fn is_forgotten(&self) -> bool {
        if self.published.image().is_forgotten(self.raft_id) {
            return true;
        }
        if self.raft.is_leader() || self.member.has_heard_a_leader_within(SILENCE_MAX) {
            return false;
        }
        let question = IsForgotten {
            cluster_id: self.cluster_id,
            raft_id: self.raft_id,
        };
        let Ok(question) = wire::encode(&question) else {
            return false; // it always fits
        };
        for address in self.addresses() {
            let asked = call(&*self.transport, &address, question.clone(), ASK_TIMEOUT);
            // A node of an older release does not know the question.
            if let Ok(Fate { is_forgotten: true }) = asked.await {
                return true;
            }
        }
        false
    }

    /// Where peers may be: those of the list, and those that this node last knew as members.
    fn addresses(&self) -> BTreeSet<String> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.nodes();
        let members = nodes.map(|(_, node)| node.address.clone());
        let addresses = self.list.iter().cloned().chain(members);
        addresses.filter(|address| !address.is_empty()).collect()
    }
}
