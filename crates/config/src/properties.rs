//! The syntax of `server.properties`.
//!
//! Input: the bytes of a file. Output: its entries in order, each with the line on which it begins,
//! or the first line that can't be read and why.
//!
//! The syntax is that of `java.util.Properties`, so that files written for Kafka mean the same
//! here:
//! - a line whose first character is `#` or `!` is a comment;
//! - `=`, `:` or white space ends a key; white space around the separator does not count;
//! - a backslash at the end of a line continues the entry on the next one, whose indentation is
//!   dropped;
//! - `\t`, `\n`, `\r`, `\f` and `\uXXXX` (UTF-16) are escapes; before anything else a backslash
//!   vanishes.
//!
//! One difference: the bytes are UTF-8, not Latin-1, as every editor writes them today.
//!
//! Invariants, checked by property tests: no bytes make the parser panic, and parsing what
//! [`print`] wrote gives the entries back.

use std::iter::Peekable;
use std::str::{CharIndices, Chars};

/// Largest file that is read. Larger ones are something else, given by mistake.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// One entry of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key, escapes undone.
    pub key: String,
    /// The value, escapes undone; white space at its end is part of it.
    pub value: String,
    /// The line on which the entry begins; the first is 1.
    pub line: u32,
}

/// Why a file can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PropertiesError {
    /// The line on which the entry with the mistake begins; the first is 1.
    pub line: u32,
    /// What is wrong.
    pub message: &'static str,
}

/// Reads a file.
///
/// # Errors A file above [`MAX_FILE_BYTES`], bytes that are no UTF-8, an incomplete or impossible
/// `\u` escape.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, PropertiesError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(PropertiesError {
            line: 1,
            message: "the file is larger than 1 MiB",
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| PropertiesError {
        line: line_at(bytes, error.valid_up_to()),
        message: "not UTF-8 text",
    })?;
    // A byte order mark, which some editors write, is no part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines {
        chars: text.char_indices().peekable(),
        text,
        line: 0,
    };
    let mut properties = Vec::new();
    while let Some((line, entry)) = lines.next_entry() {
        let (key, value) = split(&entry);
        let unescape = |raw| unescape(raw).map_err(|message| PropertiesError { line, message });
        properties.push(Property {
            key: unescape(key)?,
            value: unescape(value)?,
            line,
        });
    }
    Ok(properties)
}

/// Writes entries so that [`parse`] reads them back; one line each.
#[must_use]
pub fn print<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (key, value) in entries {
        escape(key, true, &mut text);
        text.push('=');
        escape(value, false, &mut text);
        text.push('\n');
    }
    text
}

/// The file as logical lines.
struct Lines<'a> {
    chars: Peekable<CharIndices<'a>>,
    text: &'a str,
    line: u32,
}

impl<'a> Lines<'a> {
    /// The next entry, continuation lines joined, with the line on which it begins.
    fn next_entry(&mut self) -> Option<(u32, String)> {
        loop {
            let natural = self.next_natural_line()?.trim_start_matches(is_blank);
            if natural.is_empty() || natural.starts_with(['#', '!']) {
                continue;
            }
            let first_line = self.line;
            let mut entry = natural.to_owned();
            while ends_in_continuation(&entry) {
                entry.pop();
                let Some(next) = self.next_natural_line() else {
                    break;
                };
                entry.push_str(next.trim_start_matches(is_blank));
            }
            return Some((first_line, entry));
        }
    }

    /// The next line without its end, which is `\n`, `\r` or `\r\n`.
    fn next_natural_line(&mut self) -> Option<&'a str> {
        let (start, _) = *self.chars.peek()?;
        self.line = self.line.saturating_add(1);
        while let Some((index, char)) = self.chars.next() {
            if char == '\r' {
                self.chars.next_if(|(_, next)| *next == '\n');
            }
            if matches!(char, '\n' | '\r') {
                return Some(&self.text[start..index]);
            }
        }
        Some(&self.text[start..])
    }
}

const fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\u{c}')
}

/// An odd number of backslashes at the end: the last one escapes the line's end.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Key and value, escapes still in place.
fn split(entry: &str) -> (&str, &str) {
    let mut escaped = false;
    let key_end = entry
        .find(|char: char| {
            let ends_key = !escaped && (matches!(char, '=' | ':') || is_blank(char));
            escaped = !escaped && char == '\\';
            ends_key
        })
        .unwrap_or(entry.len());
    let (key, rest) = entry.split_at(key_end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

fn unescape(raw: &str) -> Result<String, &'static str> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        match chars.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('f') => text.push('\u{c}'),
            Some('u') => text.push(unescape_unicode(&mut chars)?),
            Some(other) => text.push(other),
            None => {}
        }
    }
    Ok(text)
}

/// The character of `XXXX`, or of `XXXX\uXXXX` where two UTF-16 units make one.
fn unescape_unicode(chars: &mut Chars<'_>) -> Result<char, &'static str> {
    let first = unicode_unit(chars)?;
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first) {
        let is_escape = chars.next() == Some('\\') && chars.next() == Some('u');
        if !is_escape {
            return Err("a \\u escape names half a character");
        }
        units.push(unicode_unit(chars)?);
    }
    let mut decoded = char::decode_utf16(units);
    match (decoded.next(), decoded.next()) {
        (Some(Ok(char)), None) => Ok(char),
        _ => Err("a \\u escape names half a character"),
    }
}

