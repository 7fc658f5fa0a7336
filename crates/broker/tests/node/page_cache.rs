//! What readers leave in the page cache, and what they find there.
//!
//! On a file system that is memory nothing leaves the cache, and these tests see nothing.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::MmapOptions;
use parking_lot::Mutex;
use skein_env::real::RealDisk;
use skein_env::{Disk, OpenMode};

use super::harness::{Client, Node, TOPIC, fetch, patient_fetch, produce};
use super::hooks::{Hooks, hook};

/// A batch of one record that fills half of what a reader asks for at a time.
const VALUE_BYTES: usize = 500_000;
const ASKED_BYTES: i32 = 1_048_576;

const SEGMENT_BYTES: &str = "8388608";

const PAGE_BYTES: u64 = 4096;

/// Pages that are read for other reasons: programs, indexes.
const OTHERS_BYTES: u64 = 1_000_000;

/// One at a time: what is read from devices is counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// A file's bytes that are in the page cache.
#[allow(unsafe_code, reason = "no crate that is here has the call")]
fn resident(path: &Path) -> u64 {
    const IN_MEMORY: u8 = 1;
    let file = fs::File::open(path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    if length == 0 {
        return 0;
    }
    let map = MmapOptions::new()
        .len(length)
        .map_raw_read_only(file.as_raw_fd())
        .unwrap();
    let mut pages = vec![0_u8; length.div_ceil(usize::try_from(PAGE_BYTES).unwrap())];
    // SAFETY: the call writes one byte for each page of the map.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), length, pages.as_mut_ptr()) };
    assert_eq!(result, 0);
    pages.iter().filter(|page| *page & IN_MEMORY != 0).count() as u64 * PAGE_BYTES
}

fn all_resident(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|path| resident(path)).sum()
}

/// Has the file's bytes written back and dropped.
fn forget(path: &Path) {
    let file = RealDisk.open(path, OpenMode::Read).unwrap();
    file.sync_data().unwrap();
    file.drop_cache(0, file.length().unwrap());
}

/// Bytes that this process had read from devices.
fn read_from_devices() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    line.unwrap().parse().unwrap()
}

/// The segment files of a partition, the oldest first.
fn segments(node: &Node, partition: i32) -> Vec<PathBuf> {
    let directory = node.directory.path().join(format!("{TOPIC}-{partition}"));
    let files = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}

fn append(client: &mut Client, partition: i32, batches: i64) {
    let request = produce(partition, 1, VALUE_BYTES);
    for _ in 0..batches {
        client.send(&request);
        assert_eq!(client.produced().0, 0);
    }
}

/// A reader that goes on from batch to batch.
struct Scan {
    client: Client,
    offset: i64,
}

impl Scan {
    fn new(node: &Node) -> Self {
        Self {
            client: node.connect(),
            offset: 0,
        }
    }

    /// Reads the next range of partition 0.
    fn go_on(&mut self) {
        self.client.send(&fetch(0, self.offset, ASKED_BYTES));
        let batches = self.client.fetched() / VALUE_BYTES;
        assert!(batches > 0, "nothing at {}", self.offset);
        self.offset += i64::try_from(batches).unwrap();
    }
}

/// What was read ahead.
#[derive(Default)]
struct ReadAhead {
    ranges: Mutex<Vec<(PathBuf, u64, u64)>>,
    prefetched: Mutex<Vec<(PathBuf, u64, u64)>>,
}

impl Hooks for ReadAhead {
    fn reading_ahead(&self, path: &Path, offset: u64, length: u64) {
        self.ranges.lock().push((path.to_owned(), offset, length));
    }

    fn prefetching(&self, path: &Path, offset: u64, length: u64) {
        self.prefetched
            .lock()
            .push((path.to_owned(), offset, length));
    }
}

/// Several segments that nobody has in the cache, and tails that somebody will want.
struct History {
    node: Node,
    read_ahead: Arc<ReadAhead>,
    old: Vec<PathBuf>,
    tails: Vec<PathBuf>,
}

impl History {
    const BATCHES: i64 = 38;

    fn new() -> Self {
        let read_ahead = Arc::new(ReadAhead::default());
        let node = Node::start_with(|env| hook(env, &read_ahead), &[]);
        node.create(TOPIC, 2, &[("segment.bytes", SEGMENT_BYTES)]);
        let mut client = node.connect();
        append(&mut client, 0, Self::BATCHES);
        append(&mut client, 1, 8);
        let mut old = segments(&node, 0);
        let active = old.pop().unwrap();
        assert_eq!(old.len(), 2, "{old:?}");
        let mut tails = segments(&node, 1);
        tails.push(active);
        old.iter().for_each(|path| forget(path));
        Self {
            node,
            read_ahead,
            old,
            tails,
        }
    }

    fn old_bytes(&self) -> u64 {
        self.old
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum()
    }
}

