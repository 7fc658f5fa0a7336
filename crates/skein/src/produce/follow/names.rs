//! The names that a log file gets when it is rotated, and their order.
//!
//! Input: what stands behind the name of the log: `.1`, `-20260131`, `.2026-01-31.3`; when each
//! file was made. Output: which of two former files is the newer one.
//!
//! Invariant: only names of one kind are compared. What is no kind of rotation (`.bak`, `.1.gz`) is
//! never read.
//!
//! Source: logrotate(8): `.1` is the youngest, `dateext` appends a date; logback and log4j put the
//! date behind a dot. Log4j 2 counts upwards instead (`fileIndex="max"`, its default): of files
//! with numbers the one is newer that was made later. (Not the one that was written later: who has
//! a log open notices a rotation late.)

use std::cmp::Ordering;
use std::time::SystemTime;

/// Digits that a number may have before it is taken for a date.
const NUMBER_DIGITS_MAX: usize = 4;

/// What was appended to the name of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Suffix {
    /// `.N`: of files that were made at the same time, or nobody knows when, the higher is the
    /// older.
    Number(u64, Option<SystemTime>),
    /// What stands before the date, and its groups of digits: the higher, the newer.
    Date(u8, Vec<u64>),
}

impl Suffix {
    fn parse(text: &str, made: Option<SystemTime>) -> Option<Self> {
        let (first, rest) = (*text.as_bytes().first()?, text.get(1..)?);
        if !matches!(first, b'.' | b'-' | b'_') || rest.is_empty() {
            return None;
        }
        let is_separator = |char: char| matches!(char, '-' | '_' | '.' | ':' | 'T');
        if !rest
            .chars()
            .all(|char| char.is_ascii_digit() || is_separator(char))
        {
            return None;
        }
        let groups: Option<Vec<u64>> = rest
            .split(is_separator)
            .map(|group| group.parse().ok())
            .collect();
        match groups?.as_slice() {
            [number] if rest.len() <= NUMBER_DIGITS_MAX => {
                (first == b'.').then_some(Self::Number(*number, made))
            }
            groups => Some(Self::Date(first, groups.to_vec())),
        }
    }

    /// `Greater` if it is newer than `other`; `None` if they are of two kinds.
    fn compare_age(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(one, made), Self::Number(two, other)) => {
                Some(made.cmp(other).then(two.cmp(one)))
            }
            (Self::Date(one, groups), Self::Date(two, others)) => {
                (one == two).then(|| groups.cmp(others))
            }
            _ => None,
        }
    }
}

/// Whether this may be the suffix of a former file.
pub(super) fn is_rotated(suffix: &str) -> bool {
    Suffix::parse(suffix, None).is_some()
}

/// Of `suffixes` the one that was rotated next after the file with the suffix `own`.
pub(super) fn next_newer<'a>(
    own: (&str, Option<SystemTime>),
    suffixes: impl IntoIterator<Item = (&'a str, Option<SystemTime>)>,
) -> Option<&'a str> {
    let own = Suffix::parse(own.0, own.1)?;
    suffixes
        .into_iter()
        .filter_map(|(text, made)| Some((Suffix::parse(text, made)?, text)))
        .filter(|(one, _)| one.compare_age(&own) == Some(Ordering::Greater))
        // The oldest of those that are newer.
        .min_by(|(one, _), (two, _)| one.compare_age(two).unwrap_or(Ordering::Equal))
        .map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As on a file system that does not tell when a file was made.
    fn next_newer<'a>(own: &str, suffixes: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let suffixes = suffixes.into_iter().map(|suffix| (suffix, None));
        super::next_newer((own, None), suffixes)
    }

    #[test]
    fn numbers_may_rise_with_time_too() {
        let at = |second| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        let files = [(".1", at(1)), (".2", at(2)), (".3", at(3))];
        assert_eq!(super::next_newer(files[0], files), Some(".2"));
        assert_eq!(super::next_newer(files[1], files), Some(".3"));
        assert_eq!(super::next_newer(files[2], files), None);
        let files = [(".3", at(1)), (".2", at(2)), (".1", at(3))];
        assert_eq!(super::next_newer(files[0], files), Some(".2"));
        assert_eq!(super::next_newer(files[2], files), None);
        // A date says it by itself.
        let files = [("-20260131", at(9)), ("-20260201", at(1))];
        assert_eq!(super::next_newer(files[0], files), Some("-20260201"));
    }

    #[test]
    fn numbers_fall_and_dates_rise_with_time() {
        let numbers = [".1", ".2", ".10", ".bak", "-2", ".2.gz", "-20260131"];
        assert_eq!(next_newer(".10", numbers), Some(".2"));
        assert_eq!(next_newer(".2", numbers), Some(".1"));
        assert_eq!(next_newer(".1", numbers), None);
        let dates = ["-20260131", "-20260201", "-20251231", ".1", "-20260131.gz"];
        assert_eq!(next_newer("-20251231", dates), Some("-20260131"));
        assert_eq!(next_newer("-20260131", dates), Some("-20260201"));
        assert_eq!(next_newer("-20260201", dates), None);
        let hours = [
            ".2026-01-31.9",
            ".2026-01-31.10",
            ".2026-02-01T00:00:00",
            "-2026-01-31.9",
        ];
        assert_eq!(next_newer(hours[0], hours), Some(hours[1]));
        assert_eq!(next_newer(hours[1], hours), Some(hours[2]));
    }

    #[test]
    fn other_files_beside_the_log_are_none_of_it() {
        for suffix in [
            "", ".", ".gz", ".1.gz", ".bak", "-old", "1", ".1~", "é", ".-",
        ] {
            assert!(!is_rotated(suffix), "{suffix}");
        }
        for suffix in [".1", ".0001", "-20260131", "_2026-01-31", ".1769860800"] {
            assert!(is_rotated(suffix), "{suffix}");
        }
    }
}
