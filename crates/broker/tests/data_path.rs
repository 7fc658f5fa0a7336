//! What record bytes cost between a socket and a file.
//!
//! Input: a node on real sockets and a real directory, whose disk and network are watched. Output:
//! record bytes are written from where they were received, and neither producing nor fetching
//! allocates for a record.
//!
//! Source: none.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "data_path/allocations.rs"]
mod allocations;
#[path = "data_path/watched.rs"]
mod watched;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skein_broker::Broker;
use skein_config::{BrokerConfig, Layers};
use skein_env::Env;
use skein_env::real::{RealOptions, RealWorld};
use skein_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use skein_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use skein_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use skein_protocol::{Records, Request, Str, frame};
use skein_record::{BatchBuilder, Codec};
use skein_types::Millis;
use watched::{Watched, WatchedDisk, WatchedNet};

const TOPIC: &str = "topic";

/// Tries of which the best counts: other tasks of the node allocate too, now and then.
const TRIES: usize = 10;

/// The tests run one after the other: they count what the whole process does.
static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

struct Node {
    world: RealWorld,
    broker: Option<Broker>,
    _directory: tempfile::TempDir,
}

impl Node {
    fn start(watch: impl FnOnce(Env) -> Env) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = RealOptions {
            network_threads: 4,
            io_threads: 2,
        };
        let world = RealWorld::new(options).unwrap();
        let log_dir = directory.path().display();
        let layers = Layers::new()
            .set("listeners=PLAINTEXT://127.0.0.1:0")
            .set("http.listener=")
            .set(&format!("log.dirs={log_dir}"));
        let config: Arc<BrokerConfig> = Arc::new(layers.build().unwrap().0);
        let broker = world.block_on(Broker::start(watch(world.env()), config));
        let node = Self {
            world,
            broker: Some(broker.unwrap()),
            _directory: directory,
        };
        let create = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::from_static(TOPIC),
                num_partitions: 1,
                replication_factor: -1,
                ..Default::default()
            }],
            timeout_ms: 5_000,
            ..Default::default()
        };
        node.connect().ask(&encode(&create, 7));
        node
    }

    fn connect(&self) -> Client {
        let broker = self.broker.as_ref().unwrap();
        let stream = TcpStream::connect(broker.addresses()[0].1).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Client {
            stream,
            response: vec![0; 16 * 1024 * 1024],
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            self.world.block_on(broker.stop());
        }
    }
}

/// A connection that allocates nothing.
struct Client {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Client {
    /// The length of the answer.
    fn ask(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).unwrap();
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).unwrap();
        let length = usize::try_from(i32::from_be_bytes(prefix)).unwrap();
        self.stream
            .read_exact(&mut self.response[..length])
            .unwrap();
        length
    }
}

fn encode<R: Request>(request: &R, version: i16) -> Bytes {
    let encoded = frame::encode_request(request, version, 1, None).unwrap();
    encoded.into_bytes().unwrap()
}

fn produce(records: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = Millis(i64::try_from(now.as_millis()).unwrap());
    for _ in 0..records {
        builder
            .append(now, None, Some(&vec![7; value_bytes]), &[])
            .unwrap();
    }
    let batch = Bytes::copy_from_slice(builder.build().unwrap().as_slice());
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            name: Str::from_static(TOPIC),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(Records::Bytes(batch)),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    encode(&request, 9)
}

fn fetch(offset: i64, max_bytes: i32) -> Bytes {
    let request = FetchRequest {
        min_bytes: 1,
        max_bytes,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Str::from_static(TOPIC),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    encode(&request, 12)
}

#[test]
fn record_bytes_are_written_from_where_they_were_received() {
    let _alone = ALONE.lock();
    for value_bytes in [10, 1_000, 100_000] {
        let watched = Arc::new(Watched::default());
        let node = Node::start(|env| Env {
            disk: WatchedDisk::new(Arc::clone(&env.disk), Arc::clone(&watched)),
            net: WatchedNet::new(Arc::clone(&env.net), Arc::clone(&watched)),
            ..env
        });
        let mut client = node.connect();
        let request = produce(5, value_bytes);
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

#[test]
fn neither_producing_nor_fetching_allocates_for_a_record() {
    let _alone = ALONE.lock();
    let node = Node::start(|env| env);
    let mut client = node.connect();
    let (few, many) = (produce(10, 20), produce(10_000, 20));
    let mut least = |request: &Bytes| {
        let counts = (0..TRIES).map(|_| allocations::during(|| client.ask(request)));
        counts.min().unwrap()
    };
    // Warm: buffers, and both sizes in the log: few records first.
    least(&few);
    let (of_few, of_many) = (least(&few), least(&many));
    assert!(
        of_many <= of_few + 8,
        "produce: {of_few} and {of_many} allocations"
    );
    let first_of_many = i64::try_from(10 * TRIES * 2).unwrap();
    least(&fetch(0, 500));
    let of_few = least(&fetch(0, 500));
    let of_many = least(&fetch(first_of_many, 5_000_000));
    assert!(
        of_many <= of_few + 8,
        "fetch: {of_few} and {of_many} allocations"
    );
}
