//! The same over the simulated network: latency, pieces, back-pressure, disturbed tasks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use skein_env::sim::{LinkPlan, SimWorld};
use skein_env::{Env, Lane, Stream};
use tokio::sync::watch;

use super::super::*;
use super::harness::*;
use crate::{AcceptLimits, Acceptor, ConnectionInfo, Service};

struct TestService(SeenBy);

impl Service for TestService {
    fn open(&self, _info: ConnectionInfo) -> Box<dyn Session> {
        Box::new(self.0.clone())
    }
}

const PORT: u16 = 9092;

fn start_node(env: &Env, address: SocketAddr, limits: AcceptLimits) -> (SeenBy, Arc<Counters>) {
    let seen = SeenBy::default();
    let counters = Arc::new(Counters::default());
    let (sender, stop) = watch::channel(false);
    let acceptor = Acceptor {
        listener_name: "TEST".into(),
        service: Arc::new(TestService(seen.clone())),
        accept_limits: watch::channel(limits).1,
        limits: LIMITS,
        pool: Arc::new(BufferPool::new()),
        budget: Budget::new(3_000_000),
        counters: Arc::clone(&counters),
        spawn: Arc::clone(&env.spawn),
        stop,
    };
    let listener = env.net.bind(address).unwrap();
    let run = async move {
        let _sender = sender;
        acceptor.run(listener).await;
    };
    env.spawn.spawn(Lane::Data, "acceptor", Box::pin(run));
    (seen, counters)
}

fn many() -> AcceptLimits {
    AcceptLimits {
        max_connections: 100,
        max_connections_per_ip: 100,
        ..AcceptLimits::default()
    }
}

async fn send(stream: &Mutex<Box<dyn Stream>>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = poll_fn(|context| {
            stream
                .lock()
                .poll_write(context, &[io::IoSlice::new(bytes)], false)
        });
        bytes = &bytes[count.await.unwrap()..];
    }
}

/// Reads `wanted` bytes, or to the end of the stream.
async fn receive(stream: &Mutex<Box<dyn Stream>>, wanted: usize) -> BytesMut {
    let mut bytes = BytesMut::new();
    while bytes.len() < wanted {
        bytes.reserve(wanted);
        let count = poll_fn(|context| stream.lock().poll_read(context, &mut bytes, wanted)).await;
        if count.unwrap_or(0) == 0 {
            break;
        }
    }
    bytes
}

/// One client sends requests of all sizes while it reads the answers.
fn run_seed(seed: u64) {
    let world = SimWorld::new(seed);
    let plan = LinkPlan {
        fragment_one_in: 2,
        buffer_max: 5000,
        ..LinkPlan::default()
    };
    world.net().set_plan(plan);
    let (node, client) = (world.node("node"), world.node("client"));
    let address = SocketAddr::new(world.address("node"), PORT);
    world.block_on(async {
        let (seen, counters) = start_node(&node, address, many());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let stream = client.net.connect("node", PORT).await.unwrap();
        let stream = Mutex::new(stream);
        let sizes = [0_usize, 1, 100, 3000, 20_000, 40_000];
        let shift = usize::try_from(seed).unwrap();
        let frames: Vec<u8> = (0..40_u8)
            .flat_map(|id| {
                let batch = vec![id; sizes[(usize::from(id) + shift) % sizes.len()]];
                let kind = if id % 3 == 0 { NOW } else { STREAMED };
                frame_of(kind, i32::from(id), &batches_of(&[&batch, b"x"]))
            })
            .collect();
        let (answers, ()) = tokio::join!(receive(&stream, 40 * 8), send(&stream, &frames));
        let ids = answers
            .chunks(8)
            .map(|answer| i32::from_be_bytes(answer[4..].try_into().unwrap()));
        assert!(ids.eq(0..40), "seed {seed}");
        assert_eq!(seen.started(), (0..40).collect::<Vec<_>>());
        assert_eq!(
            Counters::read(&counters.received_bytes),
            frames.len() as u64
        );
    });
}

#[test]
fn answers_come_in_order_under_many_seeds() {
    for seed in 0..60 {
        run_seed(seed);
    }
}

#[test]
fn connections_above_the_limits_are_closed_at_once_and_places_come_back() {
    let client_address = {
        let world = SimWorld::new(1);
        let _ = (world.node("node"), world.node("client"));
        world.address("client")
    };
    for limits in [
        AcceptLimits {
            max_connections: 2,
            ..many()
        },
        AcceptLimits {
            max_connections_per_ip: 2,
            ..many()
        },
        // An own limit may be higher than that of the others, or lower.
        AcceptLimits {
            max_connections_per_ip: 0,
            per_ip_overrides: Arc::new([(client_address, 2)].into()),
            ..many()
        },
        AcceptLimits {
            per_ip_overrides: Arc::new([(client_address, 2)].into()),
            ..many()
        },
        // That of another address says nothing.
        AcceptLimits {
            max_connections_per_ip: 2,
            per_ip_overrides: Arc::new([(IpAddr::from([10, 9, 9, 9]), 50)].into()),
            ..many()
        },
    ] {
        let world = SimWorld::new(1);
        let (node, client) = (world.node("node"), world.node("client"));
        let address = SocketAddr::new(world.address("node"), PORT);
        world.block_on(async {
            let (_, counters) = start_node(&node, address, limits);
            let mut open = Vec::new();
            for _ in 0..2 {
                open.push(Mutex::new(client.net.connect("node", PORT).await.unwrap()));
            }
            let third = Mutex::new(client.net.connect("node", PORT).await.unwrap());
            assert!(receive(&third, 1).await.is_empty(), "closed");
            assert_eq!(Counters::read(&counters.connections_refused), 1);
            for stream in &open {
                send(stream, &frame_of(NOW, 1, b"")).await;
                assert_eq!(receive(stream, 8).await.len(), 8);
            }
            open.pop();
            tokio::time::sleep(Duration::from_secs(2)).await;
            let again = Mutex::new(client.net.connect("node", PORT).await.unwrap());
            send(&again, &frame_of(NOW, 1, b"")).await;
            assert_eq!(receive(&again, 8).await.len(), 8);
            assert_eq!(Counters::read(&counters.connections), 2);
        });
    }
}
