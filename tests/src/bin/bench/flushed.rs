//! Records that are on the disk before they are acknowledged: how many a second, beside those that
//! are not, and beside what the disk sustains.
//!
//! Input: a system, a time. Output: records a second of many producers, each of which waits for its
//! answer before it sends the next record; and of a program that flushes for as many at once and
//! does nothing else.
//!
//! Kafka's `flush.messages=1` flushes in the produce; its share is told, and held against nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use skein_tests::System;
use skein_tests::wire::{Batch, Connection, error};

use crate::Outcome;
use crate::broker::Broker;
use crate::metrics::OfFlushed;

/// Of the topics; of the disk, files.
const PARTITIONS: i32 = 16;
/// Each sends one record at a time.
const PRODUCERS: i32 = 64;
const RECORD_BYTES: usize = 1024;
/// Not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// What flushed records must reach of those that are not, or of what the disk sustains.
const OF_REPLICATED: f64 = 0.6;
const OF_DISK: f64 = 0.8;

/// Starts a node and measures it, and then the disk that it was on.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    time: Duration,
    mut add: impl FnMut(OfFlushed, f64),
) -> Outcome<()> {
    let (broker, _) = Broker::start(system, parent)?;
    let config = match system {
        System::Skein => ("durability", "flushed"),
        System::Kafka => ("flush.messages", "1"),
    };
    broker.create_topic("replicated", PARTITIONS)?;
    broker.create_topic_with("flushed", PARTITIONS, &[config])?;
    let replicated = broker.explain(produced(broker.port(), "replicated", time))?;
    let flushed = broker.explain(produced(broker.port(), "flushed", time))?;
    broker.stop()?;
    let disk = disk(parent, time)?;
    let needed = (OF_REPLICATED * replicated).min(OF_DISK * disk);
    for (what, value) in [
        (OfFlushed::Replicated, replicated),
        (OfFlushed::Flushed, flushed),
        (OfFlushed::Disk, disk),
        (OfFlushed::Needed, needed / flushed.max(1.0)),
    ] {
        add(what, value);
    }
    Ok(())
}

/// Acknowledged records a second of all producers together.
fn produced(port: u16, topic: &str, time: Duration) -> Outcome<f64> {
    let from = Instant::now() + WARM_UP;
    let end = from + time;
    let count: io::Result<u64> = thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|number| {
                scope.spawn(move || producer(port, topic, number % PARTITIONS, from, end))
            })
            .collect();
        let joined = producers.into_iter().map(|producer| {
            let failed = |_| Err(io::Error::other("a producer failed"));
            producer.join().unwrap_or_else(failed)
        });
        joined.sum()
    });
    Ok(crate::process::float(count?) / time.as_secs_f64())
}

fn producer(
    port: u16,
    topic: &str,
    partition: i32,
    from: Instant,
    end: Instant,
) -> io::Result<u64> {
    let mut connection = Connection::open(port)?;
    let batch = Batch::of([[b'x'; RECORD_BYTES]]).encode();
    let mut counted = 0;
    loop {
        let produced = connection.produce(topic, partition, &batch)?;
        if produced.error_code != error::NONE {
            return Err(io::Error::other(format!("error {}", produced.error_code)));
        }
        let now = Instant::now();
        if now >= end {
            return Ok(counted);
        }
        counted += u64::from(now >= from);
    }
}

/// Records a second of a program that writes those of all producers, a file for each partition, and
/// flushes all files at once.
fn disk(parent: &Path, time: Duration) -> Outcome<f64> {
    let directory = tempfile::tempdir_in(parent)?;
    let files = usize::try_from(PARTITIONS)?;
    let barrier = Barrier::new(files);
    let has_ended = AtomicBool::new(false);
    let end = Instant::now() + time;
    let rounds: io::Result<Vec<u64>> = thread::scope(|scope| {
        let flushers: Vec<_> = (0..files)
            .map(|number| {
                let path = directory.path().join(number.to_string());
                let (barrier, has_ended) = (&barrier, &has_ended);
                scope
                    .spawn(move || flusher(&path, barrier, has_ended, (number == 0).then_some(end)))
            })
            .collect();
        let joined = flushers.into_iter().map(|flusher| {
            let failed = |_| Err(io::Error::other("a flusher failed"));
            flusher.join().unwrap_or_else(failed)
        });
        joined.collect()
    });
    let rounds = rounds?.into_iter().max().unwrap_or_default();
    let producers = u64::from(PRODUCERS.unsigned_abs());
    Ok(crate::process::float(rounds * producers) / time.as_secs_f64())
}

/// Rounds of one file, until whoever has an `end` says so.
fn flusher(
    path: &Path,
    barrier: &Barrier,
    has_ended: &AtomicBool,
    end: Option<Instant>,
) -> io::Result<u64> {
    let share = usize::try_from(PRODUCERS / PARTITIONS).unwrap_or(1);
    let bytes = vec![b'x'; share * RECORD_BYTES];
    let mut failed = None;
    let file = File::create(path)
        .map_err(|error| failed = Some(error))
        .ok();
    let (mut position, mut rounds) = (0, 0);
    while !has_ended.load(Ordering::SeqCst) {
        // A failure must not leave the others waiting: it shows at the end.
        if let Some(file) = &file
            && let Err(error) = file
                .write_all_at(&bytes, position)
                .and_then(|()| file.sync_data())
        {
            failed = Some(error);
        }
        position += bytes.len() as u64;
        rounds += 1;
        barrier.wait();
        if failed.is_some() || end.is_some_and(|end| Instant::now() >= end) {
            has_ended.store(true, Ordering::SeqCst);
        }
        barrier.wait();
    }
    failed.map_or(Ok(rounds), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_measured_in_whole_rounds() {
        let directory = tempfile::tempdir().unwrap();
        let time = Duration::from_millis(50);
        let rate = disk(directory.path(), time).unwrap();
        assert!(rate >= f64::from(PRODUCERS) / time.as_secs_f64(), "{rate}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_an_error_and_ends() {
        let nowhere = Path::new("/proc/self");
        assert!(disk(nowhere, Duration::from_secs(60)).is_err());
    }
}
