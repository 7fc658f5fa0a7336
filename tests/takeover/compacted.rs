//! What one system's cleaner has left goes on as the other's: delete horizons, the empty batches
//! that remember a producer, and the gaps.
//!
//! Kafka's cleaner leaves bytes that no client can write, and so does Skein's; each is the other's
//! golden file here. Both are held against the list of what was written.

use std::collections::BTreeMap;

use skein_tests::client::kafka_tools::{CONSOLE_CONSUMER, run};
use skein_tests::compacted::{Told, compacted_end, dump, survivors, to_record};
use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, System};

use super::seen::Seen;
use super::to_kafka::replace_partition;
use super::{connect, create, import};

const TOPIC: &str = "cleaned";
const ONE: &[(&str, i32)] = &[(TOPIC, 1)];
/// A cleaner that hurries.
const SETTINGS: [(&str, &str); 2] = [
    ("log.cleaner.backoff.ms", "100"),
    ("log.segment.delete.delay.ms", "0"),
];
const CONFIGS: [&str; 4] = [
    "cleanup.policy=compact",
    "min.cleanable.dirty.ratio=0.01",
    "segment.bytes=1048576",
    // A horizon that is set stays for longer than a test takes.
    "delete.retention.ms=86400000",
];
/// `delete horizon` of a batch's attributes.
const HORIZON_BIT: i16 = 0x40;
/// Enough of these fill a segment.
const VALUE_CHARACTERS: usize = 1000;
const ROUNDS: usize = 60;
const RECORDS_IN_ROUND: usize = 40;
const KEYS: usize = 7;

/// A producer with sequences.
struct Sequenced {
    id: i64,
    epoch: i16,
    next: i32,
}

impl Sequenced {
    fn begin(node: &Node) -> Self {
        let (id, epoch) = connect(node).init_producer_id().unwrap();
        Self { id, epoch, next: 0 }
    }
}

/// Who writes to the topic, and what was written.
struct Story {
    written: Vec<Told>,
    /// Writes little: of its first batch no record stays, and nothing but that batch tells of it.
    silent: Sequenced,
    busy: Sequenced,
}

fn told(key: &str, value: &str) -> Told {
    (key.to_owned(), Some(value.to_owned()))
}

impl Story {
    /// Creates the topic and writes until there is something to compact.
    fn begin(node: &Node) -> Self {
        let options: Vec<&str> = CONFIGS.iter().flat_map(|o| ["--config", o]).collect();
        create(node, TOPIC, &options);
        let mut story = Self {
            written: Vec::new(),
            silent: Sequenced::begin(node),
            busy: Sequenced::begin(node),
        };
        let mut connection = connect(node);
        story.silent_writes(&mut connection, &[told("a", "1"), told("b", "1")]);
        story.busy_writes(&mut connection, &[told("gone", "1"), told("stays", "1")]);
        story.busy_writes(&mut connection, &[told("a", "2"), told("b", "2")]);
        story.busy_writes(&mut connection, &[("gone".to_owned(), None)]);
        story.fill(&mut connection);
        story
    }

    /// Goes on where [`Story::begin`], perhaps on another node, has ended.
    fn go_on(&mut self, node: &Node) {
        let mut connection = connect(node);
        self.repeat_silent(node);
        self.silent_writes(&mut connection, &[told("c", "1"), told("key-0", "1")]);
        self.busy_writes(&mut connection, &[("stays".to_owned(), None)]);
        self.fill(&mut connection);
        self.repeat_silent(node);
    }

