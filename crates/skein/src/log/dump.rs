//! `skein log dump`: what is in the files of a log.
//!
//! Input: paths. Output: batches, records, index entries, in blocks of a table or as JSON lines.
//!
//! Invariants: a file is never in memory as a whole; rows are printed in blocks of
//! [`BLOCK_ROWS`]; what can't be read is told in its place, and makes the exit code 1.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};
use skein_env::real::RealDisk;
use skein_record::{BatchHeader, BatchView, EndTxnMarker, Record, TimestampType, TxnResult};
use skein_storage::inspect::{
    CHECKPOINTS, FileName, IndexEntry, IndexFile, InspectedBatch, PartitionFiles, SegmentWalk, Step,
};
use skein_types::Offset;

use super::{Place, UNPACKED_MAX_BYTES, dump_small, place};
use crate::consume::put_bytes;
use crate::failure::Failure;
use crate::output::{self, Table};
use crate::time::rfc3339;

/// Rows of a table that are in memory at once.
const BLOCK_ROWS: usize = 1000;
/// Letters of a key or value that people see.
const SHOWN_MAX: usize = 120;

/// Arguments of `skein log dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArguments {
    /// Files, directories of partitions, or a log directory (then only its checkpoints)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The records of each batch too, unpacked
    #[arg(long, short)]
    records: bool,
    /// Leave out batches that end before this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Print so many batches or entries of each file, at most
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Where it goes.
pub(super) struct Out<W> {
    pub(super) out: W,
    pub(super) json: bool,
    /// Things that could not be read.
    pub(super) bad: u64,
}

impl<W: Write> Out<W> {
    pub(super) fn line(&mut self, value: &Value) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{value}")?)
    }

    /// Tells of bytes that can't be read.
    pub(super) fn bad(&mut self, path: &Path, position: u64, what: &str) -> Result<(), Failure> {
        self.bad += 1;
        if self.json {
            return self.line(&json!({
                "kind": "fault", "path": path, "position": position, "reason": what,
            }));
        }
        Ok(writeln!(self.out, "  byte {position}: {what}")?)
    }

    /// Prints the rows, if there are as many as a block has or `all`.
    fn block(&mut self, table: &mut Table, all: bool) -> Result<(), Failure> {
        if table.len() >= BLOCK_ROWS || all && !table.is_empty() {
            table.write(&mut self.out, 2)?;
            table.clear();
        }
        Ok(())
    }
}

/// Runs `skein log dump`.
pub(super) fn run(arguments: &DumpArguments, json: bool) -> Result<(), Failure> {
    let mut out = Out {
        out: output::stdout(),
        json,
        bad: 0,
    };
    for path in &arguments.paths {
        match place(path)? {
            Place::File(path) => dump(arguments, &path, None, &mut out)?,
            Place::Partition(files) => {
                for path in &files.files {
                    dump(arguments, path, Some(&files), &mut out)?;
                }
            }
            Place::LogDirectory(directory, _) => {
                for (name, _) in CHECKPOINTS {
                    let path = directory.join(name);
                    if path.exists() {
                        dump(arguments, &path, None, &mut out)?;
                    }
                }
            }
        }
    }
    out.out.flush()?;
    match out.bad {
        0 => Ok(()),
        bad => Err(
            Failure::failed(format!("{} could not be read", output::count(bad, "thing")))
                .hint("'skein log verify' says what to do."),
        ),
    }
}

fn dump(
    arguments: &DumpArguments,
    path: &Path,
    files: Option<&PartitionFiles>,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let name = FileName::of(path);
    if let (FileName::Log(base), Some(files)) = (name, files) {
        // A segment that ends before the offset asked for has nothing to show.
        let behind = files.segments.iter().find(|next| **next > base);
        if behind.is_some_and(|next| next.0 <= arguments.from) {
            return Ok(());
        }
    }
    if !out.json {
        writeln!(out.out, "{}", path.display())?;
    }
    match name {
        FileName::Log(_) => dump_log(arguments, path, out),
        FileName::OffsetIndex(_) | FileName::TimeIndex(_) => dump_index(arguments, path, out),
        _ => dump_small::dump(path, name, out),
    }
}

fn dump_log(
    arguments: &DumpArguments,
    path: &Path,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let mut walk = SegmentWalk::open(&RealDisk, path)?;
    let mut table = batch_table();
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0
        && let Some(step) = walk.next()?
    {
        match step {
            Step::Batch(batch) if batch.header.last_offset() < Offset(arguments.from) => {}
            Step::Batch(batch) => {
                left -= 1;
                if out.json {
                    out.line(&batch_json(path, &batch))?;
                } else {
                    table.row(batch_row(&batch));
                }
                out.bad += u64::from(batch.is_checksum_wrong());
                out.block(&mut table, arguments.records)?;
                if arguments.records && !batch.is_checksum_wrong() {
                    dump_records(path, &walk, &batch, out)?;
                }
            }
            Step::Room { position, bytes } => {
                out.block(&mut table, true)?;
                if out.json {
                    out.line(&json!({
                        "kind": "room", "path": path, "position": position, "bytes": bytes,
                    }))?;
                } else {
                    writeln!(
                        out.out,
                        "  byte {position}: {bytes} zeros, room ahead of the log"
                    )?;
                }
            }
            Step::Fault {
                position,
                reason,
                bytes,
            } => {
                out.block(&mut table, true)?;
                let what = format!("{reason}; {bytes} bytes are left");
                out.bad(path, position, &what)?;
            }
        }
    }
    out.block(&mut table, true)
}

