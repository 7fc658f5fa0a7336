//! `skein bench produce`: writes records, and times their acknowledgements.
//!
//! Input: how many records, how large, how fast. Output: rates, the latency from `send` to the
//! acknowledgement, how the client batched.
//!
//! A task takes the acknowledgements, so that a slow one holds up no measurement of another: the
//! client tells when each was known.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use serde_json::json;
use skein_client::{
    ClientError, Delivery, Producer, ProducerOptions, ProducerRecord, ProducerStatistics,
};
use skein_env::Lane;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::bench::meter::{Meter, as_f64};
use crate::bench::payload::{PayloadArguments, Pool};
use crate::bench::report::{Report, rounded};
use crate::bench::{Place, TopicArguments};
use crate::failure::Failure;
use crate::produce::options::SendArguments;
use crate::session::Session;
use crate::stop::Stop;

pub(super) const EXAMPLES: &str = "\
Examples:
  skein bench produce                                a million records of 1 KiB, a scratch topic
  skein bench produce --records 5000000 --record-bytes 100 --partitions 6
  skein bench produce --throughput 10000             the latency at 10,000 records a second
  skein bench produce --compression zstd --batch-size 131072 --linger 10
  skein bench produce --topic orders --acks 1 --json

The latency is from handing a record to the client until its acknowledgement. Without --throughput
it is that of a full pipe: most of it is waiting behind other records.";

/// Records that wait for their acknowledgement, at most; beside the producer's limit of memory.
const ON_THEIR_WAY_MAX: usize = 100_000;
/// How far ahead of its time a record may be sent.
const TICK: Duration = Duration::from_millis(1);

/// Arguments of `skein bench produce`.
#[derive(Debug, Args)]
pub(super) struct ProduceBench {
    /// How many
    #[arg(
        long,
        short = 'n',
        visible_alias = "num-records",
        value_name = "N",
        default_value = "1000000",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    records: u64,
    /// Records before these, which are not measured; a tenth, and at most 100,000, if not given
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// Records in a second, at most; as many as it takes if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    throughput: Option<u64>,
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
    bench: &ProduceBench,
    place: Place,
    mut stop: Stop,
) -> Result<(), Failure> {
    let options = bench.send.options(session.timeout);
    let warmup = bench.warmup.unwrap_or((bench.records / 10).min(100_000));
    let producer = start(session, options).await?;
    let mut load = Load {
        pool: Pool::new(&bench.payload, &*session.env.rng),
        place: &place,
        throughput: bench.throughput,
    };
    let quiet = Arc::new(Mutex::new(Meter::begin(Some(warmup), true)?));
    load.run(session, &producer, warmup, &quiet, &mut stop)
        .await?;
    let before = producer.statistics();
    let meter = Arc::new(Mutex::new(Meter::begin(Some(bench.records), session.json)?));
    load.run(session, &producer, bench.records, &meter, &mut stop)
        .await?;
    let meter = meter.lock();
    let mut report = Report::new("produce", &place, &meter);
    report.latencies("latency_ms", "latency", &meter);
    batching(&mut report, before, producer.statistics());
    if stop.is_wanted() {
        report.interrupted();
    }
    report.print(session.json)
}

/// A producer, once the cluster answers.
pub(super) async fn start(
    session: &Session,
    options: ProducerOptions,
) -> Result<Producer, ClientError> {
    session.client.producer(options).await
}

/// Records to be sent.
pub(super) struct Load<'a> {
    pub(super) pool: Pool,
    pub(super) place: &'a Place,
    pub(super) throughput: Option<u64>,
}

impl Load<'_> {
    /// Sends so many records and waits for all acknowledgements. Fewer if it is to stop.
    pub(super) async fn run(
        &mut self,
        session: &Session,
        producer: &Producer,
        records: u64,
        meter: &Arc<Mutex<Meter>>,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let (sender, receiver) = mpsc::channel(ON_THEIR_WAY_MAX);
        let (done, finished) = oneshot::channel();
        let counted = Arc::clone(meter);
        let collect = async move {
            // Who asked may be gone.
            let _ = done.send(collect(receiver, &counted).await);
        };
        let spawn = &session.env.spawn;
        spawn.spawn(Lane::Data, "bench-acknowledgements", Box::pin(collect));
        let sent = self.send(producer, records, &sender, stop).await;
        drop(sender);
        producer.flush().await;
        let collected = finished
            .await
            .unwrap_or_else(|_| Err(Failure::failed("the acknowledgements were not counted")));
        // The first record that failed says more than that the next one was not taken.
        collected.and(sent)
    }

    async fn send(
        &mut self,
        producer: &Producer,
        records: u64,
        sent: &mpsc::Sender<Sent>,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        for number in 0..records {
            if stop.is_wanted() {
                break;
            }
            if let Some(throughput) = self.throughput {
                let due = begin + Duration::from_secs_f64(as_f64(number) / as_f64(throughput));
                if due > Instant::now() + TICK {
                    tokio::time::sleep_until(due).await;
                }
            }
            let value = self.pool.next();
            let bytes = value.len() as u64;
            let at = Instant::now();
            let record = ProducerRecord::new(self.place.topic.clone(), value);
            let delivery = tokio::select! {
                biased;
                delivery = producer.send(record) => delivery?,
                () = stop.wanted() => break,
            };
            let next = Sent {
                delivery,
                at,
                bytes,
            };
            if sent.send(next).await.is_err() {
                // It has failed, and says why.
                break;
            }
        }
        Ok(())
    }
}

/// A record on its way.
pub(super) struct Sent {
    delivery: Delivery,
    at: Instant,
    bytes: u64,
}

/// Takes acknowledgements until the last one, or the first failure.
async fn collect(mut sent: mpsc::Receiver<Sent>, meter: &Mutex<Meter>) -> Result<(), Failure> {
    while let Some(next) = sent.recv().await {
        let (written, known) = next.delivery.wait_timed().await;
        written?;
        let mut meter = meter.lock();
        meter.time(known.saturating_duration_since(next.at));
        meter.count(1, next.bytes);
    }
    Ok(())
}

/// How the client put records together.
fn batching(report: &mut Report, before: ProducerStatistics, after: ProducerStatistics) {
    let requests = after.requests - before.requests;
    let batches = after.batches - before.batches;
    let records = after.records - before.records;
    let bytes = after.bytes - before.bytes;
    let per = |count: u64, of: u64| as_f64(count) / as_f64(of.max(1));
    let (in_request, in_batch) = (per(records, requests), per(records, batches));
    let value = json!({
        "requests": requests,
        "batches": batches,
        "bytes": bytes,
        "records_per_request": rounded(in_request),
        "records_per_batch": rounded(in_batch),
    });
    let line = format!(
        "{:<12}{requests} requests, {batches} batches, {bytes} bytes: {in_request:.1} records a \
         request, {in_batch:.1} a batch",
        "client"
    );
    report.fact("client", value, line);
}
