//! What the files of a dead node hold below the cleaner's checkpoint: each key once.
//!
//! Input: the disk of a node that does not run. Output: a key that is there twice.
//!
//! The cleaner does not compare what lies below its checkpoint with itself again. So a key that is
//! there twice stays so; and if the later one is a tombstone, that goes in time, and leaves the
//! earlier value as the last one. To a reader it shows long after its cause; to the files at once.
//!
//! Invariant: the disk is looked at without a call of its own, so that nothing happens to it.
//!
//! Source: KIP-58; `LogCleanerManager` of Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use skein_env::sim::{SimDisk, SimWorld};
use skein_record::{BatchView, Batches};
use skein_types::Offset;

use crate::node::{LOG_DIR, NODE};

/// The largest batch after decompression, in bytes.
const UNPACKED_MAX: usize = 4 * 1024 * 1024;

/// Looks at every log.
///
/// # Errors
/// Which log holds a key twice.
pub(crate) fn check(world: &SimWorld) -> Result<(), String> {
    let disk = world.disk(NODE);
    let starts = checkpoint(&disk, "log-start-offset-checkpoint");
    for (partition, end) in checkpoint(&disk, "cleaner-offset-checkpoint") {
        let start = starts.get(&partition).copied().unwrap_or(Offset::ZERO);
        check_log(&disk, &partition, start, end)?;
    }
    Ok(())
}

fn check_log(disk: &SimDisk, partition: &str, start: Offset, end: Offset) -> Result<(), String> {
    let path = Path::new(LOG_DIR).join(partition);
    let names = disk.names_in(&path);
    if names.iter().any(|name| name.ends_with(".log.swap")) {
        // The next start has something to finish first.
        return Ok(());
    }
    let mut seen: BTreeMap<Vec<u8>, Offset> = BTreeMap::new();
    let logs: BTreeSet<&String> = names.iter().filter(|name| name.ends_with(".log")).collect();
    for name in logs {
        let bytes = disk.bytes_of(&path.join(name)).unwrap_or_default();
        let mut expected = name
            .trim_end_matches(".log")
            .parse()
            .map_or(Offset::ZERO, Offset);
        for batch in Batches::new(&bytes) {
            // A torn tail, room for more, or a rotten bit: others see to that. A write that was
            // torn behind the base offset, which no checksum covers, is seen by the offset alone.
            let is_good = |batch: &BatchView<'_>| {
                batch.header().base_offset >= expected && batch.check_crc().is_ok()
            };
            let Some(batch) = batch.ok().filter(is_good) else {
                break;
            };
            expected = batch.header().next_offset();
            let Ok(records) = batch.records(UNPACKED_MAX) else {
                break;
            };
            for record in records.iter().map_while(Result::ok) {
                let is_in = start <= record.offset && record.offset < end;
                let Some(key) = record.key.filter(|_| is_in) else {
                    continue;
                };
                if let Some(before) = seen.insert(key.to_vec(), record.offset) {
                    return Err(format!(
                        "{partition} is compacted up to {end}, and has the key {key:?} at {before} \
                         and, in {name}, at {}",
                        record.offset
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The offsets of a checkpoint, by partition.
fn checkpoint(disk: &SimDisk, name: &str) -> BTreeMap<String, Offset> {
    let bytes = disk.bytes_of(&Path::new(LOG_DIR).join(name));
    let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
    let entries = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (topic, index, offset) = (words.next()?, words.next()?, words.next()?);
        Some((format!("{topic}-{index}"), Offset(offset.parse().ok()?)))
    });
    entries.collect()
}
