//! Makes topics, deletes them, and gives them partitions.
//!
//! Input: a topic of the plan. Output: it is so, and the witness knows.
//!
//! Invariant: a request is sent until it has succeeded, or until an earlier one turns out to have.
//!
//! Source: KIP-4, KIP-195, KIP-516.

use skein_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use skein_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use skein_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use skein_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use skein_types::{ErrorCode, TopicId};

use crate::client::Client;
use crate::event::Event;
use crate::topics::Phase;

/// Version of CreateTopics.
const CREATE_VERSION: i16 = 7;

/// Version of Metadata.
const METADATA_VERSION: i16 = 12;

/// Version of CreatePartitions.
const CREATE_PARTITIONS_VERSION: i16 = 3;

/// First version of DeleteTopics that takes ids.
const DELETE_BY_ID_VERSION: i16 = 6;

/// How long the node may take for a change, in milliseconds.
const TIMEOUT_MS: i32 = 3_000;

/// What an attempt has come to.
enum Attempt {
    Done,
    Again,
}

/// Makes a topic.
pub(super) async fn create(client: &mut Client, topic: usize) {
    let mut attempt = 0;
    while client.witness.topic_phase(topic) == Phase::Planned {
        if client.plan.topics[topic].is_auto_created {
            look_up(client, topic, true).await;
        } else {
            request_topic(client, topic, attempt > 0).await;
        }
        attempt += 1;
    }
}

async fn request_topic(client: &mut Client, number: usize, is_again: bool) {
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
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let Some((response, _)) = client.call(&request, CREATE_VERSION).await else {
        return;
    };
    let Some(created) = response.topics.first() else {
        return;
    };
    match ErrorCode::from_code(created.error_code) {
        ErrorCode::None => note(client, number, created.topic_id, topic.partitions),
        // An earlier attempt whose answer was lost.
        ErrorCode::TopicAlreadyExists if is_again => look_up(client, number, false).await,
        code => judge(client, code, &format!("{} cannot be created", topic.name)).await,
    }
}

/// Asks what is known of a topic; `creates`: and has it made if there is none.
async fn look_up(client: &mut Client, number: usize, creates: bool) {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(client.plan.topics[number].name.as_str().into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: creates,
        ..Default::default()
    };
    let Some((response, _)) = client.call(&request, METADATA_VERSION).await else {
        return;
    };
    match response.topics.first() {
        Some(topic) if topic.error_code == 0 => {
            note(client, number, topic.topic_id, topic.partitions.len());
        }
        _ => client.back_off().await,
    }
}

fn note(client: &Client, number: usize, id: TopicId, partitions: usize) {
    let plan = &client.plan.topics[number];
    let is_known = |topic| client.witness.topic_id(topic) == Some(id);
    if (0..client.plan.topics.len()).any(is_known) {
        let text = format!("{} was made anew, and has the old id {id}", plan.name);
        return accuse(client, text);
    }
    if partitions != plan.partitions {
        let planned = plan.partitions;
        let text = format!("{} has {partitions} partitions, not {planned}", plan.name);
        return accuse(client, text);
    }
    let text = format!("{} has the id {id}", plan.name);
    client.witness.tell(client.actor, Event::Note(text));
    client.witness.note_topic(number, id, partitions);
    let event = Event::TopicCreated { topic: number };
    client.witness.tell(client.actor, event);
}

/// Deletes a topic, by name or by id.
pub(super) async fn delete(client: &mut Client, topic: usize) {
    let version = i16::try_from(client.rng.between(1, 6)).unwrap_or(6);
    client.witness.enter_phase(topic, Phase::Doomed);
    let event = Event::DeletingTopic { topic };
    client.witness.tell(client.actor, event);
    let mut is_again = false;
    while let Attempt::Again = request_deletion(client, topic, version, is_again).await {
        is_again = true;
    }
    client.witness.enter_phase(topic, Phase::Deleted);
    let event = Event::TopicDeleted { topic };
    client.witness.tell(client.actor, event);
}

async fn request_deletion(
    client: &mut Client,
    topic: usize,
    version: i16,
    is_again: bool,
) -> Attempt {
    let name = client.plan.topics[topic].name.clone();
    let mut request = DeleteTopicsRequest {
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    if version >= DELETE_BY_ID_VERSION {
        request.topics.push(DeleteTopicState {
            name: None,
            topic_id: client.witness.topic_id(topic).unwrap_or_default(),
        });
    } else {
        request.topic_names.push(name.as_str().into());
    }
    let Some((response, _)) = client.call(&request, version).await else {
        return Attempt::Again;
    };
    let Some(answer) = response.responses.first() else {
        return Attempt::Again;
    };
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => Attempt::Done,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId if is_again => Attempt::Done,
        code => {
            judge(client, code, &format!("{name} cannot be deleted")).await;
            Attempt::Again
        }
    }
}

/// Gives a topic partitions, up to the planned number.
pub(super) async fn create_partitions(client: &mut Client, topic: usize) {
    let now = client.witness.partitions_of(topic) as u64;
    let most = client.plan.topics[topic].partitions_max as u64;
    let count = usize::try_from(client.rng.between(now + 1, most)).unwrap_or(1);
    let mut is_again = false;
    while let Attempt::Again = request_partitions(client, topic, count, is_again).await {
        is_again = true;
    }
    client.witness.note_partitions(topic, count);
    let event = Event::PartitionsCreated { topic, count };
    client.witness.tell(client.actor, event);
}

async fn request_partitions(
    client: &mut Client,
    topic: usize,
    count: usize,
    is_again: bool,
) -> Attempt {
    let name = client.plan.topics[topic].name.clone();
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: name.as_str().into(),
            count: i32::try_from(count).unwrap_or(i32::MAX),
            assignments: None,
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: false,
    };
    let Some((response, _)) = client.call(&request, CREATE_PARTITIONS_VERSION).await else {
        return Attempt::Again;
    };
    let Some(answer) = response.results.first() else {
        return Attempt::Again;
    };
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => Attempt::Done,
        // It has that many: an earlier attempt whose answer was lost.
        ErrorCode::InvalidPartitions if is_again => Attempt::Done,
        code => {
            judge(client, code, &format!("{name} gets no partitions")).await;
            Attempt::Again
        }
    }
}

/// A refusal must be one that passes.
async fn judge(client: &mut Client, code: ErrorCode, what: &str) {
    if !code.is_retriable() || is_denial(code) {
        accuse(client, format!("{what}: {code}"));
    }
    client.back_off().await;
}

/// Whether the node says that there is no such topic.
fn is_denial(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
    )
}

fn accuse(client: &Client, text: String) {
    client
        .witness
        .accuse(client.actor, "topics_stay", None, text);
}
