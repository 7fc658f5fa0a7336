//! The admin of a cluster: makes the topics, and goes on changing things if the plan says so.
//!
//! Input: the plan. Output: requests to any node, which sends them on to the controller.
//!
//! Invariant: what it changes never concerns what other clients rely on: topics of its own, and how
//! many replicas must be in sync.
//!
//! Source: KIP-4, KIP-339 (incremental changes), KIP-460 (elections).

use std::time::Duration;

use skein_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use skein_protocol::messages::delete_topics::DeleteTopicsRequest;
use skein_protocol::messages::elect_leaders::ElectLeadersRequest;
use skein_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use skein_types::ErrorCode;

use super::client::ClusterClient;
use super::plan::ClusterTopic;
use crate::plan::pick;

/// Version of CreateTopics.
const CREATE_VERSION: i16 = 7;

/// The last version of DeleteTopics that takes names alone.
const DELETE_VERSION: i16 = 5;

/// Version of IncrementalAlterConfigs.
const ALTER_VERSION: i16 = 1;

/// Version of ElectLeaders.
const ELECT_VERSION: i16 = 2;

/// The type of a topic among resources.
const TOPIC_RESOURCE: i8 = 2;

/// How long a node may take for a change, in milliseconds.
const TIMEOUT_MS: i32 = 3_000;

/// The longest pause between two changes.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Makes every topic of the plan.
pub(crate) async fn create_topics(client: &mut ClusterClient) {
    for topic in client.plan.topics.clone() {
        create(client, &topic).await;
    }
}

/// Changes things until it is told to settle.
pub(crate) async fn run(mut client: ClusterClient) {
    let mut passing = 0;
    while !client.is_settling() {
        client.pause(PAUSE_MAX).await;
        match client.rng.below(6) {
            0 => {
                passing += 1;
                let topic = ClusterTopic {
                    name: format!("passing-{passing}"),
                    first_partition: 0,
                    partitions: 2,
                    replication_factor: 3,
                    min_insync_replicas: 2,
                    sets_min_isr: true,
                    is_flushed: false,
                };
                if request_topic(&mut client, &topic).await == Some(ErrorCode::None) {
                    client.pause(PAUSE_MAX).await;
                    delete(&mut client, topic.name).await;
                }
            }
            1..=4 => change_min_isr(&mut client).await,
            _ => elect(&mut client, 0).await,
        }
    }
}

/// Has leaders elected from whoever there is, where there is none.
pub(crate) async fn elect_unclean(client: &mut ClusterClient) {
    elect(client, 1).await;
}

async fn create(client: &mut ClusterClient, topic: &ClusterTopic) {
    loop {
        match request_topic(client, topic).await {
            // An earlier attempt whose answer was lost.
            Some(ErrorCode::None | ErrorCode::TopicAlreadyExists) => return,
            _ => client.back_off().await,
        }
    }
}

async fn request_topic(client: &mut ClusterClient, topic: &ClusterTopic) -> Option<ErrorCode> {
    let mut configs = Vec::new();
    if topic.sets_min_isr {
        configs.push(("min.insync.replicas", topic.min_insync_replicas.to_string()));
    }
    if topic.is_flushed {
        configs.push(("durability", "flushed".to_owned()));
    }
    let configs = configs
        .into_iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.as_str().into()),
        });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.name.as_str().into(),
            num_partitions: i32::try_from(topic.partitions).unwrap_or(1),
            replication_factor: i16::try_from(topic.replication_factor).unwrap_or(1),
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let node = client.any_node();
    let (response, _) = client.call(node, &request, CREATE_VERSION).await?;
    let created = response.topics.first()?;
    Some(ErrorCode::from_code(created.error_code))
}

async fn delete(client: &mut ClusterClient, name: String) {
    let request = DeleteTopicsRequest {
        topic_names: vec![name.as_str().into()],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let node = client.any_node();
    // Whether it came to anything does not matter.
    drop(client.call(node, &request, DELETE_VERSION).await);
}

/// Lets a topic of three replicas go on with one, for a while, or with two.
async fn change_min_isr(client: &mut ClusterClient) {
    let topic = client.plan.topics[0].name.clone();
    let value = pick(&mut client.rng, &["1", "2"]);
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.as_str().into(),
            configs: vec![AlterableConfig {
                name: "min.insync.replicas".into(),
                config_operation: 0,
                value: Some(value.into()),
            }],
        }],
        validate_only: false,
    };
    let node = client.any_node();
    client
        .witness
        .note(client.actor, format!("sets min ISR of {topic} to {value}"));
    drop(client.call(node, &request, ALTER_VERSION).await);
}

async fn elect(client: &mut ClusterClient, election_type: i8) {
    let request = ElectLeadersRequest {
        election_type,
        topic_partitions: None,
        timeout_ms: TIMEOUT_MS,
    };
    let node = client.any_node();
    if let Some((response, _)) = client.call(node, &request, ELECT_VERSION).await {
        let results = response.replica_election_results;
        let text = format!("elects: {}, {results:?}", response.error_code);
        client.witness.note(client.actor, text);
    }
}
