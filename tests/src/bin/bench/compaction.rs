//! Compaction of one large log: what it takes, and what others feel meanwhile.
//!
//! Input: a broker, and how much to write. Output: how long it took, the peak of the broker's
//! resident memory, and the p99 of side requests beside it and without it.
//!
//! The log is written under `cleanup.policy=delete`, in records of 512 bytes, two of each key: half
//! of it goes. Then everything dirty is written out to the disk, the side requests run alone, the
//! policy changes, and they run again until all but the active segment is compacted.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use skein_tests::wire::{Connection, Frame, api, error};

use crate::broker::Broker;
use crate::loader::Loader;
use crate::{Outcome, side, statistics};

/// Bytes of a record's value.
const RECORD_BYTES: u64 = 512;
/// Records of each key.
const RECORDS_OF_KEY: u64 = 2;
const SEGMENT_BYTES: &str = "268435456";
/// How long the side requests run at a time.
const WINDOW: Duration = Duration::from_secs(5);
/// How long they run alone.
const ALONE_WINDOWS: usize = 4;
/// How often memory is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);
const COMPACTION_TIMEOUT: Duration = Duration::from_secs(900);

/// What was measured.
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) peak_resident_mb: f64,
    pub(crate) alone_p99_ms: f64,
    pub(crate) beside_p99_ms: f64,
    /// Bytes of the log afterwards, as a share of those before.
    pub(crate) left: f64,
}

/// Writes `bytes` of values to `topic` and has the broker compact them; `side` is the topic of the
/// side requests.
pub(crate) fn measure(
    broker: &Broker,
    topic: &str,
    side: &str,
    bytes: u64,
    batch_bytes: u32,
) -> Outcome<Measured> {
    broker.create_topic(side, side::CONNECTIONS)?;
    broker.create_topic_with(topic, 1, &[("segment.bytes", SEGMENT_BYTES)])?;
    let keys = (bytes / RECORD_BYTES / RECORDS_OF_KEY).max(1);
    let numbers = [
        ("-record-bytes", RECORD_BYTES),
        ("-batch-bytes", u64::from(batch_bytes)),
        ("-keys", keys),
        ("-bytes", bytes),
    ];
    let arguments: Vec<String> = numbers
        .iter()
        .flat_map(|(name, number)| [(*name).to_owned(), number.to_string()])
        .collect();
    let mut loader = Loader::prepare(broker, "produce", topic, &arguments)?;
    loader.start()?;
    loader.finish()?;
    rustix::fs::sync();
    let path = broker.data_directory();
    let before = log_bytes(&path, topic)?;
    let mut alone = Vec::new();
    for _ in 0..ALONE_WINDOWS {
        alone.extend(side::latencies(broker.port(), side, WINDOW)?);
    }
    let has_ended = AtomicBool::new(false);
    let (beside, peak, seconds) = thread::scope(|scope| {
        let watch = scope.spawn(|| peak_resident_mb(broker, &has_ended));
        let beside = compact(broker, topic, side, &path);
        has_ended.store(true, Ordering::Relaxed);
        let peak = watch.join().map_err(|_| "the watch on memory failed")??;
        let (beside, seconds) = beside?;
        Outcome::Ok((beside, peak, seconds))
    })?;
    let p99 = |mut latencies: Vec<f64>| {
        latencies.sort_by(f64::total_cmp);
        statistics::percentile(&latencies, 99).ok_or("no side request was sent")
    };
    let after = log_bytes(&path, topic)?;
    Ok(Measured {
        seconds,
        peak_resident_mb: peak,
        alone_p99_ms: p99(alone)?,
        beside_p99_ms: p99(beside)?,
        left: crate::process::float(after) / crate::process::float(before.max(1)),
    })
}

/// Changes the policy, and waits with side requests; their latencies, and the seconds it took.
fn compact(broker: &Broker, topic: &str, side: &str, path: &Path) -> Outcome<(Vec<f64>, f64)> {
    let started = Instant::now();
    set_compacted(broker, topic)?;
    let mut beside = Vec::new();
    loop {
        let latencies = side::latencies(broker.port(), side, WINDOW)?;
        // The last window is not full of compaction.
        if is_compacted(path, topic)? {
            return match beside.is_empty() {
                true => Err("it was over at once: write more".into()),
                false => Ok((beside, started.elapsed().as_secs_f64())),
            };
        }
        beside.extend(latencies);
        if started.elapsed() > COMPACTION_TIMEOUT {
            return Err(format!("{topic} is not compacted after {COMPACTION_TIMEOUT:?}").into());
        }
    }
}

fn peak_resident_mb(broker: &Broker, has_ended: &AtomicBool) -> io::Result<f64> {
    let mut peak = 0.0_f64;
    while !has_ended.load(Ordering::Relaxed) {
        peak = peak.max(broker.resident()?);
        thread::sleep(MEMORY_INTERVAL);
    }
    Ok(peak)
}

/// Sets `cleanup.policy=compact`, with IncrementalAlterConfigs version 0.
fn set_compacted(broker: &Broker, topic: &str) -> Outcome<()> {
    let (of_topic, set) = (2, 0);
    let body = Frame::new().i32(1).i8(of_topic).string(topic).i32(1);
    let body = body
        .string("cleanup.policy")
        .i8(set)
        .string("compact")
        .i8(0);
    let mut connection = Connection::open(broker.port())?;
    let mut answer = connection.call(api::INCREMENTAL_ALTER_CONFIGS, 0, &body)?;
    answer.i32();
    match (answer.i32(), answer.i16()) {
        (1, error::NONE) => Ok(()),
        (_, code) => Err(format!("the policy of {topic} does not change: error {code}").into()),
    }
}

/// Whether the cleaner's checkpoint is where the active segment begins.
fn is_compacted(path: &Path, topic: &str) -> io::Result<bool> {
    let text = fs::read_to_string(path.join("cleaner-offset-checkpoint")).unwrap_or_default();
    let start = format!("{topic} 0 ");
    let cleaned = text.lines().find_map(|line| line.strip_prefix(&start));
    let active = logs(path, topic)?.into_iter().map(|(base, _)| base).max();
    Ok(cleaned.is_some_and(|cleaned| cleaned.parse().ok() == active))
}

fn log_bytes(path: &Path, topic: &str) -> io::Result<u64> {
    Ok(logs(path, topic)?.into_iter().map(|(_, bytes)| bytes).sum())
}

/// Base offsets and sizes of the log files.
fn logs(path: &Path, topic: &str) -> io::Result<Vec<(u64, u64)>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(path.join(format!("{topic}-0")))? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log"));
        // A file may be gone just now.
        if let (Some(Ok(base)), Ok(file)) = (base.map(str::parse), entry.metadata()) {
            logs.push((base, file.len()));
        }
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_compacted_when_only_its_active_segment_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let of_topic = path.join("t-0");
        fs::create_dir(&of_topic).unwrap();
        for base in [0, 30, 70] {
            fs::write(of_topic.join(format!("{base:020}.log")), "1234").unwrap();
        }
        fs::write(of_topic.join("00000000000000000099.log.cleaned"), "").unwrap();
        assert_eq!(log_bytes(path, "t").unwrap(), 12);
        assert!(!is_compacted(path, "t").unwrap());
        let checkpoint = path.join("cleaner-offset-checkpoint");
        fs::write(&checkpoint, "0\n2\nother 0 70\nt 0 30\n").unwrap();
        assert!(!is_compacted(path, "t").unwrap());
        fs::write(&checkpoint, "0\n2\nother 0 1\nt 0 70\n").unwrap();
        assert!(is_compacted(path, "t").unwrap());
    }
}
