//! What a Produce may carry, and what becomes of one that has no answer.

use bytes::Bytes;
use skein_protocol::messages::produce::TopicProduceData;
use skein_record::Codec;
use skein_types::ErrorCode;

use super::harness::{Node, TOPIC, batch, encode, produce_request};

/// Of the broker's limit on what one request may name.
const NAMED_MAX: usize = 200_000;

fn one() -> Option<Bytes> {
    Some(batch(Codec::None, 1, None, 10))
}

#[test]
fn acks_0_is_not_answered_and_an_error_closes_the_connection() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut client = node.connect();
    client.send(&encode(&produce_request(TOPIC, 0, 0, one()), 9));
    // The next answer is that of the next request.
    assert_eq!(client.produce(&produce_request(TOPIC, 0, 1, one())), (0, 1));
    let mut corrupt = batch(Codec::None, 1, None, 10).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    for wrong in [
        produce_request("none", 0, 0, one()),
        produce_request(TOPIC, 7, 0, one()),
        produce_request(TOPIC, 0, 0, None),
        produce_request(TOPIC, 0, 0, Some(corrupt.into())),
    ] {
        let mut client = node.connect();
        client.send(&encode(&wrong, 9));
        assert!(client.is_closed(), "{wrong:?}");
    }
    assert_eq!(client.produce(&produce_request(TOPIC, 0, 1, one())), (0, 2));
}

#[test]
fn null_records_are_refused_and_the_connection_goes_on() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut client = node.connect();
    for records in [None, Some(Bytes::new())] {
        let refused = client.produce(&produce_request(TOPIC, 0, 1, records));
        assert_eq!(refused, (ErrorCode::InvalidRecord.code(), -1));
    }
    assert_eq!(client.produce(&produce_request(TOPIC, 0, 1, one())), (0, 0));
}

#[test]
fn a_request_that_names_too_much_closes_the_connection() {
    let node = Node::start();
    let naming = |count: usize| {
        let mut request = produce_request("none", 0, 1, None);
        request.topic_data = vec![TopicProduceData::default(); count];
        encode(&request, 9)
    };
    let mut client = node.connect();
    assert!(client.ask(&naming(NAMED_MAX)) > NAMED_MAX);
    let mut client = node.connect();
    client.send(&naming(NAMED_MAX + 1));
    assert!(client.is_closed());
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key_packed_or_not() {
    let node = Node::start();
    node.create(TOPIC, 1, &[("cleanup.policy", "compact")]);
    node.create("other", 1, &[]);
    let mut client = node.connect();
    let mut offset = 0;
    for codec in [Codec::None, Codec::Lz4] {
        let keyless = produce_request(TOPIC, 0, 1, Some(batch(codec, 3, None, 50)));
        let refused = client.produce(&keyless);
        assert_eq!(refused, (ErrorCode::InvalidRecord.code(), -1), "{codec:?}");
        let keyed = produce_request(TOPIC, 0, 1, Some(batch(codec, 3, Some(b"key"), 50)));
        assert_eq!(client.produce(&keyed), (0, offset), "{codec:?}");
        offset += 3;
    }
    // Only there, and only what is compressed, is unpacked.
    assert_eq!(node.metric("skein_broker_decompressions_total"), 2);
    let elsewhere = produce_request("other", 0, 1, Some(batch(Codec::Lz4, 3, None, 50)));
    assert_eq!(client.produce(&elsewhere), (0, 0));
    assert_eq!(node.metric("skein_broker_decompressions_total"), 2);
}
