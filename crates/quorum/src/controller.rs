//! The broker's handle of the quorum.
//!
//! Input: requests to the controller. Output: their answers, and the image after each change.
//!
//! Invariants: [`Controller::start`] returns when the cluster is founded and this node's image says
//! so (`starting.rs`); after [`Controller::shutdown`] the directory is free.
//!
//! Source: own design.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use skein_config::BrokerConfig;
use skein_controller::{Call, Refusal, Request};
use skein_env::Env;
use skein_metadata::{Image, LogId, Record};
use skein_types::{ClusterId, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::answers::{PeerAnswers, Role};
use crate::audit::AuditLog;
use crate::leader::ActiveController;
use crate::node::RaftHandle;
use crate::proposer::Waiting;
use crate::runtime::on_control_lane;
use crate::state_machine::Published;
use crate::transport::PeerTransport;
use crate::types::log_id;
use crate::{QuorumError, starting};

/// How long [`Controller::shutdown`] waits for the last writes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a member of the quorum needs to know.
#[derive(Clone, Debug)]
pub struct QuorumOptions {
    /// `metadata.log.dir`.
    pub directory: PathBuf,
    /// The broker's static settings; decisions take defaults and session timeout from them.
    pub config: Arc<BrokerConfig>,
    /// Levels of the features that a new cluster starts with.
    pub features: Vec<(String, i16)>,
    /// Where the node writes down what it sees happen.
    pub audit: Option<AuditLog>,
}

/// What a new cluster begins with when it takes over from another system.
#[derive(Clone, Debug)]
pub struct FoundingImage {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Raft id of the node that founds it, drawn at random: a broker among the records has it too.
    pub raft_id: u64,
    /// All there is, fit to be applied to an empty image.
    pub records: Vec<Record>,
}

/// The quorum as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    /// This node's Raft id.
    pub raft_id: u64,
    /// The Raft id of the controller, if it is known.
    pub controller: Option<u64>,
    /// The term.
    pub term: u64,
    /// The last entry of this node's log.
    pub last_log_index: Option<u64>,
    /// The last entry that a majority has.
    pub committed: Option<LogId>,
    /// The last entry of the snapshot.
    pub snapshot: Option<LogId>,
    /// Raft ids of the voters.
    pub voters: Vec<u64>,
    /// The last entry that each other member is known to have; empty where this node does not lead.
    pub matched: BTreeMap<u64, u64>,
}

/// The way to the other members, and from them to this one.
#[derive(Clone)]
pub struct QuorumPeers {
    /// How this node's requests reach the others.
    pub transport: Arc<dyn PeerTransport>,
    /// What answers the requests of others; it must be reachable at this node's entry of the peer
    /// list before [`Controller::start_with_peers`] is called.
    pub answers: PeerAnswers,
    /// Where a node that founds a cluster of its own will be reached by those who join later. With
    /// a peer list the node finds its entry by itself.
    pub address: String,
}

/// A member of the quorum. Cheap to clone; all clones are the same member.
#[derive(Clone)]
pub struct Controller {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) raft: RaftHandle,
    pub(crate) raft_id: u64,
    pub(crate) cluster_id: ClusterId,
    pub(crate) published: Published,
    pub(crate) requests: mpsc::Sender<Waiting>,
    pub(crate) active: watch::Receiver<Option<ActiveController>>,
    /// Why the quorum has ended here by itself.
    pub(crate) failure: watch::Receiver<Option<Failure>>,
    pub(crate) answers: PeerAnswers,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) closed: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Why the quorum ends on this node by itself.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Raft says so.
    Raft(String),
    /// The cluster has taken the node out.
    Forgotten,
}

/// Whoever lets the last handle go without a word does not want the member any more either.
impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if self.closed.get_mut().is_some() {
            self.answers.set_role(Role::Nobody);
        } // else it was stopped, and the answers may be those of the next start by now
    }
}

impl Controller {
    /// Opens `metadata.log.dir`, founds a cluster of its own if it is empty, and leads: when this
    /// returns, the image has all that was ever acknowledged.
    ///
    /// # Errors
    /// [`QuorumError`]: the directory is in use, was damaged, or the disk fails; there is a peer
    /// list.
    pub async fn start(env: Env, options: QuorumOptions) -> Result<Self, QuorumError> {
        let peers = options.config.node.cluster_peers.len();
        if peers > 0 {
            return Err(QuorumError::Peers { count: peers });
        }
        starting::run(env, options, None, None).await
    }

    /// [`Controller::start`] as one of the nodes of `cluster.peers`; with an empty list as a
    /// cluster of its own, which others may join. Returns when the cluster is founded and this
    /// node has that in its image, whoever leads; as long as that takes,
    /// [`PeerAnswers::formation_status`] says why. Who does not want to wait any longer drops the
    /// future.
    ///
    /// # Errors
    /// [`QuorumError`]: the directory is in use, was damaged, or the disk fails; the peer list
    /// names a node twice.
    pub async fn start_with_peers(
        env: Env,
        options: QuorumOptions,
        peers: QuorumPeers,
    ) -> Result<Self, QuorumError> {
        starting::run(env, options, None, Some(peers)).await
    }

