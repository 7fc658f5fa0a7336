//! What many readers cost those who write: the time of an append, alone and beside them.
//!
//! Input: a system, how many readers, a time. Output: the time of a write to a segment file, which
//! is made under the partition's lock, as Skein counts it; the latency of small requests; and how
//! many processors had nothing to do.
//!
//! Writer and readers have fixed rates, which leave half of a processor idle: what is measured is
//! whether readers stand in the way, not what is left when they take the machine.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use skein_tests::System;
use skein_tests::wire::{Connection, FetchLimits, api, error};

use crate::broker::{Broker, FIRST_OFFSET};
use crate::load::{Load, PARTITIONS, argument};
use crate::loader::Loader;
use crate::metrics::OfReaders;
use crate::process::float;
use crate::{Outcome, side, statistics};

const TOPIC: &str = "read-by-many";
const SIDE: &str = "beside-many";
/// Of the writer.
const WRITTEN_PER_SECOND: u64 = 2_000;
/// Of all readers together.
const READS_PER_SECOND: u32 = 1_000;
/// The readers are spoken for by so many threads.
const THREADS: u32 = 8;
/// Of an answer, about.
const READ_BYTES: i32 = 16 << 10;
/// What there is to read.
const FILLED_BYTES: u64 = 16 << 20;
/// How long the loads have run when they are measured.
const LEAD: Duration = Duration::from_secs(1);
const WRITES: &str = "skein_write_seconds";

/// Starts a node and measures it.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    (readers, time): (u32, Duration),
    mut add: impl FnMut(OfReaders, f64),
) -> Outcome<()> {
    let (broker, _) = Broker::start(system, parent)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    broker.create_topic(SIDE, side::CONNECTIONS)?;
    let load = Load::plain(1024, READ_BYTES.unsigned_abs());
    let mut filler = Loader::prepare(&broker, "produce", TOPIC, &load.arguments(FILLED_BYTES))?;
    filler.start()?;
    filler.finish()?;
    let paced = [load.arguments(0), argument("-rate", WRITTEN_PER_SECOND)].concat();
    let mut writer = Loader::prepare(&broker, "produce", TOPIC, &paced)?;
    writer.start()?;
    thread::sleep(LEAD);
    let alone = broker.explain(seen(&broker, time))?;
    let meanwhile = thread::scope(|scope| {
        let end = Instant::now() + 2 * LEAD + time;
        let port = broker.port();
        let reading: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || read(port, thread, readers, end)))
            .collect();
        thread::sleep(LEAD);
        let seen = seen(&broker, time);
        for reader in reading {
            reader.join().map_err(|_| "a reader failed")??;
        }
        seen
    });
    let meanwhile = broker.explain(meanwhile)?;
    writer.finish()?;
    broker.stop()?;
    for (what, value) in [
        (OfReaders::SideAlone, alone.side_p99),
        (OfReaders::SideMeanwhile, meanwhile.side_p99),
        (OfReaders::Idle, meanwhile.idle_processors),
    ] {
        add(what, value);
    }
    if let (Some(alone), Some(meanwhile)) = (alone.writes, meanwhile.writes) {
        add(OfReaders::MeanAlone, alone.mean_micros());
        add(OfReaders::MeanMeanwhile, meanwhile.mean_micros());
        let (p99_alone, p99_meanwhile) = (alone.p99_micros(), meanwhile.p99_micros());
        add(OfReaders::P99Alone, p99_alone);
        add(OfReaders::P99Meanwhile, p99_meanwhile);
        add(OfReaders::P99Ratio, p99_meanwhile / p99_alone);
    }
    Ok(())
}

/// What was seen for a while.
struct Seen {
    side_p99: f64,
    idle_processors: f64,
    writes: Option<Writes>,
}

fn seen(broker: &Broker, time: Duration) -> Outcome<Seen> {
    let writes = || Writes::counted(broker);
    let (idle_before, writes_before, begun) = (idle_seconds()?, writes()?, Instant::now());
    let latencies = side::latencies(broker.port(), SIDE, time)?;
    let idle = idle_seconds()? - idle_before;
    let took = begun.elapsed().as_secs_f64();
    let writes = writes_before.zip(writes()?);
    Ok(Seen {
        side_p99: statistics::percentile(&latencies, 99).ok_or("no side request was sent")?,
        idle_processors: idle / took,
        writes: writes.map(|(before, after)| after.since(&before)),
    })
}

