//! `DescribeTopicPartitions` (75): topics and their partitions, a page at a time.
//!
//! Input: names, or none for all topics, and the cursor of the page before. Output: a page, and the
//! cursor of the next one if there is more.
//!
//! ```text
//!   asked   a b c    limit 5
//!   page 1  a0 a1 a2 b0 b1   cursor b:2
//!   page 2  b2 b3 c0         no cursor
//! ```
//!
//! Invariants:
//! - topics go by name, partitions by number, so that a cursor says all that was told before;
//! - a page has at least one partition, if one is left, and no more than the smaller of the
//!   client's and the broker's limit;
//! - following the cursors tells each partition of an unchanged image exactly once.
//!
//! Source: KIP-966.

use std::collections::BTreeSet;
use std::sync::Arc;

use skein_metadata::{Image, Partition, Topic};
use skein_protocol::Str;
use skein_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, ResponseCursor,
    TopicRequest,
};
use skein_types::{BrokerId, ErrorCode, PartitionIndex, TopicName};

use super::metadata::{TOPIC_OPERATIONS, is_internal};
use crate::node::Shared;
use crate::router::Context;

/// Answers from the image.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    if !has_valid_cursor(&request) {
        return refuse_all(request, ErrorCode::InvalidRequest);
    }
    let limit = shared.config.network.max_request_partition_size_limit;
    page(
        &shared.image(),
        &context.connection.listener,
        &request,
        limit,
    )
}

/// Whether the cursor points into what is asked for, there or gone by now.
fn has_valid_cursor(request: &DescribeTopicPartitionsRequest) -> bool {
    request.cursor.as_ref().is_none_or(|cursor| {
        let is_cursors = |topic: &TopicRequest| topic.name == cursor.topic_name;
        let is_asked = request.topics.is_empty() || request.topics.iter().any(is_cursors);
        is_asked && cursor.partition_index >= 0
    })
}

fn refuse_all(
    request: DescribeTopicPartitionsRequest,
    code: ErrorCode,
) -> DescribeTopicPartitionsResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| DescribeTopicPartitionsResponseTopic {
            error_code: code.code(),
            name: Some(topic.name),
            ..Default::default()
        });
    DescribeTopicPartitionsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

/// The page that the request's cursor points at.
fn page(
    image: &Image,
    listener: &str,
    request: &DescribeTopicPartitionsRequest,
    limit: u32,
) -> DescribeTopicPartitionsResponse {
    let asked = u32::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = asked.min(limit).max(1) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for (name, topic) in topics(image, request) {
        if left == 0 {
            response.next_cursor = Some(ResponseCursor {
                topic_name: name,
                partition_index: 0,
            });
            break;
        }
        let Some(topic) = topic else {
            response.topics.push(unknown_topic(name));
            continue;
        };
        let cursor = request
            .cursor
            .as_ref()
            .filter(|cursor| cursor.topic_name == name);
        let start = cursor.map_or(0, |cursor| cursor.partition_index);
        let start = usize::try_from(start).unwrap_or(0);
        let partitions: Vec<_> = topic
            .partitions()
            .skip(start)
            .take(left)
            .map(|(index, partition)| known_partition(image, listener, index, partition))
            .collect();
        left -= partitions.len();
        let end = start + partitions.len();
        response.topics.push(known_topic(topic, partitions));
        if end < topic.partitions.len() {
            response.next_cursor = Some(ResponseCursor {
                topic_name: name,
                partition_index: i32::try_from(end).unwrap_or(i32::MAX),
            });
            break;
        }
    }
    response
}

/// The topics that this page and later ones are about, by name; `None` for those that are not
/// there.
fn topics<'a>(
    image: &'a Image,
    request: &'a DescribeTopicPartitionsRequest,
) -> Box<dyn Iterator<Item = (Str, Option<&'a Arc<Topic>>)> + 'a> {
    let cursor = request.cursor.as_ref().map(|cursor| &cursor.topic_name);
    let start = cursor.map_or("", |name| name.as_str());
    if request.topics.is_empty() {
        let all = image.topics_from(start);
        return Box::new(all.map(|topic| (Str::from(topic.name.as_str()), Some(topic))));
    }
    let names = request.topics.iter().map(|topic| &topic.name);
    let names: BTreeSet<_> = names.filter(|name| name.as_str() >= start).collect();
    Box::new(
        names
            .into_iter()
            .map(|name| (name.clone(), image.topic_by_name(name))),
    )
}

fn unknown_topic(name: Str) -> DescribeTopicPartitionsResponseTopic {
    let code = match TopicName::new(&name) {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}

fn known_topic(
    topic: &Topic,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(Str::from(topic.name.as_str())),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions,
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn known_partition(
    image: &Image,
    listener: &str,
    index: PartitionIndex,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.get()).collect::<Vec<_>>();
    let is_reachable = |id: BrokerId| {
        let broker = image.broker(id);
        broker.is_some_and(|broker| broker.endpoints.iter().any(|e| e.listener == listener))
    };
    let is_offline = |id: BrokerId| {
        !is_reachable(id)
            || image.broker(id).is_none_or(|broker| broker.fenced)
            || partition.is_offline(id)
    };
    let leader = if is_reachable(partition.leader) {
        partition.leader
    } else {
        BrokerId::NONE
    };
    let offline = partition.replicas.iter().filter(|id| is_offline(**id));
    DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode::None.code(),
        partition_index: index.get(),
        leader_id: leader.get(),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        eligible_leader_replicas: Some(ids(&partition.elr)),
        last_known_elr: Some(ids(&partition.last_known)),
        offline_replicas: offline.map(|id| id.get()).collect(),
    }
}

#[cfg(test)]
mod tests;
