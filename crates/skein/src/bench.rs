//! `skein bench`: how fast a cluster writes, reads and answers.
//!
//! Input: options; a topic, or none. Output: rates, latencies, what the client's requests looked
//! like, for people or as JSON.
//!
//! Invariants:
//! - memory is bounded: payloads are made once (`payload.rs`), latencies go into a histogram, what
//!   is on its way is limited by the producer;
//! - a scratch topic is deleted in the end, also after a failure and after Ctrl-C, which ends the
//!   measurement early and still reports it;
//! - what is sent or read before the measurement (`--warmup`) is not in any number.

use std::future::Future;

use clap::{Args, Subcommand};
use skein_client::NewTopic;
use skein_types::TopicName;

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::output::warning;
use crate::session::{Session, with_client};
use crate::stop::Stop;
use crate::topic::topic_name;

mod consume;
mod latency;
mod meter;
mod payload;
mod produce;
mod report;

const EXAMPLES: &str = "\
Examples:
  skein bench produce                                records a second, and their latency
  skein bench consume                                how fast they are read
  skein bench latency                                one record at a time, end to end
  skein bench produce --topic orders --throughput 1000 --json

Without --topic they work on a scratch topic, which they delete in the end, also after Ctrl-C.
'skein bench COMMAND --help' has more examples.";

/// `skein bench` and what it is to measure.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Write records as fast as it goes, or at a given rate.
    #[command(after_help = produce::EXAMPLES)]
    Produce(produce::ProduceBench),
    /// Read records from the earliest on, as fast as it goes.
    #[command(after_help = consume::EXAMPLES)]
    Consume(consume::ConsumeBench),
    /// Write and read one record at a time: from the producer to the consumer.
    #[command(after_help = latency::EXAMPLES)]
    Latency(latency::LatencyBench),
}

/// Which topic is written or read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Topic")]
struct TopicArguments {
    /// An existing topic; a scratch topic, deleted in the end, if not given
    #[arg(long, short, value_name = "TOPIC", value_parser = topic_name)]
    topic: Option<TopicName>,
    /// Partitions of the scratch topic
    #[arg(
        long,
        short,
        value_name = "N",
        default_value = "1",
        conflicts_with = "topic",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    partitions: u32,
    /// Replicas of the scratch topic; the cluster's default.replication.factor if not given
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "topic",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    replication_factor: Option<u16>,
}

/// Runs `skein bench`.
pub(crate) fn run(arguments: BenchArguments) -> Result<(), Failure> {
    let BenchArguments { command, cluster } = arguments;
    with_client(&cluster, |session| async move {
        let stop = Stop::listen(&session.env);
        let session = &session;
        match &command {
            BenchCommand::Produce(bench) => {
                let measure = |topic| produce::run(session, bench, topic, stop);
                with_topic(session, &bench.topic, measure).await
            }
            BenchCommand::Consume(bench) => {
                let measure = |topic| consume::run(session, bench, topic, stop);
                with_topic(session, &bench.topic, measure).await
            }
            BenchCommand::Latency(bench) => {
                let measure = |topic| latency::run(session, bench, topic, stop);
                with_topic(session, &bench.topic, measure).await
            }
        }
    })
}

/// Where it is measured.
#[derive(Clone, Debug)]
struct Place {
    topic: TopicName,
    is_scratch: bool,
}

/// Measures on the topic that was named, or on one that is there only for this.
async fn with_topic<F>(
    session: &Session,
    arguments: &TopicArguments,
    measure: impl FnOnce(Place) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    if let Some(topic) = arguments.topic.clone() {
        // A name that is misspelt makes no topic.
        session.client.admin().describe_topic(&topic).await?;
        let place = Place {
            topic,
            is_scratch: false,
        };
        return measure(place).await;
    }
    let name = format!("skein-bench-{:08x}", session.env.rng.next_u64() >> 32);
    let topic = topic_name(&name).map_err(Failure::failed)?;
    let new = NewTopic {
        name: topic.clone(),
        partitions: Some(arguments.partitions),
        replication_factor: arguments.replication_factor,
        configs: Vec::new(),
    };
    let admin = session.client.admin();
    admin.create_topic(&new, false).await?;
    let place = Place {
        topic: topic.clone(),
        is_scratch: true,
    };
    let measured = measure(place).await;
    if let Err(error) = admin.delete_topic(&topic).await {
        warning(&format!(
            "the scratch topic {topic} is still there: {error}"
        ));
    }
    measured
}
