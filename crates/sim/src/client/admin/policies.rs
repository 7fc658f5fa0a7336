//! Changes whether, when and how a topic is compacted.
//!
//! Input: a topic of the plan whose policy changes. Output: IncrementalAlterConfigs, until it is
//! answered.
//!
//! Invariant: only the last topic of its name is changed: a request whose answer is lost may be
//! carried out late, and would change the next one.
//!
//! Source: KIP-339; KIP-71 (`compact,delete`).

use skein_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use skein_types::ErrorCode;

use crate::client::Client;
use crate::event::Event;
use crate::plan::pick;
use crate::topics::Phase;

/// Version of IncrementalAlterConfigs.
const VERSION: i16 = 1;

/// What it calls a topic, and to set a value.
const RESOURCE_TOPIC: i8 = 2;
const CONFIG_SET: i8 = 0;

/// Draws the policy of some topic anew.
pub(super) async fn change(client: &mut Client) {
    let topics = &client.plan.topics;
    let may_change = |topic: &usize| {
        let is_last = topics.get(topic + 1).is_none_or(|next| !next.is_successor);
        let compaction = topics[*topic].compaction;
        is_last
            && compaction.is_some_and(|compaction| compaction.is_changing)
            && client.witness.topic_phase(*topic) == Phase::Live
    };
    let candidates: Vec<usize> = (0..topics.len()).filter(may_change).collect();
    if candidates.is_empty() {
        return;
    }
    let topic = pick(&mut client.rng, &candidates);
    let name = client.plan.topics[topic].name.clone();
    let Some(compaction) = client.plan.topics[topic].compaction else {
        return;
    };
    let configs = compaction.changeable(&mut client.rng);
    while !client.is_settling() && !request(client, &name, &configs).await {
        client.back_off().await;
    }
}

/// Whether it was carried out.
async fn request(client: &mut Client, name: &str, configs: &[(&'static str, String)]) -> bool {
    let configs_set = configs.iter().map(|(key, value)| AlterableConfig {
        name: (*key).into(),
        config_operation: CONFIG_SET,
        value: Some(value.as_str().into()),
    });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: name.into(),
            configs: configs_set.collect(),
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
        let text = format!("{name} has {configs:?}");
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
