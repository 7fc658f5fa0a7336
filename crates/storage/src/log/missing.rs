//! Segments whose files are missing between others.
//!
//! Input: the segments that are there, what `segment-timestamps` tells of those that were, and
//! reads. Output: an error in the node's log that names the file and the offsets.
//!
//! ```text
//!   [ 0 ──── ][ 120 ──── ]            [ 310 ──── ]
//!                          └ 200.log: the offsets 200 to 309 are missing
//! ```
//!
//! Such a log is served, as Kafka serves it: what is there is good, and whoever reads goes on
//! behind the gap, as in a topic that was compacted. But nobody should learn of it from a consumer.
//!
//! An opening does not look into every segment: it tells of those that were flushed and named in
//! `segment-timestamps`, which forgets them, durably, before compaction or truncation takes them
//! away. A read tells of any that it comes upon, once a segment.
//!
//! Invariant: what compaction took out is not told: nothing below the cleaner's checkpoint is, and
//! its own segments end with a batch that stays.
//!
//! Source: none; Kafka 4.1.1 says nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skein_types::Offset;

use super::names::FileKind;
use super::segment::{Home, SealedSegment};
use crate::log_directory::CheckpointFile;

/// What an operator can do about it.
const REMEDY: &str = "restore the file from a backup or another replica while the node is stopped; \
                      until then readers pass over these offsets (skein log verify tells all)";

/// Of those that `were` once, the segments that are missing between those that are there: their
/// offsets. All are base offsets in order.
pub(super) fn between(
    were: &[Offset],
    there: &[Offset],
    cleaned_end: Offset,
) -> Vec<Range<Offset>> {
    let (Some(first), Some(last)) = (there.first(), there.last()) else {
        return Vec::new();
    };
    let is_lost = |base: &&Offset| {
        *base > first && *base < last && **base >= cleaned_end && there.binary_search(base).is_err()
    };
    let mut lost: Vec<Range<Offset>> = Vec::new();
    for base in were.iter().filter(is_lost) {
        let next = there[there.partition_point(|there| there < base)];
        if let Some(before) = lost.last_mut().filter(|before| before.end > *base) {
            before.end = *base;
        }
        lost.push(*base..next);
    }
    lost
}

/// An opening has found that these segments are missing.
pub(super) fn tell(home: &Home, lost: &[Range<Offset>]) {
    for offsets in lost {
        let path = home.file(offsets.start, FileKind::Log);
        tracing::error!(
            partition = %home.partition,
            path = %path.display(),
            first_offset = %offsets.start,
            end_offset = %offsets.end,
            remedy = REMEDY,
            "a segment's file is missing"
        );
    }
}

/// A read has found nothing from `offset` on in a segment that ends behind it. Whether that is
/// told: not what compaction took out, nor a second time.
pub(super) fn tell_read(segment: &Arc<SealedSegment>, offset: Offset) -> bool {
    let home = &segment.home;
    let cleaned_end = home
        .directory
        .checkpointed(CheckpointFile::Cleaner, &home.partition)
        .unwrap_or(Offset::ZERO);
    if segment.end_offset <= cleaned_end || segment.is_gap_told.swap(true, Ordering::Relaxed) {
        return false;
    }
    tracing::error!(
        partition = %home.partition,
        path = %home.path.display(),
        behind = %segment.path(FileKind::Log).display(),
        read_offset = %offset,
        end_offset = %segment.end_offset,
        remedy = REMEDY,
        "a read finds no records behind a segment: the file of the next one is missing"
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_between_others_is_missing_and_one_before_or_behind_them_is_not() {
        let offsets = |numbers: &[i64]| numbers.iter().copied().map(Offset).collect::<Vec<_>>();
        let check = |were: &[i64], there: &[i64], cleaned: i64, lost: &[(i64, i64)]| {
            let told = between(&offsets(were), &offsets(there), Offset(cleaned));
            let told: Vec<(i64, i64)> = told.iter().map(|one| (one.start.0, one.end.0)).collect();
            assert_eq!(told, lost, "{were:?} {there:?} {cleaned}");
        };
        check(&[0, 10, 20, 30], &[0, 10, 20, 30], 0, &[]);
        check(&[0, 10, 20], &[0, 20, 30], 0, &[(10, 20)]);
        check(
            &[0, 10, 20, 30],
            &[0, 40],
            0,
            &[(10, 20), (20, 30), (30, 40)],
        );
        // Retention took the first ones; a truncation the last.
        check(&[0, 10, 20], &[20, 30], 0, &[]);
        check(&[0, 10, 20], &[0], 0, &[]);
        check(&[0, 10, 20], &[], 0, &[]);
        // Compaction made one segment of three.
        check(&[0, 10, 20, 30], &[0, 30, 40], 30, &[]);
    }
}
