//! Compaction of one large log: what it takes, and what producers feel meanwhile.
//!
//! Input: a broker, and how much to write. Output: how long it took, the peak of the broker's
//! resident memory, and the latency of produces beside it and without it.
//!
//! The log is written under `cleanup.policy=delete`, in records of 512 bytes, two of each key: half
//! of it goes. Then everything dirty is written out to the disk, and a steady load begins: every
//! 10 ms each of four connections produces a batch of 16 KiB to a topic of their own, and a fifth
//! one to the very log, all with acks=all. It runs alone, then while the log is compacted (from the
//! change of the policy until all but the active segment is compacted), and alone again, so that a
//! machine which becomes slower or faster in the course of a pair does so on both sides. What was
//! replaced is removed a second later, so that this too falls into the compaction.
//!
//! The load is a small part of what the broker can take: it is there to be delayed. Latencies count
//! as in `side`.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, Connection, error};

use crate::broker::Broker;
use crate::loader::Loader;
use crate::side::{self, Asked};
use crate::{Outcome, statistics};

/// Bytes of a record's value.
const RECORD_BYTES: u64 = 512;
/// Records of each key.
const RECORDS_OF_KEY: u64 = 2;
const CONFIGS: [(&str, &str); 3] = [
    ("segment.bytes", "268435456"),
    ("file.delete.delay.ms", "1000"),
    // Until nothing is left to do, also where the keys need several passes.
    ("min.cleanable.dirty.ratio", "0.01"),
];
/// Bytes of a batch of the steady load: what Kafka's own producer fills at most.
const BATCH_BYTES: usize = 16_000;
/// How long the steady load runs at a time.
const WINDOW: Duration = Duration::from_secs(1);
/// How long it runs alone, before and after.
const ALONE_WINDOWS: usize = 8;
/// How often memory is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);
const COMPACTION_TIMEOUT: Duration = Duration::from_secs(900);

/// What was measured.
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) peak_resident_mb: f64,
    /// Bytes of the log afterwards, as a share of those before.
    pub(crate) left: f64,
    /// Of produces to another topic.
    pub(crate) others: Felt,
    /// Of produces to the log itself.
    pub(crate) own: Felt,
}

/// The p99 of a produce, in ms.
pub(crate) struct Felt {
    pub(crate) alone: f64,
    pub(crate) meanwhile: f64,
}

/// Latencies of the steady load.
#[derive(Default)]
struct Latencies {
    others: Vec<f64>,
    own: Vec<f64>,
}

/// Writes `bytes` of values to `topic` and has the broker compact them; `side` is the topic of the
/// other connections.
pub(crate) fn measure(
    broker: &Broker,
    topic: &str,
    side: &str,
    bytes: u64,
    batch_bytes: u32,
) -> Outcome<Measured> {
    broker.create_topic(side, side::CONNECTIONS)?;
    broker.create_topic_with(topic, 1, &CONFIGS)?;
    write(broker, topic, bytes, batch_bytes)?;
    let path = broker.data_directory();
    let before = log_bytes(&path, topic)?;
    let load = steady_load(topic, side);
    let mut alone = Latencies::default();
    for _ in 0..ALONE_WINDOWS {
        alone.add(side::each(broker.port(), &load, side::INTERVAL, WINDOW)?);
    }
    let has_ended = AtomicBool::new(false);
    let (meanwhile, peak, seconds) = thread::scope(|scope| {
        let watch = scope.spawn(|| peak_resident_mb(broker, &has_ended));
        let compacted = compact(broker, topic, &load, &path);
        has_ended.store(true, Ordering::Relaxed);
        let peak = watch.join().map_err(|_| "the watch on memory failed")??;
        let (meanwhile, seconds) = compacted?;
        Outcome::Ok((meanwhile, peak, seconds))
    })?;
    for _ in 0..ALONE_WINDOWS {
        alone.add(side::each(broker.port(), &load, side::INTERVAL, WINDOW)?);
    }
    let after = log_bytes(&path, topic)?;
    Ok(Measured {
        seconds,
        peak_resident_mb: peak,
        left: crate::process::float(after) / crate::process::float(before.max(1)),
        others: Felt::of(alone.others, meanwhile.others)?,
        own: Felt::of(alone.own, meanwhile.own)?,
    })
}

