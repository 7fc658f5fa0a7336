//! `skein bench consume`: reads records from the earliest on.
//!
//! Input: a topic with records, or a scratch topic that is filled first. Output: rates, and how
//! much a fetch brought.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use serde_json::json;
use skein_client::{ConsumerOptions, ConsumerStatistics, IsolationLevel, OffsetSpec, StartAt};
use skein_types::{Offset, TopicPartition};

use crate::bench::meter::{Meter, as_f64};
use crate::bench::payload::{PayloadArguments, Pool};
use crate::bench::produce::{Load, start};
use crate::bench::report::{Report, rounded};
use crate::bench::{Place, TopicArguments};
use crate::failure::Failure;
use crate::output::notice;
use crate::produce::options::SendArguments;
use crate::session::Session;
use crate::stop::Stop;

pub(super) const EXAMPLES: &str = "\
Examples:
  skein bench consume                                a million records of 1 KiB, written just before
  skein bench consume --topic orders                 all that is there
  skein bench consume --topic orders --records 100000 --json
  skein bench consume --partitions 6 --compression zstd --fetch-max-bytes 4194304

The records of a scratch topic come from memory (the page cache), as for a consumer that keeps
up.";

/// Records that are taken from the client at once.
const POLL_RECORDS: usize = 10_000;
/// How long a fetch waits for records.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `skein bench consume`.
#[derive(Debug, Args)]
pub(super) struct ConsumeBench {
    /// How many; all that is there if not given, and 1,000,000 on a scratch topic
    #[arg(
        long,
        short = 'n',
        visible_alias = "num-records",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    records: Option<u64>,
    /// Records before these, which are not measured
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Bytes of a fetch response, at most
    #[arg(long, value_name = "BYTES", default_value_t = 50 * 1024 * 1024)]
    fetch_max_bytes: u32,
    /// Bytes of a partition in it, at most
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    max_partition_fetch_bytes: u32,
    #[command(flatten)]
    payload: PayloadArguments,
    #[command(flatten)]
    pub(super) topic: TopicArguments,
    #[command(flatten)]
    send: SendArguments,
}

/// Records of a scratch topic if nobody says.
const RECORDS: u64 = 1_000_000;

/// Measures, and reports.
pub(super) async fn run(
    session: &Session,
    bench: &ConsumeBench,
    place: Place,
    mut stop: Stop,
) -> Result<(), Failure> {
    let mut wanted = bench.records;
    if place.is_scratch {
        let records = *wanted.get_or_insert(RECORDS);
        let records = records.saturating_add(bench.warmup);
        fill(session, bench, &place, records, &mut stop).await?;
    }
    let partitions = bounds(session, &place).await?;
    let there: i64 = partitions
        .values()
        .map(|(first, end)| end.0 - first.0)
        .sum();
    let there = u64::try_from(there).unwrap_or(0);
    if there <= bench.warmup {
        let topic = &place.topic;
        return Err(Failure::failed(format!(
            "topic {topic} has {there} records, no more to measure"
        ))
        .hint("'skein bench consume' without --topic writes its own."));
    }
    let wanted = wanted.unwrap_or(u64::MAX).min(there - bench.warmup);
    let (meter, statistics) = read(session, bench, partitions, wanted, &mut stop).await?;
    let mut report = Report::new("consume", &place, &meter);
    fetches(&mut report, statistics);
    if stop.is_wanted() {
        report.interrupted();
    }
    report.print(session.json)
}

/// Writes what is to be read.
async fn fill(
    session: &Session,
    bench: &ConsumeBench,
    place: &Place,
    records: u64,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let producer = start(session, bench.send.options(session.timeout)).await?;
    let mut load = Load {
        pool: Pool::new(&bench.payload, &*session.env.rng),
        place,
        throughput: None,
    };
    if !session.json {
        notice(&format!("writing {records} records to be read"));
    }
    let meter = Arc::new(Mutex::new(Meter::begin(Some(records), session.json)?));
    load.run(session, &producer, records, &meter, stop).await
}

