//! Records of one partition that travel together.
//!
//! Input: records, later a place in the producer's sequence. Output: the bytes of one batch, and
//! one outcome for all of its records.
//!
//! Invariants:
//! - once sealed, the bytes are the same in every attempt, so that a broker knows a duplicate;
//! - a batch gets another sequence only if it certainly was not written (checked in
//!   [`Batch::unseal`]);
//! - every batch has exactly one outcome: [`Batch::finish`] takes it by value.
//!
//! Source: KIP-98 (idempotence).

use bytes::{Bytes, BytesMut};
use skein_record::{BatchBuf, BatchBuilder, BatchError, Codec, Compressor, HEADER_BYTES, Header};
use skein_types::{Millis, Offset, ProducerEpoch, ProducerId, Sequence, TopicPartition};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::ClientError;
use crate::producer::record::{Delivery, ProducerRecord};

/// What became of a batch.
pub(crate) type Outcome = Result<Ack, ClientError>;

/// An outcome, and when it was known.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    pub(crate) at: Instant,
}

/// A batch that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Offset of the first record; −1 if unknown.
    pub(crate) base_offset: Offset,
    /// The broker's time, where the topic has it; −1 otherwise.
    pub(crate) log_append_time: Millis,
}

/// Who a producer is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
}

/// A batch's place in what a producer sends to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) identity: Identity,
    pub(crate) base_sequence: Sequence,
}

/// Records of one partition that travel together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Batches are numbered as they begin; within a partition that is the order of their records.
    pub(crate) ordinal: u64,
    pub(crate) partition: TopicPartition,
    pub(crate) created: Instant,
    /// Bytes of the producer's memory that it holds.
    pub(crate) charged: usize,
    pub(crate) place: Option<Place>,
    /// It was sent, and a broker may have written it.
    pub(crate) may_be_written: bool,
    /// How often it was sent in vain.
    pub(crate) failures: u32,
    /// What the last attempt came to.
    pub(crate) last_error: Option<ClientError>,
    codec: Codec,
    records_count: u32,
    content: Content,
    outcome: watch::Sender<Option<Settled>>,
}

#[derive(Debug)]
enum Content {
    Open(BatchBuilder),
    Sealed(Bytes),
}

impl Batch {
    pub(crate) fn new(
        ordinal: u64,
        partition: TopicPartition,
        codec: Codec,
        created: Instant,
    ) -> Self {
        Self {
            ordinal,
            partition,
            created,
            charged: 0,
            place: None,
            may_be_written: false,
            failures: 0,
            last_error: None,
            codec,
            records_count: 0,
            content: Content::Open(BatchBuilder::new(codec)),
            outcome: watch::Sender::new(None),
        }
    }

    /// How many records there are.
    pub(crate) fn records_count(&self) -> u32 {
        self.records_count
    }

