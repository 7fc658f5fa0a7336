//! `skein log verify`: what does not agree in the files of a log.
//!
//! Input: directories of partitions, or a log directory. Output: findings with path, position,
//! offset and remedy; a line for each partition.
//!
//! Invariant: the exit code is 0 only if nothing is damaged.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use skein_env::real::RealDisk;
use skein_storage::inspect::{
    Finding, PartitionFiles, Verified, VerifyOptions, Weight, verify_log_directory,
    verify_partition,
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
    let (log_directories, partitions) = places(&arguments.paths)?;
    let options = VerifyOptions {
        unpacked_max_bytes: arguments.records.then_some(UNPACKED_MAX_BYTES),
        pause: &|| thread::sleep(PAUSE),
    };
    let mut teller = Teller {
        out: output::stdout(),
        json: json.then(Vec::new),
        told: Ok(()),
    };
    let (mut damages, mut rows) = (0, Vec::new());
    for directory in log_directories {
        damages += verify_log_directory(&RealDisk, &directory, &mut |one| teller.tell(&one))?;
    }
    for directory in partitions {
        let tell = &mut |one: Finding| teller.tell(&one);
        let verified = PartitionFiles::list(&RealDisk, &directory)
            .and_then(|files| verify_partition(&RealDisk, &files, &options, tell));
        match verified {
            Ok(verified) => {
                damages += verified.damages;
                rows.push((directory, verified));
            }
            // A node has deleted the topic meanwhile.
            Err(error) if error.is_not_found() && !directory.exists() => {}
            // One bad file must not hide what the other partitions have.
            Err(error) => {
                damages += 1;
                teller.tell(&Finding::unreadable(&error, error.remedy()));
            }
        }
        teller.told()?;
    }
    teller.told()?;
    let mut out = teller.out;
    if let Some(findings) = teller.json {
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

/// Tells findings as they are made, or gathers them for one value of JSON.
struct Teller<W> {
    out: W,
    json: Option<Vec<Value>>,
    /// The first failure to write.
    told: Result<(), Failure>,
}

impl<W: Write> Teller<W> {
    fn tell(&mut self, finding: &Finding) {
        match &mut self.json {
            Some(findings) => findings.push(finding_json(finding)),
            None if self.told.is_ok() => self.told = write(&mut self.out, finding),
            None => {}
        }
    }

    /// Whether all could be told so far.
    fn told(&mut self) -> Result<(), Failure> {
        std::mem::replace(&mut self.told, Ok(()))
    }
}

/// The log directories whose checkpoints speak of the partitions, each once; and the directories
/// of the partitions.
fn places(paths: &[PathBuf]) -> Result<(BTreeSet<PathBuf>, Vec<PathBuf>), Failure> {
    let (mut log_directories, mut partitions) = (BTreeSet::new(), Vec::new());
    for path in paths {
        match place(path)? {
            Place::Partition(files) => {
                let above = files.directory.parent();
                let above = above.filter(|_| files.partition.is_some());
                log_directories.extend(above.map(Path::to_path_buf));
                partitions.push(files.directory);
            }
            Place::LogDirectory(path, directories) => {
                log_directories.insert(path);
                partitions.extend(directories);
            }
            Place::File(path) => {
                return Err(Failure::wrong(format!(
                    "{} is a file; name its directory",
                    path.display()
                ))
                .hint("Segments, indexes and checkpoints are checked against each other."));
            }
        }
    }
    Ok((log_directories, partitions))
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
