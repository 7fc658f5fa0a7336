//! Options of whoever writes records: `skein produce` and `skein bench`.
//!
//! Input: arguments. Output: options of the client's producer.

use std::time::Duration;

use clap::{Args, ValueEnum};
use skein_client::{Acks, Partitioning, ProducerOptions};
use skein_record::Codec;

/// Memory for records that are not acknowledged yet, at least.
const BUFFER_MEMORY: usize = 32 * 1024 * 1024;

/// How records are sent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sending")]
pub(crate) struct SendArguments {
    /// How records without a partition are spread
    #[arg(long, value_enum, default_value_t = Spread::Key)]
    partitioner: Spread,
    /// When a record counts as written: by all replicas in sync, by the leader, or when sent
    #[arg(long, value_enum, default_value = "all", allow_negative_numbers = true)]
    pub(crate) acks: AcksArgument,
    /// How batches are compressed
    #[arg(long, short, value_enum, default_value = "none")]
    pub(crate) compression: CodecArgument,
    /// Milliseconds that a batch waits for further records
    #[arg(long, value_name = "MS", default_value_t = 5)]
    pub(crate) linger: u64,
    /// Bytes of a batch at which it does not wait
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024)]
    pub(crate) batch_size: usize,
    /// Bytes of a request, and so of a record, at most
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    pub(crate) max_request_size: usize,
    /// Send without sequence numbers: a record may be written twice when a broker fails
    #[arg(long)]
    no_idempotence: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Spread {
    /// By key, as Kafka's clients do; without a key, a batch here, a batch there.
    Key,
    /// To each in turn.
    RoundRobin,
    /// At random.
    Random,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AcksArgument {
    #[value(alias = "-1")]
    All,
    #[value(name = "1", alias = "leader")]
    Leader,
    #[value(name = "0", alias = "none")]
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CodecArgument {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl SendArguments {
    /// The same for the client; a record may take `timeout` from here to its acknowledgement.
    pub(crate) fn options(&self, timeout: Duration) -> ProducerOptions {
        ProducerOptions {
            acks: match self.acks {
                AcksArgument::All => Acks::All,
                AcksArgument::Leader => Acks::Leader,
                AcksArgument::None => Acks::None,
            },
            compression: match self.compression {
                CodecArgument::None => Codec::None,
                CodecArgument::Gzip => Codec::Gzip,
                CodecArgument::Snappy => Codec::Snappy,
                CodecArgument::Lz4 => Codec::Lz4,
                CodecArgument::Zstd => Codec::Zstd,
            },
            partitioning: match self.partitioner {
                Spread::Key => Partitioning::ByKey,
                Spread::RoundRobin => Partitioning::RoundRobin,
                Spread::Random => Partitioning::Random,
            },
            batch_size: self.batch_size,
            linger: Duration::from_millis(self.linger),
            max_request_size: self.max_request_size,
            buffer_memory: BUFFER_MEMORY.max(self.max_request_size.saturating_mul(2)),
            enable_idempotence: !self.no_idempotence,
            max_block: timeout,
            delivery_timeout: timeout.max(Duration::from_millis(self.linger + 1000)),
            ..ProducerOptions::default()
        }
    }
}
