//! Which part of a log is to be compacted, and how much it needs it.
//!
//! Input: the log's sealed segments, its offsets, how far it was compacted, the time. Output: a
//! range of whole segments, and the share of bytes in it.
//!
//! Invariants:
//! - the range ends at the end of a sealed segment, at or below every limit;
//! - with `min.compaction.lag.ms` it ends before the first segment with a record that is younger;
//! - a checkpoint that the log cannot have is not believed: everything is dirty then.
//!
//! Source: `LogCleanerManager.cleanableOffsets`, `LogToClean` of Kafka 4.1.1; KIP-58, KIP-354.

use std::sync::Arc;

use skein_types::{Millis, Offset};

use super::super::batches::Headers;
use super::super::names::FileKind;
use super::super::segment::SealedSegment;
use crate::StorageError;

/// When a log is compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionSettings {
    /// `min.cleanable.dirty.ratio`: the share of dirty bytes above which a log is worth it.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: so long a record stays as it is.
    pub min_compaction_lag_ms: Millis,
    /// `max.compaction.lag.ms`: after so long the log is compacted whatever its share.
    pub max_compaction_lag_ms: Option<Millis>,
    /// `delete.retention.ms`: how long tombstones stay once they are compacted.
    pub delete_retention_ms: Millis,
}

/// Where a compaction may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) log_start_offset: Offset,
    /// Nothing from here on is compacted.
    pub(super) end: Offset,
    /// Up to where the log was compacted, as checkpointed.
    pub(super) cleaned_end: Option<Offset>,
}

/// What is to be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// First offset that was not compacted yet.
    pub start: Offset,
    /// End of the last segment that may be.
    pub end: Offset,
    /// Bytes of the segments before.
    pub clean_bytes: u64,
    /// Bytes of these segments.
    pub dirty_bytes: u64,
    /// A record waits for longer than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

impl Dirty {
    /// The share of dirty bytes, from 0 to 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a share
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        if all == 0 {
            return 0.0;
        }
        self.dirty_bytes as f64 / all as f64
    }

    /// Whether the log is to be compacted now.
    #[must_use]
    pub fn is_due(&self, settings: &CompactionSettings) -> bool {
        let is_worth_it = self.ratio() > settings.min_cleanable_dirty_ratio;
        self.dirty_bytes > 0 && (is_worth_it || self.is_overdue)
    }
}

/// A segment as the decision sees it.
pub(super) trait Segment {
    fn end_offset(&self) -> Offset;

    fn size(&self) -> u64;

    /// Timestamp of its newest record.
    fn newest(&self) -> Result<Millis, StorageError>;

    /// Timestamp of its first batch; `None` if it has none.
    fn oldest(&self) -> Result<Option<Millis>, StorageError>;
}

impl Segment for Arc<SealedSegment> {
    fn end_offset(&self) -> Offset {
        self.end_offset
    }

    fn size(&self) -> u64 {
        self.end_position
    }

    fn newest(&self) -> Result<Millis, StorageError> {
        SealedSegment::newest(self)
    }

    fn oldest(&self) -> Result<Option<Millis>, StorageError> {
        let (file, path) = (self.log()?, self.path(FileKind::Log));
        let first = Headers::new(&*file, &path, 0..self.end_position).next()?;
        let timestamp = first.map(|(_, header)| header.max_timestamp);
        Ok(timestamp.filter(|timestamp| timestamp.0 > 0))
    }
}

/// What the decision is made of.
pub(super) struct Facts<'a, S> {
    pub(super) segments: &'a [S],
    pub(super) limits: Limits,
}

