//! `skein bench latency`: one record at a time, from the producer to the consumer.
//!
//! Input: how many. Output: the latency from `send` until a consumer that waits has the record, and
//! until the acknowledgement.
//!
//! Invariant: the next record is sent when the one before was acknowledged and read, so that none
//! waits behind another; the consumer's fetch waits at the broker when a record is sent.

use std::time::Duration;

use clap::Args;
use skein_client::{
    Consumer, ConsumerOptions, IsolationLevel, OffsetSpec, Producer, ProducerOptions,
    ProducerRecord, StartAt,
};
use skein_types::{PartitionIndex, TopicPartition};
use tokio::time::Instant;

use crate::bench::meter::Meter;
use crate::bench::payload::{PayloadArguments, Pool};
use crate::bench::produce::start;
use crate::bench::report::Report;
use crate::bench::{Place, TopicArguments};
use crate::failure::Failure;
use crate::produce::options::SendArguments;
use crate::session::Session;
use crate::stop::Stop;

pub(super) const EXAMPLES: &str = "\
Examples:
  skein bench latency                                10,000 records of 1 KiB, one at a time
  skein bench latency --records 1000 --record-bytes 100 --acks 1
  skein bench latency --topic orders --json

Batches do not linger here (--linger has no effect): there is nothing to wait for. Of a topic with
more partitions, the first one is used.";

/// How long a fetch waits for a record.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `skein bench latency`.
#[derive(Debug, Args)]
pub(super) struct LatencyBench {
    /// How many
    #[arg(
        long,
        short = 'n',
        visible_alias = "num-records",
        value_name = "N",
        default_value = "10000",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    records: u64,
    /// Records before these, which are not measured; a tenth if not given
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    #[command(flatten)]
    payload: PayloadArguments,
    #[command(flatten)]
    pub(super) topic: TopicArguments,
    #[command(flatten)]
    send: SendArguments,
}

/// Measures, and reports.
pub(super) async fn run(
    session: &Session,
    bench: &LatencyBench,
    place: Place,
    mut stop: Stop,
) -> Result<(), Failure> {
    let options = ProducerOptions {
        linger: Duration::ZERO,
        ..bench.send.options(session.timeout)
    };
    let partition = TopicPartition {
        topic: place.topic.clone(),
        partition: PartitionIndex(0),
    };
    let mut consumer = session.client.consumer(ConsumerOptions {
        fetch_max_wait: POLL,
        auto_offset_reset: None,
        ..ConsumerOptions::default()
    });
    // Known before the first record is sent, so that the consumer begins with that.
    let admin = session.client.admin();
    let latest = [(partition.clone(), OffsetSpec::Latest)].into();
    let found = admin
        .list_offsets(&latest, IsolationLevel::ReadUncommitted)
        .await?;
    let begin = found.into_iter();
    consumer.assign(begin.map(|(partition, found)| (partition, StartAt::Offset(found.offset))));
    let mut trip = Trip {
        timeout: session.timeout,
        producer: start(session, options).await?,
        pool: Pool::new(&bench.payload, &*session.env.rng),
        partition,
        consumer,
    };
    let mut end_to_end = Meter::begin(Some(bench.records), session.json)?;
    let mut acks = Meter::begin(Some(bench.records), true)?;
    let warmup = bench.warmup.unwrap_or(bench.records / 10);
    for number in 0..warmup.saturating_add(bench.records) {
        let took = tokio::select! {
            biased;
            took = trip.run() => took?,
            () = stop.wanted() => break,
        };
        if number == warmup {
            end_to_end = Meter::begin(Some(bench.records), session.json)?;
        }
        if number >= warmup {
            end_to_end.time(took.end_to_end);
            acks.time(took.ack);
            end_to_end.count(1, took.bytes);
        }
    }
    let mut report = Report::new("latency", &place, &end_to_end);
    report.latencies("latency_ms", "end to end", &end_to_end);
    report.latencies("ack_latency_ms", "ack", &acks);
    if stop.is_wanted() {
        report.interrupted();
    }
    report.print(session.json)
}

/// The way of one record after another.
struct Trip {
    timeout: Duration,
    producer: Producer,
    consumer: Consumer,
    pool: Pool,
    partition: TopicPartition,
}

/// How long the way of a record took.
struct Took {
    ack: Duration,
    end_to_end: Duration,
    bytes: u64,
}

impl Trip {
    async fn run(&mut self) -> Result<Took, Failure> {
        let value = self.pool.next();
        let bytes = value.len() as u64;
        let record = ProducerRecord {
            partition: Some(self.partition.partition),
            ..ProducerRecord::new(self.partition.topic.clone(), value.clone())
        };
        let begin = Instant::now();
        let producer = &self.producer;
        let send = async {
            let (written, known) = producer.send(record).await?.wait_timed().await;
            written?;
            Ok::<_, Failure>(known)
        };
        let (consumer, timeout) = (&mut self.consumer, self.timeout);
        let receive = async {
            while begin.elapsed() < timeout {
                let records = consumer.poll(POLL).await?;
                // Others may write to the topic.
                let is_it =
                    |record: &skein_client::ConsumerRecord| record.value.as_ref() == Some(&value);
                if records.iter().any(is_it) {
                    return Ok(Instant::now());
                }
            }
            Err(Failure::failed(
                "a record that was written did not come back in time",
            ))
        };
        let (known, read) = tokio::try_join!(send, receive)?;
        Ok(Took {
            ack: known.saturating_duration_since(begin),
            end_to_end: read.saturating_duration_since(begin),
            bytes,
        })
    }
}
