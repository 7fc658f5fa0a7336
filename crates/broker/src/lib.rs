//! The broker's runtime.

mod fetch_waits;
mod handoff;
mod sync;
