//! The files of the broker whose interleavings loom explores: `make loom`.
//!
//! Input: the sources of the broker, as they are. Output: their loom tests.
//!
//! Invariant: nothing is copied; a change in the broker is what is explored.
//!
//! Source: the loom documentation.

#[path = "../../src/fetch_waits.rs"]
mod fetch_waits;
#[path = "../../src/handoff.rs"]
mod handoff;
#[path = "../../src/sync.rs"]
mod sync;
