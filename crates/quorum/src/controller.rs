//! The broker's handle of the quorum.
//!
//! Input: requests to the controller. Output: their answers, and the image after each change.
//!
//! Invariants: [`Controller::start`] returns when the cluster is founded, this node leads, and the
//! image has all that was ever acknowledged; after [`Controller::shutdown`] the directory is free.
//!
//! Source: own design.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use skein_config::BrokerConfig;
use skein_controller::{Call, FoundCluster, Refusal, Request};
use skein_env::{Env, Lane};
use skein_metadata::{Image, LogId, Record};
use skein_types::{ClusterId, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::QuorumError;
use crate::identity::Identity;
use crate::node::{self, Node, Opened, RaftHandle};
use crate::proposer::{Proposer, REQUESTS_QUEUED_MAX, Waiting};
use crate::runtime::{on_control_lane, within};
use crate::state_machine::Published;
use crate::types::log_id;

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
}

/// A member of the quorum. Cheap to clone; all clones are the same member.
#[derive(Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    raft: RaftHandle,
    raft_id: u64,
    cluster_id: ClusterId,
    published: Published,
    requests: mpsc::Sender<Waiting>,
    stop: watch::Sender<bool>,
    closed: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Controller {
    /// Opens `metadata.log.dir`, founds a cluster if it is empty, and leads.
    ///
    /// # Errors
    /// [`QuorumError`]: the directory is in use, was damaged, or the disk fails.
    pub async fn start(env: Env, options: QuorumOptions) -> Result<Self, QuorumError> {
        Self::start_or_found(env, options, None).await
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
        Self::start_or_found(env, options, Some(image)).await
    }

    async fn start_or_found(
        env: Env,
        options: QuorumOptions,
        image: Option<FoundingImage>,
    ) -> Result<Self, QuorumError> {
        let peers = options.config.node.cluster_peers.len();
        if peers > 0 {
            return Err(QuorumError::Peers { count: peers });
        }
        let starting = start(env.clone(), options, image);
        on_control_lane(&env, "quorum start", starting)
            .await
            .unwrap_or_else(|| Err(QuorumError::stopped("the node was ended")))
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

    /// The quorum as this node sees it.
    #[must_use]
    pub fn status(&self) -> QuorumStatus {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        QuorumStatus {
            raft_id: self.inner.raft_id,
            controller: metrics.current_leader,
            term: metrics.current_term,
            last_log_index: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(log_id),
            snapshot: metrics.snapshot.as_ref().map(log_id),
            voters: metrics.membership_config.membership().voter_ids().collect(),
        }
    }

    /// Waits until the quorum stops on this node by itself: a disk failed, or metadata do not fit.
    /// The node must not go on then. Does not return while all is well.
    pub async fn failed(&self) -> QuorumError {
        let mut metrics = self.inner.raft.metrics();
        let ended = || QuorumError::stopped("Raft has ended");
        // Raft's metrics change all the time: whoever waits here is woken by the failure alone.
        let watching = async move {
            loop {
                if let Err(fatal) = &metrics.borrow_watched().running_state {
                    return QuorumError::stopped(fatal);
                }
                if metrics.changed().await.is_err() {
                    return ended();
                }
            }
        };
        let failure = on_control_lane(&self.inner.env, "quorum failure", watching).await;
        failure.unwrap_or_else(ended)
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

async fn start(
    env: Env,
    options: QuorumOptions,
    image: Option<FoundingImage>,
) -> Result<Controller, QuorumError> {
    let QuorumOptions {
        directory,
        config,
        features,
    } = options;
    let opened = open(&env, &directory, image.as_ref()).await?;
    let Some(founding) = opened.identity.founding.clone() else {
        let path = directory.join(crate::IDENTITY_FILE);
        return Err(QuorumError::lost(&path, "without a cluster"));
    };
    let Node {
        raft,
        store,
        published,
        identity,
        closed,
    } = node::start(&env, opened).await?;
    let (requests, queue) = mpsc::channel(REQUESTS_QUEUED_MAX);
    let (stop, stopped) = watch::channel(false);
    let proposer = Proposer {
        env: env.clone(),
        raft: raft.clone(),
        store,
        published: published.clone(),
        config,
        directory: directory.clone(),
        raft_id: identity.raft_id,
        requests: queue,
        stop: stopped,
    };
    let task = Box::pin(within(env.clone(), proposer.run()));
    let _task = env.spawn.spawn(Lane::Control, "controller", task);
    let inner = Inner {
        env,
        raft,
        raft_id: identity.raft_id,
        cluster_id: founding.cluster_id,
        published,
        requests,
        stop,
        closed: Mutex::new(Some(closed)),
    };
    let controller = Controller {
        inner: Arc::new(inner),
    };
    let records = image.map(|image| image.records).unwrap_or_default();
    match found(&controller, identity, directory, features, records).await {
        Ok(()) => Ok(controller),
        Err(error) => {
            // The first error is the one to tell.
            let _ = controller.shutdown().await;
            Err(error)
        }
    }
}

/// Opens the directory; without an identity it gets that of `image`, or a new one.
async fn open(
    env: &Env,
    directory: &Path,
    image: Option<&FoundingImage>,
) -> Result<Opened, QuorumError> {
    let ids = image.map(|image| (image.raft_id, image.cluster_id));
    let opening = {
        let (env, directory) = (env.clone(), directory.to_path_buf());
        move || {
            node::open(&env, &directory, || match ids {
                Some((raft_id, cluster_id)) => Identity::found_as(raft_id, cluster_id),
                None => Identity::found_alone(&*env.rng),
            })
        }
    };
    let opened = env
        .offload_on(Lane::Control, "open quorum", opening)
        .await
        .ok_or_else(|| QuorumError::stopped("the node was ended"))??;
    if ids.is_some_and(|(raft_id, _)| raft_id != opened.identity.raft_id) {
        let path = directory.join(crate::IDENTITY_FILE);
        return Err(QuorumError::lost(&path, "another node's"));
    }
    Ok(opened)
}

/// Founds the cluster if it is not founded, and marks the identity initialised once that is
/// durable.
async fn found(
    controller: &Controller,
    identity: Identity,
    directory: PathBuf,
    features: Vec<(String, i16)>,
    records: Vec<Record>,
) -> Result<(), QuorumError> {
    let expected = controller.cluster_id();
    let request = FoundCluster {
        cluster_id: expected,
        features,
        records,
    };
    let cluster_id = controller
        .propose(request)
        .await
        .map_err(QuorumError::stopped)?;
    if cluster_id != expected {
        let path = directory.join(crate::IDENTITY_FILE);
        let reason = format!("of cluster {expected}, but the log is of {cluster_id}");
        return Err(QuorumError::lost(&path, reason));
    }
    if !identity.initialised {
        let identity = Identity {
            initialised: true,
            ..identity
        };
        let disk = Arc::clone(&controller.inner.env.disk);
        let write = move || identity.write(&*disk, &directory);
        controller
            .inner
            .env
            .offload_on(Lane::Control, "initialised", write)
            .await
            .ok_or_else(|| QuorumError::stopped("the node was ended"))??;
        tracing::info!(%cluster_id, "founded a cluster");
    }
    Ok(())
}
