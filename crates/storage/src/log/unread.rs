//! What lies in front of a reader.
//!
//! Input: the offset of the first record that it has not read, and where what it may read ends.
//! Output: the bytes of the batches up to there, and the first record of them.
//!
//! ```text
//!  log  ──┼────────┼──●─────┼────────┼────────┼──
//!         │           from           up_to
//!         └── bytes: whole batches ──┘
//! ```
//!
//! Invariant: bytes are those that a reader would be sent, so the batch that holds `from` counts as
//! a whole; segments that lie in between are not opened (property test, against a walk).
//!
//! Source: none; Kafka tells lag in records only.

use skein_types::Offset;

use super::time_lookup::FoundRecord;
use super::view::{LogView, ReadError};

/// What a reader has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Bytes of the batches, as they lie in the log.
    pub bytes: u64,
    /// The first record; `None` if there is none. Where the batch has lost the record to
    /// compaction, or cannot be unpacked, its time is the batch's largest.
    pub first: Option<FoundRecord>,
}

impl LogView {
    /// What lies from `from` on, below `up_to`. An offset that the log has lost counts as its
    /// start.
    ///
    /// # Errors
    /// What the disk says.
    pub fn unread(&self, from: Offset, up_to: Offset) -> Result<Unread, ReadError> {
        let from = from.max(self.log_start_offset);
        let up_to = up_to.min(self.log_end_offset);
        let mut unread = Unread::default();
        if from >= up_to {
            return Ok(unread);
        }
        for number in self.segment_number(from)..=self.sealed.len() {
            if self.base_offset(number) >= up_to {
                break;
            }
            if unread.first.is_some()
                && let Some(sealed) = self.sealed.get(number)
                && sealed.end_offset <= up_to
            {
                unread.bytes += sealed.end_position;
                continue;
            }
            let segment = self.segment(number)?;
            let mut start = 0;
            if unread.first.is_none() {
                let Some(batch) = segment.find_batch(from)? else {
                    continue;
                };
                if batch.header.last_offset() >= up_to {
                    break;
                }
                let found = self.first_in_batch(&segment, &batch, from, |_| true)?;
                unread.first = Some(found.unwrap_or(FoundRecord {
                    timestamp: batch.header.max_timestamp,
                    offset: batch.header.last_offset(),
                    leader_epoch: batch.header.leader_epoch,
                }));
                start = batch.position;
            }
            let end = self.end_before(number, &segment, up_to)?;
            unread.bytes += end.saturating_sub(start);
        }
        Ok(unread)
    }
}
