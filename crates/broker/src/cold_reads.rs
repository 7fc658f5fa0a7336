//! What cold readers bring into the page cache, and how it is given back.
//!
//! Input: ranges of segment files that are read from the device. Output: hints to the system that
//! it will not need them soon.
//!
//! A historical scan is read once. Left in the page cache, it pushes out what the consumers at the
//! tails will ask for next. So whoever reads on where its last range ended has that range's pages
//! dropped: those that it brought itself, and nothing that was there before. And the device is busy
//! with its next range while this one is sent.
//!
//! ```text
//!   file     ├───────────┼───────────┼───────────┼───────────┼─── … ──┤ tail, in the cache
//!   reader    last range  this range   prefetched
//!   dropped   ██████████                                          not what was there before it
//! ```
//!
//! Invariants:
//! - what is dropped was not in the page cache before it was read;
//! - what another reader was told to be in the cache stays there until it has moved on too: it goes
//!   to that one. One that finds it there without a look at the disk, behind a cold reader, takes
//!   the cold way as well ([`ColdReads::is_passed_by`]);
//! - only the offload pool waits for `giving_back`, under which the system is called; the lock of
//!   the list is short, and no hot reader takes it;
//! - a reader's last range is remembered by its connection, and holds no file open.
//!
//! A reader that jumps may come back, and one that ends was perhaps short: they leave their last
//! range to the kernel.
//!
//! Source: `posix_fadvise(2)`; own design.

use std::ops::Range;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use skein_env::{CacheSteps, File};
use skein_storage::FileRange;
use skein_types::Offset;

/// The most that is prefetched for a reader, in bytes.
const AHEAD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A place in a log: the first offset of its segment, and a position there.
type Place = (Offset, u64);

/// The cold reads of one replica.
#[derive(Default)]
pub(crate) struct ColdReads {
    reads: Mutex<Reads>,
    /// Held while pages are dropped, so that no read begins that counts on them.
    giving_back: Mutex<()>,
    /// The end of the foremost read.
    front: ArcSwapOption<Place>,
}

#[derive(Default)]
struct Reads {
    list: Vec<Read>,
    next_id: u64,
}

/// One range that a reader was sent, until it has moved on.
struct Read {
    id: u64,
    segment: Offset,
    /// What it was sent, and what was prefetched for it.
    bytes: Range<u64>,
    file: Weak<dyn File>,
    /// What it brought into the cache.
    brought: Vec<Range<u64>>,
}

/// A reader's hold on one range. Dropped, its pages are left to the kernel.
struct ColdRead {
    of: Arc<ColdReads>,
    id: u64,
    segment: Offset,
    /// What it was sent.
    bytes: Range<u64>,
}

/// The last cold range of each replica that one connection reads.
#[derive(Default)]
pub(crate) struct ColdReader {
    last: Mutex<Vec<ColdRead>>,
}

impl ColdReader {
    /// Brings the range into the page cache, waiting for the device, and gives back what this
    /// reader has left behind. For the offload pool.
    pub(crate) fn read(&self, of: &Arc<ColdReads>, range: &FileRange) {
        let followed = |last: &mut ColdRead| last.is_followed_by(range);
        let left_behind: Vec<_> = self.take(of).extract_if(.., followed).collect();
        let ahead = if left_behind.is_empty() {
            0
        } else {
            ahead_of(range)
        };
        // Before anything is given back, so that what both hold stays.
        let read = of.begin(range, ahead);
        left_behind.into_iter().for_each(ColdRead::give_back);
        // A failure shows when the range is sent; there it closes the connection.
        if let Ok(brought) = range.file.read_ahead(range.position, range.length) {
            read.brought(brought);
        }
        if ahead > 0 {
            let end = range.position + range.length;
            read.brought(range.file.prefetch(end, ahead));
        }
        self.last.lock().push(read);
    }

    /// The reader has caught up with those replicas.
    pub(crate) fn stop<'a>(&self, all: impl Iterator<Item = &'a Arc<ColdReads>>) {
        let mut last = self.last.lock();
        if last.is_empty() {
            return;
        }
        for of in all {
            last.retain(|read| !Arc::ptr_eq(&read.of, of));
        }
    }

    fn take(&self, of: &Arc<ColdReads>) -> Vec<ColdRead> {
        let mut last = self.last.lock();
        last.extract_if(.., |read| Arc::ptr_eq(&read.of, of))
            .collect()
    }
}