    /// The last batch of the silent producer, once more: it is known, though nothing of it may be
    /// left but its header.
    fn repeat_silent(&self, node: &Node) {
        let last = Sequenced {
            next: self.silent.next - 2,
            ..self.silent
        };
        let batch = last.batch(&[told("a", "1"), told("b", "1")]);
        let produced = connect(node).produce(TOPIC, 0, &batch).unwrap();
        assert_eq!(produced.error_code, error::NONE, "{}", node.log_tail());
        let is_before = produced.base_offset < i64::try_from(self.written.len()).unwrap();
        assert!(is_before, "{produced:?}: it was written again");
        let skipping = Sequenced {
            next: self.silent.next + 2,
            ..self.silent
        };
        let batch = skipping.batch(&[told("a", "3")]);
        let produced = connect(node).produce(TOPIC, 0, &batch).unwrap();
        assert_eq!(produced.error_code, error::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }

    fn fill(&mut self, connection: &mut Connection) {
        for round in 0..ROUNDS {
            let value = char::from(b'a' + u8::try_from(round % 26).unwrap());
            let value = String::from(value).repeat(VALUE_CHARACTERS);
            let records: Vec<Told> = (0..RECORDS_IN_ROUND)
                .map(|number| told(&format!("key-{}", number % KEYS), &value))
                .collect();
            self.busy_writes(connection, &records);
        }
    }

    fn silent_writes(&mut self, connection: &mut Connection, records: &[Told]) {
        write(connection, &mut self.silent, &mut self.written, records);
    }

    fn busy_writes(&mut self, connection: &mut Connection, records: &[Told]) {
        write(connection, &mut self.busy, &mut self.written, records);
    }

    /// Waits for the cleaner of `node`; then its files, which are where those of `files` were, hold
    /// what they must, and who consumes from the beginning sees it.
    fn check_compacted(&self, node: &Node, files: &Node) {
        let end = compacted_end(files, TOPIC);
        let left = survivors(&self.written, end);
        assert!(dump(files, TOPIC) == left, "up to {end}{}", node.log_tail());
        assert!(
            consumed(node, left.len()) == left,
            "up to {end}{}",
            node.log_tail()
        );
    }
}

impl Sequenced {
    fn batch(&self, records: &[Told]) -> Vec<u8> {
        let batch = Batch {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: self.next,
            records: records.iter().map(to_record).collect(),
            ..Batch::of([""])
        };
        batch.encode()
    }
}

fn write(
    connection: &mut Connection,
    producer: &mut Sequenced,
    written: &mut Vec<Told>,
    records: &[Told],
) {
    let produced = connection
        .produce(TOPIC, 0, &producer.batch(records))
        .unwrap();
    let expected = i64::try_from(written.len()).unwrap();
    assert_eq!(
        (produced.error_code, produced.base_offset),
        (error::NONE, expected)
    );
    producer.next += i32::try_from(records.len()).unwrap();
    written.extend_from_slice(records);
}

/// What Kafka's console consumer reads from the beginning.
fn consumed(node: &Node, count: usize) -> BTreeMap<usize, Told> {
    let count = count.to_string();
    let mut arguments = vec![
        "--topic",
        TOPIC,
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        &count,
    ];
    arguments.extend(["--timeout-ms", "30000"]);
    for property in [
        "print.offset=true",
        "print.key=true",
        "key.separator=|",
        "null.literal=NULL",
    ] {
        arguments.extend(["--property", property]);
    }
    let read = run(node, CONSOLE_CONSUMER, &arguments);
    let lines = read.lines().filter_map(|line| line.strip_prefix("Offset:"));
    let parsed = lines.map(|line| {
        let fields: Vec<&str> = line.split('|').collect();
        let [offset, key, value] = fields[..] else {
            panic!("{line}");
        };
        let value = (value != "NULL").then(|| value.to_owned());
        (offset.parse().unwrap(), (key.to_owned(), value))
    });
    parsed.collect()
}

/// A batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    base_offset: i64,
    attributes: i16,
    base_timestamp: i64,
    producer_id: i64,
    base_sequence: i32,
    record_count: i32,
}

impl Header {
    fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        while bytes.len() >= 61 {
            let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            all.push(Self {
                base_offset: long(0),
                attributes: i16::from_be_bytes([bytes[21], bytes[22]]),
                base_timestamp: long(27),
                producer_id: long(43),
                base_sequence: int(53),
                record_count: int(57),
            });
            bytes = &bytes[usize::try_from(int(8)).unwrap() + 12..];
        }
        all
    }

    fn has_horizon(&self) -> bool {
        self.attributes & HORIZON_BIT != 0
    }
}

