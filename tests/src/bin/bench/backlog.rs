//! What a backlog costs: a produce and a lookup in a log that has next to nothing, and in one that
//! has very many small records.
//!
//! Input: a system, how many records, and how much is produced to measure it. Output: CPU per GiB
//! and per lookup, and bytes of the log that a lookup walks over, each without and with the
//! backlog.
//!
//! The lookups without it go to the first records of the same log, so that they meet batches of the
//! same size. Each goes to an offset of its own.

use std::path::Path;

use skein_tests::System;
use skein_tests::wire::{Connection, FetchLimits, api, error};

use crate::broker::Broker;
use crate::load::{Load, PARTITIONS, argument};
use crate::loader::Loader;
use crate::metrics::OfBacklog;
use crate::process::float;
use crate::{Outcome, machine};

const TOPIC: &str = "backlog";
const EMPTY: &str = "without-backlog";
/// Of the value of one of many records.
const RECORD_BYTES: u32 = 10;
/// What the log has before it has its backlog.
const FIRST_SHARE: u64 = 1_000;
const FIRST_RECORDS_MIN: u64 = 10_000;
/// Many segments of a backlog.
const SEGMENT_BYTES: &str = "16777216";
const LOOKUPS: u64 = 2_000;
/// Neighbours of the order of lookups lie far apart (splitmix64's increment, odd).
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;
const GIB: f64 = 1_073_741_824.0;

/// What is measured, and with how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) records: u64,
    /// Of the produce that is measured.
    pub(crate) bytes: u64,
    pub(crate) batch_bytes: u32,
}

/// Fills a node and measures it before and after.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    size: Size,
    mut add: impl FnMut(OfBacklog, f64),
) -> Outcome<()> {
    let touched = 4 * (size.bytes + 2 * size.records * u64::from(RECORD_BYTES));
    machine::touch_memory(parent, touched)?;
    let (broker, _) = Broker::start(system, parent)?;
    for topic in [EMPTY, TOPIC] {
        broker.create_topic_with(topic, PARTITIONS, &[("segment.bytes", SEGMENT_BYTES)])?;
    }
    let first = (size.records / FIRST_SHARE).max(FIRST_RECORDS_MIN);
    let load = |record_bytes, bytes| {
        let load = Load::plain(record_bytes, size.batch_bytes).arguments(bytes);
        [load, argument("-record-bytes", record_bytes)].concat()
    };
    let small = |records| load(RECORD_BYTES, records * u64::from(RECORD_BYTES));
    let measured = (|| -> Outcome<()> {
        // The first load of a JVM, and of an empty page cache, is not counted.
        let plain = load(1024, size.bytes);
        cpu_per_gib(&broker, EMPTY, &plain, size.bytes)?;
        let empty = cpu_per_gib(&broker, EMPTY, &plain, size.bytes)?;
        put(&broker, TOPIC, &small(first))?;
        let before = lookups(&broker, TOPIC)?;
        put(&broker, TOPIC, &small(size.records.saturating_sub(first)))?;
        let after = lookups(&broker, TOPIC)?;
        let full = cpu_per_gib(&broker, TOPIC, &plain, size.bytes)?;
        for (what, value) in [
            (OfBacklog::Produce, empty),
            (OfBacklog::ProduceBehind, full),
            (OfBacklog::ProduceRatio, full / empty),
            (OfBacklog::Lookup, before.cpu_micros),
            (OfBacklog::LookupBehind, after.cpu_micros),
        ] {
            add(what, value);
        }
        if let (Some(before), Some(after)) = (before.scanned_bytes, after.scanned_bytes) {
            add(OfBacklog::Scanned, before);
            add(OfBacklog::ScannedBehind, after);
            add(OfBacklog::ScannedRatio, after / before);
        }
        Ok(())
    })();
    broker.explain(measured)?;
    broker.stop()
}

fn put(broker: &Broker, topic: &str, arguments: &[String]) -> Outcome<()> {
    let mut loader = Loader::prepare(broker, "produce", topic, arguments)?;
    loader.start()?;
    loader.finish().map(drop)
}

fn cpu_per_gib(broker: &Broker, topic: &str, arguments: &[String], bytes: u64) -> Outcome<f64> {
    let mut loader = Loader::prepare(broker, "produce", topic, arguments)?;
    let before = broker.cpu_seconds()?;
    loader.start()?;
    loader.finish()?;
    Ok((broker.cpu_seconds()? - before) * GIB / float(bytes))
}

/// What a lookup costs.
struct Lookup {
    cpu_micros: f64,
    /// Skein's own count; Kafka has none.
    scanned_bytes: Option<f64>,
}

/// Fetches a batch at many offsets all over the topic.
fn lookups(broker: &Broker, topic: &str) -> Outcome<Lookup> {
    let mut connection = Connection::open(broker.port())?;
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS {
        let (code, _, end) = connection.list_offset(topic, partition, -1)?;
        none(code)?;
        ends.push((partition, u64::try_from(end)?.max(1)));
    }
    let scanned = || -> Option<[f64; 2]> {
        let names = [
            "skein_fetch_scanned_bytes_total",
            "skein_fetch_lookups_total",
        ];
        (broker.system() == System::Skein).then(|| names.map(|name| broker.metric(name)))
    };
    let (cpu_before, scanned_before) = (broker.cpu_seconds()?, scanned());
    for number in 0..LOOKUPS {
        let (partition, end) = ends[usize::try_from(number % ends.len() as u64)?];
        let offset = number.wrapping_mul(STRIDE) % end;
        let limits = FetchLimits {
            max_bytes: 1,
            ..FetchLimits::default()
        };
        let offset = i64::try_from(offset)?;
        let body = Connection::limited_fetch_body(topic, partition, offset, limits);
        let fetched = Connection::fetched(&mut connection.call(api::FETCH, 4, &body)?);
        none(fetched.error_code)?;
        if fetched.records.is_empty() {
            return Err(format!("{topic}-{partition}: nothing at offset {offset}").into());
        }
    }
    let cpu = broker.cpu_seconds()? - cpu_before;
    let scanned_bytes = scanned_before.zip(scanned()).map(|(before, after)| {
        let [bytes, lookups] = [after[0] - before[0], after[1] - before[1]];
        bytes / lookups.max(1.0)
    });
    Ok(Lookup {
        cpu_micros: cpu * 1e6 / float(LOOKUPS),
        scanned_bytes,
    })
}

fn none(code: i16) -> Outcome<()> {
    match code {
        error::NONE => Ok(()),
        code => Err(format!("a lookup got error {code}").into()),
    }
}
