//! What a scan of old data costs those who want none of it, and how near it comes to the disk.
//!
//! Input: a system, how much there is to scan, a time. Output: what the disk gives and what the
//! reader gets; the latency of small requests alone and beside the scan; what is left of old data
//! and of a tail in the page cache.
//!
//! The disk is measured by reading the same files with nothing in between, and all of it is dropped
//! from the page cache before each reading. Under a hypervisor, that one's cache may answer both.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ReadWriteFlags;
use skein_tests::System;
use skein_tests::wire::{Batch, Connection, FetchLimits, api, error};

use crate::broker::{Broker, FIRST_OFFSET};
use crate::metrics::OfScan;
use crate::process::float;
use crate::{Outcome, machine, side, statistics};

const OLD: &str = "scanned";
const TAIL: &str = "tail";
const SIDE: &str = "beside-scan";
/// Of the old data.
const PARTITIONS: i32 = 4;
/// Of the tail, at most.
const TAIL_BYTES_MAX: u64 = 64 << 20;
/// Of a value: as large as the default limit lets a batch be.
const VALUE_BYTES: usize = 900_000;
/// What consumers ask for by default.
const ASKED_BYTES: i32 = 1 << 20;
/// How long the scan has run when requests beside it are measured.
const LEAD: Duration = Duration::from_millis(200);
const PAGE_BYTES: u64 = 4096;
const MEGA: f64 = 1e6;

/// Starts a node and measures it.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    (bytes, time): (u64, Duration),
    mut add: impl FnMut(OfScan, f64),
) -> Outcome<()> {
    let (broker, _) = Broker::start(system, parent)?;
    broker.create_topic(OLD, PARTITIONS)?;
    broker.create_topic(TAIL, 1)?;
    broker.create_topic(SIDE, side::CONNECTIONS)?;
    let batches = (bytes / VALUE_BYTES as u64 / u64::from(PARTITIONS.unsigned_abs())).max(8);
    for partition in 0..PARTITIONS {
        fill(&broker, OLD, partition, batches)?;
    }
    machine::forget(&broker.data_directory())?;
    let disk = raw_rate(&broker)?;
    machine::forget(&broker.data_directory())?;
    fill(
        &broker,
        TAIL,
        0,
        bytes.min(TAIL_BYTES_MAX) / VALUE_BYTES as u64,
    )?;
    let tail_before = resident(&files(&broker, TAIL)?)?;
    let port = broker.port();
    let p99 = |time| {
        let latencies = side::latencies(port, SIDE, time)?;
        statistics::percentile(&latencies, 99).ok_or_else(|| "no side request was sent".into())
    };
    let alone: f64 = broker.explain(p99(time))?;

    let begun = Instant::now();
    scan(port, batches, None)?;
    let took = begun.elapsed().as_secs_f64();
    let scanned = float(batches * VALUE_BYTES as u64) * f64::from(PARTITIONS) / MEGA / took;
    let left = resident(&files(&broker, OLD)?)?;
    let tail = resident(&files(&broker, TAIL)?)?;

    forget(&files(&broker, OLD)?)?;
    let meanwhile = thread::scope(|scope| {
        let end = Instant::now() + LEAD + time;
        let scanning = scope.spawn(move || {
            while Instant::now() < end {
                scan(port, batches, Some(end)).map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        });
        thread::sleep(LEAD);
        let seen = p99(time);
        scanning.join().map_err(|_| "the scan failed")??;
        seen
    });
    let meanwhile = broker.explain(meanwhile)?;
    broker.stop()?;
    for (what, value) in [
        (OfScan::Disk, disk),
        (OfScan::Rate, scanned),
        (OfScan::DiskRatio, disk / scanned),
        (OfScan::Left, float(left) / MEGA),
        (
            OfScan::TailLost,
            (1.0 - float(tail) / float(tail_before)) * 100.0,
        ),
        (OfScan::SideAlone, alone),
        (OfScan::SideMeanwhile, meanwhile),
        (OfScan::SideRatio, meanwhile / alone),
    ] {
        add(what, value);
    }
    Ok(())
}

/// Appends batches of one record.
fn fill(broker: &Broker, topic: &str, partition: i32, batches: u64) -> Outcome<()> {
    let mut connection = Connection::open(broker.port())?;
    let batch = Batch::of([vec![0x55; VALUE_BYTES]]).encode();
    for _ in 0..batches {
        let code = connection.produce(topic, partition, &batch)?.error_code;
        if code != error::NONE {
            return Err(format!("{topic} takes nothing: error {code}").into());
        }
    }
    Ok(())
}

/// Reads all partitions, one after the other, or until it is time.
fn scan(port: u16, batches: u64, until: Option<Instant>) -> Outcome<()> {
    let mut connection = Connection::open(port)?;
    let end = FIRST_OFFSET + i64::try_from(batches)?;
    for partition in 0..PARTITIONS {
        let mut offset = FIRST_OFFSET;
        while offset < end {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            let limits = FetchLimits {
                max_bytes: ASKED_BYTES,
                partition_max_bytes: ASKED_BYTES,
                ..FetchLimits::default()
            };
            let body = Connection::limited_fetch_body(OLD, partition, offset, limits);
            let fetched = Connection::fetched(&mut connection.call(api::FETCH, 4, &body)?);
            let count = fetched.records.len() / VALUE_BYTES;
            if fetched.error_code != error::NONE || count == 0 {
                return Err(format!("offset {offset}: error {}", fetched.error_code).into());
            }
            offset += i64::try_from(count)?;
        }
    }
    Ok(())
}

/// The segment files of a topic.
fn files(broker: &Broker, topic: &str) -> Outcome<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for directory in fs::read_dir(broker.data_directory())? {
        let directory = directory?;
        let name = directory.file_name();
        let is_of_topic = name
            .to_string_lossy()
            .rsplit_once('-')
            .is_some_and(|(of, _)| of == topic);
        if !is_of_topic {
            continue;
        }
        for file in fs::read_dir(directory.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                logs.push(path);
            }
        }
    }
    Ok(logs)
}

