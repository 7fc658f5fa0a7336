//! The link between two nodes over real sockets of this machine.
//!
//! Input: two nodes, each with runtimes of its own, one of which ends as a process does. Output:
//! what the other one hears of it.
//!
//! Source: none.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use skein_env::real::{RealOptions, RealWorld};
use skein_env::{BoxFuture, Lane};
use skein_net::{
    AcceptLimits, Acceptor, Admission, Body, Budget, BufferPool, ConnectionInfo, ConnectionLimits,
    Counters, LocalPeer, PeerAddress, PeerError, PeerGate, PeerLinks, PeerSecret, Purpose, Request,
    Response, Service, Session, Started,
};
use skein_protocol::messages::quorum_rpc::{QuorumRpcRequest, QuorumRpcResponse};
use skein_protocol::{ApiKey, Decoder, Message, frame};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(60);
/// What must be quick is quicker than this, also on a machine that does much else.
const QUICK: Duration = Duration::from_secs(1);

/// Answers with what it was asked.
struct Echo;

impl Service for Echo {
    fn open(&self, _: ConnectionInfo) -> Box<dyn Session> {
        Box::new(Self)
    }
}

impl Session for Echo {
    fn admit(&self, _: i16, _: i16) -> Admission {
        Admission::Pipelined { header_version: 2 }
    }

    fn start<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Started> {
        Box::pin(async move {
            let Body::Whole(bytes, _) = request.body else {
                panic!("not whole")
            };
            let asked = QuorumRpcRequest::decode(&mut Decoder::new(&bytes), 0).unwrap();
            let response = QuorumRpcResponse {
                error_code: 0,
                body: asked.body,
            };
            let id = request.head.correlation_id;
            let encoded = frame::encode_response(ApiKey::QuorumRpc, 0, id, &response).unwrap();
            Started::Answered(Response::from_bytes(encoded.into_bytes().unwrap()))
        })
    }
}

struct Node {
    world: RealWorld,
    links: PeerLinks,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Node {
    /// A node that listens at `port`; 0 is any.
    fn start(port: u16) -> Self {
        let options = RealOptions {
            network_threads: 1,
            io_threads: 1,
        };
        let world = RealWorld::new(options).unwrap();
        let env = world.env();
        let secret = PeerSecret::new(b"0123456789abcdef");
        let apis = vec![(ApiKey::QuorumRpc, 0..=0)];
        let local = Arc::new(LocalPeer::new(env.rng.as_ref(), Some(secret), apis));
        let (stop, stopped) = watch::channel(false);
        let limits = AcceptLimits {
            max_connections: 100,
            max_connections_per_ip: 100,
            ..AcceptLimits::default()
        };
        let acceptor = Acceptor {
            listener_name: "PEER".into(),
            service: Arc::new(Echo),
            accept_limits: watch::channel(limits).1,
            limits: ConnectionLimits {
                request_max_bytes: 1 << 20,
                idle_max: Duration::from_secs(600),
                stall_max: Duration::from_secs(30),
            },
            pool: Arc::new(BufferPool::new()),
            budget: Budget::new(8 << 20),
            counters: Arc::new(Counters::default()),
            spawn: Arc::clone(&env.spawn),
            stop: stopped,
        };
        let gate = PeerGate::new(Arc::clone(&local), Arc::clone(&env.rng));
        let (bound, address) = mpsc::channel();
        let net = Arc::clone(&env.net);
        let run = async move {
            let listener = net.bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            bound.send(listener.local_address().unwrap()).unwrap();
            acceptor.run_behind(gate, listener).await;
        };
        env.spawn.spawn(Lane::Control, "acceptor", Box::pin(run));
        Self {
            links: PeerLinks::new(&env, local),
            address: address.recv_timeout(PATIENCE).unwrap(),
            world,
            _stop: stop,
        }
    }

    fn ask(&self, to: &PeerAddress, timeout: Duration) -> Result<bytes::Bytes, PeerError> {
        let request = QuorumRpcRequest {
            body: bytes::Bytes::from_static(b"abc"),
        };
        let call = self.links.call(to, Purpose::Raft, &request, timeout);
        self.world.block_on(call).map(|answer| answer.body)
    }
}

fn at(address: SocketAddr) -> PeerAddress {
    PeerAddress::new(&address.ip().to_string(), address.port())
}

#[test]
fn the_end_of_a_peers_process_is_heard_at_once_and_so_is_its_return() {
    let (here, there) = (Node::start(0), Node::start(0));
    let (to, port) = (at(there.address), there.address.port());
    assert_eq!(here.ask(&to, PATIENCE).unwrap(), &b"abc"[..]);
    let mut presence = here.links.watch(&to);
    assert_eq!(presence.borrow().open, 1);

    let ended = Instant::now();
    assert!(there.world.shutdown(PATIENCE));
    drop(there.links);
    let heard = presence.wait_for(|now| now.lost == 1);
    let heard = here
        .world
        .block_on(async { tokio::time::timeout(PATIENCE, heard).await.is_ok() });
    assert!(heard && ended.elapsed() < QUICK, "{:?}", ended.elapsed());

    let asked = Instant::now();
    let error = here.ask(&to, PATIENCE).unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert!(asked.elapsed() < QUICK, "{:?}", asked.elapsed());

    let _back = Node::start(port);
    let asked = Instant::now();
    assert_eq!(here.ask(&to, PATIENCE).unwrap(), &b"abc"[..]);
    assert!(asked.elapsed() < QUICK, "{:?}", asked.elapsed());
}

#[test]
fn a_process_that_hangs_is_not_taken_for_a_dead_one() {
    let here = Node::start(0);
    // The kernel accepts for it, as for a process that is stopped.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = at(hung.local_addr().unwrap());
    let timeout = Duration::from_millis(200);
    let asked = Instant::now();
    let error = here.ask(&to, timeout).unwrap_err();
    assert!(error.is_timed_out() && !error.is_refused(), "{error}");
    let took = asked.elapsed();
    assert!(took >= timeout && took < timeout + QUICK, "{took:?}");
}
