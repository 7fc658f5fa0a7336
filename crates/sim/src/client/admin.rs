//! The client that makes topics, and changes them while others use them.
//!
//! Input: the plan. Output: topics that are made, grown and deleted, and records that are deleted,
//! in spite of all faults.
//!
//! ```text
//!   make the first topic of each name
//!   again and again: delete a topic, make the next of its name │ add partitions
//!                    │ delete records │ change how a topic is compacted │ hide a record
//! ```
//!
//! Invariants:
//! - what is begun is brought to its end, and only then something else is begun;
//! - a request is announced to the invariants before it is sent, its success when it is answered.
//!
//! Source: KIP-4, KIP-107 (DeleteRecords), KIP-195 (CreatePartitions), KIP-339
//! (IncrementalAlterConfigs), KIP-516 (topic ids).

mod configs;
mod policies;
mod records;
mod redaction;
mod topics;

use crate::client::{Client, groups};
use crate::plan::pick;
use crate::topics::Phase;

/// What an admin does.
#[derive(Clone, Copy)]
enum Task {
    DeleteTopic,
    CreatePartitions,
    DeleteRecords,
    ChangePolicy,
    HideRecord,
}

/// Makes every topic that has no predecessor; then works until it is told to settle.
pub(crate) async fn run(mut client: Client) {
    for topic in 0..client.plan.topics.len() {
        if !client.plan.topics[topic].is_successor {
            topics::create(&mut client, topic).await;
        }
    }
    groups::prepare(&mut client).await;
    let plan = client.plan.admin;
    if plan.is_idle() {
        return;
    }
    let weights = [
        (plan.delete_topic, Task::DeleteTopic),
        (plan.create_partitions, Task::CreatePartitions),
        (plan.delete_records, Task::DeleteRecords),
        (plan.change_policy, Task::ChangePolicy),
        (plan.hide_record, Task::HideRecord),
    ];
    let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
    while !client.is_settling() {
        client.pause(plan.pause_max).await;
        let mut drawn = client.rng.below(total);
        let chosen = weights.iter().find(|(weight, _)| {
            let is_here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_here
        });
        match chosen {
            Some((_, Task::DeleteTopic)) => replace_topic(&mut client).await,
            Some((_, Task::CreatePartitions)) => grow(&mut client).await,
            Some((_, Task::DeleteRecords)) => records::delete(&mut client).await,
            Some((_, Task::ChangePolicy)) => policies::change(&mut client).await,
            Some((_, Task::HideRecord)) => redaction::hide(&mut client).await,
            None => {}
        }
    }
}

/// Deletes a topic for which there is another one to come, and makes that.
async fn replace_topic(client: &mut Client) {
    let plan = &client.plan;
    let can_go = |topic: &usize| {
        let next = plan.topics.get(topic + 1);
        client.witness.topic_phase(*topic) == Phase::Live && next.is_some_and(|t| t.is_successor)
    };
    let candidates: Vec<usize> = (0..plan.topics.len()).filter(can_go).collect();
    if candidates.is_empty() {
        return;
    }
    let topic = pick(&mut client.rng, &candidates);
    topics::delete(client, topic).await;
    if client.rng.chance(2) {
        client.pause(client.plan.admin.pause_max).await;
    }
    topics::create(client, topic + 1).await;
}

/// Gives a topic more partitions.
async fn grow(client: &mut Client) {
    let has_room = |topic: &usize| {
        client.witness.topic_phase(*topic) == Phase::Live
            && client.witness.partitions_of(*topic) < client.plan.topics[*topic].partitions_max
    };
    let candidates: Vec<usize> = (0..client.plan.topics.len()).filter(has_room).collect();
    if candidates.is_empty() {
        return;
    }
    let topic = pick(&mut client.rng, &candidates);
    topics::create_partitions(client, topic).await;
}
