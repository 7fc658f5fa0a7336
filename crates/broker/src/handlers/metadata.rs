//! Metadata (3): brokers, topics and who leads what, from this node's image.
//!
//! Input: topics by name or id, or all. Output: what the image says of them.
//!
//! Invariants:
//! - the image is all that is read: a cluster without a quorum still answers;
//! - brokers are told by the endpoint of the listener through which the client came, and one
//!   that died is left out from the second answer on (`told_brokers.rs`);
//! - a topic is made only if the client and `auto.create.topics.enable` both allow it.
//!
//! Source: KIP-4, KIP-516 (topic ids), KIP-430 (authorized operations).

use std::collections::BTreeSet;
use std::sync::Arc;

use skein_metadata::{Image, Partition, Topic};
use skein_protocol::Str;
use skein_protocol::messages::create_topics::CreatableTopic;
use skein_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use skein_types::{BrokerId, ErrorCode, PartitionIndex, TopicName};
use tokio::time::Instant;

use super::create_topics::{self, CLUSTER_METADATA_TOPIC};
use crate::groups::TOPIC as OFFSETS_TOPIC;
use crate::node::Shared;
use crate::router::Context;

/// How long a client that asks for a topic which is not there waits for its creation; without a
/// quorum it hears then that the topic is unknown.
const CREATE_MAX_MS: i32 = 5_000;

/// First version in which a topic may be named by its id.
const TOPIC_ID_VERSION: i16 = 12;

/// Everything that may be done to a topic, as a bit field of KIP-430; there is no authorizer.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// Everything that may be done to a cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Answers from the image.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: MetadataRequest,
) -> MetadataResponse {
    if names_by_id_too_early(&request, context.head.api_version) {
        return refuse_all(&request, ErrorCode::InvalidRequest);
    }
    // Before version 4 a client could not say; the default of the field is what it always got.
    if request.allow_auto_topic_creation {
        create_missing(shared, &request).await;
    }
    let image = shared.image();
    let mut asked = BTreeSet::new();
    let topics = match &request.topics {
        // Once each: a topic takes more bytes in the answer than its name in the request.
        Some(topics) if !(topics.is_empty() && context.head.api_version == 0) => topics
            .iter()
            .filter(|topic| asked.insert((&topic.name, topic.topic_id)))
            .map(|topic| asked_topic(&image, &request, topic))
            .collect(),
        _ => image
            .topics_by_name()
            .map(|topic| known_topic(&image, &request, topic))
            .collect(),
    };
    MetadataResponse {
        brokers: brokers(shared, context, &image),
        cluster_id: image.cluster_id().map(|id| Str::from(id.to_string())),
        controller_id: controller_id(&image).get(),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }
}

/// Versions 10 and 11 have a field for the topic's id, and Kafka's brokers refuse it there: they
/// can't leave out the name of a topic that is not known (KAFKA-12764).
fn names_by_id_too_early(request: &MetadataRequest, version: i16) -> bool {
    let by_id = |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_zero();
    version < TOPIC_ID_VERSION && request.topics.iter().flatten().any(by_id)
}

fn refuse_all(request: &MetadataRequest, code: ErrorCode) -> MetadataResponse {
    let refuse = |asked: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: code.code(),
        name: Some(asked.name.clone().unwrap_or_default()),
        topic_id: asked.topic_id,
        topic_authorized_operations: i32::MIN,
        ..Default::default()
    };
    MetadataResponse {
        controller_id: BrokerId::NONE.get(),
        topics: request.topics.iter().flatten().map(refuse).collect(),
        cluster_authorized_operations: i32::MIN,
        ..Default::default()
    }
}

/// The broker that admin clients talk to: any one can do it; the lowest active id keeps it stable.
pub(super) fn controller_id(image: &Image) -> BrokerId {
    image
        .brokers()
        .find(|broker| image.is_active(broker.id))
        .map_or(BrokerId::NONE, |b| b.id)
}

