//! What record bytes cost between a socket and a file.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::allocations;
use super::harness::{Node, TOPIC, fetch, produce};
use super::hooks::{Hooks, hook};

/// The most allocations of the whole process for a Produce of one batch that is answered at once,
/// on a connection that has sent such requests before. None of them is for a record or a byte.
/// Whoever saves one lowers the number.
const PRODUCE_ALLOCATIONS_MAX: usize = 12;

/// The same for a Fetch of one partition.
const FETCH_ALLOCATIONS_MAX: usize = 19;

/// Tries of which the best counts: other tasks of the node allocate too, now and then.
const TRIES: usize = 10;

/// Where bytes of records were received, and what was written; addresses, as numbers.
#[derive(Default)]
struct Watched {
    /// Where received bytes begin, and where they end.
    received: Mutex<BTreeMap<usize, usize>>,
    /// Start and length of each piece that was written.
    written: Mutex<Vec<(usize, usize)>>,
}

impl Hooks for Watched {
    fn writing(&self, path: &Path, pieces: &[IoSlice<'_>]) {
        let is_log = path.to_string_lossy().contains("topic-0/")
            && path.extension().is_some_and(|e| e == "log");
        if is_log {
            let mut written = self.written.lock();
            written.extend(pieces.iter().map(|p| (p.as_ptr().addr(), p.len())));
        }
    }

    fn received(&self, address: usize, count: usize) {
        let mut received = self.received.lock();
        let end = received.entry(address).or_default();
        *end = (*end).max(address + count);
    }
}

impl Watched {
    fn clear(&self) {
        self.received.lock().clear();
        self.written.lock().clear();
    }

    /// Checks that every byte which was written lay where it was received; returns how many they
    /// are.
    fn check_written_from_received(&self) -> usize {
        let received = self.received.lock();
        let mut bytes = 0;
        for &(start, length) in self.written.lock().iter() {
            bytes += length;
            let mut at = start;
            while at < start + length {
                let part = received
                    .range(..=at)
                    .next_back()
                    .filter(|(_, end)| **end > at);
                let (_, end) = part.expect("record bytes were copied before they were written");
                at = *end;
            }
        }
        bytes
    }
}

#[test]
fn record_bytes_are_written_from_where_they_were_received() {
    for value_bytes in [10, 1_000, 100_000] {
        let watched = Arc::new(Watched::default());
        let node = Node::start_with(|env| hook(env, &watched), &[]);
        node.create(TOPIC, 1, &[]);
        let mut client = node.connect();
        let request = produce(0, 5, value_bytes);
        // The first request finds out how large buffers must be.
        for _ in 0..3 {
            client.ask(&request);
        }
        watched.clear();
        for _ in 0..20 {
            client.ask(&request);
        }
        let written = watched.check_written_from_received();
        assert!(
            written >= 20 * 5 * value_bytes,
            "{written} bytes were written"
        );
    }
}

/// The fewest allocations that a request took.
fn least(mut ask: impl FnMut()) -> usize {
    let counts = (0..TRIES).map(|_| allocations::during(&mut ask));
    counts.min().unwrap()
}

#[test]
fn a_request_takes_few_allocations_and_no_more_when_it_carries_more() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut client = node.connect();
    let small = produce(0, 1, 20);
    let (many, large) = (produce(0, 10_000, 20), produce(0, 1, 900_000));
    for (kind, request) in [
        ("one record", &small),
        ("many records", &many),
        ("large", &large),
    ] {
        // Warm: buffers of its size.
        least(|| {
            client.ask(request);
        });
        let count = least(|| {
            client.ask(request);
        });
        assert!(
            count <= PRODUCE_ALLOCATIONS_MAX,
            "a Produce, {kind}: {count}"
        );
    }
    let offset_of = |round: usize| i64::try_from(round).unwrap();
    let first_of_many = offset_of(2 * TRIES);
    let first_of_large = first_of_many + offset_of(2 * TRIES * 10_000);
    for (kind, request) in [
        ("one record", fetch(0, 0, 10)),
        ("many records", fetch(0, first_of_many, 5_000_000)),
        ("large", fetch(0, first_of_large, 5_000_000)),
    ] {
        least(|| {
            client.ask(&request);
        });
        let count = least(|| {
            client.ask(&request);
        });
        assert!(count <= FETCH_ALLOCATIONS_MAX, "a Fetch, {kind}: {count}");
    }
}

/// What a consumer gets goes by `sendfile`, hot or cold, and each path is counted apart: what
/// encodes the answers, and what the kernel takes from files.
#[test]
fn fetched_bytes_are_counted_by_the_path_they_take() {
    let node = Node::start_with(|env| env, &[]);
    node.create(TOPIC, 1, &[("segment.bytes", "1048576")]);
    let mut client = node.connect();
    // The first batch lies in a sealed segment: its fetch is cold.
    client.ask(&produce(0, 1, 600_000));
    client.ask(&produce(0, 1, 600_000));
    for (offset, hot, cold) in [(1, 1, 0), (0, 0, 1)] {
        let before = Counts::of(&node);
        let records = client.fetch(0, offset) as u64;
        let after = Counts::of(&node);
        // From a sealed segment on, a fetch does not go on in the next one.
        assert!((600_000..700_000).contains(&records), "{records}");
        assert_eq!(after.by_sendfile - before.by_sendfile, records);
        let from_memory = after.from_memory - before.from_memory;
        assert!((1..200).contains(&from_memory), "{from_memory} bytes");
        assert_eq!(
            (after.hot - before.hot, after.cold - before.cold),
            (hot, cold)
        );
    }
}

/// What the node has sent, and how fetches were read.
struct Counts {
    by_sendfile: u64,
    from_memory: u64,
    hot: u64,
    cold: u64,
}

impl Counts {
    fn of(node: &Node) -> Self {
        Self {
            by_sendfile: node.metric("skein_sent_file_bytes_total"),
            from_memory: node.metric("skein_sent_bytes_total"),
            hot: node.metric("skein_fetches_hot_total"),
            cold: node.metric("skein_fetches_cold_total"),
        }
    }
}
