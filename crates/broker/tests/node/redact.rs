//! Records that a topic hides: no reader gets them, and every reader gets all others.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skein_protocol::Records;
use skein_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchTopic, PartitionData, ReplicaState,
};
use skein_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use skein_record::{BatchBuilder, BatchHeader, Batches, Codec};
use skein_types::{ErrorCode, Millis, TopicId};

use crate::harness::{Client, Node, TOPIC, encode, produce_request};

const NEWEST_FETCH: i16 = 18;
/// First version that names topics by their ids.
const TOPIC_ID_VERSION: i16 = 13;
/// First version with a replica state in the place of a replica id.
const REPLICA_STATE_VERSION: i16 = 15;

const MAX_BYTES: usize = 1 << 24;

/// Records of each batch that [`write`] produces.
const RECORDS: i64 = 5;

/// How long a test waits for the cleaner.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a reader asks for.
#[derive(Clone, Copy)]
struct Ask {
    version: i16,
    topic_id: TopicId,
    offset: i64,
    max_bytes: i32,
    partition_max_bytes: i32,
    is_committed: bool,
    replica: i32,
    max_wait_ms: i32,
}

impl Ask {
    fn of(node: &Node) -> Self {
        let metadata = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(TOPIC.into()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        Self {
            version: NEWEST_FETCH,
            topic_id: node.connect().call(&metadata, 12).topics[0].topic_id,
            offset: 0,
            max_bytes: 10_000_000,
            partition_max_bytes: 10_000_000,
            is_committed: false,
            replica: -1,
            max_wait_ms: 0,
        }
    }

    fn request(&self) -> FetchRequest {
        let by_id = self.version >= TOPIC_ID_VERSION;
        let by_state = self.version >= REPLICA_STATE_VERSION;
        FetchRequest {
            replica_id: if by_state { -1 } else { self.replica },
            replica_state: ReplicaState {
                replica_id: if by_state { self.replica } else { -1 },
                ..Default::default()
            },
            min_bytes: 1,
            max_wait_ms: self.max_wait_ms,
            max_bytes: self.max_bytes,
            isolation_level: i8::from(self.is_committed),
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: if by_id { "".into() } else { TOPIC.into() },
                topic_id: if by_id { self.topic_id } else { TopicId::ZERO },
                partitions: vec![FetchPartition {
                    fetch_offset: self.offset,
                    partition_max_bytes: self.partition_max_bytes,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }
    }

    fn fetch(&self, client: &mut Client) -> PartitionData {
        let mut response = client.call(&self.request(), self.version);
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Every record up to `end`, by as many fetches as it takes; and all bytes that came.
    fn read(mut self, client: &mut Client, end: i64) -> (BTreeMap<i64, Vec<u8>>, Vec<u8>) {
        let (mut records, mut bytes) = (BTreeMap::new(), Vec::new());
        while self.offset < end {
            let partition = self.fetch(client);
            assert_eq!(partition.error_code, 0, "at {}", self.offset);
            let from = self.offset;
            let chunk = bytes_of(&partition);
            self.offset = decode(&chunk, from, &mut records);
            assert!(self.offset > from, "the reader does not come past {from}");
            bytes.extend_from_slice(&chunk);
        }
        (records, bytes)
    }
}

fn bytes_of(partition: &PartitionData) -> Bytes {
    match &partition.records {
        Some(Records::Bytes(bytes)) => bytes.clone(),
        _ => Bytes::new(),
    }
}

/// Adds the records from `from` on that a client takes from a response; returns its next offset.
fn decode(chunk: &[u8], from: i64, records: &mut BTreeMap<i64, Vec<u8>>) -> i64 {
    let mut next = from;
    for batch in Batches::new(chunk) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        for record in &batch.records(MAX_BYTES).unwrap() {
            let record = record.unwrap();
            if record.offset.0 >= from {
                let known = records.insert(record.offset.0, record.value.unwrap().to_vec());
                assert!(known.is_none(), "{:?} twice", record.offset);
            }
        }
        next = next.max(batch.header().next_offset().0);
    }
    next
}

/// A value that no compression finds again in another record, `bytes` long.
fn value(offset: i64, bytes: usize) -> Vec<u8> {
    let mut state = offset.cast_unsigned() ^ 0x5eed;
    let mut value = format!("record-{offset:06}:").into_bytes();
    while value.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        value.push(b'a' + u8::try_from(state >> 60).unwrap());
    }
    value
}

/// Produces a batch of records from offset `first` on.
fn write(node: &Node, codec: Codec, first: i64, bytes: usize) {
    let mut builder = BatchBuilder::new(codec);
    for offset in first..first + RECORDS {
        let at = Millis(1_700_000_000_000 + offset);
        let key = offset.to_string();
        builder
            .append(at, Some(key.as_bytes()), Some(&value(offset, bytes)), &[])
            .unwrap();
    }
    let batch = Bytes::from(builder.build().unwrap().into_inner());
    let request = produce_request(TOPIC, 0, -1, Some(batch));
    assert_eq!(node.connect().produce(&request), (0, first));
}

fn redact(node: &Node, offsets: &[i64]) {
    let items: Vec<_> = offsets.iter().map(|offset| format!("0:{offset}")).collect();
    node.alter_topic(TOPIC, "redacted.records", &items.join(","));
}

/// Checks that a reader from `ask.offset` to `end` gets everything but what is hidden.
fn check(node: &Node, ask: Ask, end: i64, hidden: &[i64], bytes: usize) {
    let (records, raw) = ask.read(&mut node.connect(), end);
    let expected: BTreeMap<_, _> = (ask.offset..end)
        .filter(|offset| !hidden.contains(offset))
        .map(|offset| (offset, value(offset, bytes)))
        .collect();
    assert_eq!(
        records, expected,
        "version {}, from {}",
        ask.version, ask.offset
    );
    for offset in hidden {
        let content = format!("record-{offset:06}:");
        let is_there = raw
            .windows(content.len())
            .any(|part| part == content.as_bytes());
        assert!(!is_there, "offset {offset} is on the wire");
    }
}

const HIDDEN: [i64; 11] = [
    0,  // the first of its batch
    7,  // in its middle
    14, // the last of its batch
    15, 16, 17, 18, 19, // a whole batch
    20, 24, // both ends
    32,
];

/// Batches of every codec, and others without a hidden record between them.
fn fill(node: &Node, bytes: usize) -> i64 {
    let mut first = 0;
    for codec in Codec::ALL.into_iter().chain(Codec::ALL) {
        write(node, codec, first, bytes);
        first += RECORDS;
    }
    first
}

#[test]
fn a_hidden_record_is_left_out_in_every_codec_and_all_others_keep_their_offsets() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let end = fill(&node, 100);
    let ask = Ask::of(&node);
    check(&node, ask, end, &[], 100);
    redact(&node, &HIDDEN);
    // From everywhere: in the middle of a batch, at the hidden ones, behind them.
    for offset in 0..end {
        check(&node, Ask { offset, ..ask }, end, &HIDDEN, 100);
    }
    for is_committed in [false, true] {
        for partition_max_bytes in [0, 1, 61, 400, 1_000, 1_700] {
            let ask = Ask {
                is_committed,
                partition_max_bytes,
                ..ask
            };
            check(&node, ask, end, &HIDDEN, 100);
        }
    }
    redact(&node, &HIDDEN[..3]);
    check(&node, Ask::of(&node), end, &HIDDEN[..3], 100);
}

/// As after a restart.
#[test]
fn a_log_that_is_opened_knows_what_was_hidden_before() {
    let node = Node::start();
    node.create(TOPIC, 1, &[("redacted.records", "0:0,0:7")]);
    let end = fill(&node, 50);
    check(&node, Ask::of(&node), end, &[0, 7], 50);
}

#[test]
fn no_version_and_no_claim_to_be_a_replica_shows_a_hidden_record() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let end = fill(&node, 50);
    redact(&node, &HIDDEN);
    for version in 4..=NEWEST_FETCH {
        for replica in [-1, 0, 1, 2] {
            let ask = Ask {
                version,
                replica,
                ..Ask::of(&node)
            };
            check(&node, ask, end, &HIDDEN, 50);
        }
    }
}

