//! The table of all keys, for people.
//!
//! Input: the table. Output: Markdown for a manual, or plain text for a terminal.
//!
//! Invariant, checked by the tests of this file: every key that is not internal stands in both,
//! with its default and the values it takes.

use std::fmt::Write as _;

use crate::key::{DefaultValue, Key, Scope};
use crate::keys;

/// How the table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentFormat {
    /// A Markdown table for brokers and one for topics.
    Markdown,
    /// A paragraph for each key.
    Plain,
}

/// Every key that is not internal: brokers first, then topics, each by name.
#[must_use]
pub fn document(format: DocumentFormat) -> String {
    let mut text = String::new();
    section(&mut text, format, "Broker", keys::of_brokers());
    text.push('\n');
    section(&mut text, format, "Topic", keys::of_topics());
    text
}

fn section(
    text: &mut String,
    format: DocumentFormat,
    title: &str,
    keys: impl Iterator<Item = &'static Key>,
) {
    let mut keys: Vec<_> = keys.filter(|key| !key.internal).collect();
    keys.sort_by_key(|key| key.name);
    // Writing to a String can't fail.
    let _ = match format {
        DocumentFormat::Markdown => writeln!(
            text,
            "## {title} keys\n\n| Key | Type | Default | Values | Change | What it does |\n\
             |---|---|---|---|---|---|"
        ),
        DocumentFormat::Plain => writeln!(text, "{} KEYS", title.to_uppercase()),
    };
    for key in keys {
        let _ = match format {
            DocumentFormat::Markdown => writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} |",
                key.name,
                key.config_type.name(),
                cell(&default_text(key)),
                cell(&key.allowed_values()),
                change_text(key),
                cell(&what_it_does(key)),
            ),
            DocumentFormat::Plain => writeln!(
                text,
                "\n{} ({}, {})\n    Default: {}\n    Values: {}\n    {}",
                key.name,
                key.config_type.name(),
                change_text(key),
                default_text(key),
                key.allowed_values(),
                what_it_does(key),
            ),
        };
    }
}

fn default_text(key: &Key) -> String {
    match key.default {
        DefaultValue::Null => "not set".to_owned(),
        DefaultValue::Value("") => "empty".to_owned(),
        DefaultValue::Value(value) => value.to_owned(),
        DefaultValue::Computed(rule) => rule.text().to_owned(),
    }
}

const fn change_text(key: &Key) -> &'static str {
    if key.dynamic {
        "while running"
    } else {
        "at start"
    }
}

fn what_it_does(key: &Key) -> String {
    let mut text = key.documentation();
    let names: Vec<_> = key.synonyms.iter().map(|synonym| synonym.name).collect();
    if key.scope == Scope::Topic && !names.is_empty() {
        let _ = write!(text, " Broker's default: {}.", names.join(", then "));
    }
    text
}

/// Text that stays in one cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_the_table_with_its_default_and_values() {
        for format in [DocumentFormat::Markdown, DocumentFormat::Plain] {
            let text = document(format);
            for key in keys::all() {
                assert_eq!(text.contains(key.name), !key.internal, "{}", key.name);
            }
            assert!(text.contains("min(3, brokers)"));
            assert!(text.contains("log.retention.ms, then log.retention.minutes"));
        }
    }

    #[test]
    fn markdown_rows_have_six_cells() {
        let text = document(DocumentFormat::Markdown);
        for row in text.lines().filter(|line| line.starts_with('|')) {
            let separators = row.replace("\\|", "").matches('|').count();
            assert_eq!(separators, 7, "{row}");
        }
    }
}
