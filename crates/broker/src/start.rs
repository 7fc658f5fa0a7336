//! Starts a node.
//!
//! Input: a configuration, a world. Output: a node that serves, until it is stopped (`stop.rs`).
//!
//! ```text
//!   lock log.dirs ─► bind listeners ─► HTTP, accept peers ─► quorum: image ─► register
//!        ─► own registration in the image ─► directories of deleted topics go ─► accept clients
//!        ─► background tasks
//! ```
//!
//! Invariants:
//! - nothing is served before the node's own registration is in its image;
//! - listeners are bound before the registration, which tells their addresses, and accept after it:
//!   a client that comes early waits in the backlog;
//! - peers are answered from the beginning: nodes that look for their cluster ask each other; so
//!   is whoever asks over HTTP what is missing (`progress.rs`).
//!
//! Source: KIP-631 (registration), KIP-966 (clean shutdown).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use skein_config::{Address, BrokerConfig, ClusterSecret, Listener as ListenerConfig};
use skein_controller::{Refusal, SUPPORTED_FEATURES};
use skein_env::{Disk, Env, Lane, ListenOptions, Listener};
use skein_metadata::Endpoint;
use skein_net::{Acceptor, Budget, BufferPool, ConnectionLimits, Counters, PeerLinks};
use skein_quorum::{AuditLog, Controller, QuorumError, QuorumOptions};
use skein_storage::{
    CacheLimits, LogDirectory, MetaProperties, Reserve, StorageError, create_directory,
};
use skein_types::ClusterId;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::cleaner::Cleaner;
use crate::confirmation::Confirmation;
use crate::disk_watch::DiskWatch;
use crate::fetch_sessions::FetchSessions;
use crate::flusher::REWRITES_MAX;
use crate::groups::Groups;
use crate::metrics::{Metrics, Queues};
use crate::node::{Identity, ReplicaBasis, Shared};
use crate::peers::{ControllerLink, PeerSide, peer_endpoint};
use crate::producer_ids::ProducerIds;
use crate::progress::Progress;
use crate::registration::{register, spawn_heartbeats};
use crate::replicas::{Replicas, remove_left_behind};
use crate::replication::Replication;
use crate::rooms::Rooms;
use crate::session::ClientService;
use crate::told_brokers::ToldBrokers;
use crate::unpacking::UNPACKED_IN_FLIGHT_MAX_BYTES;
use crate::waiting_followers::WaitingFollowers;
use crate::{accept_limits, controlled_shutdown, http, replication, stop, tasks};

/// The spare file in `metadata.log.dir`.
const METADATA_RESERVE: &str = "reserve";

/// A connection that stalls within a request is closed after this time.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Fetch sessions of followers: a few of each of very many nodes.
const FOLLOWER_SESSIONS_MAX: usize = 10_000;

/// Connections that are never idle for too long (`connections.max.idle.ms=-1`) wait this long.
const IDLE_FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error("cannot listen at {address}: {source}; is another program using the port? ({key})")]
    Bind {
        /// Where.
        address: String,
        /// The configuration key that says so.
        key: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A bind address is not one of this machine's.
    #[error("{key} has the address {address}, which is no IP address of this machine")]
    Address {
        /// The address.
        address: String,
        /// The configuration key.
        key: &'static str,
    },
    /// The log directory cannot be used.
    #[error("{error}; {remedy}")]
    Storage {
        /// What is wrong, with its path.
        error: StorageError,
        /// What to do.
        remedy: &'static str,
    },
    /// The directory is another cluster's or another node's.
    #[error(
        "{path} belongs to {found}, this node is of {expected}; use an empty directory or its own"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it must be.
        expected: String,
    },
    /// The metadata quorum does not start.
    #[error("the metadata quorum does not start: {0}")]
    Quorum(#[from] QuorumError),
    /// The node was ended while it started.
    #[error("the node was stopped while it started")]
    Stopped,
    /// The controller refuses this broker.
    #[error("the controller refuses this broker: {0}")]
    Registration(#[from] Refusal),
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        let remedy = error.remedy();
        Self::Storage { error, remedy }
    }
}

