//! What every implementation of the traits promises, checked on the real world and on the simulated
//! one without faults.
//!
//! Input: each implementation. Output: the same behaviour.
//!
//! Invariant: a test here knows nothing of the implementation it runs on.
//!
//! Source: the contracts in the traits' documentation.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "conformance/disk.rs"]
mod disk;
#[path = "conformance/net.rs"]
mod net;
