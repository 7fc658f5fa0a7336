//! AlterConfigs and IncrementalAlterConfigs, for topics, brokers and groups.
//!
//! Input: resources, each with changes of single keys or with a whole configuration. Output: for
//! each resource the records of what really changes, or why nothing does.
//!
//! Invariants: a resource's changes are made all or none; what results passes the table of
//! `skein-config`, and there are the partitions of redacted records; a smaller
//! `min.insync.replicas` empties the ELR of its partitions in the same entry, because from then on
//! a leader goes on without its members; a whole configuration is decided as the changes of single
//! keys that lead to it (`alter_configs/whole.rs`).
//!
//! Source: KIP-133, KIP-339, KIP-966; `ConfigurationControlManager` of Kafka 4.1.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use skein_config::{
    AlterOp, Alteration, BrokerConfig, REDACTED_RECORDS, RedactedRecords, TopicConfig,
    alter_broker, alter_group, alter_topic,
};
use skein_metadata::{ConfigResource, Image, Record, ResourceType};
use skein_types::{BrokerId, ErrorCode, TopicName};

use crate::batch::{Context, Decision, effective_config, topic_config};
use crate::election::{Rules, change_topic};
use crate::{Refusal, Response};

mod whole;

/// Changes configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    /// The resources.
    pub resources: Vec<ResourceChange>,
    /// Whether to look only, and change nothing.
    pub validate_only: bool,
}

/// The change of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChange {
    /// Kafka's number of the kind of resource, not checked yet.
    pub resource_type: i8,
    /// The resource's name.
    pub name: String,
    /// What changes.
    pub change: ConfigChange,
}

/// The two ways to change a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Key by key; all others stay.
    Keys(Vec<KeyAlteration>),
    /// Keys and values in the place of all that is set, not checked yet. Every other key gets its
    /// default again, unless it is kept.
    Whole(Vec<(String, Option<String>)>),
}

/// The change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAlteration {
    /// The key.
    pub key: String,
    /// Kafka's number of the operation, not checked yet: 0 set, 1 delete, 2 append, 3 subtract.
    pub operation: i8,
    /// The value, or the items.
    pub value: Option<String>,
}

/// What became of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigsResult {
    /// As requested.
    pub resource_type: i8,
    /// As requested.
    pub name: String,
    /// Whether it is changed.
    pub result: Result<(), Refusal>,
}

/// The resources that a request names more than once, of which it may change none.
#[must_use]
pub fn named_twice(resources: &[ResourceChange]) -> BTreeSet<(i8, &str)> {
    let mut seen = BTreeSet::new();
    let names = resources
        .iter()
        .map(|resource| (resource.resource_type, resource.name.as_str()));
    names.filter(|name| !seen.insert(*name)).collect()
}

type Overrides = BTreeMap<String, String>;

pub(crate) fn decide(image: &Image, request: &AlterConfigs, context: &Context<'_>) -> Decision {
    let mut image = image.clone();
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(request.resources.len());
    let twice = named_twice(&request.resources);
    for resource in &request.resources {
        let result = if twice.contains(&(resource.resource_type, resource.name.as_str())) {
            refuse(
                ErrorCode::InvalidRequest,
                "the request names the resource more than once",
            )
        } else {
            alter(&image, resource, context.config)
        };
        let result = result.and_then(|of_resource| {
            image
                .apply_records(&of_resource)
                .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
            records.extend(of_resource);
            Ok(())
        });
        let (resource_type, name) = (resource.resource_type, resource.name.clone());
        results.push(AlterConfigsResult {
            resource_type,
            name,
            result,
        });
    }
    if request.validate_only {
        records.clear();
    }
    Decision {
        records,
        response: Response::AlterConfigs(results),
    }
}

fn alter(
    image: &Image,
    request: &ResourceChange,
    config: &BrokerConfig,
) -> Result<Vec<Record>, Refusal> {
    let request = &*of_broker(request);
    let changes = match &request.change {
        ConfigChange::Keys(changes) => Cow::Borrowed(changes),
        ConfigChange::Whole(configs) => Cow::Owned(whole::alterations(image, request, configs)),
    };
    let mut alterations = Vec::with_capacity(changes.len());
    for alteration in changes.iter() {
        let Some(op) = AlterOp::from_code(alteration.operation) else {
            let message = format!(
                "{} is no operation on a configuration",
                alteration.operation
            );
            return refuse(ErrorCode::InvalidRequest, message);
        };
        let (name, value) = (alteration.key.as_str(), alteration.value.as_deref());
        alterations.push(Alteration { name, op, value });
    }
    let name = request.name.clone();
    match ResourceType::from_code(request.resource_type) {
        Some(kind @ ResourceType::Topic) => {
            alter_one_topic(image, &ConfigResource { kind, name }, &alterations, config)
        }
        Some(kind @ ResourceType::Broker) => {
            alter_brokers(image, &ConfigResource { kind, name }, &alterations, config)
        }
        Some(kind @ ResourceType::Group) => {
            alter_one_group(image, &ConfigResource { kind, name }, &alterations, config)
        }
        Some(ResourceType::ClientMetrics) | None => refuse(
            ErrorCode::InvalidRequest,
            format!(
                "resources of type {} have no configuration here",
                request.resource_type
            ),
        ),
    }
}