/// A running node.
pub struct Broker {
    shared: Arc<Shared>,
    addresses: Vec<(String, SocketAddr)>,
    http_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
}

/// A listener that is bound and does not accept yet.
struct Bound {
    config: ListenerConfig,
    advertised: ListenerConfig,
    address: SocketAddr,
    listener: Box<dyn Listener>,
}

impl Broker {
    /// Starts a node; `secret` is what `cluster.secret.file` holds, for a cluster of several.
    ///
    /// # Errors
    /// [`StartError`], whose text says what to do.
    pub async fn start(
        env: Env,
        config: Arc<BrokerConfig>,
        secret: Option<ClusterSecret>,
    ) -> Result<Self, StartError> {
        Self::start_audited(env, config, secret, None).await
    }

    /// [`Broker::start`] of a node that writes down what it sees happen.
    ///
    /// # Errors
    /// [`StartError`], whose text says what to do.
    pub async fn start_audited(
        env: Env,
        config: Arc<BrokerConfig>,
        secret: Option<ClusterSecret>,
        audit: Option<AuditLog>,
    ) -> Result<Self, StartError> {
        let directory = open_directory(&env, &config).await?;
        let bound = bind_all(&env, &config)?;
        let (stop, stopped) = watch::channel(false);
        let progress = Arc::new(Progress::default());
        let http_address = begin_http(&env, &config, &progress, &stopped)?;
        let peers = match config.node.cluster_peers.is_empty() {
            true => None,
            false => Some(begin_peers(&env, &config, secret.as_ref(), &stopped)?),
        };
        if let Some(peers) = &peers {
            progress.finds_its_cluster(peers.formation_status());
        }
        let controller = start_quorum(&env, &config, &directory, peers.as_ref(), audit).await?;
        let links = peers.as_ref().map(|peers| peers.links.clone());
        let link = ControllerLink::new(controller.clone(), links.clone());
        if let Some(peers) = &peers {
            peers.service.has_controller(controller.clone());
        }
        let endpoints = endpoints(&controller, &bound);
        let asked = Instant::now();
        let registering = register(
            &env,
            &config,
            &controller,
            &link,
            &directory,
            endpoints,
            &progress,
        );
        let identity = tokio::select! {
            biased;
            registered = registering => registered?,
            // Such as a node that was forgotten: no controller will ever answer it.
            error = controller.failed() => return Err(error.into()),
        };
        claim_directory(&config, &directory, &controller, identity)?;
        let shared = share(env, config, (controller, link, links), directory, identity);
        // Whoever decided it had a majority behind it after it was asked.
        let session = shared.config.replica.session_timeout_ms;
        shared.basis.confirmed(asked, session);
        // Before a log can be opened.
        remove_left_behind(&shared).await;
        if let Some(peers) = &peers {
            peers.service.is_broker(Arc::clone(&shared));
        }
        shared.groups.begin(&stopped);
        let addresses = bound
            .iter()
            .map(|bound| (bound.config.name.clone(), bound.address))
            .collect();
        for bound in bound {
            accept(&shared, bound, &stopped);
        }
        progress.is_broker(&shared);
        tasks::start(&shared, &stopped);
        replication::start(&shared, &stopped);
        spawn_heartbeats(&shared, stopped);
        Ok(Self {
            shared,
            addresses,
            http_address,
            stop,
        })
    }

    /// Names and addresses of the client listeners.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are.
    #[must_use]
    pub const fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.controller.cluster_id()
    }

    /// This broker's id.
    #[must_use]
    pub fn broker_id(&self) -> i32 {
        self.shared.identity.broker_id.get()
    }

    /// Waits until the node cannot go on: its metadata log has failed. The text says why.
    pub async fn failed(&self) -> String {
        self.shared.controller.failed().await.to_string()
    }

    /// A way to look into this node, which does not keep it.
    #[cfg(feature = "inspect")]
    #[must_use]
    pub fn inspector(&self) -> crate::Inspector {
        crate::Inspector::new(&self.shared)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops the node: others lead what it led, what is acknowledged is on disk afterwards, and the
    /// next start scans nothing.
    pub async fn stop(self) {
        controlled_shutdown::run(&self.shared).await;
        self.stop.send_replace(true);
        stop::stop(&self.shared).await;
    }
}

