//! Kafka's wire protocol by hand: just enough to say what no client library would say.
//!
//! Input: fields in the order of the protocol. Output: frames on a socket, and the fields of the
//! answers. It shares no code with Skein's codec, so that a mistake there can't hide here.
//!
//! Requests and responses are in the oldest encoding that shows the rule under test; flexible
//! versions only where topic ids need them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

mod batch;
mod cluster;
mod groups;
mod requests;

pub use batch::{Batch, Record, crc32c};
pub use cluster::{SeenCluster, SeenPartition};
pub use groups::{Joined, Member};
pub use requests::{FetchLimits, Fetched, Produced, TopicId};

/// API keys.
pub mod api {
    #![allow(missing_docs, reason = "they are the protocol's names")]
    pub const PRODUCE: i16 = 0;
    pub const FETCH: i16 = 1;
    pub const LIST_OFFSETS: i16 = 2;
    pub const METADATA: i16 = 3;
    pub const OFFSET_COMMIT: i16 = 8;
    pub const OFFSET_FETCH: i16 = 9;
    pub const FIND_COORDINATOR: i16 = 10;
    pub const JOIN_GROUP: i16 = 11;
    pub const HEARTBEAT: i16 = 12;
    pub const LEAVE_GROUP: i16 = 13;
    pub const SYNC_GROUP: i16 = 14;
    pub const DESCRIBE_GROUPS: i16 = 15;
    pub const LIST_GROUPS: i16 = 16;
    pub const API_VERSIONS: i16 = 18;
    pub const CREATE_TOPICS: i16 = 19;
    pub const DELETE_TOPICS: i16 = 20;
    pub const DELETE_RECORDS: i16 = 21;
    pub const INIT_PRODUCER_ID: i16 = 22;
    pub const DESCRIBE_CONFIGS: i16 = 32;
    pub const ALTER_CONFIGS: i16 = 33;
    pub const DESCRIBE_LOG_DIRS: i16 = 35;
    pub const DELETE_GROUPS: i16 = 42;
    pub const ELECT_LEADERS: i16 = 43;
    pub const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
    pub const OFFSET_DELETE: i16 = 47;
    pub const DESCRIBE_QUORUM: i16 = 55;
    pub const DESCRIBE_CLUSTER: i16 = 60;
    pub const UPDATE_FEATURES: i16 = 57;
    pub const DESCRIBE_PRODUCERS: i16 = 61;
    pub const LIST_CONFIG_RESOURCES: i16 = 74;
}

/// A "timestamp" that asks for the end of the log.
const LATEST: i64 = -1;

