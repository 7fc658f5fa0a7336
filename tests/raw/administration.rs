//! What operators ask of the logs, the leaders and the quorum.
//!
//! Input: well-formed requests, for what is there and for what is not. Output: Kafka's codes and
//! fields.

use skein_tests::wire::{Answer, Batch, Frame, api, error};
use skein_tests::{Node, System, on_both};

use super::{assert_serves, connect, create};

on_both!(
    log_dirs_tell_the_partitions_that_are_there,
    producers_are_told_with_their_last_sequences,
    an_election_that_nobody_needs_is_told_so,
    elections_are_refused_with_kafkas_codes,
    the_quorum_is_the_metadata_log_and_nothing_else,
    features_that_nobody_has_are_not_updated,
);

const UNKNOWN: i16 = error::UNKNOWN_TOPIC_OR_PARTITION;

/// One partition as DescribeLogDirs tells it.
type Size = (String, i32, i64);

/// The body of a DescribeLogDirs in a version of 1 to 4.
fn log_dirs_body(version: i16, asked: Option<&[(&str, &[i32])]>) -> Frame {
    let is_flexible = version >= 2;
    let length = |frame: Frame, length: Option<usize>| match (is_flexible, length) {
        (true, Some(length)) => frame.compact_length(length),
        (true, None) => frame.uvarint(0),
        (false, length) => frame.i32(length.map_or(-1, |length| i32::try_from(length).unwrap())),
    };
    let tags = |frame: Frame| if is_flexible { frame.uvarint(0) } else { frame };
    let mut body = length(tags(Frame::new()), asked.map(<[_]>::len));
    for (topic, partitions) in asked.unwrap_or_default() {
        body = if is_flexible {
            body.compact_string(topic)
        } else {
            body.string(topic)
        };
        body = length(body, Some(partitions.len()));
        for partition in *partitions {
            body = body.i32(*partition);
        }
        body = tags(body);
    }
    tags(body)
}

/// DescribeLogDirs in a version of 1 to 4: the directory, and the sizes of its partitions.
fn log_dirs(at: System, version: i16, asked: Option<&[(&str, &[i32])]>) -> (String, Vec<Size>) {
    let is_flexible = version >= 2;
    let body = log_dirs_body(version, asked);
    let mut answer = connect(at)
        .call(api::DESCRIBE_LOG_DIRS, version, &body)
        .unwrap();
    let skip = |answer: &mut Answer| {
        if is_flexible {
            answer.tags()
        }
    };
    let count = |answer: &mut Answer| {
        if is_flexible {
            answer.compact_length()
        } else {
            usize::try_from(answer.i32()).unwrap()
        }
    };
    let text = |answer: &mut Answer| {
        if is_flexible {
            answer.compact_string()
        } else {
            answer.string()
        }
        .unwrap()
    };
    skip(&mut answer);
    answer.i32();
    if version >= 3 {
        assert_eq!(answer.i16(), error::NONE);
    }
    assert_eq!(
        (count(&mut answer), answer.i16()),
        (1, error::NONE),
        "one directory"
    );
    let directory = text(&mut answer);
    let mut sizes = Vec::new();
    for _ in 0..count(&mut answer) {
        let topic = text(&mut answer);
        for _ in 0..count(&mut answer) {
            sizes.push((topic.clone(), answer.i32(), answer.i64()));
            assert_eq!((answer.i64(), answer.i8()), (0, 0), "no lag, no future log");
            skip(&mut answer);
        }
        skip(&mut answer);
    }
    if version >= 4 {
        let (total, usable) = (answer.i64(), answer.i64());
        assert!(0 < usable && usable <= total, "{usable} of {total}");
    }
    skip(&mut answer);
    skip(&mut answer);
    assert_eq!(answer.remaining(), 0);
    sizes.sort();
    (directory, sizes)
}

