//! The records of group coordinators against their schemas, and against bytes that Kafka's own
//! classes wrote, of version 4.1.1.

use bytes::Bytes;
use skein_protocol::messages::coordinator_records::{
    GroupMetadataKey, GroupMetadataValue, MemberMetadata, OffsetCommitKey, OffsetCommitValue,
};
use skein_protocol::{GroupRecord, Message, messages};
use skein_types::Uuid;

use crate::generate::{Generator, Rng, Schemas, Shape};
use crate::metadata_records::decode;

/// Random records of each type and version.
const CASES: u64 = 100;

#[test]
fn every_version_of_every_key_and_value_round_trips() {
    let schemas = Schemas::load();
    macro_rules! check_message {
        ($module:ident, $name:ident) => {
            crate::metadata_records::check::<messages::$module::$name>(&schemas);
        };
    }
    skein_protocol::for_each_coordinator_message!(check_message);
}

#[test]
fn random_records_survive_the_version_that_is_written() {
    let schemas = Schemas::load();
    fn random<M: Message>(schemas: &Schemas, version: i16, seed: u64) -> M {
        let generator = Generator {
            message: schemas.message(M::NAME),
            version,
            rng: Rng(seed),
            shape: Shape::Random,
        };
        decode::<M>(&Bytes::from(generator.bytes()), version)
    }
    for seed in 0..CASES {
        let value = random::<GroupMetadataValue>(&schemas, 3, seed);
        let key = random::<GroupMetadataKey>(&schemas, 2, seed);
        round_trips(GroupRecord::GroupMetadata(key, Some(value)));
        let key = random::<OffsetCommitKey>(&schemas, 1, seed);
        let value = random::<OffsetCommitValue>(&schemas, 4, seed);
        round_trips(GroupRecord::OffsetCommit(key.clone(), Some(value)));
        let mut value = random::<OffsetCommitValue>(&schemas, 1, seed);
        value.expire_timestamp = value.expire_timestamp.max(0);
        round_trips(GroupRecord::OffsetCommit(key, Some(value)));
    }
}

fn round_trips(record: GroupRecord) {
    let (key, value) = record.encode().unwrap();
    assert_eq!(GroupRecord::decode(&key, value.as_ref()), Ok(record));
}

fn bytes(hex: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Both ways.
fn golden(record: GroupRecord, key: &str, value: Option<&str>) {
    let encoded = (bytes(key), value.map(bytes));
    assert_eq!(record.encode().unwrap(), encoded);
    reads(&record, key, value);
}

fn reads(record: &GroupRecord, key: &str, value: Option<&str>) {
    let value = value.map(bytes);
    let decoded = GroupRecord::decode(&bytes(key), value.as_ref()).unwrap();
    assert_eq!(decoded, *record);
}

const OFFSET_KEY: &str = "000100077265616465727300066f726465727300000003";
const GROUP_KEY: &str = "0002000772656164657273";

/// With what the versions lack or not.
fn offset(leader_epoch: i32, expire_timestamp: i64, metadata: &str, topic_id: Uuid) -> GroupRecord {
    let key = OffsetCommitKey {
        group: "readers".into(),
        topic: "orders".into(),
        partition: 3,
    };
    let value = OffsetCommitValue {
        offset: 42,
        leader_epoch,
        metadata: metadata.into(),
        commit_timestamp: 1_700_000_000_000,
        expire_timestamp,
        topic_id,
    };
    GroupRecord::OffsetCommit(key, Some(value))
}

#[test]
fn commits_are_kafkas() {
    let hex = "0004000000000000002a00000005056d61726b0000018bcfe5680000";
    golden(offset(5, -1, "mark", Uuid::ZERO), OFFSET_KEY, Some(hex));
    let hex = "0004000000000000002a00000005056d61726b0000018bcfe56800\
               01001001020304050607081112131415161718";
    let topic_id = Uuid([
        1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
    ]);
    golden(offset(5, -1, "mark", topic_id), OFFSET_KEY, Some(hex));
    // One that says when it expires has no room for a leader epoch, nor for an id.
    let hex = "0001000000000000002a00000000018bcfe568000000018bcfe65260";
    let expiring = offset(-1, 1_700_000_060_000, "", Uuid::ZERO);
    golden(expiring, OFFSET_KEY, Some(hex));
    for (leader_epoch, hex) in [
        (-1, "0000000000000000002a00046d61726b0000018bcfe56800"),
        (
            -1,
            "0001000000000000002a00046d61726b0000018bcfe56800ffffffffffffffff",
        ),
        (-1, "0002000000000000002a00046d61726b0000018bcfe56800"),
        (
            5,
            "0003000000000000002a0000000500046d61726b0000018bcfe56800",
        ),
    ] {
        let read = offset(leader_epoch, -1, "mark", Uuid::ZERO);
        reads(&read, OFFSET_KEY, Some(hex));
    }
    let GroupRecord::OffsetCommit(key, _) = offset(5, -1, "mark", Uuid::ZERO) else {
        unreachable!("a commit");
    };
    golden(GroupRecord::OffsetCommit(key, None), OFFSET_KEY, None);
}

/// With what the first versions lack or not.
fn group(timestamp: i64, rebalance_timeout: i32, instance: Option<&str>) -> GroupRecord {
    let member = MemberMetadata {
        member_id: "c-1".into(),
        group_instance_id: instance.map(Into::into),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout,
        session_timeout: 10_000,
        subscription: Bytes::from_static(&[0, 1, 0, 0, 0, 0]),
        assignment: Bytes::from_static(&[7]),
    };
    let value = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 2,
        protocol: Some("range".into()),
        leader: Some("c-1".into()),
        current_state_timestamp: timestamp,
        members: vec![member],
    };
    GroupRecord::GroupMetadata(group_key(), Some(value))
}

