//! A node, and a client for it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use skein_broker::Broker;
use skein_config::{BrokerConfig, Layers};
use skein_env::Env;
use skein_env::real::{RealOptions, RealWorld};
use skein_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use skein_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use skein_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use skein_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use skein_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use skein_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use skein_protocol::{Records, Request, Str, frame};
use skein_record::{BatchBuilder, Codec};
use skein_types::Millis;

/// The topic that most tests use.
pub(crate) const TOPIC: &str = "topic";

/// The versions in which requests are sent: those of the oldest clients with a flexible encoding.
const CREATE_TOPICS: i16 = 7;
const DELETE_RECORDS: i16 = 2;
const FETCH: i16 = 12;
const INCREMENTAL_ALTER_CONFIGS: i16 = 1;
const METADATA: i16 = 9;
const PRODUCE: i16 = 9;

/// What IncrementalAlterConfigs calls a topic, and to set a value.
const RESOURCE_TOPIC: i8 = 2;
const CONFIG_SET: i8 = 0;

/// Threads of the data lane, and its threads for work that may block.
pub(crate) const THREADS: RealOptions = RealOptions {
    network_threads: 4,
    io_threads: 2,
};

/// How long a client waits for bytes, or for room to send some, before its test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a Fetch waits for records.
const FETCH_WAIT_MS: i32 = 8_000;

static ALONE: Mutex<()> = parking_lot::const_mutex(());

/// A node that runs, with a directory of its own.
pub(crate) struct Node {
    world: RealWorld,
    broker: Option<Broker>,
    addresses: (SocketAddr, SocketAddr),
    pub(crate) directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(|env| env, &[])
    }

    /// Starts a node in the world that `hook` makes of the real one.
    pub(crate) fn start_with(hook: impl FnOnce(Env) -> Env, settings: &[&str]) -> Self {
        let alone = ALONE.lock();
        let directory = tempfile::tempdir().unwrap();
        let world = RealWorld::new(THREADS).unwrap();
        let mut layers = Layers::new()
            .set("listeners=PLAINTEXT://127.0.0.1:0")
            .set("http.listener=127.0.0.1:0")
            .set("auto.create.topics.enable=false")
            .set(&format!("log.dirs={}", directory.path().display()));
        for setting in settings {
            layers = layers.set(setting);
        }
        let config: Arc<BrokerConfig> = Arc::new(layers.build().unwrap().0);
        let broker = world.block_on(Broker::start(hook(world.env()), config, None));
        let broker = broker.unwrap();
        Self {
            world,
            addresses: (broker.addresses()[0].1, broker.http_address().unwrap()),
            broker: Some(broker),
            directory,
            _alone: alone,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addresses.0)
    }

    pub(crate) fn create(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let create = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::from(topic.to_owned()),
                num_partitions: partitions,
                replication_factor: -1,
                configs: configs
                    .iter()
                    .map(|(name, value)| CreatableTopicConfig {
                        name: Str::from((*name).to_owned()),
                        value: Some(Str::from((*value).to_owned())),
                    })
                    .collect(),
                ..Default::default()
            }],
            timeout_ms: 5_000,
            ..Default::default()
        };
        let response = self.connect().call(&create, CREATE_TOPICS);
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    }

    /// Sets one configuration of a topic.
    pub(crate) fn alter_topic(&self, topic: &str, name: &str, value: &str) {
        let alter = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: Str::from(topic.to_owned()),
                configs: vec![AlterableConfig {
                    name: Str::from(name.to_owned()),
                    config_operation: CONFIG_SET,
                    value: Some(Str::from(value.to_owned())),
                }],
            }],
            ..Default::default()
        };
        let response = self.connect().call(&alter, INCREMENTAL_ALTER_CONFIGS);
        assert_eq!(response.responses[0].error_code, 0, "{response:?}");
    }

    /// Deletes the records of a partition before `offset`.
    pub(crate) fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let delete = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: Str::from(topic.to_owned()),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: partition,
                    offset,
                }],
            }],
            timeout_ms: 5_000,
        };
        let response = self.connect().call(&delete, DELETE_RECORDS);
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (0, offset));
    }

    pub(crate) fn metadata(&self, topic: &str) -> MetadataResponse {
        let metadata = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(Str::from(topic.to_owned())),
                ..Default::default()
            }]),
            ..Default::default()
        };
        self.connect().call(&metadata, METADATA)
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.addresses.1).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in:\n{page}"));
        value.parse().unwrap()
    }

    /// Stops the broker; the world goes on until the node is dropped.
    pub(crate) fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            self.world.block_on(broker.stop());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection that allocates nothing for what it was given encoded.