    /// Bytes so far, before compression; of a sealed batch, its bytes.
    pub(crate) fn size_in_bytes(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.size_in_bytes(),
            Content::Sealed(bytes) => bytes.len(),
        }
    }

    /// Whether a record of so many bytes may join. The first one always may.
    pub(crate) fn has_room(&self, record_bytes: usize, batch_size: usize) -> bool {
        let is_open = matches!(self.content, Content::Open(_)) && self.place.is_none();
        is_open
            && (self.records_count == 0
                || self.size_in_bytes().saturating_add(record_bytes) <= batch_size)
    }

    /// Adds a record.
    pub(crate) fn append(
        &mut self,
        record: &ProducerRecord,
        timestamp: Millis,
    ) -> Result<Delivery, BatchError> {
        let Content::Open(builder) = &mut self.content else {
            // The caller has asked `has_room`; an empty refusal is better than a lost record.
            return Err(BatchError::TooLarge {
                bytes: 0,
                records: 0,
            });
        };
        let headers = record.borrowed_headers();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append(timestamp, key, value, &headers)?;
        let index = self.records_count;
        self.records_count += 1;
        self.charged = self.charged.saturating_add(record.size_max());
        Ok(Delivery {
            outcome: self.outcome.subscribe(),
            partition: self.partition.clone(),
            index,
            timestamp,
        })
    }

    /// The batch's bytes: compressed and checksummed the first time, the same ones afterwards.
    pub(crate) fn seal(&mut self, compressor: &mut Compressor) -> Result<Bytes, BatchError> {
        let content = std::mem::replace(&mut self.content, Content::Sealed(Bytes::new()));
        let bytes = match content {
            Content::Sealed(bytes) => bytes,
            Content::Open(mut builder) => {
                if let Some(place) = self.place {
                    let Identity {
                        producer_id,
                        producer_epoch,
                    } = place.identity;
                    builder.set_producer(producer_id, producer_epoch, place.base_sequence);
                }
                builder.build_with(compressor)?.freeze()
            }
        };
        self.content = Content::Sealed(bytes.clone());
        Ok(bytes)
    }

    /// Takes the batch's place away, so that it can get another.
    ///
    /// # Panics
    /// If the batch may have been written: under another sequence it would be written twice.
    pub(crate) fn unseal(&mut self) -> Result<(), BatchError> {
        assert!(
            !self.may_be_written,
            "a batch that may be written keeps its sequence"
        );
        self.place = None;
        let Content::Sealed(bytes) = &self.content else {
            return Ok(());
        };
        let batch = BatchBuf::new(BytesMut::from(&bytes[..]))?;
        let mut builder = BatchBuilder::new(self.codec);
        // These are our own records; their memory has been charged.
        for record in batch.view().records(usize::MAX)?.iter() {
            let record = record?;
            let headers = record.headers.clone().map(|header| Header {
                key: std::str::from_utf8(header.key).unwrap_or_default(),
                value: header.value,
            });
            let headers: Vec<_> = headers.collect();
            builder.append(record.timestamp, record.key, record.value, &headers)?;
        }
        self.content = Content::Open(builder);
        Ok(())
    }

    /// Tells everybody who waits. Returns the bytes of memory that are free now.
    pub(crate) fn finish(self, outcome: Outcome) -> usize {
        // Nobody may be interested.
        let at = Instant::now();
        let _ = self.outcome.send(Some(Settled { outcome, at }));
        self.charged
    }

    /// Bytes of a batch without records.
    pub(crate) const OVERHEAD: usize = HEADER_BYTES;
}

#[cfg(test)]
mod tests {
    use skein_types::{PartitionIndex, TopicName};

    use super::*;

    fn place(producer_epoch: i16, base_sequence: i32) -> Place {
        Place {
            identity: Identity {
                producer_id: ProducerId(7),
                producer_epoch: ProducerEpoch(producer_epoch),
            },
            base_sequence: Sequence(base_sequence),
        }
    }

    fn batch(codec: Codec) -> Batch {
        let topic = TopicName::new("t").unwrap();
        let partition = TopicPartition {
            topic: topic.clone(),
            partition: PartitionIndex(0),
        };
        let mut batch = Batch::new(0, partition, codec, Instant::now());
        for value in ["one", "two"] {
            let mut record = ProducerRecord::new(topic.clone(), value);
            record.headers.push(("name".into(), None));
            batch.append(&record, Millis(5)).unwrap();
        }
        batch
    }

    #[test]
    fn bytes_stay_the_same_until_the_batch_gets_another_place() {
        for codec in Codec::ALL {
            let mut batch = batch(codec);
            batch.place = Some(place(0, 3));
            let first = batch.seal(&mut Compressor::default()).unwrap();
            assert_eq!(batch.seal(&mut Compressor::default()).unwrap(), first);
            assert!(!batch.has_room(0, usize::MAX));

            batch.unseal().unwrap();
            batch.place = Some(place(1, 0));
            let second = BatchBuf::new(BytesMut::from(
                &batch.seal(&mut Compressor::default()).unwrap()[..],
            ))
            .unwrap();
            second.view().check_crc().unwrap();
            assert_eq!(second.header().producer_epoch, ProducerEpoch(1));
            assert_eq!(second.header().base_sequence, Sequence(0));
            let first = BatchBuf::new(BytesMut::from(&first[..])).unwrap();
            assert_eq!(first.header().base_sequence, Sequence(3));
            let (first, second) = (first.view(), second.view());
            let (first, second) = (first.records(999).unwrap(), second.records(999).unwrap());
            let records = |set: &skein_record::RecordSet<'_>| {
                set.iter()
                    .map(|record| format!("{:?}", record.unwrap()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(records(&first), records(&second));
        }
    }

    #[test]
    #[should_panic(expected = "keeps its sequence")]
    fn a_batch_that_may_be_written_keeps_its_sequence() {
        let mut batch = batch(Codec::None);
        batch.place = Some(place(0, 0));
        batch.seal(&mut Compressor::default()).unwrap();
        batch.may_be_written = true;
        let _ = batch.unseal();
    }
}
