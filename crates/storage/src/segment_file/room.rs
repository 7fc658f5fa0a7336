//! Room ahead of the end of a file that grows fast.
//!
//! Input: where the file ends, and how much comes. Output: blocks and pages that are there before
//! the bytes that go into them.
//!
//! ```text
//! 0                        end       filled              reserved
//! ├── frame ─┼── frame ────┤000000000┤╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┤
//!                           zeros     blocks without length
//! ```
//!
//! A file system that lengthens a file by a small write looks for blocks page by page, and makes a
//! page or two at a time. Blocks that are reserved in one piece spare it the first, zeros written
//! in one piece the second: on ext4 the write of 16 KiB then costs a third.
//!
//! Invariants:
//! - nothing depends on the room: where it can't be made, appends go on without it;
//! - a file has room only while it grows; a sealed one has none ([`SegmentFile::release_room`]);
//! - no more is reserved than the file holds, unless its owner wants all of it from the beginning
//!   ([`Room::preallocate`]), and no more is filled than [`UNIT_BYTES`].
//!
//! Source: `fallocate(2)`; the files that write-ahead logs of databases fill ahead.
//!
//! [`SegmentFile::release_room`]: super::SegmentFile::release_room

use skein_env::File;

/// What is filled at once, in bytes, and the size from which on a write does as well without.
const UNIT_BYTES: u64 = 128 * 1024;

/// A file that may not grow beyond so many units has smaller ones.
const UNITS_MIN: u64 = 16;

/// What a file must have grown by before blocks are reserved for it, in units.
const RESERVE_AFTER_UNITS: u64 = 8;

/// What is reserved at once, at the most, in bytes.
const RESERVE_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// What is known of the room of one file.
pub(super) struct Room {
    /// The file's end when it last had no room.
    quiet_end: u64,
    /// Zeros may lie before this position.
    filled: u64,
    reserved: u64,
    /// Up to here blocks were reserved at the beginning, to stay while the file rests.
    preallocated: Option<u64>,
    can_fill: bool,
    can_reserve: bool,
}

/// Bytes that come next.
pub(super) struct Append {
    /// Where they go.
    pub(super) end: u64,
    pub(super) bytes: u64,
}

impl Room {
    /// None, in a file that ends at `end`.
    pub(super) fn none_at(end: u64) -> Self {
        Self {
            quiet_end: end,
            filled: 0,
            reserved: 0,
            preallocated: None,
            can_fill: true,
            can_reserve: true,
        }
    }

    /// Whether there is any behind `end`.
    pub(super) fn reaches_past(&self, end: u64) -> bool {
        self.filled.max(self.reserved) > end
    }

    /// Whether there is any that a file at rest has no use for.
    pub(super) fn passes(&self, end: u64) -> bool {
        match self.preallocated {
            Some(_) => self.filled > end,
            None => self.reaches_past(end),
        }
    }

    /// Where the blocks end that stay while the file rests.
    pub(super) fn preallocated(&self) -> Option<u64> {
        self.preallocated
    }

    /// Reserves all blocks from `end` to `limit`, if the file system can and has them.
    pub(super) fn preallocate(&mut self, file: &dyn File, end: u64, limit: u64) {
        if end < limit && file.reserve(end..limit).is_ok() {
            self.reserved = limit;
            self.preallocated = Some(limit);
        }
    }

    /// Makes room for `append` in a file that may grow to `limit`. Zeros are written once it has
    /// grown by `fill_after`: who looks at the files of a live node with a tool is not to meet them
    /// after the first few megabytes.
    pub(super) fn make(
        &mut self,
        file: &dyn File,
        append: Append,
        limit: u64,
        fill_after: Option<u64>,
    ) {
        let Append { end, bytes } = append;
        let unit = UNIT_BYTES.min(limit / UNITS_MIN);
        let grown = end.saturating_sub(self.quiet_end);
        if unit == 0 {
            return;
        }
        let next = end.saturating_add(bytes);
        let is_growing = grown >= RESERVE_AFTER_UNITS * unit;
        if is_growing && self.can_reserve && next.saturating_add(unit) > self.reserved {
            let start = self.reserved.max(end);
            let length = end.min(RESERVE_MAX_BYTES);
            self.reserve(file, start, (start + length).min(limit));
        }
        let is_fast = fill_after.is_some_and(|fill_after| grown >= fill_after);
        if self.can_fill && is_fast && bytes < unit && next > self.filled {
            let start = self.filled.max(end);
            self.fill(file, start, next.next_multiple_of(unit).min(limit));
        }
    }

    fn reserve(&mut self, file: &dyn File, start: u64, end: u64) {
        if start < end {
            // A file system that can't, or is nearly full, is not asked again for this file.
            self.can_reserve = file.reserve(start..end).is_ok();
            self.reserved = end;
        }
    }

    fn fill(&mut self, file: &dyn File, start: u64, end: u64) {
        if start < end {
            // What is wrong shows with the append itself, if it concerns that too.
            self.can_fill = file.fill(start..end).is_ok();
            self.filled = end;
        }
    }
}