fn brokers(shared: &Shared, context: &Context, image: &Image) -> Vec<MetadataResponseBroker> {
    let connection = &context.connection;
    let told_brokers = &shared.told_brokers;
    let dead = told_brokers.last_words(&connection.told, image, Instant::now());
    image
        .brokers()
        .filter(|broker| !broker.fenced || dead.contains(&broker.id))
        .filter_map(|broker| {
            let mut endpoints = broker.endpoints.iter();
            let endpoint = endpoints.find(|e| *e.listener == *connection.listener)?;
            Some(MetadataResponseBroker {
                node_id: broker.id.get(),
                host: Str::from(endpoint.host.clone()),
                port: i32::from(endpoint.port),
                rack: broker.rack.clone().map(Str::from),
            })
        })
        .collect()
}

fn asked_topic(
    image: &Image,
    request: &MetadataRequest,
    asked: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let unknown = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        topic_authorized_operations: topic_operations(request),
        ..Default::default()
    };
    // An id says more than a name; who sends both means the id, as in Kafka.
    let name = asked.name.as_deref().filter(|_| asked.topic_id.is_zero());
    match name {
        Some(name) => match (TopicName::new(name), image.topic_by_name(name)) {
            (Err(_), _) => unknown(ErrorCode::InvalidTopicException),
            (Ok(_), None) => unknown(ErrorCode::UnknownTopicOrPartition),
            (Ok(_), Some(topic)) => known_topic(image, request, topic),
        },
        None => match image.topic(asked.topic_id) {
            None => unknown(ErrorCode::UnknownTopicId),
            Some(topic) => known_topic(image, request, topic),
        },
    }
}

fn known_topic(image: &Image, request: &MetadataRequest, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic
        .partitions()
        .map(|(index, partition)| known_partition(image, index, partition));
    MetadataResponseTopic {
        name: Some(Str::from(topic.name.as_str().to_owned())),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: topic_operations(request),
        ..Default::default()
    }
}

/// Also of a topic that is not there: what may be done is asked of the authorizer, not of it.
const fn topic_operations(request: &MetadataRequest) -> i32 {
    if request.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        i32::MIN
    }
}

fn known_partition(
    image: &Image,
    index: PartitionIndex,
    partition: &Partition,
) -> MetadataResponsePartition {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.get()).collect::<Vec<_>>();
    let is_offline = |id: &&BrokerId| !image.is_active(**id) || partition.is_offline(**id);
    let has_leader = partition.leader != BrokerId::NONE && image.is_active(partition.leader);
    MetadataResponsePartition {
        error_code: if has_leader {
            0
        } else {
            ErrorCode::LeaderNotAvailable.code()
        },
        partition_index: index.get(),
        leader_id: if has_leader {
            partition.leader.get()
        } else {
            BrokerId::NONE.get()
        },
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        offline_replicas: partition
            .replicas
            .iter()
            .filter(is_offline)
            .map(|id| id.get())
            .collect(),
    }
}

/// Whether clients must leave the topic to the broker.
pub(crate) fn is_internal(name: &TopicName) -> bool {
    matches!(name.as_str(), OFFSETS_TOPIC | "__transaction_state")
}

/// Makes the topics that were asked by name and are not there.
async fn create_missing(shared: &Arc<Shared>, request: &MetadataRequest) {
    if !shared.config.topics.auto_create_topics_enable {
        return;
    }
    let image = shared.image();
    let asked = request
        .topics
        .iter()
        .flatten()
        .filter_map(|topic| topic.name.as_deref());
    let topics: Vec<_> = asked
        .filter(|name| *name != CLUSTER_METADATA_TOPIC && TopicName::new(name).is_ok())
        .filter(|name| image.topic_by_name(name).is_none())
        .map(|name| CreatableTopic {
            name: Str::from(name.to_owned()),
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        })
        .collect();
    if topics.is_empty() {
        return;
    }
    // Whatever stands in the way, the client asks again: the topic is unknown until then.
    if let Err(refusal) = create_topics::make(shared, topics, CREATE_MAX_MS).await {
        tracing::info!(%refusal, "could not create a topic that a client asked for");
    }
}
