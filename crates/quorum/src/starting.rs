//! Bringing the quorum up on this node, from an open directory to a founded cluster.
//!
//! ```text
//!  open ─► form (peers, no cluster yet) ─► Raft ─► answer ─► join (no seat) ─► founded ─► member
//! ```
//!
//! Input: options, peers. Output: the controller's handle, when this node's image has the cluster.
//!
//! Invariants:
//! - nobody is told of a controller before Raft names this node and where it is reached: a broker
//!   would register without an address for its followers;
//! - whoever leads founds, as often as it takes: the record of the founding takes effect once;
//! - a founder of several answers Raft's requests only when its identity says on the disk that it
//!   did: from then on it never initialises again;
//! - whoever does not wait for the end leaves nothing running.
//!
//! Source: own design.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_controller::FoundCluster;
use skein_env::{Env, Lane};
use skein_types::{ClusterId, ErrorCode};
use tokio::sync::{mpsc, watch};

use crate::answers::{Joining, Member, PeerAnswers, Role};
use crate::controller::{
    Controller, Failure, FoundingImage, Inner, QuorumOptions, QuorumPeers, raft_failure,
};
use crate::fate::FateWatch;
use crate::formation::FormationStatus;
use crate::forming::{self, Forming, write_identity};
use crate::identity::{Founding, Identity};
use crate::joining::{self, Seeker};
use crate::membership::Membership;
use crate::node::{self, Node, Opened, RaftHandle, WhenLost};
use crate::own_seat::OwnSeat;
use crate::proposer::{Proposer, REQUESTS_QUEUED_MAX};
use crate::runtime::{on_control_lane_while_awaited, within};
use crate::wire::Standing;
use crate::{QuorumError, leader};

/// How often a node that leads tries to found its cluster.
const FOUND_INTERVAL: Duration = Duration::from_millis(100);
/// Until a node alone leads; it takes a few flushes.
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Nodes that may ask to join at the same time.
const JOINS_QUEUED_MAX: usize = 16;

/// Starts the quorum as a task of the control lane.
pub(crate) async fn run(
    env: Env,
    options: QuorumOptions,
    image: Option<FoundingImage>,
    peers: Option<QuorumPeers>,
) -> Result<Controller, QuorumError> {
    let list = peer_list(&options)?;
    let starting = Starting {
        env: env.clone(),
        directory: options.directory.clone(),
        options,
        image,
        peers,
        list,
    };
    on_control_lane_while_awaited(&env, "quorum start", starting.run())
        .await
        .unwrap_or_else(|| Err(ended()))
}

/// The entries of `cluster.peers`, sorted: their order means nothing.
fn peer_list(options: &QuorumOptions) -> Result<Vec<String>, QuorumError> {
    let peers = options.config.node.cluster_peers.iter();
    let mut list: Vec<String> = peers.map(ToString::to_string).collect();
    list.sort_unstable();
    match list.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(QuorumError::PeerTwice {
            address: pair[0].clone(),
        }),
        None => Ok(list),
    }
}

fn ended() -> QuorumError {
    QuorumError::stopped("the node was ended")
}

struct Starting {
    env: Env,
    directory: PathBuf,
    options: QuorumOptions,
    image: Option<FoundingImage>,
    peers: Option<QuorumPeers>,
    list: Vec<String>,
}

/// Stops what was started, unless the start comes to its end.
struct Undo {
    env: Env,
    raft: Option<RaftHandle>,
    answers: PeerAnswers,
    stop: watch::Sender<bool>,
    is_armed: bool,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        self.stop.send_replace(true);
        self.answers.set_role(Role::Nobody);
        if let Some(raft) = self.raft.take() {
            let stopping = async move {
                // It may have stopped by itself: that is why.
                let _ = raft.shutdown().await;
            };
            let stopping = within(self.env.clone(), stopping);
            let _task = self
                .env
                .spawn
                .spawn(Lane::Control, "quorum stop", Box::pin(stopping));
        }
    }
}

