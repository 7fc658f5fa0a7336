//! Connections: frames in, responses out in the order of their requests.
//!
//! Input: streams from `skein_env::Net`; requests' meaning from a [`Service`]. Output: each request
//! started when those before it have taken effect, each response written when those before it are.
//!
//! Invariants:
//! - one task per connection, no thread per connection, nothing polls a clock to find work;
//! - responses leave in request order: [`outbox::Outbox`] is a queue and nothing else writes;
//! - memory is bounded: one frame or batch per connection is received at a time, its bytes are
//!   reserved from a [`Budget`] of the node first, and at a bound the socket is not read;
//! - record bytes stay where the socket put them: a batch is split off the receive buffer.
//!
//! Source: the Kafka protocol guide (framing, ordering).

mod accept;
mod budget;
mod buffer_pool;
mod call;
mod connection;
mod counters;
mod frame;
mod outbox;
mod peer;
mod receive;
mod response;
mod service;
#[cfg(test)]
mod testing;
mod timer;
mod turn;

pub use accept::{AcceptLimits, Acceptor};
pub use budget::{Budget, BytesPermit};
pub use buffer_pool::BufferPool;
pub use call::{CallDriver, CallError, CallLimits, Caller, Pending};
pub use connection::{Connection, ConnectionLimits, Wire};
pub use counters::Counters;
pub use frame::{FrameError, RequestHead};
pub use peer::{
    HandshakeError, LocalPeer, PeerAddress, PeerError, PeerGate, PeerLinks, PeerSecret, Presence,
    Purpose, RemotePeer,
};
pub use receive::{BodyReader, ReceiveError};
pub use response::{FileRange, Part, Response};
pub use service::{Admission, Body, Burst, ConnectionInfo, Request, Service, Session, Started};
