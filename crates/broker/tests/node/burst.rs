//! Requests that arrive together: written together, answered as if they were not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use skein_record::Codec;

use crate::harness::{Node, TOPIC, batch, encode, fetch, produce, produce_request};

#[test]
fn small_batches_that_arrive_together_are_written_together() {
    let node = Node::start();
    node.create(TOPIC, 2, &[]);
    let mut client = node.connect();
    let requests: Vec<_> = (0..20).map(|index| produce(index % 2, 1, 100)).collect();
    // How much one read of the socket brings is the kernel's choice: the best of some tries counts.
    let mut fewest = u64::MAX;
    for attempt in 0..10 {
        let before = node.metric("skein_writes_total");
        client.send(&requests.concat());
        for index in 0..20 {
            assert_eq!(client.produced(), (0, attempt * 10 + index / 2));
        }
        fewest = fewest.min(node.metric("skein_writes_total") - before);
    }
    assert!(
        fewest <= 4,
        "{fewest} writes for 20 batches of 2 partitions"
    );
}

#[test]
fn a_request_is_answered_when_only_a_part_of_the_next_has_arrived() {
    const ROUNDS: i64 = 20;
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut client = node.connect();
    let request = produce(0, 1, 20);
    let (part, rest) = request.split_at(request.len() - 7);
    let started = Instant::now();
    for count in 0..ROUNDS {
        client.send(&[&request, part].concat());
        assert_eq!(client.produced(), (0, count * 2));
        client.send(rest);
        assert_eq!(client.produced(), (0, count * 2 + 1));
    }
    // Not when the replica is looked after the next time, once in a second.
    assert!(started.elapsed() < Duration::from_secs(ROUNDS.unsigned_abs()));
}

#[test]
fn a_fetch_finds_what_was_produced_right_before_it() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut client = node.connect();
    let request = produce(0, 1, 1_000);
    for count in 0..20 {
        let second = count * 2 + 1;
        client.send(&[&request[..], &request, &fetch(0, second, 1)].concat());
        assert_eq!(client.produced(), (0, second - 1));
        assert_eq!(client.produced(), (0, second));
        assert!(client.fetched() > 1_000, "the second record is not there");
    }
}

/// A burst holds the bytes of all that was gathered: who waits for more bytes must end it first, or
/// everybody waits for everybody.
#[test]
fn bursts_larger_than_the_bytes_in_flight_of_the_node_are_all_answered() {
    const CONNECTIONS: usize = 6;
    const REQUESTS: usize = 243;
    const PARTITIONS: usize = 3;
    let settings = [
        "queued.max.request.bytes=1048576",
        "queued.max.request.bytes.per.connection=1048576",
        "message.max.bytes=500000",
    ];
    let node = Node::start_with(|env| env, &settings);
    node.create(TOPIC, 3, &[]);
    // As large as a batch that is gathered may be; the node has bytes for twelve of them.
    let requests: Vec<_> = (0..3)
        .map(|partition| produce(partition, 1, 64_000))
        .collect();
    let started = Instant::now();
    let pipelined: Vec<Bytes> = requests.iter().cycle().take(REQUESTS).cloned().collect();
    let mut offsets: Vec<i64> = std::thread::scope(|scope| {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (mut client, pipelined) = (node.connect(), pipelined.concat());
                scope.spawn(move || {
                    client.send(&pipelined);
                    let answers = (0..REQUESTS).map(|_| client.produced());
                    answers
                        .map(|(code, offset)| (assert_eq!(code, 0), offset).1)
                        .collect()
                })
            })
            .collect();
        let offsets = connections.into_iter().map(|c| c.join().unwrap());
        offsets.collect::<Vec<Vec<_>>>().concat()
    });
    offsets.sort_unstable();
    let of_partition = CONNECTIONS * REQUESTS / PARTITIONS;
    let expected = (0_i64..)
        .take(of_partition)
        .flat_map(|offset| [offset; PARTITIONS]);
    assert!(expected.eq(offsets));
    assert_eq!(node.metric("skein_in_flight_bytes"), 0);
    // Not when the replicas are looked after, once in a second, for twelve batches at a time.
    let looks = u64::try_from(CONNECTIONS * REQUESTS / 12).unwrap();
    assert!(started.elapsed() < Duration::from_secs(looks));
}

#[test]
fn requests_with_acks_0_that_arrive_together_are_written_together() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut client = node.connect();
    let unanswered = |topic| {
        let batch = batch(Codec::None, 1, None, 100);
        encode(&produce_request(topic, 0, 0, Some(batch)), 9)
    };
    let burst = [vec![unanswered(TOPIC); 19], vec![produce(0, 1, 100)]].concat();
    let mut fewest = u64::MAX;
    for attempt in 1..=10 {
        let before = node.metric("skein_writes_total");
        client.send(&burst.concat());
        assert_eq!(client.produced(), (0, attempt * 20 - 1));
        fewest = fewest.min(node.metric("skein_writes_total") - before);
    }
    assert!(fewest <= 2, "{fewest} writes for 20 batches");
    // What came before the one that fails is answered, what came behind it is not.
    client.send(&[produce(0, 1, 100), unanswered("none"), produce(0, 1, 100)].concat());
    assert_eq!(client.produced(), (0, 200));
    assert!(client.is_closed());
}
