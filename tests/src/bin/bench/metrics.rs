//! What is measured, and the bars that Skein must not exceed.
//!
//! Input: measurements, one per pair, metric and system. Output: the table for people and the
//! report for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use skein_tests::System;

use crate::load::Load;
use crate::statistics::{self, Spread};
use crate::table::{self, Table};

const HEADING: [&str; 7] = [
    "measured",
    "unit",
    "Kafka",
    "Skein",
    "Skein / Kafka",
    "bar",
    "verdict",
];
const NOTHING: &str = "–";

/// One row of the table. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Produce(Load, OfProduce),
    Consume(Consumers, OfConsume),
    Latency(Beside, OfLatency),
    SmallProduce,
    SideP50,
    SideP99,
    SideMax,
    SideWriterRate,
    StartToFirstProduce,
    MemoryIdle,
    MemoryLoaded,
    Segments(OfSegments, Where),
    Compaction(OfCompaction),
    ConnectionMemory,
    ConnectionThreads,
    Groups(OfGroups),
    Recovery(OfRecovery),
    Backlog(OfBacklog),
    Flushed(OfFlushed),
    Readers(OfReaders),
    Scan(OfScan),
    Gaps(OfGaps),
}

/// What is measured of a node that was killed with a filled log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfRecovery {
    First,
    All,
    Cpu,
    ColdFirst,
    ColdAll,
    ColdCpu,
}

impl OfRecovery {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, SkeinAtMost};
        match self {
            Self::First => (
                "killed with a filled log: first produce",
                "ms",
                SkeinAtMost(2e3),
            ),
            Self::All => ("  all 16 partitions take records", "ms", None),
            Self::Cpu => ("  broker CPU until then", "s", None),
            Self::ColdFirst => ("  without the page cache: first produce", "ms", None),
            Self::ColdAll => ("    all 16 partitions take records", "ms", None),
            Self::ColdCpu => ("    broker CPU until then", "s", None),
        }
    }
}

/// What is measured of a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfBacklog {
    Produce,
    ProduceBehind,
    ProduceRatio,
    Lookup,
    LookupBehind,
    Scanned,
    ScannedBehind,
    ScannedRatio,
}

impl OfBacklog {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, SkeinAtMost};
        match self {
            Self::Produce => ("produce 1 KiB to an empty log, broker CPU", "s/GiB", None),
            Self::ProduceBehind => ("  behind the backlog", "s/GiB", None),
            Self::ProduceRatio => ("  behind it / empty", "×", SkeinAtMost(1.05)),
            Self::Lookup => ("a lookup in a small log, broker CPU", "µs", None),
            Self::LookupBehind => ("  in the backlog", "µs", None),
            Self::Scanned => ("bytes scanned by a lookup in a small log", "B", None),
            Self::ScannedBehind => ("  in the backlog", "B", None),
            Self::ScannedRatio => ("  in it / in a small one", "×", SkeinAtMost(1.05)),
        }
    }
}

/// What is measured of records that are flushed before they are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfFlushed {
    Replicated,
    Flushed,
    Disk,
    Needed,
}

impl OfFlushed {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, SkeinAtMost};
        match self {
            Self::Replicated => ("64 producers, one record at a time", "records/s", None),
            Self::Flushed => (
                "  each flushed (Kafka: flush.messages=1)",
                "records/s",
                None,
            ),
            Self::Disk => ("  what the disk sustains in groups", "records/s", None),
            Self::Needed => (
                "  the lesser of 60 % of the first and 80 % of the disk / flushed",
                "×",
                SkeinAtMost(1.0),
            ),
        }
    }
}

/// What is measured of a writer beside many readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfReaders {
    MeanAlone,
    MeanMeanwhile,
    P99Alone,
    P99Meanwhile,
    P99Ratio,
    SideAlone,
    SideMeanwhile,
    Idle,
}

