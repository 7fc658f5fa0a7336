//! Hides records from readers (`redacted.records`).
//!
//! Input: batches that were acknowledged. Output: marks, ordered and then answered; `hidden.rs`
//! judges what is read afterwards.
//!
//! Invariant: as that of `configs.rs`.
//!
//! Source: own design.

use super::configs::{self, Operation};
use crate::client::Client;
use crate::plan::pick;

/// Records that a run hides at most: a topic hides 1,024, and each costs its readers an unpacking.
const HIDDEN_MAX: usize = 40;

/// Hides a record, if there is one that may be hidden.
pub(super) async fn hide(client: &mut Client) {
    let mut candidates = client.witness.may_be_hidden();
    candidates.retain(|candidate| {
        let topic = client.plan.partition(candidate.partition).topic;
        configs::may_change(client, topic)
    });
    if candidates.is_empty() || client.witness.hidden_count() >= HIDDEN_MAX {
        return;
    }
    let candidate = pick(&mut client.rng, &candidates);
    let index = client.rng.between(1, u64::from(candidate.records - 1));
    let offset = candidate.offset_of(index);
    let plan = client.plan.partition(candidate.partition);
    let name = client.plan.topics[plan.topic].name.clone();
    client.witness.hide(candidate.partition, offset);
    let value = format!("{}:{offset}", plan.index);
    let changes = [("redacted.records", Operation::Append, value)];
    if configs::alter(client, &name, &changes).await {
        client.witness.is_hidden(candidate.partition, offset);
    }
}
