//! Bytes that Apache Kafka 4.1.1 wrote for messages that are spelt out here.
//!
//! They stand in for the oracle where it lacks a version, and vouch for both where it has it.

use bytes::Bytes;
use skein_protocol::messages::{
    fetch::{FetchPartition, FetchRequest, FetchTopic, ReplicaState},
    header::RequestHeader,
    init_producer_id::InitProducerIdRequest,
    metadata::{
        MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    },
    offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics},
};
use skein_protocol::{ApiKey, Decoder, Encoder, Message};
use skein_types::Uuid;

const ID: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

pub(crate) fn check<M: Message + PartialEq + std::fmt::Debug>(message: M, version: i16, hex: &str) {
    let golden: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let golden = Bytes::from(golden);
    let mut e = Encoder::new();
    message.encode(&mut e, version).unwrap();
    assert_eq!(e.finish().into_bytes(), Some(golden.clone()), "{}", M::NAME);
    let mut d = Decoder::new(&golden);
    assert_eq!(M::decode(&mut d, version).unwrap(), message, "{}", M::NAME);
    d.finish().unwrap();
}

#[test]
fn request_header() {
    let header = RequestHeader {
        request_api_key: ApiKey::ApiVersions.code(),
        request_api_version: 4,
        correlation_id: 1,
        client_id: Some("skein".into()),
    };
    check(header, 2, "00120004000000010005736b65696e00");
}

#[test]
fn offset_commit_with_topic_ids() {
    let partition = OffsetCommitRequestPartition {
        partition_index: 3,
        committed_offset: 42,
        committed_leader_epoch: 5,
        committed_metadata: Some("x".into()),
    };
    let topic = OffsetCommitRequestTopic {
        topic_id: ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 7,
        member_id: "m".into(),
        topics: vec![topic],
        ..Default::default()
    };
    check(
        request,
        10,
        "026700000007026d00020102030405060708090a0b0c0d0e0f100200000003000000000000002a\
         000000050278000000",
    );
}

#[test]
fn offset_fetch_with_topic_ids() {
    let topics = OffsetFetchRequestTopics {
        topic_id: ID,
        partition_indexes: vec![0, 1],
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: Some("m".into()),
        member_epoch: 9,
        topics: Some(vec![topics]),
    };
    let request = OffsetFetchRequest {
        groups: vec![group],
        require_stable: true,
        ..Default::default()
    };
    check(
        request,
        10,
        "020267026d00000009020102030405060708090a0b0c0d0e0f1003000000000000000100000100",
    );
}

#[test]
fn init_producer_id_with_two_phase_commit() {
    let request = InitProducerIdRequest {
        transactional_id: Some("t".into()),
        transaction_timeout_ms: 60_000,
        producer_id: 11,
        producer_epoch: 2,
        enable_2pc: true,
        keep_prepared_txn: true,
    };
    check(request, 6, "02740000ea60000000000000000b0002010100");
}

#[test]
fn fetch_with_tagged_fields() {
    let partition = FetchPartition {
        partition: 1,
        fetch_offset: 100,
        partition_max_bytes: 1 << 20,
        high_watermark: 99,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic_id: ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let request = FetchRequest {
        cluster_id: Some("c".into()),
        replica_state: ReplicaState {
            replica_id: 2,
            replica_epoch: 3,
        },
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![topic],
        ..Default::default()
    };
    check(
        request,
        18,
        "000001f4000000017fffffff0000000000ffffffff020102030405060708090a0b0c0d0e0f1002\
         00000001ffffffff0000000000000064ffffffffffffffffffffffff0010000001010800000000\
         000000630001010200020263010d00000002000000000000000300",
    );
}

#[test]
fn metadata_in_the_old_and_in_the_flexible_encoding() {
    let partition = MetadataResponsePartition {
        leader_id: 1,
        leader_epoch: -1,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        partitions: vec![partition],
        ..Default::default()
    };
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: "h".into(),
        port: 9092,
        ..Default::default()
    };
    let mut response = MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some("c".into()),
        controller_id: 1,
        topics: vec![topic],
        ..Default::default()
    };
    check(
        response.clone(),
        5,
        "00000000000000010000000100016800002384ffff000163000000010000000100000001740000\
         000001000000000000000000010000000100000001000000010000000100000000",
    );
    response.topics[0].topic_id = ID;
    response.topics[0].partitions[0].leader_epoch = 4;
    check(
        response,
        12,
        "000000000200000001026800002384000002630000000102000002740102030405060708090a0b\
         0c0d0e0f1000020000000000000000000100000004020000000102000000010100800000000000",
    );
}
