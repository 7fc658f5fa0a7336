//! Changes configurations of a topic.
//!
//! Input: a topic's name, and keys. Output: IncrementalAlterConfigs, until it is answered.
//!
//! Invariant: only the last topic of its name is changed ([`may_change`]): a request whose answer
//! is lost may be carried out late, and would change the next one.
//!
//! Source: KIP-339.

use skein_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use skein_types::ErrorCode;

use crate::client::Client;
use crate::event::Event;
use crate::topics::Phase;

/// Version of IncrementalAlterConfigs.
const VERSION: i16 = 1;

/// What it calls a topic.
const RESOURCE_TOPIC: i8 = 2;

/// What is done with a key, as the protocol numbers it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Set = 0,
    Append = 2,
}

/// A key, what is done with it, and a value.
pub(super) type Change = (&'static str, Operation, String);

/// Whether the topic is there, and the last one of its name.
pub(super) fn may_change(client: &Client, topic: usize) -> bool {
    let next = client.plan.topics.get(topic + 1);
    next.is_none_or(|next| !next.is_successor) && client.witness.topic_phase(topic) == Phase::Live
}

/// Carries the changes out; whether it was done before the run settled.
pub(super) async fn alter(client: &mut Client, name: &str, changes: &[Change]) -> bool {
    while !client.is_settling() {
        if request(client, name, changes).await {
            return true;
        }
        client.back_off().await;
    }
    false
}

/// Whether it was carried out.
async fn request(client: &mut Client, name: &str, changes: &[Change]) -> bool {
    let configs = changes
        .iter()
        .map(|(key, operation, value)| AlterableConfig {
            name: (*key).into(),
            config_operation: *operation as i8,
            value: Some(value.as_str().into()),
        });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: name.into(),
            configs: configs.collect(),
        }],
        ..Default::default()
    };
    let Some((response, _)) = client.call(&request, VERSION).await else {
        return false;
    };
    let Some(answer) = response.responses.first() else {
        return false;
    };
    let code = ErrorCode::from_code(answer.error_code);
    if code == ErrorCode::None {
        let text = format!("{name} has {changes:?}");
        client.witness.tell(client.actor, Event::Note(text));
        return true;
    }
    if !code.is_retriable() || code == ErrorCode::UnknownTopicOrPartition {
        let text = format!("{name} cannot be changed: {code}");
        let invariant = "topics_stay";
        client.witness.accuse(client.actor, invariant, None, text);
    }
    false
}