/// The share of one thread in the reads of all: one of its readers after the other, at its rate.
fn read(port: u16, thread: u32, readers: u32, end: Instant) -> io::Result<()> {
    let own = (thread..readers).step_by(THREADS as usize);
    let connections = own.map(|number| Ok((number, Connection::open(port)?)));
    let mut connections = connections.collect::<io::Result<Vec<_>>>()?;
    let interval = Duration::from_secs(1) * THREADS / READS_PER_SECOND;
    let mut due = Instant::now();
    while !connections.is_empty() {
        for (number, connection) in &mut connections {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if Instant::now() >= end {
                return Ok(());
            }
            due += interval;
            let partition = i32::try_from(*number).unwrap_or(0) % PARTITIONS;
            let limits = FetchLimits {
                partition_max_bytes: READ_BYTES,
                ..FetchLimits::default()
            };
            let body = Connection::limited_fetch_body(TOPIC, partition, FIRST_OFFSET, limits);
            let fetched = Connection::fetched(&mut connection.call(api::FETCH, 4, &body)?);
            if fetched.error_code != error::NONE {
                let message = format!("a reader got error {}", fetched.error_code);
                return Err(io::Error::other(message));
            }
        }
    }
    Ok(())
}

/// Of all processors together, since the machine has started.
fn idle_seconds() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    // cpu user nice system idle iowait ...
    let fields = stat.lines().next().unwrap_or_default();
    let idle = fields.split_whitespace().nth(4);
    let ticks: u64 = idle.ok_or("/proc/stat has no idle time")?.parse()?;
    Ok(float(ticks) / float(rustix::param::clock_ticks_per_second()))
}

/// A histogram of the times of writes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Writes {
    /// Bounds in seconds, and how many did not pass them.
    buckets: Vec<(f64, f64)>,
    seconds: f64,
    count: f64,
}

impl Writes {
    /// As Skein counts them; Kafka has no such count.
    fn counted(broker: &Broker) -> Outcome<Option<Self>> {
        if broker.system() == System::Kafka {
            return Ok(None);
        }
        let text = broker.metrics()?;
        Self::parse(&text)
            .map(Some)
            .ok_or_else(|| format!("no {WRITES}").into())
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let name = format!("{WRITES}_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name))?;
            line.trim().parse::<f64>().ok()
        };
        let prefix = format!("{WRITES}_bucket{{le=\"");
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"}")?;
            Some((bound.parse().ok()?, count.trim().parse().ok()?))
        };
        Some(Self {
            buckets: text.lines().filter_map(bucket).collect(),
            seconds: value("sum")?,
            count: value("count")?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&before.buckets);
        Self {
            buckets: buckets
                .map(|((bound, count), (_, before))| (*bound, count - before))
                .collect(),
            seconds: self.seconds - before.seconds,
            count: self.count - before.count,
        }
    }

    fn mean_micros(&self) -> f64 {
        self.seconds * 1e6 / self.count.max(1.0)
    }

    /// Within its bucket in proportion, as Prometheus has it.
    fn p99_micros(&self) -> f64 {
        let rank = self.count * 0.99;
        let (mut below, mut passed) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            if *count >= rank && *count > passed {
                let share = (rank - passed) / (count - passed);
                // What passes every bound is as long as the last one.
                let bound = if bound.is_finite() { *bound } else { below };
                return (below + (bound - below) * share) * 1e6;
            }
            (below, passed) = (*bound, *count);
        }
        below * 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "skein_write_seconds_sum 0.005\nskein_write_seconds_count 100\n\
                        skein_write_seconds_bucket{le=\"0.00002\"} 50\n\
                        skein_write_seconds_bucket{le=\"0.00004\"} 98\n\
                        skein_write_seconds_bucket{le=\"0.00008\"} 100\n\
                        skein_write_seconds_bucket{le=\"+Inf\"} 100\n";

    #[test]
    fn the_99th_percentile_lies_within_its_bucket() {
        let writes = Writes::parse(TEXT).unwrap();
        assert_eq!(writes.buckets.len(), 4);
        assert!((writes.mean_micros() - 50.0).abs() < 1e-6);
        // The 99th of 98 to 100 in 40 to 80 µs.
        assert!((writes.p99_micros() - 60.0).abs() < 1e-6, "{writes:?}");
        let none = writes.since(&writes);
        assert_eq!((none.count, none.p99_micros().is_nan()), (0.0, false));
    }

    #[test]
    fn the_machine_tells_its_idle_time() {
        assert!(idle_seconds().unwrap() > 0.0);
    }
}