fn log_dirs_tell_the_partitions_that_are_there(system: System) {
    let topic = &create(system, &[]);
    let batch = Batch::of(["one", "two"]).encode();
    connect(system).produce(topic, 0, &batch).unwrap();
    let size = (topic.clone(), 0, i64::try_from(batch.len()).unwrap());
    let data = Node::shared(system).data_directory().display().to_string();
    for version in 1..=4 {
        let asked: &[(&str, &[i32])] = &[
            (topic, &[0, 0, 7, -1]),
            (topic, &[0]),
            ("raw-absent", &[0]),
            ("a/b", &[0]),
        ];
        let told = log_dirs(system, version, Some(asked));
        assert_eq!(told, (data.clone(), vec![size.clone()]), "{version}");
        let all = log_dirs(system, version, None).1;
        assert!(all.contains(&size), "{all:?}");
        assert_eq!(log_dirs(system, version, Some(&[])).1, []);
        assert_eq!(log_dirs(system, version, Some(&[(topic, &[])])).1, []);
    }
}

/// Id, epoch, last sequence, last timestamp, coordinator's epoch, start of the transaction.
type Producer = (i64, i32, i32, i64, i32, i64);

/// DescribeProducers of one partition, version 0.
fn producers(at: System, topic: &str, partition: i32) -> (i16, Vec<Producer>) {
    let body = Frame::new()
        .uvarint(0)
        .compact_length(1)
        .compact_string(topic);
    let body = body.compact_length(1).i32(partition).uvarint(0).uvarint(0);
    let mut answer = connect(at).call(api::DESCRIBE_PRODUCERS, 0, &body).unwrap();
    answer.tags();
    answer.i32();
    assert_eq!(answer.compact_length(), 1);
    assert_eq!(answer.compact_string().as_deref(), Some(topic));
    assert_eq!((answer.compact_length(), answer.i32()), (1, partition));
    let code = answer.i16();
    answer.compact_string();
    let count = answer.compact_length();
    let producers = (0..count)
        .map(|_| {
            let (id, epoch, sequence) = (answer.i64(), answer.i32(), answer.i32());
            let told = (
                id,
                epoch,
                sequence,
                answer.i64(),
                answer.i32(),
                answer.i64(),
            );
            answer.tags();
            told
        })
        .collect();
    (code, producers)
}

fn producers_are_told_with_their_last_sequences(system: System) {
    let topic = &create(system, &[]);
    assert_eq!(producers(system, topic, 0), (error::NONE, vec![]));
    let (producer_id, producer_epoch) = connect(system).init_producer_id().unwrap();
    let mut timestamp = 0;
    for base_sequence in [0, 2] {
        let mut batch = Batch::of(["one", "two"]);
        (batch.producer_id, batch.producer_epoch) = (producer_id, producer_epoch);
        batch.base_sequence = base_sequence;
        timestamp = batch.base_timestamp;
        let produced = connect(system).produce(topic, 0, &batch.encode()).unwrap();
        assert_eq!(produced.error_code, error::NONE);
    }
    let expected = (producer_id, i32::from(producer_epoch), 3, timestamp, -1, -1);
    assert_eq!(producers(system, topic, 0), (error::NONE, vec![expected]));
    for (topic, partition, code) in [
        (topic.as_str(), 1, UNKNOWN),
        (topic, -1, UNKNOWN),
        ("raw-absent", 0, UNKNOWN),
        ("a/b", 0, error::INVALID_TOPIC_EXCEPTION),
        ("", 0, error::INVALID_TOPIC_EXCEPTION),
    ] {
        assert_eq!(
            producers(system, topic, partition),
            (code, vec![]),
            "{topic:?} {partition}"
        );
    }
    assert_serves(system);
}

/// The topics of an answer to ElectLeaders: topic, partition, error code.
type Elected = Vec<(String, i32, i16)>;

