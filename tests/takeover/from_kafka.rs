//! Kafka writes, Skein takes over and goes on.

use std::time::{Duration, Instant};

use skein_tests::wire::error;
use skein_tests::{Node, System};

use super::groups::Groups;
use super::seen::{Seen, cluster};
use super::{Producer, compact, connect, consume_in_group, create, fill, import, skein_on};

const TOPICS: [(&str, i32); 6] = [
    ("codecs", 2),
    ("append-time", 1),
    ("shortened", 1),
    ("compacted", 1),
    ("sequences", 1),
    ("__consumer_offsets", 3),
];
const SETTINGS: [(&str, &str); 6] = [
    // So that there is a snapshot beside the metadata log.
    ("metadata.log.max.record.bytes.between.snapshots", "2000"),
    ("offsets.topic.num.partitions", "3"),
    // A kill loses what DeleteRecords did since the last checkpoint.
    ("log.flush.start.offset.checkpoint.interval.ms", "100"),
    // Kafka begins with the checkpoints half a minute after its start.
    ("log.initial.task.delay.ms", "100"),
    ("log.cleaner.backoff.ms", "100"),
    ("group.min.session.timeout.ms", "1000"),
];

/// Until Kafka's next checkpoint of the log starts.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(120);

#[test]
fn a_directory_of_a_kafka_that_stopped_goes_on_as_skeins() {
    goes_on_as_skeins(true);
}

#[test]
fn a_directory_of_a_kafka_that_was_killed_goes_on_as_skeins() {
    goes_on_as_skeins(false);
}

fn goes_on_as_skeins(is_clean: bool) {
    let mut kafka = Node::start(System::Kafka, &SETTINGS);
    fill(&kafka);
    compact(&kafka);
    create(&kafka, "sequences", &[]);
    let producer = Producer::begin(&kafka, "sequences");
    consume_in_group(&kafka, "codecs", "readers");
    let before = Seen::of(&kafka, &TOPICS);
    let cluster_before = cluster(&kafka, "codecs");
    wait_for_checkpoint(&kafka, "shortened 0 3000");
    if is_clean {
        assert!(kafka.stop().0.code().is_some());
    } else {
        kafka.kill();
    }

    let metadata_log = kafka.data_directory().join("__cluster_metadata-0");
    let mut names = std::fs::read_dir(metadata_log).unwrap();
    let is_snapshot = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".checkpoint");
    assert!(names.any(|entry| is_snapshot(&entry.unwrap().file_name())));
    let told = import(&kafka.data_directory(), &["--dry-run"]);
    assert!(told.succeeded(), "{told}");
    let imported = import(&kafka.data_directory(), &[]);
    assert!(imported.succeeded(), "{imported}");
    assert!(
        imported.stdout.contains("6 topics, 9 partitions"),
        "{imported}"
    );
    let groups = "__consumer_offsets: taken with the committed offsets in it";
    assert!(imported.stdout.contains(groups), "{imported}");

    let mut skein = skein_on(&kafka);
    skein.start_again();
    Seen::of(&skein, &TOPICS).assert_same(&before);
    let cluster_now = cluster(&skein, "codecs");
    assert_eq!(
        (&cluster_now.0, &cluster_now.1),
        (&cluster_before.0, &cluster_before.1)
    );
    for (now, former) in cluster_now.2.iter().zip(&cluster_before.2) {
        assert!(
            now > former,
            "leader epochs {cluster_now:?} after {cluster_before:?}"
        );
    }

    // A batch is known again, the next one follows, and one that skips does not.
    producer.expect(&skein, "sequences", 4, (error::NONE, 4));
    producer.expect(
        &skein,
        "sequences",
        8,
        (error::OUT_OF_ORDER_SEQUENCE_NUMBER, -1),
    );
    producer.expect(&skein, "sequences", 6, (error::NONE, 6));
    let (id, _) = connect(&skein).init_producer_id().unwrap();
    assert!(id >= 1000, "producer id {id}: Kafka gave a block of 1000");
    for (topic, _) in TOPICS {
        let (_, _, end) = connect(&skein).list_offset(topic, 0, -1).unwrap();
        assert!(end >= before.partitions[&(topic.to_owned(), 0)].offsets.1);
    }
    super::perform(&skein, "codecs", "100", "zstd");

    let written = Seen::of(&skein, &TOPICS);
    skein.stop();
    skein.start_again();
    Seen::of(&skein, &TOPICS).assert_same(&written);
    skein.kill();
    skein.start_again();
    Seen::of(&skein, &TOPICS).assert_same(&written);
}

fn wait_for_checkpoint(node: &Node, line: &str) {
    let path = node.data_directory().join("log-start-offset-checkpoint");
    let begun = Instant::now();
    while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(line)) {
        assert!(begun.elapsed() < CHECKPOINT_TIMEOUT, "{}", node.log_tail());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_way_back_is_two_names() {
    let mut kafka = Node::start(System::Kafka, &SETTINGS);
    create(&kafka, "codecs", &["--partitions", "2"]);
    super::perform(&kafka, "codecs", "1000", "lz4");
    let topics = [("codecs", 2)];
    let before = Seen::of(&kafka, &topics);
    let mut groups = Groups::begin(&kafka);
    kafka.stop();
    let imported = import(&kafka.data_directory(), &[]);
    assert!(imported.succeeded(), "{imported}");
    let mut skein = skein_on(&kafka);
    skein.start_again();
    Seen::of(&skein, &topics).assert_same(&before);
    super::perform(&skein, "codecs", "1000", "gzip");
    groups.go_on(&skein, 7);
    let written = Seen::of(&skein, &topics);
    skein.stop();

    let data = kafka.data_directory();
    std::fs::remove_dir_all(data.join("metadata")).unwrap();
    let taken_over = data.join("kafka-taken-over");
    std::fs::rename(taken_over, data.join("__cluster_metadata-0")).unwrap();
    kafka.start_again();
    Seen::of(&kafka, &topics).assert_same(&written);
    super::perform(&kafka, "codecs", "1000", "snappy");
    groups.go_on(&kafka, 8);
    // Which partition a producer without keys takes for its few batches is its own choice.
    let now = Seen::of(&kafka, &topics);
    assert_eq!(now.records(), written.records() + 1000);
}
