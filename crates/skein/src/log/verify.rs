//! `skein log verify`: what does not agree in the files of a log.
//!
//! Input: directories of partitions, or a log directory. Output: findings with path, position,
//! offset and remedy; a line for each partition.
//!
//! Invariant: the exit code is 0 only if nothing is damaged.

use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use skein_env::real::RealDisk;
use skein_storage::inspect::{
    Finding, PartitionFiles, Verified, VerifyOptions, Weight, verify_partition,
};

use super::{Place, UNPACKED_MAX_BYTES, place};
use crate::failure::Failure;
use crate::output::{self, Table, count};

/// Between two looks at the end of a log that a node may be writing.
const PAUSE: Duration = Duration::from_millis(50);

/// Arguments of `skein log verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Directories of partitions, or log directories
    #[arg(value_name = "DIRECTORY", required = true)]
    paths: Vec<PathBuf>,
    /// Unpack the records of every batch too
    #[arg(long, short)]
    records: bool,
}

/// Runs `skein log verify`.
pub(super) fn run(arguments: &VerifyArguments, json: bool) -> Result<(), Failure> {
    let mut partitions = Vec::new();
    for path in &arguments.paths {
        match place(path)? {
            Place::Partition(files) => partitions.push(files.directory),
            Place::LogDirectory(_, directories) => partitions.extend(directories),
            Place::File(path) => {
                return Err(Failure::wrong(format!(
                    "{} is a file; name its directory",
                    path.display()
                ))
                .hint("Segments, indexes and checkpoints are checked against each other."));
            }
        }
    }
    let options = VerifyOptions {
        unpacked_max_bytes: arguments.records.then_some(UNPACKED_MAX_BYTES),
        pause: &|| thread::sleep(PAUSE),
    };
    let mut out = output::stdout();
    let mut rows = Vec::new();
    let mut findings = Vec::new();
    let mut told = Ok(());
    for directory in partitions {
        let files = PartitionFiles::list(&RealDisk, &directory)?;
        let verified = verify_partition(&RealDisk, &files, &options, &mut |finding| {
            if json {
                findings.push(finding_json(&finding));
            } else if told.is_ok() {
                told = write(&mut out, &finding);
            }
        })?;
        std::mem::replace(&mut told, Ok(()))?;
        rows.push((directory, verified));
    }
    let damages = rows.iter().map(|(_, verified)| verified.damages).sum();
    if json {
        let partitions: Vec<_> = rows.iter().map(verified_json).collect();
        let value = json!({
            "damages": damages, "findings": findings, "partitions": partitions,
        });
        output::json(&mut out, &value)?;
    } else {
        table(&rows).write(&mut out, 0)?;
        out.flush()?;
    }
    match damages {
        0 => Ok(()),
        damages => Err(Failure::failed(format!(
            "{} found",
            count(damages, "damage")
        ))),
    }
}

fn write(out: &mut impl Write, finding: &Finding) -> Result<(), Failure> {
    let weight = match finding.weight {
        Weight::Damage => "damage",
        Weight::Note => "note",
    };
    write!(out, "{weight}: {}", finding.path.display())?;
    if let Some(position) = finding.position {
        write!(out, " at byte {position}")?;
    }
    if let Some(offset) = finding.offset {
        write!(out, ", offset {offset}")?;
    }
    writeln!(out, ": {}", finding.what)?;
    Ok(writeln!(out, "  what to do: {}", finding.remedy)?)
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "is_damage": finding.weight == Weight::Damage,
        "path": finding.path,
        "position": finding.position,
        "offset": finding.offset.map(|offset| offset.0),
        "what": finding.what,
        "remedy": finding.remedy,
    })
}

fn table(rows: &[(PathBuf, Verified)]) -> Table {
    let mut table = Table::new(&[
        "PARTITION",
        "SEGMENTS",
        "BATCHES",
        "RECORDS",
        "BYTES",
        "INDEX ENTRIES",
        "FIRST",
        "NEXT",
        "DAMAGES",
    ]);
    for (directory, verified) in rows {
        let name = directory.file_name().unwrap_or(directory.as_os_str());
        let untold = match verified.untold {
            0 => String::new(),
            untold => format!(" ({untold} more like these)"),
        };
        table.row(vec![
            name.to_string_lossy().into_owned(),
            verified.segments.to_string(),
            verified.batches.to_string(),
            verified.records.to_string(),
            verified.bytes.to_string(),
            verified.index_entries.to_string(),
            verified.first_offset.to_string(),
            verified.end_offset.to_string(),
            format!("{}{untold}", verified.damages),
        ]);
    }
    table
}

fn verified_json((directory, verified): &(PathBuf, Verified)) -> Value {
    json!({
        "path": directory,
        "segments": verified.segments,
        "batches": verified.batches,
        "records": verified.records,
        "bytes": verified.bytes,
        "index_entries": verified.index_entries,
        "room_bytes": verified.room_bytes,
        "first_offset": verified.first_offset.0,
        "end_offset": verified.end_offset.0,
        "damages": verified.damages,
        "untold": verified.untold,
    })
}