impl<S: Segment> Facts<'_, S> {
    pub(super) fn dirty(
        &self,
        settings: &CompactionSettings,
        now: Millis,
    ) -> Result<Option<Dirty>, StorageError> {
        let start = self.start();
        let mut dirty = Dirty {
            start,
            end: start,
            clean_bytes: 0,
            dirty_bytes: 0,
            is_overdue: false,
        };
        let young_from = now.saturating_sub(settings.min_compaction_lag_ms);
        let overdue_before = settings
            .max_compaction_lag_ms
            .map(|lag| now.saturating_sub(lag));
        for segment in self.segments {
            if segment.end_offset() <= start {
                dirty.clean_bytes += segment.size();
                continue;
            }
            // Looked up only where it can matter: it opens the index.
            let has_lag = settings.min_compaction_lag_ms.0 > 0;
            if segment.end_offset() > self.limits.end || has_lag && segment.newest()? > young_from {
                break;
            }
            if let Some(before) = overdue_before
                && segment.oldest()?.is_some_and(|oldest| oldest < before)
            {
                dirty.is_overdue = true;
            }
            dirty.dirty_bytes += segment.size();
            dirty.end = segment.end_offset();
        }
        Ok((dirty.end > dirty.start).then_some(dirty))
    }

    fn start(&self) -> Offset {
        let Limits {
            log_start_offset,
            cleaned_end,
            ..
        } = self.limits;
        let end = self.segments.last().map(Segment::end_offset);
        cleaned_end
            .filter(|cleaned_end| end.is_some_and(|end| *cleaned_end <= end))
            .map_or(log_start_offset, |end| end.max(log_start_offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 10 offsets and 100 bytes, written one every 10 ms from 1000 on.
    struct Plain(i64);

    impl Segment for Plain {
        fn end_offset(&self) -> Offset {
            Offset(self.0 * 10 + 10)
        }

        fn size(&self) -> u64 {
            100
        }

        fn newest(&self) -> Result<Millis, StorageError> {
            Ok(Millis(1009 + self.0 * 10))
        }

        fn oldest(&self) -> Result<Option<Millis>, StorageError> {
            Ok(Some(Millis(1000 + self.0 * 10)))
        }
    }

    const LAZY: CompactionSettings = CompactionSettings {
        min_cleanable_dirty_ratio: 0.5,
        min_compaction_lag_ms: Millis(0),
        max_compaction_lag_ms: None,
        delete_retention_ms: Millis(0),
    };

    fn dirty(
        limits: (i64, i64, Option<i64>),
        settings: CompactionSettings,
        now: i64,
    ) -> Option<(i64, i64, u64, u64)> {
        let segments: Vec<Plain> = (0..5).map(Plain).collect();
        let (log_start_offset, end, cleaned_end) = limits;
        let facts = Facts {
            segments: &segments,
            limits: Limits {
                log_start_offset: Offset(log_start_offset),
                end: Offset(end),
                cleaned_end: cleaned_end.map(Offset),
            },
        };
        let dirty = facts.dirty(&settings, Millis(now)).unwrap()?;
        let Dirty {
            start,
            end,
            clean_bytes,
            dirty_bytes,
            ..
        } = dirty;
        Some((start.0, end.0, clean_bytes, dirty_bytes))
    }

    #[test]
    fn dirty_is_what_lies_between_the_checkpoint_and_the_limit_in_whole_segments() {
        assert_eq!(dirty((0, 50, None), LAZY, 0), Some((0, 50, 0, 500)));
        assert_eq!(dirty((0, 49, None), LAZY, 0), Some((0, 40, 0, 400)));
        assert_eq!(dirty((0, 50, Some(20)), LAZY, 0), Some((20, 50, 200, 300)));
        // The table of keys was full in the middle of a segment.
        assert_eq!(dirty((0, 50, Some(25)), LAZY, 0), Some((25, 50, 200, 300)));
        assert_eq!(dirty((0, 50, Some(50)), LAZY, 0), None);
        assert_eq!(dirty((0, 9, None), LAZY, 0), None);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_is_not_believed() {
        assert_eq!(dirty((0, 50, Some(51)), LAZY, 0), Some((0, 50, 0, 500)));
        assert_eq!(dirty((30, 50, Some(20)), LAZY, 0), Some((30, 50, 300, 200)));
    }

    #[test]
    fn young_segments_wait_and_so_do_those_behind_them() {
        let lag = CompactionSettings {
            min_compaction_lag_ms: Millis(100),
            ..LAZY
        };
        assert_eq!(dirty((0, 50, None), lag, 1129), Some((0, 30, 0, 300)));
        assert_eq!(dirty((0, 50, None), lag, 1128), Some((0, 20, 0, 200)));
        assert_eq!(dirty((0, 50, None), lag, 1100), None);
    }

    #[test]
    fn a_log_is_due_by_its_share_or_by_its_oldest_dirty_record() {
        let due = |cleaned_end, settings: CompactionSettings, now| {
            let segments: Vec<Plain> = (0..5).map(Plain).collect();
            let facts = Facts {
                segments: &segments,
                limits: Limits {
                    log_start_offset: Offset(0),
                    end: Offset(50),
                    cleaned_end: Some(Offset(cleaned_end)),
                },
            };
            let dirty = facts.dirty(&settings, Millis(now)).unwrap();
            dirty.is_some_and(|dirty| dirty.is_due(&settings))
        };
        assert!(due(20, LAZY, 0));
        assert!(!due(30, LAZY, 0));
        let max_lag = CompactionSettings {
            max_compaction_lag_ms: Some(Millis(100)),
            ..LAZY
        };
        assert!(due(30, max_lag, 1131));
        assert!(!due(30, max_lag, 1130));
        let never = CompactionSettings {
            min_cleanable_dirty_ratio: 1.0,
            ..LAZY
        };
        assert!(!due(0, never, 0));
    }
}