#[test]
fn untouched_batches_are_still_sent_by_sendfile() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    for first in [0, 5, 10] {
        write(&node, Codec::None, first, 10_000);
    }
    redact(&node, &[7]);
    let sent = |name: &str| node.metric(&format!("skein_sent_{name}_total"));
    let (by_file, from_memory) = (sent("file_bytes"), sent("bytes"));
    check(&node, Ask::of(&node), 15, &[7], 10_000);
    let by_file = sent("file_bytes") - by_file;
    let from_memory = sent("bytes") - from_memory;
    assert!((100_000..101_000).contains(&by_file), "{by_file}");
    assert!((40_000..50_000).contains(&from_memory), "{from_memory}");
    assert_eq!(node.metric("skein_batches_redacted_total"), 1);
    // A reader behind the hidden record costs what it did, and goes the hot way.
    let hot = node.metric("skein_fetches_hot_total");
    let offset = 10;
    check(
        &node,
        Ask {
            offset,
            ..Ask::of(&node)
        },
        15,
        &[7],
        10_000,
    );
    assert_eq!(node.metric("skein_fetches_hot_total"), hot + 1);
    assert_eq!(node.metric("skein_batches_redacted_total"), 1);
}

#[test]
fn an_answer_makes_a_bounded_number_of_bytes_anew() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    for first in [0, 5, 10, 15] {
        write(&node, Codec::None, first, 100_000);
    }
    let hidden = [1, 6, 11, 16];
    redact(&node, &hidden);
    let mut client = node.connect();
    let first = Ask::of(&node).fetch(&mut client);
    let next = decode(&bytes_of(&first), 0, &mut BTreeMap::new());
    assert_eq!(next, 10, "two batches of half a megabyte");
    check(&node, Ask::of(&node), 20, &hidden, 100_000);
}

