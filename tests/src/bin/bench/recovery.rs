//! A node that is killed with a filled log: how soon it serves again, and what that costs it.
//!
//! Input: a system, and how much its log has. Output: measurements, once with the log in the page
//! cache, as after the kill of a process, and once without, as after that of a machine.
//!
//! It serves a partition when it has acknowledged a record for it.

use std::path::Path;
use std::time::{Duration, Instant};

use skein_tests::System;
use skein_tests::wire::{Batch, Connection, error};

use crate::broker::Broker;
use crate::load::{Load, PARTITIONS};
use crate::loader::Loader;
use crate::metrics::OfRecovery;
use crate::{Outcome, machine};

const TOPIC: &str = "filled";
const SERVE_TIMEOUT: Duration = Duration::from_secs(300);
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Fills a node, kills it and measures its starts.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    (bytes, batch_bytes): (u64, u32),
    mut add: impl FnMut(OfRecovery, f64),
) -> Outcome<()> {
    let (mut broker, _) = Broker::start(system, parent)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let arguments = Load::plain(1024, batch_bytes).arguments(bytes);
    for (is_cold, first, all, cpu) in [
        (false, OfRecovery::First, OfRecovery::All, OfRecovery::Cpu),
        (
            true,
            OfRecovery::ColdFirst,
            OfRecovery::ColdAll,
            OfRecovery::ColdCpu,
        ),
    ] {
        let mut loader = Loader::prepare(&broker, "produce", TOPIC, &arguments)?;
        loader.start()?;
        broker.explain(loader.finish())?;
        broker.kill();
        if is_cold {
            machine::forget(&broker.data_directory())?;
        }
        let asked = Instant::now();
        broker.start_again()?;
        let served = serve(&broker, asked);
        let [took_first, took_all] = broker.explain(served)?;
        add(first, took_first.as_secs_f64() * 1e3);
        add(all, took_all.as_secs_f64() * 1e3);
        add(cpu, broker.cpu_seconds()?);
    }
    broker.stop()
}

/// From `asked` until the first partition has taken a record, and until all have.
fn serve(broker: &Broker, asked: Instant) -> Outcome<[Duration; 2]> {
    let batch = Batch::of(["again"]).encode();
    let mut first = None;
    for partition in 0..PARTITIONS {
        while !takes(broker, partition, &batch) {
            if asked.elapsed() > SERVE_TIMEOUT {
                return Err(format!("{TOPIC}-{partition} takes nothing").into());
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
        first.get_or_insert_with(|| asked.elapsed());
    }
    let all = asked.elapsed();
    Ok([first.unwrap_or(all), all])
}

/// Until the node serves, everything may be refused.
fn takes(broker: &Broker, partition: i32, batch: &[u8]) -> bool {
    let produced = Connection::open(broker.port())
        .and_then(|mut connection| connection.produce(TOPIC, partition, batch));
    produced.is_ok_and(|produced| produced.error_code == error::NONE)
}
