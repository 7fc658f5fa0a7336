//! The table of metrics in `config/METRICS.md`.
//!
//! Input: its lines, `| name | type | labels | what |`. Output: a row each.

use std::collections::BTreeSet;

use super::config;

/// One metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// As queries name it; of a histogram without `_bucket`, `_sum` and `_count`.
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) labels: BTreeSet<String>,
    pub(super) help: String,
}

impl Row {
    /// The line of the table.
    pub(super) fn line(&self) -> String {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        format!(
            "| `{}` | {} | {} | {} |",
            self.name,
            self.kind,
            labels.join(" "),
            self.help
        )
    }

    /// The names of its samples.
    pub(super) fn samples(&self) -> Vec<String> {
        if self.kind != "histogram" {
            return vec![self.name.clone()];
        }
        let parts = ["_bucket", "_sum", "_count"];
        parts.map(|part| format!("{}{part}", self.name)).to_vec()
    }
}

/// All rows, in the order of the file.
pub(super) fn rows() -> Vec<Row> {
    let text = config("METRICS.md");
    let rows = text.lines().filter(|line| line.starts_with("| `skein_"));
    let rows: Vec<_> = rows.map(row).collect();
    assert!(!rows.is_empty(), "no table in config/METRICS.md");
    rows
}

fn row(line: &str) -> Row {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let &[name, kind, labels, help] = cells.as_slice() else {
        panic!("not four cells: {line}");
    };
    let plain = |cell: &str| cell.trim_matches('`').to_owned();
    Row {
        name: plain(name),
        kind: kind.to_owned(),
        labels: labels.split_whitespace().map(plain).collect(),
        help: help.to_owned(),
    }
}