/// ElectLeaders, version 1, for some partitions or for all: error code, results.
fn elect(
    at: System,
    kind: i8,
    asked: Option<&[(&str, &[i32])]>,
    timeout_ms: i32,
) -> (i16, Elected) {
    let count = asked.map_or(-1, |topics| i32::try_from(topics.len()).unwrap());
    let mut body = Frame::new().i8(kind).i32(count);
    for (topic, partitions) in asked.unwrap_or_default() {
        body = body
            .string(topic)
            .i32(i32::try_from(partitions.len()).unwrap());
        for partition in *partitions {
            body = body.i32(*partition);
        }
    }
    let body = body.i32(timeout_ms);
    let mut answer = connect(at).call(api::ELECT_LEADERS, 1, &body).unwrap();
    answer.i32();
    let code = answer.i16();
    let mut elected = Vec::new();
    for _ in 0..answer.i32() {
        let topic = answer.string().unwrap();
        for _ in 0..answer.i32() {
            elected.push((topic.clone(), answer.i32(), answer.i16()));
            answer.string();
        }
    }
    assert_eq!(answer.remaining(), 0);
    (code, elected)
}

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
const TIMEOUT_MS: i32 = 5_000;

fn an_election_that_nobody_needs_is_told_so(system: System) {
    let topic = &create(system, &[]);
    for kind in [PREFERRED, UNCLEAN] {
        let asked: &[(&str, &[i32])] = &[(topic, &[0, 0])];
        let not_needed = (topic.clone(), 0, error::ELECTION_NOT_NEEDED);
        let expected = (error::NONE, vec![not_needed.clone(), not_needed]);
        assert_eq!(elect(system, kind, Some(asked), TIMEOUT_MS), expected);
        assert_eq!(
            elect(system, kind, Some(&[]), TIMEOUT_MS),
            (error::NONE, vec![])
        );
        // Of all partitions only those are told that needed one.
        assert_eq!(elect(system, kind, None, TIMEOUT_MS), (error::NONE, vec![]));
    }
}

fn elections_are_refused_with_kafkas_codes(system: System) {
    let topic = &create(system, &[]);
    for (name, partition) in [
        (topic.as_str(), 1),
        (topic, -1),
        ("raw-absent", 0),
        ("a/b", 0),
    ] {
        let expected = (error::NONE, vec![(name.to_owned(), partition, UNKNOWN)]);
        let partitions: &[i32] = &[partition];
        let asked = &[(name, partitions)][..];
        assert_eq!(elect(system, PREFERRED, Some(asked), TIMEOUT_MS), expected);
        assert_eq!(elect(system, UNCLEAN, Some(asked), TIMEOUT_MS), expected);
    }
    let one: &[(&str, &[i32])] = &[(topic, &[0])];
    for kind in [-1, 2, 5] {
        let code = error::INVALID_REQUEST;
        let expected = (code, vec![(topic.clone(), 0, code)]);
        assert_eq!(elect(system, kind, Some(one), TIMEOUT_MS), expected);
        assert_eq!(elect(system, kind, None, TIMEOUT_MS), (code, vec![]));
    }
    for timeout_ms in [0, -1] {
        let code = error::REQUEST_TIMED_OUT;
        let expected = (code, vec![(topic.clone(), 0, code)]);
        assert_eq!(elect(system, PREFERRED, Some(one), timeout_ms), expected);
    }
    assert_serves(system);
}

/// DescribeQuorum of partitions of one topic in a version of 0 to 2: error codes and leaders, and
/// the ids of the voters.
fn quorum(at: System, version: i16, topic: &str, partitions: &[i32]) -> Vec<(i16, i32, Vec<i32>)> {
    let mut body = Frame::new()
        .uvarint(0)
        .compact_length(1)
        .compact_string(topic);
    body = body.compact_length(partitions.len());
    for partition in partitions {
        body = body.i32(*partition).uvarint(0);
    }
    let body = body.uvarint(0).uvarint(0);
    let mut answer = connect(at)
        .call(api::DESCRIBE_QUORUM, version, &body)
        .unwrap();
    answer.tags();
    assert_eq!(answer.i16(), error::NONE);
    let message = |answer: &mut Answer| {
        if version >= 2 {
            answer.compact_string();
        }
    };
    message(&mut answer);
    assert_eq!(answer.compact_length(), 1);
    assert_eq!(answer.compact_string().as_deref(), Some(topic));
    let count = answer.compact_length();
    let mut nodes = 0;
    let told = (0..count).map(|_| {
        answer.i32();
        let code = answer.i16();
        message(&mut answer);
        let (leader, epoch, high_watermark) = (answer.i32(), answer.i32(), answer.i64());
        let voters = replicas(&mut answer, version, high_watermark);
        assert_eq!(
            replicas(&mut answer, version, high_watermark),
            [],
            "no observers"
        );
        answer.tags();
        if code == error::NONE {
            assert!(epoch > 0 && high_watermark > 0, "{epoch}, {high_watermark}");
            nodes = 1;
        }
        (code, leader, voters)
    });
    let told = told.collect();
    answer.tags();
    if version >= 2 {
        assert_eq!(answer.compact_length(), nodes, "where the voters are");
    }
    told
}