/// First offset and end of each partition.
async fn bounds(
    session: &Session,
    place: &Place,
) -> Result<BTreeMap<TopicPartition, (Offset, Offset)>, Failure> {
    let admin = session.client.admin();
    let topic = admin.describe_topic(&place.topic).await?;
    let partitions = topic.partitions.keys().map(|index| TopicPartition {
        topic: place.topic.clone(),
        partition: *index,
    });
    let ask = |spec| partitions.clone().map(|one| (one, spec)).collect();
    let level = IsolationLevel::ReadUncommitted;
    let first = admin
        .list_offsets(&ask(OffsetSpec::Earliest), level)
        .await?;
    let end = admin.list_offsets(&ask(OffsetSpec::Latest), level).await?;
    let bounds = first.into_iter().filter_map(|(partition, first)| {
        let end = end.get(&partition)?.offset;
        Some((partition, (first.offset, end)))
    });
    Ok(bounds.collect())
}

async fn read(
    session: &Session,
    bench: &ConsumeBench,
    mut partitions: BTreeMap<TopicPartition, (Offset, Offset)>,
    wanted: u64,
    stop: &mut Stop,
) -> Result<(Meter, ConsumerStatistics), Failure> {
    let options = ConsumerOptions {
        max_poll_records: POLL_RECORDS,
        fetch_max_wait: POLL,
        fetch_max_bytes: bench.fetch_max_bytes,
        max_partition_fetch_bytes: bench.max_partition_fetch_bytes,
        auto_offset_reset: None,
        ..ConsumerOptions::default()
    };
    let mut consumer = session.client.consumer(options);
    partitions.retain(|_, (first, end)| first < end);
    let begin = partitions
        .iter()
        .map(|(partition, (first, _))| (partition.clone(), StartAt::Offset(*first)));
    consumer.assign(begin);
    let mut warmup = bench.warmup;
    let mut before = ConsumerStatistics::default();
    let mut meter = Meter::begin(Some(wanted), session.json)?;
    while meter.records < wanted && !partitions.is_empty() {
        let records = tokio::select! {
            biased;
            records = consumer.poll(POLL) => records?,
            () = stop.wanted() => break,
        };
        let bytes = |record: &skein_client::ConsumerRecord| {
            let length = |field: &Option<bytes::Bytes>| field.as_ref().map_or(0, bytes::Bytes::len);
            (length(&record.key) + length(&record.value)) as u64
        };
        if warmup > 0 {
            warmup = warmup.saturating_sub(records.len() as u64);
            before = consumer.statistics();
            meter = Meter::begin(Some(wanted), session.json)?;
            continue;
        }
        meter.count(records.len() as u64, records.iter().map(bytes).sum());
        partitions.retain(|partition, (first, end)| {
            // What has no records (control records, compacted ones) is passed too.
            *first = consumer.position(partition).unwrap_or(*first);
            first < end
        });
        if stop.is_wanted() {
            break;
        }
    }
    let after = consumer.statistics();
    let statistics = ConsumerStatistics {
        fetches: after.fetches - before.fetches,
        empty_fetches: after.empty_fetches - before.empty_fetches,
        bytes: after.bytes - before.bytes,
    };
    Ok((meter, statistics))
}

/// How much a fetch brought.
fn fetches(report: &mut Report, statistics: ConsumerStatistics) {
    let ConsumerStatistics {
        fetches,
        empty_fetches,
        bytes,
    } = statistics;
    let mean = as_f64(bytes) / as_f64(fetches.max(1));
    let value = json!({
        "fetches": fetches,
        "empty_fetches": empty_fetches,
        "bytes": bytes,
        "bytes_per_fetch": rounded(mean),
    });
    let line = format!(
        "{:<12}{fetches} fetches with records, {empty_fetches} without, {bytes} bytes: {mean:.0} a \
         fetch",
        "client"
    );
    report.fact("client", value, line);
}