#[test]
fn a_historical_scan_leaves_the_page_cache_as_it_was() {
    let _alone = ALONE.lock();
    let history = History::new();
    if all_resident(&history.old) > 0 {
        return;
    }
    let tails = all_resident(&history.tails);
    assert!(tails > 8 * VALUE_BYTES as u64);
    let read_before = read_from_devices();
    let mut scan = Scan::new(&history.node);
    let mut most = 0;
    while scan.offset < History::BATCHES {
        scan.go_on();
        most = most.max(all_resident(&history.old));
    }
    let read = read_from_devices() - read_before;
    // The last range of the reader, what is prefetched, the ends of segments, and now and then a
    // range that the device was still busy with: the system drops no page that is being read.
    let old = history.old_bytes();
    assert!(most <= old / 2, "{most} bytes at most, of {old}");
    let left = all_resident(&history.old);
    assert!(left <= old / 2, "{left} bytes at the end, of {old}");
    let tails_after = all_resident(&history.tails);
    assert!(tails_after * 100 >= tails * 95, "{tails_after} of {tails}");
    // And no byte is read twice for it.
    assert!(
        read < old + old / 10 + OTHERS_BYTES,
        "{read} bytes for {old}"
    );
    assert!(history.node.metric("skein_fetches_cold_total") >= 15);
}

#[test]
fn a_historical_reader_finds_its_next_range_prefetched() {
    let _alone = ALONE.lock();
    let history = History::new();
    let mut scan = Scan::new(&history.node);
    let (ranges, prefetched) = (&history.read_ahead.ranges, &history.read_ahead.prefetched);
    let mut expected: Option<(PathBuf, u64, u64)> = None;
    for _ in 0..6 {
        scan.go_on();
        let read: Vec<_> = std::mem::take(&mut *ranges.lock());
        assert_eq!(read.len(), 1, "a range is read as a whole: {read:?}");
        let (path, start, length) = &read[0];
        if let Some((prefetched_path, from, count)) = expected {
            assert_eq!(*path, prefetched_path);
            // A batch that was cut off at the end is read again.
            assert!((from - VALUE_BYTES as u64..=from).contains(start));
            assert!(start + length <= from + count, "{read:?}");
        }
        expected = std::mem::take(&mut *prefetched.lock()).pop();
        assert_eq!(expected.is_some(), *start > 0, "once it has read on");
    }
}

#[test]
fn two_historical_readers_side_by_side_read_the_device_once() {
    let _alone = ALONE.lock();
    let history = History::new();
    if all_resident(&history.old) > 0 {
        return;
    }
    let read_before = read_from_devices();
    let (mut first, mut second) = (Scan::new(&history.node), Scan::new(&history.node));
    while first.offset < History::BATCHES {
        first.go_on();
        second.go_on();
    }
    let read = read_from_devices() - read_before;
    let old = history.old_bytes();
    assert!(
        read < old + old / 10 + OTHERS_BYTES,
        "{read} bytes for {old}"
    );
    let left = all_resident(&history.old);
    assert!(left <= old / 2, "{left} bytes of {old}");
}

#[test]
fn who_reads_behind_a_cold_reader_takes_the_cold_way_until_that_one_has_caught_up() {
    const BATCHES: i64 = 12;
    let _alone = ALONE.lock();
    let node = Node::start();
    node.create(TOPIC, 1, &[]);
    append(&mut node.connect(), 0, BATCHES);
    let log = segments(&node, 0).pop().unwrap();
    forget(&log);
    if resident(&log) > 0 {
        return;
    }
    let mut cold = Scan::new(&node);
    while cold.offset < BATCHES / 2 {
        cold.go_on();
    }
    // All that follows is in the cache.
    drop(fs::read(&log).unwrap());
    let cold_ways = |of: &mut dyn FnMut()| {
        let before = node.metric("skein_fetches_cold_total");
        of();
        node.metric("skein_fetches_cold_total") - before
    };
    assert_eq!(cold_ways(&mut || Scan::new(&node).go_on()), 1);
    while cold.offset < BATCHES {
        cold.go_on();
    }
    // It waits for what there is not.
    cold.client.send(&patient_fetch(0, BATCHES, 10));
    assert_eq!(cold.client.fetched(), 0);
    assert_eq!(cold_ways(&mut || Scan::new(&node).go_on()), 0);
}

#[test]
fn a_reader_at_the_tail_reads_no_device() {
    let _alone = ALONE.lock();
    let node = Node::start();
    node.create(TOPIC, 1, &[("segment.bytes", SEGMENT_BYTES)]);
    let (mut writer, mut scan) = (node.connect(), Scan::new(&node));
    append(&mut writer, 0, 1);
    scan.go_on();
    let before = read_from_devices();
    // Over several segments.
    for _ in 0..40 {
        append(&mut writer, 0, 1);
        scan.go_on();
    }
    let read = read_from_devices() - before;
    assert!(read < OTHERS_BYTES, "{read} bytes");
    assert!(node.metric("skein_fetches_cold_total") <= 4);
}
