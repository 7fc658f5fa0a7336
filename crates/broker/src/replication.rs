//! What replicas order of the rest of the cluster, and the tasks that carry it out.
//!
//! ```text
//!   follower ── FetchFrom ─────► Fetchers ──► a task per leader ──► Fetch ──► its peer listener
//!      ▲                                            │
//!      └── batches, divergence, range ◄─────────────┘
//!   leader ──── ProposeIsr ────► IsrProposals ─► one task ─► AlterPartition ─► the controller
//!   follower ── ReportFlushed ─► FlushReports ─► one task ─► ReplicaFlushed ─► the leader
//! ```
//!
//! Input: effects of replicas, which wait for nobody. Output: events of replicas.
//!
//! Invariants:
//! - a replica is held by nothing here: one that has gone is forgotten;
//! - what waits is at most one order per replica and kind: a later one stands for the former.
//!
//! Source: KIP-101, KIP-227, KIP-497; `ReplicaFetcherManager` and `AlterPartitionManager` of Kafka.

use std::sync::Arc;

use skein_env::Lane;
use tokio::sync::watch;

use crate::node::Shared;
use crate::peers::deaths;
use crate::tasks::spawn_on;

mod deliver;
mod fetchers;
mod flush_reports;
mod isr_proposals;

pub(crate) use deliver::FetchedGroup;
pub(crate) use fetchers::Fetchers;
pub(crate) use flush_reports::FlushReports;
pub(crate) use isr_proposals::IsrProposals;

/// The orders of a node's replicas.
#[derive(Default)]
pub(crate) struct Replication {
    pub(crate) fetchers: Fetchers,
    pub(crate) isr_proposals: IsrProposals,
    pub(crate) flush_reports: FlushReports,
}

/// Starts to carry out orders, until the node stops.
pub(crate) fn start(shared: &Arc<Shared>, stop: &watch::Receiver<bool>) {
    let fetching = fetchers::run(Arc::clone(shared), stop.clone());
    spawn_on(Lane::Data, shared, stop, "fetchers", fetching);
    let reporting = flush_reports::run(Arc::clone(shared));
    spawn_on(Lane::Data, shared, stop, "flush-reports", reporting);
    let proposing = isr_proposals::run(Arc::clone(shared));
    spawn_on(Lane::Control, shared, stop, "isr-proposals", proposing);
    let watching = deaths::watch(Arc::clone(shared));
    spawn_on(Lane::Control, shared, stop, "deaths", watching);
}

#[cfg(test)]
mod tests;