fn group_key() -> GroupMetadataKey {
    GroupMetadataKey {
        group: "readers".into(),
    }
}

const TIMESTAMP: i64 = 1_700_000_000_000;

#[test]
fn groups_are_kafkas() {
    let hex = "00030008636f6e73756d657200000002000572616e67650003632d310000018bcfe5680000000001000363\
               2d31000169000163000a2f3132372e302e302e310000ea600000271000000006000100000000000000\
               0107";
    golden(group(TIMESTAMP, 60_000, Some("i")), GROUP_KEY, Some(hex));
    let hex = "00000008636f6e73756d657200000002000572616e67650003632d31000000010003632d31000163000a2f\
               3132372e302e302e3100002710000000060001000000000000000107";
    reads(&group(-1, -1, None), GROUP_KEY, Some(hex));
    let hex = "00010008636f6e73756d657200000002000572616e67650003632d31000000010003632d31000163000a2f\
               3132372e302e302e310000ea6000002710000000060001000000000000000107";
    reads(&group(-1, 60_000, None), GROUP_KEY, Some(hex));
    let hex = "00020008636f6e73756d657200000002000572616e67650003632d310000018bcfe5680000000001000363\
               2d31000163000a2f3132372e302e302e310000ea6000002710000000060001000000000000000107";
    reads(&group(TIMESTAMP, 60_000, None), GROUP_KEY, Some(hex));
    let hex = "000409636f6e73756d6572000000020672616e676504632d310000018bcfe568000204632d31026902630b\
               2f3132372e302e302e310000ea60000027100700010000000002070000";
    reads(&group(TIMESTAMP, 60_000, Some("i")), GROUP_KEY, Some(hex));
}

#[test]
fn groups_without_members_and_tombstones_are_kafkas() {
    let hex = "0003000000000000ffffffff0000018bcfe5680000000000";
    let value = GroupMetadataValue {
        protocol: None,
        leader: None,
        current_state_timestamp: TIMESTAMP,
        ..GroupMetadataValue::default()
    };
    golden(
        GroupRecord::GroupMetadata(group_key(), Some(value)),
        GROUP_KEY,
        Some(hex),
    );
    golden(
        GroupRecord::GroupMetadata(group_key(), None),
        GROUP_KEY,
        None,
    );
}
