//! Changes whether, when and how a topic is compacted.
//!
//! Input: a topic of the plan whose policy changes. Output: IncrementalAlterConfigs, until it is
//! answered.
//!
//! Invariant: none; `invariants/last_values_stay.rs` judges.
//!
//! Source: KIP-71 (`compact,delete`).

use super::configs::{self, Operation};
use crate::client::Client;
use crate::plan::pick;

/// Draws the policy of some topic anew.
pub(super) async fn change(client: &mut Client) {
    let may_change = |topic: &usize| {
        let compaction = client.plan.topics[*topic].compaction;
        compaction.is_some_and(|compaction| compaction.is_changing)
            && configs::may_change(client, *topic)
    };
    let topics = 0..client.plan.topics.len();
    let candidates: Vec<usize> = topics.filter(may_change).collect();
    if candidates.is_empty() {
        return;
    }
    let topic = pick(&mut client.rng, &candidates);
    let name = client.plan.topics[topic].name.clone();
    let Some(compaction) = client.plan.topics[topic].compaction else {
        return;
    };
    let changes = compaction.changeable(&mut client.rng);
    let changes: Vec<_> = changes
        .into_iter()
        .map(|(key, value)| (key, Operation::Set, value))
        .collect();
    configs::alter(client, &name, &changes).await;
}
