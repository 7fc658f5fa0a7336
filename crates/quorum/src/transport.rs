//! How the bytes of one member reach another.
//!
//! Input: an address of the peer list, a request. Output: the other member's answer, or why there
//! is none.
//!
//! Invariant: all that members say to each other goes through here, as envelopes (`wire.rs`); who
//! implements it sees bytes only.
//!
//! Source: own design.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use skein_env::BoxFuture;

/// Bytes of the longest request or answer: the largest entry of the log with as many others as a
/// read for replication returns. Snapshots go in pieces that are far smaller.
pub const PEER_MESSAGE_MAX_BYTES: usize = 40 * 1024 * 1024;

/// The way to the peer listeners of other members. Below it are connections, their authentication,
/// their limits; Raft's requests are small and urgent and must not wait behind bulk data.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends `request` to the node at `address`, an entry of a peer list, and waits for the answer
    /// that its [`crate::PeerAnswers::answer`] gave. A node may call itself.
    ///
    /// After `timeout` nobody waits any more. The request may have been served all the same, and an
    /// implementation may send it again only if no byte of it was sent before.
    ///
    /// # Errors
    /// The node cannot be reached, refused the connection, or did not answer in time.
    fn call<'a>(
        &'a self,
        address: &'a str,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Bytes>>;
}
