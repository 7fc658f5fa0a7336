//! Connections that are open and idle: what each of them holds, and whether they need threads.
//!
//! Input: a broker, how many. Output: resident memory of each; threads that came with them.
//!
//! Each connection has asked once, as a client that has its metadata and waits.

use std::fs;
use std::thread;

use skein_tests::wire::{Connection, error};

use crate::Outcome;
use crate::broker::Broker;
use crate::process::float;
use crate::run::IDLE;

/// What the connections ask for.
const TOPIC: &str = "asked-by-many";
const BYTES_PER_MB: f64 = 1e6;
const BYTES_PER_KIB: f64 = 1024.0;

/// What idle connections cost.
pub(crate) struct Cost {
    /// Of each, in KiB.
    pub(crate) resident_kib: f64,
    /// More than before.
    pub(crate) threads: f64,
}

/// Opens `count` connections, and lets them be idle for a moment.
pub(crate) fn measure(broker: &Broker, count: u32) -> Outcome<Cost> {
    broker.create_topic(TOPIC, 1)?;
    // What any first connection brings about is not theirs.
    let _first = open(broker)?;
    thread::sleep(IDLE);
    let (resident_before, threads_before) = (broker.resident_mb()?, threads(broker)?);
    let connections = (0..count).map(|_| open(broker));
    let connections = connections.collect::<Outcome<Vec<_>>>()?;
    thread::sleep(IDLE);
    let resident = broker.resident_mb()? - resident_before;
    let threads = threads(broker)? - threads_before;
    drop(connections);
    broker.delete_topic(TOPIC)?;
    Ok(Cost {
        resident_kib: resident * BYTES_PER_MB / BYTES_PER_KIB / f64::from(count),
        threads,
    })
}

fn open(broker: &Broker) -> Outcome<Connection> {
    let mut connection = Connection::open(broker.port())?;
    match connection.metadata(TOPIC, false)? {
        error::NONE => Ok(connection),
        code => Err(format!("metadata: error {code}").into()),
    }
}

fn threads(broker: &Broker) -> Outcome<f64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", broker.id()))?;
    Ok(float(tasks.count() as u64))
}
