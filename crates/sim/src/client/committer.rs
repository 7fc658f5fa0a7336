//! A client that keeps offsets in a group without being a member.
//!
//! Input: its group. Output: commits, fetches and deletions.
//!
//! Invariant: none; `invariants/committed_offsets.rs` judges.
//!
//! Source: consumers that assign partitions to themselves, and administrators.

use std::time::Duration;

use crate::client::{Client, groups};
use crate::event::GroupId;

/// The longest pause between two requests.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Commits, reads and deletes until it is told to settle.
pub(crate) async fn run(mut client: Client, group: GroupId) {
    let partitions: Vec<i32> = (0..client.plan.groups.partitions).collect();
    while !client.is_settling() {
        client.pause(PAUSE_MAX).await;
        let some = groups::some(&mut client, &partitions);
        match client.rng.below(24) {
            0..14 => {
                groups::commit(&mut client, group, None, &some).await;
            }
            14..21 => {
                groups::fetch(&mut client, group).await;
            }
            21 | 22 => groups::delete_offsets(&mut client, group, &some).await,
            _ => drop(groups::delete_group(&mut client, group).await),
        }
    }
}
