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
use crate::load::{Load, PARTITIONS, argument};
use crate::loader::{Loader, Seen};
use crate::metrics::{
    Beside, Consumers, Metric, OfCompaction, OfConsume, OfLatency, OfProduce, Results,
};
use crate::process::float;
use crate::segments::{self, Shape};
use crate::{
    Outcome, backlog, compaction, connections, floor, flushed, gaps, groups, machine, readers,
    recovery, scan, side, statistics, table,
};

/// How long a node has been alone when its idle memory is taken.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// How long the writer has been at its full rate when the side requests begin.
const WRITER_LEAD: Duration = Duration::from_millis(500);
/// What a full-rate writer may leave in the page cache; generous.
const WRITER_BYTES_PER_SECOND_MAX: u64 = 512 << 20;
/// That each produce a small record now and then.
const SMALL_CONNECTIONS: i32 = 64;
/// Each of them reads that share of the topic.
const MANY_CONSUMERS: u64 = 20;
const MANY_SHARE: u64 = 8;
/// Of the writer beside measured latencies: about half of what Kafka takes on two processors, and a
/// fifth of what Skein does.
const HALF_LOAD_RECORDS_PER_SECOND: u64 = 50_000;
/// Of a value that no batch of the default size can hold.
const LARGE_RECORD_BYTES: u32 = 64 << 10;
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
    /// Produce at full rate, values of 64 KiB; with --full, or if it is named.
    #[value(name = "produce-64k")]
    Produce64k,
    /// Produce 1 KiB with acks=1 and acks=0; with --full, or if it is named.
    Acks,
    /// Produce 1 KiB to 1 and to 1,000 partitions; with --full, or if it is named.
    Partitions,
    /// Produce 1 KiB with each codec; with --full, or if it is named.
    Codecs,
    /// Consume what was just produced, values of 1 KiB.
    #[value(name = "consume-1k")]
    Consume1k,
    /// The same from the disk; with --full, or if it is named.
    ConsumeCold,
    /// The same by 20 consumers at once; with --full, or if it is named.
    ConsumeMany,
    /// Small requests beside a full-rate writer.
    Side,
    /// Small produces by 64 connections, 50 a second each; with --full, or if it is named.
    Small,
    /// End-to-end latency of one record at a time.
    Latency,
    /// The same beside a writer that takes half of the machine; with --full, or if it is named.
    LatencyLoad,
    /// Starts, stops, memory and lookups of a node with 10,000 segments; only if it is named.
    Segments,
    /// Compaction of one log, and small requests meanwhile; only if it is named: it takes minutes.
    Compaction,
    /// 10,000 idle connections; only if it is named.
    Connections,
    /// Heartbeats, rebalances, commits, a start with many of them; only if it is named.
    Groups,
    /// From kill -9 with a filled log to serving; only if it is named.
    Recovery,
    /// Produces and lookups behind 10⁸ small records; only if it is named: it takes minutes.
    Backlog,
    /// Records that are flushed before they are acknowledged, by 64 producers; only if it is named.
    Flushed,
    /// The time of an append beside 1,000 readers; only if it is named.
    Readers,
    /// A scan of old data, and small requests beside it; only if it is named.
    Scan,
    /// Gaps in acknowledgements when a node of three is killed, paused or stopped; only if it is
    /// named: it takes minutes.
    Gaps,
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
    /// That live in groups at once; and idle connections.
    pub(crate) members: u32,
    /// Small records of a backlog.
    pub(crate) backlog: u64,
    /// That read at once.
    pub(crate) readers: u32,
    /// How often a node of three goes, in each way.
    pub(crate) rounds: usize,
    /// Below which all data goes.
    pub(crate) directory: PathBuf,
}

impl Part {
    /// Measured where nothing else is said.
    pub(crate) const DEFAULT: [Self; 6] = [
        Self::Start,
        Self::Produce100,
        Self::Produce1k,
        Self::Consume1k,
        Self::Side,
        Self::Latency,
    ];
    /// What takes minutes for each pair, and nodes of its own: only if it is named.
    const APART: [Self; 10] = [
        Self::Segments,
        Self::Compaction,
        Self::Connections,
        Self::Groups,
        Self::Recovery,
        Self::Backlog,
        Self::Flushed,
        Self::Readers,
        Self::Scan,
        Self::Gaps,
    ];

    /// Everything else.
    pub(crate) fn full() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|part| !Self::APART.contains(part)).collect()
    }
}