/// Opens and locks `log.dirs`, on the offload pool.
async fn open_directory(env: &Env, config: &BrokerConfig) -> Result<Arc<LogDirectory>, StartError> {
    let (disk, path) = (Arc::clone(&env.disk), config.node.log_dir.clone());
    let metadata = config.node.metadata_log_dir.clone();
    let open = move || {
        let directory = LogDirectory::open(Arc::clone(&disk), &path, CacheLimits::default())?;
        refuse_anothers(&*disk, &path, &metadata)?;
        Ok(directory)
    };
    env.offload("open-directory", open)
        .await
        .ok_or(StartError::Stopped)?
}

/// Keeps bytes back for what must be written on a full device: deletions, above all. Returns the
/// disk for the metadata, whose files may take from their reserve.
async fn keep_reserves(
    env: &Env,
    config: &BrokerConfig,
    directory: &Arc<LogDirectory>,
) -> Result<Arc<dyn Disk>, StartError> {
    let (disk, directory) = (Arc::clone(&env.disk), Arc::clone(directory));
    let metadata = config.node.metadata_log_dir.clone();
    let keep = move || {
        create_directory(&*disk, &metadata)?;
        let reserve = Reserve::new(disk, metadata.join(METADATA_RESERVE));
        // Elsewhere it may be a device of its own, whose lack of room is nothing to the records.
        if metadata.starts_with(directory.path()) {
            directory.watch(Arc::clone(&reserve));
        } else {
            directory.keep(Arc::clone(&reserve));
        }
        directory.look_for_room();
        Ok(reserve.disk())
    };
    env.offload("keep-reserves", keep)
        .await
        .ok_or(StartError::Stopped)?
}

/// A directory that names its cluster, without this node's metadata, is another node's, or Kafka's:
/// founding a cluster for it would only end in the same refusal, and leave its files behind.
fn refuse_anothers(disk: &dyn Disk, path: &Path, metadata: &Path) -> Result<(), StartError> {
    let found = MetaProperties::read(disk, path)?;
    let Some(found) = found.filter(|meta| meta.cluster_id.is_some()) else {
        return Ok(());
    };
    let has_metadata = disk
        .read_directory(metadata)
        .is_ok_and(|entries| !entries.is_empty());
    if has_metadata {
        return Ok(());
    }
    Err(StartError::Foreign {
        path: path.to_path_buf(),
        found: owner(&found),
        expected: format!(
            "no cluster yet, as {} holds no metadata",
            metadata.display()
        ),
    })
}

/// Whose directory it is, in words.
fn owner(meta: &MetaProperties) -> String {
    let node = meta
        .node_id
        .map_or_else(|| "?".to_owned(), |id| id.to_string());
    format!(
        "cluster {}, node {node}",
        meta.cluster_id.as_deref().unwrap_or("?")
    )
}

fn bind_all(env: &Env, config: &BrokerConfig) -> Result<Vec<Bound>, StartError> {
    let network = &config.network;
    let options = ListenOptions {
        backlog: network.socket_listen_backlog_size,
        send_buffer_bytes: network.socket_send_buffer_bytes,
        receive_buffer_bytes: network.socket_receive_buffer_bytes,
    };
    let listeners = network.listeners.iter().zip(&network.advertised_listeners);
    listeners
        .map(|(listener, advertised)| {
            let bound = listen(env, &listener.address(), "listeners", &options)?;
            let address = bound.local_address().map_err(|source| StartError::Bind {
                address: listener.address().to_string(),
                key: "listeners",
                source,
            })?;
            Ok(Bound {
                config: listener.clone(),
                advertised: advertised.clone(),
                address,
                listener: bound,
            })
        })
        .collect()
}

/// Answers over HTTP from here on: a node without its cluster says what is missing.
fn begin_http(
    env: &Env,
    config: &BrokerConfig,
    progress: &Arc<Progress>,
    stopped: &watch::Receiver<bool>,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(address) = &config.network.http_listener else {
        return Ok(None);
    };
    let listener = listen(env, address, "http.listener", &ListenOptions::default())?;
    let bound = listener.local_address().ok();
    let serve = http::serve(Arc::clone(progress), listener, stopped.clone());
    env.spawn.spawn(Lane::Data, "http", Box::pin(serve));
    Ok(bound)
}

