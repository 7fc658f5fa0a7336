//! `skein log locate`: how an offset or a timestamp is found.
//!
//! Input: a partition's directory, an offset or a time. Output: each step of the lookup.
//!
//! Invariant: the exit code is 1 if there is no such record.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use skein_env::real::RealDisk;
use skein_storage::inspect::{
    IndexEntry, IndexStep, Located, PartitionFiles, locate_offset, locate_timestamp,
};
use skein_types::{Millis, Offset};

use super::dump::entry_json;
use super::{Place, UNPACKED_MAX_BYTES, place};
use crate::failure::Failure;
use crate::output::{self, count};
use crate::produce::time;
use crate::time::{Time, rfc3339};

/// Arguments of `skein log locate`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub(crate) struct LocateArguments {
    /// The directory of a partition
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// The record at this offset, or the next one
    #[arg(long, value_name = "OFFSET", group = "target",
          value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
    /// The first record that is not older: a date, '15m' (ago), or '@MILLIS'
    #[arg(long, value_name = "TIME", group = "target", value_parser = time)]
    timestamp: Option<Time>,
}

/// Runs `skein log locate`.
pub(super) fn run(arguments: &LocateArguments, json: bool) -> Result<(), Failure> {
    let Place::Partition(files) = place(&arguments.directory)? else {
        return Err(Failure::wrong(format!(
            "{} is not the directory of a partition",
            arguments.directory.display()
        ))
        .hint("It is called TOPIC-PARTITION and lies in log.dirs."));
    };
    let (asked, located) = match (arguments.offset, arguments.timestamp) {
        (Some(offset), _) => {
            let located = locate_offset(&RealDisk, &files, Offset(offset), UNPACKED_MAX_BYTES)?;
            (format!("offset {offset}"), located)
        }
        (None, time) => {
            let target = time.unwrap_or(Time::At(Millis(0))).resolve(now());
            let located = locate_timestamp(&RealDisk, &files, target, UNPACKED_MAX_BYTES)?;
            (format!("time {}", rfc3339(target)), located)
        }
    };
    let log_start = files.offsets(&RealDisk)?.log_start;
    let mut out = output::stdout();
    if json {
        output::json(&mut out, &located_json(&located, log_start))?;
    } else {
        write(&mut out, &files, &asked, &located, log_start)?;
        out.flush()?;
    }
    match (located.batch, located.note) {
        (Some(_), _) => Ok(()),
        (None, Some(note)) => {
            Err(Failure::failed(note).hint("'skein log verify' says what to do."))
        }
        (None, None) => Err(Failure::failed(format!("there is no record for {asked}"))),
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn write(
    out: &mut impl Write,
    files: &PartitionFiles,
    asked: &str,
    located: &Located,
    log_start: Option<Offset>,
) -> Result<(), Failure> {
    let segments = count(located.segments as u64, "segment");
    writeln!(out, "{asked} in {} ({segments})", files.directory.display())?;
    if located.passed_segments > 0 {
        let passed = count(located.passed_segments as u64, "segment");
        writeln!(out, "  passed    {passed} with older records only")?;
    }
    for index in &located.indexes {
        write_index(out, index)?;
    }
    if let Some(segment) = &located.segment {
        writeln!(
            out,
            "  walk      {} from byte {}: {}, {}",
            name(segment),
            located.walk_start,
            count(located.walked_batches, "header"),
            count(located.walked_bytes, "byte")
        )?;
    }
    if let Some(batch) = &located.batch {
        writeln!(
            out,
            "  batch     at byte {}, {}: offsets {} to {}, newest {}",
            batch.position,
            count(batch.header.size_in_bytes() as u64, "byte"),
            batch.header.base_offset,
            batch.header.last_offset(),
            rfc3339(batch.header.max_timestamp)
        )?;
    }
    if let Some((offset, timestamp)) = located.record {
        let (time, millis) = (rfc3339(timestamp), timestamp);
        writeln!(out, "  record    offset {offset}, {time} (@{millis})")?;
        if let Some(start) = log_start.filter(|start| offset < *start) {
            writeln!(
                out,
                "  deleted   the log starts at {start}: nobody gets to read it"
            )?;
        }
    }
    if let Some(note) = located.note.as_ref().filter(|_| located.batch.is_some()) {
        writeln!(out, "  note      {note}")?;
    }
    Ok(())
}

fn write_index(out: &mut impl Write, index: &IndexStep) -> Result<(), Failure> {
    let used = match index.used {
        None => "no entry fits".to_owned(),
        Some((number, IndexEntry::Offset { offset, position })) => {
            format!("entry {number}: offset {offset} at byte {position}")
        }
        Some((number, IndexEntry::Time { timestamp, offset })) => {
            format!("entry {number}: {} at offset {offset}", rfc3339(timestamp))
        }
    };
    let wrong = if index.is_wrong {
        "; the log does not bear it out"
    } else {
        ""
    };
    let entries = match index.entries {
        1 => "1 entry".to_owned(),
        entries => format!("{entries} entries"),
    };
    writeln!(
        out,
        "  index     {} ({entries}, {}): {used}{wrong}",
        name(&index.path),
        count(index.probes.into(), "probe")
    )?;
    Ok(())
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn located_json(located: &Located, log_start: Option<Offset>) -> Value {
    let indexes = located.indexes.iter().map(|index| {
        json!({
            "path": index.path,
            "entries": index.entries,
            "probes": index.probes,
            "used": index.used.map(|(number, entry)| entry_json(&index.path, number, entry)),
            "is_wrong": index.is_wrong,
        })
    });
    json!({
        "segments": located.segments,
        "segment": located.segment,
        "passed_segments": located.passed_segments,
        "indexes": indexes.collect::<Vec<_>>(),
        "walk_start": located.walk_start,
        "walked_batches": located.walked_batches,
        "walked_bytes": located.walked_bytes,
        "batch": located.batch.map(|batch| json!({
            "position": batch.position,
            "bytes": batch.header.size_in_bytes(),
            "base_offset": batch.header.base_offset.0,
            "last_offset": batch.header.last_offset().0,
            "max_timestamp": batch.header.max_timestamp.0,
        })),
        "record": located.record.map(|(offset, timestamp)| json!({
            "offset": offset.0,
            "timestamp": timestamp.0,
            "is_deleted": log_start.is_some_and(|start| offset < start),
        })),
        "note": located.note,
    })
}
