//! Frames that are no requests, or requests that nobody serves.
//!
//! Input: bytes. Output: that connection is closed, or the error; the node serves on.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, Connection, Frame, api, error};
use skein_tests::{Node, System, on_both};

use super::{assert_serves, connect, create, log_end};

on_both!(
    random_bytes_end_their_connection_only,
    a_frame_cut_anywhere_appends_nothing,
    a_request_that_arrives_byte_by_byte_is_served,
    impossible_lengths_close_the_connection_and_allocate_nothing,
    array_lengths_beyond_the_frame_close_the_connection,
    an_unknown_api_closes_the_connection,
    an_unknown_version_closes_the_connection,
    api_versions_of_an_unknown_version_is_answered_in_version_0,
    answers_leave_in_the_order_of_the_requests,
    silent_connections_do_no_harm,
);

/// A generator of bytes that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn random_bytes_end_their_connection_only(system: System) {
    let mut random = Random(0x5eed);
    let mut bystander = connect(system);
    for round in 0..300 {
        let mut connection = connect(system);
        let count = usize::try_from(random.next() % 2000).unwrap();
        let body = random.bytes(count);
        let bytes = match round % 3 {
            // Anything at all.
            0 => body,
            // A frame whose length is right.
            1 => Frame::new().bytes(&body).0,
            // A header that is right, of an API that exists, and then anything.
            _ => {
                let api_key = i16::try_from(random.next() % 70).unwrap();
                let version = i16::try_from(random.next() % 10).unwrap();
                connection.frame(api_key, version, &Frame::new().raw(&body))
            }
        };
        // The node may close the connection while this is sent.
        let _closed_early = connection.send_raw(&bytes);
        if round % 50 == 0 {
            assert_eq!(
                bystander.metadata("..", false).unwrap(),
                error::INVALID_TOPIC_EXCEPTION
            );
        }
    }
    assert_serves(system);
}

