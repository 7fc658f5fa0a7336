//! Every batch that a run ever made, and how its bytes are told.
//!
//! Input: the wishes of producers; bytes that a consumer got. Output: batches to send; the name of
//! the batch that the bytes are, if they are one, to the last byte.
//!
//! A batch's content follows from its number: the first record begins with it, and everything else
//! is drawn from it. So a reader can compare every byte without a copy of what was sent. Most
//! batches come back as they were sent, which a fingerprint tells without unpacking them.
//!
//! Invariant: no two batches of a run are equal, and no part of one is a batch.
//!
//! Source: none.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use skein_env::sim::SimRng;
use skein_record::{BatchBuilder, BatchView, Codec};
use skein_types::{Millis, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::event::PartitionId;

/// Bytes at the start of a batch's first value: its number.
const NAME_BYTES: usize = 8;

/// The largest batch after decompression, in bytes.
const UNPACKED_MAX: usize = 4 * 1024 * 1024;

/// The number of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchId(pub(crate) u64);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {}", self.0)
    }
}

/// Who made a batch, for idempotence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// The producer's id.
    pub(crate) id: ProducerId,
    /// Its epoch.
    pub(crate) epoch: ProducerEpoch,
}

/// What a batch is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Where it goes.
    pub(crate) partition: PartitionId,
    /// How many records it has.
    pub(crate) records: u32,
    /// The longest value, in bytes.
    pub(crate) value_max: u32,
    /// Timestamp of its first record.
    pub(crate) base_timestamp: Millis,
    /// How far the timestamps of the others lie from it, at most.
    pub(crate) timestamp_spread: u32,
    /// How it is compressed.
    pub(crate) codec: Codec,
    /// The `acks` with which it is sent.
    pub(crate) acks: i16,
    /// Producer and first sequence; `None` for plain producers.
    pub(crate) origin: Option<(Identity, Sequence)>,
}

impl Batch {
    /// Offset after its last record, when its first is at `base_offset`.
    pub(crate) fn end(&self, base_offset: Offset) -> Offset {
        Offset(base_offset.0 + i64::from(self.records))
    }
}

/// All batches of a run.
#[derive(Default)]
pub(crate) struct Batches {
    batches: Vec<Batch>,
    /// Bytes of each, as far as they were encoded.
    sizes: Vec<u64>,
    /// Of each, as far as they were encoded.
    fingerprints: BTreeMap<u64, BatchId>,
}

impl Batches {
    /// Adds a batch, and gives its number and its bytes, as a producer sends them.
    pub(crate) fn make(&mut self, batch: Batch) -> (BatchId, Bytes) {
        let id = BatchId(self.batches.len() as u64);
        self.batches.push(batch);
        let bytes = self.encode(id);
        self.sizes.push(bytes.len() as u64);
        if let Ok(view) = BatchView::parse(&bytes) {
            self.fingerprints.insert(fingerprint(&view), id);
        }
        (id, bytes)
    }

    /// The size of a batch, in bytes.
    pub(crate) fn size_in_bytes(&self, id: BatchId) -> u64 {
        self.sizes[usize::try_from(id.0).unwrap_or(usize::MAX)]
    }

    /// The batch of a number that this table gave.
    pub(crate) fn get(&self, id: BatchId) -> &Batch {
        &self.batches[usize::try_from(id.0).unwrap_or(usize::MAX)]
    }

    fn encode(&self, id: BatchId) -> Bytes {
        let batch = self.get(id);
        let mut builder = BatchBuilder::new(batch.codec);
        if let Some((identity, sequence)) = batch.origin {
            builder.set_producer(identity.id, identity.epoch, sequence);
        }
        let mut content = Content::new(id, batch);
        for _ in 0..batch.records {
            let (timestamp, value) = content.next_record();
            if let Err(error) = builder.append(timestamp, None, Some(value), &[]) {
                panic!("{id} cannot be built: {error}");
            }
        }
        match builder.build() {
            Ok(built) => built.freeze(),
            Err(error) => panic!("{id} cannot be built: {error}"),
        }
    }

