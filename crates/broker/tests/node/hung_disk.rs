//! What goes on while the disk under the partitions hangs.
//!
//! The metadata log is served all along, as on a device of its own.

use std::io::IoSlice;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use skein_record::Codec;

use super::harness::{
    Client, Node, PATIENCE, THREADS, TOPIC, batch, fetch, produce, produce_request,
};
use super::hooks::{Hooks, hook};

/// More than all threads of the data lane that writes could take.
const PARTITIONS: i32 = 12;

/// Long enough for those that would hang beyond what may.
const OTHERS_TOO: Duration = Duration::from_millis(200);

/// How long a stop takes that waits for the disk as long as it ever does.
const STOP_MAX: Duration = Duration::from_secs(8);

/// A topic whose files never hang.
const PROBE: &str = "probe";

/// How often writes begin to hang: which threads take the first of them is a matter of luck.
const ROUNDS: i64 = 5;

/// A session that ends while a test runs.
const SESSION: Duration = Duration::from_millis(1_000);

/// A disk that hangs while the test says so, in every write and flush of some files, and where they
/// are read into the page cache.
struct Gate {
    /// What their paths contain.
    paths: &'static str,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_shut: bool,
    /// Names of the threads that hang.
    hanging: Vec<String>,
}

impl Hooks for Gate {
    fn writing(&self, path: &Path, _pieces: &[IoSlice<'_>]) {
        self.pass(path);
    }

    fn syncing(&self, path: &Path) {
        self.pass(path);
    }

    fn reading_ahead(&self, path: &Path, _offset: u64, _length: u64) {
        self.pass(path);
    }
}

impl Gate {
    fn of(paths: &'static str) -> Self {
        Self {
            paths,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn pass(&self, path: &Path) {
        let mut state = self.state.lock();
        if !state.is_shut || !path.to_string_lossy().contains(self.paths) {
            return;
        }
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        state.hanging.push(name);
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.is_shut);
    }

    fn shut(&self) {
        self.state.lock().is_shut = true;
    }

    fn open(&self) {
        let mut state = self.state.lock();
        state.is_shut = false;
        state.hanging.clear();
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until those threads hang that `are_there` waits for; returns the names of all that do.
    fn hanging(&self, are_there: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut state = self.state.lock();
        let are_missing = |state: &mut State| !are_there(&state.hanging);
        let waited = self
            .changed
            .wait_while_for(&mut state, are_missing, PATIENCE);
        assert!(!waited.timed_out(), "only {:?} hang", state.hanging);
        state.hanging.clone()
    }
}

/// How many of the threads serve the network.
fn inline(hanging: &[String]) -> usize {
    hanging.iter().filter(|name| *name == "skein-data").count()
}

/// A node whose disk hangs, and the clients whose Produce hangs with it. A failed test opens the
/// gate too: threads that hang do not end.
struct Hung {
    node: Node,
    gate: Arc<Gate>,
    waiting: Vec<Client>,
}

impl Hung {
    /// Every partition has one record, and another is being written to each of them.
    fn new() -> Self {
        let gate = Arc::new(Gate::of("/topic-"));
        let settings = [
            &*format!("broker.session.timeout.ms={}", SESSION.as_millis()),
            "broker.heartbeat.interval.ms=100",
        ];
        let node = Node::start_with(|env| hook(env, &gate), &settings);
        node.create(TOPIC, PARTITIONS, &[]);
        node.create(PROBE, 1, &[]);
        let mut client = node.connect();
        for partition in 0..PARTITIONS {
            client.ask(&produce(partition, 1, 100));
        }
        let waiting = (0..PARTITIONS).map(|_| node.connect()).collect();
        let mut hung = Self {
            node,
            gate,
            waiting,
        };
        hung.write_everywhere();
        hung
    }

    /// Each client writes to a partition of its own, all at the same moment, and the disk hangs.
    fn write_everywhere(&mut self) {
        self.gate.shut();
        let together = Barrier::new(self.waiting.len());
        std::thread::scope(|scope| {
            for (partition, client) in (0..).zip(&mut self.waiting) {
                let (request, together) = (produce(partition, 1, 100), &together);
                scope.spawn(move || {
                    together.wait();
                    client.send(&request);
                });
            }
        });
    }

    /// The disk goes on; every client has its answer, at `offset`.
    fn go_on(&mut self, offset: i64) {
        self.gate.open();
        for client in &mut self.waiting {
            assert_eq!(client.produced(), (0, offset));
        }
    }

    /// Waits until writes hang inline and on the whole offload pool.
    fn settle(&self) -> Vec<String> {
        self.gate.hanging(|hanging| {
            let inline = inline(hanging);
            inline > 0 && hanging.len() - inline >= THREADS.io_threads
        });
        std::thread::sleep(OTHERS_TOO);
        self.gate.hanging(|_| true)
    }

    /// Waits until the directory is no longer slow, so that writes are inline.
    fn wait_until_fast(&self) {
        let mut client = self.node.connect();
        let probe = produce_request(PROBE, 0, 1, Some(batch(Codec::None, 1, None, 100)));
        let offloaded = || self.node.metric("skein_writes_offloaded_total");
        eventually("a write is inline", || {
            let before = offloaded();
            assert_eq!(client.produce(&probe).0, 0);
            offloaded() == before
        });
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// Waits until it holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn at_most_half_of_the_network_threads_hang_with_the_disk() {
    let mut hung = Hung::new();
    let inline_max = THREADS.network_threads / 2;
    for round in 1..=ROUNDS {
        let hanging = hung.settle();
        let inline = inline(&hanging);
        assert!((1..=inline_max).contains(&inline), "{hanging:?}");
        assert_eq!(hanging.len() - inline, THREADS.io_threads, "{hanging:?}");
        hung.go_on(round);
        hung.wait_until_fast();
        hung.write_everywhere();
    }
}

#[test]
fn who_needs_no_disk_is_served_beside_one_that_hangs() {
    let mut hung = Hung::new();
    hung.settle();
    let node = &hung.node;
    // More often than there are threads: none of them may take a task along.
    for round in 0..8 {
        let metadata = node.metadata(TOPIC);
        assert_eq!(metadata.topics[0].error_code, 0, "round {round}");
    }
    for partition in 0..PARTITIONS {
        let mut client = node.connect();
        let bytes = client.fetch(partition, 0);
        assert!(bytes > 100, "the record that was there before");
    }
    assert!(node.metric("skein_writes_offloaded_total") > 0);
    assert!(!hung.waiting.iter().any(Client::is_answered));
    hung.go_on(1);
}

#[test]
fn raft_and_heartbeats_go_on_beside_a_hung_disk() {
    let hung = Hung::new();
    hung.settle();
    hung.node.create("other", 1, &[]);
    std::thread::sleep(2 * SESSION);
    let are_led = || {
        let metadata = hung.node.metadata(TOPIC);
        let broker_id = metadata.brokers[0].node_id;
        let leaders = metadata.topics[0].partitions.iter().map(|p| p.leader_id);
        leaders.eq((0..PARTITIONS).map(|_| broker_id))
    };
    // A machine that stands still for a session has the node fenced too, for a moment.
    eventually("all partitions are led", are_led);
    hung.node.create("another", 1, &[]);
}

#[test]
fn a_stop_does_not_wait_long_for_a_hung_disk_and_is_not_clean() {
    let mut hung = Hung::new();
    hung.settle();
    let started = Instant::now();
    hung.node.stop();
    let took = started.elapsed();
    assert!(took < STOP_MAX, "{took:?}");
    let marker = hung.node.directory.path().join(".kafka_cleanshutdown");
    assert!(!marker.exists(), "nobody knows what the disk has");
    assert!(!hung.waiting.iter().any(Client::is_answered));
}

/// Requests that one connection pipelines are taken as the disk takes them: else a single client
/// with a hung partition would hold the bytes that all clients have together.
#[test]
fn one_connection_does_not_take_the_bytes_in_flight_of_all_beside_a_hung_disk() {
    const REQUESTS: usize = 64;
    let gate = Arc::new(Gate::of("/topic-0/"));
    let node = Node::start_with(|env| hook(env, &gate), &[]);
    let mut hung = Hung {
        node,
        gate,
        waiting: Vec::new(),
    };
    hung.node.create(TOPIC, 2, &[]);
    let (mut other, mut writer) = (hung.node.connect(), hung.node.connect());
    for partition in 0..2 {
        other.ask(&produce(partition, 1, 100));
    }
    hung.gate.shut();
    // A write that hangs on a network thread, so that the next ones wait without one.
    hung.waiting.push(hung.node.connect());
    hung.waiting[0].send(&produce(0, 1, 100));
    hung.gate.hanging(|hanging| !hanging.is_empty());
    let large = vec![produce(0, 1, 1_000_000); REQUESTS].concat();
    let sender = std::thread::spawn(move || {
        writer.send(&large);
        (0..REQUESTS).map(|_| writer.produced()).collect::<Vec<_>>()
    });
    let in_flight = || hung.node.metric("skein_in_flight_bytes");
    eventually("requests have arrived", || in_flight() > 0);
    std::thread::sleep(2 * OTHERS_TOO);
    assert!(in_flight() < 4_000_000, "{} bytes", in_flight());
    assert!(other.ask(&produce(1, 1, 100)) > 0);
    hung.go_on(1);
    let answers = sender.join().unwrap();
    assert!(
        answers
            .into_iter()
            .eq((2..).map(|offset| (0, offset)).take(REQUESTS))
    );
}

/// Who waits for a partition is woken by the write there, though the thread that wrote it hangs in
/// the next write of the same connection.
#[test]
fn a_fetch_that_a_write_has_woken_is_answered_though_the_next_write_hangs() {
    let gate = Arc::new(Gate::of("/topic-1/"));
    let node = Node::start_with(|env| hook(env, &gate), &[]);
    let hung = Hung {
        node,
        gate,
        waiting: Vec::new(),
    };
    hung.node.create(TOPIC, 2, &[]);
    let (mut writer, mut reader) = (hung.node.connect(), hung.node.connect());
    for partition in 0..2 {
        writer.ask(&produce(partition, 1, 100));
    }
    reader.send(&fetch(0, 1, 1_000));
    std::thread::sleep(Duration::from_millis(100));
    hung.gate.shut();
    // In one segment, so that both are served in one turn of the connection.
    writer.send(&[produce(0, 1, 100), produce(1, 1, 100)].concat());
    assert!(reader.fetched() > 100);
    hung.gate.hanging(|hanging| !hanging.is_empty());
}

/// As many cold reads as there are threads for them hang, and more: nobody who needs no such read
/// waits for them, in another partition or at the tail of the same one.
#[test]
fn cold_reads_that_hang_hold_up_nobody_else() {
    const OLD: &str = "/topic-0/00000000000000000000.log";
    let gate = Arc::new(Gate::of(OLD));
    let node = Node::start_with(|env| hook(env, &gate), &[]);
    let mut hung = Hung {
        node,
        gate,
        waiting: Vec::new(),
    };
    hung.node.create(TOPIC, 2, &[("segment.bytes", "1048576")]);
    let (mut writer, mut reader) = (hung.node.connect(), hung.node.connect());
    for partition in [0, 0, 1] {
        writer.ask(&produce(partition, 1, 600_000));
    }
    hung.gate.shut();
    for _ in 0..2 * THREADS.io_threads {
        let mut cold = hung.node.connect();
        cold.send(&fetch(0, 0, 10_000));
        hung.waiting.push(cold);
    }
    let hanging = hung
        .gate
        .hanging(|hanging| hanging.len() >= THREADS.io_threads);
    assert_eq!(inline(&hanging), 0, "{hanging:?}");
    // More often than there are threads of any kind.
    for round in 1..=16 {
        for partition in 0..2 {
            writer.send(&produce(partition, 1, 1_000));
            let offset = round + 1 - i64::from(partition);
            assert_eq!(writer.produced(), (0, offset));
            assert!(reader.fetch(partition, offset) > 1_000);
        }
        assert_eq!(hung.node.metadata(TOPIC).topics[0].error_code, 0);
    }
    assert!(!hung.waiting.iter().any(Client::is_answered));
    hung.gate.open();
    for client in &mut hung.waiting {
        assert!(client.fetched() > 0);
    }
}
