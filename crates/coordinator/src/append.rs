//! How records become one batch of the log, and whether they fit into one.
//!
//! Input: the records of a step; how much the log takes at once. Output: the batch; or that there
//! is none, before anything is changed for it.
//!
//! Invariant: what [`fits`] makes a batch that is not larger than that.
//!
//! Source: `CoordinatorRuntime.append` of Kafka 4.1.1, which compares before it applies a record,
//! so that one request that asks for too much costs nobody else anything.

use skein_protocol::GroupRecord;
use skein_record::{BatchBuf, BatchBuilder, Codec};
use skein_types::Millis;

/// Bytes of a batch, and of each of its records, that are none of a string's or of what a member
/// brings: no fewer than there can be.
const BATCH_BYTES: usize = 61;
const RECORD_BYTES: usize = 128;

/// One batch of records; `None` if they are too large for one.
#[must_use]
pub fn batch_of(records: &[GroupRecord], now: Millis) -> Option<BatchBuf> {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in records {
        let (key, value) = record.encode().ok()?;
        builder
            .append(now, Some(&key), value.as_deref(), &[])
            .ok()?;
    }
    builder.build().ok()
}

/// Whether a log that takes `max_bytes` at once takes the records.
pub(crate) fn fits(records: &[GroupRecord], max_bytes: usize) -> bool {
    // Nearly all are so small that nobody has to encode them twice.
    bytes_at_most(records) <= max_bytes
        || batch_of(records, Millis(0)).is_some_and(|batch| batch.as_slice().len() <= max_bytes)
}

/// How many of the records go into the first batch, if they may go into several: as many as
/// certainly fit, and at least one.
pub(crate) fn first_piece(records: &[GroupRecord], max_bytes: usize) -> usize {
    let mut bytes = BATCH_BYTES;
    let fitting = records.iter().take_while(|record| {
        bytes = bytes.saturating_add(record_bytes_at_most(record));
        bytes <= max_bytes
    });
    fitting.count().max(1)
}

fn bytes_at_most(records: &[GroupRecord]) -> usize {
    let bytes = records.iter().map(record_bytes_at_most);
    bytes.fold(BATCH_BYTES, usize::saturating_add)
}

fn record_bytes_at_most(record: &GroupRecord) -> usize {
    let text = match record {
        GroupRecord::OffsetCommit(key, value) => {
            let metadata = value.as_ref().map_or(0, |value| value.metadata.len());
            key.group.len() + key.topic.len() + metadata
        }
        GroupRecord::GroupMetadata(key, value) => {
            let value = value.as_ref().map_or(0, |value| {
                let members = value.members.iter().map(|member| {
                    let instance = member.group_instance_id.as_ref();
                    RECORD_BYTES
                        + member.member_id.len()
                        + instance.map_or(0, |instance| instance.len())
                        + member.client_id.len()
                        + member.client_host.len()
                        + member.subscription.len()
                        + member.assignment.len()
                });
                value.protocol_type.len()
                    + value.protocol.as_ref().map_or(0, |name| name.len())
                    + value.leader.as_ref().map_or(0, |leader| leader.len())
                    + members.sum::<usize>()
            });
            key.group.len() + value
        }
    };
    RECORD_BYTES + text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use skein_protocol::Str;
    use skein_protocol::messages::coordinator_records::{
        GroupMetadataKey, GroupMetadataValue, MemberMetadata, OffsetCommitKey, OffsetCommitValue,
    };

    use super::*;

    fn commit(group: &str, metadata: Option<&str>) -> GroupRecord {
        let key = OffsetCommitKey {
            group: group.into(),
            topic: "topic".into(),
            partition: i32::MAX,
        };
        let value = metadata.map(|metadata| OffsetCommitValue {
            offset: i64::MAX,
            metadata: metadata.into(),
            commit_timestamp: i64::MAX,
            expire_timestamp: i64::MAX,
            ..OffsetCommitValue::default()
        });
        GroupRecord::OffsetCommit(key, value)
    }

    fn metadata(members: usize, text: &str) -> GroupRecord {
        let member = MemberMetadata {
            member_id: text.into(),
            group_instance_id: Some(text.into()),
            client_id: text.into(),
            client_host: text.into(),
            subscription: Bytes::copy_from_slice(text.as_bytes()),
            assignment: Bytes::copy_from_slice(text.as_bytes()),
            ..MemberMetadata::default()
        };
        let value = GroupMetadataValue {
            protocol_type: text.into(),
            protocol: Some(text.into()),
            leader: Some(text.into()),
            members: vec![member; members],
            ..GroupMetadataValue::default()
        };
        let key = GroupMetadataKey {
            group: Str::from(text),
        };
        GroupRecord::GroupMetadata(key, Some(value))
    }

    proptest! {
        #[test]
        fn no_batch_is_larger_than_was_thought(
            sizes in prop::collection::vec((0..200_usize, 0..4_usize), 1..40)
        ) {
            let records: Vec<GroupRecord> = sizes
                .iter()
                .enumerate()
                .map(|(at, &(size, members))| {
                    let text = "x".repeat(size);
                    match at % 3 {
                        0 => commit(&text, Some(&text)),
                        1 => commit(&text, None),
                        _ => metadata(members, &text),
                    }
                })
                .collect();
            let bytes = batch_of(&records, Millis(0)).unwrap().as_slice().len();
            prop_assert!(bytes <= bytes_at_most(&records));
            prop_assert!(fits(&records, bytes));
            prop_assert!(!fits(&records, bytes - 1));
            let mut rest = &records[..];
            while !rest.is_empty() {
                let count = first_piece(rest, 2_000);
                prop_assert!(count == 1 || fits(&rest[..count], 2_000));
                rest = &rest[count..];
            }
        }
    }
}