impl Plan {
    fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Of the writer beside the side requests: the largest, which are in their way longest.
    fn side_batch_bytes(&self) -> u32 {
        self.batch_bytes.iter().copied().max().unwrap_or_default()
    }

    /// The default of most producers, where there is a choice.
    fn least_batch_bytes(&self) -> u32 {
        self.batch_bytes.iter().copied().min().unwrap_or_default()
    }

    /// The producers at full rate, in their order.
    fn produces(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for batch_bytes in self.batch_bytes.iter().copied() {
            let plain = |record_bytes| Load::plain(record_bytes, batch_bytes);
            if self.wants(Part::Produce100) {
                loads.push(plain(100));
            }
            if self.wants(Part::Produce1k) || self.consumed() == Some(plain(1024)) {
                loads.push(plain(1024));
            }
            if self.wants(Part::Produce64k) && batch_bytes > 2 * LARGE_RECORD_BYTES {
                loads.push(plain(LARGE_RECORD_BYTES));
            }
        }
        let least = self.least_batch_bytes();
        for (part, of) in [
            (Part::Acks, Load::of_acks(least)),
            (Part::Partitions, Load::of_partitions(least)),
            (Part::Codecs, Load::of_codecs(least)),
        ] {
            if self.wants(part) {
                loads.extend(of);
            }
        }
        loads
    }

