//! The requests that the raw tests need, each in one version.
//!
//! Input: arguments. Output: the interesting fields of the answer. See the message schemas of Kafka
//! for the layouts.

use std::io;
use std::time::{Duration, Instant};

use super::{Answer, Connection, Frame, api, error};

/// A topic's UUID.
pub type TopicId = [u8; 16];

const TIMEOUT_MS: i32 = 10_000;
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// A busy machine needs a moment; nothing needs this.
const SERVED_TIMEOUT: Duration = Duration::from_secs(60);
const FETCH_MAX_BYTES: i32 = 8 << 20;

/// The answer for one partition of a Produce.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub struct Produced {
    pub error_code: i16,
    pub base_offset: i64,
}

/// The answer for one partition of a Fetch.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub struct Fetched {
    pub error_code: i16,
    pub high_watermark: i64,
    pub records: Vec<u8>,
}

/// What a Fetch waits for and takes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are the protocol's")]
pub struct FetchLimits {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: FETCH_MAX_BYTES,
            partition_max_bytes: FETCH_MAX_BYTES,
        }
    }
}

impl Connection {
    /// Produces `records` with acks=all, version 7.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn produce(&mut self, topic: &str, partition: i32, records: &[u8]) -> io::Result<Produced> {
        self.produce_as(7, -1, topic, partition, records)
    }

    /// Produces with one of the versions 5 to 7, and any acks but 0.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn produce_as(
        &mut self,
        version: i16,
        acks: i16,
        topic: &str,
        partition: i32,
        records: &[u8],
    ) -> io::Result<Produced> {
        let body = Self::produce_body(acks, topic, partition, records);
        let mut answer = self.call(api::PRODUCE, version, &body)?;
        Ok(Self::produced(&mut answer))
    }

    /// The body of a Produce for one partition.
    #[must_use]
    pub fn produce_body(acks: i16, topic: &str, partition: i32, records: &[u8]) -> Frame {
        let body = Frame::new().null_string().i16(acks).i32(TIMEOUT_MS);
        let body = body.i32(1).string(topic).i32(1);
        body.i32(partition).bytes(records)
    }

    /// Reads the answer to a Produce for one partition.
    #[must_use]
    pub fn produced(answer: &mut Answer) -> Produced {
        assert_eq!(answer.i32(), 1, "topics");
        answer.string();
        assert_eq!(answer.i32(), 1, "partitions");
        answer.i32();
        Produced {
            error_code: answer.i16(),
            base_offset: answer.i64(),
        }
    }

    /// Fetches from one partition, version 4.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_wait_ms: i32,
    ) -> io::Result<Fetched> {
        let body = Self::fetch_body(topic, partition, offset, max_wait_ms);
        let mut answer = self.call(api::FETCH, 4, &body)?;
        Ok(Self::fetched(&mut answer))
    }

    /// The body of a Fetch of at least one byte from one partition.
    #[must_use]
    pub fn fetch_body(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> Frame {
        let limits = FetchLimits {
            max_wait_ms,
            ..FetchLimits::default()
        };
        Self::limited_fetch_body(topic, partition, offset, limits)
    }

    /// The body of a Fetch from one partition.
    #[must_use]
    pub fn limited_fetch_body(
        topic: &str,
        partition: i32,
        offset: i64,
        limits: FetchLimits,
    ) -> Frame {
        let body = Frame::new().i32(-1);
        let body = body.i32(limits.max_wait_ms).i32(limits.min_bytes);
        let body = body.i32(limits.max_bytes).i8(0);
        let body = body.i32(1).string(topic).i32(1);
        body.i32(partition)
            .i64(offset)
            .i32(limits.partition_max_bytes)
    }

    /// Reads the answer to a Fetch from one partition.
    #[must_use]
    pub fn fetched(answer: &mut Answer) -> Fetched {
        answer.i32();
        assert_eq!(answer.i32(), 1, "topics");
        answer.string();
        assert_eq!(answer.i32(), 1, "partitions");
        answer.i32();
        let error_code = answer.i16();
        let high_watermark = answer.i64();
        answer.i64();
        for _ in 0..answer.i32().max(0) {
            answer.raw(16);
        }
        Fetched {
            error_code,
            high_watermark,
            records: answer.bytes(),
        }
    }

    /// Fetches partition 0 of a topic by its id, version 13, and returns the error code.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn fetch_by_id(&mut self, topic_id: TopicId) -> io::Result<i16> {
        // A flexible request has tagged fields at the end of its header, and lengths plus one.
        let body = Frame::new().uvarint(0).i32(-1).i32(100).i32(1);
        let body = body.i32(FETCH_MAX_BYTES).i8(0).i32(0).i32(-1);
        let body = body.uvarint(2).raw(&topic_id).uvarint(2);
        let body = body.i32(0).i32(-1).i64(0).i32(-1).i64(-1);
        let body = body.i32(FETCH_MAX_BYTES).uvarint(0).uvarint(0);
        let body = body.uvarint(1).uvarint(1).uvarint(0);
        let mut answer = self.call(api::FETCH, 13, &body)?;
        answer.tags();
        answer.i32();
        let error_code = answer.i16();
        answer.i32();
        if error_code != 0 {
            return Ok(error_code);
        }
        assert_eq!(answer.uvarint(), 2, "one topic");
        assert_eq!(answer.raw(16), topic_id);
        assert_eq!(answer.uvarint(), 2, "one partition");
        answer.i32();
        Ok(answer.i16())
    }

    /// The partitions that have a leader, by Metadata, version 1.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn led_partitions(&mut self) -> io::Result<Vec<(String, i32)>> {
        const ALL_TOPICS: i32 = -1;
        let mut answer = self.call(api::METADATA, 1, &Frame::new().i32(ALL_TOPICS))?;
        for _ in 0..answer.i32() {
            answer.i32();
            answer.string();
            answer.i32();
            answer.string();
        }
        answer.i32();
        let mut led = Vec::new();
        for _ in 0..answer.i32() {
            answer.i16();
            let topic = answer.string().unwrap_or_default();
            answer.i8();
            for _ in 0..answer.i32() {
                answer.i16();
                let (partition, leader) = (answer.i32(), answer.i32());
                if leader >= 0 {
                    led.push((topic.clone(), partition));
                }
                for _ in 0..2 {
                    for _ in 0..answer.i32() {
                        answer.i32();
                    }
                }
            }
        }
        Ok(led)
    }

    /// Asks for an offset by timestamp, version 1: `(error code, timestamp, offset)`.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> io::Result<(i16, i64, i64)> {
        let body = Frame::new().i32(-1).i32(1).string(topic);
        let body = body.i32(1).i32(partition).i64(timestamp);
        let mut answer = self.call(api::LIST_OFFSETS, 1, &body)?;
        assert_eq!(answer.i32(), 1, "topics");
        answer.string();
        assert_eq!(answer.i32(), 1, "partitions");
        answer.i32();
        Ok((answer.i16(), answer.i64(), answer.i64()))
    }

    /// Creates a topic, version 2, and returns the error code.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> io::Result<i16> {
        let body = Frame::new().i32(1).string(topic).i32(partitions).i16(1);
        let mut body = body
            .i32(0)
            .i32(i32::try_from(configs.len()).expect("few configs"));
        for (key, value) in configs {
            body = body.string(key).string(value);
        }
        let body = body.i32(TIMEOUT_MS).i8(0);
        let mut answer = self.call(api::CREATE_TOPICS, 2, &body)?;
        answer.i32();
        assert_eq!(answer.i32(), 1, "topics");
        answer.string();
        Ok(answer.i16())
    }

    /// Deletes a topic, version 1, and returns the error code.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn delete_topic(&mut self, topic: &str) -> io::Result<i16> {
        let body = Frame::new().i32(1).string(topic).i32(TIMEOUT_MS);
        let mut answer = self.call(api::DELETE_TOPICS, 1, &body)?;
        answer.i32();
        assert_eq!(answer.i32(), 1, "topics");
        answer.string();
        Ok(answer.i16())
    }

    /// Sets one key of a topic, with IncrementalAlterConfigs version 0, and returns the error code.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn set_topic_config(&mut self, topic: &str, key: &str, value: &str) -> io::Result<i16> {
        let (of_topic, set) = (2, 0);
        let body = Frame::new().i32(1).i8(of_topic).string(topic).i32(1);
        let body = body.string(key).i8(set).string(value).i8(0);
        let mut answer = self.call(api::INCREMENTAL_ALTER_CONFIGS, 0, &body)?;
        answer.i32();
        assert_eq!(answer.i32(), 1, "resources");
        Ok(answer.i16())
    }

    /// Asks for a topic's metadata, version 4, and returns its error code.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn metadata(&mut self, topic: &str, auto_create: bool) -> io::Result<i16> {
        let body = Frame::new().i32(1).string(topic).i8(i8::from(auto_create));
        let mut answer = self.call(api::METADATA, 4, &body)?;
        answer.i32();
        for _ in 0..answer.i32() {
            answer.i32();
            answer.string();
            answer.i32();
            answer.string();
        }
        answer.string();
        answer.i32();
        assert_eq!(answer.i32(), 1, "topics");
        Ok(answer.i16())
    }

    /// Asks for a topic's metadata by its id, version 12, and returns its error code.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn metadata_by_id(&mut self, topic_id: TopicId) -> io::Result<i16> {
        let body = Frame::new().uvarint(0).uvarint(2).raw(&topic_id);
        let body = body.uvarint(0).uvarint(0).i8(0).i8(0).uvarint(0);
        let mut answer = self.call(api::METADATA, 12, &body)?;
        answer.tags();
        answer.i32();
        for _ in 1..answer.uvarint() {
            answer.i32();
            answer.compact_string();
            answer.i32();
            answer.compact_string();
            answer.tags();
        }
        answer.compact_string();
        answer.i32();
        assert_eq!(answer.uvarint(), 2, "one topic");
        Ok(answer.i16())
    }

    /// Waits until partition 0 of a topic that was just created is served.
    ///
    /// # Errors
    ///
    /// Those of the socket; `TimedOut` when it is not for a long time.
    pub fn wait_until_served(&mut self, topic: &str) -> io::Result<()> {
        let asked = Instant::now();
        while self.list_offset(topic, 0, -1)?.0 != error::NONE {
            if asked.elapsed() > SERVED_TIMEOUT {
                let message = format!("{topic} is not served");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
        Ok(())
    }

    /// A new producer id and its epoch, version 1; asks again while the node is fetching a block of
    /// ids.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn init_producer_id(&mut self) -> io::Result<(i64, i16)> {
        let body = Frame::new().null_string().i32(TIMEOUT_MS);
        loop {
            let mut answer = self.call(api::INIT_PRODUCER_ID, 1, &body)?;
            answer.i32();
            let error_code = answer.i16();
            if error_code != error::COORDINATOR_LOAD_IN_PROGRESS {
                assert_eq!(error_code, error::NONE, "instead of a producer id");
                return Ok((answer.i64(), answer.i16()));
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }
}
