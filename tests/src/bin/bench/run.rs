//! The measurements, pair by pair.
//!
//! Input: a [`Plan`]. Output: [`Results`], and a line on standard error for each measurement.
//!
//! Within a pair each load goes to Kafka and then at once to Skein, so that both meet the same
//! machine. The pair before the first is not counted: it warms up the JVM, the page cache and both
//! systems' own memory. The broker that is not loaded runs all the time, idle.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use skein_tests::System;

use crate::broker::{Broker, FIRST_OFFSET};
use crate::loader::{Loader, Seen};
use crate::metrics::{Metric, OfCompaction, OfProduce, Results};
use crate::process::float;
use crate::segments::{self, Shape};
use crate::{Outcome, compaction, groups, machine, side, statistics, table};

/// Partitions of the loaded topics.
pub(crate) const PARTITIONS: i32 = 16;
/// How long a node has been alone when its idle memory is taken.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// How long the writer has been at its full rate when the side requests begin.
const WRITER_LEAD: Duration = Duration::from_millis(500);
/// What a full-rate writer may leave in the page cache; generous.
const WRITER_BYTES_PER_SECOND_MAX: u64 = 512 << 20;
const LATENCY_RECORD_BYTES: u64 = 100;
/// One record in so many is sent before the measured ones.
const LATENCY_WARM_UP_SHARE: u64 = 4;
const GIB: f64 = 1_073_741_824.0;
const KIB: f64 = 1_024.0;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// From an empty directory to the first acknowledged record, and idle memory.
    Start,
    /// Produce at full rate, values of 100 bytes.
    #[value(name = "produce-100")]
    Produce100,
    /// Produce at full rate, values of 1 KiB.
    #[value(name = "produce-1k")]
    Produce1k,
    /// Consume what was just produced, values of 1 KiB.
    #[value(name = "consume-1k")]
    Consume1k,
    /// Small requests beside a full-rate writer.
    Side,
    /// End-to-end latency of one record at a time.
    Latency,
    /// Starts, stops, memory and lookups of a node with 10,000 segments; only if it is named.
    Segments,
    /// Compaction of one log, and small requests meanwhile; only if it is named: it takes minutes.
    Compaction,
    /// Heartbeats, rebalances, commits, a start with many of them; only if it is named.
    Groups,
}

/// What to measure, and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) systems: Vec<System>,
    pub(crate) parts: Vec<Part>,
    /// Counted pairs.
    pub(crate) pairs: usize,
    /// Bytes of values per produce and consume.
    pub(crate) bytes: u64,
    /// Of a batch, at most: each produce is measured with each of them.
    pub(crate) batch_bytes: Vec<u32>,
    /// Of the side requests.
    pub(crate) side: Duration,
    /// Records that are measured one at a time.
    pub(crate) latency_records: u64,
    /// Of the node with many.
    pub(crate) segments: u32,
    /// That live in groups at once.
    pub(crate) members: u32,
    /// Below which all data goes.
    pub(crate) directory: PathBuf,
}

impl Plan {
    fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Of the writer beside the side requests: the largest, which are in their way longest.
    fn side_batch_bytes(&self) -> u32 {
        self.batch_bytes.iter().copied().max().unwrap_or_default()
    }

    /// More than the loads leave in the page cache at any time: what each system holds of one
    /// produce or of one writer, twice since deleting takes a while.
    fn touched_bytes(&self) -> u64 {
        let writer = self.side.as_secs() * WRITER_BYTES_PER_SECOND_MAX;
        let at_once = if self.wants(Part::Side) {
            self.bytes.max(writer)
        } else {
            self.bytes
        };
        4 * at_once
    }
}

