//! `CreatePartitions` (37): more partitions for topics, decided by the controller.
//!
//! Input: topics with the number of partitions that they shall have. Output: one result per topic.
//!
//! Invariants:
//! - a topic that is asked for twice is answered once, and stays as it is;
//! - new partitions are in this node's image before the client hears of them.
//!
//! Source: KIP-195.

use std::sync::Arc;

use skein_controller::{CreatePartitions, NewPartitions, Refusal};
use skein_protocol::Str;
use skein_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use skein_types::{BrokerId, ErrorCode};

use super::create_topics::{call_within, duplicates};
use super::error_fields;
use crate::node::Shared;
use crate::router::Context;

/// Has the controller add what may be added.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let (asked, mut results) = sort_out(&request.topics);
    if !asked.is_empty() {
        let create = CreatePartitions {
            topics: asked.iter().map(|topic| new_partitions(topic)).collect(),
            validate_only: request.validate_only,
        };
        match call_within(shared, request.timeout_ms, create).await {
            Ok(decided) => results.extend(
                decided
                    .into_iter()
                    .map(|topic| to_response(topic.name.into(), topic.result.as_ref())),
            ),
            Err(refusal) => results.extend(
                asked
                    .iter()
                    .map(|topic| to_response(topic.name.clone(), Err(&refusal))),
            ),
        }
    }
    CreatePartitionsResponse {
        results,
        ..Default::default()
    }
}

/// What the controller is asked for, and what is refused here.
fn sort_out(
    topics: &[CreatePartitionsTopic],
) -> (
    Vec<&CreatePartitionsTopic>,
    Vec<CreatePartitionsTopicResult>,
) {
    let twice = duplicates(topics.iter().map(|topic| &topic.name));
    let asked = topics
        .iter()
        .filter(|topic| !twice.contains(&topic.name))
        .collect();
    let message = "the request names the topic more than once";
    let doubled = Refusal::new(ErrorCode::InvalidRequest, message);
    let refused = twice
        .iter()
        .map(|name| to_response((*name).clone(), Err(&doubled)));
    (asked, refused.collect())
}

fn new_partitions(topic: &CreatePartitionsTopic) -> NewPartitions {
    let assignments = topic.assignments.as_ref().map(|assignments| {
        let replicas = |ids: &Vec<i32>| ids.iter().copied().map(BrokerId).collect();
        assignments
            .iter()
            .map(|assignment| replicas(&assignment.broker_ids))
            .collect()
    });
    NewPartitions {
        name: topic.name.as_str().to_owned(),
        count: topic.count,
        assignments,
    }
}

fn to_response(name: Str, result: Result<&(), &Refusal>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = error_fields(result.err());
    CreatePartitionsTopicResult {
        name,
        error_code,
        error_message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_result_per_topic() {
        let topic = |name: &'static str| CreatePartitionsTopic {
            name: Str::from_static(name),
            count: 3,
            assignments: None,
        };
        let topics = ["b", "a", "b", "b"].map(topic);
        let (asked, refused) = sort_out(&topics);
        assert_eq!(asked, [&topics[1]]);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].name.as_str(), "b");
        assert_eq!(refused[0].error_code, ErrorCode::InvalidRequest.code());
    }
}
