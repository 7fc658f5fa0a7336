//! A node with very many segments: whether a stop right after they were filled is clean, how soon
//! the node serves after a kill and after a stop, what it reads for that, what it needs while idle,
//! and what a lookup costs that finds nothing in memory.
//!
//! Input: a system, and the shape of the data. Output: measurements.
//!
//! A segment is full when its batches span `segment.ms`: the timestamps of these jump from one to
//! the next, so that small segments are made without waiting. What is "cold" was dropped from the
//! page cache first, and each lookup goes to a segment that no other one has touched.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, Connection, FetchLimits, api, error};
use skein_tests::{Node, Settings, System};

use crate::metrics::{OfSegments, Where};
use crate::{Outcome, machine, process};

/// How the segments are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    partitions: u32,
    /// Of each.
    segments: i64,
}

impl Shape {
    /// So many segments in many partitions, and in one.
    pub(crate) fn both(segments: u32) -> [(Where, Self); 2] {
        let partitions = segments.isqrt().max(1);
        let of = |partitions| Self {
            partitions,
            segments: i64::from(segments / partitions),
        };
        [(Where::Wide, of(partitions)), (Where::Deep, of(1))]
    }

    fn partitions(self) -> Outcome<i32> {
        Ok(i32::try_from(self.partitions)?)
    }
}

const TOPIC: &str = "segments";
/// The mark of a clean stop.
const CLEAN: &str = ".kafka_cleanshutdown";
const SETTINGS: Settings<'static> = &[
    // The recovery point comes along, as it has on a node that has filled so many segments.
    ("log.flush.offset.checkpoint.interval.ms", "1000"),
];
/// A segment's batches, each of one record; together about 64 KiB.
const BATCHES: i64 = 8;
const RECORD_BYTES: usize = 8 << 10;
const SEGMENT_MS: &str = "1000";
/// From the timestamp of one segment to that of the next.
const STEP_MS: i64 = 10_000;
/// Any time in the past that retention keeps.
const AGE_MS: i64 = 2 * 24 * 60 * 60 * 1000;
const SERVE_TIMEOUT: Duration = Duration::from_secs(120);
/// From the last record until all is flushed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a node has been alone when its memory is taken, and its checkpoints are written.
const IDLE: Duration = Duration::from_secs(3);
const LOOKUPS: i64 = 500;
/// Neighbours of the order of lookups lie far apart: odd, and prime to all numbers of segments.
const STRIDE: i64 = 7_919;

/// Fills a node and measures it.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    shape: Shape,
    mut add: impl FnMut(OfSegments, f64),
) -> Outcome<()> {
    let mut node = Node::prepare_in(parent, system, SETTINGS);
    node.start_again();
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let first_timestamp = fill(&node, shape)?;
    let (_, took) = node.stop();
    add(OfSegments::FilledStop, millis(took));
    let is_clean = node.data_directory().join(CLEAN).exists();
    add(OfSegments::FilledUnclean, if is_clean { 0.0 } else { 1.0 });
    node.start_again();
    wait_for_recovery_points(&node, shape)?;

    node.kill();
    machine::forget(&node.data_directory())?;
    let started = serve(&mut node, shape)?;
    add(OfSegments::KilledFirst, millis(started.first));
    add(OfSegments::KilledAll, millis(started.all));
    add(OfSegments::KilledRead, read_mb(node.id())?);
    if let Some(scanned) = scanned_segments(&node) {
        add(OfSegments::KilledScanned, scanned);
    }

    let (status, took) = node.stop();
    if !status.success() {
        return Err(format!("{system:?} did not stop: {status}{}", node.log_tail()).into());
    }
    add(OfSegments::Stop, millis(took));
    machine::forget(&node.data_directory())?;
    let started = serve(&mut node, shape)?;
    add(OfSegments::StoppedAll, millis(started.all));
    add(OfSegments::StoppedRead, read_mb(node.id())?);
    if let Some(scanned) = scanned_segments(&node) {
        add(OfSegments::StoppedScanned, scanned);
    }
    std::thread::sleep(IDLE);
    add(OfSegments::Idle, process::resident_mb(node.id())?);

    let (first, rest) = lookups(&node, shape, first_timestamp, false)?;
    add(OfSegments::OffsetFirst, first);
    add(OfSegments::Offset, rest);
    node.stop();
    machine::forget(&node.data_directory())?;
    serve(&mut node, shape)?;
    std::thread::sleep(IDLE);
    let (first, rest) = lookups(&node, shape, first_timestamp, true)?;
    add(OfSegments::TimeFirst, first);
    add(OfSegments::Time, rest);
    Ok(())
}

