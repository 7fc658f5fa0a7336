//! `skein produce`: lines of standard input become records.
//!
//! Input: options, lines. Output: records in the cluster; a summary.
//!
//! Invariant: the exit code is 0 only if every line was written.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use serde_json::json;
use skein_client::{
    Acks, ClientError, Delivery, Partitioning, Producer, ProducerOptions, ProducerRecord,
    RecordMetadata,
};
use skein_env::{Env, Lane};
use skein_record::Codec;
use skein_types::{Millis, Offset, PartitionIndex, TopicName};
use tokio::sync::oneshot;

use crate::arguments::{ClusterArguments, pair};
use crate::failure::Failure;
use crate::output::{self, Table, count};
use crate::session::{Session, with_client};
use crate::time::Time;
use crate::topic::topic_name;

/// Bytes that are read from standard input at once.
const READ_BYTES: usize = 64 * 1024;
/// Records that are on their way before the oldest one is waited for.
const DELIVERIES_MAX: usize = 100_000;

const EXAMPLES: &str = "\
Examples:
  echo hello | skein produce orders
  skein produce orders < lines.txt                   a record a line
  echo 'k1:v1' | skein produce orders --key-separator :
  seq 1000000 | skein produce numbers --compression zstd --linger 50
  echo hello | skein produce orders --partition 2 --header source=shell --acks all

A line without the key separator is a value without a key. With --null-value TEXT, a value that is
TEXT becomes a tombstone. On a terminal, Ctrl-D ends the input.";

/// Arguments of `skein produce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProduceArguments {
    /// Where to
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    topic: TopicName,
    /// What stands between key and value in a line
    #[arg(long, short, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// A value that is this text has no bytes at all: a tombstone
    #[arg(long, value_name = "TEXT")]
    null_value: Option<String>,
    /// The partition, for all records
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// How records without --partition are spread
    #[arg(long, value_enum, default_value_t = Spread::Key)]
    partitioner: Spread,
    /// A header of every record; may be given several times
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// The timestamp of every record: a date, '15m' (ago), or '@MILLIS'
    #[arg(long, value_name = "TIME", value_parser = time)]
    timestamp: Option<Time>,
    /// When a record counts as written: by all replicas in sync, by the leader, or when sent
    #[arg(long, value_enum, default_value = "all", allow_negative_numbers = true)]
    acks: AcksArgument,
    /// How batches are compressed
    #[arg(long, short, value_enum, default_value = "none")]
    compression: CodecArgument,
    /// Milliseconds that a batch waits for further records
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger: u64,
    /// Bytes of a batch at which it does not wait
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024)]
    batch_size: usize,
    /// Bytes of a request, and so of a line, at most
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    max_request_size: usize,
    /// Send without sequence numbers: a record may be written twice when a broker fails
    #[arg(long)]
    no_idempotence: bool,
    /// Print where each record went
    #[arg(long)]
    show_offsets: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
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
enum AcksArgument {
    #[value(alias = "-1")]
    All,
    #[value(name = "1", alias = "leader")]
    Leader,
    #[value(name = "0", alias = "none")]
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodecArgument {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// A point in time.
pub(crate) fn time(text: &str) -> Result<Time, String> {
    Time::parse(text).ok_or_else(|| {
        "write a date (2026-01-31, 2026-01-31T12:00:00Z), a time ago (15m, 2h, 7d) or @MILLIS"
            .into()
    })
}

impl ProduceArguments {
    fn options(&self) -> ProducerOptions {
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
            buffer_memory: (32 * 1024 * 1024).max(self.max_request_size.saturating_mul(2)),
            enable_idempotence: !self.no_idempotence,
            max_block: self.cluster.timeout,
            delivery_timeout: self
                .cluster
                .timeout
                .max(Duration::from_millis(self.linger + 1000)),
            ..ProducerOptions::default()
        }
    }

    /// The record of a line.
    fn record(&self, line: Bytes, timestamp: Option<Millis>) -> ProducerRecord {
        let (key, value) = match &self.key_separator {
            None => (None, line),
            Some(separator) => match find(&line, separator.as_bytes()) {
                Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
                None => (None, line),
            },
        };
        let is_null = self
            .null_value
            .as_ref()
            .is_some_and(|null| value == null.as_bytes());
        let headers = self
            .header
            .iter()
            .map(|(name, value)| (name.clone(), Some(Bytes::copy_from_slice(value.as_bytes()))));
        ProducerRecord {
            topic: self.topic.clone(),
            partition: self.partition.map(PartitionIndex),
            timestamp,
            key,
            value: (!is_null).then_some(value),
            headers: headers.collect(),
        }
    }
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    line.windows(separator.len())
        .position(|window| window == separator)
}

/// Runs `skein produce`.
pub(crate) fn run(arguments: ProduceArguments) -> Result<(), Failure> {
    let cluster = arguments.cluster.clone();
    with_client(&cluster, |session| async move {
        let producer = session.client.producer(arguments.options()).await?;
        let mut summary = Summary::new(session.json, arguments.show_offsets);
        let sent = send_lines(&session, &arguments, &producer, &mut summary).await;
        // What was taken is finished also if a later line could not be.
        let is_closed = producer.close(session.timeout).await;
        summary.settle(0).await?;
        sent?;
        if !is_closed {
            return Err(Failure::failed("the last records were not written in time"));
        }
        summary.print()
    })
}

async fn send_lines(
    session: &Session,
    arguments: &ProduceArguments,
    producer: &Producer,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let timestamp = arguments
        .timestamp
        .map(|time| time.resolve(session.env.clock.now()));
    let mut lines = Lines::new(arguments.max_request_size);
    loop {
        lines = lines.read_more(&session.env).await?;
        while let Some(line) = lines.next_line() {
            let delivery = producer.send(arguments.record(line, timestamp)).await?;
            summary.deliveries.push_back(delivery);
            summary.settle(DELIVERIES_MAX).await?;
        }
        if lines.is_at_end {
            return Ok(());
        }
        if summary.show_offsets {
            // Somebody looks at every record: tell of each when it is written, not at the end.
            summary.settle(0).await?;
        }
    }
}

/// The lines of standard input.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Bytes that were handed out.
    taken: usize,
    line_max: usize,
    is_at_end: bool,
}

