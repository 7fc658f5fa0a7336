//! Where each leader epoch of a partition begins.
//!
//! Input: epoch and base offset of every batch that is appended, truncations, the checkpoint file.
//! Output: in which epoch an offset was written and where an epoch ends, which is how replicas and
//! consumers find the point up to which their logs agree.
//!
//! Invariant, checked in [`LeaderEpochs::check`]: epochs and start offsets both rise strictly and
//! are not negative.
//!
//! The checkpoint file, `leader-epoch-checkpoint`, is text: a line with version 0, a line with the
//! number of entries, then `epoch start_offset` on a line each.
//!
//! Source: KIP-101, KIP-279, KIP-320; `LeaderEpochFileCache` and `CheckpointFile` of Kafka 4.1.1.

use std::fmt::Write;

use skein_types::{LeaderEpoch, Offset};
use thiserror::Error;

const VERSION: &str = "0";

/// The first offset of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start_offset: Offset,
}

/// Answer to "where does this epoch end?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The largest known epoch that is not above the one asked for; −1 if that is unknown.
    pub epoch: LeaderEpoch,
    /// The offset after its last one; −1 if that is unknown.
    pub end_offset: Offset,
}

impl EpochEndOffset {
    /// "Unknown": the replica that asked falls back to its high watermark.
    pub const UNDEFINED: Self = Self {
        epoch: LeaderEpoch::NONE,
        end_offset: Offset::NONE,
    };
}