impl OfReaders {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, SkeinAtMost};
        match self {
            Self::MeanAlone => ("an append under the lock, mean", "µs", None),
            Self::MeanMeanwhile => ("  beside 1,000 readers", "µs", None),
            Self::P99Alone => ("  p99", "µs", None),
            Self::P99Meanwhile => ("    beside 1,000 readers", "µs", None),
            Self::P99Ratio => ("    beside them / alone", "×", SkeinAtMost(1.1)),
            Self::SideAlone => ("small requests beside the writer, p99", "ms", None),
            Self::SideMeanwhile => ("  and 1,000 readers", "ms", None),
            Self::Idle => ("  processors that were idle then", "", None),
        }
    }
}

/// What is measured of a scan of old data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfScan {
    Disk,
    Rate,
    DiskRatio,
    Left,
    TailLost,
    SideAlone,
    SideMeanwhile,
    SideRatio,
}

impl OfScan {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, SkeinAtMost};
        match self {
            Self::Disk => ("old data, as the disk gives it", "MB/s", None),
            Self::Rate => ("  as one consumer gets it", "MB/s", None),
            Self::DiskRatio => ("  the first / the second", "×", SkeinAtMost(1.25)),
            Self::Left => ("  left of it in the page cache", "MB", SkeinAtMost(16.0)),
            Self::TailLost => ("  lost of a tail there", "%", SkeinAtMost(5.0)),
            Self::SideAlone => ("small requests, p99", "ms", None),
            Self::SideMeanwhile => ("  beside the scan", "ms", None),
            Self::SideRatio => ("  beside it / alone", "×", SkeinAtMost(1.2)),
        }
    }
}

/// What is measured when a node of three goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfGaps {
    KillLeader,
    KillController,
    PauseLeader,
    StopLeader,
    Lost,
    Twice,
}

impl OfGaps {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::SkeinAtMost;
        match self {
            Self::KillLeader => (
                "longest gap in acks, three nodes: kill -9 of a leader",
                "ms",
                SkeinAtMost(1e3),
            ),
            Self::KillController => ("  kill -9 of the controller", "ms", SkeinAtMost(1e3)),
            Self::PauseLeader => ("  pause of a leader", "ms", SkeinAtMost(4e3)),
            Self::StopLeader => ("  clean stop of a leader", "ms", SkeinAtMost(1e2)),
            Self::Lost => ("  acknowledged records that are lost", "", SkeinAtMost(0.0)),
            Self::Twice => ("  records that are there twice", "", SkeinAtMost(0.0)),
        }
    }
}

/// What is measured of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfCompaction {
    Time,
    Left,
    Memory,
    OthersAlone,
    OthersMeanwhile,
    OthersRatio,
    OwnAlone,
    OwnMeanwhile,
    OwnRatio,
}

impl OfCompaction {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, SkeinAtMost};
        match self {
            Self::Time => ("compaction of one log", "s", None),
            Self::Left => ("  what is left of it", "×", None),
            Self::Memory => ("  peak resident memory", "MB", SkeinAtMost(256.0)),
            Self::OthersAlone => ("  produce to other logs, alone, p99", "ms", None),
            Self::OthersMeanwhile => ("    meanwhile", "ms", None),
            Self::OthersRatio => ("    meanwhile / alone", "×", SkeinAtMost(1.2)),
            Self::OwnAlone => ("  produce to this log, alone, p99", "ms", None),
            Self::OwnMeanwhile => ("    meanwhile", "ms", None),
            Self::OwnRatio => ("    meanwhile / alone", "×", SkeinAtMost(1.2)),
        }
    }
}

/// What is measured of consumer groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfGroups {
    Commit,
    RebalanceFirst,
    Rebalance,
    Heartbeat,
    Memory,
    Start,
}

impl OfGroups {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, RatioAtMost, SkeinAtMost};
        match self {
            Self::Commit => (
                "commits of 32 consumers, time for one",
                "µs",
                RatioAtMost(0.5),
            ),
            Self::RebalanceFirst => (
                "100 members, 1,000 partitions: the first join, with its delay",
                "ms",
                None,
            ),
            Self::Rebalance => ("  all join again", "ms", SkeinAtMost(1e3)),
            Self::Heartbeat => ("a heartbeat, broker CPU", "µs", SkeinAtMost(15.0)),
            Self::Memory => ("  resident memory meanwhile", "MB", SkeinAtMost(200.0)),
            Self::Start => (
                "start with 100,000 committed offsets",
                "ms",
                SkeinAtMost(1e3),
            ),
        }
    }
}

