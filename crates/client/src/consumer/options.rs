//! How a consumer reads.
//!
//! Input: the program's wishes. Output: the same, with Kafka's defaults.
//!
//! Source: Kafka 4.1's consumer configuration reference, for names and defaults.

use std::time::Duration;

use skein_types::Offset;

use crate::list_offsets::OffsetSpec;

/// Which records of transactions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// All.
    #[default]
    ReadUncommitted,
    /// Those of committed ones; records behind an open one wait for its end.
    ReadCommitted,
}

impl IsolationLevel {
    pub(crate) const fn wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset.
    Offset(Offset),
    /// Where the partition's leader says that this is.
    Found(OffsetSpec),
}

/// How a consumer reads.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// `fetch.min.bytes`: a broker waits for so many.
    pub fetch_min_bytes: u32,
    /// `fetch.max.wait.ms`: but no longer than this.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`, of one response; a first batch that is larger comes all the same.
    pub fetch_max_bytes: u32,
    /// `max.partition.fetch.bytes`.
    pub max_partition_fetch_bytes: u32,
    /// `max.poll.records`.
    pub max_poll_records: usize,
    /// `isolation.level`.
    pub isolation_level: IsolationLevel,
    /// `auto.offset.reset`: where to go on when the log does not have the position any more. `None`
    /// is an error.
    pub auto_offset_reset: Option<OffsetSpec>,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// Bytes of one batch after decompression; a larger one is refused as corrupt.
    pub decompressed_batch_max_bytes: usize,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 * 1024 * 1024,
            max_partition_fetch_bytes: 1024 * 1024,
            max_poll_records: 500,
            isolation_level: IsolationLevel::ReadUncommitted,
            auto_offset_reset: Some(OffsetSpec::Latest),
            check_crcs: true,
            decompressed_batch_max_bytes: 256 * 1024 * 1024,
        }
    }
}
