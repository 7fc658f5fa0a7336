//! The way to the cluster for who has time: a collector of logs may start before the broker.
//!
//! Input: options. Output: a producer that never gives a record up; what the cluster says of its
//! limits.

use std::time::Duration;

use skein_client::{Client, ClientError, ClientOptions, ConfigResource, Producer, ProducerOptions};
use skein_env::Env;
use skein_record::HEADER_BYTES;
use skein_types::ErrorCode;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::{notice, warning};
use crate::produce::ProduceArguments;
use crate::reminder::Reminder;
use crate::session::client_options;

/// How long a record may take: as long as any outage.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Between two attempts, beside what the client waits by itself.
const PAUSE: Duration = Duration::from_secs(1);
/// The key of a topic's limit.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Where lines go.
pub(super) struct Target {
    pub(super) producer: Producer,
    pub(super) cluster_id: String,
    /// Bytes of a line, at most.
    pub(super) line_max: usize,
}

/// Whether to go on trying.
pub(super) fn may_pass(error: &ClientError) -> bool {
    matches!(error, ClientError::TimedOut { .. }) || error.is_retriable()
}

/// Tries until it works, or never can.
pub(super) async fn connect(env: &Env, arguments: &ProduceArguments) -> Result<Target, Failure> {
    let begin = Instant::now();
    let mut reminder = Reminder::new(PAUSE);
    loop {
        let error = match attempt(env, arguments).await {
            Ok(target) => {
                if reminder.calm().is_some() {
                    notice("the cluster answers");
                }
                return Ok(target);
            }
            Err(error) => error,
        };
        let is_unknown = error.code() == Some(ErrorCode::UnknownTopicOrPartition);
        if is_unknown || !may_pass(&error) {
            return Err(error.into());
        }
        if reminder.is_due(begin.elapsed()) {
            warning(&format!("{}; trying on", Failure::from(error).message()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(env: &Env, arguments: &ProduceArguments) -> Result<Target, ClientError> {
    let cluster = &arguments.cluster;
    let options = ClientOptions {
        // It waits for as long as it takes, and tells so.
        absence_max: None,
        ..client_options(cluster)
    };
    let client = Client::connect(env.clone(), &cluster.bootstrap, options).await?;
    let admin = client.admin();
    // A topic that a misspelt name would make is not what anybody wants to collect into.
    admin.describe_topic(&arguments.topic).await?;
    let topic = ConfigResource::Topic(arguments.topic.clone());
    // Who may write need not be allowed to read this.
    let configs = admin.describe_configs(&topic).await.unwrap_or_default();
    let limit = configs.iter().find(|key| key.name == MAX_MESSAGE_BYTES);
    let limit = limit.and_then(|key| key.value.as_ref()?.parse().ok());
    let options = ProducerOptions {
        delivery_timeout: FOREVER,
        ..arguments.send.options(cluster.timeout)
    };
    let batch_max = options.max_request_size.min(limit.unwrap_or(usize::MAX));
    Ok(Target {
        line_max: line_max(arguments, batch_max),
        cluster_id: client.cluster().cluster_id.clone().unwrap_or_default(),
        producer: client.producer(options).await?,
    })
}

/// Bytes of a line that fit a batch of their own, at most; fewer if that is asked for.
fn line_max(arguments: &ProduceArguments, batch_max: usize) -> usize {
    let beside = arguments.record(bytes::Bytes::new(), None).size_max() + HEADER_BYTES;
    let fits = batch_max.saturating_sub(beside);
    let asked = arguments.following.max_line_bytes;
    fits.min(asked.unwrap_or(usize::MAX))
}