/// What is measured of a node with very many segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfSegments {
    FilledStop,
    FilledUnclean,
    KilledFirst,
    KilledAll,
    KilledRead,
    KilledScanned,
    Stop,
    StoppedAll,
    StoppedRead,
    StoppedScanned,
    Idle,
    OffsetFirst,
    Offset,
    TimeFirst,
    Time,
}

/// Where the segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Where {
    /// In a hundred partitions.
    Wide,
    /// In one.
    Deep,
}

impl OfSegments {
    fn definition(self) -> (&'static str, &'static str, Bar) {
        use Bar::{None, SkeinAtMost};
        match self {
            Self::FilledStop => ("10,000 segments, just filled: stop", "ms", SkeinAtMost(2e3)),
            Self::FilledUnclean => (
                "just filled: stops that were not clean",
                "",
                SkeinAtMost(0.0),
            ),
            Self::KilledFirst => ("killed: first answer", "ms", SkeinAtMost(2e3)),
            Self::KilledAll => ("killed: all partitions answer", "ms", SkeinAtMost(2e3)),
            Self::KilledRead => ("killed: read until then", "MB", None),
            Self::KilledScanned => ("killed: segments scanned", "", None),
            Self::Stop => ("clean stop", "ms", SkeinAtMost(2e3)),
            Self::StoppedAll => ("stopped: all partitions answer", "ms", SkeinAtMost(2e3)),
            Self::StoppedRead => ("stopped: read until then", "MB", None),
            Self::StoppedScanned => ("stopped: segments scanned", "", SkeinAtMost(0.0)),
            Self::Idle => ("resident memory, idle", "MB", SkeinAtMost(80.0)),
            Self::OffsetFirst => (
                "cold lookup of an offset, CPU, the first",
                "µs",
                SkeinAtMost(1e3),
            ),
            Self::Offset => (
                "cold lookup of an offset, CPU, the next ones",
                "µs",
                SkeinAtMost(1e3),
            ),
            Self::TimeFirst => (
                "cold lookup of a time, CPU, the first",
                "µs",
                SkeinAtMost(1e3),
            ),
            Self::Time => (
                "cold lookup of a time, CPU, the next ones",
                "µs",
                SkeinAtMost(1e3),
            ),
        }
    }
}

/// Who consumes, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consumers {
    /// One, of what the page cache has.
    Hot,
    /// One, of what has to come from the disk.
    Cold,
    /// Many at once, each of all.
    Many,
}

/// What is measured of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfConsume {
    Rate,
    Cpu,
}

/// What goes on beside the records whose latency is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Beside {
    Nothing,
    Load,
}

/// What is measured of a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfLatency {
    P50,
    P99,
    P999,
}

/// What is measured of a produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OfProduce {
    Rate,
    Cpu,
    /// What the same frames cost a program that only receives, writes and answers.
    Floor,
    OverFloor,
    MeanBatch,
}

impl Consumers {
    fn name(self) -> &'static str {
        match self {
            Self::Hot => "consume 1 KiB, hot",
            Self::Cold => "consume 1 KiB, cold",
            Self::Many => "consume 1 KiB, hot, 20 consumers",
        }
    }
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "end to end, one at a time, p50",
            Self::Load => "end to end beside a writer of 50,000 x 1 KiB/s, p50",
        }
    }
}

/// What a bar is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// Nothing is asked.
    None,
    /// Skein's measurements, in the metric's unit.
    SkeinAtMost(f64),
    /// The ratios of Skein's to Kafka's.
    RatioAtMost(f64),
}

