//! Which offsets nobody will ask for any more.
//!
//! Input: a group, the time. Output: the partitions whose offsets have expired, and whether that
//! leaves nothing.
//!
//! ```text
//!  group                                    an offset expires `offsets.retention.minutes` after
//!  of simple clients, without members       its commit
//!  without members                          the last member went
//!  with members who say what they read      its commit, if nobody reads the topic
//!  with other members                       never
//! ```
//!
//! A commit of an old client may name its own time; then that counts.
//!
//! Invariant: an offset of a topic that a member may be reading, or that an open transaction has
//! too, does not expire.
//!
//! Source: `ClassicGroup.offsetExpirationCondition` and
//! `OffsetMetadataManager.cleanupExpiredOffsets` of Kafka 4.1.1; KIP-211.

use skein_protocol::Str;
use skein_types::Millis;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};

use super::CommittedOffset;
use crate::group::{ExpiryBase, Group};

/// The offsets of the group that have expired, `max` at most, and whether those are all it has.
pub(crate) fn expired(
    group: &Group,
    now: Millis,
    retention_ms: Millis,
    max: usize,
) -> (Vec<(Str, i32)>, bool) {
    let mut expired = Vec::new();
    if group.offsets.is_empty() {
        return (expired, true);
    }
    let Some(base) = group.expiry_base() else {
        return (expired, false);
    };
    let mut is_all = !group.offsets.has_open_transactions();
    for (topic, partition, offset) in group.offsets.iter() {
        let has_expired = has_expired(offset, base, now, retention_ms)
            && !is_read(group, topic)
            && !group.offsets.is_pending(topic, partition);
        if has_expired && expired.len() < max {
            expired.push((topic.clone(), partition));
        } else {
            is_all = false;
        }
    }
    (expired, is_all)
}

/// Whether a member may be reading the topic.
fn is_read(group: &Group, topic: &str) -> bool {
    #[cfg(feature = "mutations")]
    if mutation::has(Mutation::SubscribedOffsetsExpire) {
        return false;
    }
    group.is_subscribed_to(topic)
}

fn has_expired(offset: &CommittedOffset, base: ExpiryBase, now: Millis, retention: Millis) -> bool {
    if let Some(expire_timestamp) = offset.expire_timestamp {
        return now >= expire_timestamp;
    }
    let since = match base {
        ExpiryBase::Commit => offset.commit_timestamp,
        ExpiryBase::Empty(since) => since,
    };
    now.saturating_sub(since) >= retention
}