/// Packed at a high level, a batch is smaller than what is made of it anew.
#[test]
fn what_is_made_anew_keeps_to_the_limit_though_it_be_larger_than_what_it_was() {
    const WORDS: [&str; 8] = [
        "offset ", "leader ", "epoch ", "batch ", "log ", "quorum ", "fetch ", "replica ",
    ];
    let node = Node::start();
    let level = [
        ("compression.type", "zstd"),
        ("compression.zstd.level", "19"),
    ];
    node.create(TOPIC, 1, &level);
    for first in [0, RECORDS] {
        let mut builder = BatchBuilder::new(Codec::None);
        for offset in first..first + RECORDS {
            let words = value(offset, 20_000);
            let text = words.iter().map(|letter| WORDS[usize::from(letter % 8)]);
            let text = if offset == 7 {
                "!".to_owned()
            } else {
                text.collect::<String>()
            };
            let at = Millis(1_700_000_000_000);
            builder
                .append(at, None, Some(text.as_bytes()), &[])
                .unwrap();
        }
        let batch = Bytes::from(builder.build().unwrap().into_inner());
        let request = produce_request(TOPIC, 0, -1, Some(batch));
        assert_eq!(node.connect().produce(&request), (0, first));
    }
    let mut client = node.connect();
    let whole = bytes_of(&Ask::of(&node).fetch(&mut client)).len();
    redact(&node, &[7]);
    let anew = bytes_of(&Ask::of(&node).fetch(&mut client)).len();
    assert!(
        anew > whole,
        "{anew} for {whole}: the limit is not put to the test"
    );
    let ask = Ask {
        partition_max_bytes: i32::try_from(whole).unwrap(),
        ..Ask::of(&node)
    };
    let limited = bytes_of(&ask.fetch(&mut client));
    assert!(limited.len() <= whole, "{} of {whole}", limited.len());
    assert_eq!(decode(&limited, 0, &mut BTreeMap::new()), RECORDS);
    assert_eq!(ask.read(&mut client, 2 * RECORDS).0.len(), 9);
}

#[test]
fn a_mark_counts_for_a_reader_that_waits_and_for_a_session() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    write(&node, Codec::Lz4, 0, 50);
    let mut waiting = node.connect();
    let ask = Ask {
        offset: 5,
        max_wait_ms: 8_000,
        ..Ask::of(&node)
    };
    waiting.send(&encode(&ask.request(), ask.version));
    // In a session, which names the partition once.
    let mut session = node.connect();
    let mut opened = ask.request();
    (opened.session_epoch, opened.max_wait_ms) = (0, 0);
    let response = session.call(&opened, ask.version);
    redact(&node, &[5, 8]);
    write(&node, Codec::Lz4, 5, 50);
    let mut records = BTreeMap::new();
    let answer = waiting.answer::<FetchRequest>(ask.version);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(decode(&bytes_of(partition), 5, &mut records), 10);
    assert_eq!(records.keys().copied().collect::<Vec<_>>(), [6, 7, 9]);
    let further = FetchRequest {
        session_id: response.session_id,
        session_epoch: 1,
        topics: Vec::new(),
        ..opened
    };
    let answer = session.call(&further, ask.version);
    let partition = &answer.responses[0].partitions[0];
    let mut in_session = BTreeMap::new();
    decode(&bytes_of(partition), 5, &mut in_session);
    assert_eq!(in_session, records);
}