pub(crate) struct Client {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            response: vec![0; 16 * 1024 * 1024],
        }
    }

    pub(crate) fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    /// The length of the next answer; an error when the connection has ended.
    pub(crate) fn receive(&mut self) -> io::Result<usize> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let length = usize::try_from(i32::from_be_bytes(prefix)).unwrap();
        self.stream.read_exact(&mut self.response[..length])?;
        Ok(length)
    }

    /// The length of the answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> usize {
        self.send(request);
        self.receive().unwrap()
    }

    pub(crate) fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(&encode(request, version));
        self.answer::<R>(version)
    }

    /// The next answer, which is one to an `R`.
    pub(crate) fn answer<R: Request>(&mut self, version: i16) -> R::Response {
        let length = self.receive().unwrap();
        let response = Bytes::copy_from_slice(&self.response[..length]);
        frame::decode_response::<R>(&response, version).unwrap().1
    }

    /// Error code and base offset of the next answer to a Produce of one partition.
    pub(crate) fn produced(&mut self) -> (i16, i64) {
        let response = self.answer::<ProduceRequest>(PRODUCE);
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    pub(crate) fn produce(&mut self, request: &ProduceRequest) -> (i16, i64) {
        self.send(&encode(request, PRODUCE));
        self.produced()
    }

    /// Error code and message of each batch that is refused.
    pub(crate) fn refusals(&mut self, request: &ProduceRequest) -> Vec<(i16, String)> {
        let response = self.call(request, PRODUCE);
        let topics = response.responses.into_iter();
        let partitions = topics.flat_map(|topic| topic.partition_responses);
        let refused = partitions.filter(|partition| partition.error_code != 0);
        refused
            .map(|partition| {
                let message = partition.error_message.map(|text| text.to_string());
                (partition.error_code, message.unwrap_or_default())
            })
            .collect()
    }

    /// Bytes of records at `offset` of a partition, when there are some.
    pub(crate) fn fetch(&mut self, partition: i32, offset: i64) -> usize {
        self.send(&fetch(partition, offset, 10_000_000));
        self.fetched()
    }

    /// Bytes of records in the next answer to a Fetch of one partition.
    pub(crate) fn fetched(&mut self) -> usize {
        let response = self.answer::<FetchRequest>(FETCH);
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        match &partition.records {
            Some(Records::Bytes(bytes)) => bytes.len(),
            _ => 0,
        }
    }

    /// Whether the node has closed the connection, without an answer.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether an answer has begun to arrive.
    pub(crate) fn is_answered(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        peeked.is_ok_and(|count| count > 0)
    }
}

pub(crate) fn encode<R: Request>(request: &R, version: i16) -> Bytes {
    let encoded = frame::encode_request(request, version, 1, None).unwrap();
    encoded.into_bytes().unwrap()
}

fn now() -> Millis {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Millis(i64::try_from(now.as_millis()).unwrap())
}

/// A batch of records with that key.
pub(crate) fn batch(codec: Codec, records: usize, key: Option<&[u8]>, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for _ in 0..records {
        builder
            .append(now(), key, Some(&vec![7; value_bytes]), &[])
            .unwrap();
    }
    Bytes::copy_from_slice(builder.build().unwrap().as_slice())
}

/// A Produce of one batch, or of null.
pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    acks: i16,
    batch: Option<Bytes>,
) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            name: Str::from(topic.to_owned()),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: batch.map(Records::Bytes),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// An encoded Produce of records without a key to a partition of [`TOPIC`].
pub(crate) fn produce(partition: i32, records: usize, value_bytes: usize) -> Bytes {
    let batch = batch(Codec::None, records, None, value_bytes);
    encode(&produce_request(TOPIC, partition, -1, Some(batch)), PRODUCE)
}

fn fetch_request(partition: i32, offset: i64, max_bytes: i32) -> FetchRequest {
    FetchRequest {
        min_bytes: 1,
        max_wait_ms: FETCH_WAIT_MS,
        max_bytes,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Str::from_static(TOPIC),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// An encoded Fetch that waits for so long if there is nothing.
pub(crate) fn patient_fetch(partition: i32, offset: i64, max_wait_ms: i32) -> Bytes {
    let request = FetchRequest {
        max_wait_ms,
        ..fetch_request(partition, offset, 1)
    };
    encode(&request, FETCH)
}

/// An encoded Fetch from a partition of [`TOPIC`].
pub(crate) fn fetch(partition: i32, offset: i64, max_bytes: i32) -> Bytes {
    encode(&fetch_request(partition, offset, max_bytes), FETCH)
}
