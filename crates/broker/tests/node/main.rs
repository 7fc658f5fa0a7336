//! A node on real sockets and a real directory, seen by a client that speaks the wire protocol.
//!
//! Input: requests, and hooks in front of the node's disk and network. Output: answers, what they
//! cost, and what goes on while a disk hangs.
//!
//! Invariant: one node runs at a time, because some tests count what the whole process does.
//!
//! Source: none.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod allocations;
mod burst;
mod compaction;
mod data_path;
mod harness;
mod hooks;
mod hung_disk;
mod page_cache;
mod produce;
mod redact;
mod served;
mod stopping;
