//! What became of the records.
//!
//! Input: where each was written. Output: a line for each if that was asked for, or a table in the
//! end.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;

use serde_json::{Map, Value, json};
use skein_client::RecordMetadata;
use skein_types::{Offset, PartitionIndex};

use crate::failure::Failure;
use crate::output::{self, Table, count};

/// What became of the records.
#[derive(Debug)]
pub(crate) struct Summary {
    json: bool,
    pub(crate) show_offsets: bool,
    /// By partition: number of records, lowest and highest offset.
    partitions: BTreeMap<PartitionIndex, (u64, Offset, Offset)>,
}

impl Summary {
    pub(crate) fn new(json: bool, show_offsets: bool) -> Self {
        Self {
            json,
            show_offsets,
            partitions: BTreeMap::new(),
        }
    }

    /// How many were written.
    pub(crate) fn records(&self) -> u64 {
        self.partitions.values().map(|(records, ..)| records).sum()
    }

    /// A record was written.
    pub(crate) fn add(&mut self, written: &RecordMetadata) -> Result<(), Failure> {
        let offset = written.offset;
        let partition = written.partition.partition;
        let entry = self
            .partitions
            .entry(partition)
            .or_insert((0, offset, offset));
        entry.0 += 1;
        entry.1 = entry.1.min(offset);
        entry.2 = entry.2.max(offset);
        if self.show_offsets {
            self.show(written)?;
        }
        Ok(())
    }

    /// Says of a failure how much was written before.
    pub(crate) fn failed(&self, failure: impl Into<Failure>) -> Failure {
        let written = self.records();
        match failure.into() {
            Failure::Told {
                code,
                message,
                hint,
            } if written > 0 => Failure::Told {
                code,
                message: format!("{message} ({} written before)", count(written, "record")),
                hint,
            },
            failure => failure,
        }
    }

    fn show(&self, written: &RecordMetadata) -> Result<(), Failure> {
        let mut out = output::stdout();
        if self.json {
            let line = json!({
                "topic": written.partition.topic.as_str(),
                "partition": written.partition.partition.0,
                "offset": written.offset.0,
                "timestamp": written.timestamp.0,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{} {}", written.partition, written.offset)?;
        }
        Ok(out.flush()?)
    }

    /// Tells how many records went where; for people on standard error, so that standard output
    /// holds nothing but what was asked for. `more` is for programs only.
    pub(crate) fn print(&self, more: Map<String, Value>) -> Result<(), Failure> {
        if self.show_offsets {
            return Ok(());
        }
        let known = |offset: Offset| (offset != Offset::NONE).then_some(offset.0);
        if self.json {
            let partitions = self
                .partitions
                .iter()
                .map(|(partition, (records, first, last))| {
                    json!({
                        "partition": partition.0,
                        "records": records,
                        "first_offset": known(*first),
                        "last_offset": known(*last),
                    })
                });
            let mut value = Map::new();
            value.insert("records".into(), self.records().into());
            value.insert("partitions".into(), partitions.collect());
            value.extend(more);
            return output::json(&mut output::stdout(), &Value::Object(value));
        }
        let mut table = Table::new(&["PARTITION", "RECORDS", "FIRST", "LAST"]);
        for (partition, (records, first, last)) in &self.partitions {
            let text = |offset| known(offset).map_or("-".into(), |offset| offset.to_string());
            let cells = [
                partition.to_string(),
                records.to_string(),
                text(*first),
                text(*last),
            ];
            table.row(cells.into());
        }
        if !table.is_empty() {
            // Whoever closed standard error does not want to know.
            let _ = table.write(&mut io::stderr().lock(), 0);
        }
        Ok(())
    }
}