impl Starting {
    async fn run(self) -> Result<Controller, QuorumError> {
        let answers = self.answers();
        let (stop, stopped) = watch::channel(false);
        let mut undo = Undo {
            env: self.env.clone(),
            raft: None,
            answers: answers.clone(),
            stop: stop.clone(),
            is_armed: true,
        };
        let mut nonce = [0; 16];
        self.env.rng.fill(&mut nonce);
        let mut opened = self.open().await?;
        if opened.identity.founding.is_none() {
            opened.identity = self.form(nonce, opened.identity).await?;
        }
        let Some(founding) = opened.identity.founding.clone() else {
            let path = self.directory.join(crate::IDENTITY_FILE);
            return Err(QuorumError::lost(&path, "without a cluster"));
        };
        answers.tell(FormationStatus::Waiting {
            cluster_id: founding.cluster_id,
            reason: String::new(),
        });
        let transport = self
            .peers
            .as_ref()
            .map(|peers| Arc::clone(&peers.transport));
        let audit = self.options.audit.clone();
        let node = node::start(&self.env, opened, transport, audit).await?;
        undo.raft = Some(node.raft.clone());
        let mut identity = node.identity.clone();
        if founding.members.len() > 1 && founding.address_of(identity.raft_id).is_some() {
            self.initialised(&mut identity).await?;
        }
        let standing = Standing {
            nonce,
            raft_id: identity.raft_id,
            list: self.list.clone(),
            founding: Some(founding.clone()),
            is_member: false,
        };
        let failure = watch::channel(None);
        let member = self.open_to_peers(&node, standing, &failure.0, &stopped);
        let controller = self.handle(node, &founding, failure, (stop, stopped));
        self.found(&controller, &founding).await?;
        tokio::select! {
            biased;
            () = joining::seated(&controller.inner.raft, identity.raft_id) => {}
            error = raft_failure(controller.inner.failure.clone()) => return Err(error),
        }
        self.initialised(&mut identity).await?;
        if let Some(member) = member {
            member.set_member();
        }
        answers.tell(FormationStatus::Member(founding.cluster_id));
        undo.is_armed = false;
        Ok(controller)
    }

    fn answers(&self) -> PeerAnswers {
        let peers = self.peers.as_ref();
        peers.map(|peers| peers.answers.clone()).unwrap_or_default()
    }

    /// Opens the directory; without an identity it gets that of `image`, or a new one.
    async fn open(&self) -> Result<Opened, QuorumError> {
        let ids = self
            .image
            .as_ref()
            .map(|image| (image.raft_id, image.cluster_id));
        let address = self
            .peers
            .as_ref()
            .map(|peers| peers.address.clone())
            .unwrap_or_default();
        let (env, directory) = (self.env.clone(), self.directory.clone());
        let has_peers = !self.list.is_empty();
        let opening = move || {
            let when_lost = match has_peers {
                true => WhenLost::Retire,
                false => WhenLost::Refuse,
            };
            node::open(&env, &directory, when_lost, || match ids {
                Some((raft_id, cluster_id)) => Identity::found_as(raft_id, cluster_id, address),
                None if has_peers => Identity::new(&*env.rng),
                None => Identity::found_alone(&*env.rng, address),
            })
        };
        let opened = self
            .env
            .offload_on(Lane::Control, "open quorum", opening)
            .await;
        let opened = opened.ok_or_else(ended)??;
        if ids.is_some_and(|(raft_id, _)| raft_id != opened.identity.raft_id) {
            let path = self.directory.join(crate::IDENTITY_FILE);
            return Err(QuorumError::lost(&path, "another node's"));
        }
        Ok(opened)
    }