    /// Which batch of `partition` these bytes are.
    ///
    /// # Errors
    /// How they differ from every batch that was sent there.
    pub(crate) fn identify(
        &self,
        partition: PartitionId,
        view: &BatchView<'_>,
    ) -> Result<BatchId, String> {
        view.check_crc().map_err(|error| error.to_string())?;
        if let Some(id) = self.fingerprints.get(&fingerprint(view))
            && self.get(*id).partition == partition
        {
            return Ok(*id);
        }
        let records = view
            .records(UNPACKED_MAX)
            .map_err(|error| error.to_string())?;
        let first = records.iter().next().ok_or("it has no record")?;
        let first = first.map_err(|error| error.to_string())?;
        let name = first
            .value
            .and_then(|value| value.first_chunk::<NAME_BYTES>());
        let id = BatchId(u64::from_le_bytes(
            *name.ok_or("its first record has no name")?,
        ));
        if id.0 >= self.batches.len() as u64 {
            return Err(format!("nobody ever made {id}"));
        }
        let batch = self.get(id);
        let header = view.header();
        let (identity, sequence) = batch.origin.unwrap_or((
            Identity {
                id: ProducerId::NONE,
                epoch: ProducerEpoch::NONE,
            },
            Sequence::NONE,
        ));
        let differs = |what: &str| Err(format!("it is {id} with another {what}"));
        if batch.partition != partition {
            return Err(format!("it is {id}, of another partition"));
        }
        if i64::from(header.records_count) != i64::from(batch.records) {
            return differs("number of records");
        }
        if (header.producer_id, header.producer_epoch) != (identity.id, identity.epoch) {
            return differs("producer");
        }
        if header.base_sequence != sequence {
            return differs("sequence");
        }
        let mut content = Content::new(id, batch);
        for (index, record) in records.iter().enumerate() {
            let record = record.map_err(|error| error.to_string())?;
            let (timestamp, value) = content.next_record();
            if record.value != Some(value) {
                return differs(&format!("value of record {index}"));
            }
            if record.timestamp != timestamp {
                return differs(&format!("timestamp of record {index}"));
            }
            if record.offset.0 != header.base_offset.0 + index as i64 {
                return differs(&format!("offset of record {index}"));
            }
        }
        Ok(id)
    }

    /// The timestamps of a batch's records.
    pub(crate) fn timestamps(&self, id: BatchId) -> impl Iterator<Item = Millis> + '_ {
        let batch = self.get(id);
        let mut content = Content::new(id, batch);
        (0..batch.records).map(move |_| content.next_record().0)
    }
}

/// A hash over all of a batch but what the broker writes into it: base offset and leader epoch.
fn fingerprint(view: &BatchView<'_>) -> u64 {
    const LEADER_EPOCH: std::ops::Range<usize> = 12..16;
    const BASE_OFFSET_END: usize = 8;
    let (head, rest) = view.as_slice().split_at(LEADER_EPOCH.end);
    let length = &head[BASE_OFFSET_END..LEADER_EPOCH.start];
    [length]
        .into_iter()
        .chain(rest.chunks(8))
        .fold(0, |hash: u64, part| {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            (hash.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
}

/// The records of a batch, one after the other.
struct Content {
    rng: SimRng,
    id: BatchId,
    value_max: u32,
    base_timestamp: Millis,
    timestamp_spread: u32,
    is_first: bool,
    value: Vec<u8>,
}

impl Content {
    fn new(id: BatchId, batch: &Batch) -> Self {
        Self {
            rng: SimRng::new(id.0),
            id,
            value_max: batch.value_max,
            base_timestamp: batch.base_timestamp,
            timestamp_spread: batch.timestamp_spread,
            is_first: true,
            value: Vec::new(),
        }
    }

    fn next_record(&mut self) -> (Millis, &[u8]) {
        let spread = i64::try_from(self.rng.below(u64::from(self.timestamp_spread) + 1));
        let distance = spread.unwrap_or(0);
        let length = self.rng.below(u64::from(self.value_max) + 1);
        self.value.clear();
        self.value.resize(usize::try_from(length).unwrap_or(0), 0);
        self.rng.fill(&mut self.value);
        if std::mem::take(&mut self.is_first) {
            self.value.splice(0..0, self.id.0.to_le_bytes());
            return (self.base_timestamp, &self.value);
        }
        (Millis(self.base_timestamp.0 + distance), &self.value)
    }
}