    /// Founds a cluster that begins with `image` in an empty `metadata.log.dir`, and leads. A crash
    /// in between leaves a directory that is to be removed.
    ///
    /// # Errors
    /// [`QuorumError`]: another cluster is there, the image does not fit into an entry or is none,
    /// the disk fails.
    pub async fn found(
        env: Env,
        options: QuorumOptions,
        image: FoundingImage,
    ) -> Result<Self, QuorumError> {
        let peers = options.config.node.cluster_peers.len();
        if peers > 0 {
            return Err(QuorumError::Peers { count: peers });
        }
        starting::run(env, options, Some(image), None).await
    }

    /// Has a request decided. The answer comes after its records are in this node's image.
    ///
    /// # Errors
    /// [`Refusal`]: what the rules say; NOT_CONTROLLER if another node leads, or none (try again);
    /// KAFKA_STORAGE_ERROR if the metadata log takes nothing more.
    pub async fn propose<C: Call>(&self, request: C) -> Result<C::Response, Refusal> {
        let (answer, answered) = oneshot::channel();
        let request: Request = request.into();
        let stopped = |()| {
            Refusal::new(
                ErrorCode::NotController,
                "the metadata quorum has stopped here",
            )
        };
        let waiting = Waiting { request, answer };
        self.inner
            .requests
            .send(waiting)
            .await
            .map_err(|_| stopped(()))?;
        let response = answered.await.map_err(|_| stopped(()))??;
        C::response(response)
    }

    /// How many requests wait to be decided.
    #[must_use]
    pub fn queued_requests(&self) -> usize {
        let requests = &self.inner.requests;
        requests.max_capacity() - requests.capacity()
    }

    /// The image as it is now.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.inner.published.image()
    }

    /// The image after each change; changes that follow each other fast may be seen as one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
        self.inner.published.subscribe()
    }

    /// Raft id of this node: that of its `metadata.log.dir`, for registration.
    #[must_use]
    pub fn raft_id(&self) -> u64 {
        self.inner.raft_id
    }

    /// Where the other members reach this one; `None` in a cluster of one that nobody can join.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let node = membership.get_node(&self.inner.raft_id)?;
        (!node.address.is_empty()).then(|| node.address.clone())
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.inner.cluster_id
    }

    /// Whether this node leads the quorum.
    #[must_use]
    pub fn is_controller(&self) -> bool {
        self.inner.raft.is_leader()
    }

    /// The present controller, as far as this node knows: where requests are to be forwarded.
    #[must_use]
    pub fn leader(&self) -> Option<ActiveController> {
        self.inner.active.borrow().clone()
    }

    /// The present controller, whenever it changes.
    #[must_use]
    pub fn watch_leader(&self) -> watch::Receiver<Option<ActiveController>> {
        self.inner.active.clone()
    }

    /// The quorum as this node sees it.
    #[must_use]
    pub fn status(&self) -> QuorumStatus {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.iter().flatten();
        let matched = replication.filter_map(|(id, log_id)| Some((*id, log_id.as_ref()?.index)));
        QuorumStatus {
            raft_id: self.inner.raft_id,
            controller: metrics.current_leader,
            term: metrics.current_term,
            last_log_index: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(log_id),
            snapshot: metrics.snapshot.as_ref().map(log_id),
            voters: metrics.membership_config.membership().voter_ids().collect(),
            matched: matched.collect(),
        }
    }

    /// Waits until the quorum stops on this node by itself: a disk failed, metadata do not fit, or
    /// the cluster has forgotten the node.
    /// The node must not go on then. Does not return while all is well.
    pub async fn failed(&self) -> QuorumError {
        raft_failure(self.inner.failure.clone()).await
    }

    /// Makes a snapshot now, after which the log before it is purged.
    ///
    /// # Errors
    /// [`QuorumError::Stopped`].
    pub async fn snapshot(&self) -> Result<(), QuorumError> {
        self.inner
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(QuorumError::stopped)
    }

    /// Stops: requests are refused, what is written is finished, the directory is let go.
    ///
    /// # Errors
    /// [`QuorumError::Stopped`] if the disk does not finish within 5 s.
    pub async fn shutdown(&self) -> Result<(), QuorumError> {
        // Nobody may listen any more.
        self.inner.stop.send_replace(true);
        self.inner.answers.set_role(Role::Nobody);
        let Some(closed) = self.inner.closed.lock().take() else {
            return Ok(()); // somebody else has stopped it
        };
        let raft = self.inner.raft.clone();
        let stopping = async move { raft.shutdown().await };
        let stopped = on_control_lane(&self.inner.env, "quorum stop", stopping).await;
        if let Some(Err(error)) = stopped {
            tracing::warn!(%error, "Raft did not stop in order");
        }
        match tokio::time::timeout(CLOSE_TIMEOUT, closed).await {
            Ok(_) => Ok(()),
            Err(_) => Err(QuorumError::stopped(
                "the metadata log is still being written",
            )),
        }
    }
}

/// Waits until Raft stops by itself, or has been stopped.
pub(crate) async fn raft_failure(mut failure: watch::Receiver<Option<Failure>>) -> QuorumError {
    match failure.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Failure::Forgotten)) => QuorumError::Forgotten,
        Ok(Some(Failure::Raft(reason))) => QuorumError::stopped(reason),
        Ok(None) | Err(_) => QuorumError::stopped("Raft has ended"),
    }
}