impl Lines {
    fn new(line_max: usize) -> Self {
        Self {
            line_max,
            ..Self::default()
        }
    }

    /// Waits for more input, on a thread that may block.
    async fn read_more(mut self, env: &Env) -> Result<Self, Failure> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.len() > self.line_max {
            return Err(
                Failure::failed(format!("a line is longer than {} bytes", self.line_max))
                    .hint("--max-request-size raises the limit."),
            );
        }
        let (sender, receiver) = oneshot::channel();
        let read = move || {
            let mut chunk = vec![0; READ_BYTES];
            let read = loop {
                match io::stdin().lock().read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            let read = read.map(|count| {
                self.bytes.extend_from_slice(&chunk[..count]);
                self.is_at_end = count == 0;
                self
            });
            // The receiver is there as long as the command is.
            let _ = sender.send(read);
        };
        env.spawn.offload(Lane::Data, "stdin", Box::new(read)).await;
        let failed = |error| Failure::failed(format!("cannot read standard input: {error}"));
        receiver
            .await
            .map_err(|_| failed("the thread is gone".to_owned()))?
            .map_err(|error| failed(error.to_string()))
    }

    /// The next whole line, without its end; at the end of input, also one that has none.
    fn next_line(&mut self) -> Option<Bytes> {
        let rest = &self.bytes[self.taken..];
        let (line, taken) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&rest[..end], end + 1),
            None if self.is_at_end && !rest.is_empty() => (rest, rest.len()),
            None => return None,
        };
        let line = Bytes::copy_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        self.taken += taken;
        Some(line)
    }
}

/// What became of the records.
struct Summary {
    json: bool,
    show_offsets: bool,
    deliveries: VecDeque<Delivery>,
    /// By partition: number of records, lowest and highest offset.
    partitions: BTreeMap<PartitionIndex, (u64, Offset, Offset)>,
}

impl Summary {
    fn new(json: bool, show_offsets: bool) -> Self {
        Self {
            json,
            show_offsets,
            deliveries: VecDeque::new(),
            partitions: BTreeMap::new(),
        }
    }

    /// Waits until no more than `left` records are on their way.
    async fn settle(&mut self, left: usize) -> Result<(), Failure> {
        while self.deliveries.len() > left {
            let Some(delivery) = self.deliveries.pop_front() else {
                break;
            };
            let written = delivery.wait().await.map_err(|error| self.failed(error))?;
            self.count(&written);
            if self.show_offsets {
                self.show(&written)?;
            }
        }
        Ok(())
    }

    fn failed(&self, error: ClientError) -> Failure {
        let written: u64 = self.partitions.values().map(|(records, ..)| records).sum();
        let failure = Failure::from(error);
        match failure {
            Failure::Told {
                code,
                message,
                hint,
            } if written > 0 => Failure::Told {
                code,
                message: format!("{message} ({} written before)", count(written, "record")),
                hint,
            },
            failure => failure,
        }
    }

