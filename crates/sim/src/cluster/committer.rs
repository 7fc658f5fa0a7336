//! A client that commits offsets in a group of its own, each greater than the one before.
//!
//! Input: its group. Output: commits and fetches at the group's coordinator.
//!
//! Invariant: none; `invariants/committed_offsets.rs` judges.
//!
//! Source: consumers that assign partitions to themselves.

use std::time::Duration;

use skein_protocol::messages::find_coordinator::FindCoordinatorRequest;
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use skein_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use skein_types::ErrorCode;

use super::client::ClusterClient;
use super::event::ClusterEvent;
use super::host;

/// Version of FindCoordinator.
const FIND_VERSION: i16 = 3;

/// Version of OffsetCommit.
const COMMIT_VERSION: i16 = 8;

/// Version of OffsetFetch.
const FETCH_VERSION: i16 = 7;

/// The longest pause between two requests.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Commits and reads until it is told to settle; then reads once more.
pub(crate) async fn run(mut client: ClusterClient, group: usize) {
    let (mut offset, mut coordinator) = (0, None);
    while !client.is_settling() {
        client.pause(PAUSE_MAX).await;
        let Some(node) = find(&mut client, group, &mut coordinator).await else {
            continue;
        };
        let is_answered = match client.rng.chance(4) {
            true => fetch(&mut client, group, node).await,
            false => {
                offset += 1;
                commit(&mut client, group, node, offset).await
            }
        };
        if !is_answered {
            coordinator = None;
            client.back_off().await;
        }
    }
    loop {
        if let Some(node) = find(&mut client, group, &mut coordinator).await
            && fetch(&mut client, group, node).await
        {
            return;
        }
        coordinator = None;
        client.back_off().await;
    }
}

fn name(group: usize) -> String {
    format!("group-{group}")
}

async fn find(
    client: &mut ClusterClient,
    group: usize,
    coordinator: &mut Option<usize>,
) -> Option<usize> {
    if coordinator.is_none() {
        let request = FindCoordinatorRequest {
            key: name(group).into(),
            ..Default::default()
        };
        let node = client.any_node();
        let (response, _) = client.call(node, &request, FIND_VERSION).await?;
        if response.error_code != 0 {
            let code = ErrorCode::from_code(response.error_code);
            let text = format!("{} has no coordinator for it: {code}", host(node));
            client.witness.note(client.actor, text);
            client.back_off().await;
            return None;
        }
        *coordinator = usize::try_from(response.node_id - 1).ok();
    }
    *coordinator
}

async fn commit(client: &mut ClusterClient, group: usize, node: usize, offset: i64) -> bool {
    let topic = client.plan.topics[0].name.as_str().into();
    let request = OffsetCommitRequest {
        group_id: name(group).into(),
        generation_id_or_member_epoch: -1,
        group_instance_id: None,
        topics: vec![OffsetCommitRequestTopic {
            name: topic,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: Some("".into()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let Some((response, sent)) = client.call(node, &request, COMMIT_VERSION).await else {
        return false;
    };
    let topic = response.topics.first();
    let answer = topic.and_then(|topic| topic.partitions.first());
    if answer.is_none_or(|answer| answer.error_code != 0) {
        return false;
    }
    let event = ClusterEvent::Committed {
        group,
        offset,
        sent,
    };
    client.witness.tell(client.actor, event);
    true
}

async fn fetch(client: &mut ClusterClient, group: usize, node: usize) -> bool {
    let topic = client.plan.topics[0].name.as_str().into();
    let request = OffsetFetchRequest {
        group_id: name(group).into(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: topic,
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    };
    let Some((response, asked)) = client.call(node, &request, FETCH_VERSION).await else {
        return false;
    };
    let topic = response.topics.first();
    let answer = topic.and_then(|topic| topic.partitions.first());
    let codes = answer.map(|answer| (response.error_code, answer.error_code));
    let Some(answer) = answer.filter(|_| codes == Some((0, 0))) else {
        let text = format!("{} tells no offset: {codes:?}", host(node));
        client.witness.note(client.actor, text);
        return false;
    };
    let event = ClusterEvent::FoundOffset {
        group,
        offset: answer.committed_offset,
        asked,
    };
    client.witness.tell(client.actor, event);
    true
}