/// Serves the other nodes of the cluster, and is able to ask them.
fn begin_peers(
    env: &Env,
    config: &BrokerConfig,
    secret: Option<&ClusterSecret>,
    stopped: &watch::Receiver<bool>,
) -> Result<PeerSide, StartError> {
    let address = &config.network.peer_listener;
    let listener = listen(env, address, "peer.listener", &ListenOptions::default())?;
    Ok(PeerSide::begin(env, address, secret, listener, stopped))
}

/// Brings the metadata quorum up on this node, which belongs to a cluster then.
async fn start_quorum(
    env: &Env,
    config: &Arc<BrokerConfig>,
    directory: &Arc<LogDirectory>,
    peers: Option<&PeerSide>,
    audit: Option<AuditLog>,
) -> Result<Controller, StartError> {
    // A new cluster starts with all that this version has.
    let features = SUPPORTED_FEATURES
        .iter()
        .map(|feature| (feature.name.to_owned(), feature.max_level))
        .collect();
    let options = QuorumOptions {
        directory: config.node.metadata_log_dir.clone(),
        config: Arc::clone(config),
        features,
        audit,
    };
    let env = Env {
        disk: keep_reserves(env, config, directory).await?,
        ..env.clone()
    };
    let controller = match peers {
        Some(peers) => Controller::start_with_peers(env, options, peers.of_quorum()).await?,
        None => Controller::start(env, options).await?,
    };
    Ok(controller)
}

/// Where clients reach this broker and, in a cluster of several, its peers.
fn endpoints(controller: &Controller, bound: &[Bound]) -> Vec<Endpoint> {
    let of_peers = controller
        .address()
        .and_then(|address| peer_endpoint(&address));
    bound.iter().map(Bound::endpoint).chain(of_peers).collect()
}

fn listen(
    env: &Env,
    address: &Address,
    key: &'static str,
    options: &ListenOptions,
) -> Result<Box<dyn Listener>, StartError> {
    let host = match address.host.as_str() {
        "localhost" => "127.0.0.1",
        "" => "0.0.0.0",
        host => host,
    };
    let ip = host
        .trim_matches(['[', ']'])
        .parse()
        .map_err(|_| StartError::Address {
            address: address.host.clone(),
            key,
        })?;
    env.net
        .listen(SocketAddr::new(ip, address.port), options)
        .map_err(|source| StartError::Bind {
            address: address.to_string(),
            key,
            source,
        })
}

impl Bound {
    /// What clients are told of this listener.
    fn endpoint(&self) -> Endpoint {
        let port = match self.advertised.port {
            0 => self.address.port(),
            port => port,
        };
        Endpoint {
            listener: self.config.name.clone(),
            host: self.advertised.host.clone(),
            port,
            security_protocol: 0, // PLAINTEXT, the only one that is served
        }
    }
}

/// Sees to it that the directory is this node's, and says so in it.
fn claim_directory(
    config: &BrokerConfig,
    directory: &LogDirectory,
    controller: &Controller,
    identity: Identity,
) -> Result<(), StartError> {
    let path = &config.node.log_dir;
    let disk = directory.disk();
    let found = MetaProperties::read(&**disk, path)?;
    let cluster_id = controller.cluster_id().to_string();
    if let Some(found) = &found {
        let is_foreign = found
            .cluster_id
            .as_ref()
            .is_some_and(|id| *id != cluster_id)
            || found.node_id.is_some_and(|id| id != identity.broker_id);
        if is_foreign {
            return Err(StartError::Foreign {
                path: path.clone(),
                found: owner(found),
                expected: format!("cluster {cluster_id}, node {}", identity.broker_id),
            });
        }
    }
    let meta = MetaProperties {
        cluster_id: Some(cluster_id),
        node_id: Some(identity.broker_id),
        directory_id: found.as_ref().and_then(|meta| meta.directory_id),
    };
    if found.as_ref() != Some(&meta) {
        meta.write(&**disk, path)?;
    }
    Ok(())
}

