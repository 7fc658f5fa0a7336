//! How far readers are behind.
//!
//! Input: for each partition the offset of the first record that is not read. Output: what lies
//! between there and the end, in records, in bytes and in time.
//!
//! ```text
//!   log  ──┼── read ──┼── not read ───────┼── log end
//!                     ▲ oldest     newest ▲        now
//!                     └──────────── behind ─────────┘
//! ```
//!
//! *Behind* is how old the first record is that is not read: what its producer said of it is known
//! to nobody downstream for so long. So it is 0 for who has read all, and it grows while a record
//! waits, whether or not others follow it. Where our clock is late, the newest record tells that.
//!
//! A node of Skein answers from its indexes ([`OffsetSpec::Unread`]). Of other brokers one batch is
//! fetched at the offset, and bytes stay unknown.
//!
//! Invariant: a partition without a leader, or that is gone, has no lag; it fails no other.
//!
//! Source: none for bytes and time; `kafka-consumer-groups` for records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_types::{Millis, Offset, TopicPartition};
use tokio::time::Instant;

use crate::admin::Admin;
use crate::consumer::{Consumer, ConsumerOptions, IsolationLevel, StartAt};
use crate::error::ClientError;
use crate::list_offsets::{FoundOffset, OffsetSpec};

/// How long one look for a first record waits: the next one sees whether the end was reached.
const POLL: Duration = Duration::from_millis(100);

/// Bytes of one partition that a look for its first record asks for; a batch that is larger comes
/// all the same.
const FIRST_RECORD_BYTES: u32 = 16 * 1024;

/// How far a reader of one partition is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// The offset behind the last record that a consumer may read.
    pub log_end_offset: Offset,
    /// From the reader's offset to the log's end; `None` of a reader without an offset.
    pub records: Option<u64>,
    /// Bytes of the batches that are not read, the one in which the reader stands as a whole;
    /// `None` where the broker does not tell.
    pub bytes: Option<u64>,
    /// Timestamp of the first record that is not read.
    pub oldest: Option<Millis>,
    /// The largest timestamp in the log.
    pub newest: Option<Millis>,
}

impl Lag {
    /// How far behind in time; see the head of this file. `None` if the records do not tell.
    #[must_use]
    pub fn behind(&self, now: Millis) -> Option<Millis> {
        if self.records? == 0 {
            return Some(Millis(0));
        }
        let now = now.max(self.newest.unwrap_or(now));
        let behind = now.0.saturating_sub(self.oldest?.0);
        Some(Millis(behind.max(0)))
    }
}

/// Where readers stand; `None` of one that has no offset yet.
pub(crate) type Positions = BTreeMap<TopicPartition, Option<Offset>>;

impl Admin {
    /// How far the reader of each partition is behind. Partitions that are gone or that nobody
    /// leads are left out.
    ///
    /// # Errors
    /// A broker's refusal; that it took too long.
    pub async fn lags(
        &self,
        positions: &BTreeMap<TopicPartition, Option<Offset>>,
    ) -> Result<BTreeMap<TopicPartition, Lag>, ClientError> {
        let topics = self.list_topics().await?;
        let is_led = |partition: &TopicPartition| {
            let topic = topics.get(&partition.topic);
            let known = topic.and_then(|topic| topic.partitions.get(&partition.partition));
            known.is_some_and(|known| known.leader.is_some())
        };
        let led: Positions = positions
            .iter()
            .filter(|(partition, _)| is_led(partition))
            .map(|(partition, position)| (partition.clone(), *position))
            .collect();
        let starts = self.find(&led, |_| OffsetSpec::Earliest).await?;
        let newest = self
            .find(&led, |position| {
                position.map_or(OffsetSpec::MaxTimestamp, OffsetSpec::Unread)
            })
            .await?;
        // Last, so that no record is found behind the end.
        let ends = self.find(&led, |_| OffsetSpec::Latest).await?;
        let mut lags = BTreeMap::new();
        for (partition, position) in &led {
            let (Some(start), Some(end), Some(newest)) = (
                starts.get(partition),
                ends.get(partition),
                newest.get(partition),
            ) else {
                continue;
            };
            let lag = lag_of(*position, start.offset, end.offset, newest);
            lags.insert(partition.clone(), lag);
        }
        self.find_oldest(&led, &newest, &mut lags).await?;
        Ok(lags)
    }

