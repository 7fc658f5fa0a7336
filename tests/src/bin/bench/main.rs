//! `bench` compares Skein with Apache Kafka 4.1.1 in one run.
//!
//! Input: the `skein` binary (`SKEIN_BIN`, or what `make build` leaves), and how much to measure;
//! see `bench --help`. Output: a table with ratios, spreads and verdicts on standard output,
//! progress on standard error; with `--json` every single measurement in a file, with `--charts`
//! pictures of them.
//!
//! How it is measured, and why so:
//! - ratios within one run, since speeds of a shared machine mean little: pairs are interleaved
//!   (`run`), and medians are shown with their extremes (`statistics`);
//! - the same client with the same settings loads both: franz-go (`loader` and `bench/loader`);
//! - a broker's CPU is its user and system time, all threads, per GiB of values moved (`process`);
//! - data lies on the disk below `.build/`, and memory is touched first (`machine`).
//!
//! Invariant: whatever ends this program, also an interrupt, ends every process that it started by
//! its id, and removes their data: see `skein_tests::guardian`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that reports to its user"
)]

use std::error::Error;
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use skein_tests::{Node, System, toolchain};

use crate::metrics::Results;
use crate::run::{Part, Plan};

mod backlog;
mod broker;
mod charts;
mod compaction;
mod connections;
mod floor;
mod flushed;
mod gaps;
mod groups;
mod load;
mod loader;
mod machine;
mod metrics;
mod process;
mod readers;
mod recovery;
mod run;
mod scan;
mod segments;
mod side;
mod statistics;
mod table;

/// What the client is built from.
const LOADER_MODULE: &str = include_str!("../../../bench/loader/go.mod");
const CLIENT: &str = "github.com/twmb/franz-go v";
const GIB: f64 = 1_073_741_824.0;
/// A machine with more runnable tasks before the start has other work.
const IDLE_LOAD_MAX: f64 = 0.5;
/// Room for a table that is cut nowhere.
const PAIRS_MAX: i64 = 99;
const GIB_MAX: f64 = 64.0;
/// The default of Kafka's own producer.
const KAFKA_BATCH_BYTES: u32 = 16_384;
/// What `max.message.bytes` allows without its header: franz-go's default.
const FRANZ_BATCH_BYTES: u32 = 1_000_012;
/// A record of 1 KiB must fit.
const BATCH_BYTES_RANGE: RangeInclusive<i64> = 2 << 10..=FRANZ_BATCH_BYTES as i64;

