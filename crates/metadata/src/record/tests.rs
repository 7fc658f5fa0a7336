//! Golden bytes: what is written today is read for ever.

use super::*;
use crate::{Endpoint, LeaderRecoveryState};
use proptest::prelude::*;
use skein_types::{LeaderEpoch, PartitionEpoch, Uuid};

fn id(byte: u8) -> Uuid {
    Uuid([byte; 16])
}

fn brokers<const N: usize>(ids: [i32; N]) -> Vec<BrokerId> {
    ids.map(BrokerId).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The record's bytes are `golden` (blanks aside), and reading them gives the record.
#[track_caller]
fn check(record: &Record, golden: &str) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    let golden: String = golden.split_whitespace().collect();
    assert_eq!(hex(&bytes), golden, "the bytes of {record:?} have changed");
    assert_eq!(
        Record::decode(&bytes).unwrap(),
        (record.clone(), bytes.len())
    );
}

#[test]
fn cluster_v0() {
    check(
        &Record::Cluster {
            cluster_id: id(7).into(),
        },
        "0100000010000000 07070707070707070707070707070707 7bf53a53",
    );
}

#[test]
fn cluster_v1() {
    let cluster_id = "prod:1".parse().unwrap();
    check(
        &Record::Cluster { cluster_id },
        "010001000e000000 060000000000000070726f643a31 31834d77",
    );
}

#[test]
fn feature_v0() {
    check(
        &Record::Feature {
            name: "f.v".into(),
            level: 2,
        },
        "020000000d000000 0300000000000000662e760200 9c1c90ad",
    );
}

#[test]
fn broker_v0() {
    let broker = Broker {
        id: BrokerId(1),
        epoch: BrokerEpoch(9),
        incarnation: id(2),
        raft_id: 0x0102_0304_0506_0708,
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".into(),
            host: "h".into(),
            port: 9092,
            security_protocol: 3,
        }],
        rack: Some("r".into()),
        fenced: true,
        stopping: false,
    };
    check(
        &Record::Broker(broker),
        "0300000056000000 \
         0100000009000000000000000202020202020202020202020202020208070605 \
         0403020101000000000000000900000000000000504c41494e54455854010000 \
         00000000006884230300010100000000000000720100 \
         c8cb5139",
    );
}

#[test]
fn broker_state_v0() {
    let state = Record::BrokerState {
        id: BrokerId(1),
        epoch: BrokerEpoch(9),
        fenced: false,
        stopping: true,
    };
    check(
        &state,
        "040000000e000000 0100000009000000000000000001 48e11534",
    );
}

#[test]
fn remove_broker_v0() {
    check(
        &Record::RemoveBroker {
            id: BrokerId(1),
            epoch: BrokerEpoch(9),
        },
        "050000000c000000 010000000900000000000000 76511e23",
    );
}

#[test]
fn forget_member_v0() {
    let raft_id = 0x0102_0304_0506_0708;
    check(
        &Record::ForgetMember { raft_id },
        "0b00000008000000 0807060504030201 d9b2defc",
    );
}

#[test]
fn topic_v0() {
    check(
        &Record::Topic {
            id: id(3),
            name: TopicName::new("t.1").unwrap(),
        },
        "060000001b000000 030303030303030303030303030303030300000000000000742e31 ee8cf27f",
    );
}

#[test]
fn remove_topic_v0() {
    check(
        &Record::RemoveTopic { id: id(3) },
        "0700000010000000 03030303030303030303030303030303 ec751fdf",
    );
}

#[test]
fn partition_v0() {
    let partition = Partition {
        replicas: brokers([3, 1, 2]),
        isr: brokers([1]),
        elr: brokers([2, 3]),
        last_known: vec![],
        offline: vec![],
        leader: BrokerId(1),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(5),
        leader_recovery_state: LeaderRecoveryState::Recovering,
    };
    let record = Record::Partition {
        topic_id: id(3),
        index: PartitionIndex(6),
        partition,
    };
    check(
        &record,
        "0800000059000000 \
         0303030303030303030303030303030306000000030000000000000003000000 \
         0100000002000000010000000000000001000000020000000000000002000000 \
         03000000000000000000000001000000040000000500000001 \
         89f9142f",
    );
}

#[test]
fn partition_v1() {
    let partition = Partition {
        replicas: brokers([2, 1]),
        isr: vec![],
        elr: vec![],
        last_known: brokers([1]),
        offline: brokers([1, 2]),
        leader: BrokerId::NONE,
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(5),
        leader_recovery_state: LeaderRecoveryState::Recovered,
    };
    let record = Record::Partition {
        topic_id: id(3),
        index: PartitionIndex(6),
        partition,
    };
    check(
        &record,
        "080001005d000000 \
         0303030303030303030303030303030306000000020000000000000002000000 \
         0100000000000000000000000000000000000000010000000000000001000000 \
         ffffffff04000000050000000002000000000000000100000002000000 \
         fd80d1b4",
    );
}

#[test]
fn config_v0() {
    let resource = ConfigResource::topic(&TopicName::new("t").unwrap());
    check(
        &Record::Config {
            resource,
            key: "retention.ms".into(),
            value: Some("5".into()),
        },
        "0900000028000000 \
         020100000000000000740c00000000000000726574656e74696f6e2e6d730101 \
         0000000000000035 \
         e375fbe9",
    );
    let resource = ConfigResource::broker(Some(BrokerId(1)));
    check(
        &Record::Config {
            resource,
            key: "k".into(),
            value: None,
        },
        "0900000014000000 0401000000000000003101000000000000006b00 82ccacc7",
    );
}

#[test]
fn producer_ids_v0() {
    let block = Record::ProducerIds {
        broker_id: BrokerId(1),
        broker_epoch: BrokerEpoch(9),
        next_producer_id: ProducerId(1000),
    };
    check(
        &block,
        "0a00000014000000 010000000900000000000000e803000000000000 ed2c2646",
    );
}

#[test]
fn what_a_newer_release_wrote_is_refused_by_name() {
    let mut bytes = Vec::new();
    envelope::write(6, 1, &0_u8, RECORD_MAX_BYTES, &mut bytes).unwrap();
    assert!(matches!(
        Record::decode(&bytes),
        Err(EnvelopeError::Unknown {
            kind: 6,
            version: 1
        })
    ));
}

#[test]
fn a_record_over_its_limit_is_refused() {
    let resource = ConfigResource::broker(None);
    let value = Some("x".repeat(RECORD_MAX_BYTES));
    let record = Record::Config {
        resource,
        key: "k".into(),
        value,
    };
    assert!(matches!(
        record.encode(&mut Vec::new()),
        Err(EnvelopeError::TooLarge {
            max: RECORD_MAX_BYTES,
            ..
        })
    ));
}

#[test]
fn a_payload_that_breaks_a_rule_is_malformed() {
    let mut bytes = Vec::new();
    envelope::write(6, 0, &([0_u8; 16], "../up"), RECORD_MAX_BYTES, &mut bytes).unwrap();
    assert!(matches!(
        Record::decode(&bytes),
        Err(EnvelopeError::Malformed { kind: 6, .. })
    ));
}

proptest! {
    /// Payloads of every type with a right checksum: the decoder is reached, and does not panic.
    #[test]
    fn arbitrary_payloads_do_not_panic(
        kind in 0_u16..12,
        version in 0_u16..2,
        payload in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..200),
    ) {
        let envelope = envelope::Envelope { kind, version, payload: &payload };
        let _ = frozen::decode(&envelope);
    }
}
