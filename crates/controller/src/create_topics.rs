//! CreateTopics.
//!
//! Input: names, numbers or assignments, configurations. Output: for each topic its records, or why
//! it is not created.
//!
//! Invariants: each topic is created whole or not at all; no two topics of a request, and no topic
//! and an existing one, share a name or differ by `.` and `_` alone; with `validate_only` the
//! answer is the same and nothing happens.
//!
//! Source: KIP-4, KIP-464 (−1 takes the broker's default), `ReplicationControlManager` of Kafka
//! 4.1.

use std::collections::{BTreeMap, BTreeSet};

use skein_config::{BrokerConfig, TopicConfig, validate_topic_overrides};
use skein_metadata::{ConfigResource, Image, Partition, Record};
use skein_types::{BrokerId, ErrorCode, PartitionIndex, TopicId, TopicName};

use crate::alter_configs::check_redacted;
use crate::batch::{Context, Decision, effective_config};
use crate::{RandomBits, Refusal, Response, assignment, placement};

/// Most partitions that one request creates, so that an entry stays small.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// Creates topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    /// The topics.
    pub topics: Vec<NewTopic>,
    /// Whether to look only, and create nothing.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name, not checked yet.
    pub name: String,
    /// Partitions; −1 for the default, or with assignments.
    pub num_partitions: i32,
    /// Replicas of each partition; −1 for the default, or with assignments.
    pub replication_factor: i16,
    /// Replicas by partition, chosen by the client; empty to let the controller choose.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    /// Overrides of the configuration.
    pub configs: Vec<(String, Option<String>)>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopicsResult {
    /// Its name, as requested.
    pub name: String,
    /// What was created.
    pub result: Result<CreatedTopic, Refusal>,
}

/// A created topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; zero if the request only validates.
    pub topic_id: TopicId,
    /// Its partitions.
    pub num_partitions: i32,
    /// Replicas of each.
    pub replication_factor: i16,
    /// Its overrides.
    pub overrides: BTreeMap<String, String>,
}

pub(crate) fn decide(
    image: &Image,
    request: &CreateTopics,
    context: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    let config = effective_config(image, context.config);
    check_size(request, &config)?;
    let mut image = image.clone();
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(request.topics.len());
    let names: Vec<_> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    let twice = duplicates(&names);
    for topic in &request.topics {
        let result = if twice.contains(topic.name.as_str()) {
            let message = "the request names the topic more than once";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        } else {
            create(&image, topic, &config, &mut context.random)
        };
        let result = result.and_then(|(created, of_topic)| {
            image
                .apply_records(&of_topic)
                .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
            records.extend(of_topic);
            Ok(created)
        });
        results.push(CreateTopicsResult {
            name: topic.name.clone(),
            result,
        });
    }
    if request.validate_only {
        records.clear();
        for created in results
            .iter_mut()
            .filter_map(|topic| topic.result.as_mut().ok())
        {
            created.topic_id = TopicId::ZERO;
        }
    }
    Ok(Decision {
        records,
        response: Response::CreateTopics(results),
    })
}

/// The names that appear more than once.
pub(crate) fn duplicates<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names
        .iter()
        .copied()
        .filter(|name| !seen.insert(*name))
        .collect()
}