    /// Finds out from the peers which cluster this node belongs to.
    async fn form(&self, nonce: [u8; 16], identity: Identity) -> Result<Identity, QuorumError> {
        let Some(peers) = self.peers.as_ref().filter(|_| !self.list.is_empty()) else {
            // It once had peers, and nothing came of it.
            let path = self.directory.join(crate::IDENTITY_FILE);
            let reason = "of a node that had peers, and cluster.peers is empty now";
            return Err(QuorumError::lost(&path, reason));
        };
        let forming = Forming {
            env: self.env.clone(),
            directory: self.directory.clone(),
            transport: Arc::clone(&peers.transport),
            answers: peers.answers.clone(),
            nonce,
            identity,
            list: self.list.clone(),
        };
        let identity = forming.run().await?;
        if let Some(founding) = &identity.founding {
            forming::offer(&self.env, &peers.transport, identity.raft_id, founding);
        }
        Ok(identity)
    }

    /// Serves the others from here on, and has nodes that want in let in while this one leads.
    fn open_to_peers(
        &self,
        node: &Node,
        standing: Standing,
        failed: &watch::Sender<Option<Failure>>,
        stopped: &watch::Receiver<bool>,
    ) -> Option<Arc<Member>> {
        let peers = self.peers.as_ref()?;
        let (joins, joining) = mpsc::channel::<Joining>(JOINS_QUEUED_MAX);
        let seeker = Seeker {
            raft: node.raft.clone(),
            transport: Arc::clone(&peers.transport),
            answers: peers.answers.clone(),
            standing: standing.clone(),
        };
        let membership = Membership {
            raft: node.raft.clone(),
            raft_id: standing.raft_id,
            address: peers.address.clone(),
            transport: Arc::clone(&peers.transport),
            published: node.published.clone(),
            joining,
        };
        let own_seat = OwnSeat {
            raft: node.raft.clone(),
            transport: Arc::clone(&peers.transport),
            raft_id: standing.raft_id,
            nonce: standing.nonce,
        };
        let (raft, published) = (node.raft.clone(), node.published.clone());
        let member = Member::new(self.env.clone(), raft, standing.clone(), published, joins);
        #[cfg(feature = "mutations")]
        let member = member.with_directory(self.directory.clone());
        let member = Arc::new(member);
        if let Some(founding) = &standing.founding {
            let fate = FateWatch {
                raft: node.raft.clone(),
                raft_id: standing.raft_id,
                cluster_id: founding.cluster_id,
                list: standing.list.clone(),
                published: node.published.clone(),
                member: Arc::clone(&member),
                transport: Arc::clone(&peers.transport),
                failed: failed.clone(),
            };
            self.spawn("fate", fate.run(), stopped);
        }
        peers.answers.set_role(Role::Member(Arc::clone(&member)));
        self.spawn("join", seeker.run(), stopped);
        self.spawn("membership", membership.run(), stopped);
        self.spawn("own-seat", own_seat.watch(), stopped);
        Some(member)
    }

    fn handle(
        &self,
        node: Node,
        founding: &Founding,
        (failed, failure): (
            watch::Sender<Option<Failure>>,
            watch::Receiver<Option<Failure>>,
        ),
        (stop, stopped): (watch::Sender<bool>, watch::Receiver<bool>),
    ) -> Controller {
        let answers = self.answers();
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let (controller, active) = watch::channel(None);
        let raft_id = node.identity.raft_id;
        let proposer = Proposer {
            env: self.env.clone(),
            raft: node.raft.clone(),
            store: node.store,
            published: node.published.clone(),
            config: Arc::clone(&self.options.config),
            directory: self.directory.clone(),
            raft_id,
            requests: queue,
            stop: stopped,
        };
        // tokio wakes those who wait for one watch in any order: so it is one behind the other.
        let (ended, has_ended) = watch::channel(false);
        let following = leader::follow(
            node.raft.clone(),
            controller,
            failed,
            self.options.audit.clone(),
        );
        self.spawn("quorum leader", following, &has_ended);
        let proposing = async move {
            proposer.run().await;
            ended.send_replace(true);
        };
        let proposing = Box::pin(within(self.env.clone(), proposing));
        let _task = self.env.spawn.spawn(Lane::Control, "controller", proposing);
        let inner = Inner {
            env: self.env.clone(),
            raft: node.raft,
            raft_id,
            cluster_id: founding.cluster_id,
            published: node.published,
            requests,
            active,
            failure,
            answers,
            stop,
            closed: Mutex::new(Some(node.closed)),
        };
        Controller {
            inner: Arc::new(inner),
        }
    }

