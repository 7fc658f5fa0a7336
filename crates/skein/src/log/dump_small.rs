//! The small files of a log, for `skein log dump`.
//!
//! Input: a snapshot, a table of epochs, a checkpoint, and the like. Output: what is in it.
//!
//! Invariant: a file with garbage is told as such, with what is wrong.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use skein_env::real::RealDisk;
use skein_record::{ABORTED_TXN_BYTES, AbortedTxn, LeaderEpochs, ProducerState, ProducerStates};
use skein_storage::StorageError;
use skein_storage::inspect::{FileName, decode_segment_times, read_checkpoint, read_small_file};
use skein_types::{Offset, ProducerId};

use super::dump::Out;
use crate::failure::Failure;
use crate::output::Table;
use crate::time::rfc3339;

/// Bytes of a text file that are printed.
const TEXT_MAX_BYTES: usize = 64 * 1024;

/// Prints one of the small files.
pub(super) fn dump(path: &Path, name: FileName, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match name {
        FileName::Snapshot(offset) => snapshot(path, offset, out),
        FileName::TxnIndex(_) => txn_index(path, out),
        FileName::LeaderEpochs => epochs(path, out),
        FileName::SegmentTimes => segment_times(path, out),
        FileName::Checkpoint => checkpoint(path, out),
        FileName::PartitionMetadata | FileName::MetaProperties => text(path, out),
        FileName::Leftover => tell(path, "left behind by an interrupted step", out),
        _ => tell(path, "not a file of a log", out),
    }
}

/// The content, or no rows where the file is gone.
fn content(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(read_small_file(&RealDisk, path)?.unwrap_or_default())
}

fn tell(path: &Path, what: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.json {
        return out.line(&json!({ "kind": "file", "path": path, "note": what }));
    }
    Ok(writeln!(out.out, "  {what}")?)
}

fn snapshot(path: &Path, offset: Offset, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let producers = match ProducerStates::load(&content(path)?, offset) {
        Ok(producers) => producers,
        Err(error) => return out.bad(path, 0, &error.to_string()),
    };
    let mut table = Table::new(&[
        "PRODUCER",
        "EPOCH",
        "SEQUENCE",
        "LAST",
        "TIME",
        "COORDINATOR",
        "OPEN FROM",
    ]);
    for (id, state) in producers.iter() {
        if out.json {
            out.line(&producer_json(path, id, state))?;
            continue;
        }
        let last = state.last_batch().map(|batch| batch.last_offset);
        let text = |offset: Option<Offset>| offset.map_or("-".into(), |offset| offset.to_string());
        table.row(vec![
            id.to_string(),
            state.producer_epoch.to_string(),
            state.last_sequence().to_string(),
            text(last),
            rfc3339(state.last_timestamp),
            state.coordinator_epoch.to_string(),
            text(state.current_txn_first_offset),
        ]);
    }
    if out.json {
        return Ok(());
    }
    if table.is_empty() {
        return tell(path, "no producers", out);
    }
    Ok(table.write(&mut out.out, 2)?)
}

fn producer_json(path: &Path, id: ProducerId, state: &ProducerState) -> Value {
    json!({
        "kind": "producer",
        "path": path,
        "producer_id": id.0,
        "producer_epoch": state.producer_epoch.0,
        "last_sequence": state.last_sequence().0,
        "last_offset": state.last_batch().map(|batch| batch.last_offset.0),
        "last_timestamp": state.last_timestamp.0,
        "coordinator_epoch": state.coordinator_epoch,
        "current_txn_first_offset": state.current_txn_first_offset.map(|offset| offset.0),
    })
}

