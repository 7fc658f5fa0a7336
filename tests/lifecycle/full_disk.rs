//! A full disk is a state: writes are refused with a retriable error, reads go on, and space brings
//! everything back.
//!
//! Input: a node whose data directory is a small tmpfs in a mount namespace of its own, seen from
//! here by `/proc/ID/root`. Output: the errors of produces, and the records.

use std::fs;
use std::time::{Duration, Instant};

use skein_tests::wire::error;
use skein_tests::{Node, System};

use super::{assert_holds, connect, create, numbered};

const SIZE_BYTES: usize = 24 << 20;
const BATCH_BYTES: usize = 500_000;
const FILLER: &str = "filler";
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(15);

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let mut node = Node::prepare(System::Skein, &[]);
    fs::create_dir(node.data_directory()).unwrap();
    node.mount_small_disk(SIZE_BYTES);
    node.start_again();
    let inside = format!(
        "/proc/{}/root{}",
        node.id(),
        node.data_directory().display()
    );
    let filler = std::path::Path::new(&inside).join(FILLER);
    fs::write(&filler, vec![1; SIZE_BYTES / 2]).unwrap();

    create(&node, "full", &[]);
    let mut written = 0;
    let refusal = loop {
        let produced = connect(&node)
            .produce("full", 0, &numbered(written, BATCH_BYTES))
            .unwrap();
        if produced.error_code != error::NONE {
            break produced.error_code;
        }
        written += 1;
        assert!(written < 100, "the disk is never full");
    };
    assert!(written > 5, "only {written} batches fit{}", node.log_tail());
    assert_eq!(refusal, error::KAFKA_STORAGE_ERROR, "{}", node.log_tail());
    assert!(node.is_alive(), "{}", node.log_tail());
    assert_holds(&node, "full", written);

    fs::remove_file(filler).unwrap();
    let freed = Instant::now();
    loop {
        let produced = connect(&node)
            .produce("full", 0, &numbered(written, BATCH_BYTES))
            .unwrap();
        if produced.error_code == error::NONE {
            assert_eq!(produced.base_offset, i64::try_from(written).unwrap());
            break;
        }
        assert!(
            freed.elapsed() < RECOVERY_TIMEOUT,
            "{produced:?}{}",
            node.log_tail()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_holds(&node, "full", written + 1);
}
