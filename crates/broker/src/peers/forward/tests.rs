//! Requests of clients of one node, decided by another, in a simulated cluster.

use skein_env::sim::SimWorld;
use skein_protocol::messages::create_topics::CreateTopicsRequest;
use skein_protocol::messages::replicas_flushed::ReplicasFlushedRequest;
use tokio::time::sleep;

use super::*;
use crate::handlers::create_topics::make;
use crate::handlers::create_topics::tests::topic_of_one;
use crate::peers::peer_address_of;
use crate::testing::Node;
use crate::testing::cluster::{HOSTS, active, controller_of, until, with_cluster, with_settings};

const MILLISECOND: Duration = Duration::from_millis(1);

/// How long the controller's disk stands still.
const STALL: Duration = Duration::from_millis(400);

/// No heartbeat comes in between.
const NO_HEARTBEATS: &[&str] = &[
    "broker.heartbeat.interval.ms=60000",
    "broker.session.timeout.ms=120000",
];

/// A controller and another node. The third is dead, so that nothing is decided without the disks
/// of both.
struct Two<'w> {
    world: &'w SimWorld,
    controller: Node,
    controller_host: &'static str,
    other: Node,
}

fn with_two(seed: u64, test: impl AsyncFnOnce(Two<'_>)) {
    with_settings(seed, NO_HEARTBEATS, async |world, nodes| {
        let leading = controller_of(&nodes).await;
        let mut nodes: Vec<_> = nodes.into_iter().map(Some).collect();
        let controller = nodes[leading].take().unwrap();
        let dead = (leading + 1) % nodes.len();
        world.kill(HOSTS[dead]);
        drop(nodes[dead].take());
        let other = nodes.into_iter().flatten().next().unwrap();
        until(|| active(&controller) == 2).await;
        let controller_host = HOSTS[leading];
        let two = Two {
            world,
            controller,
            controller_host,
            other,
        };
        test(two).await;
    });
}

impl Two<'_> {
    /// Nothing is decided before the returned moment.
    fn stall(&self) -> Instant {
        let end = Instant::now() + STALL;
        self.world.disk(self.controller_host).stall_until(end);
        end
    }

    /// Has the controller make a topic, asked by the other node.
    async fn create(&self, name: &str) {
        let topics = vec![topic_of_one(name)];
        make(self.other.shared(), topics, 5_000).await.unwrap();
    }
}

#[test]
fn nothing_that_brokers_ask_waits_behind_a_forwarded_request() {
    with_two(31, async |two| {
        two.create("first").await;
        let end = two.stall();
        let create = async {
            two.create("second").await;
            assert!(Instant::now() >= end, "it had nothing to wait for");
        };
        let others = async {
            let shared = two.other.shared();
            let controller = two.controller.shared().identity.broker_id;
            let image = shared.image();
            let address = peer_address_of(image.broker(controller).unwrap()).unwrap();
            let links = shared.peer_links.as_ref().unwrap();
            sleep(10 * MILLISECOND).await;
            for _ in 0..10 {
                let (asked, request) = (Instant::now(), ReplicasFlushedRequest::default());
                let call = links.call(&address, Purpose::Control, &request, STALL);
                call.await.unwrap();
                assert!(asked.elapsed() < 20 * MILLISECOND, "{:?}", asked.elapsed());
            }
            assert!(Instant::now() < end);
        };
        tokio::join!(create, others);
    });
}

#[test]
fn forwarded_requests_are_decided_together() {
    with_two(32, async |two| {
        two.create("first").await;
        // So long takes each entry that is written.
        let speed = crate::testing::speed(50 * MILLISECOND, Duration::ZERO);
        two.world.disk(two.controller_host).set_speed(speed);
        let begun = Instant::now();
        two.create("alone").await;
        let one = begun.elapsed();
        assert!(one > 50 * MILLISECOND, "{one:?}");
        let begun = Instant::now();
        tokio::join!(
            two.create("a"),
            two.create("b"),
            two.create("c"),
            two.create("d"),
            two.create("e"),
            two.create("f"),
        );
        let six = begun.elapsed();
        assert!(six < 3 * one, "one {one:?}, six {six:?}");
    });
}

#[test]
fn an_election_makes_a_client_wait_and_is_not_told_to_it() {
    with_cluster(33, async |world, mut nodes| {
        let dead = controller_of(&nodes).await;
        world.kill(HOSTS[dead]);
        drop(nodes.remove(dead));
        // Its connections have ended, and nobody else is known yet.
        sleep(10 * MILLISECOND).await;
        assert!(
            nodes
                .iter()
                .all(|node| !node.shared().controller.is_controller())
        );
        let create = async |node: &Node, name: &str| {
            let (api, version) = (ApiKey::CreateTopics, 7);
            let request = CreateTopicsRequest {
                topics: vec![topic_of_one(name)],
                timeout_ms: 5_000,
                validate_only: false,
            };
            let mut e = Encoder::new();
            request.encode(&mut e, version).unwrap();
            let body = e.finish().into_bytes().unwrap();
            let context = node.context(api, version);
            match forward(node.shared(), &context, &body).await {
                Some(Started::Answered(_)) => assert!(is_known(node, name)),
                // It is the controller.
                None => assert!(node.shared().controller.is_controller()),
                Some(_) => panic!("{name} has no answer"),
            }
        };
        tokio::join!(create(&nodes[0], "a"), create(&nodes[1], "b"));
        let known = ["a", "b"].map(|name| is_known(&nodes[0], name));
        assert!(known.contains(&true), "nobody has forwarded anything");
    });
}

#[test]
fn a_node_that_is_not_the_controller_refuses_an_envelope_at_once() {
    with_two(34, async |two| {
        let node = &two.other;
        let request = CreateTopicsRequest {
            topics: vec![topic_of_one("held")],
            timeout_ms: 5_000,
            validate_only: false,
        };
        let frame = frame::encode_request(&request, 7, 0, Some(&CLIENT_ID)).unwrap();
        let envelope = EnvelopeRequest {
            request_data: frame.into_bytes().unwrap().slice(LENGTH_BYTES..),
            ..Default::default()
        };
        let context = node.context(ApiKey::Envelope, 0);
        let asked = Instant::now();
        let answer = handle(node.shared(), &context, envelope).await;
        assert_eq!(answer.error_code, ErrorCode::NotController.code());
        assert_eq!(asked.elapsed(), Duration::ZERO, "it was sent on");
    });
}

fn is_known(node: &Node, name: &str) -> bool {
    node.shared().image().topic_by_name(name).is_some()
}
