//! What a server means: the seam between connections and the broker.
//!
//! Input: requests, each with its header and its body. Output: how each was started, and its
//! answer, now or later.
//!
//! Invariant: a session's `start` returns when the request has taken effect locally (a Produce when
//! it is appended, a Fetch when it is registered), so that the next request of the connection finds
//! that effect. A barrier starts when all before it are answered, and is answered before the next
//! starts. A session may let requests of one [`Burst`] take effect together, at its end, if none of
//! them can tell.
//!
//! Source: Kafka's ordering guarantee per connection.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use skein_env::BoxFuture;
use tokio::time::Instant;

use crate::{BodyReader, BytesPermit, RemotePeer, RequestHead, Response};

/// Serves connections.
pub trait Service: Send + Sync + 'static {
    /// Starts to serve a connection.
    fn open(&self, info: ConnectionInfo) -> Box<dyn Session>;

    /// Starts to serve a connection of another node of the cluster, which has proved to be one; see
    /// [`crate::Acceptor::run_behind`]. The session is dropped when the connection has ended.
    fn open_peer(&self, info: ConnectionInfo, peer: RemotePeer) -> Box<dyn Session> {
        let _ = peer;
        self.open(info)
    }
}

/// Who is connected, and where.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Number of the connection since the node's start.
    pub id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// Name of the listener it came through.
    pub listener: Arc<str>,
}

/// How a request relates to its neighbours on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Starts when those before it have taken effect.
    Pipelined {
        /// Version of the request header: 1, or 2 with tags.
        header_version: i16,
    },
    /// Like `Pipelined`, and takes its body as it arrives.
    Streamed {
        /// Version of the request header.
        header_version: i16,
    },
    /// Starts when those before it are answered; nothing starts before it is answered.
    Barrier {
        /// Version of the request header.
        header_version: i16,
    },
    /// The connection must be closed.
    Refused {
        /// Why, for the log.
        reason: &'static str,
    },
}

/// A request's body.
pub enum Body<'a> {
    /// All of it, with the bytes it holds of the node's budget.
    Whole(Bytes, BytesPermit),
    /// As it arrives.
    Stream(BodyReader<'a>),
}

/// A request.
pub struct Request<'a> {
    /// Its header.
    pub head: RequestHead,
    /// Its body.
    pub body: Body<'a>,
    /// When its first byte was looked at.
    pub received: Instant,
}

/// What became of a request's start.
pub enum Started {
    /// Answered.
    Answered(Response),
    /// In effect; the answer follows. `None` means that there will be none, and the connection is
    /// closed (Kafka's way to tell an error to `acks=0`).
    Later(BoxFuture<'static, Option<Response>>),
    /// As `Later`, and what is still to be done goes on while those before it are not answered: for
    /// work that takes long by itself. It costs a poll whenever anything of the connection moves.
    Concurrent(BoxFuture<'static, Option<Response>>),
    /// The connection must be closed.
    Close {
        /// Why, for the log.
        reason: String,
    },
}

/// The requests of one connection that arrived together: those of one turn of its task.
///
/// A session that gathers them must carry out what it has gathered at the end, and when it is
/// dropped.
pub trait Burst: Send + Sync {
    /// Nothing more follows for now: the connection waits, yields, or ends. False: this is not done
    /// yet, other tasks should run before it is called again.
    fn end(&self) -> bool;
}

/// Nothing is gathered.
impl Burst for () {
    fn end(&self) -> bool {
        true
    }
}

/// Serves one connection.
pub trait Session: Send {
    /// How a request of this API and version is to be taken.
    fn admit(&self, api_key: i16, api_version: i16) -> Admission;

    /// What the session gathers of requests that arrive together.
    fn burst(&self) -> Arc<dyn Burst> {
        Arc::new(())
    }

    /// Starts a request. A streamed body must be read to its end, unless the answer is
    /// [`Started::Close`].
    fn start<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Started>;
}