/// Makes the topic and its segments; returns the timestamp of the first one.
fn fill(node: &Node, shape: Shape) -> Outcome<i64> {
    let mut connection = Connection::open(node.ports().client)?;
    let configs = [("segment.ms", SEGMENT_MS)];
    let code = connection.create_topic(TOPIC, shape.partitions()?, &configs)?;
    if code != error::NONE {
        return Err(format!("no topic: error {code}{}", node.log_tail()).into());
    }
    let mut batch = Batch::of(vec![[0x55; RECORD_BYTES]]);
    let first_timestamp = batch.base_timestamp - AGE_MS;
    for partition in 0..shape.partitions()? {
        for segment in 0..shape.segments {
            batch.base_timestamp = first_timestamp + segment * STEP_MS;
            let bytes = batch.encode();
            for _ in 0..BATCHES {
                let asked = Instant::now();
                while connection.produce(TOPIC, partition, &bytes)?.error_code != error::NONE {
                    if asked.elapsed() > SERVE_TIMEOUT {
                        return Err(format!("nothing is taken{}", node.log_tail()).into());
                    }
                }
            }
        }
    }
    Ok(first_timestamp)
}

/// Waits until all but the last segment of each partition is flushed, and written down as such: a
/// node that has filled so many segments has lived for longer than this one.
fn wait_for_recovery_points(node: &Node, shape: Shape) -> Outcome<()> {
    let path = node.data_directory();
    let path = path.join("recovery-point-offset-checkpoint");
    let wanted = (shape.segments - 1) * BATCHES;
    let asked = Instant::now();
    loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let of_topic = text.lines().filter(|line| line.starts_with(TOPIC));
        let offsets = of_topic.filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok());
        let count = offsets.filter(|offset| *offset >= wanted).count();
        if count == usize::try_from(shape.partitions)? {
            return Ok(());
        }
        if asked.elapsed() > FLUSH_TIMEOUT {
            return Err(format!("{count} partitions are flushed{}", node.log_tail()).into());
        }
        std::thread::sleep(IDLE);
    }
}

struct Started {
    /// Until the first partition told its end.
    first: Duration,
    /// Until all did.
    all: Duration,
}

fn serve(node: &mut Node, shape: Shape) -> Outcome<Started> {
    let asked = Instant::now();
    node.start_again();
    let mut connection = Connection::open(node.ports().client)?;
    let end = shape.segments * BATCHES;
    let mut first = None;
    for partition in 0..shape.partitions()? {
        loop {
            let (code, _, offset) = connection.list_offset(TOPIC, partition, -1)?;
            if code == error::NONE && offset == end {
                break;
            }
            if code == error::NONE || asked.elapsed() > SERVE_TIMEOUT {
                let tail = node.log_tail();
                return Err(format!("{partition}: error {code}, end {offset}{tail}").into());
            }
        }
        first.get_or_insert_with(|| asked.elapsed());
    }
    let all = asked.elapsed();
    let first = first.unwrap_or(all);
    Ok(Started { first, all })
}

/// CPU of the node for the first lookup, and for each of those that follow, in microseconds.
fn lookups(node: &Node, shape: Shape, first_timestamp: i64, by_time: bool) -> Outcome<(f64, f64)> {
    machine::forget(&node.data_directory())?;
    let mut connection = Connection::open(node.ports().client)?;
    let all = shape.segments * i64::from(shape.partitions);
    let cpu = || process::cpu_seconds(node.id());
    let exact_start = process::exact_cpu_seconds(node.id())?;
    let (mut first, mut after_first) = (0.0, 0.0);
    let count = LOOKUPS.min(all);
    for number in 0..count {
        // From the middle on, since the ends may be special.
        let at = (all / 2 + number * STRIDE) % all;
        let partition = i32::try_from(at / shape.segments)?;
        let segment = at % shape.segments;
        let offset = segment * BATCHES + BATCHES / 2;
        if by_time {
            let timestamp = first_timestamp + segment * STEP_MS - STEP_MS / 2;
            let (code, _, found) = connection.list_offset(TOPIC, partition, timestamp)?;
            if (code, found) != (error::NONE, segment * BATCHES) {
                return Err(format!("time {timestamp}: error {code}, offset {found}").into());
            }
        } else {
            let limits = FetchLimits {
                max_bytes: 1,
                ..FetchLimits::default()
            };
            let body = Connection::limited_fetch_body(TOPIC, partition, offset, limits);
            let fetched = Connection::fetched(&mut connection.call(api::FETCH, 4, &body)?);
            if fetched.error_code != error::NONE || fetched.records.is_empty() {
                return Err(format!("offset {offset}: error {}", fetched.error_code).into());
            }
        }
        if number == 0 {
            first = process::exact_cpu_seconds(node.id())? - exact_start;
            after_first = cpu()?;
        }
    }
    let micros = |seconds: f64| seconds * 1e6;
    let rest = process::float((count - 1).max(1).unsigned_abs());
    Ok((micros(first), micros(cpu()? - after_first) / rest))
}

/// Bytes that the process has read through system calls, in MB.
fn read_mb(id: u32) -> Outcome<f64> {
    let io = fs::read_to_string(format!("/proc/{id}/io"))?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    let bytes: u64 = bytes.ok_or("/proc/ID/io has no rchar")?.parse()?;
    Ok(process::float(bytes) / 1e6)
}

/// Skein's own count; Kafka has none.
fn scanned_segments(node: &Node) -> Option<f64> {
    let is_counted = node.system() == System::Skein;
    is_counted.then(|| node.metric("skein_recovery_scanned_segments_total"))
}
