//! A quorum of several, in simulation: it forms once, elects, replicates, and forgets nothing.
//!
//! Input: seeds, faults. Output: the verdict.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test: what fails here is the verdict

#[path = "cluster/forgetting.rs"]
mod forgetting;
#[path = "cluster/formation.rs"]
mod formation;
#[path = "cluster/members.rs"]
mod members;
#[path = "cluster/network.rs"]
mod network;
#[path = "cluster/replication.rs"]
mod replication;
