//! Where a bit may go bad, so that the node can notice it.
//!
//! Input: the disk of a node that does not run, random numbers. Output: a bit of a record batch
//! that was flushed for certain: it lies below the recovery point of its log.
//!
//! What the node makes of it: a log whose framing is broken there does not open, and of another one
//! the batch fails its reader's checksum. Nothing is cut: when the bit is good again, so is all.
//!
//! Chosen are bits of the framing (a batch's length, its magic byte), and of its records. Base
//! offset and leader epoch are covered by no checksum, and nobody compares one with the other
//! fields of the header before a reader does: to tell a wrong one from a right one is not promised.
//!
//! Invariant: the recovery point is the one that the next start reads, also after a power cut:
//! opening the directory has made its name durable.
//!
//! Source: "An Analysis of Data Corruption in the Storage Stack" (FAST 2008).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_env::sim::{SimRng, SimWorld};
use skein_env::{Disk, EntryKind, OpenMode};
use skein_record::{BatchHeader, HEADER_BYTES};
use skein_storage::{CacheLimits, CheckpointFile, LogDirectory};
use skein_types::{Offset, TopicPartition};

use crate::node::{LOG_DIR, NODE};

/// Where the length of a batch is told, in bytes from its beginning.
const LENGTH: u64 = 8;

/// Where its magic byte is.
const MAGIC: u64 = 16;

/// A bit.
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) mask: u8,
}

/// Chooses a bit; `None` if nothing was flushed yet.
pub(crate) fn choose(world: &SimWorld, rng: &mut SimRng) -> Option<Place> {
    let disk = world.node(NODE).disk;
    let place = choose_on(&disk, rng);
    world.kill(NODE);
    place
}

fn choose_on(disk: &Arc<dyn Disk>, rng: &mut SimRng) -> Option<Place> {
    let limits = CacheLimits::default();
    let directory = LogDirectory::open(Arc::clone(disk), Path::new(LOG_DIR), limits).ok()?;
    let (partitions, _) = directory.list().ok()?;
    let mut flushed = Vec::new();
    for partition in partitions {
        let checkpointed = |file| directory.checkpointed(file, &partition);
        let end = checkpointed(CheckpointFile::RecoveryPoint).unwrap_or(Offset::ZERO);
        let start = checkpointed(CheckpointFile::LogStartOffset).unwrap_or(Offset::ZERO);
        if start < end {
            flushed.push((partition, end));
        }
    }
    let (partition, end) = take(rng, &mut flushed)?;
    let path = Path::new(LOG_DIR).join(partition.to_string());
    let mut segments = segments(&**disk, &path, end)?;
    // The last one is the one that a start looks through.
    let segment = match rng.chance(2) {
        true => segments.pop(),
        false => take(rng, &mut segments),
    }?;
    let mut batches = batches(&**disk, &segment, end)?;
    let (position, size) = match rng.chance(4) {
        true => batches.pop(),
        false => take(rng, &mut batches),
    }?;
    let head = HEADER_BYTES as u64;
    let within = match rng.below(4) {
        0 | 1 => LENGTH + rng.below(4),
        2 => MAGIC,
        _ => head + rng.below((size - head).max(1)),
    };
    Some(Place {
        partition,
        path: segment,
        offset: position + within,
        mask: 1 << rng.below(8),
    })
}

/// The log files that begin below `end`, in their order.
fn segments(disk: &dyn Disk, path: &Path, end: Offset) -> Option<Vec<PathBuf>> {
    let mut names: Vec<PathBuf> = Vec::new();
    for (name, kind) in disk.read_directory(path).ok()? {
        let stem = name.to_str().and_then(|name| name.strip_suffix(".log"));
        let base = stem.and_then(|stem| stem.parse::<i64>().ok());
        if matches!(kind, EntryKind::File(_)) && base.is_some_and(|base| base < end.0) {
            names.push(path.join(name));
        }
    }
    names.sort();
    Some(names)
}

/// Position and size of the batches of a file that end at `end` or below.
fn batches(disk: &dyn Disk, path: &Path, end: Offset) -> Option<Vec<(u64, u64)>> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let length = file.length().ok()?;
    let mut batches = Vec::new();
    let mut position = 0;
    let mut head = [0; HEADER_BYTES];
    while position + HEADER_BYTES as u64 <= length {
        file.read_at(&mut head, position).ok()?;
        // Behind the last batch there may be room for more.
        let flushed = BatchHeader::parse(&head).ok();
        let Some(header) = flushed.filter(|header| header.next_offset() <= end) else {
            break;
        };
        let size = header.size_in_bytes() as u64;
        batches.push((position, size));
        position += size;
    }
    Some(batches)
}

/// One of `from`.
fn take<T>(rng: &mut SimRng, from: &mut Vec<T>) -> Option<T> {
    let count = from.len() as u64;
    let at = usize::try_from(rng.below(count.max(1))).unwrap_or(0);
    (count > 0).then(|| from.swap_remove(at))
}
