//! The page cache is the cache of the data: the process holds none of it.
//!
//! Input: a log that outgrows the memory of its node, readers at its end, restarts. Output: what
//! the node holds in memory, and what it has read from devices.

use std::fs;

use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, System};

use super::{connect, create};

const TOPIC: &str = "tail";

/// A batch of one record, as large as the default limit lets it be.
const VALUE_BYTES: usize = 900_000;

/// How much the log grows before the memory is looked at: buffers come to their sizes.
const WARM_BYTES: u64 = 32 << 20;

/// What comes and goes in memory: buffers in flight, maps of indexes.
const SPARE_KIB: u64 = 8 << 10;

/// What a process reads for other reasons: its program, checkpoints.
const OTHERS_BYTES: u64 = 2 << 20;

/// A number in a file below `/proc/ID`.
fn number(node: &Node, file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/{file}", node.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let value = line.unwrap().split_whitespace().next();
    value.unwrap().parse().unwrap()
}

fn resident_kib(node: &Node) -> u64 {
    number(node, "status", "VmRSS:")
}

/// What the node has had read from devices.
fn read_bytes(node: &Node) -> u64 {
    number(node, "io", "read_bytes:")
}

/// Reads one batch, which must be there.
fn read_at(reader: &mut Connection, offset: i64) {
    let fetched = reader.fetch(TOPIC, 0, offset, 10_000).unwrap();
    assert_eq!(fetched.error_code, error::NONE);
    assert!(fetched.records.len() > VALUE_BYTES, "nothing at {offset}");
}

#[test]
fn a_log_ten_times_as_large_as_its_node_costs_no_memory_and_no_reads() {
    let mut node = Node::start(System::Skein, &[]);
    create(&node, TOPIC, &[("segment.bytes", "67108864")]);
    let batch = Batch::of([vec![7; VALUE_BYTES]]).encode();
    let (mut writer, mut reader) = (connect(&node), connect(&node));
    let (mut bytes, mut end) = (0, 0);
    let mut grow = |until: u64| {
        while bytes < until {
            let produced = writer.produce(TOPIC, 0, &batch).unwrap();
            assert_eq!(
                (produced.error_code, produced.base_offset),
                (error::NONE, end)
            );
            // A reader whose lag is one batch.
            read_at(&mut reader, end);
            bytes += batch.len() as u64;
            end += 1;
        }
        end
    };
    grow(WARM_BYTES);
    let (resident, read) = (resident_kib(&node), read_bytes(&node));
    let end = grow(10 * 1024 * resident);
    let grown = resident_kib(&node).saturating_sub(resident);
    assert!(grown < SPARE_KIB, "{grown} KiB more than {resident}");
    let read = read_bytes(&node) - read;
    assert!(
        read < OTHERS_BYTES,
        "{read} bytes read by a reader at the end"
    );
    // The cache outlives the process, however that ends.
    for kill in [false, true] {
        if kill {
            node.kill();
        } else {
            node.stop();
        }
        node.start_again();
        let mut reader = connect(&node);
        reader.wait_until_served(TOPIC).unwrap();
        for offset in end - 40..end {
            read_at(&mut reader, offset);
        }
        let read = read_bytes(&node);
        assert!(read < OTHERS_BYTES, "{read} bytes read after a restart");
    }
}