    fn count(&mut self, written: &RecordMetadata) {
        let offset = written.offset;
        let partition = written.partition.partition;
        let entry = self
            .partitions
            .entry(partition)
            .or_insert((0, offset, offset));
        entry.0 += 1;
        entry.1 = entry.1.min(offset);
        entry.2 = entry.2.max(offset);
    }

    fn show(&self, written: &RecordMetadata) -> Result<(), Failure> {
        let mut out = output::stdout();
        if self.json {
            let line = json!({
                "topic": written.partition.topic.as_str(),
                "partition": written.partition.partition.0,
                "offset": written.offset.0,
                "timestamp": written.timestamp.0,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{} {}", written.partition, written.offset)?;
        }
        Ok(out.flush()?)
    }

    /// Tells how many records went where; for people on standard error, so that standard output
    /// holds nothing but what was asked for.
    fn print(&self) -> Result<(), Failure> {
        if self.show_offsets {
            return Ok(());
        }
        let known = |offset: Offset| (offset != Offset::NONE).then_some(offset.0);
        if self.json {
            let partitions = self
                .partitions
                .iter()
                .map(|(partition, (records, first, last))| {
                    json!({
                        "partition": partition.0,
                        "records": records,
                        "first_offset": known(*first),
                        "last_offset": known(*last),
                    })
                });
            let records: u64 = self.partitions.values().map(|(records, ..)| records).sum();
            let partitions: Vec<_> = partitions.collect();
            let value = json!({ "records": records, "partitions": partitions });
            return output::json(&mut output::stdout(), &value);
        }
        let mut table = Table::new(&["PARTITION", "RECORDS", "FIRST", "LAST"]);
        for (partition, (records, first, last)) in &self.partitions {
            let text = |offset| known(offset).map_or("-".into(), |offset| offset.to_string());
            let cells = [
                partition.to_string(),
                records.to_string(),
                text(*first),
                text(*last),
            ];
            table.row(cells.into());
        }
        if !table.is_empty() {
            // Whoever closed standard error does not want to know.
            let _ = table.write(&mut io::stderr().lock(), 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn arguments(line: &str) -> ProduceArguments {
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Produce(produce) = arguments.command else {
            panic!()
        };
        produce
    }

    #[test]
    fn a_line_is_a_key_and_a_value_or_a_value_alone() {
        let with_keys = arguments("skein produce t --key-separator :: --null-value NULL");
        let record = |line: &'static str| {
            let record = with_keys.record(Bytes::from_static(line.as_bytes()), None);
            (record.key, record.value)
        };
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        assert_eq!(record("k::v::w"), (text("k"), text("v::w")));
        assert_eq!(record("k:v"), (None, text("k:v")));
        assert_eq!(record("::"), (text(""), text("")));
        assert_eq!(record("k::NULL"), (text("k"), None));
        assert_eq!(record("NULL"), (None, None));
        let plain = arguments("skein produce t -H a=1 -H a=2 --partition 3");
        let record = plain.record(Bytes::from_static(b"k::v"), None);
        assert_eq!(record.value, text("k::v"));
        assert_eq!(record.partition, Some(PartitionIndex(3)));
        assert_eq!(record.headers.len(), 2);
    }

    #[test]
    fn lines_end_at_a_newline_and_the_last_one_at_the_end() {
        let mut lines = Lines {
            bytes: b"one\r\n\ntwo".to_vec(),
            line_max: 9,
            ..Lines::default()
        };
        assert_eq!(lines.next_line().unwrap(), "one");
        assert_eq!(lines.next_line().unwrap(), "");
        assert_eq!(lines.next_line(), None);
        lines.is_at_end = true;
        assert_eq!(lines.next_line().unwrap(), "two");
        assert_eq!(lines.next_line(), None);
    }

    #[test]
    fn options_of_the_command_reach_the_producer() {
        let options =
            arguments("skein produce t --acks 1 --compression zstd --linger 50").options();
        assert_eq!(options.acks, Acks::Leader);
        assert_eq!(options.compression, Codec::Zstd);
        assert_eq!(options.linger, Duration::from_millis(50));
        assert!(!options.is_idempotent());
        assert!(arguments("skein produce t").options().is_idempotent());
        assert_eq!(
            arguments("skein produce t --acks -1").options().acks,
            Acks::All
        );
    }
}
