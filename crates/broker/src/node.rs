//! What all parts of one node share.
//!
//! Input: the configuration and the world. Output: one [`Shared`] behind an `Arc`; there are no
//! globals, so that many nodes can live in one process.
//!
//! ```text
//!   Shared ──► Replicas ──► Replica ──► ReplicaBasis
//!      └────────────────────────────────────▲
//! ```
//!
//! Invariants:
//! - everything here is either immutable, or synchronised by itself;
//! - nothing that [`Shared`] owns holds it, so that a node whose tasks have ended, or were killed,
//!   is gone with all that it had open (checked after every simulated run).
//!
//! Source: none.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skein_config::BrokerConfig;
use skein_env::Env;
use skein_metadata::Image;
use skein_net::{AcceptLimits, Budget, BufferPool, Counters, PeerLinks};
use skein_quorum::Controller;
use skein_storage::LogDirectory;
use skein_types::{BrokerEpoch, BrokerId, Millis};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::cleaner::Cleaner;
use crate::confirmation::Confirmation;
use crate::disk_watch::DiskWatch;
use crate::fetch_sessions::FetchSessions;
use crate::flusher::Flusher;
use crate::groups::Groups;
use crate::metrics::Metrics;
use crate::offline_replicas::OfflineReplicas;
use crate::peers::ControllerLink;
use crate::producer_ids::ProducerIds;
use crate::replicas::Replicas;
use crate::replication::Replication;
use crate::rooms::Rooms;
use crate::told_brokers::ToldBrokers;
use crate::waiting_followers::WaitingFollowers;

/// A node's parts.
pub(crate) struct Shared {
    /// The world.
    pub(crate) env: Env,
    /// What replicas use.
    pub(crate) basis: Arc<ReplicaBasis>,
    /// The configuration, as the node was started with it.
    pub(crate) config: Arc<BrokerConfig>,
    /// Who this node is, since its registration.
    pub(crate) identity: Identity,
    /// Where decisions are made, and where the image comes from.
    pub(crate) controller: Controller,
    /// The way to the other nodes; `None` in a cluster of one.
    pub(crate) peer_links: Option<PeerLinks>,
    /// The way to the controller, wherever it is.
    pub(crate) controller_link: ControllerLink,
    /// The log directory.
    pub(crate) directory: Arc<LogDirectory>,
    /// The partitions on this node.
    pub(crate) replicas: Replicas,
    /// The coordinators of groups on this node.
    pub(crate) groups: Groups,
    /// Tells the controller of replicas whose storage has failed.
    pub(crate) offline_replicas: Arc<OfflineReplicas>,
    /// Flushes logs in groups.
    pub(crate) flusher: Arc<Flusher>,
    /// Flushes sealed segments, for whom nobody waits.
    pub(crate) sealed_flusher: Arc<Flusher>,
    /// Logs that may be written anew at the same time, after an unclean end.
    pub(crate) rewrites: Semaphore,
    /// Wakes those who wait to remove files, again and again while the log directory is full.
    pub(crate) room_wanted: Notify,
    /// Has old segments deleted before their time to look at them has come.
    pub(crate) retention_wanted: Notify,
    /// Compacts logs.
    pub(crate) cleaner: Cleaner,
    /// Name of the next fetch that waits.
    pub(crate) next_fetch_wait: AtomicU64,
    /// Incremental fetch sessions of clients.
    pub(crate) fetch_sessions: FetchSessions,
    /// Those of followers, which clients must not push out.
    pub(crate) follower_sessions: FetchSessions,
    /// Fetches of followers that wait.
    pub(crate) waiting_followers: WaitingFollowers,
    /// Which brokers clients are told of, those that died among them.
    pub(crate) told_brokers: ToldBrokers,
    /// Blocks of producer ids.
    pub(crate) producer_ids: ProducerIds,
    /// Receive buffers.
    pub(crate) pool: Arc<BufferPool>,
    /// Bytes of requests that are received as a whole.
    pub(crate) budget: Budget,
    /// Bytes of batches that are received or wait to be written. A budget of their own: when a disk
    /// hangs they fill it, and everybody else must still be heard.
    pub(crate) append_budget: Budget,
    /// Bytes of records that are being unpacked.
    pub(crate) unpack_budget: Budget,
    /// The configuration under the dynamic settings, as they were followed last.
    pub(crate) settings: watch::Sender<BrokerConfig>,
    /// How many are accepted under them.
    pub(crate) accept_limits: watch::Sender<AcceptLimits>,
    /// What connections moved.
    pub(crate) counters: Arc<Counters>,
    /// Everything else that is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// What a replica uses of its node, without the node, which owns it.
pub(crate) struct ReplicaBasis {
    /// When the node began: the zero of its monotonic time.
    pub(crate) started: Instant,
    /// The world.
    pub(crate) env: Env,
    /// Whether the disk is slow.
    pub(crate) disk_watch: Arc<DiskWatch>,
    /// Flushes logs in groups.
    pub(crate) flusher: Arc<Flusher>,
    /// Flushes sealed segments, for whom nobody waits.
    pub(crate) sealed_flusher: Arc<Flusher>,
    /// Has logs give back the room ahead of their ends.
    pub(crate) rooms: Rooms,
    /// Tells the controller of replicas whose storage has failed.
    pub(crate) offline_replicas: Arc<OfflineReplicas>,
    /// Until when the controller has confirmed this node.
    pub(crate) confirmation: Confirmation,
    /// Carries out what replicas order of the rest of the cluster.
    pub(crate) replication: Replication,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// Who this node is in its cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Its broker id.
    pub(crate) broker_id: BrokerId,
    /// The epoch of its registration.
    pub(crate) broker_epoch: BrokerEpoch,
}

impl ReplicaBasis {
    /// What the controller was asked at `sent` it has answered: nobody else is made leader for
    /// `span` from then on.
    pub(crate) fn confirmed(&self, sent: Instant, span: Millis) {
        // It may have been sent before this node's time begins.
        let now = Instant::now();
        let ago = i64::try_from((now - sent).as_millis()).unwrap_or(i64::MAX);
        let sent = self.monotonic(now).saturating_sub(Millis(ago));
        self.confirmation.extend(sent, span);
    }

    /// A point in time, in ms since the node began.
    pub(crate) fn monotonic(&self, at: Instant) -> Millis {
        let since = at.saturating_duration_since(self.started).as_millis();
        Millis(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

impl Shared {
    /// The cluster's metadata as this node knows it.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.controller.image()
    }
}