    /// Runs `future` until it ends or the quorum stops on this node.
    fn spawn(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
        stopped: &watch::Receiver<bool>,
    ) {
        let mut stopped = stopped.clone();
        let task = async move {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => {}
                () = future => {}
            }
        };
        let task = Box::pin(within(self.env.clone(), task));
        let _task = self.env.spawn.spawn(Lane::Control, name, task);
    }

    /// Waits until the cluster is founded and this node's image says so; founds it when this node
    /// leads. A node alone always asks: it is answered when its image has all there is.
    async fn found(&self, controller: &Controller, own: &Founding) -> Result<(), QuorumError> {
        let founding = self.founding(controller, own);
        let raft = controller.inner.raft.clone();
        let lead_timeout = async {
            match node::is_alone(&raft) {
                true => tokio::time::sleep(LEAD_TIMEOUT).await,
                false => std::future::pending().await,
            }
        };
        let cluster_id = tokio::select! {
            biased;
            founded = founding => founded?,
            error = raft_failure(controller.inner.failure.clone()) => return Err(error),
            () = lead_timeout => return Err(QuorumError::stopped("a node alone does not lead")),
        };
        if cluster_id != own.cluster_id {
            let path = self.directory.join(crate::IDENTITY_FILE);
            let expected = own.cluster_id;
            let reason = format!("of cluster {expected}, but the log is of {cluster_id}");
            return Err(QuorumError::lost(&path, reason));
        }
        Ok(())
    }

    async fn founding(
        &self,
        controller: &Controller,
        own: &Founding,
    ) -> Result<ClusterId, QuorumError> {
        let records = self.image.as_ref().map(|image| image.records.clone());
        let request = FoundCluster {
            cluster_id: own.cluster_id,
            features: self.options.features.clone(),
            records: records.unwrap_or_default(),
        };
        let mut images = controller.subscribe();
        loop {
            let founded = images.borrow_and_update().cluster_id();
            if let Some(cluster_id) = founded.filter(|_| !node::is_alone(&controller.inner.raft)) {
                return Ok(cluster_id);
            }
            if controller.is_controller() {
                match controller.propose(request.clone()).await {
                    Ok(cluster_id) => return Ok(cluster_id),
                    Err(refusal) if refusal.code == ErrorCode::NotController => {}
                    Err(refusal) => return Err(QuorumError::stopped(refusal)),
                }
            }
            tokio::select! {
                biased;
                changed = images.changed() => changed.map_err(|_| ended())?,
                () = tokio::time::sleep(FOUND_INTERVAL) => {}
            }
        }
    }

    /// Marks the identity: from here on vote and log must be there.
    async fn initialised(&self, identity: &mut Identity) -> Result<(), QuorumError> {
        if identity.initialised {
            return Ok(());
        }
        identity.initialised = true;
        let directory: &Path = &self.directory;
        write_identity(&self.env, identity, directory).await?;
        if let Some(founding) = &identity.founding {
            tracing::info!(cluster_id = %founding.cluster_id, "this node belongs to a cluster");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skein_config::BrokerConfig;

    #[test]
    fn the_order_of_the_peer_list_means_nothing_and_a_double_is_refused() {
        let list = |peers: &[&str]| {
            let mut config = BrokerConfig::default();
            let peers = peers.iter().map(|peer| peer.parse().unwrap());
            Arc::make_mut(&mut config.node).cluster_peers = peers.collect();
            peer_list(&QuorumOptions {
                directory: PathBuf::new(),
                config: Arc::new(config),
                features: Vec::new(),
                audit: None,
            })
        };
        assert_eq!(list(&["b:1", "a:2", "a:1"]).unwrap(), ["a:1", "a:2", "b:1"]);
        let error = list(&["a:1", "b:1", "a:1"]).unwrap_err();
        assert!(matches!(error, QuorumError::PeerTwice { address } if address == "a:1"));
    }
}
