//! Finding records by time.
//!
//! Input: a timestamp. Output: the first record that is not older, or the newest record.
//!
//! Within a segment the first time entry that reaches the timestamp names a batch; the batch wanted
//! lies at or before it, and behind the offset entry below it, because at that moment no timestamp
//! was large enough. So the walk is bounded as a lookup by offset is, even where timestamps jump.
//!
//! ```text
//!  time entries      (100, batch A)                      (200, batch C)
//!  log     ──┼────A────┼──────────────┼─────────────┼──B────C───┼──
//!  offset entries      e1             e2            e3          e4
//!  first record ≥ 150: entry (200, C) → offset entry below C: e3 → walk: B
//! ```
//!
//! An entry of a sealed segment is believed only where its batch has its timestamp; else the walk
//! begins where the segment does, and the index is made anew.
//!
//! Invariants: the answer is that of a linear search, also for timestamps out of order (property
//! test); one batch is unpacked, and its unpacked size is bounded.
//!
//! Source: `UnifiedLog.fetchOffsetByTimestamp`; KIP-79, KIP-734.

use skein_record::BatchView;
use skein_types::{LeaderEpoch, Millis, Offset};

use super::index::{IndexView, TimeEntry};
use super::lookup::{BatchAt, SegmentRef};
use super::segment_index::TimestampOffset;
use super::view::{LogView, ReadError};
use crate::StorageError;