    /// The producer whose topic is consumed.
    fn consumed(&self) -> Option<Load> {
        let consumes = [Part::Consume1k, Part::ConsumeMany, Part::ConsumeCold];
        let is_consumed = consumes.into_iter().any(|part| self.wants(part));
        let batch_bytes = self.batch_bytes.last().copied();
        batch_bytes
            .filter(|_| is_consumed)
            .map(|batch_bytes| Load::plain(1024, batch_bytes))
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
    let is_load = |part: &Part| *part != Part::Start && !Part::APART.contains(part);
    if plan.parts.iter().any(is_load) {
        run.loads()?;
    }
    if plan.wants(Part::Segments) {
        run.segments()?;
    }
    if plan.wants(Part::Compaction) {
        run.compactions()?;
    }
    if plan.wants(Part::Connections) {
        run.connections()?;
    }
    if plan.wants(Part::Groups) {
        run.groups()?;
    }
    run.apart(Part::Recovery, Run::recovery)?;
    run.apart(Part::Backlog, Run::backlog)?;
    run.apart(Part::Flushed, Run::flushed)?;
    run.apart(Part::Readers, Run::readers)?;
    run.apart(Part::Scan, Run::scan)?;
    run.apart(Part::Gaps, Run::gaps)?;
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

    /// A node of its own for each pair: memory that was once used would hide what they need.
    fn connections(&mut self) -> Outcome<()> {
        for pair in 1..=self.plan.pairs {
            self.pair = pair;
            for system in self.plan.systems.clone() {
                let (broker, _) = Broker::start(system, &self.plan.directory)?;
                let cost = connections::measure(&broker, self.plan.members);
                let cost = broker.explain(cost)?;
                broker.stop()?;
                self.add(Metric::ConnectionMemory, system, cost.resident_kib);
                self.add(Metric::ConnectionThreads, system, cost.threads);
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

    /// What has a node of its own for each pair, which makes its data anew: none warms up.
    fn apart(
        &mut self,
        part: Part,
        measure: impl Fn(&mut Self, System) -> Outcome<()>,
    ) -> Outcome<()> {
        if !self.plan.wants(part) {
            return Ok(());
        }
        for pair in 1..=self.plan.pairs {
            self.pair = pair;
            for system in self.plan.systems.clone() {
                measure(self, system)?;
            }
        }
        Ok(())
    }

    fn recovery(&mut self, system: System) -> Outcome<()> {
        let plan = self.plan;
        let size = (plan.bytes, plan.least_batch_bytes());
        recovery::measure(system, &plan.directory, size, |what, value| {
            self.add(Metric::Recovery(what), system, value);
        })
    }

    fn backlog(&mut self, system: System) -> Outcome<()> {
        let plan = self.plan;
        let size = backlog::Size {
            records: plan.backlog,
            bytes: plan.bytes,
            batch_bytes: plan.least_batch_bytes(),
        };
        backlog::measure(system, &plan.directory, size, |what, value| {
            self.add(Metric::Backlog(what), system, value);
        })
    }

    fn flushed(&mut self, system: System) -> Outcome<()> {
        let plan = self.plan;
        flushed::measure(system, &plan.directory, plan.side, |what, value| {
            self.add(Metric::Flushed(what), system, value);
        })
    }

    fn gaps(&mut self, system: System) -> Outcome<()> {
        let plan = self.plan;
        gaps::measure(system, &plan.directory, plan.rounds, |what, value| {
            self.add(Metric::Gaps(what), system, value);
        })
    }

    fn readers(&mut self, system: System) -> Outcome<()> {
        let plan = self.plan;
        let load = (plan.readers, plan.side);
        readers::measure(system, &plan.directory, load, |what, value| {
            self.add(Metric::Readers(what), system, value);
        })
    }

    fn scan(&mut self, system: System) -> Outcome<()> {
        let plan = self.plan;
        scan::measure(
            system,
            &plan.directory,
            (plan.bytes, plan.side),
            |what, value| {
                self.add(Metric::Scan(what), system, value);
            },
        )
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
        for load in plan.produces() {
            let topic = self.topic(&load.topic());
            for broker in brokers {
                broker.explain(self.produce(broker, &topic, load))?;
            }
            if Some(load) == plan.consumed() {
                for broker in brokers {
                    broker.explain(self.consumes(broker, &topic))?;
                }
            }
            delete(brokers, &topic)?;
        }
        for (part, beside) in [
            (Part::Latency, Beside::Nothing),
            (Part::LatencyLoad, Beside::Load),
        ] {
            for broker in brokers.iter().filter(|_| plan.wants(part)) {
                broker.explain(self.latency(broker, beside))?;
            }
        }
        for broker in brokers.iter().filter(|_| plan.wants(Part::Small)) {
            broker.explain(self.small(broker))?;
        }
        if plan.wants(Part::Side) {
            for broker in brokers {
                broker.explain(self.side(broker))?;
            }
        }
        Ok(())
    }

    /// No two pairs share one.
    fn topic(&self, name: &str) -> String {
        format!("{name}-of-pair-{}", self.pair)
    }

    fn produce(&mut self, broker: &Broker, topic: &str, load: Load) -> Outcome<()> {
        broker.create_topic(topic, load.partitions)?;
        let arguments = load.arguments(self.plan.bytes);
        let (seen, cpu) = put(broker, "produce", topic, &arguments)?;
        let measured = [
            (OfProduce::Rate, rate(&seen)),
            (OfProduce::Cpu, per_gib(cpu, &seen)),
            (OfProduce::MeanBatch, mean_batch(&seen)),
        ];
        for (what, value) in measured {
            self.add(Metric::Produce(load, what), broker.system(), value);
        }
        if broker.system() == System::Skein && load.is_plain() {
            self.floor(load, &seen, cpu)?;
        }
        Ok(())
    }

    /// What the kernel asks for the same frames, and how much more the broker cost.
    fn floor(&mut self, load: Load, seen: &Seen, cpu: f64) -> Outcome<()> {
        let floor = floor::cpu_seconds(&self.plan.directory, &seen.frames)?;
        let metric = |what| Metric::Produce(load, what);
        self.add(
            metric(OfProduce::Floor),
            System::Skein,
            per_gib(floor, seen),
        );
        // Of a short load it is less than the clock of processes ticks.
        if floor > 0.0 {
            self.add(metric(OfProduce::OverFloor), System::Skein, cpu / floor);
        }
        Ok(())
    }

    /// All that is measured of a topic that was just produced.
    fn consumes(&mut self, broker: &Broker, topic: &str) -> Outcome<()> {
        for (part, consumers, count, share) in [
            (Part::Consume1k, Consumers::Hot, 1, 1),
            (
                Part::ConsumeMany,
                Consumers::Many,
                MANY_CONSUMERS,
                MANY_SHARE,
            ),
            (Part::ConsumeCold, Consumers::Cold, 1, 1),
        ] {
            if !self.plan.wants(part) {
                continue;
            }
            if consumers == Consumers::Cold {
                machine::forget(&broker.data_directory())?;
            }
            let records = (self.plan.bytes / share).div_ceil(1024);
            let arguments = [
                argument("-partitions", PARTITIONS),
                argument("-from", FIRST_OFFSET),
                argument("-records", records),
                argument("-consumers", count),
            ];
            let (seen, cpu) = put(broker, "consume", topic, &arguments.concat())?;
            for (what, value) in [
                (OfConsume::Rate, rate(&seen)),
                (OfConsume::Cpu, per_gib(cpu, &seen)),
            ] {
                self.add(Metric::Consume(consumers, what), broker.system(), value);
            }
        }
        Ok(())
    }

    fn latency(&mut self, broker: &Broker, beside: Beside) -> Outcome<()> {
        let topic = self.topic("latency");
        broker.create_topic(&topic, 1)?;
        let writer = match beside {
            Beside::Nothing => None,
            Beside::Load => Some(self.half_load(broker)?),
        };
        let records = self.plan.latency_records;
        let arguments = [
            argument("-from", FIRST_OFFSET),
            argument("-record-bytes", LATENCY_RECORD_BYTES),
            argument("-records", records),
            argument("-warm-up", records / LATENCY_WARM_UP_SHARE),
        ];
        let (seen, _) = put(broker, "latency", &topic, &arguments.concat())?;
        if let Some((writer, topic)) = writer {
            writer.finish()?;
            broker.delete_topic(&topic)?;
        }
        for (what, value) in [
            (OfLatency::P50, seen.p50_ms),
            (OfLatency::P99, seen.p99_ms),
            (OfLatency::P999, seen.p999_ms),
        ] {
            self.add(Metric::Latency(beside, what), broker.system(), value);
        }
        broker.delete_topic(&topic)
    }

    /// A writer that goes on until it is told to stop, and its topic.
    fn half_load(&self, broker: &Broker) -> Outcome<(Loader, String)> {
        let topic = self.topic("half-load");
        broker.create_topic(&topic, PARTITIONS)?;
        let load = Load::plain(1024, self.plan.least_batch_bytes());
        let rate = argument("-rate", HALF_LOAD_RECORDS_PER_SECOND);
        let arguments = [load.arguments(0), rate].concat();
        let mut writer = Loader::prepare(broker, "produce", &topic, &arguments)?;
        writer.start()?;
        thread::sleep(WRITER_LEAD);
        Ok((writer, topic))
    }

    fn small(&mut self, broker: &Broker) -> Outcome<()> {
        let topic = self.topic("small");
        broker.create_topic(&topic, SMALL_CONNECTIONS)?;
        let before = broker.cpu_seconds()?;
        let sent = side::produces(broker.port(), &topic, SMALL_CONNECTIONS, self.plan.side)?;
        let cpu = broker.cpu_seconds()? - before;
        let each = cpu * 1e6 / float(sent as u64);
        self.add(Metric::SmallProduce, broker.system(), each);
        broker.delete_topic(&topic)
    }

    fn side(&mut self, broker: &Broker) -> Outcome<()> {
        let [writer, side] = ["writer", "side"].map(|name| self.topic(name));
        broker.create_topic(&writer, PARTITIONS)?;
        broker.create_topic(&side, side::CONNECTIONS)?;
        let arguments = Load::plain(1024, self.plan.side_batch_bytes()).arguments(0);
        let mut loader = Loader::prepare(broker, "produce", &writer, &arguments)?;
        loader.start()?;
        thread::sleep(WRITER_LEAD);
        let latencies = side::latencies(broker.port(), &side, self.plan.side)?;
        let seen = loader.finish()?;
        self.add(Metric::SideWriterRate, broker.system(), rate(&seen));
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
        broker.delete_topic(&writer)?;
        broker.delete_topic(&side)
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

/// Puts a load on a broker; returns what the client saw and the CPU seconds of the broker.
fn put(broker: &Broker, load: &str, topic: &str, arguments: &[String]) -> Outcome<(Seen, f64)> {
    let mut loader = Loader::prepare(broker, load, topic, arguments)?;
    let before = broker.cpu_seconds()?;
    loader.start()?;
    let seen = loader.finish()?;
    Ok((seen, broker.cpu_seconds()? - before))
}

fn delete(brokers: &[Broker], topic: &str) -> Outcome<()> {
    let mut topics = brokers.iter().map(|broker| broker.delete_topic(topic));
    topics.try_for_each(|deleted| deleted)
}

fn rate(seen: &Seen) -> f64 {
    float(seen.records) / seen.seconds
}

fn per_gib(cpu_seconds: f64, seen: &Seen) -> f64 {
    cpu_seconds * GIB / float(seen.bytes)
}

fn mean_batch(seen: &Seen) -> f64 {
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
        assert_eq!(rate(&seen), 524_288.0);
        assert_eq!(per_gib(1.5, &seen), 3.0);
        assert_eq!(mean_batch(&seen), 512.0);
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
            backlog: 1,
            readers: 1,
            rounds: 1,
            directory: PathBuf::new(),
        };
        assert_eq!(plan.touched_bytes(), 8 << 30);
        plan.parts.pop();
        assert_eq!(plan.touched_bytes(), 4 << 30);
    }
}
