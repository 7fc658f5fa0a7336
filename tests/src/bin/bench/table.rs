//! Text in columns.
//!
//! Input: cells. Output: lines whose columns stand below each other, and numbers that show three
//! digits that matter.

/// Between two columns.
const GAP: &str = "  ";

/// Rows below a heading.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    columns_of_words: usize,
}

impl Table {
    /// The first `columns_of_words` columns are flush left, the others right.
    pub(crate) fn new(heading: &[&str], columns_of_words: usize) -> Self {
        let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
        Self {
            rows: vec![heading],
            columns_of_words,
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// One line per row, the heading underlined.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let mut lines: Vec<String> = self
            .rows
            .iter()
            .map(|row| self.line(row, &widths))
            .collect();
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        lines.insert(1, rules.join(GAP));
        lines.join("\n") + "\n"
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            let blanks = " ".repeat(width - cell.chars().count());
            if column < self.columns_of_words {
                format!("{cell}{blanks}")
            } else {
                format!("{blanks}{cell}")
            }
        });
        let line = cells.collect::<Vec<_>>().join(GAP);
        line.trim_end().to_owned()
    }
}

/// A size for people, in whole units.
pub(crate) fn size(bytes: u32) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_000_000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// A number for people: about three digits, and thousands apart.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 | 100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let digits = format!("{value:.decimals$}");
    let (whole, fraction) = digits
        .split_once('.')
        .map_or((digits.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let to_come = whole.len() - index;
        if index > 0 && to_come.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{grouped}.{fraction}"),
        None => grouped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new(&["what", "a", "b"], 1);
        table.row(vec!["größe".to_owned(), "1".to_owned(), "12.5".to_owned()]);
        table.row(vec!["x".to_owned(), "1,000".to_owned(), String::new()]);
        let lines = [
            "what       a     b",
            "-----  -----  ----",
            "größe      1  12.5",
            "x      1,000",
        ];
        assert_eq!(table.render(), lines.join("\n") + "\n");
    }

    #[test]
    fn numbers_show_the_digits_that_matter() {
        let shown = [
            (0.0, "0"),
            (0.034_56, "0.035"),
            (3.456, "3.46"),
            (34.56, "34.6"),
            (345.6, "346"),
            (3_456.0, "3,456"),
            (1_234_567.8, "1,234,568"),
            (123_456.0, "123,456"),
            (-123_456.0, "-123,456"),
        ];
        for (value, expected) in shown {
            assert_eq!(number(value), expected);
        }
    }
}