/// The batch with the first tombstone, and the one that is left of the silent producer. Their
/// existence shows that the cleaner under test left what this is about.
fn marks(seen: &Seen, story: &Story) -> (Header, Header) {
    let headers = Header::all(&seen.partitions[&(TOPIC.to_owned(), 0)].batches);
    let horizon = headers.iter().find(|header| header.has_horizon());
    let of_silent = |header: &&Header| header.producer_id == story.silent.id;
    let silent = headers.iter().find(of_silent);
    let (Some(horizon), Some(silent)) = (horizon, silent) else {
        panic!("{headers:?}");
    };
    assert_eq!((silent.base_offset, silent.record_count), (0, 0));
    assert_eq!(horizon.base_offset, 6, "where the tombstone is");
    (*horizon, *silent)
}

#[test]
fn skein_goes_on_with_what_kafkas_cleaner_left() {
    for is_clean in [true, false] {
        let mut kafka = Node::start(System::Kafka, &SETTINGS);
        let mut story = Story::begin(&kafka);
        story.check_compacted(&kafka, &kafka);
        let before = Seen::of(&kafka, ONE);
        let (horizon, _) = marks(&before, &story);
        if is_clean {
            kafka.stop();
        } else {
            kafka.kill();
        }

        let imported = import(&kafka.data_directory(), &[]);
        assert!(imported.succeeded(), "{imported}");
        let directory = kafka.data_directory().display().to_string();
        let settings = [&SETTINGS[..], &[("log.dirs", &directory)]].concat();
        let mut skein = Node::prepare(System::Skein, &settings);
        skein.start_again();
        Seen::of(&skein, ONE).assert_same(&before);
        story.go_on(&skein);
        story.check_compacted(&skein, &kafka);
        let now = Seen::of(&skein, ONE);
        let headers = Header::all(&now.partitions[&(TOPIC.to_owned(), 0)].batches);
        assert!(headers.contains(&horizon), "{horizon:?} in {headers:?}");
        // The silent producer's former batch has nothing more to say.
        assert!(headers.iter().all(|header| header.base_offset != 0));

        skein.kill();
        skein.start_again();
        Seen::of(&skein, ONE).assert_same(&now);
        story.repeat_silent(&skein);
    }
}

/// `is_clean`: as in [`super::to_kafka`].
#[test]
fn kafka_goes_on_with_what_skeins_cleaner_left() {
    for is_clean in [true, false] {
        let mut skein = Node::start(System::Skein, &SETTINGS);
        let mut story = Story::begin(&skein);
        story.check_compacted(&skein, &skein);
        let before = Seen::of(&skein, ONE);
        let (horizon, _) = marks(&before, &story);
        skein.stop();

        let mut kafka = Node::start(System::Kafka, &SETTINGS);
        let options: Vec<&str> = CONFIGS.iter().flat_map(|o| ["--config", o]).collect();
        create(&kafka, TOPIC, &options);
        kafka.stop();
        let name = format!("{TOPIC}-0");
        let (from, to) = (skein.data_directory(), kafka.data_directory());
        replace_partition(&from.join(&name), &to.join(&name));
        for name in super::to_kafka::CHECKPOINTS {
            // A node none of whose logs was cut at its start has not written all of them.
            if from.join(name).exists() {
                std::fs::copy(from.join(name), to.join(name)).unwrap();
            }
        }
        if !is_clean {
            std::fs::remove_file(to.join(super::to_kafka::CLEAN)).unwrap();
        }
        kafka.start_again();
        let key = (TOPIC.to_owned(), 0);
        let now = Seen::of(&kafka, ONE);
        let (now, former) = (&now.partitions[&key], &before.partitions[&key]);
        assert_eq!(now.offsets, former.offsets, "{}", kafka.log_tail());
        assert!(now.batches == former.batches, "{}", kafka.log_tail());
        story.check_compacted(&kafka, &kafka);
        story.go_on(&kafka);
        story.check_compacted(&kafka, &kafka);
        let now = Seen::of(&kafka, ONE);
        let headers = Header::all(&now.partitions[&key].batches);
        assert!(headers.contains(&horizon), "{horizon:?} in {headers:?}");
        assert!(headers.iter().all(|header| header.base_offset != 0));
    }
}
