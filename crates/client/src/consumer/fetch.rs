//! One fetch from one broker, as a task.
//!
//! Input: what is wanted of which partition. Output: an event for the consumer with the response,
//! and from that the chunks and failures of its partitions.
//!
//! Invariant: every spawned fetch ends in exactly one event, so that its broker is asked again.
//!
//! Source: the Kafka protocol guide, Fetch; KIP-516 (topic ids from version 13).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use skein_env::Lane;
use skein_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use skein_protocol::{Records, Str};
use skein_types::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, ProducerId, TopicName, TopicPartition,
};
use tokio::sync::mpsc;

use crate::consumer::View;
use crate::consumer::chunk::{AbortedTransaction, Chunk};
use crate::consumer::options::ConsumerOptions;
use crate::error::ClientError;
use crate::pool::Pool;

/// The last version that names topics.
const VERSION_WITH_NAMES: i16 = 12;
/// Session id and epoch of a fetch outside of any session (KIP-227).
const NO_SESSION: (i32, i32) = (0, -1);

/// What is wanted of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) generation: u64,
}

/// Something that a task of the consumer has done.
pub(crate) enum Event {
    Fetched(Box<Fetched>),
    Refreshed(Result<(), ClientError>),
}

/// A fetch that has ended.
pub(crate) struct Fetched {
    pub(crate) broker: BrokerId,
    pub(crate) view: View,
    pub(crate) asks: Vec<Ask>,
    pub(crate) result: Result<Box<FetchResponse>, ClientError>,
}

/// A partition that a broker refuses.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) partition: TopicPartition,
    pub(crate) code: ErrorCode,
    pub(crate) log_start_offset: Offset,
}

/// Fetches from a broker.
pub(crate) fn spawn(
    pool: &Arc<Pool>,
    options: &ConsumerOptions,
    events: &mpsc::Sender<Event>,
    broker: BrokerId,
    view: &View,
    asks: Vec<Ask>,
) {
    let (request, version_max) = request(view, options, &asks);
    let (task, view, events) = (Arc::clone(pool), Arc::clone(view), events.clone());
    let timeout = pool.metadata.options.request_timeout + options.fetch_max_wait;
    let fetch = async move {
        let result = async {
            let connection = task.connection(broker).await?;
            let version = connection.version::<FetchRequest>(version_max)?;
            let pending = connection.start(&request, version, timeout).await?;
            let response = pending.response().await;
            let response = response.map_err(|source| connection.failed(source))?;
            match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => Ok(Box::new(response)),
                code => Err(ClientError::refused(
                    format!("Fetch from {broker}"),
                    code,
                    None,
                )),
            }
        };
        let fetched = Fetched {
            broker,
            result: result.await,
            view,
            asks,
        };
        // The consumer may be gone.
        let _ = events.send(Event::Fetched(Box::new(fetched))).await;
    };
    let spawn = &pool.metadata.env.spawn;
    spawn.spawn(Lane::Data, "consumer-fetch", Box::pin(fetch));
}

/// Asks for the leaders.
pub(crate) fn spawn_refresh(pool: &Arc<Pool>, events: &mpsc::Sender<Event>, seen: u64) {
    let (task, events) = (Arc::clone(pool), events.clone());
    let refresh = async move {
        let refreshed = task.metadata.newer_than(seen, false).await;
        let _ = events.send(Event::Refreshed(refreshed.map(|_| ()))).await;
    };
    let spawn = &pool.metadata.env.spawn;
    spawn.spawn(Lane::Data, "consumer-metadata", Box::pin(refresh));
}

fn request(view: &View, options: &ConsumerOptions, asks: &[Ask]) -> (FetchRequest, i16) {
    let limit = |bytes: u32| i32::try_from(bytes).unwrap_or(i32::MAX);
    // In the order of `asks`: it is the order in which the broker fills the response.
    let mut order: Vec<&TopicName> = Vec::new();
    let mut topics: BTreeMap<&TopicName, Vec<FetchPartition>> = BTreeMap::new();
    for ask in asks {
        let partition = FetchPartition {
            partition: ask.partition.partition.0,
            current_leader_epoch: ask.leader_epoch.0,
            fetch_offset: ask.offset.0,
            partition_max_bytes: limit(options.max_partition_fetch_bytes),
            ..Default::default()
        };
        let topic = &ask.partition.topic;
        let partitions = topics.entry(topic).or_insert_with(|| {
            order.push(topic);
            Vec::new()
        });
        partitions.push(partition);
    }
    let topics = order.into_iter().map(|name| FetchTopic {
        topic: Str::from(name.as_str()),
        topic_id: view.topic_id(name),
        partitions: topics.remove(name).unwrap_or_default(),
    });
    let (session_id, session_epoch) = NO_SESSION;
    let request = FetchRequest {
        max_wait_ms: i32::try_from(options.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: limit(options.fetch_min_bytes),
        max_bytes: limit(options.fetch_max_bytes),
        isolation_level: options.isolation_level.wire(),
        session_id,
        session_epoch,
        topics: topics.collect(),
        ..Default::default()
    };
    let has_ids = request.topics.iter().all(|topic| !topic.topic_id.is_zero());
    (
        request,
        if has_ids {
            i16::MAX
        } else {
            VERSION_WITH_NAMES
        },
    )
}

/// The data of a response, and what was refused.
pub(crate) fn split(
    view: &View,
    asks: &[Ask],
    response: FetchResponse,
) -> (Vec<Chunk>, Vec<Failure>) {
    let (mut chunks, mut failures) = (Vec::new(), Vec::new());
    for topic in response.responses {
        for data in topic.partitions {
            let ask = asks.iter().find(|ask| {
                let name = &ask.partition.topic;
                let id = view.topic_id(name);
                let is_topic = topic.topic.as_str() == name.as_str()
                    || (!id.is_zero() && topic.topic_id == id);
                is_topic && ask.partition.partition.0 == data.partition_index
            });
            let Some(ask) = ask else { continue };
            let code = ErrorCode::from_code(data.error_code);
            if code.is_none() {
                chunks.push(chunk(ask, data));
            } else {
                failures.push(Failure {
                    partition: ask.partition.clone(),
                    code,
                    log_start_offset: Offset(data.log_start_offset),
                });
            }
        }
    }
    (chunks, failures)
}

fn chunk(ask: &Ask, data: PartitionData) -> Chunk {
    let aborted = data.aborted_transactions.unwrap_or_default();
    let aborted = aborted.iter().map(|one| AbortedTransaction {
        producer_id: ProducerId(one.producer_id),
        first_offset: Offset(one.first_offset),
    });
    let bytes = data.records.as_ref().and_then(Records::as_bytes).cloned();
    Chunk::new(
        ask.partition.clone(),
        ask.offset,
        Offset(data.high_watermark),
        bytes.unwrap_or_else(Bytes::new),
        aborted.collect(),
    )
}
