//! The client that makes the topics.
//!
//! Input: the plan's topics. Output: topics, with their ids, in spite of all faults.
//!
//! Invariant: a topic's id is noted only after the node has acknowledged it, or shown it.
//!
//! Source: KIP-4 (CreateTopics), KIP-516 (topic ids).

use skein_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use skein_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use skein_types::{ErrorCode, TopicId};

use crate::client::Client;
use crate::event::Event;

/// Version of CreateTopics.
const CREATE_VERSION: i16 = 7;

/// Version of Metadata.
const METADATA_VERSION: i16 = 12;

/// Makes every topic; ends when all are there.
pub(crate) async fn run(mut client: Client) {
    for topic in 0..client.plan.topics.len() {
        while client.witness.topic_id(topic).is_none() {
            create(&mut client, topic).await;
        }
    }
}

async fn create(client: &mut Client, number: usize) {
    let topic = client.plan.topics[number].clone();
    let configs = topic
        .configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some(value.as_str().into()),
        });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.name.as_str().into(),
            num_partitions: i32::try_from(topic.partitions).unwrap_or(1),
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: 3_000,
        ..Default::default()
    };
    let Some((response, _)) = client.call(&request, CREATE_VERSION).await else {
        return;
    };
    let Some(created) = response.topics.first() else {
        return;
    };
    match ErrorCode::from_code(created.error_code) {
        ErrorCode::None => note(client, number, created.topic_id),
        // An earlier attempt whose answer was lost.
        ErrorCode::TopicAlreadyExists => look_up(client, number).await,
        code if code.is_retriable() => client.back_off().await,
        code => {
            let message = created
                .error_message
                .as_ref()
                .map_or("", |message| message.as_str());
            let text = format!("{} cannot be created: {code} {message}", topic.name);
            client
                .witness
                .accuse(client.actor, "topics_stay", None, text);
            client.back_off().await;
        }
    }
}

async fn look_up(client: &mut Client, number: usize) {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(client.plan.topics[number].name.as_str().into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let Some((response, _)) = client.call(&request, METADATA_VERSION).await else {
        return;
    };
    let found = response.topics.first();
    match found {
        Some(topic) if topic.error_code == 0 => note(client, number, topic.topic_id),
        _ => client.back_off().await,
    }
}

fn note(client: &Client, number: usize, id: TopicId) {
    let name = &client.plan.topics[number].name;
    client
        .witness
        .tell(client.actor, Event::Note(format!("{name} has the id {id}")));
    client.witness.note_topic(number, id);
}
