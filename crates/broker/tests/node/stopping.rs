//! Whether a stop is clean: on a disk that is slow, and on one that hangs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use skein_record::{BatchBuilder, Codec};
use skein_types::Millis;

use super::harness::{Node, TOPIC, produce_request};
use super::hooks::{Hooks, hook};

/// Of the log, each with three files to flush.
const SEGMENTS: i64 = 110;
/// With so many flushes on two threads a stop takes longer than it waits for one of them.
const FLUSHES_MIN: usize = 300;
const FLUSH: Duration = Duration::from_millis(10);

/// A stop takes a disk that flushes nothing for 1.4 s for one that hangs. Where the machine stood
/// still for nearly as long, it says nothing of the stop.
const STANDSTILL: Duration = Duration::from_secs(1);
const TRIES: usize = 5;

/// A batch's timestamp is so far behind the one before that it begins a segment.
const STEP_MS: i64 = 10_000;

/// A disk that flushes the log's files as the test says.
#[derive(Default)]
struct Flushes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pace: Pace,
    /// When each flush since the pace was last set has ended.
    ended: Vec<Instant>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pace {
    #[default]
    AtOnce,
    Slow,
    Hang,
}

impl Flushes {
    fn set(&self, pace: Pace) {
        *self.state.lock() = State {
            pace,
            ended: Vec::new(),
        };
        self.changed.notify_all();
    }

    /// How many flushes ended since the pace was set, at `begun`, and the longest time without any.
    fn since(&self, begun: Instant) -> (usize, Duration) {
        let ended = &self.state.lock().ended;
        let mut last = begun;
        let mut longest = Duration::ZERO;
        for at in ended {
            longest = longest.max(at.duration_since(last));
            last = *at;
        }
        (ended.len(), longest.max(last.elapsed()))
    }
}

impl Hooks for Flushes {
    fn syncing(&self, path: &Path) {
        if !path.to_string_lossy().contains("/topic-") {
            return;
        }
        let mut state = self.state.lock();
        self.changed
            .wait_while(&mut state, |state| state.pace == Pace::Hang);
        if state.pace == Pace::Slow {
            MutexGuard::unlocked(&mut state, || std::thread::sleep(FLUSH));
            state.ended.push(Instant::now());
        }
    }
}

/// A node with a log of so many segments, of which none is flushed: the disk hangs from the second
/// one on. Before its first record a log flushes what it is.
fn filled(segments: i64) -> (Node, Arc<Flushes>) {
    let flushes = Arc::new(Flushes::default());
    let node = Node::start_with(|env| hook(env, &flushes), &[]);
    node.create(TOPIC, 1, &[("segment.ms", "1000")]);
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
        flushes.set(Pace::Hang);
    }
    (node, flushes)
}

fn is_clean(node: &Node) -> bool {
    node.directory.path().join(".kafka_cleanshutdown").exists()
}

#[test]
fn a_stop_that_gets_on_is_clean_however_many_files_wait() {
    for _ in 0..TRIES {
        let (mut node, flushes) = filled(SEGMENTS);
        flushes.set(Pace::Slow);
        let begun = Instant::now();
        node.stop();
        let (count, longest) = flushes.since(begun);
        if longest < STANDSTILL {
            assert!(count >= FLUSHES_MIN, "only {count} flushes: no test");
            assert!(is_clean(&node), "{longest:?} without a flush");
            return;
        }
    }
    panic!("the machine stands still all the time");
}

#[test]
fn a_stop_on_a_disk_that_hangs_ends_and_is_not_clean() {
    let (mut node, flushes) = filled(3);
    node.stop();
    assert!(!is_clean(&node));
    // Its threads end with the test. The log is closed then, and still nobody marks it.
    flushes.set(Pace::AtOnce);
}