fn batch_table() -> Table {
    Table::new(&[
        "POSITION", "BYTES", "FIRST", "LAST", "RECORDS", "CODEC", "EPOCH", "NEWEST", "PRODUCER",
        "CRC", "NOTES",
    ])
}

fn batch_row(batch: &InspectedBatch) -> Vec<String> {
    let header = &batch.header;
    let producer = if header.has_producer_id() {
        format!(
            "{}/{} {}..{}",
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        )
    } else {
        "-".into()
    };
    let crc = match batch.computed_crc.filter(|_| batch.is_checksum_wrong()) {
        Some(computed) => format!("WRONG {:08x}, is {computed:08x}", header.crc),
        None => format!("{:08x}", header.crc),
    };
    vec![
        batch.position.to_string(),
        header.size_in_bytes().to_string(),
        header.base_offset.to_string(),
        header.last_offset().to_string(),
        header.records_count.to_string(),
        codec(header),
        header.leader_epoch.to_string(),
        rfc3339(header.max_timestamp),
        producer,
        crc,
        notes(header).join(" "),
    ]
}

fn codec(header: &BatchHeader) -> String {
    match header.codec() {
        Ok(codec) => codec.name().into(),
        Err(error) => error.to_string(),
    }
}

fn notes(header: &BatchHeader) -> Vec<&'static str> {
    let attributes = header.attributes;
    [
        (attributes.is_transactional(), "transactional"),
        (attributes.is_control(), "control"),
        (
            attributes.timestamp_type() == TimestampType::LogAppendTime,
            "log-append-time",
        ),
        (attributes.has_delete_horizon(), "delete-horizon"),
    ]
    .into_iter()
    .filter_map(|(is, name)| is.then_some(name))
    .collect()
}

fn batch_json(path: &Path, batch: &InspectedBatch) -> Value {
    let header = &batch.header;
    json!({
        "kind": "batch",
        "path": path,
        "position": batch.position,
        "bytes": header.size_in_bytes(),
        "base_offset": header.base_offset.0,
        "last_offset": header.last_offset().0,
        "records": header.records_count,
        "codec": codec(header),
        "leader_epoch": header.leader_epoch.0,
        "base_timestamp": header.base_timestamp.0,
        "max_timestamp": header.max_timestamp.0,
        "producer_id": header.producer_id.0,
        "producer_epoch": header.producer_epoch.0,
        "base_sequence": header.base_sequence.0,
        "crc": header.crc,
        "is_crc_right": !batch.is_checksum_wrong(),
        "notes": notes(header),
    })
}

fn dump_records(
    path: &Path,
    walk: &SegmentWalk,
    batch: &InspectedBatch,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let Some(bytes) = walk.read(batch, UNPACKED_MAX_BYTES)? else {
        let what = format!("the batch has more than {UNPACKED_MAX_BYTES} bytes, not unpacked");
        return out.bad(path, batch.position, &what);
    };
    let records =
        BatchView::parse(&bytes).and_then(|view| Ok((view, view.records(UNPACKED_MAX_BYTES)?)));
    let (view, records) = match records {
        Ok(records) => records,
        Err(error) => return out.bad(path, batch.position, &told(&error)),
    };
    for record in &records {
        match record {
            Ok(record) if out.json => out.line(&record_json(path, &view, &record))?,
            Ok(record) => write_record(&view, &record, &mut out.out)?,
            Err(error) => out.bad(path, batch.position, &told(&error))?,
        }
    }
    Ok(())
}

/// An error and what is behind it.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", told(source)),
        None => error.to_string(),
    }
}

fn marker(view: &BatchView<'_>, record: &Record<'_>) -> Option<String> {
    let marker = EndTxnMarker::parse(record).filter(|_| view.header().attributes.is_control())?;
    let result = match marker.result {
        TxnResult::Commit => "commit",
        TxnResult::Abort => "abort",
    };
    Some(format!(
        "{result} (coordinator epoch {})",
        marker.coordinator_epoch
    ))
}