/// A result, or a reason for people. This program only reports; nobody handles its errors.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Compares Skein with Apache Kafka 4.1.1: the same client, the same machine, one run.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Options {
    /// Counted pairs, after one that warms both up [default: 5; quick: 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=PAIRS_MAX))]
    pairs: Option<u8>,
    /// GiB of values per produce, consume and compaction [default: 1; quick: 0.03].
    #[arg(long, value_parser = gib)]
    gib: Option<f64>,
    /// Bytes of a batch at most, or several sizes, separated by commas: each produce is measured
    /// with each. The defaults are those of Kafka's own producer and of franz-go.
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    #[arg(default_values_t = [KAFKA_BATCH_BYTES, FRANZ_BATCH_BYTES])]
    #[arg(value_parser = clap::value_parser!(u32).range(BATCH_BYTES_RANGE))]
    batch_bytes: Vec<u32>,
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Everything but what is measured on nodes of its own (from segments on): more than twice as
    /// long.
    #[arg(long, conflicts_with = "only")]
    full: bool,
    /// Only this system.
    #[arg(long, value_parser = system)]
    system: Option<System>,
    /// A file for every single measurement.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A directory for charts.
    #[arg(long, value_name = "DIRECTORY")]
    charts: Option<PathBuf>,
    /// Small loads: shows that everything works, and measures nothing that counts.
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn plan(&self, directory: PathBuf) -> Plan {
        let (pairs, gib, side_seconds, latency_records, segments, members) = if self.quick {
            (1, 0.03, 1, 200, 100, 100)
        } else {
            (5, 1.0, 4, 4_000, 10_000, 10_000)
        };
        let (backlog, readers, rounds) = if self.quick {
            (100_000, 100, 1)
        } else {
            (100_000_000, 1_000, 20)
        };
        let parts = match (self.full, self.only.is_empty()) {
            (true, _) => Part::full(),
            (false, true) => Part::DEFAULT.to_vec(),
            (false, false) => self.only.clone(),
        };
        Plan {
            systems: match self.system {
                Some(system) => vec![system],
                None => vec![System::Kafka, System::Skein],
            },
            parts,
            pairs: self.pairs.map_or(pairs, usize::from),
            bytes: bytes(self.gib.unwrap_or(gib)),
            batch_bytes: self.batch_bytes.clone(),
            side: Duration::from_secs(side_seconds),
            latency_records,
            segments,
            members,
            backlog,
            readers,
            rounds,
            directory,
        }
    }
}

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Outcome<()> {
    let build = toolchain::workspace().join(".build");
    fs::create_dir_all(&build)?;
    let directory = build.join("bench");
    // Two at a time would measure each other, so all else belongs to the one that has the lock.
    let lock = File::create(directory.with_extension("lock"))?;
    lock.lock()?;
    if directory.exists() {
        // A run that was killed has left gigabytes.
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    let plan = options.plan(directory);
    let settings = settings(&plan)?;
    for (name, text) in &settings {
        println!("{name:8}{text}");
    }
    if machine::load_average()? > IDLE_LOAD_MAX {
        println!("caution this machine has other work: don't trust what follows");
    }
    let results = run::run(&plan)?;
    println!("\n{}", results.table());
    println!("median (min–max) over the pairs; a ratio is taken within each pair;");
    println!("a bar inside the spread, or held against fewer than three pairs, is undecided");
    if let Some(directory) = &options.charts {
        for path in charts::write(&results, directory)? {
            println!("{}", path.display());
        }
    }
    if let Some(path) = &options.json {
        let report = report(&settings, &results)?;
        fs::write(path, report).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// All that a reader must know to judge the numbers, and to get them again.
fn settings(plan: &Plan) -> Outcome<Vec<(&'static str, String)>> {
    let mut settings = vec![
        ("machine", machine::facts()?),
        (
            "load",
            format!(
                "average of {} tasks before the start",
                machine::load_average()?
            ),
        ),
    ];
    for system in &plan.systems {
        settings.push(match system {
            System::Kafka => ("kafka", kafka()?),
            System::Skein => ("skein", skein(plan)?),
        });
    }
    let client = LOADER_MODULE
        .lines()
        .find_map(|line| {
            line.trim()
                .trim_start_matches("require ")
                .strip_prefix(CLIENT)
        })
        .unwrap_or("?");
    settings.extend([
        (
            "both",
            format!(
                "{:?}, data in {}",
                broker::SETTINGS,
                plan.directory.display()
            ),
        ),
        (
            "client",
            format!(
                "franz-go {client}: acks=all, idempotent, no compression, linger 5 ms, batches of \
                 up to {:?} bytes, 50,000 waiting records; on the same cores",
                plan.batch_bytes
            ),
        ),
        (
            "loads",
            format!(
                "{} GiB of values each into {} partitions; pairs: {}, after one to warm up",
                table::number(process::float(plan.bytes) / GIB),
                load::PARTITIONS,
                plan.pairs,
            ),
        ),
        (
            "side",
            format!(
                "{} connections, each in turn Metadata and Produce of {} bytes every {:?}, {:?} \
                 long, beside a writer of 1 KiB records",
                side::CONNECTIONS,
                side::RECORD_BYTES,
                side::INTERVAL,
                plan.side,
            ),
        ),
    ]);
    Ok(settings)
}

fn kafka() -> Outcome<String> {
    let options = broker::KAFKA_JVM_OPTIONS.join(" ");
    Ok(format!(
        "Apache Kafka 4.1.1, {}, {options}",
        machine::java()?
    ))
}

/// Also ends the run before it has begun where there is no binary.
fn skein(plan: &Plan) -> Outcome<String> {
    let node = Node::prepare_in(&plan.directory, System::Skein, &[]);
    let binary = PathBuf::from(node.command().get_program());
    let age = fs::metadata(&binary)?
        .modified()?
        .elapsed()
        .unwrap_or_default();
    let minutes = age.as_secs() / 60;
    Ok(format!("{}, built {minutes} minutes ago", binary.display()))
}

fn report(settings: &[(&str, String)], results: &Results) -> Outcome<String> {
    let settings: serde_json::Map<_, _> = settings
        .iter()
        .map(|(name, text)| ((*name).to_owned(), json!(text)))
        .collect();
    let report = json!({ "settings": settings, "results": results.json() });
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

fn system(name: &str) -> Result<System, String> {
    match name {
        "kafka" => Ok(System::Kafka),
        "skein" => Ok(System::Skein),
        _ => Err("kafka or skein".to_owned()),
    }
}

fn gib(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value > 0.0 && value <= GIB_MAX {
        Ok(value)
    } else {
        Err(format!("above 0 and at most {GIB_MAX}"))
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`gib` lets through what fits"
)]
fn bytes(gib: f64) -> u64 {
    (gib * GIB) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["bench"], arguments].concat())
    }

    fn plan(arguments: &[&str]) -> Plan {
        parse(arguments).unwrap().plan(PathBuf::new())
    }

    #[test]
    fn everything_is_measured_unless_told_otherwise() {
        let all = plan(&[]);
        assert_eq!(all.systems, [System::Kafka, System::Skein]);
        assert_eq!((all.parts.len(), all.pairs, all.bytes), (6, 5, 1 << 30));
        assert_eq!(plan(&["--full"]).parts.len(), 14);
        let some = plan(&["--only", "produce-1k,side", "--system", "skein"]);
        assert_eq!(some.systems, [System::Skein]);
        assert_eq!(some.parts, [Part::Produce1k, Part::Side]);
    }

    #[test]
    fn quick_is_a_default_that_can_be_overruled() {
        assert_eq!(plan(&["--quick"]).pairs, 1);
        let larger = plan(&["--quick", "--pairs", "3", "--gib", "0.5"]);
        assert_eq!((larger.pairs, larger.bytes), (3, 1 << 29));
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            ["--batch-bytes", "1024"],
            ["--batch-bytes", "1000013"],
            ["--pairs", "0"],
            ["--pairs", "100"],
            ["--gib", "0"],
            ["--gib", "nan"],
            ["--gib", "65"],
            ["--only", "everything"],
            ["--system", "both"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