/// The request with the name that the broker's resource has: "01" is broker 1. (Kafka takes such a
/// name too, and keeps the settings under it, where no broker looks for its own.)
fn of_broker(request: &ResourceChange) -> Cow<'_, ResourceChange> {
    let kind = ResourceType::from_code(request.resource_type);
    match request.name.parse().map(BrokerId) {
        Ok(id) if kind == Some(ResourceType::Broker) => Cow::Owned(ResourceChange {
            name: id.to_string(),
            ..request.clone()
        }),
        _ => Cow::Borrowed(request),
    }
}

fn require_name(resource: &ConfigResource, kind: &str) -> Result<(), Refusal> {
    if !resource.name.is_empty() {
        return Ok(());
    }
    let message = format!("{kind} have no resource for all of them: name one");
    refuse(ErrorCode::InvalidRequest, message)
}

fn alter_one_topic(
    image: &Image,
    resource: &ConfigResource,
    alterations: &[Alteration<'_>],
    config: &BrokerConfig,
) -> Result<Vec<Record>, Refusal> {
    require_name(resource, "topics")?;
    TopicName::new(&resource.name)
        .map_err(|error| Refusal::new(ErrorCode::InvalidTopicException, error.to_string()))?;
    let Some(topic) = image.topic_by_name(&resource.name) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, "there is no such topic");
    };
    let config = effective_config(image, config);
    let current = image.overrides(resource);
    let altered = alter_topic(&config, &current, alterations)
        .map_err(|error| Refusal::new(error.error_code(), error.to_string()))?;
    let mut records = difference(resource, &current, &altered);
    let (from, to) = (
        TopicConfig::new(&config, &current),
        TopicConfig::new(&config, &altered),
    );
    check_redacted(&to.redacted_records, topic.partitions.len())?;
    forget_eligible(topic, &from, &to, &mut records);
    Ok(records)
}

fn alter_one_group(
    image: &Image,
    resource: &ConfigResource,
    alterations: &[Alteration<'_>],
    config: &BrokerConfig,
) -> Result<Vec<Record>, Refusal> {
    require_name(resource, "groups")?;
    let current = image.overrides(resource);
    let altered = alter_group(&effective_config(image, config), &current, alterations)
        .map_err(|error| Refusal::new(error.error_code(), error.to_string()))?;
    Ok(difference(resource, &current, &altered))
}

fn alter_brokers(
    image: &Image,
    resource: &ConfigResource,
    alterations: &[Alteration<'_>],
    config: &BrokerConfig,
) -> Result<Vec<Record>, Refusal> {
    if !resource.name.is_empty() {
        let Ok(id) = resource.name.parse().map(BrokerId) else {
            let message = format!("{:?} is no broker id", resource.name);
            return refuse(ErrorCode::InvalidRequest, message);
        };
        if image.broker(id).is_none() {
            let message = format!("broker {id} is not registered");
            return refuse(ErrorCode::InvalidRequest, message);
        }
    }
    let current = image.overrides(resource);
    let altered = alter_broker(&current, alterations)
        .map_err(|error| Refusal::new(error.broker_error_code(), error.to_string()))?;
    let mut records = difference(resource, &current, &altered);
    if resource.name.is_empty() && !records.is_empty() {
        let from = effective_config(image, config);
        let to = config.with_dynamic(altered, Overrides::new());
        for topic in image.topics() {
            let (from, to) = (
                topic_config(image, &from, &topic.name),
                topic_config(image, &to, &topic.name),
            );
            forget_eligible(topic, &from, &to, &mut records);
        }
    }
    Ok(records)
}

fn forget_eligible(
    topic: &std::sync::Arc<skein_metadata::Topic>,
    from: &TopicConfig,
    to: &TopicConfig,
    records: &mut Vec<Record>,
) {
    let min = |config: &TopicConfig, replicas| Rules::new(config, replicas).min_insync_replicas;
    change_topic(
        topic,
        to,
        |partition| {
            let replicas = partition.replicas.len();
            !partition.elr.is_empty() && min(to, replicas) < min(from, replicas)
        },
        |change| change.forget_eligible(),
        records,
    );
}

/// Whether the topic has the partitions of which it hides records.
pub(crate) fn check_redacted(records: &RedactedRecords, partitions: usize) -> Result<(), Refusal> {
    let Some(last) = records.last_partition() else {
        return Ok(());
    };
    if usize::try_from(last.get()).is_ok_and(|last| last < partitions) {
        return Ok(());
    }
    let message = format!("{REDACTED_RECORDS}: the topic has no partition {last}");
    refuse(ErrorCode::InvalidConfig, message)
}

fn difference(resource: &ConfigResource, from: &Overrides, to: &Overrides) -> Vec<Record> {
    let gone = from
        .keys()
        .filter(|key| !to.contains_key(*key))
        .map(|key| (key, None));
    let set = to
        .iter()
        .filter(|(key, value)| from.get(*key) != Some(value));
    let set = set.map(|(key, value)| (key, Some(value.clone())));
    gone.chain(set)
        .map(|(key, value)| Record::Config {
            resource: resource.clone(),
            key: key.clone(),
            value,
        })
        .collect()
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

#[cfg(test)]
mod tests;
