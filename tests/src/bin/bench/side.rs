//! Small requests beside a full-rate writer: what everybody else feels while one client is busy.
//!
//! Input: a port, a topic, a time. Output: the latency of each request, in ms, sorted.
//!
//! Each connection sends, every 10 ms, in turn a Metadata request for one topic and a Produce of
//! one small record with acks=all. A request that is due while the answer before it is still out
//! counts from when it was due, so that one long stall is not seen as one slow request. One that is
//! sent late because this client did not wake up in time counts from when it was sent.

use std::io;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, Connection, error};

use crate::Outcome;

/// Connections beside the writer; the topic has a partition for each.
pub(crate) const CONNECTIONS: i32 = 4;
/// Between two requests of a connection: 100 a second.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);
/// Between two small produces of a connection: 50 a second.
const SMALL_INTERVAL: Duration = Duration::from_millis(20);
/// Of the value of a produced record.
pub(crate) const RECORD_BYTES: usize = 100;

/// One connection: where it writes, and what.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) batch: Vec<u8>,
    /// Whether every second request is a Metadata request.
    pub(crate) asks_metadata: bool,
}

/// Sends the side requests for a `duration` and returns their latencies.
pub(crate) fn latencies(port: u16, topic: &str, duration: Duration) -> Outcome<Vec<f64>> {
    let connections = connections(topic, CONNECTIONS, true);
    let mut all = each(port, &connections, INTERVAL, duration)?.concat();
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// Small produces and nothing else: how many of them `count` connections have sent, each of which
/// has a partition of its own.
pub(crate) fn produces(port: u16, topic: &str, count: i32, time: Duration) -> Outcome<usize> {
    let connections = connections(topic, count, false);
    let latencies = each(port, &connections, SMALL_INTERVAL, time)?;
    Ok(latencies.iter().map(Vec::len).sum())
}

/// So many connections, each with a partition of its own.
fn connections(topic: &str, count: i32, asks_metadata: bool) -> Vec<Asked<'_>> {
    let batch = Batch::of([[b'x'; RECORD_BYTES]]).encode();
    let asked = (0..count).map(|partition| Asked {
        topic,
        partition,
        batch: batch.clone(),
        asks_metadata,
    });
    asked.collect()
}

/// Sends requests for a `duration`: the latencies of each connection, in the order of its requests,
/// one every `interval`.
pub(crate) fn each(
    port: u16,
    connections: &[Asked<'_>],
    interval: Duration,
    duration: Duration,
) -> Outcome<Vec<Vec<f64>>> {
    let started = Instant::now();
    let taken: Vec<io::Result<Vec<Duration>>> = thread::scope(|scope| {
        let count = u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
        let workers: Vec<_> = (0..count)
            .zip(connections)
            .map(|(number, asked)| {
                // The connections take turns within an interval.
                let first = started + interval * number / count;
                scope.spawn(move || one(port, asked, interval, first..started + duration))
            })
            .collect();
        let joined = workers.into_iter().map(|worker| {
            let failed = |_| Err(io::Error::other("a side connection failed"));
            worker.join().unwrap_or_else(failed)
        });
        joined.collect()
    });
    let mut all = Vec::new();
    for latencies in taken {
        let in_ms = latencies?
            .iter()
            .map(|latency| latency.as_secs_f64() * 1e3)
            .collect();
        all.push(in_ms);
    }
    Ok(all)
}

fn one(
    port: u16,
    asked: &Asked<'_>,
    interval: Duration,
    time: Range<Instant>,
) -> io::Result<Vec<Duration>> {
    let mut connection = Connection::open(port)?;
    let mut due = time.start;
    let mut latencies = Vec::new();
    let mut is_produce = !asked.asks_metadata;
    while due < time.end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let from = counts_from(due, latencies.last().map(|(_, answered)| *answered));
        let code = if is_produce {
            let produced = connection.produce(asked.topic, asked.partition, &asked.batch)?;
            produced.error_code
        } else {
            connection.metadata(asked.topic, false)?
        };
        if code != error::NONE {
            return Err(io::Error::other(format!("a side request got error {code}")));
        }
        let answered = Instant::now();
        latencies.push((answered.duration_since(from), answered));
        is_produce = !(is_produce && asked.asks_metadata);
        due += interval;
    }
    Ok(latencies.into_iter().map(|(latency, _)| latency).collect())
}

/// When a request begins that was due then and is sent now.
fn counts_from(due: Instant, answered_before: Option<Instant>) -> Instant {
    match answered_before {
        Some(answered) if answered > due => due,
        _ => Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_had_to_wait_for_an_answer_counts_from_when_it_was_due() {
        let due = Instant::now();
        let late = due + Duration::from_millis(30);
        assert_eq!(counts_from(due, Some(late)), due);
    }

    #[test]
    fn a_request_that_this_client_sends_late_counts_from_when_it_is_sent() {
        let due = Instant::now();
        thread::sleep(Duration::from_millis(2));
        assert!(counts_from(due, None) >= due + Duration::from_millis(2));
        assert!(counts_from(due, Some(due)) >= due + Duration::from_millis(2));
    }
}
