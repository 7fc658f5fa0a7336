//! Requests whose single fields have values that nobody gives a meaning to.
//!
//! Input: an isolation level, an election, a kind of coordinator that there is not; names that are
//! no text, and numbers with a zero too many. Output: Kafka's codes and fields.

use skein_tests::wire::{Connection, Frame, Member, api, error};
use skein_tests::{Node, System, on_both};

use super::{SET, alter, assert_serves, connect, create};

on_both!(
    an_isolation_level_that_there_is_not_is_an_error_of_each_partition,
    an_election_of_no_partitions_is_none_whatever_its_type,
    an_election_of_an_unknown_type_is_refused,
    a_coordinator_of_an_unknown_kind_is_an_invalid_request,
    a_brokers_number_may_have_zeros_in_front,
    what_is_no_text_in_a_name_is_replaced,
);

/// What Java, and Rust, put in the place of bytes that are not UTF-8.
const REPLACED: &str = "a\u{fffd}b";
const NO_TEXT: [u8; 3] = [b'a', 0xff, b'b'];

fn an_isolation_level_that_there_is_not_is_an_error_of_each_partition(system: System) {
    let topic = create(system, &[]);
    let ask = |isolation_level| {
        let body = Frame::new().i32(-1).i8(isolation_level).i32(1);
        let body = body.string(&topic).i32(1).i32(0).i32(-1).i64(-1);
        let mut answer = connect(system).call(api::LIST_OFFSETS, 4, &body).unwrap();
        answer.i32();
        assert_eq!(answer.i32(), 1, "topics");
        answer.string();
        assert_eq!((answer.i32(), answer.i32()), (1, 0), "partitions");
        let error_code = answer.i16();
        answer.i64();
        (error_code, answer.i64())
    };
    assert_eq!(ask(0), (error::NONE, 0));
    assert_eq!(ask(1), (error::NONE, 0));
    for unknown in [2, 127, -1] {
        assert_eq!(ask(unknown), (error::UNKNOWN_SERVER_ERROR, -1));
    }
    assert_serves(system);
}

/// ElectLeaders version 1: the error code, and how many topics are answered.
fn elect(system: System, election_type: i8, topics: &[&str]) -> (i16, i32) {
    let count = i32::try_from(topics.len()).unwrap();
    let mut body = Frame::new().i8(election_type).i32(count);
    for topic in topics {
        body = body.string(topic).i32(1).i32(0);
    }
    let mut connection = connect(system);
    let mut answer = connection
        .call(api::ELECT_LEADERS, 1, &body.i32(10_000))
        .unwrap();
    answer.i32();
    (answer.i16(), answer.i32())
}

fn an_election_of_no_partitions_is_none_whatever_its_type(system: System) {
    for election_type in [0, 1, 2, -1] {
        assert_eq!(elect(system, election_type, &[]), (error::NONE, 0));
    }
}

fn an_election_of_an_unknown_type_is_refused(system: System) {
    let topic = create(system, &[]);
    assert_eq!(elect(system, 2, &[&topic]).0, error::INVALID_REQUEST);
}

fn a_coordinator_of_an_unknown_kind_is_an_invalid_request(system: System) {
    // The second is that of share groups, which version 3 does not know.
    for kind in [-1, 2, 3, 127] {
        let body = Frame::new().uvarint(0).compact_string("key").i8(kind);
        let mut answer = connect(system)
            .call(api::FIND_COORDINATOR, 3, &body.uvarint(0))
            .unwrap();
        answer.tags();
        answer.i32();
        assert_eq!(answer.i16(), error::INVALID_REQUEST, "{kind}");
        answer.compact_string();
        assert_eq!(answer.i32(), -1, "no node");
    }
}

fn a_brokers_number_may_have_zeros_in_front(system: System) {
    const BROKER: i8 = 4;
    const RETENTION: &str = "log.retention.ms";
    let mut connection = connect(system);
    for name in ["1", "01", "+1"] {
        let mut set = |value| alter(&mut connection, BROKER, name, RETENTION, SET, Some(value));
        assert_eq!(set("604800000"), error::NONE, "{name}");
        assert_eq!(set("x"), error::INVALID_REQUEST, "{name}");
        let body = Frame::new().i32(1).i8(BROKER).string(name).i32(1);
        let body = body.string("node.id").i8(0).i8(0);
        let mut answer = connection.call(api::DESCRIBE_CONFIGS, 3, &body).unwrap();
        answer.i32();
        assert_eq!((answer.i32(), answer.i16()), (1, error::NONE), "{name}");
        answer.string();
        answer.i8();
        assert_eq!(answer.string().as_deref(), Some(name));
    }
    let code = alter(&mut connection, BROKER, "1x", RETENTION, SET, Some("1"));
    assert_eq!(code, error::INVALID_REQUEST);
}

fn what_is_no_text_in_a_name_is_replaced(system: System) {
    let mut member = Member::connect(Node::shared(system).ports().client, REPLACED).unwrap();
    member.wait_for_coordinator().unwrap();
    let mut connection = connect(system);
    let body = Frame::new().i32(1).i16(3).raw(&NO_TEXT);
    let mut answer = connection.call(api::DESCRIBE_GROUPS, 0, &body).unwrap();
    assert_eq!((answer.i32(), answer.i16()), (1, error::NONE));
    assert_eq!(answer.string().as_deref(), Some(REPLACED));
    assert_eq!(answer.string().as_deref(), Some("Dead"));
    // A topic of such a name there is not, and never will be.
    let body = Frame::new().i32(1).i16(3).raw(&NO_TEXT);
    let mut answer = connection.call(api::METADATA, 1, &body).unwrap();
    assert_eq!(answer.i32(), 1, "brokers");
    assert!(answer.remaining() > 0);
    assert_serves(system);
}

/// FindCoordinator version 1, for transactions.
#[test]
fn whoever_asks_for_transactions_is_told_at_once_that_there_are_none() {
    let mut connection = Connection::open(Node::shared(System::Skein).ports().client).unwrap();
    let body = Frame::new().string("tx").i8(1);
    let mut answer = connection.call(api::FIND_COORDINATOR, 1, &body).unwrap();
    answer.i32();
    let unauthorized = error::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    assert_eq!(answer.i16(), unauthorized);
    let message = answer.string().unwrap();
    assert!(message.contains("transactional.id"), "{message}");
    let body = Frame::new().string("tx").i32(60_000);
    let mut answer = connection.call(api::INIT_PRODUCER_ID, 0, &body).unwrap();
    answer.i32();
    assert_eq!((answer.i16(), answer.i64()), (unauthorized, -1));
}
