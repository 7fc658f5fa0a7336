//! The log files of replicas, as they lie on the disks of the cluster.
//!
//! Input: the world, two replicas. Output: how their logs differ below both high watermarks.
//!
//! Invariant: looking costs the nodes no simulated time, and changes nothing.
//!
//! Source: Kafka's log format; a replica's directory is `<topic>-<partition>`.

use std::path::Path;

use skein_env::sim::SimWorld;
use skein_record::Batches;
use skein_types::Offset;

use super::host;
use crate::node::LOG_DIR;

/// A batch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lying {
    base_offset: Offset,
    end: Offset,
    hash: u64,
}

/// What of a replica is compared.
#[derive(Clone, Debug)]
pub(crate) struct LogOf {
    pub(crate) node: usize,
    pub(crate) start: Offset,
    pub(crate) high_watermark: Offset,
    batches: Vec<Lying>,
}

impl LogOf {
    /// Reads what a node has of the partition `name` below its high watermark.
    pub(crate) fn read(
        world: &SimWorld,
        node: usize,
        name: &str,
        start: Offset,
        high_watermark: Offset,
    ) -> Self {
        let disk = world.disk(&host(node));
        let path = Path::new(LOG_DIR).join(name);
        let mut names = disk.names_in(&path);
        names.retain(|name| name.ends_with(".log"));
        names.sort_unstable();
        let mut batches = Vec::new();
        for name in names {
            let bytes = disk.bytes_of(&path.join(name)).unwrap_or_default();
            // A torn tail, or room for more: what is missing shows in the comparison.
            for batch in Batches::new(&bytes).map_while(Result::ok) {
                let header = batch.header();
                if header.base_offset >= high_watermark {
                    break;
                }
                if header.base_offset >= start {
                    batches.push(Lying {
                        base_offset: header.base_offset,
                        end: header.next_offset(),
                        hash: hash(batch.as_slice()),
                    });
                }
            }
        }
        Self {
            node,
            start,
            high_watermark,
            batches,
        }
    }

    /// Where the log ends that a node has of the partition `name`; `None` without a file.
    pub(crate) fn end_of(world: &SimWorld, node: usize, name: &str) -> Option<Offset> {
        let path = Path::new(LOG_DIR).join(name);
        let names = world.disk(&host(node)).names_in(&path);
        names.iter().find(|name| name.ends_with(".log"))?;
        let log = Self::read(world, node, name, Offset::ZERO, Offset(i64::MAX));
        Some(log.batches.last().map_or(Offset::ZERO, |last| last.end))
    }

    /// How it differs from another below both high watermarks.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let start = self.start.max(other.start);
        let end = self.high_watermark.min(other.high_watermark);
        let mut logs = [self, other].map(|log| {
            let is_in = move |batch: &&Lying| batch.base_offset >= start && batch.end <= end;
            log.batches.iter().filter(is_in)
        });
        loop {
            let [one, two] = [logs[0].next(), logs[1].next()];
            if one != two {
                return Some(format!(
                    "below {end}, node {} has {one:?} where node {} has {two:?}",
                    self.node + 1,
                    other.node + 1
                ));
            }
            one?;
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        (hash.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
