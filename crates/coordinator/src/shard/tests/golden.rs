//! Bytes that Kafka 4.1.1 wrote: two groups with a member each, and what they have committed.
//!
//! `golden/` has the segment of `__consumer_offsets` of a broker that was stopped while members
//! were in the groups `goes-on` and `gone`: each joined as a client of JoinGroup 2, was given
//! `all`, and committed for two partitions of `codecs`.

use std::collections::BTreeMap;

use skein_record::Batches;

use super::*;

const SEGMENT: &[u8] = include_bytes!("golden/kafka-4.1.1-consumer-offsets.log");

const UNPACKED_MAX_BYTES: usize = 1 << 20;

/// Keys and values, in the order of the log.
fn records() -> Vec<(Bytes, Option<Bytes>)> {
    let mut records = Vec::new();
    for batch in Batches::new(SEGMENT) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        for record in &batch.records(UNPACKED_MAX_BYTES).unwrap() {
            let record = record.unwrap();
            let key = Bytes::copy_from_slice(record.key.unwrap());
            records.push((key, record.value.map(Bytes::copy_from_slice)));
        }
    }
    records
}

#[test]
fn what_kafka_wrote_is_read() {
    let mut s = Scenario::new();
    let mut shard = s.loading();
    for (key, value) in records() {
        let replayed = shard.replay(&key, value.as_ref(), None);
        assert_eq!(replayed, Ok(Replayed::Applied));
    }
    let mut effects = Vec::new();
    shard.loaded(Offset::ZERO, s.now(), &mut effects);
    s.shard = shard;
    for (id, offset) in [("goes-on", 7), ("gone", 9)] {
        let group = &s.shard.groups[id];
        let described = group.described();
        assert_eq!(described.group_state, "Stable");
        assert_eq!(described.protocol_type, "consumer");
        assert_eq!(described.protocol_data, "range");
        let [member] = &described.members[..] else {
            panic!("{described:?}");
        };
        assert_eq!(member.client_host, "/127.0.0.1");
        assert_eq!(member.member_assignment, "all");
        for partition in [0, 1] {
            let committed = group.offsets.get("codecs", partition).unwrap();
            assert_eq!(committed.offset, Offset(offset));
        }
        let (member_id, generation_id) = (member.member_id.clone(), group.generation_for_tests());
        let heartbeat = Request::Heartbeat(HeartbeatRequest {
            group_id: id.into(),
            generation_id,
            member_id,
            ..HeartbeatRequest::default()
        });
        assert!(s.ask(heartbeat).ends_with("ok"));
    }
}

#[test]
fn what_kafka_wrote_would_be_written_alike() {
    let s = Scenario::new();
    let mut shard = s.loading();
    let mut last = BTreeMap::new();
    for (key, value) in records() {
        let record = GroupRecord::decode(&key, value.as_ref()).unwrap();
        assert_eq!(record.encode().unwrap(), (key.clone(), value.clone()));
        shard.replay(&key, value.as_ref(), None).unwrap();
        last.insert(key, value);
    }
    for group in shard.groups.values() {
        let (key, value) = group.record().encode().unwrap();
        assert_eq!(last[&key], value, "{:?}", group.id());
    }
}
