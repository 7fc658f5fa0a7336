//! kill -9, again and again, under writers that count what is acknowledged.
//!
//! Input: writers with acks=all, each on a topic of its own. Output: after each restart every
//! acknowledged record is there, in order, once; beyond them at most the one that was in flight.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, System, on_both};

use super::{connect, create, numbered, read_all};

on_both!(
    kill_9_loses_nothing_that_was_acknowledged,
    producer_sequences_and_ids_outlive_a_crash,
);

const WRITERS: usize = 3;
const SEGMENT_BYTES: &str = "1048576";
/// At least.
const BATCHES_OF_A_ROUND: u64 = 21;
const PATIENCE: Duration = Duration::from_secs(60);

fn kill_9_loses_nothing_that_was_acknowledged(system: System) {
    let rounds = if system == System::Kafka { 1 } else { 6 };
    let mut node = Node::start(system, &[]);
    let topics: Vec<String> = (0..WRITERS)
        .map(|writer| format!("crash-{writer}"))
        .collect();
    for topic in &topics {
        create(&node, topic, &[("segment.bytes", SEGMENT_BYTES)]);
    }
    let mut ends = [0_u64; WRITERS];
    for round in 0..rounds {
        let acknowledged = write_until_killed(&mut node, &topics, ends, round);
        node.start_again();
        for (writer, topic) in topics.iter().enumerate() {
            let numbers = read_all(&node, topic);
            let end = u64::try_from(numbers.len()).unwrap();
            assert!(
                numbers.iter().copied().eq(0..end),
                "{topic}: lost, doubled or reordered"
            );
            let acknowledged = acknowledged[writer];
            assert!(
                end == acknowledged || end == acknowledged + 1,
                "{topic} ends at {end}, acknowledged were {acknowledged}{}",
                node.log_tail()
            );
            ends[writer] = end;
        }
    }
    assert!(
        ends.iter().all(|end| *end >= rounds * BATCHES_OF_A_ROUND),
        "too little was written: {ends:?}"
    );
}

/// Lets one writer per topic go on from `ends`, kills the node under them, and returns where each
/// one's acknowledgements end.
fn write_until_killed(
    node: &mut Node,
    topics: &[String],
    ends: [u64; WRITERS],
    round: u64,
) -> [u64; WRITERS] {
    let acknowledged = ends.map(AtomicU64::new);
    let killed = AtomicBool::new(false);
    let connections: Vec<Connection> = topics.iter().map(|_| connect(node)).collect();
    std::thread::scope(|scope| {
        for ((topic, connection), end) in topics.iter().zip(connections).zip(&acknowledged) {
            let killed = &killed;
            scope.spawn(move || write(connection, topic, end, killed));
        }
        // Not the same moment of the writers' work in each round, and after some of it.
        std::thread::sleep(Duration::from_millis(400 + 37 * round));
        let has_written = |(end, before): (&AtomicU64, &u64)| {
            end.load(Ordering::SeqCst) >= before + BATCHES_OF_A_ROUND
        };
        let asked = Instant::now();
        while !acknowledged.iter().zip(&ends).all(has_written) && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        killed.store(true, Ordering::SeqCst);
        node.kill();
    });
    acknowledged.map(AtomicU64::into_inner)
}

/// Writes numbered batches of many sizes until the connection breaks, which it may only once the
/// node is being killed.
fn write(mut connection: Connection, topic: &str, end: &AtomicU64, killed: &AtomicBool) {
    loop {
        let number = end.load(Ordering::SeqCst);
        let size = usize::try_from(number * 7919 % 5000).unwrap();
        match connection.produce(topic, 0, &numbered(number, size)) {
            Ok(produced) => {
                assert_eq!(produced.error_code, error::NONE, "{topic}");
                assert_eq!(
                    produced.base_offset,
                    i64::try_from(number).unwrap(),
                    "{topic}"
                );
                end.store(number + 1, Ordering::SeqCst);
            }
            Err(error) => {
                assert!(killed.load(Ordering::SeqCst), "{topic}: {error}");
                return;
            }
        }
    }
}

fn producer_sequences_and_ids_outlive_a_crash(system: System) {
    let mut node = Node::start(system, &[]);
    let topic = "sequences";
    create(&node, topic, &[]);
    let (producer_id, producer_epoch) = connect(&node).init_producer_id().unwrap();
    let send = |node: &Node, base_sequence: i32| {
        let batch = Batch {
            producer_id,
            producer_epoch,
            base_sequence,
            ..Batch::of(["a", "b"])
        };
        let produced = connect(node).produce(topic, 0, &batch.encode()).unwrap();
        (produced.error_code, produced.base_offset)
    };
    for sequence in [0, 2, 4] {
        assert_eq!(send(&node, sequence), (error::NONE, i64::from(sequence)));
    }
    node.kill();
    node.start_again();
    // A client that did not see the last answer asks again; nothing is written twice. (Of the
    // batches before, a snapshot of the producer's state keeps nothing.)
    assert_eq!(send(&node, 4), (error::NONE, 4), "repeated");
    assert_eq!(send(&node, 8).0, error::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(&node, 6), (error::NONE, 6));
    let (next_id, _) = connect(&node).init_producer_id().unwrap();
    assert!(
        next_id > producer_id,
        "producer id {next_id} was given before"
    );
}
