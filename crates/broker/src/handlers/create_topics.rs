//! `CreateTopics` (19): new topics, decided by the controller.
//!
//! Input: names with numbers or assignments and with overrides. Output: for each name the topic
//! that was created, with its whole configuration, or why there is none.
//!
//! Invariants:
//! - a name that is asked for twice is answered once, and never created;
//! - what was created is in this node's image before the client hears of it;
//! - the client waits no longer than its own timeout, whatever became of the decision.
//!
//! Source: KIP-4, KIP-464 (defaults), KIP-516 (topic ids), KIP-525 (the configuration in the
//! answer).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skein_config::{BrokerConfig, ConfigEntry, Facts, describe_topic};
use skein_controller::{Call, CreateTopics, CreatedTopic, NewTopic, Refusal};
use skein_protocol::Str;
use skein_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use skein_types::{BrokerId, ErrorCode, PartitionIndex};

use super::describe_configs::{broker_config, facts};
use crate::node::Shared;
use crate::peers::forward;
use crate::router::Context;

/// The name under which Kafka keeps its own metadata: nobody may have a topic of that name.
pub(super) const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Has the controller create what may be created.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    decide(shared, request).await
}

/// Makes topics of which this node has need, by whichever node is the controller.
///
/// # Errors
/// Why the first of those that were not made was not.
pub(crate) async fn make(
    shared: &Arc<Shared>,
    topics: Vec<CreatableTopic>,
    timeout_ms: i32,
) -> Result<(), Refusal> {
    let request = CreateTopicsRequest {
        topics,
        timeout_ms,
        validate_only: false,
    };
    let response = match forward::ask(shared, &request).await {
        Some(answered) => answered?,
        None => decide(shared, request).await,
    };
    let refused = response
        .topics
        .into_iter()
        .find(|topic| topic.error_code != 0);
    refused.map_or(Ok(()), |topic| {
        let code = ErrorCode::from_code(topic.error_code);
        let message = topic
            .error_message
            .map(|message| message.as_str().to_owned());
        Err(Refusal::new(code, message.unwrap_or_default()))
    })
}

async fn decide(shared: &Arc<Shared>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let (asked, refused) = sort_out(&request.topics);
    let mut topics = Vec::with_capacity(asked.len() + refused.len());
    if !asked.is_empty() {
        let create = CreateTopics {
            topics: asked.iter().map(|topic| new_topic(topic)).collect(),
            validate_only: request.validate_only,
        };
        match call_within(shared, request.timeout_ms, create).await {
            Ok(results) => {
                let image = shared.image();
                let config = broker_config(shared, &image);
                let facts = facts(shared, &image);
                topics.extend(results.into_iter().map(|topic| match topic.result {
                    Ok(created) => granted(topic.name.into(), &created, &config, facts),
                    Err(refusal) => refuse(topic.name.into(), &refusal),
                }));
            }
            Err(refusal) => {
                topics.extend(
                    asked
                        .iter()
                        .map(|topic| refuse(topic.name.clone(), &refusal)),
                );
            }
        }
    }
    topics.extend(refused);
    CreateTopicsResponse {
        topics,
        ..Default::default()
    }
}

/// Calls the controller and waits for at most `timeout_ms`, the client's own limit. A decision that
/// comes later stands. Without time there is no call, as in Kafka.
pub(super) async fn call_within<R: Call>(
    shared: &Shared,
    timeout_ms: i32,
    request: R,
) -> Result<R::Response, Refusal> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    if timeout.is_zero() {
        let message = format!("a timeout of {timeout_ms} ms leaves no time to decide");
        return Err(Refusal::new(ErrorCode::RequestTimedOut, message));
    }
    let call = shared.controller.propose(request);
    tokio::time::timeout(timeout, call)
        .await
        .unwrap_or_else(|_| {
            let message = format!("no decision in {timeout_ms} ms; it may still come");
            Err(Refusal::new(ErrorCode::RequestTimedOut, message))
        })
}

/// The items that appear more than once.
pub(super) fn duplicates<T: Ord + Clone>(items: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    items.filter(|item| !seen.insert(item.clone())).collect()
}