/// Measures everything in the plan.
pub(crate) fn run(plan: &Plan) -> Outcome<Results> {
    let mut run = Run {
        plan,
        results: Results::default(),
        pair: 0,
    };
    if plan.wants(Part::Start) {
        run.starts()?;
    }
    let no_loads = [Part::Start, Part::Segments, Part::Compaction, Part::Groups];
    if plan.parts.iter().any(|part| !no_loads.contains(part)) {
        run.loads()?;
    }
    if plan.wants(Part::Segments) {
        run.segments()?;
    }
    if plan.wants(Part::Compaction) {
        run.compactions()?;
    }
    if plan.wants(Part::Groups) {
        run.groups()?;
    }
    Ok(run.results)
}

struct Run<'a> {
    plan: &'a Plan,
    results: Results,
    /// 0 is the one that does not count.
    pair: usize,
}

impl Run<'_> {
    fn starts(&mut self) -> Outcome<()> {
        for pair in 0..=self.plan.pairs {
            self.pair = pair;
            for system in self.plan.systems.clone() {
                let (broker, took) = Broker::start(system, &self.plan.directory)?;
                thread::sleep(IDLE);
                let idle = broker.resident_mb()?;
                broker.stop()?;
                let took = took.as_secs_f64() * 1e3;
                self.add(Metric::StartToFirstProduce, system, took);
                self.add(Metric::MemoryIdle, system, idle);
            }
        }
        Ok(())
    }

    /// Each pair makes its data anew here, too.
    fn compactions(&mut self) -> Outcome<()> {
        for pair in 1..=self.plan.pairs {
            self.pair = pair;
            for system in self.plan.systems.clone() {
                let (broker, _) = Broker::start(system, &self.plan.directory)?;
                let (bytes, batch_bytes) = (self.plan.bytes, self.plan.side_batch_bytes());
                let measured =
                    compaction::measure(&broker, "compacted", "side", bytes, batch_bytes);
                let measured = broker.explain(measured)?;
                broker.stop()?;
                let (others, own) = (measured.others, measured.own);
                for (what, value) in [
                    (OfCompaction::Time, measured.seconds),
                    (OfCompaction::Left, measured.left),
                    (OfCompaction::Memory, measured.peak_resident_mb),
                    (OfCompaction::OthersAlone, others.alone),
                    (OfCompaction::OthersMeanwhile, others.meanwhile),
                    (OfCompaction::OthersRatio, others.meanwhile / others.alone),
                    (OfCompaction::OwnAlone, own.alone),
                    (OfCompaction::OwnMeanwhile, own.meanwhile),
                    (OfCompaction::OwnRatio, own.meanwhile / own.alone),
                ] {
                    self.add(Metric::Compaction(what), system, value);
                }
            }
        }
        Ok(())
    }

    /// Each pair makes its data anew, which takes far longer than what is measured: none warms up.
    fn segments(&mut self) -> Outcome<()> {
        let plan = self.plan;
        for pair in 1..=plan.pairs {
            self.pair = pair;
            for system in plan.systems.iter().copied() {
                for (place, shape) in Shape::both(plan.segments) {
                    segments::measure(system, &plan.directory, shape, |what, value| {
                        self.add(Metric::Segments(what, place), system, value);
                    })?;
                }
            }
        }
        Ok(())
    }

    /// A node of its own for each pair: a start is one of the measurements.
    fn groups(&mut self) -> Outcome<()> {
        let plan = self.plan;
        for pair in 1..=plan.pairs {
            self.pair = pair;
            for system in plan.systems.iter().copied() {
                groups::measure(system, &plan.directory, plan.members, |what, value| {
                    self.add(Metric::Groups(what), system, value);
                })?;
            }
        }
        Ok(())
    }

    fn loads(&mut self) -> Outcome<()> {
        let touched = machine::touch_memory(&self.plan.directory, self.plan.touched_bytes())?;
        let touched = table::number(float(touched) / GIB);
        say(&format!("touched {touched} GiB of memory"));
        let mut brokers = Vec::new();
        for system in &self.plan.systems {
            brokers.push(Broker::start(*system, &self.plan.directory)?.0);
        }
        for pair in 0..=self.plan.pairs {
            self.pair = pair;
            self.pair_of_loads(&brokers)?;
            for broker in &brokers {
                self.add(Metric::MemoryLoaded, broker.system(), broker.resident_mb()?);
            }
        }
        brokers.into_iter().try_for_each(Broker::stop)
    }

    fn pair_of_loads(&mut self, brokers: &[Broker]) -> Outcome<()> {
        let plan = self.plan;
        let topic = |name: &str, pair: usize| format!("{name}-of-pair-{pair}");
        for batch_bytes in plan.batch_bytes.iter().copied() {
            if plan.wants(Part::Produce100) {
                let topic = topic(&format!("produce-100-by-{batch_bytes}"), self.pair);
                for broker in brokers {
                    broker.explain(self.produce(broker, &topic, 100, batch_bytes))?;
                }
                delete(brokers, &topic)?;
            }
            let consumes =
                plan.wants(Part::Consume1k) && plan.batch_bytes.last() == Some(&batch_bytes);
            if plan.wants(Part::Produce1k) || consumes {
                let topic = topic(&format!("produce-1k-by-{batch_bytes}"), self.pair);
                for broker in brokers {
                    broker.explain(self.produce(broker, &topic, 1024, batch_bytes))?;
                }
                for broker in brokers.iter().filter(|_| consumes) {
                    broker.explain(self.consume_1k(broker, &topic))?;
                }
                delete(brokers, &topic)?;
            }
        }
        if plan.wants(Part::Latency) {
            let topic = topic("latency", self.pair);
            for broker in brokers {
                broker.explain(self.latency(broker, &topic))?;
            }
            delete(brokers, &topic)?;
        }
        if plan.wants(Part::Side) {
            for broker in brokers {
                let (writer, side) = (topic("writer", self.pair), topic("side", self.pair));
                broker.explain(self.side(broker, &writer, &side))?;
                broker.delete_topic(&writer)?;
                broker.delete_topic(&side)?;
            }
        }
        Ok(())
    }

    fn produce(
        &mut self,
        broker: &Broker,
        topic: &str,
        record_bytes: u32,
        batch_bytes: u32,
    ) -> Outcome<()> {
        broker.create_topic(topic, PARTITIONS)?;
        let arguments = producer(record_bytes, batch_bytes, self.plan.bytes);
        let (seen, cpu) = load(broker, "produce", topic, &arguments)?;
        let measured = [
            (OfProduce::Rate, rate(seen)),
            (OfProduce::Cpu, per_gib(cpu, seen)),
            (OfProduce::MeanBatch, mean_batch(seen)),
        ];
        for (what, value) in measured {
            let metric = Metric::Produce(record_bytes, batch_bytes, what);
            self.add(metric, broker.system(), value);
        }
        Ok(())
    }

    fn consume_1k(&mut self, broker: &Broker, topic: &str) -> Outcome<()> {
        let records = self.plan.bytes.div_ceil(1024);
        let arguments = [
            argument("-partitions", PARTITIONS),
            argument("-from", FIRST_OFFSET),
            argument("-records", records),
        ];
        let (seen, cpu) = load(broker, "consume", topic, &arguments.concat())?;
        self.add(Metric::Consume1kRate, broker.system(), rate(seen));
        self.add(Metric::Consume1kCpu, broker.system(), per_gib(cpu, seen));
        Ok(())
    }

    fn latency(&mut self, broker: &Broker, topic: &str) -> Outcome<()> {
        broker.create_topic(topic, 1)?;
        let records = self.plan.latency_records;
        let arguments = [
            argument("-from", FIRST_OFFSET),
            argument("-record-bytes", LATENCY_RECORD_BYTES),
            argument("-records", records),
            argument("-warm-up", records / LATENCY_WARM_UP_SHARE),
        ];
        let (seen, _) = load(broker, "latency", topic, &arguments.concat())?;
        self.add(Metric::LatencyP50, broker.system(), seen.p50_ms);
        self.add(Metric::LatencyP99, broker.system(), seen.p99_ms);
        Ok(())
    }

    fn side(&mut self, broker: &Broker, writer: &str, side: &str) -> Outcome<()> {
        broker.create_topic(writer, PARTITIONS)?;
        broker.create_topic(side, side::CONNECTIONS)?;
        let arguments = producer(1024, self.plan.side_batch_bytes(), 0);
        let mut loader = Loader::prepare(broker, "produce", writer, &arguments)?;
        loader.start()?;
        thread::sleep(WRITER_LEAD);
        let latencies = side::latencies(broker.port(), side, self.plan.side)?;
        let seen = loader.finish()?;
        self.add(Metric::SideWriterRate, broker.system(), rate(seen));
        let ranks = [
            (Metric::SideP50, 50),
            (Metric::SideP99, 99),
            (Metric::SideMax, 100),
        ];
        for (metric, per_cent) in ranks {
            let value = statistics::percentile(&latencies, per_cent);
            self.add(
                metric,
                broker.system(),
                value.ok_or("no side request was sent")?,
            );
        }
        Ok(())
    }

    fn add(&mut self, metric: Metric, system: System, value: f64) {
        let (_, unit, _) = metric.definition();
        let pair = match self.pair {
            0 => "warm-up".to_owned(),
            pair => format!("pair {pair} of {}", self.plan.pairs),
        };
        let value_shown = table::number(value);
        say(&format!(
            "{pair}: {system:?}: {metric:?} {value_shown} {unit}"
        ));
        if self.pair > 0 {
            self.results.add(metric, system, value);
        }
    }
}