fn a_frame_cut_anywhere_appends_nothing(system: System) {
    let topic = create(system, &[]);
    let batch = Batch::of([[7; 100]; 5]).encode();
    let body = Connection::produce_body(-1, &topic, 0, &batch);
    let whole = connect(system).frame(api::PRODUCE, 7, &body);
    for length in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
        let mut connection = connect(system);
        connection.send_raw(&whole[..length]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(log_end(system, &topic), 0);
    assert_serves(system);
}

fn a_request_that_arrives_byte_by_byte_is_served(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let batch = Batch::of(["slowly"]).encode();
    let body = Connection::produce_body(-1, &topic, 0, &batch);
    for byte in connection.frame(api::PRODUCE, 7, &body) {
        connection.send_raw(&[byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    let produced = Connection::produced(&mut connection.receive().unwrap());
    assert_eq!(
        (produced.error_code, produced.base_offset),
        (error::NONE, 0)
    );
}

fn impossible_lengths_close_the_connection_and_allocate_nothing(system: System) {
    let node = Node::shared(system);
    let before = resident_kib(node);
    let lengths = [
        i32::MAX,
        i32::MAX - 1,
        200 << 20,
        (100 << 20) + 1,
        -1,
        i32::MIN,
        0,
        1,
        7,
    ];
    for length in lengths {
        for _ in 0..8 {
            let mut connection = connect(system);
            // Some of a frame follows, as if the length were true.
            let _closed_early = connection.send_raw(&Frame::new().i32(length).raw(&[0; 64]).0);
            assert!(connection.is_closed_by_the_node(), "length {length}");
        }
    }
    let grown = resident_kib(node).saturating_sub(before);
    // Of the largest length, once: 2 GiB.
    assert!(grown < 128 << 10, "the node grew by {grown} KiB");
    assert_serves(system);
}

fn array_lengths_beyond_the_frame_close_the_connection(system: System) {
    let topic = create(system, &[]);
    let head = || Frame::new().null_string().i16(-1).i32(1000);
    let fetch = || Frame::new().i32(-1).i32(0).i32(1).i32(1 << 20).i8(0);
    let many = i32::MAX;
    let cases = [
        ("metadata: topics", api::METADATA, 4, Frame::new().i32(many)),
        ("produce: topics", api::PRODUCE, 7, head().i32(many)),
        (
            "produce: partitions",
            api::PRODUCE,
            7,
            head().i32(1).string(&topic).i32(many),
        ),
        ("produce: records", api::PRODUCE, 7, {
            head()
                .i32(1)
                .string(&topic)
                .i32(1)
                .i32(0)
                .i32(many)
                .raw(&[0; 61])
        }),
        ("fetch: topics", api::FETCH, 4, fetch().i32(many)),
        (
            "fetch: partitions",
            api::FETCH,
            4,
            fetch().i32(1).string(&topic).i32(1 << 24),
        ),
        (
            "list offsets: topics",
            api::LIST_OFFSETS,
            1,
            Frame::new().i32(-1).i32(1 << 30),
        ),
        (
            "create topics: topics",
            api::CREATE_TOPICS,
            2,
            Frame::new().i32(many),
        ),
        (
            "a string",
            api::METADATA,
            4,
            Frame::new().i32(1).i16(i16::MAX),
        ),
        ("a compact array", api::METADATA, 12, {
            Frame::new().uvarint(0).raw(&[0xff, 0xff, 0xff, 0xff, 0x0f])
        }),
        (
            "a varint without end",
            api::METADATA,
            12,
            Frame::new().uvarint(0).raw(&[0xff; 20]),
        ),
    ];
    for (what, api_key, version, body) in cases {
        let mut connection = connect(system);
        connection.send(api_key, version, &body).unwrap();
        assert!(connection.is_closed_by_the_node(), "{what}");
    }
    assert_eq!(log_end(system, &topic), 0);
    assert_serves(system);
}

fn an_unknown_api_closes_the_connection(system: System) {
    for api_key in [9_999, i16::MAX, -1, i16::MIN] {
        let mut connection = connect(system);
        connection.send(api_key, 0, &Frame::new()).unwrap();
        assert!(connection.is_closed_by_the_node(), "API {api_key}");
    }
    assert_serves(system);
}

fn an_unknown_version_closes_the_connection(system: System) {
    // Produce 0 to 2 are advertised, but not served; some are of Kafka's past, the others of its
    // future.
    let requests = [
        (api::METADATA, 99),
        (api::PRODUCE, 2),
        (api::FETCH, 3),
        (api::FETCH, 99),
        (api::LIST_OFFSETS, 0),
        (api::CREATE_TOPICS, 1),
        (api::METADATA, -1),
    ];
    for (api_key, version) in requests {
        let mut connection = connect(system);
        connection
            .send(api_key, version, &Frame::new().i32(0))
            .unwrap();
        assert!(
            connection.is_closed_by_the_node(),
            "API {api_key}, version {version}"
        );
    }
    assert_serves(system);
}

fn api_versions_of_an_unknown_version_is_answered_in_version_0(system: System) {
    let mut connection = connect(system);
    let mut table = Vec::new();
    for (version, error_code) in [(99, error::UNSUPPORTED_VERSION), (0, error::NONE)] {
        // The header of an unknown version is flexible: no tagged fields.
        let body = if version == 0 {
            Frame::new()
        } else {
            Frame::new().uvarint(0)
        };
        let mut answer = connection.call(api::API_VERSIONS, version, &body).unwrap();
        assert_eq!(answer.i16(), error_code);
        let ranges: Vec<(i16, i16, i16)> = (0..answer.i32())
            .map(|_| (answer.i16(), answer.i16(), answer.i16()))
            .collect();
        assert_eq!(answer.remaining(), 0, "more than the fields of version 0");
        table = ranges;
    }
    let range = |api_key| table.iter().find(|(key, _, _)| *key == api_key).copied();
    // Librdkafka compresses only if Produce is advertised from 0.
    assert_eq!(range(api::PRODUCE), Some((api::PRODUCE, 0, 13)));
    assert_eq!(range(api::API_VERSIONS), Some((api::API_VERSIONS, 0, 4)));
    assert_eq!(range(api::METADATA), Some((api::METADATA, 0, 13)));
    assert!(table.is_sorted_by_key(|(key, _, _)| *key));
}

fn answers_leave_in_the_order_of_the_requests(system: System) {
    let topic = create(system, &[]);
    let mut connection = connect(system);
    let waiting = Connection::fetch_body(&topic, 0, 0, 400);
    let started = Instant::now();
    let mut frames = connection.frame(api::FETCH, 4, &waiting);
    for _ in 0..10 {
        frames.extend(connection.frame(api::METADATA, 1, &Frame::new().i32(0)));
    }
    connection.send_raw(&frames).unwrap();
    for expected in 1..=11 {
        assert_eq!(connection.receive_any().unwrap().0, expected);
        assert!(
            started.elapsed() >= Duration::from_millis(350),
            "a later request overtook"
        );
    }
}

fn silent_connections_do_no_harm(system: System) {
    let port = Node::shared(system).ports().client;
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    assert_serves(system);
    for mut stream in silent {
        stream.set_nonblocking(true).unwrap();
        let still_open = stream.read(&mut [0]).unwrap_err();
        assert_eq!(still_open.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// The resident memory of a node.
fn resident_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
