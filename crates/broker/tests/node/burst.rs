//! Requests that arrive together: written together, answered as if they were not.

use std::time::{Duration, Instant};

use crate::harness::{Node, TOPIC, fetch, produce};

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
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut client = node.connect();
    let request = produce(0, 1, 20);
    let (part, rest) = request.split_at(request.len() - 7);
    let started = Instant::now();
    for count in 0..20 {
        client.send(&[&request, part].concat());
        assert_eq!(client.produced(), (0, count * 2));
        client.send(rest);
        assert_eq!(client.produced(), (0, count * 2 + 1));
    }
    // Not when the replica is looked after the next time, once in a second.
    assert!(started.elapsed() < Duration::from_secs(5));
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