/// The bytes of the batch that begins at an offset, in the file of the first segment.
fn range_in_file(node: &Node, base_offset: i64) -> (std::path::PathBuf, Range<u64>) {
    let path = node
        .directory
        .path()
        .join("topic-0/00000000000000000000.log");
    let bytes = std::fs::read(&path).unwrap();
    let mut position = 0;
    loop {
        let header = BatchHeader::parse(&bytes[position..]).unwrap();
        let end = position + header.size_in_bytes();
        if header.base_offset.0 == base_offset {
            return (path, position as u64..end as u64);
        }
        position = end;
    }
}

#[test]
fn what_cannot_be_unpacked_is_an_error_and_hides_nothing_else() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    for first in [0, 5, 10] {
        write(&node, Codec::None, first, 100);
    }
    redact(&node, &[7]);
    let (path, range) = range_in_file(&node, 5);
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(range.end - 1)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(range.end - 1)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    let mut client = node.connect();
    let ask = Ask::of(&node);
    let mut before = BTreeMap::new();
    assert_eq!(
        decode(&bytes_of(&ask.fetch(&mut client)), 0, &mut before),
        5
    );
    assert_eq!(before.len(), 5, "what lies before it comes first");
    for offset in 5..10 {
        let failed = Ask { offset, ..ask }.fetch(&mut client);
        assert_eq!(failed.error_code, ErrorCode::CorruptMessage.code());
        assert!(bytes_of(&failed).is_empty());
    }
    let (behind, _) = Ask { offset: 10, ..ask }.read(&mut client, 15);
    assert_eq!(behind.len(), 5);
}

#[test]
fn a_batch_that_unpacks_to_too_much_is_not_shown() {
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    let mut builder = BatchBuilder::new(Codec::Zstd);
    let value = vec![0; 30_000_000];
    for _ in 0..10 {
        builder
            .append(Millis(1_700_000_000_000), None, Some(&value), &[])
            .unwrap();
    }
    let batch = Bytes::from(builder.build().unwrap().into_inner());
    let request = produce_request(TOPIC, 0, -1, Some(batch));
    assert_eq!(node.connect().produce(&request), (0, 0));
    redact(&node, &[3]);
    let failed = Ask::of(&node).fetch(&mut node.connect());
    assert_eq!(failed.error_code, ErrorCode::CorruptMessage.code());
    assert!(bytes_of(&failed).is_empty());
}

#[test]
fn compaction_brings_no_older_value_back_and_marks_outlive_it() {
    let settings = ["log.cleaner.backoff.ms=20", "log.segment.delete.delay.ms=0"];
    let node = Node::start_with(|env| env, &settings);
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    node.create(TOPIC, 1, &compacted);
    let mut client = node.connect();
    // Offsets 0 and 1 have the key that is hidden at its last value; 2 to the end are one other.
    let mut put = |key: &str, value: &[u8]| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .append(
                Millis(1_700_000_000_000),
                Some(key.as_bytes()),
                Some(value),
                &[],
            )
            .unwrap();
        let batch = Bytes::from(builder.build().unwrap().into_inner());
        let (error, offset) = client.produce(&produce_request(TOPIC, 0, -1, Some(batch)));
        assert_eq!(error, 0);
        offset
    };
    put("secret", b"older");
    put("secret", b"last");
    let mut last = 0;
    for _ in 0..35 {
        last = put("other", &[7; 100_000]);
    }
    redact(&node, &[1]);
    let started = Instant::now();
    while node.metric("skein_compaction_reclaimed_bytes_total") < 2_000_000 {
        assert!(started.elapsed() < PATIENCE, "nothing is compacted");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (records, raw) = Ask::of(&node).read(&mut node.connect(), last + 1);
    assert!(records.len() < 20 && records.contains_key(&last));
    assert!(!records.contains_key(&0) && !records.contains_key(&1));
    for content in [&b"older"[..], b"last"] {
        assert!(!raw.windows(content.len()).any(|part| part == content));
    }
    // It was the mark that hid it: the record itself is still there.
    redact(&node, &[]);
    let (records, _) = Ask::of(&node).read(&mut node.connect(), last + 1);
    assert_eq!(records.get(&1).map(Vec::as_slice), Some(&b"last"[..]));
}