/// Runs one load; returns what the client saw and the CPU seconds of the broker.
fn load(broker: &Broker, load: &str, topic: &str, arguments: &[String]) -> Outcome<(Seen, f64)> {
    let mut loader = Loader::prepare(broker, load, topic, arguments)?;
    let before = broker.cpu_seconds()?;
    loader.start()?;
    let seen = loader.finish()?;
    Ok((seen, broker.cpu_seconds()? - before))
}

/// The producer's arguments; no bytes mean until it is told to stop.
fn producer(record_bytes: u32, batch_bytes: u32, bytes: u64) -> Vec<String> {
    let arguments = [
        argument("-record-bytes", record_bytes),
        argument("-batch-bytes", batch_bytes),
        argument("-bytes", bytes),
    ];
    arguments.concat()
}

fn argument(name: &str, value: impl ToString) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}

fn delete(brokers: &[Broker], topic: &str) -> Outcome<()> {
    let mut topics = brokers.iter().map(|broker| broker.delete_topic(topic));
    topics.try_for_each(|deleted| deleted)
}

fn rate(seen: Seen) -> f64 {
    float(seen.records) / seen.seconds
}

fn per_gib(cpu_seconds: f64, seen: Seen) -> f64 {
    cpu_seconds * GIB / float(seen.bytes)
}

fn mean_batch(seen: Seen) -> f64 {
    float(seen.bytes) / float(seen.batches.max(1)) / KIB
}

fn say(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_rate_are_per_payload() {
        let seen = Seen {
            records: 1 << 20,
            bytes: 1 << 29,
            seconds: 2.0,
            batches: 1 << 10,
            ..Seen::default()
        };
        assert_eq!(rate(seen), 524_288.0);
        assert_eq!(per_gib(1.5, seen), 3.0);
        assert_eq!(mean_batch(seen), 512.0);
    }

    #[test]
    fn memory_is_touched_for_the_largest_load() {
        let mut plan = Plan {
            systems: vec![System::Skein],
            parts: vec![Part::Produce1k, Part::Side],
            pairs: 1,
            bytes: 1 << 30,
            batch_bytes: vec![16_384],
            side: Duration::from_secs(4),
            latency_records: 1,
            segments: 1,
            members: 1,
            directory: PathBuf::new(),
        };
        assert_eq!(plan.touched_bytes(), 8 << 30);
        plan.parts.pop();
        assert_eq!(plan.touched_bytes(), 4 << 30);
    }
}