/// Most bytes that a lookup by time, or of what is unread, unpacks records to: those of one batch
/// after the other. Of a larger batch the first offset is given.
pub const LOOKUP_UNPACKED_MAX_BYTES: usize = 64 * 1024 * 1024;

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its timestamp.
    pub timestamp: Millis,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl LogView {
    /// The first record whose timestamp is at least `timestamp`, if it lies below `up_to`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Millis,
        up_to: Offset,
    ) -> Result<Option<FoundRecord>, ReadError> {
        let mut next = self.segment_number(self.log_start_offset);
        while let Some(number) = self.segment_reaching(next, timestamp, up_to)? {
            next = number + 1;
            let segment = self.segment(number)?;
            let mut start = self.first_position(number, &segment, timestamp)?;
            // Again only where the record found lies below the log start, or where a header
            // promises a timestamp that no record has.
            while let Some(batch) = segment.walk(start, |header| {
                header.max_timestamp >= timestamp && header.last_offset() >= self.log_start_offset
            })? {
                if batch.header.base_offset >= up_to {
                    return Ok(None);
                }
                let found =
                    self.first_in_batch(&segment, &batch, self.log_start_offset, |time| {
                        time >= timestamp
                    })?;
                if let Some(found) = found {
                    return Ok(Some(found).filter(|found| found.offset < up_to));
                }
                start = batch.position + batch.header.size_in_bytes() as u64;
            }
        }
        Ok(None)
    }

    /// The first of the records that have the largest timestamp, if it lies below `up_to`
    /// (`ListOffsets` −3).
    ///
    /// # Errors
    /// What the disk says.
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<FoundRecord>, ReadError> {
        let mut newest = self.newest()?;
        let claiming = self.sealed.get(self.segment_number(newest.offset));
        if let Some(claiming) = claiming
            && !claiming.bears_claim()?
        {
            newest = self.newest()?;
        }
        let TimestampOffset { timestamp, offset } = newest;
        if timestamp == Millis::NONE {
            return Ok(None);
        }
        let segment = self.segment(self.segment_number(offset))?;
        let Some(batch) = segment.find_batch(offset)? else {
            return Ok(None);
        };
        let found = self.first_in_batch(&segment, &batch, self.log_start_offset, |time| {
            time >= timestamp
        })?;
        Ok(found.filter(|found| found.offset < up_to))
    }

    /// The first record that may be read (`ListOffsets` −2). Its timestamp is not looked up.
    ///
    /// # Errors
    /// What the disk says.
    pub fn earliest(&self) -> Result<FoundRecord, ReadError> {
        let offset = self.log_start_offset;
        let segment = self.segment(self.segment_number(offset))?;
        let batch = segment.find_batch(offset)?;
        let leader_epoch = batch.map_or(LeaderEpoch::NONE, |batch| batch.header.leader_epoch);
        Ok(FoundRecord {
            timestamp: Millis::NONE,
            offset,
            leader_epoch,
        })
    }

    /// Number of the first segment from `from` on that begins below `up_to` and has a record of
    /// `timestamp` or later.
    fn segment_reaching(
        &self,
        from: usize,
        timestamp: Millis,
        up_to: Offset,
    ) -> Result<Option<usize>, StorageError> {
        // A second time only where the first one was led by a wrong claim.
        loop {
            let sealed = self.sealed.first_reaching(from, timestamp)?;
            let number = sealed.unwrap_or(from.max(self.sealed.len()));
            if number > self.sealed.len() || self.base_offset(number) >= up_to {
                return Ok(None);
            }
            let Some(segment) = self.sealed.get(number) else {
                let reaches = self.active.max_timestamp.timestamp >= timestamp;
                return Ok(reaches.then_some(number));
            };
            if segment.bears_claim()? {
                return Ok(Some(number));
            }
        }
    }

    /// The largest timestamp from the log start on, and the last offset of the first batch that
    /// has it.
    fn newest(&self) -> Result<TimestampOffset, ReadError> {
        let first = self.segment_number(self.log_start_offset);
        let of_first = match self.sealed.get(first) {
            Some(segment) => segment.max_timestamp()?,
            None => self.active.max_timestamp,
        };
        let mut newest = of_first;
        if of_first.offset < self.log_start_offset {
            // Its record was deleted, and those behind it in the segment were not.
            newest = self.max_timestamp_left(first)?;
        }
        for later in [self.sealed.newest(first + 1)?, self.active.max_timestamp] {
            if first < self.sealed.len() && later.timestamp > newest.timestamp {
                newest = later;
            }
        }
        Ok(newest)
    }

    /// The largest timestamp in the segment from the log start on.
    fn max_timestamp_left(&self, number: usize) -> Result<TimestampOffset, ReadError> {
        let segment = self.segment(number)?;
        let start = segment.position_before(self.log_start_offset)?;
        let mut max = TimestampOffset::NONE;
        segment.walk(start, |header| {
            let (timestamp, offset) = (header.max_timestamp, header.last_offset());
            if offset >= self.log_start_offset && timestamp > max.timestamp {
                max = TimestampOffset { timestamp, offset };
            }
            false
        })?;
        Ok(max)
    }

    /// Where the walk to the first batch begins that reaches `timestamp`.
    fn first_position(
        &self,
        number: usize,
        segment: &SegmentRef,
        timestamp: Millis,
    ) -> Result<u64, ReadError> {
        let times = self.times(number)?;
        let below = |entry: TimeEntry| entry.timestamp < timestamp.0;
        let reaching = times.partition_point(below)?;
        let by_time = if self.is_bad_time(segment, &times, reaching)? {
            0
        } else if reaching < times.len() {
            let offset = segment.base_offset.0 + i64::from(times.get(reaching)?.relative_offset);
            segment.position_before(Offset(offset))?
        } else {
            // Only the part of the active segment behind its last entry reaches so far.
            segment.position_before(Offset(i64::MAX))?
        };
        Ok(by_time.max(segment.position_before(self.log_start_offset)?))
    }

    /// Whether the log contradicts the entry `reaching` of a sealed segment's time index, or the
    /// one before it: between them they bound the answer.
    fn is_bad_time(
        &self,
        segment: &SegmentRef,
        times: &IndexView<TimeEntry>,
        reaching: usize,
    ) -> Result<bool, ReadError> {
        let Some(sealed) = &segment.sealed else {
            return Ok(false);
        };
        for number in reaching.saturating_sub(1)..times.len().min(reaching + 1) {
            let entry = times.get(number)?;
            let offset = Offset(segment.base_offset.0 + i64::from(entry.relative_offset));
            let batch = segment.find_batch(offset)?;
            if batch.is_none_or(|batch| batch.header.max_timestamp.0 != entry.timestamp) {
                sealed.on_bad_time(times, entry);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first record of a batch at `from` or behind whose timestamp `is_it` accepts.
    pub(super) fn first_in_batch(
        &self,
        segment: &SegmentRef,
        at: &BatchAt,
        from: Offset,
        is_it: impl Fn(Millis) -> bool,
    ) -> Result<Option<FoundRecord>, ReadError> {
        let leader_epoch = at.header.leader_epoch;
        let bytes = segment.read_batch(at)?;
        let records =
            BatchView::parse(&bytes).and_then(|batch| batch.records(LOOKUP_UNPACKED_MAX_BYTES));
        let Ok(records) = records else {
            // The broker never looked inside: what a client put there is no failure of ours.
            let offset = at.header.base_offset.max(from);
            let timestamp = at.header.max_timestamp;
            return Ok(Some(FoundRecord {
                timestamp,
                offset,
                leader_epoch,
            }));
        };
        let found = records
            .iter()
            .map_while(Result::ok)
            .find(|record| record.offset >= from && is_it(record.timestamp));
        Ok(found.map(|record| FoundRecord {
            timestamp: record.timestamp,
            offset: record.offset,
            leader_epoch,
        }))
    }
}
