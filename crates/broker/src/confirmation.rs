//! Until when this node may act as a leader by itself.
//!
//! Input: answers of the controller. Output: a point in time, which everybody reads without a lock.
//!
//! ```text
//!   heartbeat sent ─────────── answered: "for 1.9 s" ──────────────────────► end
//!        └──────────────────────── counted from here ────────────────────────►│
//! ```
//!
//! Invariants:
//! - it counts from when the question was sent: the controller, which ends the session of a broker
//!   that it does not hear, heard it later;
//! - it only ever moves on; a node that is fenced hears so from its image, and leads nothing then;
//! - a node without peers is always confirmed.
//!
//! What followers confirm is each partition's own (`skein_partition`, `confirmation.rs`).
//!
//! Source: own design (ARCHITECTURE, "Who may act as leader").

use std::sync::atomic::{AtomicI64, Ordering};

use skein_types::Millis;

/// See the module. Times are on the node's monotonic clock.
#[derive(Debug)]
pub(crate) struct Confirmation {
    until: AtomicI64,
}

impl Confirmation {
    /// Of a node that has `peers`, or none.
    pub(crate) fn new(has_peers: bool) -> Self {
        let until = match has_peers {
            true => i64::MIN,
            false => i64::MAX,
        };
        Self {
            until: AtomicI64::new(until),
        }
    }

    /// The controller has answered what was asked at `sent`: nobody else is made leader for `span`
    /// from then on.
    pub(crate) fn extend(&self, sent: Millis, span: Millis) {
        let until = sent.saturating_add(span);
        self.until.fetch_max(until.get(), Ordering::Release);
    }

    /// The first moment at which the controller's word is too old.
    pub(crate) fn until(&self) -> Millis {
        Millis(self.until.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests;