fn write_record(
    view: &BatchView<'_>,
    record: &Record<'_>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (offset, time) = (record.offset, rfc3339(record.timestamp));
    if let Some(marker) = marker(view, record) {
        return Ok(writeln!(out, "    {offset}  {time}  {marker}")?);
    }
    let (key, value) = (shown(record.key), shown(record.value));
    write!(out, "    {offset}  {time}  {key} = {value}")?;
    for header in record.headers.clone() {
        write!(
            out,
            "  {}: {}",
            shown(Some(header.key)),
            shown(header.value)
        )?;
    }
    Ok(writeln!(out)?)
}

/// Bytes for people: text as it is, control characters and what is no text escaped, no more than
/// fits.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "null".into();
    };
    // A letter has four bytes at most.
    let start = &bytes[..bytes.len().min(SHOWN_MAX * 4)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text.escape_debug().collect::<String>(),
        Err(error) if error.error_len().is_none() && start.len() < bytes.len() => {
            String::from_utf8_lossy(&start[..error.valid_up_to()])
                .escape_debug()
                .collect()
        }
        Err(_) => start.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
    };
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    if cut.len() < text.len() || start.len() < bytes.len() {
        format!("\"{cut}\"… ({} bytes)", bytes.len())
    } else {
        format!("\"{cut}\"")
    }
}

fn record_json(path: &Path, view: &BatchView<'_>, record: &Record<'_>) -> Value {
    let mut object = Map::new();
    object.insert("kind".into(), "record".into());
    object.insert("path".into(), json!(path));
    object.insert("offset".into(), record.offset.0.into());
    object.insert("timestamp".into(), record.timestamp.0.into());
    if let Some(marker) = marker(view, record) {
        object.insert("marker".into(), marker.into());
    }
    put_bytes(&mut object, "key", record.key);
    put_bytes(&mut object, "value", record.value);
    let headers = record.headers.clone().map(|header| {
        let mut object = Map::new();
        put_bytes(&mut object, "name", Some(header.key));
        put_bytes(&mut object, "value", header.value);
        Value::Object(object)
    });
    object.insert("headers".into(), json!(headers.collect::<Vec<_>>()));
    Value::Object(object)
}

fn dump_index(
    arguments: &DumpArguments,
    path: &Path,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let Some(mut index) = IndexFile::of_path(&RealDisk, path)? else {
        return out.bad(path, 0, "the file is gone");
    };
    let is_offset = matches!(FileName::of(path), FileName::OffsetIndex(_));
    let mut table = if is_offset {
        Table::new(&["ENTRY", "OFFSET", "POSITION"])
    } else {
        Table::new(&["ENTRY", "TIMESTAMP", "TIME", "OFFSET"])
    };
    let mut left = arguments.count.unwrap_or(u64::MAX);
    for number in 0..index.len() {
        let Some(entry) = index.get(number)? else {
            break;
        };
        let (IndexEntry::Offset { offset, .. } | IndexEntry::Time { offset, .. }) = entry;
        if offset.0 < arguments.from {
            continue;
        }
        if left == 0 {
            break;
        }
        left -= 1;
        if out.json {
            out.line(&entry_json(path, number, entry))?;
        } else {
            table.row(entry_row(number, entry));
            out.block(&mut table, false)?;
        }
    }
    out.block(&mut table, true)?;
    if index.odd_bytes() > 0 {
        let what = format!("{} bytes are no whole entry", index.odd_bytes());
        let position = index.len() * index.entry_bytes() as u64;
        out.bad(path, position, &what)?;
    }
    Ok(())
}

fn entry_row(number: u64, entry: IndexEntry) -> Vec<String> {
    let number = number.to_string();
    match entry {
        IndexEntry::Offset { offset, position } => {
            vec![number, offset.to_string(), position.to_string()]
        }
        IndexEntry::Time { timestamp, offset } => vec![
            number,
            timestamp.to_string(),
            rfc3339(timestamp),
            offset.to_string(),
        ],
    }
}

pub(super) fn entry_json(path: &Path, number: u64, entry: IndexEntry) -> Value {
    match entry {
        IndexEntry::Offset { offset, position } => json!({
            "kind": "offset_entry", "path": path, "entry": number,
            "offset": offset.0, "position": position,
        }),
        IndexEntry::Time { timestamp, offset } => json!({
            "kind": "time_entry", "path": path, "entry": number,
            "timestamp": timestamp.0, "offset": offset.0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_where_they_are_text_and_never_longer_than_a_line() {
        assert_eq!(shown(None), "null");
        assert_eq!(shown(Some("ü\n\"".as_bytes())), "\"ü\\n\\\"\"");
        assert_eq!(shown(Some(&[0xff, 1])), "\"\\xff\\x01\"");
        let long = shown(Some("ü".repeat(1000).as_bytes()));
        assert!(long.chars().count() < SHOWN_MAX + 30, "{long}");
        assert!(long.ends_with("(2000 bytes)"), "{long}");
        // The cut falls into a letter.
        let odd = format!("a{}", "ü".repeat(1000));
        assert!(shown(Some(odd.as_bytes())).starts_with("\"aüü"));
    }
}