impl Metric {
    /// Name, unit and bar.
    pub(crate) fn definition(self) -> (Cow<'static, str>, &'static str, Bar) {
        use Bar::{None, RatioAtMost, SkeinAtMost};
        let (name, unit, bar) = match self {
            Self::Produce(load, OfProduce::Rate) => return (load.name().into(), "records/s", None),
            Self::Produce(load, OfProduce::Cpu) => {
                let is_asked = load.is_plain() && load.record_bytes <= 1024;
                let bar = if is_asked { RatioAtMost(0.35) } else { None };
                ("  broker CPU", "s/GiB", bar)
            }
            Self::Produce(_, OfProduce::Floor) => ("  the kernel's floor", "s/GiB", None),
            Self::Produce(_, OfProduce::OverFloor) => ("  above the floor", "×", None),
            Self::Produce(_, OfProduce::MeanBatch) => ("  mean batch", "KiB", None),
            Self::Consume(consumers, OfConsume::Rate) => (consumers.name(), "records/s", None),
            Self::Consume(_, OfConsume::Cpu) => ("  broker CPU", "s/GiB", None),
            Self::Latency(beside, OfLatency::P50) => (beside.name(), "ms", None),
            Self::Latency(_, OfLatency::P99) => ("  p99", "ms", None),
            Self::Latency(_, OfLatency::P999) => ("  p99.9", "ms", None),
            Self::SmallProduce => (
                "a small produce, 64 connections x 50/s, broker CPU",
                "µs",
                SkeinAtMost(25.0),
            ),
            Self::SideP50 => ("side requests, p50", "ms", None),
            Self::SideP99 => ("  p99", "ms", SkeinAtMost(5.0)),
            Self::SideMax => ("  max", "ms", None),
            Self::SideWriterRate => ("  the writer beside them", "records/s", None),
            Self::StartToFirstProduce => ("start to first produce", "ms", SkeinAtMost(200.0)),
            Self::MemoryIdle => ("resident memory, idle", "MB", SkeinAtMost(40.0)),
            Self::MemoryLoaded => ("  after load", "MB", None),
            Self::Compaction(what) => what.definition(),
            Self::ConnectionMemory => (
                "an idle connection of 10,000, resident memory",
                "KiB",
                SkeinAtMost(16.0),
            ),
            Self::ConnectionThreads => ("  threads for all of them", "", SkeinAtMost(0.0)),
            Self::Groups(what) => what.definition(),
            Self::Recovery(what) => what.definition(),
            Self::Backlog(what) => what.definition(),
            Self::Flushed(what) => what.definition(),
            Self::Readers(what) => what.definition(),
            Self::Scan(what) => what.definition(),
            Self::Gaps(what) => what.definition(),
            Self::Segments(what, Where::Wide) => what.definition(),
            Self::Segments(what, Where::Deep) => {
                let (_, unit, bar) = what.definition();
                ("  in one partition", unit, bar)
            }
        };
        (name.into(), unit, bar)
    }
}

/// All that was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Results {
    samples: BTreeMap<Metric, Pair<Vec<f64>>>,
}

#[derive(Debug, Default)]
struct Pair<T> {
    kafka: T,
    skein: T,
}

impl Results {
    /// Adds the measurement of one pair.
    pub(crate) fn add(&mut self, metric: Metric, system: System, value: f64) {
        let pair = self.samples.entry(metric).or_default();
        match system {
            System::Kafka => pair.kafka.push(value),
            System::Skein => pair.skein.push(value),
        }
    }

    /// Name, unit, and what Kafka and Skein have, of each metric.
    pub(crate) fn spreads(
        &self,
    ) -> impl Iterator<Item = (String, &'static str, [Option<Spread>; 2])> {
        self.rows().map(|row| {
            let (name, unit, _) = row.metric.definition();
            let spreads = [row.kafka, row.skein].map(Spread::of);
            (name.into_owned(), unit, spreads)
        })
    }