/// Error codes.
pub mod error {
    #![allow(missing_docs, reason = "they are the protocol's names")]
    pub const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub const NOT_COORDINATOR: i16 = 16;
    pub const INVALID_TOPIC_EXCEPTION: i16 = 17;
    pub const INVALID_REQUIRED_ACKS: i16 = 21;
    pub const ILLEGAL_GENERATION: i16 = 22;
    pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    pub const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    pub const INVALID_TIMESTAMP: i16 = 32;
    pub const UNSUPPORTED_VERSION: i16 = 35;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const INVALID_PARTITIONS: i16 = 37;
    pub const INVALID_CONFIG: i16 = 40;
    pub const NOT_CONTROLLER: i16 = 41;
    pub const INVALID_REQUEST: i16 = 42;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const NON_EMPTY_GROUP: i16 = 68;
    pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub const ELECTION_NOT_NEEDED: i16 = 84;
    pub const INVALID_RECORD: i16 = 87;
    pub const INVALID_UPDATE_VERSION: i16 = 95;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// An answer that takes longer is none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// No answer that these tests ask for is larger.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// One connection.
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects to a node on loopback.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn open(port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream,
            correlation_id: 0,
        })
    }

    /// Waits no longer than `timeout` for each part of an answer.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn set_answer_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Sends a request and waits for its answer, without the correlation id.
    ///
    /// # Errors
    ///
    /// Those of the socket; `UnexpectedEof` where the node closed it.
    pub fn call(&mut self, api_key: i16, version: i16, body: &Frame) -> io::Result<Answer> {
        self.send(api_key, version, body)?;
        self.receive()
    }

    /// Sends a request, with a header of version 1.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn send(&mut self, api_key: i16, version: i16, body: &Frame) -> io::Result<()> {
        let frame = self.frame(api_key, version, body);
        self.send_raw(&frame)
    }

    /// What [`Connection::send`] would put on the wire, length included.
    pub fn frame(&mut self, api_key: i16, version: i16, body: &Frame) -> Vec<u8> {
        self.correlation_id += 1;
        let header = Frame::new()
            .i16(api_key)
            .i16(version)
            .i32(self.correlation_id)
            .string("skein-tests");
        let length = i32::try_from(header.0.len() + body.0.len()).expect("a frame below 2 GiB");
        Frame::new().i32(length).raw(&header.0).raw(&body.0).0
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for the next answer and checks that its correlation id is that of the last request
    /// sent.
    ///
    /// # Errors
    ///
    /// Those of the socket; `UnexpectedEof` where the node closed it.
    pub fn receive(&mut self) -> io::Result<Answer> {
        let expected = self.correlation_id;
        let (correlation_id, answer) = self.receive_any()?;
        assert_eq!(correlation_id, expected, "the answer is to another request");
        Ok(answer)
    }

    /// Waits for the next answer, whichever it is.
    ///
    /// # Errors
    ///
    /// Those of the socket; `UnexpectedEof` where the node closed it.
    pub fn receive_any(&mut self) -> io::Result<(i32, Answer)> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
        assert!(
            (4..ANSWER_MAX_BYTES).contains(&length),
            "an answer of {length} bytes"
        );
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        let mut answer = Answer { bytes, position: 0 };
        Ok((answer.i32(), answer))
    }

    /// Whether the node closes this connection without another word.
    pub fn is_closed_by_the_node(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Whether a node answers on this port and knows of a broker.
#[must_use]
pub fn serves(port: u16) -> bool {
    let brokers = Connection::open(port)
        .and_then(|mut connection| connection.call(api::METADATA, 1, &Frame::new().i32(0)))
        .map(|mut answer| answer.i32());
    brokers.is_ok_and(|count| count > 0)
}

/// Whether every partition that the node at this port is said to lead takes requests: between its
/// start and that, it refuses them, and clients look again.
///
/// # Errors
///
/// Those of the socket.
pub fn leads(port: u16) -> io::Result<bool> {
    let mut connection = Connection::open(port)?;
    for (topic, partition) in connection.led_partitions()? {
        let (code, _, _) = connection.list_offset(&topic, partition, LATEST)?;
        if code == error::NOT_LEADER_OR_FOLLOWER {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fields in the order in which they are added.
#[derive(Clone, Debug, Default)]
pub struct Frame(pub Vec<u8>);

#[allow(
    missing_docs,
    reason = "each adds a field of the type that is its name"
)]
impl Frame {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    #[must_use]
    pub fn i8(self, value: i8) -> Self {
        self.raw(&value.to_be_bytes())
    }

    #[must_use]
    pub fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    #[must_use]
    pub fn i32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    #[must_use]
    pub fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    #[must_use]
    pub fn string(self, value: &str) -> Self {
        let length = i16::try_from(value.len()).expect("a short string");
        self.i16(length).raw(value.as_bytes())
    }

    #[must_use]
    pub fn null_string(self) -> Self {
        self.i16(-1)
    }

    #[must_use]
    pub fn nullable_string(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.string(value),
            None => self.null_string(),
        }
    }

    #[must_use]
    pub fn bytes(self, value: &[u8]) -> Self {
        let length = i32::try_from(value.len()).expect("bytes below 2 GiB");
        self.i32(length).raw(value)
    }

    /// An unsigned varint, as flexible versions use for lengths (plus one), and 0 for "no tagged
    /// fields".
    #[must_use]
    pub fn uvarint(mut self, mut value: u32) -> Self {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
        self
    }

    /// A string as flexible versions have it.
    #[must_use]
    pub fn compact_string(self, value: &str) -> Self {
        let length = u32::try_from(value.len()).expect("a short string");
        self.uvarint(length + 1).raw(value.as_bytes())
    }

    /// The length of an array as flexible versions have it.
    #[must_use]
    pub fn compact_length(self, length: usize) -> Self {
        self.uvarint(u32::try_from(length).expect("a short array") + 1)
    }
}

/// The fields of an answer, read in order; whatever is missing fails the test.
#[derive(Clone, Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    position: usize,
}

#[allow(
    missing_docs,
    reason = "each reads a field of the type that is its name"
)]
impl Answer {
    pub fn raw(&mut self, length: usize) -> &[u8] {
        let start = self.position;
        self.position += length;
        self.bytes
            .get(start..self.position)
            .expect("the answer is shorter than its fields")
    }

    pub fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.array())
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    /// A nullable string, also where the protocol says that it can't be null.
    pub fn string(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()).ok()?;
        Some(String::from_utf8(self.raw(length).to_vec()).expect("UTF-8"))
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.i32()).unwrap_or(0);
        self.raw(length).to_vec()
    }

    pub fn uvarint(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a varint of more than five bytes")
    }

    /// A compact nullable string.
    pub fn compact_string(&mut self) -> Option<String> {
        let length = self.uvarint().checked_sub(1)? as usize;
        Some(String::from_utf8(self.raw(length).to_vec()).expect("UTF-8"))
    }

    /// The length of a compact array.
    pub fn compact_length(&mut self) -> usize {
        self.uvarint().checked_sub(1).expect("not null") as usize
    }

    /// Tagged fields, skipped.
    pub fn tags(&mut self) {
        for _ in 0..self.uvarint() {
            self.uvarint();
            let length = self.uvarint() as usize;
            self.raw(length);
        }
    }

    /// The number of bytes that have not been read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.raw(N).try_into().expect("N bytes")
    }
}
