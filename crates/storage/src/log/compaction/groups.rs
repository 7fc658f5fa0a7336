//! Which segments become one.
//!
//! Input: segments in their order, and how large a segment may be. Output: ranges of them, each to
//! be written as one.
//!
//! Invariants of each group of more than one segment: its files stay within the limits whatever of
//! them stays, and its offsets within the 31 bits of an index entry; a group is no longer than
//! [`GROUP_MAX_SEGMENTS`], because its files stay open while they are replaced.
//!
//! Source: `Cleaner.groupSegmentsBySize` of Kafka 4.1.1.

use std::ops::Range;

use skein_record::HEADER_BYTES;
use skein_types::Offset;

use super::super::index::{Entry, TimeEntry};
use crate::LogConfig;

/// Most segments that become one at a time.
pub(super) const GROUP_MAX_SEGMENTS: usize = 64;

/// Most bytes of a segment that several become: setting a delete horizon may take a few bytes more
/// for each record, and a position in a file has 31 bits in Kafka.
const GROUP_MAX_BYTES: u64 = 1 << 30;

/// A segment as grouping sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) size: u64,
}

pub(super) fn group(segments: &[Extent], config: &LogConfig) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    while start < segments.len() {
        let mut end = start + 1;
        let mut size = segments[start].size;
        while let Some(next) = segments.get(end) {
            size += next.size;
            let offsets = next.end_offset.0 - segments[start].base_offset.0;
            let fits = size <= config.segment_bytes.min(GROUP_MAX_BYTES)
                && index_max_bytes(size, config) <= config.segment_index_bytes
                && i32::try_from(offsets).is_ok()
                && end - start < GROUP_MAX_SEGMENTS;
            if !fits {
                break;
            }
            end += 1;
        }
        groups.push(start..end);
        start = end;
    }
    groups
}

/// The most that an index of a segment of `size` bytes takes.
fn index_max_bytes(size: u64, config: &LogConfig) -> u64 {
    let between = (config.index_interval_bytes.saturating_add(1)).max(HEADER_BYTES as u64);
    (size / between + 1).saturating_mul(TimeEntry::BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(segments: &[(i64, u64)], end: i64, config: &LogConfig) -> Vec<Range<usize>> {
        let ends = segments.iter().skip(1).map(|(base, _)| *base).chain([end]);
        let extents: Vec<Extent> = segments
            .iter()
            .zip(ends)
            .map(|((base_offset, size), end)| Extent {
                base_offset: Offset(*base_offset),
                end_offset: Offset(end),
                size: *size,
            })
            .collect();
        group(&extents, config)
    }

    fn config() -> LogConfig {
        LogConfig {
            segment_bytes: 100,
            ..LogConfig::default()
        }
    }

    #[test]
    fn neighbours_become_one_while_they_fit() {
        let segments = [(0, 40), (10, 60), (20, 1), (30, 0), (40, 100), (50, 300)];
        assert_eq!(groups(&segments, 60, &config()), [0..2, 2..4, 4..5, 5..6]);
        assert_eq!(groups(&[], 0, &config()), []);
    }

    #[test]
    fn offsets_of_a_group_fit_into_31_bits() {
        let max = i64::from(i32::MAX);
        let segments = [(7, 1), (8, 1)];
        assert_eq!(groups(&segments, 7 + max, &config()).len(), 1);
        assert_eq!(groups(&segments, 8 + max, &config()), [0..1, 1..2]);
    }

    #[test]
    fn indexes_of_a_group_fit() {
        let config = LogConfig {
            segment_bytes: 1000,
            index_interval_bytes: 99,
            segment_index_bytes: 36,
            ..LogConfig::default()
        };
        assert_eq!(groups(&[(0, 150), (1, 149)], 2, &config).len(), 1);
        assert_eq!(groups(&[(0, 150), (1, 150)], 2, &config), [0..1, 1..2]);
    }

    #[test]
    fn a_group_is_no_longer_than_its_limit() {
        let segments: Vec<(i64, u64)> = (0..100).map(|base| (base, 1)).collect();
        assert_eq!(groups(&segments, 100, &config()), [0..64, 64..100]);
    }
}