fn unicode_unit(chars: &mut Chars<'_>) -> Result<u16, &'static str> {
    let mut unit = 0u16;
    for _ in 0..4 {
        let digit = chars
            .next()
            .and_then(|char| char.to_digit(16))
            .and_then(|digit| u16::try_from(digit).ok())
            .ok_or("a \\u escape needs four hexadecimal digits")?;
        unit = unit << 4 | digit;
    }
    Ok(unit)
}

fn escape(raw: &str, is_key: bool, text: &mut String) {
    for (index, char) in raw.chars().enumerate() {
        match char {
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\u{c}' => text.push_str("\\f"),
            '\\' | '=' | ':' | '#' | '!' => text.extend(['\\', char]),
            // Blanks end a key, and are dropped where a value begins.
            ' ' if is_key || index == 0 => text.push_str("\\ "),
            _ => text.push(char),
        }
    }
}

fn line_at(bytes: &[u8], end: usize) -> u32 {
    let newlines = bytes
        .iter()
        .take(end)
        .filter(|byte| **byte == b'\n')
        .count();
    u32::try_from(newlines)
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[(u32, &str, &str)]) {
        let parsed = parse(text.as_bytes()).unwrap();
        let parsed: Vec<_> = parsed
            .iter()
            .map(|p| (p.line, p.key.as_str(), p.value.as_str()))
            .collect();
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn an_entry_is_a_key_a_separator_and_a_value() {
        check("a=b", &[(1, "a", "b")]);
        check("a:b\n", &[(1, "a", "b")]);
        check("a b c", &[(1, "a", "b c")]);
        check("  a\t = \t b  ", &[(1, "a", "b  ")]);
        check("a==b", &[(1, "a", "=b")]);
        check("a = : b", &[(1, "a", ": b")]);
        check(
            "listeners=PLAINTEXT://:9092",
            &[(1, "listeners", "PLAINTEXT://:9092")],
        );
        check("\u{feff}a=b", &[(1, "a", "b")]);
        check("alone", &[(1, "alone", "")]);
        check("=x", &[(1, "", "x")]);
        check("a=1\na=2", &[(1, "a", "1"), (2, "a", "2")]);
    }

    #[test]
    fn comments_and_blank_lines_say_nothing() {
        check(
            "# a=b\n! c\n\n \t\n  # d\ne=f # not a comment",
            &[(6, "e", "f # not a comment")],
        );
        check("", &[]);
        check("# continued? \\\na=b", &[(2, "a", "b")]);
    }

    #[test]
    fn lines_end_in_three_ways_and_go_on_after_a_backslash() {
        check(
            "a=1\r\nb=2\rc=3\n",
            &[(1, "a", "1"), (2, "b", "2"), (3, "c", "3")],
        );
        check(
            "a=one,\\\n   two,\\\r\n\tthree\nb=4",
            &[(1, "a", "one,two,three"), (4, "b", "4")],
        );
        check("a=x\\\\\nb=y", &[(1, "a", "x\\"), (2, "b", "y")]);
        check("a=x\\\n# y", &[(1, "a", "x# y")]);
        check("a=x\\", &[(1, "a", "x")]);
    }

    #[test]
    fn escapes_stand_for_characters() {
        check(r"a\ b\=c=\ d\te\u0041\:\q", &[(1, "a b=c", " d\teA:q")]);
        check(r"a=\uD83D\uDE00 ü", &[(1, "a", "😀 ü")]);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let error = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(error(b"a=b\nc=\\u12").line, 2);
        assert_eq!(
            error(b"a=b\n\nc=\\uD83D x").message,
            "a \\u escape names half a character"
        );
        assert_eq!(
            error(b"c=\\uDE00").message,
            "a \\u escape names half a character"
        );
        assert_eq!(
            error(b"c=\\uD83D\\u0041").message,
            "a \\u escape names half a character"
        );
        assert_eq!(
            error(b"c=\\u00+1").message,
            "a \\u escape needs four hexadecimal digits"
        );
        assert_eq!(
            error(b"a=b\nc=\xff"),
            PropertiesError {
                line: 2,
                message: "not UTF-8 text"
            }
        );
        assert_eq!(
            error(&vec![b'a'; MAX_FILE_BYTES + 1]).message,
            "the file is larger than 1 MiB"
        );
    }

    proptest! {
        #[test]
        fn parsing_what_was_printed_gives_the_entries_back(
            entries in prop::collection::vec((any::<String>(), any::<String>()), 0..8)
        ) {
            // An entry whose key is empty and whose value is too prints as `=`, which is an entry.
            let printed = print(entries.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            let parsed = parse(printed.as_bytes()).unwrap();
            let parsed: Vec<_> = parsed.into_iter().map(|p| (p.key, p.value)).collect();
            prop_assert_eq!(parsed, entries);
        }

        #[test]
        fn hostile_text_does_not_panic(
            text in "([a-c=: \t\r\n#!\\\\]|\\\\u|\\\\uD83D|[0-9A-F]|é){0,60}"
        ) {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