fn txn_index(path: &Path, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let content = content(path)?;
    let mut table = Table::new(&["PRODUCER", "FIRST", "LAST", "LAST STABLE"]);
    let mut faults = Vec::new();
    for (number, entry) in AbortedTxn::decode_all(&content).enumerate() {
        match entry {
            Ok(entry) if out.json => out.line(&json!({
                "kind": "aborted_txn",
                "path": path,
                "producer_id": entry.producer_id.0,
                "first_offset": entry.first_offset.0,
                "last_offset": entry.last_offset.0,
                "last_stable_offset": entry.last_stable_offset.0,
            }))?,
            Ok(entry) => table.row(vec![
                entry.producer_id.to_string(),
                entry.first_offset.to_string(),
                entry.last_offset.to_string(),
                entry.last_stable_offset.to_string(),
            ]),
            Err(error) => faults.push(((number * ABORTED_TXN_BYTES) as u64, error.to_string())),
        }
    }
    if !table.is_empty() {
        table.write(&mut out.out, 2)?;
    }
    for (position, what) in faults {
        out.bad(path, position, &what)?;
    }
    Ok(())
}

fn epochs(path: &Path, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let epochs = match LeaderEpochs::decode(&content(path)?) {
        Ok(epochs) => epochs,
        Err(error) => return out.bad(path, 0, &error.to_string()),
    };
    let mut table = Table::new(&["EPOCH", "FROM"]);
    for entry in epochs.entries() {
        if out.json {
            out.line(&json!({
                "kind": "leader_epoch",
                "path": path,
                "leader_epoch": entry.epoch.0,
                "start_offset": entry.start_offset.0,
            }))?;
        } else {
            table.row(vec![
                entry.epoch.to_string(),
                entry.start_offset.to_string(),
            ]);
        }
    }
    if !table.is_empty() {
        table.write(&mut out.out, 2)?;
    }
    Ok(())
}

fn segment_times(path: &Path, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let (entries, is_whole) = decode_segment_times(&content(path)?);
    let mut table = Table::new(&["SEGMENT", "BYTES", "NEWEST", "OFFSET", "EPOCH"]);
    for entry in entries {
        if out.json {
            out.line(&json!({
                "kind": "segment_timestamp",
                "path": path,
                "base_offset": entry.base_offset.0,
                "size": entry.size,
                "timestamp": entry.newest.timestamp.0,
                "offset": entry.newest.offset.0,
                "leader_epoch": entry.leader_epoch.0,
            }))?;
        } else {
            table.row(vec![
                entry.base_offset.to_string(),
                entry.size.to_string(),
                rfc3339(entry.newest.timestamp),
                entry.newest.offset.to_string(),
                entry.leader_epoch.to_string(),
            ]);
        }
    }
    if !table.is_empty() {
        table.write(&mut out.out, 2)?;
    }
    match is_whole {
        true => Ok(()),
        false => out.bad(
            path,
            0,
            "its end is torn; a node reads time indexes instead",
        ),
    }
}

fn checkpoint(path: &Path, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let offsets = match read_checkpoint(&RealDisk, path) {
        Ok(offsets) => offsets.unwrap_or_default(),
        Err(StorageError::Format { line, reason, .. }) => {
            return out.bad(path, 0, &format!("line {line}: {reason}"));
        }
        Err(error) => return Err(error.into()),
    };
    let mut table = Table::new(&["TOPIC", "PARTITION", "OFFSET"]);
    for (partition, offset) in offsets {
        if out.json {
            out.line(&json!({
                "kind": "checkpoint",
                "path": path,
                "topic": partition.topic.as_str(),
                "partition": partition.partition.0,
                "offset": offset.0,
            }))?;
        } else {
            table.row(vec![
                partition.topic.to_string(),
                partition.partition.to_string(),
                offset.to_string(),
            ]);
        }
    }
    if !table.is_empty() {
        table.write(&mut out.out, 2)?;
    }
    Ok(())
}

fn text(path: &Path, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let content = content(path)?;
    let start = &content[..content.len().min(TEXT_MAX_BYTES)];
    let Ok(text) = std::str::from_utf8(start) else {
        return out.bad(path, 0, "the file is not text");
    };
    if out.json {
        return out.line(&json!({ "kind": "text", "path": path, "text": text }));
    }
    for line in text.lines() {
        writeln!(out.out, "  {}", line.escape_debug())?;
    }
    Ok(())
}
