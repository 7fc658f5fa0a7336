//! What one fetch brought of one partition.
//!
//! Input: whole batches, the transactions among them that were aborted, the offset that was asked
//! for.
//! Output: the records that the program may see, one batch at a time.
//!
//! Invariants, checked by the tests below:
//! - no record before the position comes out: a broker sends whole batches, and the first one may
//!   begin before it;
//! - control records never come out; with `read_committed`, neither do those of aborted
//!   transactions;
//! - the position ends behind the last batch, also if that one has no records any more.
//!
//! Source: KIP-98, "Consumer"; `CompletedFetch` of Kafka 4.1.1 for behaviour.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use skein_record::{
    BatchError, BatchHeader, Batches, EndTxnMarker, LENGTH_PREFIX_BYTES, Records, TxnResult,
};
use skein_types::{LeaderEpoch, Millis, Offset, ProducerId, TopicPartition};

use crate::consumer::options::{ConsumerOptions, IsolationLevel};
use crate::error::ClientError;

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Where it is from.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp: the producer's, or the broker's where the topic says so.
    pub timestamp: Millis,
    /// Epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// In the producer's order.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The name; UTF-8 by convention.
    pub key: Bytes,
    /// The value, if any.
    pub value: Option<Bytes>,
}

/// A transaction whose records must not be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: ProducerId,
    pub(crate) first_offset: Offset,
}

/// What one fetch brought of one partition.
#[derive(Debug)]
pub(crate) struct Chunk {
    partition: TopicPartition,
    position: Offset,
    high_watermark: Offset,
    /// Batches that are not decoded yet.
    bytes: Bytes,
    /// By first offset: aborted transactions that have not begun yet.
    aborted: VecDeque<AbortedTransaction>,
    /// Producers in the midst of an aborted transaction.
    aborting: BTreeSet<ProducerId>,
}

impl Chunk {
    pub(crate) fn new(
        partition: TopicPartition,
        position: Offset,
        high_watermark: Offset,
        bytes: Bytes,
        mut aborted: Vec<AbortedTransaction>,
    ) -> Self {
        aborted.sort_by_key(|transaction| transaction.first_offset);
        Self {
            partition,
            position,
            high_watermark,
            bytes,
            aborted: aborted.into(),
            aborting: BTreeSet::new(),
        }
    }

    pub(crate) const fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Offset behind what was decoded.
    pub(crate) const fn position(&self) -> Offset {
        self.position
    }

    pub(crate) const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Bytes that are not decoded yet.
    pub(crate) fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() < LENGTH_PREFIX_BYTES
    }

    /// Decodes the next batch into `records`; `false` when there is none.
    pub(crate) fn next_batch(
        &mut self,
        options: &ConsumerOptions,
        records: &mut VecDeque<ConsumerRecord>,
    ) -> Result<bool, ClientError> {
        let before = records.len();
        let decoded = self.decode_batch(options, records);
        decoded.map_err(|source| {
            records.truncate(before);
            ClientError::Corrupt {
                partition: self.partition.clone(),
                offset: self.position,
                source,
            }
        })
    }

    fn decode_batch(
        &mut self,
        options: &ConsumerOptions,
        records: &mut VecDeque<ConsumerRecord>,
    ) -> Result<bool, BatchError> {
        let bytes = self.bytes.clone();
        let mut batches = Batches::new(&bytes);
        let Some(batch) = batches.next() else {
            return Ok(false);
        };
        let batch = batch?;
        let header = *batch.header();
        self.bytes = bytes.slice_ref(batches.rest());
        if header.last_offset() < self.position {
            return Ok(true);
        }
        if options.check_crcs {
            batch.check_crc()?;
        }
        if self.is_hidden(&header, options.isolation_level) {
            if header.attributes.is_control() {
                let set = batch.records(options.decompressed_batch_max_bytes)?;
                let first = set.iter().next().transpose()?;
                let marker = first.as_ref().and_then(EndTxnMarker::parse);
                if marker.is_some_and(|marker| marker.result == TxnResult::Abort) {
                    self.aborting.remove(&header.producer_id);
                }
            }
        } else {
            let set = batch.records(options.decompressed_batch_max_bytes)?;
            let payload = set.into_bytes(&bytes);
            self.decode_records(header, &payload, records)?;
        }
        self.position = header.next_offset();
        Ok(true)
    }

    /// Whether the program must not see the batch's records.
    fn is_hidden(&mut self, header: &BatchHeader, level: IsolationLevel) -> bool {
        while let Some(begun) = self
            .aborted
            .pop_front_if(|transaction| transaction.first_offset <= header.last_offset())
        {
            self.aborting.insert(begun.producer_id);
        }
        let is_aborted = header.attributes.is_transactional()
            && self.aborting.contains(&header.producer_id)
            && level == IsolationLevel::ReadCommitted;
        is_aborted || header.attributes.is_control()
    }

    fn decode_records(
        &self,
        header: BatchHeader,
        payload: &Bytes,
        records: &mut VecDeque<ConsumerRecord>,
    ) -> Result<(), BatchError> {
        let shared = |bytes: &[u8]| payload.slice_ref(bytes);
        for record in Records::new(header, payload) {
            let record = record?;
            if record.offset < self.position {
                continue;
            }
            let headers = record.headers.map(|header| RecordHeader {
                key: shared(header.key),
                value: header.value.map(shared),
            });
            records.push_back(ConsumerRecord {
                partition: self.partition.clone(),
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch: header.leader_epoch,
                key: record.key.map(shared),
                value: record.value.map(shared),
                headers: headers.collect(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