fn replicas(answer: &mut Answer, version: i16, high_watermark: i64) -> Vec<i32> {
    let count = answer.compact_length();
    let ids = (0..count).map(|_| {
        let id = answer.i32();
        if version >= 2 {
            assert_eq!(answer.raw(16), [0; 16], "no directory id");
        }
        assert!(answer.i64() >= high_watermark, "its log's end");
        if version >= 1 {
            assert!(
                answer.i64() > 0 && answer.i64() > 0,
                "a leader is caught up"
            );
        }
        answer.tags();
        id
    });
    ids.collect()
}

fn the_quorum_is_the_metadata_log_and_nothing_else(system: System) {
    const LOG: &str = "__cluster_metadata";
    let topic = create(system, &[]);
    for version in 0..=2 {
        let ask = |topic: &str, partitions: &[i32]| quorum(system, version, topic, partitions);
        assert_eq!(ask(LOG, &[0]), [(error::NONE, 1, vec![1])], "{version}");
        let unknown = (UNKNOWN, 0, vec![]);
        assert_eq!(ask(LOG, &[1]), vec![unknown.clone()]);
        assert_eq!(ask(LOG, &[0, 0]), [unknown.clone(), unknown.clone()]);
        assert_eq!(ask(&topic, &[0]), [unknown]);
        assert_eq!(ask(LOG, &[]), []);
    }
}

/// UpdateFeatures, version 1: the error code and the number of results.
fn update(at: System, updates: &[(&str, i16, i8)]) -> (i16, usize) {
    let mut body = Frame::new()
        .uvarint(0)
        .i32(TIMEOUT_MS)
        .compact_length(updates.len());
    for (feature, level, kind) in updates {
        body = body
            .compact_string(feature)
            .i16(*level)
            .i8(*kind)
            .uvarint(0);
    }
    let body = body.i8(0).uvarint(0);
    let mut answer = connect(at).call(api::UPDATE_FEATURES, 1, &body).unwrap();
    answer.tags();
    answer.i32();
    let code = answer.i16();
    assert_eq!(
        answer.compact_string().is_some(),
        code != error::NONE,
        "a message"
    );
    (code, answer.compact_length())
}

fn features_that_nobody_has_are_not_updated(system: System) {
    let refused = (error::INVALID_UPDATE_VERSION, 0);
    for one in [
        ("no.such.feature", 1, 1),
        ("", 1, 1),
        ("no.such.feature", 0, 2),
        ("no.such.feature", -1, 3),
        ("share.version", 1, 2),
        ("share.version", 0, 9),
        ("metadata.version", 0, 3),
        ("group.version", 100, 1),
        ("group.version", 1, 9),
    ] {
        assert_eq!(update(system, &[one]), refused, "{one:?}");
    }
    assert_eq!(update(system, &[]), (error::NONE, 0));
    // What a cluster does without can be taken away, whatever the direction is called.
    for feature in ["share.version", "streams.version", "kraft.version"] {
        for kind in 1..=3 {
            let granted = update(system, &[(feature, 0, kind)]);
            assert_eq!(granted, (error::NONE, 1), "{feature} {kind}");
        }
    }
    let one_bad = [("share.version", 0, 1), ("no.such.feature", 0, 1)];
    assert_eq!(update(system, &one_bad), refused);
    assert_serves(system);
}
