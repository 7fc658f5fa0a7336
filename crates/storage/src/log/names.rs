//! Names of the files in a partition's directory.
//!
//! Input: a base offset and what the file holds. Output: the name; and from a name, what it is.
//!
//! ```text
//! 00000000000000001200.log          a segment: its first offset in 20 digits
//! 00000000000000001200.index        its offset index
//! 00000000000000001200.timeindex    its time index
//! 00000000000000001200.txnindex     its aborted transactions
//! 00000000000000001200.snapshot     the producers' states just before that offset
//! ….deleted  ….cleaned  ….swap      a file on its way out, or on its way in
//! ```
//!
//! Invariants: a name has one meaning, and is what that meaning's name is ([`parse`] accepts no
//! other number of digits).
//!
//! Source: `org.apache.kafka.storage.internals.log.LogFileUtils`.

use std::path::{Path, PathBuf};

use skein_types::Offset;

/// What a file of a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// The batches.
    Log,
    /// Offsets to positions.
    OffsetIndex,
    /// Timestamps to offsets.
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// Producer states.
    Snapshot,
}

/// What a name in a partition's directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A file of the segment that begins at this offset.
    Segment(Offset, FileKind),
    /// A file that an interrupted step left behind.
    Leftover(Leftover),
    /// Something else.
    Other,
}

/// What an interrupted step left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// A file of a segment that was deleted.
    Deleted,
    /// A file of a compaction that did not end.
    Cleaned(Offset),
    /// A file of a compaction that ended, not yet in its place.
    Swap(Offset, FileKind),
    /// A small file that was being replaced, or a segment prepared ahead.
    Temporary,
}

/// A segment made before it is needed, so that a roll only renames it.
pub(crate) const PREPARED: &str = "next.log.tmp";

const DIGITS: usize = 20;

const ALL: [FileKind; 5] = [
    FileKind::Log,
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TxnIndex,
    FileKind::Snapshot,
];

impl FileKind {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TxnIndex => ".txnindex",
            Self::Snapshot => ".snapshot",
        }
    }
}

/// The path of a segment's file in the directory `dir`.
pub(crate) fn path(dir: &Path, base_offset: Offset, kind: FileKind) -> PathBuf {
    dir.join(format!("{:0DIGITS$}{}", base_offset.0, kind.suffix()))
}

/// `path` with `.deleted` behind it.
pub(crate) fn deleted(path: &Path) -> PathBuf {
    with_suffix(path, ".deleted")
}

/// `path` with `.cleaned` behind it: a file of a compaction that has not ended.
pub(crate) fn cleaned(path: &Path) -> PathBuf {
    with_suffix(path, ".cleaned")
}

/// `path` with `.swap` behind it: a file of a compaction that has.
pub(crate) fn swap(path: &Path) -> PathBuf {
    with_suffix(path, ".swap")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What the file `name` is.
pub(crate) fn parse(name: &str) -> Name {
    if name.ends_with(".deleted") {
        return Name::Leftover(Leftover::Deleted);
    }
    if name.ends_with(".tmp") {
        return Name::Leftover(Leftover::Temporary);
    }
    let (stem, wrap): (&str, fn(Offset, FileKind) -> Name) =
        if let Some(stem) = name.strip_suffix(".cleaned") {
            (stem, |base, _| Name::Leftover(Leftover::Cleaned(base)))
        } else if let Some(stem) = name.strip_suffix(".swap") {
            (stem, |base, kind| {
                Name::Leftover(Leftover::Swap(base, kind))
            })
        } else {
            (name, Name::Segment)
        };
    parse_segment(stem).map_or(Name::Other, |(base, kind)| wrap(base, kind))
}

fn parse_segment(name: &str) -> Option<(Offset, FileKind)> {
    let (digits, suffix) = name.split_at_checked(DIGITS)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kind = ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
    digits.parse().ok().map(|base| (Offset(base), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_are_read_back() {
        let dir = Path::new("/d/a-0");
        let path = path(dir, Offset(1200), FileKind::TimeIndex);
        assert_eq!(path, Path::new("/d/a-0/00000000000000001200.timeindex"));
        for kind in ALL {
            let path = super::path(dir, Offset(i64::MAX), kind);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(parse(name), Name::Segment(Offset(i64::MAX), kind));
            assert_eq!(
                parse(&format!("{name}.swap")),
                Name::Leftover(Leftover::Swap(Offset(i64::MAX), kind))
            );
            assert_eq!(
                parse(&format!("{name}.cleaned")),
                Name::Leftover(Leftover::Cleaned(Offset(i64::MAX)))
            );
            let deleted = deleted(&path);
            let name = deleted.file_name().unwrap().to_str().unwrap();
            assert_eq!(parse(name), Name::Leftover(Leftover::Deleted));
        }
        assert_eq!(parse(PREPARED), Name::Leftover(Leftover::Temporary));
        for other in [
            "leader-epoch-checkpoint",
            "0.log",
            "+0000000000000001200.log",
            "99999999999999999999.log",
            "00000000000000001200.logs",
            "ü0000000000000000000.log",
        ] {
            assert_eq!(parse(other), Name::Other, "{other}");
        }
    }
}