fn share(
    env: Env,
    config: Arc<BrokerConfig>,
    (controller, controller_link, peer_links): (Controller, ControllerLink, Option<PeerLinks>),
    directory: Arc<LogDirectory>,
    identity: Identity,
) -> Arc<Shared> {
    let network = &config.network;
    let counters = Arc::new(Counters::default());
    let in_flight_max = u32::try_from(network.queued_max_request_bytes).unwrap_or(u32::MAX);
    let append_budget = Budget::new(in_flight_max - in_flight_max / 4);
    let budget = Budget::new(in_flight_max / 4);
    let disk_watch = DiskWatch::new(Arc::clone(&env.spawn));
    disk_watch.start();
    let mut metrics = Metrics::new(
        Arc::clone(&counters),
        [budget.clone(), append_budget.clone()],
    );
    let (flusher, sealed_flusher) = (Arc::default(), Arc::default());
    let queues = Queues {
        spawn: Arc::clone(&env.spawn),
        controller: controller.clone(),
        flusher: Arc::clone(&flusher),
        sealed_flusher: Arc::clone(&sealed_flusher),
    };
    metrics.observe(Arc::clone(&directory), queues);
    let groups = Groups::default();
    metrics.observe_groups(groups.lag(), &env.clock);
    let slots = network.max_incremental_fetch_session_cache_slots as usize;
    let basis = Arc::new(ReplicaBasis {
        started: Instant::now(),
        env: env.clone(),
        disk_watch,
        flusher,
        sealed_flusher,
        rooms: Rooms::default(),
        offline_replicas: Arc::default(),
        confirmation: Confirmation::new(peer_links.is_some()),
        replication: Replication::default(),
        metrics: Arc::new(metrics),
    });
    Arc::new_cyclic(|shared| Shared {
        identity,
        controller,
        controller_link,
        peer_links,
        directory,
        replicas: Replicas::new(shared.clone()),
        groups,
        offline_replicas: Arc::clone(&basis.offline_replicas),
        flusher: Arc::clone(&basis.flusher),
        sealed_flusher: Arc::clone(&basis.sealed_flusher),
        rewrites: Semaphore::new(REWRITES_MAX),
        room_wanted: Notify::new(),
        retention_wanted: Notify::new(),
        cleaner: Cleaner::default(),
        next_fetch_wait: AtomicU64::new(1),
        fetch_sessions: FetchSessions::new(slots),
        follower_sessions: FetchSessions::new(FOLLOWER_SESSIONS_MAX),
        waiting_followers: WaitingFollowers::default(),
        told_brokers: ToldBrokers::default(),
        producer_ids: ProducerIds::default(),
        pool: Arc::new(BufferPool::new()),
        metrics: Arc::clone(&basis.metrics),
        basis,
        budget,
        append_budget,
        unpack_budget: Budget::new(UNPACKED_IN_FLIGHT_MAX_BYTES),
        accept_limits: watch::Sender::new(accept_limits::of_addresses(&config.network)),
        settings: watch::Sender::new(BrokerConfig::clone(&config)),
        counters,
        config,
        env,
    })
}

fn accept(shared: &Arc<Shared>, bound: Bound, stopped: &watch::Receiver<bool>) {
    let network = &shared.config.network;
    let idle_max = network
        .connections_max_idle_ms
        .map_or(IDLE_FOR_EVER, |millis| {
            Duration::from_millis(u64::try_from(millis.get()).unwrap_or(0))
        });
    let acceptor = Acceptor {
        listener_name: Arc::from(bound.config.name.as_str()),
        service: Arc::new(ClientService::new(Arc::clone(shared))),
        accept_limits: shared.accept_limits.subscribe(),
        limits: ConnectionLimits {
            request_max_bytes: network.socket_request_max_bytes as usize,
            idle_max,
            stall_max: STALL_MAX,
        },
        pool: Arc::clone(&shared.pool),
        budget: shared.budget.clone(),
        counters: Arc::clone(&shared.counters),
        spawn: Arc::clone(&shared.env.spawn),
        stop: stopped.clone(),
    };
    shared.env.spawn.spawn(
        Lane::Data,
        "acceptor",
        Box::pin(acceptor.run(bound.listener)),
    );
}
