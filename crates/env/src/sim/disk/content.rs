//! What a simulated file holds: once for its readers, once on the device.
//!
//! Input: writes, cuts, flushes, a power cut. Output: bytes.
//!
//! ```text
//!            page 0    page 1    page 2
//! pages     [ new ]   [ same ]  [ new ]     what a reader sees (the page cache)
//! device    [ old ]      -      [ none ]    only for pages that differ: what the device holds
//! ```
//!
//! Invariants, checked by `tests/disk_faults.rs`:
//! - a page without an entry in `device` is on the device as it is;
//! - a power cut leaves every flushed byte as it was, except where it was overwritten since;
//! - a page whose write-back failed is clean for the cache and lost for the device: a later flush
//!   succeeds without it. It comes back when it is written again; if the device never had it, only
//!   by [`Content::rewrite`], past the cache.
//!
//! Source: `fsync(2)`; the behaviour of ext4 in its default mode, seen on Linux 6.18.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use skein_types::Millis;

use crate::sim::rng::SimRng;

/// Unit of the page cache, in bytes.
pub(super) const PAGE: usize = 4096;
const PAGE_U64: u64 = PAGE as u64;

/// What a device writes as a whole, in bytes: a torn page is old in some sectors, new in others.
const SECTOR: usize = 512;

/// Shared until it is written to: by cache and device, and all pages of zeros by each other.
type Page = Arc<[u8; PAGE]>;

fn zero_page() -> Page {
    static ZEROS: LazyLock<Page> = LazyLock::new(|| Arc::new([0; PAGE]));
    Arc::clone(&ZEROS)
}

/// Room on a simulated device, shared by its files.
pub(super) struct Usage {
    pub(super) used: AtomicU64,
    pub(super) capacity: AtomicU64,
}

impl Usage {
    fn take_page(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        if used.saturating_add(PAGE_U64) > self.capacity.load(Ordering::Relaxed) {
            return false;
        }
        self.used.store(used + PAGE_U64, Ordering::Relaxed);
        true
    }

    fn give_back(&self, pages: usize) {
        self.used
            .fetch_sub(pages as u64 * PAGE_U64, Ordering::Relaxed);
    }
}

/// One file's bytes.
pub(super) struct Content {
    length: u64,
    /// When bytes or length last changed; a power cut leaves it.
    pub(super) modified: Millis,
    pages: BTreeMap<u64, Page>,
    device_length: u64,
    device: BTreeMap<u64, Option<Page>>,
    /// Pages whose write-back failed.
    abandoned: BTreeSet<u64>,
    /// Pages that are on the device only: a reader of these waits.
    cold: BTreeSet<u64>,
    usage: Arc<Usage>,
}