/// A checkpoint file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// Not UTF-8.
    #[error("the file is not text")]
    NotText,
    /// The first line is not the version that we know.
    #[error("version {version:?} is not {VERSION}")]
    Version {
        /// The first line.
        version: String,
    },
    /// The second line is no number, or another one than of the lines that follow.
    #[error("the file says {expected:?} entries and has {actual}")]
    Count {
        /// The second line.
        expected: String,
        /// The lines that follow.
        actual: usize,
    },
    /// A line that is not two numbers.
    #[error("line {line} is malformed: {text:?}")]
    Malformed {
        /// Number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// An entry that does not follow the one before.
    #[error("line {line} does not rise above the one before: {text:?}")]
    NotMonotone {
        /// Number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

/// The epochs of a partition's log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// The table of an empty log.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Notes that a batch of `epoch` begins at `start_offset`. Returns whether the table has
    /// changed and its checkpoint must be written. Entries that contradict the new one are removed:
    /// they were of leaders whose records are not in this log. A batch without an epoch changes
    /// nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch < LeaderEpoch::ZERO || start_offset < Offset::ZERO {
            return false;
        }
        if let Some(latest) = self.entries.last()
            && latest.epoch == epoch
            && latest.start_offset <= start_offset
        {
            return false;
        }
        while self
            .entries
            .pop_if(|entry| entry.epoch >= epoch || entry.start_offset >= start_offset)
            .is_some()
        {}
        self.entries.push(EpochEntry {
            epoch,
            start_offset,
        });
        true
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The epoch of the log's last batch.
    #[must_use]
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// The epoch of the log's first batch.
    #[must_use]
    pub fn earliest(&self) -> Option<EpochEntry> {
        self.entries.first().copied()
    }

    /// The epoch before `epoch`, if the table knows one.
    #[must_use]
    pub fn previous(&self, epoch: LeaderEpoch) -> Option<EpochEntry> {
        let index = self.entries.partition_point(|entry| entry.epoch < epoch);
        self.entries.get(index.checked_sub(1)?).copied()
    }

    /// Where `requested` ends: the start of the next epoch, or `log_end_offset` for the latest one.
    ///
    /// An epoch older than all known ones ends where the oldest one starts; the answer then carries
    /// the epoch that was asked for. A newer one than all known is undefined.
    #[must_use]
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end_offset: Offset) -> EpochEndOffset {
        if requested == LeaderEpoch::NONE {
            return EpochEndOffset::UNDEFINED;
        }
        if self
            .entries
            .last()
            .is_some_and(|latest| latest.epoch == requested)
        {
            return EpochEndOffset {
                epoch: requested,
                end_offset: log_end_offset,
            };
        }
        let higher = self
            .entries
            .partition_point(|entry| entry.epoch <= requested);
        let Some(next) = self.entries.get(higher) else {
            return EpochEndOffset::UNDEFINED;
        };
        let floor = higher
            .checked_sub(1)
            .map_or(requested, |index| self.entries[index].epoch);
        EpochEndOffset {
            epoch: floor,
            end_offset: next.start_offset,
        }
    }

    /// The epoch in which `offset` was written; none below the first entry.
    #[must_use]
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let index = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        self.entries
            .get(index.checked_sub(1)?)
            .map(|entry| entry.epoch)
    }

    /// Forgets epochs that begin at or after `end_offset`, the log's new end. Returns whether any
    /// did.
    pub fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let kept = self
            .entries
            .partition_point(|entry| entry.start_offset < end_offset);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Forgets epochs that end at or before `start_offset`, the log's new start; the one that it
    /// lies in then starts there. Returns whether the table has changed.
    pub fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= start_offset);
        let Some(first) = after.checked_sub(1) else {
            return false;
        };
        let changed = first > 0 || self.entries[first].start_offset != start_offset;
        self.entries.drain(..first);
        self.entries[0].start_offset = start_offset;
        changed
    }

    /// Forgets everything: the log starts anew elsewhere.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The text of `leader-epoch-checkpoint`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{VERSION}\n{}\n", self.entries.len());
        for EpochEntry {
            epoch,
            start_offset,
        } in &self.entries
        {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{epoch} {start_offset}");
        }
        text
    }

    /// The table in the text of `leader-epoch-checkpoint`.
    ///
    /// # Errors
    /// [`CheckpointError`] with the line; the caller rebuilds the table from the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CheckpointError::NotText)?;
        let mut lines = text.lines();
        let version = lines.next().unwrap_or_default().trim();
        if version != VERSION {
            return Err(CheckpointError::Version {
                version: version.to_owned(),
            });
        }
        let expected = lines.next().unwrap_or_default().trim();
        let mut entries: Vec<EpochEntry> = Vec::new();
        for (index, text) in lines.enumerate() {
            let line = index + 3;
            let entry = parse_entry(text).ok_or_else(|| CheckpointError::Malformed {
                line,
                text: text.to_owned(),
            })?;
            if entries.last().is_some_and(|before| !rises(*before, entry)) {
                return Err(CheckpointError::NotMonotone {
                    line,
                    text: text.to_owned(),
                });
            }
            entries.push(entry);
        }
        if expected.parse() != Ok(entries.len()) {
            let expected = expected.to_owned();
            return Err(CheckpointError::Count {
                expected,
                actual: entries.len(),
            });
        }
        let table = Self { entries };
        table.check();
        Ok(table)
    }

    /// Asserts the table's invariant.
    ///
    /// # Panics
    /// When it is broken: a bug.
    pub fn check(&self) {
        let rise = self.entries.windows(2).all(|pair| rises(pair[0], pair[1]));
        let first = self.entries.first();
        assert!(
            rise && first.is_none_or(|entry| entry.epoch.0 >= 0 && entry.start_offset.0 >= 0),
            "leader epochs out of order: {:?}",
            self.entries
        );
    }
}

fn rises(before: EpochEntry, after: EpochEntry) -> bool {
    before.epoch < after.epoch && before.start_offset < after.start_offset
}

fn parse_entry(line: &str) -> Option<EpochEntry> {
    let mut words = line.split_ascii_whitespace();
    let epoch: i32 = words.next()?.parse().ok().filter(|epoch| *epoch >= 0)?;
    let start_offset: i64 = words.next()?.parse().ok().filter(|offset| *offset >= 0)?;
    if words.next().is_some() {
        return None;
    }
    Some(EpochEntry {
        epoch: LeaderEpoch(epoch),
        start_offset: Offset(start_offset),
    })
}

#[cfg(test)]
mod tests;
