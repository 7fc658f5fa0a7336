//! `skein import`: takes over a data directory that another system wrote.
//!
//! Input: Apache Kafka's log directory. Output: the same directory as Skein's, and a report; or
//! what stands against it, with exit code 1.
//!
//! Invariant: what stands against it is told all at once, each with what to do.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use skein_env::real::{RealOptions, RealWorld};
use skein_import::{Finding, ImportError, ImportOptions, Imported, Outcome, Weight, import};

use crate::failure::Failure;
use crate::logs::{self, LogFormat};
use crate::output::{self, count};

/// How long the process waits for threads in the end.
const SHUTDOWN: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  skein import kafka /var/lib/kafka/data --dry-run
  skein import kafka /var/lib/kafka/data";

const KAFKA_EXAMPLES: &str = "\
Examples:
  skein import kafka /var/lib/kafka/data --dry-run     tell what would be taken
  skein import kafka /var/lib/kafka/data
  skein serve --set log.dirs=/var/lib/kafka/data       afterwards
  skein import kafka /var/lib/kafka/data --leave-out audit --leave-out clicks
  skein import kafka /var/lib/kafka/data --json | jq '.findings[]'

Stop Kafka first, best in order: then nothing needs to be recovered. Records are not copied. Kafka's
metadata log stays in the directory, as kafka-taken-over; until it gets that name, Kafka can still
be started, and an import that was ended can be run again. The exit code is 1 if something stands
against the import; then nothing has changed.";

/// Arguments of `skein import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Take over a log directory of Apache Kafka up to 4.1 (KRaft), in place.
    #[command(after_help = KAFKA_EXAMPLES)]
    Kafka(KafkaArguments),
}

#[derive(Debug, Args)]
struct KafkaArguments {
    /// Kafka's log directory, with its metadata log in it
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Tell what would be taken, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave a topic behind; may be given several times
    #[arg(long, value_name = "TOPIC")]
    leave_out: Vec<String>,
    /// The node was one of several: take its replicas, where in sync, for the only ones
    #[arg(long)]
    single_node: bool,
    /// Go on without the users, access control lists and delegation tokens that Kafka had
    #[arg(long)]
    without_security: bool,
    /// Where the metadata go, if not to metadata/ in the directory; skein serve needs to be told
    /// too
    #[arg(long, value_name = "DIRECTORY")]
    metadata_log_dir: Option<PathBuf>,
    /// Print JSON for programs instead of text for people
    #[arg(long)]
    json: bool,
}

/// Runs `skein import`.
pub(crate) fn run(arguments: &ImportArguments) -> Result<(), Failure> {
    let ImportCommand::Kafka(kafka) = &arguments.command;
    logs::start("warn,openraft=error", LogFormat::Human)?;
    let options = ImportOptions {
        directory: kafka.directory.clone(),
        metadata_log_dir: kafka.metadata_log_dir.clone(),
        leave_out: kafka.leave_out.iter().cloned().collect(),
        is_single_node: kafka.single_node,
        without_security: kafka.without_security,
        is_dry_run: kafka.dry_run,
    };
    let world = RealWorld::new(RealOptions {
        network_threads: 1,
        io_threads: 1,
    });
    let world = world.map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let result = world.block_on(async { import(&world.env(), &options).await });
    // What the import wrote is flushed: a thread that hangs holds nothing back.
    let _ = world.shutdown(SHUTDOWN);
    match result {
        Ok(imported) => report(kafka, &imported),
        Err(error) => Err(refuse(kafka, &error)?),
    }
}

fn report(kafka: &KafkaArguments, imported: &Imported) -> Result<(), Failure> {
    let mut out = output::stdout();
    if kafka.json {
        return output::json(&mut out, &imported_json(kafka, imported));
    }
    let directory = kafka.directory.display();
    let taken = format!(
        "{}, {}",
        count(imported.topics as u64, "topic"),
        count(imported.partitions as u64, "partition"),
    );
    match imported.outcome {
        Outcome::TakenOver => writeln!(out, "{directory}: taken over, {taken}")?,
        Outcome::DryRun => writeln!(out, "{directory}: can be taken over, {taken}")?,
        Outcome::Finished => {
            writeln!(
                out,
                "{directory}: finished what an earlier import had begun"
            )?;
        }
    }
    writeln!(
        out,
        "  cluster {}, node {}, metadata in {}",
        imported.cluster_id,
        imported.node_id,
        imported.metadata_log_dir.display()
    )?;
    tell(&mut out, &imported.findings)?;
    out.flush()?;
    Ok(())
}

/// The failure to report, after the findings were told on standard output.
fn refuse(kafka: &KafkaArguments, error: &ImportError) -> Result<Failure, Failure> {
    let findings: &[Finding] = match error {
        ImportError::Refused(findings) => findings,
        _ => &[],
    };
    let mut out = output::stdout();
    if kafka.json {
        let value = json!({
            "outcome": "refused",
            "error": error.to_string(),
            "remedy": error.remedy(),
            "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
        });
        output::json(&mut out, &value)?;
    } else {
        tell(&mut out, findings)?;
        out.flush()?;
    }
    let failure = Failure::failed(format!("nothing is imported: {error}"));
    Ok(failure.hint(format!("What helps: {}.", error.remedy())))
}

fn tell(out: &mut impl Write, findings: &[Finding]) -> Result<(), Failure> {
    for finding in findings {
        let weight = weight(finding.weight);
        writeln!(out, "{weight}: {}: {}", finding.subject, finding.what)?;
        if !finding.remedy.is_empty() {
            writeln!(out, "  what to do: {}", finding.remedy)?;
        }
    }
    Ok(())
}

fn weight(weight: Weight) -> &'static str {
    match weight {
        Weight::Refused => "refused",
        Weight::Left => "left behind",
        Weight::Note => "note",
    }
}

fn imported_json(kafka: &KafkaArguments, imported: &Imported) -> Value {
    let outcome = match imported.outcome {
        Outcome::TakenOver => "taken over",
        Outcome::Finished => "finished",
        Outcome::DryRun => "dry run",
    };
    json!({
        "outcome": outcome,
        "directory": kafka.directory,
        "cluster_id": imported.cluster_id.to_string(),
        "node_id": imported.node_id,
        "was_clean": imported.was_clean,
        "topics": imported.topics,
        "partitions": imported.partitions,
        "metadata_log_dir": imported.metadata_log_dir,
        "findings": imported.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "weight": weight(finding.weight),
        "subject": finding.subject.to_string(),
        "what": finding.what,
        "remedy": finding.remedy,
    })
}