fn check_size(request: &CreateTopics, config: &BrokerConfig) -> Result<(), Refusal> {
    let default = config.topics.num_partitions as usize;
    let partitions = |topic: &NewTopic| match usize::try_from(topic.num_partitions) {
        _ if !topic.assignments.is_empty() => topic.assignments.len(),
        Ok(count) => count,
        Err(_) => default,
    };
    let sum = request
        .topics
        .iter()
        .map(partitions)
        .fold(0, usize::saturating_add);
    if sum > PARTITIONS_PER_REQUEST_MAX {
        let message = format!("{sum} partitions; one request creates {PARTITIONS_PER_REQUEST_MAX}");
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    Ok(())
}

fn create(
    image: &Image,
    topic: &NewTopic,
    config: &BrokerConfig,
    random: &mut RandomBits,
) -> Result<(CreatedTopic, Vec<Record>), Refusal> {
    let name = check_name(image, &topic.name)?;
    let overrides = check_configs(topic, config)?;
    let partitions = if topic.assignments.is_empty() {
        place(image, topic, config, random)?
    } else {
        assign(image, topic)?
    };
    let redacted = TopicConfig::new(config, &overrides).redacted_records;
    check_redacted(&redacted, partitions.len())?;
    let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
    let replicas = partitions
        .first()
        .map_or(0, |partition| partition.replicas.len());
    let id = random.topic_id(image);
    let created = CreatedTopic {
        topic_id: id,
        num_partitions: count(partitions.len()),
        replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
        overrides: overrides.clone(),
    };
    let resource = ConfigResource::topic(&name);
    let mut records = vec![Record::Topic { id, name }];
    records.extend(overrides.into_iter().map(|(key, value)| Record::Config {
        resource: resource.clone(),
        key,
        value: Some(value),
    }));
    records.extend(
        (0..)
            .map(PartitionIndex)
            .zip(partitions)
            .map(|(index, partition)| Record::Partition {
                topic_id: id,
                index,
                partition,
            }),
    );
    Ok((created, records))
}

fn check_name(image: &Image, name: &str) -> Result<TopicName, Refusal> {
    let invalid = |message| Refusal::new(ErrorCode::InvalidTopicException, message);
    let name = TopicName::new(name).map_err(|error| invalid(error.to_string()))?;
    if image.topic_by_name(name.as_str()).is_some() {
        let message = format!("topic {name} exists");
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    match image.topic_colliding_with(name.as_str()) {
        None => Ok(name),
        Some(other) => Err(invalid(format!(
            "topic {name} could not be told from {other} in metrics, where '.' and '_' are the same"
        ))),
    }
}

fn check_configs(
    topic: &NewTopic,
    config: &BrokerConfig,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut overrides = BTreeMap::new();
    for (key, value) in &topic.configs {
        let Some(value) = value else {
            let message = format!("{key} needs a value");
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        };
        overrides.insert(key.clone(), value.clone());
    }
    validate_topic_overrides(config, &overrides)
        .map_err(|error| Refusal::new(error.error_code(), error.to_string()))?;
    Ok(overrides)
}

fn place(
    image: &Image,
    topic: &NewTopic,
    config: &BrokerConfig,
    random: &mut RandomBits,
) -> Result<Vec<Partition>, Refusal> {
    let partitions = match topic.num_partitions {
        -1 => config.topics.num_partitions as usize,
        count => usize::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| {
                let message = "a topic has at least one partition, or -1 for the default";
                Refusal::new(ErrorCode::InvalidPartitions, message)
            })?,
    };
    let code = ErrorCode::InvalidReplicationFactor;
    let factor = match topic.replication_factor {
        -1 => {
            let brokers = u16::try_from(image.brokers().len()).unwrap_or(u16::MAX);
            usize::from(config.topics.replication_factor(brokers.max(1)))
        }
        count => usize::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| {
                Refusal::new(
                    code,
                    "a partition has at least one replica, or -1 for the default",
                )
            })?,
    };
    let placed = placement::place(image, partitions, factor, random)?;
    placed
        .into_iter()
        .map(|replicas| assignment::new_partition(image, replicas, code))
        .collect()
}

fn assign(image: &Image, topic: &NewTopic) -> Result<Vec<Partition>, Refusal> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "with assignments, partitions and replication factor must be -1";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let code = ErrorCode::InvalidReplicaAssignment;
    let mut assignments: Vec<_> = topic.assignments.iter().collect();
    assignments.sort_by_key(|(index, _)| *index);
    let factor = assignments.first().map(|(_, replicas)| replicas.len());
    let mut partitions = Vec::with_capacity(assignments.len());
    for (expected, (index, replicas)) in (0..).map(PartitionIndex).zip(assignments) {
        if *index != expected {
            let message = "assigned partitions are numbered from 0, without gap or repetition";
            return Err(Refusal::new(code, message));
        }
        assignment::check(image, replicas, factor)?;
        partitions.push(assignment::new_partition(image, replicas.clone(), code)?);
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests;
