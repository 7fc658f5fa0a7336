//! A record to be written, and where it went.
//!
//! Input: the program's bytes. Output: bounds for the accumulator, and the record's place in the
//! end.

use bytes::Bytes;
use skein_record::Header;
use skein_types::{Millis, Offset, PartitionIndex, TopicName, TopicPartition};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::ClientError;
use crate::producer::batch::{Ack, Settled};

/// Bytes of a record beside its key, value and headers, at most: length, attributes, two deltas,
/// and the lengths of key, value and headers.
const RECORD_OVERHEAD_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
/// Bytes of the two lengths of a header, at most.
const HEADER_OVERHEAD_MAX: usize = 5 + 5;

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: TopicName,
    /// `None` leaves it to the partitioner.
    pub partition: Option<PartitionIndex>,
    /// `None` is the time of `send`.
    pub timestamp: Option<Millis>,
    /// Records with the same key keep their order.
    pub key: Option<Bytes>,
    /// `None` is a tombstone: on a compacted topic it deletes the key.
    pub value: Option<Bytes>,
    /// In this order; a name may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl ProducerRecord {
    /// A record with a value and nothing else.
    #[must_use]
    pub fn new(topic: TopicName, value: impl Into<Bytes>) -> Self {
        Self {
            topic,
            partition: None,
            timestamp: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// Bytes that the record takes in a batch, at most; a batch has a header beside.
    #[must_use]
    pub fn size_max(&self) -> usize {
        let bytes = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| {
            HEADER_OVERHEAD_MAX
                .saturating_add(name.len())
                .saturating_add(bytes(value))
        });
        headers.fold(
            RECORD_OVERHEAD_MAX
                .saturating_add(bytes(&self.key))
                .saturating_add(bytes(&self.value)),
            usize::saturating_add,
        )
    }

    pub(crate) fn borrowed_headers(&self) -> Vec<Header<'_>> {
        let headers = self.headers.iter().map(|(key, value)| Header {
            key,
            value: value.as_deref(),
        });
        headers.collect()
    }
}

/// Where a record went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset; [`Offset::NONE`] with `acks=0`, and where a broker has forgotten the offset of a
    /// batch that it had written before.
    pub offset: Offset,
    /// Its timestamp: the producer's, or the broker's where the topic says so.
    pub timestamp: Millis,
}

/// A record on its way. Dropping it changes nothing for the record.
#[derive(Debug)]
pub struct Delivery {
    pub(crate) outcome: watch::Receiver<Option<Settled>>,
    pub(crate) partition: TopicPartition,
    pub(crate) index: u32,
    pub(crate) timestamp: Millis,
}

impl Delivery {
    /// Whether [`Delivery::wait`] returns at once.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.outcome.borrow().is_some() || self.outcome.has_changed().is_err()
    }

    /// Waits until [`Delivery::wait`] returns at once. May be cancelled.
    pub async fn settled(&mut self) {
        // Where the producer has gone, that is the outcome.
        let _ = self.outcome.wait_for(Option::is_some).await;
    }

    /// Waits until the record is written, or has failed for good.
    ///
    /// # Errors
    /// Why it was not written, or that it is unknown whether it was.
    pub async fn wait(self) -> Result<RecordMetadata, ClientError> {
        self.wait_timed().await.0
    }

    /// As [`Delivery::wait`], and when that was known: earlier than now if it was waited for late.
    pub async fn wait_timed(mut self) -> (Result<RecordMetadata, ClientError>, Instant) {
        let settled = match self.outcome.wait_for(Option::is_some).await {
            Ok(settled) => settled.clone(),
            Err(_) => None,
        };
        match settled {
            None => (Err(ClientError::Closed), Instant::now()),
            Some(Settled { outcome, at }) => (outcome.map(|ack| self.metadata(ack)), at),
        }
    }

    fn metadata(self, ack: Ack) -> RecordMetadata {
        let offset = match ack.base_offset {
            Offset::NONE => Offset::NONE,
            base => Offset(base.0.saturating_add(i64::from(self.index))),
        };
        let timestamp = match ack.log_append_time {
            Millis::NONE => self.timestamp,
            time => time,
        };
        RecordMetadata {
            partition: self.partition,
            offset,
            timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skein_record::{BatchBuilder, Codec, HEADER_BYTES};

    use super::*;

    proptest! {
        #[test]
        fn no_record_takes_more_than_its_bound(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            headers in prop::collection::vec(("[a-z]{0,9}", prop::option::of(0..99_usize)), 0..5),
            timestamps in any::<(i64, i64)>(),
        ) {
            let headers = headers.into_iter().map(|(name, value)| {
                (name, value.map(|bytes| Bytes::from(vec![0; bytes])))
            });
            let record = ProducerRecord {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers.collect(),
                ..ProducerRecord::new(TopicName::new("t").unwrap(), "")
            };
            let mut builder = BatchBuilder::new(Codec::None);
            builder.append(Millis(timestamps.0), None, None, &[]).unwrap();
            let before = builder.size_in_bytes();
            prop_assert!(before <= HEADER_BYTES + RECORD_OVERHEAD_MAX);
            let headers = record.borrowed_headers();
            builder
                .append(
                    Millis(timestamps.1),
                    record.key.as_deref(),
                    record.value.as_deref(),
                    &headers,
                )
                .unwrap();
            prop_assert!(builder.size_in_bytes() - before <= record.size_max());
        }
    }
}
