//! What the connections of a node have moved.
//!
//! Input: byte counts from the connections. Output: totals for the metrics.
//!
//! Invariant: a count only grows, but for the number of open connections.
//!
//! Source: none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::peer::Throttle;

/// Totals since the start of the node. Each is exact; together they are no snapshot.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open at this moment.
    pub connections: AtomicU64,
    /// Connections accepted.
    pub connections_accepted: AtomicU64,
    /// Connections refused at a limit.
    pub connections_refused: AtomicU64,
    /// Bytes read from sockets.
    pub received_bytes: AtomicU64,
    /// Bytes written to sockets from memory.
    pub sent_bytes: AtomicU64,
    /// Bytes sent from files without passing user space.
    pub sent_file_bytes: AtomicU64,
    /// Bytes of record batches moved from one receive buffer to the next.
    pub moved_bytes: AtomicU64,
    /// Connections open at this moment by address, over all listeners.
    pub(crate) per_ip: Mutex<HashMap<IpAddr, usize>>,
    /// When it was last logged that another node came to a listener of clients.
    pub(crate) misdirected_peers: Throttle,
}

impl Counters {
    /// Adds `amount` to `counter`.
    pub fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(amount as u64, Ordering::Relaxed);
    }

    /// What `counter` stands at.
    #[must_use]
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