/// How much is read for the reader before it asks: as much as it asks for. Nothing behind the end
/// of the file, where others will write what they want to find in the cache.
fn ahead_of(range: &FileRange) -> u64 {
    let end = range.position.saturating_add(range.length);
    let length = range.file.length().unwrap_or(0);
    range
        .length
        .min(AHEAD_BYTES_MAX)
        .min(length.saturating_sub(end))
}

impl ColdReads {
    /// Whether the range begins behind where a cold reader is, which may drop what is there.
    pub(crate) fn is_passed_by(&self, range: &FileRange) -> bool {
        let front = self.front.load();
        let start = (range.segment_base_offset, range.position);
        front.as_ref().is_some_and(|front| start < **front)
    }

    fn begin(self: &Arc<Self>, range: &FileRange, ahead: u64) -> ColdRead {
        let end = range.position.saturating_add(range.length);
        let bytes = range.position..end;
        let segment = range.segment_base_offset;
        let _not_meanwhile = self.giving_back.lock();
        let mut reads = self.reads.lock();
        let id = reads.next_id;
        reads.next_id += 1;
        reads.list.push(Read {
            id,
            segment,
            bytes: range.position..end.saturating_add(ahead),
            file: Arc::downgrade(&range.file),
            brought: Vec::new(),
        });
        self.publish_front(&reads);
        ColdRead {
            of: Arc::clone(self),
            id,
            segment,
            bytes,
        }
    }

    fn publish_front(&self, reads: &Reads) {
        let ends = reads.list.iter().map(|read| (read.segment, read.bytes.end));
        self.front.store(ends.max().map(Arc::new));
    }
}

impl Reads {
    fn remove(&mut self, id: u64) -> Option<Read> {
        let at = self.list.iter().position(|read| read.id == id)?;
        Some(self.list.swap_remove(at))
    }

    /// What of the read nobody else holds. The rest goes to those who do.
    fn part_with(&mut self, read: &Read) -> Vec<Range<u64>> {
        let holder = |step: &Range<u64>| {
            self.list.iter().position(|other| {
                let (from, end) = (other.bytes.start, other.bytes.end);
                other.segment == read.segment && from < step.end && step.start < end
            })
        };
        let mut free = Vec::new();
        let mut held = Vec::new();
        for part in &read.brought {
            let steps = CacheSteps::of(part.start, part.end - part.start);
            free.extend(steps.clone().pick(|step| holder(step).is_none()));
            // Each step by itself: they may go to different readers.
            for step in steps {
                held.extend(holder(&step).map(|holder| (holder, step)));
            }
        }
        for (holder, step) in held {
            self.list[holder].brought.push(step);
        }
        free
    }
}

impl ColdRead {
    fn brought(&self, parts: Vec<Range<u64>>) {
        let mut reads = self.of.reads.lock();
        let own = reads.list.iter_mut().find(|read| read.id == self.id);
        if let Some(read) = own {
            read.brought.extend(parts);
        }
    }

    /// Whether a reader that had this range has read on, in this segment or from the beginning of a
    /// later one. A batch that was cut off at the end is read again.
    fn is_followed_by(&self, next: &FileRange) -> bool {
        let start = next.position;
        if next.segment_base_offset == self.segment {
            self.bytes.start < start && start <= self.bytes.end
        } else {
            next.segment_base_offset > self.segment && start == 0
        }
    }

    /// Has the system drop what the range brought, and nobody else holds.
    fn give_back(self) {
        let _turn = self.of.giving_back.lock();
        let (file, parts) = {
            let mut reads = self.of.reads.lock();
            let Some(read) = reads.remove(self.id) else {
                return;
            };
            let parts = reads.part_with(&read);
            (read.file, parts)
        };
        // A file that was closed meanwhile is not opened for it.
        if let Some(file) = file.upgrade() {
            for part in parts {
                file.drop_cache(part.start, part.end - part.start);
            }
        }
    }
}

impl Drop for ColdRead {
    fn drop(&mut self) {
        let mut reads = self.of.reads.lock();
        reads.remove(self.id);
        self.of.publish_front(&reads);
    }
}

#[cfg(test)]
mod tests;
