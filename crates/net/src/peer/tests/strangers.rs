//! Nodes that do not belong together, and those that went to the wrong door.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::BytesMut;
use skein_env::BoxFuture;
use skein_env::sim::SimWorld;
use tokio::sync::watch;
use tokio::time::Instant;

use super::harness::*;
use super::*;
use crate::{
    AcceptLimits, Acceptor, Admission, Budget, BufferPool, ConnectionInfo, ConnectionLimits,
    Counters, Request, Service, Session, Started,
};

#[test]
fn nodes_with_other_secrets_or_none_are_refused_and_serve_nobody() {
    for (ours, theirs, expected) in [
        (
            Some(&b"another secret.."[..]),
            Some(SECRET),
            "cluster.secret.file differ",
        ),
        (
            None,
            Some(SECRET),
            "has a cluster.secret.file and this one has not",
        ),
        (
            Some(SECRET),
            None,
            "this node has a cluster.secret.file and the other one has not",
        ),
    ] {
        let world = SimWorld::new(1);
        world.block_on(async {
            let (a, b) = (start(&world, "a", ours), start(&world, "b", theirs));
            let error = a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(
                !error.is_refused() && !error.is_timed_out(),
                "no evidence of a death"
            );
            assert!(b.echo.seen.lock().0.is_empty());
            // Nobody hammers at a door that only a person can open.
            let began = Instant::now();
            for _ in 0..20 {
                a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap_err();
            }
            assert!(began.elapsed() > Duration::from_secs(5));
            // With the right secret it works within the longest pause.
            world.kill("b");
            let _b = start(&world, "b", ours);
            assert_eq!(a.ask("b", Purpose::Raft, "y", PATIENCE).await.unwrap(), "y");
        });
    }
}

/// A listener of clients, which knows none of the APIs of peers.
struct ForClients;

impl Service for ForClients {
    fn open(&self, _: ConnectionInfo) -> Box<dyn Session> {
        Box::new(Self)
    }
}

impl Session for ForClients {
    fn admit(&self, _: i16, _: i16) -> Admission {
        Admission::Refused {
            reason: "an API that is not served",
        }
    }

    fn start<'a>(&'a mut self, _: Request<'a>) -> BoxFuture<'a, Started> {
        panic!("a request that was not admitted")
    }
}

#[test]
fn a_peer_on_a_listener_of_clients_is_closed_and_knows_what_may_be_wrong() {
    let world = SimWorld::new(1);
    let (node, counters) = (world.node("b"), Arc::new(Counters::default()));
    let (_sender, stop) = watch::channel(false);
    let limits = AcceptLimits {
        max_connections: 100,
        max_connections_per_ip: 100,
        ..AcceptLimits::default()
    };
    let acceptor = Acceptor {
        listener_name: "PLAINTEXT".into(),
        service: Arc::new(ForClients),
        accept_limits: watch::channel(limits).1,
        limits: ConnectionLimits {
            request_max_bytes: 1 << 20,
            idle_max: Duration::from_secs(600),
            stall_max: Duration::from_secs(30),
        },
        pool: Arc::new(BufferPool::new()),
        budget: Budget::new(1 << 20),
        counters: Arc::clone(&counters),
        spawn: Arc::clone(&node.spawn),
        stop,
    };
    world.block_on(async {
        let a = start(&world, "a", None);
        let listener = node
            .net
            .bind(SocketAddr::new(world.address("b"), PORT))
            .unwrap();
        let run = acceptor.run(listener);
        node.spawn.spawn(Lane::Data, "acceptor", Box::pin(run));
        let error = a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap_err();
        assert!(
            error.to_string().contains("this is no peer.listener"),
            "{error}"
        );
        // It says so once, and not for each attempt.
        assert_eq!(counters.misdirected_peers.admit(Instant::now()), None);
    });
}

#[test]
fn a_kafka_client_on_the_peer_listener_is_answered_and_closed() {
    use skein_protocol::frame;
    use skein_protocol::messages::api_versions::ApiVersionsRequest;
    let world = SimWorld::new(1);
    world.block_on(async {
        let node = start(&world, "node", Some(SECRET));
        let client = world.node("client");
        let mut stream = client.net.connect("node", PORT).await.unwrap();
        let request = ApiVersionsRequest::default();
        let bytes = frame::encode_request(&request, 3, 7, None)
            .unwrap()
            .into_bytes()
            .unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let pieces = [std::io::IoSlice::new(rest)];
            let sent = poll_fn(|context| stream.poll_write(context, &pieces, false)).await;
            rest = &rest[sent.unwrap()..];
        }
        let mut answer = BytesMut::with_capacity(1000);
        while poll_fn(|context| stream.poll_read(context, &mut answer, 500))
            .await
            .unwrap()
            > 0
        {}
        let answer = answer.freeze().slice(4..);
        let (id, answer) = frame::decode_response::<ApiVersionsRequest>(&answer, 3).unwrap();
        assert_eq!((id, answer.error_code), (7, 31));
        assert!(node.echo.seen.lock().0.is_empty());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(
            Counters::read(&node.counters.connections),
            0,
            "its place is free"
        );
    });
}

#[test]
fn a_listener_that_never_greets_is_given_up() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let a = start(&world, "a", None);
        let mute = world.node("mute");
        let address = SocketAddr::new(world.address("mute"), PORT);
        let _listener = mute.net.bind(address).unwrap();
        let began = Instant::now();
        let error = a
            .ask("mute", Purpose::Raft, "x", PATIENCE)
            .await
            .unwrap_err();
        assert!(
            matches!(error, PeerError::Handshake(HandshakeError::TimedOut(_))),
            "{error}"
        );
        let took = began.elapsed();
        assert!(took < Duration::from_millis(2100), "{took:?}");
    });
}
