//! Nodes of a cluster that answer `QuorumRpc` and `Fetch`, in a simulated world.

use std::net::SocketAddr;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_env::BoxFuture;
use skein_env::sim::SimWorld;
use skein_protocol::messages::quorum_rpc::{QuorumRpcRequest, QuorumRpcResponse};
use skein_protocol::{Decoder, Message, frame};
use tokio::sync::watch;

use super::*;
use crate::{
    AcceptLimits, Acceptor, Admission, Body, Budget, BufferPool, ConnectionInfo, ConnectionLimits,
    Counters, Request, Response, Service, Session, Started,
};

pub(super) const PORT: u16 = 9192;
pub(super) const SECRET: &[u8] = b"0123456789abcdef";

/// Answers with the body that it was asked with; a body that starts with `hang` gets no answer, one
/// that starts with `large` as many bytes as the number behind it says.
#[derive(Clone, Default)]
pub(super) struct Echo {
    /// Who was there, and how many of them have gone.
    pub(super) seen: Arc<Mutex<(Vec<RemotePeer>, usize)>>,
}

struct EchoSession(Echo);

impl Drop for EchoSession {
    fn drop(&mut self) {
        self.0.seen.lock().1 += 1;
    }
}

impl Service for Echo {
    fn open(&self, _: ConnectionInfo) -> Box<dyn Session> {
        panic!("a connection that did not pass the gate")
    }

    fn open_peer(&self, _: ConnectionInfo, peer: RemotePeer) -> Box<dyn Session> {
        self.seen.lock().0.push(peer);
        Box::new(EchoSession(self.clone()))
    }
}

impl Session for EchoSession {
    fn admit(&self, api_key: i16, _: i16) -> Admission {
        assert_eq!(api_key, ApiKey::QuorumRpc.code());
        Admission::Pipelined { header_version: 2 }
    }

    fn start<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Started> {
        Box::pin(async move {
            let Body::Whole(bytes, _) = request.body else {
                panic!("not whole")
            };
            let asked = QuorumRpcRequest::decode(&mut Decoder::new(&bytes), 0).unwrap();
            let text = String::from_utf8_lossy(&asked.body);
            if text.starts_with("hang") {
                return Started::Later(Box::pin(std::future::pending()));
            }
            let body = match text.strip_prefix("large ") {
                Some(count) => Bytes::from(vec![7; count.parse().unwrap()]),
                None => asked.body.clone(),
            };
            let response = QuorumRpcResponse {
                body,
                ..Default::default()
            };
            let id = request.head.correlation_id;
            let encoded = frame::encode_response(ApiKey::QuorumRpc, 0, id, &response).unwrap();
            Started::Answered(Response::from_bytes(encoded.into_bytes().unwrap()))
        })
    }
}

/// A node: its links, and what its service sees.
pub(super) struct Node {
    pub(super) links: PeerLinks,
    pub(super) echo: Echo,
    pub(super) local: Arc<LocalPeer>,
    pub(super) counters: Arc<Counters>,
}

pub(super) fn apis() -> Vec<(ApiKey, RangeInclusive<i16>)> {
    vec![(ApiKey::QuorumRpc, 0..=0)]
}

/// Starts a process on the node `name`.
pub(super) fn start(world: &SimWorld, name: &str, secret: Option<&[u8]>) -> Node {
    let env = world.node(name);
    let secret = secret.map(PeerSecret::new);
    let local = Arc::new(LocalPeer::new(env.rng.as_ref(), secret, apis()));
    let (echo, counters) = (Echo::default(), Arc::new(Counters::default()));
    let (sender, stop) = watch::channel(false);
    let limits = AcceptLimits {
        max_connections: 100,
        max_connections_per_ip: 100,
        ..AcceptLimits::default()
    };
    let acceptor = Acceptor {
        listener_name: "PEER".into(),
        service: Arc::new(echo.clone()),
        accept_limits: watch::channel(limits).1,
        limits: ConnectionLimits {
            request_max_bytes: 100 << 20,
            idle_max: Duration::from_secs(600),
            stall_max: Duration::from_secs(30),
        },
        pool: Arc::new(BufferPool::new()),
        budget: Budget::new(8 << 20),
        counters: Arc::clone(&counters),
        spawn: Arc::clone(&env.spawn),
        stop,
    };
    let gate = PeerGate::new(Arc::clone(&local), Arc::clone(&env.rng));
    let listener = env
        .net
        .bind(SocketAddr::new(world.address(name), PORT))
        .unwrap();
    let run = async move {
        let _sender = sender;
        acceptor.run_behind(gate, listener).await;
    };
    env.spawn.spawn(Lane::Control, "acceptor", Box::pin(run));
    let links = PeerLinks::new(&env, Arc::clone(&local));
    Node {
        links,
        echo,
        local,
        counters,
    }
}

pub(super) fn at(name: &str) -> PeerAddress {
    PeerAddress::new(name, PORT)
}

pub(super) fn say(text: &str) -> QuorumRpcRequest {
    QuorumRpcRequest {
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

impl Node {
    /// What the peer answers over the connection of `purpose`.
    pub(super) async fn ask(
        &self,
        to: &str,
        purpose: Purpose,
        text: &str,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let answer = self.links.call(&at(to), purpose, &say(text), timeout).await;
        answer.map(|answer| answer.body)
    }
}
