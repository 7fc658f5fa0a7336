//! Directories that are not taken over, and what is said of them.

use std::fs;
use std::io::Write;

use skein_tests::{Node, System};

use super::{create, import, perform, skein_on};

#[test]
fn what_stands_against_an_import_is_told_and_nothing_changes() {
    let mut kafka = Node::start(System::Kafka, &[]);
    create(&kafka, "kept", &[]);
    create(&kafka, "damaged", &["--partitions", "2"]);
    perform(&kafka, "kept", "10", "none");
    let data = kafka.data_directory();

    let running = import(&data, &[]);
    assert!(
        !running.succeeded() && running.stderr.contains("a process holds"),
        "{running}"
    );
    kafka.stop();
    let empty = import(kafka.directory(), &[]);
    assert!(
        empty.stderr.contains("no log directory of Kafka"),
        "{empty}"
    );

    let part = data.join("damaged-1");
    fs::rename(&part, kafka.directory().join("elsewhere")).unwrap();
    fs::create_dir(data.join("stranger-0")).unwrap();
    let refused = import(&data, &["--dry-run"]);
    for expected in [
        "damaged-1: its directory is missing",
        "stranger-0: Kafka's metadata know",
    ] {
        assert!(refused.stdout.contains(expected), "{expected}: {refused}");
    }
    assert_eq!(refused.status.and_then(|status| status.code()), Some(1));
    let json = import(&data, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["outcome"], "refused");
    assert_eq!(json["findings"][0]["weight"], "refused");
    fs::remove_dir(data.join("stranger-0")).unwrap();

    // Without that topic it works; its files are put aside, and Skein does not see them.
    let imported = import(&data, &["--leave-out", "damaged"]);
    assert!(imported.succeeded(), "{imported}");
    assert!(data.join("kafka-taken-over/left-out/damaged-0").is_dir());
    let mut skein = skein_on(&kafka);
    skein.start_again();
    let topics = skein_tests::client::kafka_tools::run(
        &skein,
        skein_tests::client::kafka_tools::TOPICS,
        &["--list"],
    );
    assert_eq!(topics.trim(), "kept");
    skein.stop();
    let again = import(&data, &[]);
    assert!(
        again.stderr.contains("was taken over from Kafka before"),
        "{again}"
    );
}

#[test]
fn a_torn_metadata_log_is_taken_and_a_damaged_one_is_not() {
    let mut kafka = Node::start(System::Kafka, &[]);
    create(&kafka, "kept", &[]);
    kafka.kill();
    let data = kafka.data_directory();
    let log = data.join("__cluster_metadata-0/00000000000000000000.log");
    let whole = fs::read(&log).unwrap();
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    fs::write(&log, &damaged).unwrap();
    let refused = import(&data, &[]);
    assert!(
        refused.stderr.contains("does not bear its checksum"),
        "{refused}"
    );
    fs::write(&log, &whole).unwrap();
    // The beginning of a batch that was never finished.
    let last = i64::from_be_bytes(whole[..8].try_into().unwrap());
    assert_eq!(last, 0);
    let mut torn = fs::File::options().append(true).open(&log).unwrap();
    torn.write_all(&next_batch_head(&whole)).unwrap();
    let told = import(&data, &["--dry-run"]);
    assert!(
        told.succeeded() && told.stdout.contains("a write that never ended"),
        "{told}"
    );
    let imported = import(&data, &[]);
    assert!(imported.succeeded(), "{imported}");
    let mut skein = skein_on(&kafka);
    skein.start_again();
}

/// The first bytes of the batch that would follow.
fn next_batch_head(log: &[u8]) -> Vec<u8> {
    let (mut at, mut next) = (0, 0);
    while at < log.len() {
        let number = |from: usize, length: usize| {
            let bytes = &log[at + from..at + from + length];
            bytes
                .iter()
                .fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte))
        };
        next = number(0, 8) + number(23, 4) + 1;
        at += usize::try_from(number(8, 4)).unwrap() + 12;
    }
    let mut head = next.to_be_bytes().to_vec();
    head.extend([0, 0, 1, 0, 0, 0, 0, 1, 2]);
    head
}
