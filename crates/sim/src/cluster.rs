//! A whole cluster in one thread, from one seed.
//!
//! Input: a seed, and how many nodes there are. Output: a verdict: the cluster kept what it had
//! promised, or which promise it broke and what led there.
//!
//! ```text
//!            ClusterPlan ◄── seed
//!              │
//!   Nemesis ─faults─► SimWorld ◄──── Brokers   production code, the quorum inside, a host each
//!                        ▲             ▲ │
//!                        │     wire    │ │ views, images: observer
//!                     clients ─────────┘ ▼
//!                        └─ events ──► ClusterWitness ─► invariants    one file each
//! ```
//!
//! A run has the phases of a run of one node (`run.rs`): safety, convergence, and reading back, the
//! latter once more after a power cut of all nodes.
//!
//! Invariants:
//! - two runs of one seed with the same options have the same trace hash;
//! - clients judge by what any client can see; the observer only looks, and changes nothing.
//!
//! Source: as `lib.rs`.

mod admin;
mod client;
mod committer;
mod consumer;
mod converge;
mod event;
mod invariants;
mod logs;
mod machine;
mod machines;
mod nemesis;
mod observer;
mod plan;
mod producer;
mod risks;
mod run;
mod witness;

pub(crate) use run::run;

/// The name of a node's host.
pub(crate) fn host(node: usize) -> String {
    format!("node-{}", node + 1)
}