impl Content {
    pub(super) fn new(usage: Arc<Usage>) -> Self {
        Self {
            length: 0,
            modified: Millis(0),
            pages: BTreeMap::new(),
            device_length: 0,
            device: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            cold: BTreeSet::new(),
            usage,
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Copies from `offset` on; the count is short at the end of the file.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let wanted = as_usize(self.length.saturating_sub(offset)).min(buffer.len());
        for (page, within, span) in spans(offset, wanted) {
            let target = &mut buffer[span];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + target.len()]),
                None => target.fill(0),
            }
        }
        wanted
    }

    /// Writes the pieces up to `limit` bytes; fewer if the device is full.
    pub(super) fn write(&mut self, pieces: &[IoSlice<'_>], offset: u64, limit: usize) -> usize {
        let mut done = 0;
        for piece in pieces {
            let piece = &piece[..piece.len().min(limit - done)];
            for (page, within, span) in spans(offset + done as u64, piece.len()) {
                let bytes = &piece[span];
                let Some(target) = self.page_for_writing(page) else {
                    return done;
                };
                Arc::make_mut(target)[within..within + bytes.len()].copy_from_slice(bytes);
                done += bytes.len();
                self.length = self.length.max(offset + done as u64);
            }
        }
        done
    }

    /// Writes up to `length` zeros; fewer if the device is full.
    pub(super) fn fill(&mut self, offset: u64, length: usize) -> usize {
        let mut done = 0;
        for (page, within, span) in spans(offset, length) {
            let Some(target) = self.page_for_writing(page) else {
                return done;
            };
            if span.len() == PAGE {
                *target = zero_page();
            } else {
                Arc::make_mut(target)[within..within + span.len()].fill(0);
            }
            done += span.len();
            self.length = self.length.max(offset + done as u64);
        }
        done
    }

    /// The page to write into, its device's version kept; `None` if the device is full.
    fn page_for_writing(&mut self, page: u64) -> Option<&mut Page> {
        if !self.pages.contains_key(&page) && !self.usage.take_page() {
            return None;
        }
        if !self.device.contains_key(&page) {
            self.device.insert(page, self.pages.get(&page).cloned());
        }
        // Blocks that were given up while they were new stay so for the cache: it believes them to
        // be there.
        if self.device.get(&page).is_some_and(Option::is_some) {
            self.abandoned.remove(&page);
        }
        self.cold.remove(&page);
        Some(self.pages.entry(page).or_insert_with(zero_page))
    }

    /// Writes the pages from `first` to before `end` past the cache: the next flush keeps them.
    pub(super) fn rewrite(&mut self, first: u64, end: u64) {
        self.abandoned.retain(|page| !(first..end).contains(page));
    }

    /// Cuts or lengthens.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let within = as_usize(length % PAGE_U64);
            let tail = length / PAGE_U64;
            // The rest of the last page reads as zeros if the file grows again.
            if within > 0
                && self.pages.contains_key(&tail)
                && let Some(page) = self.page_for_writing(tail)
            {
                Arc::make_mut(page)[within..].fill(0);
            }
            for (page, bytes) in self.pages.split_off(&length.div_ceil(PAGE_U64)) {
                self.device.entry(page).or_insert(Some(bytes));
                self.abandoned.remove(&page);
                self.cold.remove(&page);
                self.usage.give_back(1);
            }
        }
        self.length = length;
    }

    /// Flushes everything but what a failed flush gave up.
    pub(super) fn sync(&mut self) {
        if self.abandoned.is_empty() {
            self.device.clear();
        } else {
            let abandoned = &self.abandoned;
            self.device.retain(|page, _| abandoned.contains(page));
        }
        self.device_length = self.length;
    }

    /// A flush that fails: some pages reach the device, the others are given up. What was cut off
    /// is no page any more: when the file grows again there, it gets new ones.
    pub(super) fn sync_and_fail(&mut self, rng: &mut SimRng) {
        let is_cached = |page: &u64| self.pages.contains_key(page);
        let dirty: Vec<u64> = self.device.keys().copied().filter(is_cached).collect();
        for page in dirty {
            if rng.chance(2) {
                self.abandoned.insert(page);
            } else if !self.abandoned.contains(&page) {
                self.device.remove(&page);
            }
        }
    }

    /// The machine loses power: what was not flushed is lost, kept or torn.
    pub(super) fn power_cut(&mut self, rng: &mut SimRng) {
        let fate = Fate::draw(rng);
        let length = match fate {
            Fate::Lost => self.device_length,
            Fate::Kept | Fate::Zeros => self.length,
            Fate::EachPage => self.draw_length(rng),
        };
        // A cut that is undone brings all of its bytes back.
        let undone = if length > self.length {
            self.length / PAGE_U64
        } else {
            u64::MAX
        };
        for (page, old) in std::mem::take(&mut self.device) {
            let lost = page >= undone || self.abandoned.contains(&page);
            match fate {
                _ if lost => self.put(page, old),
                Fate::Kept => {}
                Fate::Lost | Fate::Zeros => self.put(page, old),
                Fate::EachPage => match rng.below(3) {
                    0 => {}
                    1 => self.put(page, old),
                    _ => self.tear(page, old, rng),
                },
            }
        }
        self.abandoned.clear();
        self.length = self.length.max(length);
        self.set_length(length);
        self.device.clear();
        self.device_length = length;
        self.cold = self.pages.keys().copied().collect();
    }

    /// A length that a power cut may leave: the flushed one, the last one, or one on the way.
    fn draw_length(&self, rng: &mut SimRng) -> u64 {
        let (low, high) = (self.device_length, self.length);
        match rng.below(4) {
            0 => low,
            1 => high,
            _ if high <= low => low,
            2 => rng.between(low, high),
            _ => (rng.between(low, high) / PAGE_U64 * PAGE_U64).max(low),
        }
    }

    /// Puts the device's version back. A power cut asks for no room: it was the file's before.
    fn put(&mut self, page: u64, bytes: Option<Page>) {
        let had = match bytes {
            Some(bytes) => {
                self.usage.used.fetch_add(PAGE_U64, Ordering::Relaxed);
                self.pages.insert(page, bytes)
            }
            None => self.pages.remove(&page),
        };
        if had.is_some() {
            self.usage.give_back(1);
        }
    }

    /// Leaves some sectors old and some new.
    fn tear(&mut self, page: u64, old: Option<Page>, rng: &mut SimRng) {
        let Some(new) = self.pages.get_mut(&page).map(Arc::make_mut) else {
            return;
        };
        let choice = rng.next_u64();
        for sector in 0..PAGE / SECTOR {
            if choice >> sector & 1 == 0 {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                match &old {
                    Some(old) => new[range.clone()].copy_from_slice(&old[range]),
                    None => new[range].fill(0),
                }
            }
        }
    }

    /// Flips the bits of `mask` in the byte at `offset`, in the cache and on the device; says
    /// whether there is such a byte.
    pub(super) fn rot(&mut self, offset: u64, mask: u8) -> bool {
        let (page, within) = (offset / PAGE_U64, as_usize(offset % PAGE_U64));
        if offset >= self.length || !self.pages.contains_key(&page) {
            return false;
        }
        if let Some(bytes) = self.pages.get_mut(&page) {
            Arc::make_mut(bytes)[within] ^= mask;
        }
        if let Some(Some(bytes)) = self.device.get_mut(&page) {
            Arc::make_mut(bytes)[within] ^= mask;
        }
        true
    }

    /// How many pages of the range a reader would wait for.
    pub(super) fn cold_pages(&self, offset: u64, length: u64) -> u64 {
        if self.cold.is_empty() || length == 0 {
            return 0;
        }
        let last = offset.saturating_add(length - 1) / PAGE_U64;
        self.cold.range(offset / PAGE_U64..=last).count() as u64
    }

    /// Brings the range into the cache; returns how many of its pages were not there.
    pub(super) fn warm(&mut self, offset: u64, length: u64) -> u64 {
        if self.cold.is_empty() || length == 0 {
            return 0;
        }
        let (first, last) = (
            offset / PAGE_U64,
            offset.saturating_add(length - 1) / PAGE_U64,
        );
        let warmed: Vec<u64> = self.cold.range(first..=last).copied().collect();
        for page in &warmed {
            self.cold.remove(page);
        }
        warmed.len() as u64
    }

    /// Drops the clean pages of the range from the cache.
    pub(super) fn cool(&mut self, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let (first, last) = (
            offset / PAGE_U64,
            offset.saturating_add(length - 1) / PAGE_U64,
        );
        let clean = self.pages.range(first..=last).map(|(page, _)| *page);
        self.cold
            .extend(clean.filter(|page| !self.device.contains_key(page)));
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.usage.give_back(self.pages.len());
    }
}

/// What a power cut does to a file's unflushed pages.
#[derive(Clone, Copy)]
enum Fate {
    /// None reached the device.
    Lost,
    /// All did.
    Kept,
    /// The length did, and none of the bytes: new pages read as zeros.
    Zeros,
    /// Each on its own is lost, kept or torn.
    EachPage,
}

impl Fate {
    fn draw(rng: &mut SimRng) -> Self {
        match rng.below(8) {
            0 | 1 => Self::Lost,
            2 => Self::Kept,
            3 => Self::Zeros,
            _ => Self::EachPage,
        }
    }
}

/// Cuts a range of a file at page borders: the page, where in it, and which bytes of the range.
fn spans(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let within = as_usize(at % PAGE_U64);
        let count = (PAGE - within).min(length - done);
        let span = done..done + count;
        done += count;
        Some((at / PAGE_U64, within, span))
    })
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
