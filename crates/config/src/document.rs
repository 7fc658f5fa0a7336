//! The table of all keys, for people.
//!
//! Input: the table. Output: Markdown for a manual, or plain text for a terminal.
//!
//! Invariant, checked by the tests of this file: every key that is not internal stands in both,
//! with its default and the values it takes.

use std::fmt::Write as _;

use crate::key::{Key, Scope};
use crate::keys;

/// How the table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentFormat {
    /// A Markdown table for brokers, one for topics and one for groups.
    Markdown,
    /// A paragraph for each key.
    Plain,
}

/// Every key that is not internal: brokers, then topics, then groups, each by name.
#[must_use]
pub fn document(format: DocumentFormat) -> String {
    document_of(format, &|key| !key.internal)
}

/// The keys that are wanted: brokers, then topics, then groups, each by name. A part without any is
/// left out.
#[must_use]
pub fn document_of(format: DocumentFormat, is_wanted: &dyn Fn(&Key) -> bool) -> String {
    let mut text = String::new();
    let wanted = |key: &&'static Key| is_wanted(key);
    section(
        &mut text,
        format,
        "Broker",
        keys::of_brokers().filter(wanted),
    );
    section(&mut text, format, "Topic", keys::of_topics().filter(wanted));
    section(&mut text, format, "Group", keys::of_groups().filter(wanted));
    text
}

fn section(
    text: &mut String,
    format: DocumentFormat,
    title: &str,
    keys: impl Iterator<Item = &'static Key>,
) {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|key| key.name);
    if keys.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push('\n');
    }
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
                cell(&key.default_in_words()),
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
                key.default_in_words(),
                key.allowed_values(),
                what_it_does(key),
            ),
        };
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
    if key.scope != Scope::Broker && !names.is_empty() {
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
    fn keys_that_are_wanted_stand_alone_under_their_title() {
        let text = document_of(DocumentFormat::Plain, &|key| key.name == "segment.bytes");
        assert!(
            text.starts_with("TOPIC KEYS\n\nsegment.bytes (int, while running)"),
            "{text}"
        );
        assert_eq!(text.matches("Default:").count(), 1);
        assert_eq!(document_of(DocumentFormat::Markdown, &|_| false), "");
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
