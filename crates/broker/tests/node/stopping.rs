//! Whether a stop is clean: on a disk that is slow, and on one that hangs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use skein_record::{BatchBuilder, Codec};
use skein_types::Millis;

use super::harness::{Node, TOPIC, produce_request};
use super::hooks::{Hooks, hook};

/// With three files each and two threads, their flushes take longer than a stop waits for one.
const SEGMENTS: i64 = 110;
const FLUSH: Duration = Duration::from_millis(10);

/// A batch's timestamp is so far behind the one before that it begins a segment.
const STEP_MS: i64 = 10_000;

/// What a disk does with the flush of a log's file.
#[derive(Default)]
struct Flushes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    AtOnce,
    Slow,
    Hang,
}

impl Flushes {
    fn set(&self, state: State) {
        *self.state.lock() = state;
        self.changed.notify_all();
    }
}

impl Hooks for Flushes {
    fn syncing(&self, path: &Path) {
        if !path.to_string_lossy().contains("/topic-") {
            return;
        }
        let mut state = self.state.lock();
        if *state == State::Slow {
            drop(state);
            std::thread::sleep(FLUSH);
            return;
        }
        self.changed
            .wait_while(&mut state, |state| *state == State::Hang);
    }
}

/// A node with a log of many segments, on a disk whose flushes are in `state` from the first one.
fn filled(state: State, segments: i64) -> (Node, Arc<Flushes>) {
    let flushes = Arc::new(Flushes::default());
    let node = Node::start_with(|env| hook(env, &flushes), &[]);
    node.create(TOPIC, 1, &[("segment.ms", "1000")]);
    flushes.set(state);
    let mut client = node.connect();
    for segment in 0..segments {
        let timestamp = Millis(1_700_000_000_000 + segment * STEP_MS);
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .append(timestamp, None, Some(b"value"), &[])
            .unwrap();
        let batch = bytes::Bytes::copy_from_slice(builder.build().unwrap().as_slice());
        let (code, _) = client.produce(&produce_request(TOPIC, 0, 1, Some(batch)));
        assert_eq!(code, 0);
    }
    (node, flushes)
}

fn is_clean(node: &Node) -> bool {
    node.directory.path().join(".kafka_cleanshutdown").exists()
}

#[test]
fn a_stop_that_gets_on_is_clean_however_many_files_wait() {
    let (mut node, _) = filled(State::Slow, SEGMENTS);
    node.stop();
    assert!(is_clean(&node));
}

#[test]
fn a_stop_on_a_disk_that_hangs_ends_and_is_not_clean() {
    let (mut node, flushes) = filled(State::AtOnce, 3);
    flushes.set(State::Hang);
    node.stop();
    assert!(!is_clean(&node));
    // Its threads end with the test. The log is closed then, and still nobody marks it.
    flushes.set(State::AtOnce);
}
