//! What of a file is not in the page cache, without touching it.
//!
//! Input: steps of a file. Output: those of which a page is missing.
//!
//! `preadv2(RWF_NOWAIT)` says it too, but a byte that is missing makes the kernel read it and its
//! neighbours; `mincore` only looks.
//!
//! Invariant: where it cannot be told, nothing is missing, so that nothing is given back that
//! somebody may want.
//!
//! Source: `mincore(2)`. It tells only those who may write the file or own it.

use std::fs;
use std::ops::Range;
use std::os::fd::AsRawFd;

use memmap2::{MmapOptions, MmapRaw};

use crate::CacheSteps;

/// The lowest bit of what `mincore` says of a page: it is in memory.
const IN_MEMORY: u8 = 1;

/// The steps of which a page is missing, those that touch as one.
pub(super) fn steps(file: &fs::File, steps: CacheSteps) -> Vec<Range<u64>> {
    let Range { start, end } = steps.bytes();
    let Ok(length) = usize::try_from(end.saturating_sub(start)) else {
        return Vec::new();
    };
    if length == 0 {
        return Vec::new();
    }
    let map = MmapOptions::new()
        .offset(start)
        .len(length)
        .map_raw_read_only(file.as_raw_fd());
    let page_bytes = rustix::param::page_size();
    let Some(pages) = map.ok().and_then(|map| in_memory(&map, page_bytes)) else {
        return Vec::new();
    };
    let page_at = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX) / page_bytes;
    steps.pick(|step| {
        let of_step = pages.get(page_at(step.start)..page_at(step.end));
        of_step.is_some_and(|pages| pages.iter().any(|page| page & IN_MEMORY == 0))
    })
}

/// What `mincore` says of each page of the map.
#[allow(unsafe_code)] // no crate that is here has the call
fn in_memory(map: &MmapRaw, page_bytes: usize) -> Option<Vec<u8>> {
    let mut pages = vec![0; map.len().div_ceil(page_bytes)];
    // SAFETY: the map begins at a page and lives until the call returns; the call writes one byte
    // for each of its pages, and there is room for as many. It reads no byte of the map.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), pages.as_mut_ptr()) };
    (result == 0).then_some(pages)
}
