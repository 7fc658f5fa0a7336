//! `OffsetFetch` (9): how far groups have read.
//!
//! Input: groups, and for each the partitions or all of them. Output: the committed offsets.
//!
//! Invariant: an answer has the form of its version: before 8 there is one group, and before 2 an
//! error of it stands at each partition.
//!
//! Source: KIP-709 (several groups); `OffsetFetchResponse` of Kafka 4.1.1 for the forms.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use skein_types::{LeaderEpoch, Offset};

use crate::node::Shared;
use crate::router::Context;

/// The first version that asks for several groups.
const SEVERAL_VERSION: i16 = 8;

/// The first version with an error of the group.
const GROUP_ERROR_VERSION: i16 = 2;

/// Asks the coordinators of the groups.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let version = context.head.api_version;
    let require_stable = request.require_stable;
    if version >= SEVERAL_VERSION {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(fetch(shared, group, require_stable).await);
        }
        return OffsetFetchResponse {
            groups,
            ..OffsetFetchResponse::default()
        };
    }
    let asked = one_group(request);
    let partitions = asked.topics.clone();
    let mut group = fetch(shared, asked, require_stable).await;
    if version < GROUP_ERROR_VERSION && group.error_code != 0 {
        group.topics = with_error(partitions.unwrap_or_default(), group.error_code);
    }
    in_old_form(group)
}

async fn fetch(
    shared: &Arc<Shared>,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let group_id = group.group_id.clone();
    let request = Request::OffsetFetch {
        group,
        require_stable,
    };
    match shared.groups.ask(shared, &group_id, request).await {
        Response::OffsetFetch(response) => response,
        other => unreachable!("{other:?} answers another request"),
    }
}

fn one_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        topics.collect()
    });
    OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    }
}

fn with_error(
    topics: Vec<OffsetFetchRequestTopics>,
    error_code: i16,
) -> Vec<OffsetFetchResponseTopics> {
    let partition = |partition_index| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: Offset::NONE.get(),
        committed_leader_epoch: LeaderEpoch::NONE.get(),
        error_code,
        ..OffsetFetchResponsePartitions::default()
    };
    let topics = topics.into_iter().map(|topic| OffsetFetchResponseTopics {
        name: topic.name,
        partitions: topic.partition_indexes.into_iter().map(partition).collect(),
        ..OffsetFetchResponseTopics::default()
    });
    topics.collect()
}

fn in_old_form(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    let topics = group
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic.partitions.into_iter().map(partition).collect(),
        });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}
