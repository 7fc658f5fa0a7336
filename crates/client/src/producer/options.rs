//! How a producer batches, sends and gives up.
//!
//! Input: the program's wishes. Output: the same, checked.
//!
//! Source: Kafka 4.1's producer configuration reference, for names and defaults.

use std::time::Duration;

use skein_record::Codec;

use crate::error::ClientError;
use crate::partitioner::Partitioning;

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// When it has been handed to the system. It may never arrive, and its offset is not known.
    None,
    /// When the leader has it.
    Leader,
    /// When all replicas in sync have it.
    All,
}

impl Acks {
    pub(crate) const fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer batches, sends and gives up.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// `acks`.
    pub acks: Acks,
    /// `compression.type`, of each batch as a whole.
    pub compression: Codec,
    /// `batch.size`: bytes of a batch, before compression, at which it is sent without waiting. A
    /// record that is larger has a batch of its own.
    pub batch_size: usize,
    /// `linger.ms`: how long a batch waits for further records.
    pub linger: Duration,
    /// `buffer.memory`: bytes of records that are not delivered yet; at that bound `send` waits.
    pub buffer_memory: usize,
    /// `max.request.size`: bytes of batches in one request, and of one record.
    pub max_request_size: usize,
    /// `max.in.flight.requests.per.connection`: 1 to 5, because brokers remember five batches per
    /// producer and partition.
    pub max_in_flight_requests_per_connection: usize,
    /// `enable.idempotence`: no record is written twice. It needs [`Acks::All`]; with fewer acks it
    /// is off, and then one batch per partition is in flight at a time, so that the order stays.
    pub enable_idempotence: bool,
    /// `delivery.timeout.ms`: how long it may take from `send` to success or failure.
    pub delivery_timeout: Duration,
    /// `max.block.ms`: how long `send` may wait for memory or for the topic to be known.
    pub max_block: Duration,
    /// `partitioner.class`.
    pub partitioning: Partitioning,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Codec::None,
            batch_size: 16 * 1024,
            linger: Duration::from_millis(5),
            buffer_memory: 32 * 1024 * 1024,
            max_request_size: 1024 * 1024,
            max_in_flight_requests_per_connection: 5,
            enable_idempotence: true,
            delivery_timeout: Duration::from_secs(120),
            max_block: Duration::from_secs(60),
            partitioning: Partitioning::ByKey,
        }
    }
}

/// Batches that a broker remembers per producer and partition.
const IN_FLIGHT_MAX: usize = skein_record::BATCHES_TO_RETAIN;

impl ProducerOptions {
    /// Whether the producer is idempotent.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.enable_idempotence && self.acks == Acks::All
    }

    /// Batches of one partition that may be in flight.
    pub(crate) fn in_flight_per_partition(&self) -> usize {
        if self.is_idempotent() {
            self.max_in_flight_requests_per_connection
        } else {
            1
        }
    }

    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let in_flight = self.max_in_flight_requests_per_connection;
        let reason = if in_flight == 0 || in_flight > IN_FLIGHT_MAX {
            "max.in.flight.requests.per.connection must be 1 to 5"
        } else if self.batch_size == 0 {
            "batch.size must be at least 1"
        } else if self.max_request_size == 0 || self.max_request_size > i32::MAX as usize / 2 {
            "max.request.size must be at least 1 byte and below 1 GiB"
        } else if self.buffer_memory < self.max_request_size {
            "buffer.memory must be at least max.request.size"
        } else if self.buffer_memory > u32::MAX as usize {
            "buffer.memory must be below 4 GiB"
        } else if self.delivery_timeout <= self.linger {
            "delivery.timeout.ms must be above linger.ms"
        } else {
            return Ok(());
        };
        Err(ClientError::Options(reason))
    }
}
