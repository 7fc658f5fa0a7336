//! `ElectLeaders` (43): leaders where an operator asks for them, decided by the controller.
//!
//! Input: the kind of election, and partitions or all of them. Output: for each partition its new
//! leader, or why it keeps what it has.
//!
//! Invariant: new leaders are in this node's image before the client hears of them.
//!
//! Source: KIP-183 (preferred leaders), KIP-460 (unclean elections).

use std::sync::Arc;

use skein_controller::{ElectLeaders, ElectLeadersResult, ElectionType, Refusal};
use skein_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use skein_types::{ErrorCode, PartitionIndex};

use super::create_topics::call_within;
use super::error_fields;
use crate::node::Shared;
use crate::router::Context;

/// Has the controller elect.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    match elect(shared, &request).await {
        Ok(results) => ElectLeadersResponse {
            replica_election_results: results.into_iter().map(to_response).collect(),
            ..Default::default()
        },
        Err(refusal) => refuse_all(&request, &refusal),
    }
}

async fn elect(
    shared: &Arc<Shared>,
    request: &ElectLeadersRequest,
) -> Result<Vec<ElectLeadersResult>, Refusal> {
    // As in Kafka, before the type is looked at.
    if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    // Version 0 knows the preferred election only, which is number 0.
    let Some(election_type) = ElectionType::from_code(request.election_type) else {
        let message = format!("there is no election type {}", request.election_type);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    };
    let partitions = request.topic_partitions.as_ref().map(|topics| {
        let of = |topic: &skein_protocol::messages::elect_leaders::TopicPartitions| {
            let indexes = topic.partitions.iter().copied().map(PartitionIndex);
            (topic.topic.as_str().to_owned(), indexes.collect())
        };
        topics.iter().map(of).collect()
    });
    let elect = ElectLeaders {
        election_type,
        partitions,
    };
    call_within(shared, request.timeout_ms, elect).await
}

fn to_response(result: ElectLeadersResult) -> ReplicaElectionResult {
    let partitions = result.partitions.into_iter();
    ReplicaElectionResult {
        topic: result.topic.into(),
        partition_result: partitions
            .map(|(index, result)| partition_result(index.get(), result.as_ref().err()))
            .collect(),
    }
}

/// The refusal of the request as a whole; version 0 can tell it with the partitions only.
fn refuse_all(request: &ElectLeadersRequest, refusal: &Refusal) -> ElectLeadersResponse {
    let topics = request.topic_partitions.iter().flatten();
    let results = topics.map(|topic| ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: (topic.partitions.iter())
            .map(|index| partition_result(*index, Some(refusal)))
            .collect(),
    });
    ElectLeadersResponse {
        error_code: refusal.code.code(),
        replica_election_results: results.collect(),
        ..Default::default()
    }
}

fn partition_result(partition_id: i32, refusal: Option<&Refusal>) -> PartitionResult {
    let (error_code, error_message) = error_fields(refusal);
    PartitionResult {
        partition_id,
        error_code,
        error_message,
    }
}