    async fn find(
        &self,
        positions: &Positions,
        spec: impl Fn(Option<Offset>) -> OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, FoundOffset>, ClientError> {
        let wanted = positions
            .iter()
            .map(|(partition, position)| (partition.clone(), spec(*position)))
            .collect();
        self.list_offsets(&wanted, IsolationLevel::ReadUncommitted)
            .await
    }

    /// Reads the first record that is not read, where the broker did not tell of it.
    async fn find_oldest(
        &self,
        positions: &Positions,
        newest: &BTreeMap<TopicPartition, FoundOffset>,
        lags: &mut BTreeMap<TopicPartition, Lag>,
    ) -> Result<(), ClientError> {
        let is_told = |partition| {
            newest
                .get(partition)
                .is_some_and(|one| one.unread.is_some())
        };
        let mut open = BTreeMap::new();
        for (partition, lag) in lags.iter() {
            let position = positions.get(partition).copied().flatten();
            if let Some(position) = position.filter(|_| !is_told(partition)) {
                let from = position.max(lag.log_start_offset);
                if from < lag.log_end_offset {
                    open.insert(partition.clone(), from);
                }
            }
        }
        let options = ConsumerOptions {
            max_poll_records: 1,
            fetch_max_wait: POLL,
            max_partition_fetch_bytes: FIRST_RECORD_BYTES,
            auto_offset_reset: Some(OffsetSpec::Earliest),
            ..ConsumerOptions::default()
        };
        let mut consumer = Consumer::new(Arc::clone(&self.pool), options);
        let begin = open.iter();
        consumer.assign(begin.map(|(one, from)| (one.clone(), StartAt::Offset(*from))));
        let timeout = self.pool.metadata.options.api_timeout;
        let begin = Instant::now();
        while !open.is_empty() {
            for record in consumer.poll(POLL).await? {
                if let Some(lag) = lags.get_mut(&record.partition) {
                    lag.oldest = Some(record.timestamp).filter(|time| *time != Millis::NONE);
                }
                open.remove(&record.partition);
                consumer.unassign(&record.partition);
            }
            // Markers of transactions are passed without a record.
            open.retain(|partition, _| {
                let end = lags.get(partition).map(|lag| lag.log_end_offset);
                consumer.position(partition) < end
            });
            if begin.elapsed() > timeout {
                return Err(ClientError::TimedOut {
                    subject: "reading where the group stands".into(),
                    timeout,
                    last: consumer.last_failure().cloned().map(Box::new),
                });
            }
        }
        Ok(())
    }
}

fn lag_of(position: Option<Offset>, start: Offset, end: Offset, newest: &FoundOffset) -> Lag {
    let records =
        position.map(|position| u64::try_from(end.0.saturating_sub(position.0)).unwrap_or(0));
    let known = |time: Millis| Some(time).filter(|time| *time != Millis::NONE);
    Lag {
        log_start_offset: start,
        log_end_offset: end,
        records,
        bytes: newest.unread.map(|unread| unread.bytes),
        oldest: newest.unread.and_then(|unread| known(unread.timestamp)),
        newest: known(newest.timestamp),
    }
}

#[cfg(test)]
mod tests {
    use skein_types::LeaderEpoch;

    use super::*;
    use crate::list_offsets::Unread;

    fn found(newest: i64, oldest: Option<i64>) -> FoundOffset {
        FoundOffset {
            offset: Offset(9),
            timestamp: Millis(newest),
            leader_epoch: LeaderEpoch(0),
            unread: oldest.map(|oldest| Unread {
                bytes: 100,
                timestamp: Millis(oldest),
            }),
        }
    }

    fn lag(position: Option<i64>, newest: &FoundOffset) -> Lag {
        lag_of(position.map(Offset), Offset(2), Offset(10), newest)
    }

    #[test]
    fn behind_is_the_age_of_the_first_unread_record() {
        let told = lag(Some(4), &found(9_000, Some(4_000)));
        assert_eq!((told.records, told.bytes), (Some(6), Some(100)));
        assert_eq!(told.behind(Millis(12_000)), Some(Millis(8_000)));
        // One record waits like many.
        let one = lag(Some(9), &found(9_000, Some(9_000)));
        assert_eq!(one.behind(Millis(12_000)), Some(Millis(3_000)));
        // A clock that is late does not hide what the records tell.
        assert_eq!(told.behind(Millis(0)), Some(Millis(5_000)));
        assert_eq!(one.behind(Millis(8_000)), Some(Millis(0)));
        // Who has read all is not behind, whatever the clocks say.
        let all = lag(Some(10), &found(9_000, Some(-1)));
        assert_eq!(all.behind(Millis(12_000)), Some(Millis(0)));
        // A reader can be ahead of a log that was cut.
        assert_eq!(lag(Some(12), &found(9_000, Some(-1))).records, Some(0));
    }

    #[test]
    fn what_nobody_tells_is_not_made_up() {
        let none = lag(None, &found(9_000, None));
        assert_eq!(
            (none.records, none.bytes, none.behind(Millis(12_000))),
            (None, None, None)
        );
        let other = lag(Some(4), &found(9_000, None));
        assert_eq!(
            (other.records, other.bytes, other.behind(Millis(12_000))),
            (Some(6), None, None)
        );
    }
}