/// What the disk gives who reads the old data from one end to the other, in MB/s.
fn raw_rate(broker: &Broker) -> Outcome<f64> {
    let mut buffer = vec![0; usize::try_from(ASKED_BYTES)?];
    let (begun, mut bytes) = (Instant::now(), 0);
    for path in files(broker, OLD)? {
        let mut file = File::open(path)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => bytes += count as u64,
            }
        }
    }
    Ok(float(bytes) / MEGA / begun.elapsed().as_secs_f64())
}

fn forget(files: &[PathBuf]) -> Outcome<()> {
    let directories: std::collections::BTreeSet<&Path> =
        files.iter().filter_map(|file| file.parent()).collect();
    for directory in directories {
        machine::forget_files(directory)?;
    }
    Ok(())
}

/// Bytes of the files that are in the page cache.
///
/// A page that is missing is read when it is asked for, and some behind it: they are asked for from
/// the last to the first.
fn resident(files: &[PathBuf]) -> Outcome<u64> {
    let mut pages = 0;
    for path in files {
        let file = File::open(path)?;
        for page in (0..file.metadata()?.len() / PAGE_BYTES).rev() {
            let mut byte = [0];
            let mut target = [IoSliceMut::new(&mut byte)];
            let flags = ReadWriteFlags::NOWAIT;
            let read = rustix::io::preadv2(&file, &mut target, page * PAGE_BYTES, flags);
            pages += u64::from(read.is_ok());
        }
    }
    Ok(pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_in_the_page_cache_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let paths = [path];
        assert_eq!(resident(&paths).unwrap(), 1 << 20);
        forget(&paths).unwrap();
        assert!(resident(&paths).unwrap() < 1 << 18);
    }
}
