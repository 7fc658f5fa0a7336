//! Tests of [`super`], on a node in the simulated world, without a connection.

use skein_env::sim::SimWorld;
use skein_net::Part;
use skein_partition::Acks;
use skein_protocol::frame;
use skein_protocol::messages::fetch::{FetchPartition, FetchTopic};
use tokio::time::sleep;

use super::*;
use crate::testing::{HOST, Node, append, batch, config};

const VERSION: i16 = 12;

fn request(topics: &[(&str, i64)], min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        min_bytes,
        max_wait_ms,
        max_bytes: 1_000_000,
        topics: topics
            .iter()
            .map(|(topic, offset)| FetchTopic {
                topic: Str::from((*topic).to_owned()),
                partitions: vec![FetchPartition {
                    fetch_offset: *offset,
                    partition_max_bytes: 1_000_000,
                    ..Default::default()
                }],
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// Starts the fetch and waits for its answer; the records of each partition, by their length.
async fn fetch(node: &Node, request: FetchRequest) -> (FetchResponse, Vec<usize>) {
    let encoded = frame::encode_request(&request, VERSION, 7, None).unwrap();
    // Behind length, API key, version, correlation id, client id and no tags.
    let body = encoded.into_bytes().unwrap().slice(4 + 2 + 2 + 4 + 2 + 1..);
    let context = node.context(ApiKey::Fetch, VERSION);
    let response = match start(node.shared(), &context, &body).await {
        Started::Answered(response) => response,
        Started::Later(response) => response.await.unwrap(),
        _ => panic!("a fetch has an answer"),
    };
    let mut frame = Vec::new();
    for part in response.parts {
        match part {
            Part::Bytes(bytes) => frame.extend_from_slice(&bytes),
            Part::File(range) => {
                let mut bytes = vec![0; range.length];
                let count = range.file.read_at(&mut bytes, range.offset).unwrap();
                assert_eq!(count, range.length, "a range past the end of its file");
                frame.extend_from_slice(&bytes);
            }
        }
    }
    let frame = Bytes::from(frame).slice(4..);
    let (_, response) = frame::decode_response::<FetchRequest>(&frame, VERSION).unwrap();
    let lengths = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| match &partition.records {
            Some(Records::Bytes(bytes)) => bytes.len(),
            _ => 0,
        })
        .collect();
    (response, lengths)
}

fn on_node(test: impl AsyncFnOnce(&SimWorld, &Node)) {
    let world = SimWorld::new(1);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        for topic in ["one", "two"] {
            node.create(topic, &[]).await;
        }
        test(&world, &node).await;
    });
}

#[test]
fn a_fetch_at_the_end_waits_as_long_as_it_may() {
    on_node(async |_, node| {
        let started = Instant::now();
        let (_, lengths) = fetch(node, request(&[("one", 0)], 1, 500)).await;
        assert_eq!(lengths, [0]);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(took < Duration::from_millis(600), "{took:?}");
        let replica = node.replica("one").await.unwrap();
        assert_eq!(
            replica.waits.count(),
            0,
            "a fetch that ended is still registered"
        );
    });
}

#[test]
fn a_write_wakes_the_fetch_that_waits_for_it() {
    on_node(async |_, node| {
        let replica = node.replica("two").await.unwrap();
        let started = Instant::now();
        let wanted = request(&[("one", 0), ("two", 0)], 1, 10_000);
        let (answer, _) = tokio::join!(fetch(node, wanted), async {
            sleep(Duration::from_millis(100)).await;
            append(&replica, batch(1, b"value"), Acks::All)
                .result()
                .await
        });
        assert_eq!(answer.1[0], 0);
        assert!(answer.1[1] > 0);
        assert!(started.elapsed() < Duration::from_millis(200));
    });
}

#[test]
fn fewer_bytes_than_wanted_do_not_end_the_wait() {
    on_node(async |_, node| {
        node.produce("one", batch(1, b"value")).await.unwrap();
        let started = Instant::now();
        let (_, lengths) = fetch(node, request(&[("one", 0)], 100_000, 300)).await;
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert!(lengths[0] > 0, "what there is comes in the end");
    });
}

#[test]
fn an_error_ends_the_wait_at_once() {
    on_node(async |_, node| {
        let started = Instant::now();
        let wanted = request(&[("one", 0), ("none", 0)], 1, 10_000);
        let (response, _) = fetch(node, wanted).await;
        let unknown = response.responses[1].partitions[0].error_code;
        assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition.code());
        assert!(started.elapsed() < Duration::from_millis(100));
    });
}

#[test]
fn a_deletion_ends_the_wait() {
    on_node(async |_, node| {
        let started = Instant::now();
        let (answer, ()) = tokio::join!(fetch(node, request(&[("one", 0)], 1, 10_000)), async {
            sleep(Duration::from_millis(100)).await;
            node.delete("one").await;
        });
        let error_code = answer.0.responses[0].partitions[0].error_code;
        assert_eq!(error_code, ErrorCode::NotLeaderOrFollower.code());
        assert!(started.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn the_first_batch_comes_whole_and_no_later_one_in_part() {
    on_node(async |_, node| {
        for topic in ["one", "two"] {
            node.produce(topic, batch(1, &[7; 1_000])).await.unwrap();
            node.produce(topic, batch(1, &[7; 1_000])).await.unwrap();
        }
        let mut wanted = request(&[("one", 0), ("two", 0)], 1, 0);
        wanted.max_bytes = 10;
        let (_, lengths) = fetch(node, wanted.clone()).await;
        assert!((1_000..1_200).contains(&lengths[0]), "{lengths:?}");
        assert_eq!(lengths[1], 0);
        // Enough for a part of the other partition's first batch.
        wanted.max_bytes = i32::try_from(lengths[0]).unwrap() + 500;
        wanted.topics[0].partitions[0].partition_max_bytes = 10;
        let (_, lengths) = fetch(node, wanted).await;
        assert!(lengths[0] > 0);
        assert_eq!(lengths[1], 0, "a part of a batch");
    });
}

#[test]
fn hot_and_cold_fetches_are_counted() {
    on_node(async |world, node| {
        node.produce("one", batch(1, b"value")).await.unwrap();
        let (_, lengths) = fetch(node, request(&[("one", 0)], 1, 0)).await;
        assert!(lengths[0] > 0);
        let metrics = &node.shared().metrics;
        assert_eq!(
            (metrics.fetches_hot.get(), metrics.fetches_cold.get()),
            (1, 0)
        );
        let plan = skein_env::sim::FaultPlan {
            false_cold_one_in: 1,
            ..Default::default()
        };
        world.disk(HOST).set_plan(plan);
        let (_, lengths) = fetch(node, request(&[("one", 0)], 1, 0)).await;
        assert!(lengths[0] > 0);
        assert_eq!(
            (metrics.fetches_hot.get(), metrics.fetches_cold.get()),
            (1, 1)
        );
    });
}