    /// A line per metric, with its verdict.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new(&HEADING, 2);
        for row in self.rows() {
            let (name, unit, bar) = row.metric.definition();
            table.row(vec![
                name.into_owned(),
                unit.to_owned(),
                show(Spread::of(row.kafka)),
                show(Spread::of(row.skein)),
                show(Spread::of(&row.ratios)),
                match bar {
                    Bar::None => String::new(),
                    Bar::SkeinAtMost(limit) => format!("≤ {limit} {unit}"),
                    Bar::RatioAtMost(limit) => format!("≤ {limit} ×"),
                },
                row.verdict().to_owned(),
            ]);
        }
        table.render()
    }

    /// Every measurement, for programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows().map(|row| {
            let (_, unit, bar) = row.metric.definition();
            json!({
                "metric": format!("{:?}", row.metric),
                "unit": unit,
                "kafka": row.kafka,
                "skein": row.skein,
                "ratios": row.ratios,
                "skein_at_most": if let Bar::SkeinAtMost(limit) = bar { Some(limit) } else { None },
                "ratio_at_most": if let Bar::RatioAtMost(limit) = bar { Some(limit) } else { None },
                "verdict": row.verdict(),
            })
        });
        Value::Array(rows.collect())
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.samples.iter().map(|(metric, pair)| Row {
            metric: *metric,
            kafka: &pair.kafka,
            skein: &pair.skein,
            ratios: statistics::ratios(&pair.skein, &pair.kafka),
        })
    }
}

struct Row<'a> {
    metric: Metric,
    kafka: &'a [f64],
    skein: &'a [f64],
    ratios: Vec<f64>,
}

impl Row<'_> {
    /// Empty where nothing is asked, or where what is asked was not measured.
    fn verdict(&self) -> &'static str {
        let (_, _, bar) = self.metric.definition();
        let judged = match bar {
            Bar::None => None,
            Bar::SkeinAtMost(limit) => Spread::of(self.skein).map(|spread| spread.judge(limit)),
            Bar::RatioAtMost(limit) => Spread::of(&self.ratios).map(|spread| spread.judge(limit)),
        };
        judged.map_or("", statistics::Verdict::name)
    }
}

fn show(spread: Option<Spread>) -> String {
    spread.map_or(NOTHING.to_owned(), |spread| {
        let [median, min, max] = [spread.median, spread.min, spread.max].map(table::number);
        format!("{median} ({min}–{max})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(metric: Metric, kafka: &[f64], skein: &[f64]) -> Results {
        let mut results = Results::default();
        for value in kafka {
            results.add(metric, System::Kafka, *value);
        }
        for value in skein {
            results.add(metric, System::Skein, *value);
        }
        results
    }

    #[test]
    fn a_relative_bar_is_held_against_the_ratios_of_pairs() {
        let metric = Metric::Produce(Load::plain(1024, 16_384), OfProduce::Cpu);
        // Both sides double from pair to pair: the ratio stays.
        let results = measured(metric, &[2.0, 4.0, 8.0], &[0.6, 1.2, 2.4]);
        let row = results.table().lines().last().unwrap().to_owned();
        assert!(row.contains("4.00 (2.00–8.00)"), "{row}");
        assert!(row.contains("0.300 (0.300–0.300)"), "{row}");
        assert!(row.contains("≤ 0.35 ×") && row.ends_with(" met"), "{row}");
        assert_eq!(results.json()[0]["ratio_at_most"], 0.35);
    }

    #[test]
    fn an_absolute_bar_needs_no_kafka() {
        let results = measured(Metric::MemoryIdle, &[], &[50.0, 51.0, 39.9]);
        let row = results.table().lines().last().unwrap().to_owned();
        assert!(row.contains(NOTHING) && row.ends_with("undecided"), "{row}");
        let results = measured(Metric::MemoryIdle, &[], &[50.0, 51.0, 40.1]);
        assert_eq!(results.json()[0]["verdict"], "MISSED");
    }

    #[test]
    fn without_the_other_system_a_relative_bar_has_no_verdict() {
        let results = measured(
            Metric::Produce(Load::plain(100, 16_384), OfProduce::Cpu),
            &[2.0, 2.0, 2.0],
            &[],
        );
        assert_eq!(results.json()[0]["verdict"], "");
        assert_eq!(results.json()[0]["kafka"][2], 2.0);
    }
}
