//! Tables for people, JSON for programs.
//!
//! Input: rows and values. Output: standard output, written through a buffer.
//!
//! Invariant: numbers stand at the right of their column, text at the left, and `-` for a number
//! that is not known as they do; a table has no trailing blanks, and a line for each of its rows.

use std::io;
use std::io::{StdoutLock, Write};

use serde_json::Value;

use crate::failure::Failure;

/// Stands where a number is not known.
const UNKNOWN: &str = "-";
/// Bytes between cells.
const GAP: usize = 2;

/// A table in the making.
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(on_one_line).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes all rows out.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
    }

    /// Writes the table, each line behind `indent` blanks.
    pub(crate) fn write(&self, out: &mut impl Write, indent: usize) -> io::Result<()> {
        let columns = self.headings.len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let cells = cells.map(|cell| cell.chars().count());
                cells
                    .chain([self.headings[column].len()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let stands_right: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells = self.rows.iter().filter_map(|row| row.get(column));
                let has_numbers = cells.clone().any(|cell| is_number(cell));
                has_numbers && cells.all(|cell| is_number(cell) || cell == UNKNOWN)
            })
            .collect();
        let headings: Vec<String> = self
            .headings
            .iter()
            .map(|text| (*text).to_owned())
            .collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for (column, cell) in row.iter().enumerate().take(columns) {
                let blanks = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                if stands_right[column] {
                    line.push_str(&blanks);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&blanks);
                }
                line.push_str(&" ".repeat(GAP));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// What others have named as they liked, fit for a line and for a terminal.
pub(crate) fn on_one_line(text: String) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text
    }
}

/// Whether a cell is a number, with a sign or a fraction if need be.
fn is_number(cell: &str) -> bool {
    cell.parse::<i64>().is_ok()
        || (cell
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".-".contains(&byte))
            && cell.parse::<f64>().is_ok())
}

/// Standard output.
pub(crate) fn stdout() -> io::BufWriter<StdoutLock<'static>> {
    io::BufWriter::new(io::stdout().lock())
}

/// Writes one JSON value, indented, and a line's end.
pub(crate) fn json(out: &mut impl Write, value: &Value) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Says on standard error that something is not as it should be, and that it goes on.
pub(crate) fn warning(text: &str) {
    notice(&format!("warning: {text}"));
}

/// Says on standard error what a person may want to know.
pub(crate) fn notice(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr().lock(), "skein: {text}");
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_numbers_stand_right() {
        let mut table = Table::new(&["TOPIC", "PARTITIONS", "NOTE"]);
        table.row(vec!["orders".into(), "3".into(), "-".into()]);
        table.row(vec!["ü".into(), "12".into(), "long note".into()]);
        let mut out = Vec::new();
        table.write(&mut out, 1).unwrap();
        let lines = [
            " TOPIC   PARTITIONS  NOTE",
            " orders           3  -",
            " ü               12  long note",
            "",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    }

    #[test]
    fn a_number_may_be_unknown_or_have_a_fraction() {
        let mut table = Table::new(&["LAG", "SECONDS", "NOTE"]);
        table.row(vec!["12".into(), "1.5".into(), "-".into()]);
        table.row(vec!["-".into(), "120.0".into(), "-".into()]);
        let mut out = Vec::new();
        table.write(&mut out, 0).unwrap();
        let lines = [
            "LAG  SECONDS  NOTE",
            " 12      1.5  -",
            "  -    120.0  -",
            "",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    }

    #[test]
    fn a_row_is_one_line_and_orders_a_terminal_nothing() {
        let mut table = Table::new(&["GROUP", "CLIENT"]);
        table.row(vec!["two\nlines".into(), "\u{1b}[2J\u{9b}31m".into()]);
        table.row(vec!["a \"b\" ü".into(), "-".into()]);
        let mut out = Vec::new();
        table.write(&mut out, 0).unwrap();
        let lines = [
            "GROUP       CLIENT",
            "two\\nlines  \\u{1b}[2J\\u{9b}31m",
            "a \"b\" ü     -",
            "",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    }

    #[test]
    fn counts_have_their_plural() {
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
    }
}