/// What the controller is asked for, and what is refused here.
fn sort_out(topics: &[CreatableTopic]) -> (Vec<&CreatableTopic>, Vec<CreatableTopicResult>) {
    let twice = duplicates(topics.iter().map(|topic| &topic.name));
    let reserved = |topic: &&CreatableTopic| topic.name.as_str() == CLUSTER_METADATA_TOPIC;
    let once = topics.iter().filter(|topic| !twice.contains(&topic.name));
    let (reserved, asked): (Vec<_>, Vec<_>) = once.partition(reserved);
    let message = "the request names the topic more than once";
    let doubled = Refusal::new(ErrorCode::InvalidRequest, message);
    let message = "the name is reserved for the cluster's metadata";
    let forbidden = Refusal::new(ErrorCode::InvalidRequest, message);
    let doubled = twice.into_iter().map(|name| refuse(name.clone(), &doubled));
    let forbidden = reserved
        .into_iter()
        .map(|topic| refuse(topic.name.clone(), &forbidden));
    (asked, doubled.chain(forbidden).collect())
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.iter().map(|assignment| {
        let replicas = assignment
            .broker_ids
            .iter()
            .copied()
            .map(BrokerId)
            .collect();
        (PartitionIndex(assignment.partition_index), replicas)
    });
    let configs = topic.configs.iter().map(|config| {
        let value = config.value.as_ref().map(|value| value.as_str().to_owned());
        (config.name.as_str().to_owned(), value)
    });
    NewTopic {
        name: topic.name.as_str().to_owned(),
        num_partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

fn granted(
    name: Str,
    created: &CreatedTopic,
    config: &BrokerConfig,
    facts: Facts,
) -> CreatableTopicResult {
    let replicas = u16::try_from(created.replication_factor).unwrap_or(1);
    let mut entries = describe_topic(config, &created.overrides, None, facts, replicas);
    entries.sort_by_key(|entry| entry.name);
    CreatableTopicResult {
        name,
        topic_id: created.topic_id,
        error_message: None,
        num_partitions: created.num_partitions,
        replication_factor: created.replication_factor,
        configs: Some(entries.into_iter().map(config_of).collect()),
        ..Default::default()
    }
}

fn config_of(entry: ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: Str::from_static(entry.name),
        value: entry.value.map(Str::from),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
    }
}

fn refuse(name: Str, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: refusal.code.code(),
        error_message: Some(Str::from(&refusal.message)),
        configs: Some(Vec::new()),
        ..Default::default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use skein_config::ConfigSource;
    use skein_types::TopicId;

    use super::*;

    /// A topic of one partition on one broker.
    pub(crate) fn topic_of_one(name: &str) -> CreatableTopic {
        CreatableTopic {
            name: Str::from(name.to_owned()),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }
    }

    fn topic(name: &'static str) -> CreatableTopic {
        CreatableTopic {
            name: Str::from_static(name),
            ..Default::default()
        }
    }

    #[test]
    fn a_name_asked_for_twice_is_answered_once_and_not_created() {
        let topics = ["twice", "once", "twice", CLUSTER_METADATA_TOPIC, "twice"].map(topic);
        let (asked, refused) = sort_out(&topics);
        let asked: Vec<_> = asked.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(asked, ["once"]);
        let refused: Vec<_> = refused
            .iter()
            .map(|topic| (topic.name.as_str(), topic.error_code))
            .collect();
        let expected = [
            ("twice", ErrorCode::InvalidRequest.code()),
            (CLUSTER_METADATA_TOPIC, ErrorCode::InvalidRequest.code()),
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_created_topic_tells_its_whole_configuration_in_the_order_of_names() {
        let created = CreatedTopic {
            topic_id: TopicId::ZERO,
            num_partitions: 3,
            replication_factor: 1,
            overrides: [("retention.ms".to_owned(), "1000".to_owned())].into(),
        };
        let facts = Facts {
            brokers: 1,
            cores: 1,
        };
        let name = Str::from_static("topic");
        let topic = granted(name, &created, &BrokerConfig::default(), facts);
        assert_eq!((topic.error_code, &topic.error_message), (0, &None));
        assert_eq!((topic.num_partitions, topic.replication_factor), (3, 1));
        let configs = topic.configs.unwrap();
        assert!(configs.is_sorted_by(|one, other| one.name < other.name));
        let set: Vec<_> = configs
            .iter()
            .filter(|config| config.config_source == ConfigSource::DynamicTopic.code())
            .map(|config| (config.name.as_str(), config.value.as_deref()))
            .collect();
        assert_eq!(set, [("retention.ms", Some("1000"))]);
        assert!(
            configs
                .iter()
                .any(|config| config.name.as_str() == "cleanup.policy")
        );
    }
}