impl Latencies {
    /// The last connection is that to the log itself.
    fn add(&mut self, mut window: Vec<Vec<f64>>) {
        self.own.extend(window.pop().unwrap_or_default());
        self.others.extend(window.concat());
    }
}

impl Felt {
    fn of(alone: Vec<f64>, meanwhile: Vec<f64>) -> Outcome<Self> {
        let p99 = |mut latencies: Vec<f64>| {
            latencies.sort_by(f64::total_cmp);
            statistics::percentile(&latencies, 99).ok_or("nothing was produced")
        };
        Ok(Self {
            alone: p99(alone)?,
            meanwhile: p99(meanwhile)?,
        })
    }
}

/// Writes what is to be compacted, down to the disk.
fn write(broker: &Broker, topic: &str, bytes: u64, batch_bytes: u32) -> Outcome<()> {
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
    Ok(())
}

fn steady_load<'a>(topic: &'a str, side: &'a str) -> Vec<Asked<'a>> {
    let mut batch = Batch::of([[b'x'; BATCH_BYTES]]);
    batch.records[0].key = Some(b"steady".to_vec());
    let others = (0..side::CONNECTIONS).map(|partition| (side, partition));
    let targets = others.chain([(topic, 0)]);
    targets
        .map(|(topic, partition)| Asked {
            topic,
            partition,
            batch: batch.encode(),
            asks_metadata: false,
        })
        .collect()
}

/// Changes the policy, and waits under the steady load; its latencies, and the seconds it took.
fn compact(
    broker: &Broker,
    topic: &str,
    load: &[Asked<'_>],
    path: &Path,
) -> Outcome<(Latencies, f64)> {
    let active = logs(path, topic)?.into_iter().map(|(base, _)| base).max();
    let started = Instant::now();
    set_compacted(broker, topic)?;
    let mut meanwhile = Latencies::default();
    loop {
        let window = side::each(broker.port(), load, side::INTERVAL, WINDOW)?;
        // The last window is not full of compaction.
        if compacted_end(path, topic) >= active {
            return match meanwhile.others.is_empty() {
                true => Err("it was over at once: write more".into()),
                false => Ok((meanwhile, started.elapsed().as_secs_f64())),
            };
        }
        meanwhile.add(window);
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

fn set_compacted(broker: &Broker, topic: &str) -> Outcome<()> {
    let mut connection = Connection::open(broker.port())?;
    match connection.set_topic_config(topic, "cleanup.policy", "compact")? {
        error::NONE => Ok(()),
        code => Err(format!("the policy of {topic} does not change: error {code}").into()),
    }
}

/// Up to where the log is compacted, by the cleaner's checkpoint.
fn compacted_end(path: &Path, topic: &str) -> Option<u64> {
    let text = fs::read_to_string(path.join("cleaner-offset-checkpoint")).unwrap_or_default();
    let start = format!("{topic} 0 ");
    let end = text.lines().find_map(|line| line.strip_prefix(&start))?;
    end.parse().ok()
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
    fn what_is_compacted_is_read_from_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let of_topic = path.join("t-0");
        fs::create_dir(&of_topic).unwrap();
        for base in [0, 30, 70] {
            fs::write(of_topic.join(format!("{base:020}.log")), "1234").unwrap();
        }
        fs::write(of_topic.join("00000000000000000099.log.cleaned"), "").unwrap();
        assert_eq!(log_bytes(path, "t").unwrap(), 12);
        assert_eq!(logs(path, "t").unwrap().into_iter().max(), Some((70, 4)));
        assert_eq!(compacted_end(path, "t"), None);
        let checkpoint = path.join("cleaner-offset-checkpoint");
        fs::write(&checkpoint, "0\n2\nother 0 70\nt 0 30\n").unwrap();
        assert_eq!(compacted_end(path, "t"), Some(30));
    }

    #[test]
    fn the_last_connection_is_that_to_the_log_itself() {
        let load = steady_load("t", "side");
        let topics: Vec<&str> = load.iter().map(|asked| asked.topic).collect();
        assert_eq!(topics, ["side", "side", "side", "side", "t"]);
        let mut latencies = Latencies::default();
        latencies.add(vec![vec![1.0], vec![2.0], vec![9.0]]);
        assert_eq!(
            (latencies.others, latencies.own),
            (vec![1.0, 2.0], vec![9.0])
        );
    }
}
