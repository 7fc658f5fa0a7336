//! Every batch that a run ever made, and how its bytes are told.
//!
//! Input: the wishes of producers; bytes that a consumer got. Output: batches to send; the name of
//! the batch that the bytes are, or are what is left of, to the last byte.
//!
//! A batch's content follows from its number (`content.rs`). So a reader can compare every byte
//! without a copy of what was sent. Most batches come back as they were sent, which a fingerprint
//! tells without unpacking them.
//!
//! Invariant: no two batches of a run are equal, and no part of one is a batch.
//!
//! Source: none.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use skein_record::{BatchBuilder, BatchHeader, BatchView, Codec, Compressor, Header, RecordSet};
use skein_types::{Millis, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::event::{PartitionId, Stamp};
use crate::hidden::Hidden;

mod content;

use content::Content;

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
    /// Its records' keys are below this; 0: they have none.
    pub(crate) keys: u32,
    /// How it is compressed.
    pub(crate) codec: Codec,
    /// The `acks` with which it is sent.
    pub(crate) acks: i16,
    /// Producer and first sequence; `None` for plain producers.
    pub(crate) origin: Option<(Identity, Sequence)>,
}

impl Batch {
    /// Its producer and first sequence, as its header tells them.
    fn origin(&self) -> (ProducerId, ProducerEpoch, Sequence) {
        match self.origin {
            Some((identity, sequence)) => (identity.id, identity.epoch, sequence),
            None => (ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE),
        }
    }

    /// Offset after its last record, when its first is at `base_offset`.
    pub(crate) fn end(&self, base_offset: Offset) -> Offset {
        Offset(base_offset.0 + i64::from(self.records))
    }
}

/// What the bytes of a batch are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identified {
    /// All of a batch.
    Whole(BatchId),
    /// These records of it, by their places.
    Part(BatchId, Vec<u32>),
    /// A header without records.
    Empty,
}

/// What of a partition is hidden from who asked then.
pub(crate) struct Marks<'a> {
    pub(crate) hidden: &'a Hidden,
    pub(crate) partition: PartitionId,
    pub(crate) asked: Stamp,
}

/// A record with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) batch: BatchId,
    /// Its place in the batch.
    pub(crate) index: u32,
    pub(crate) is_tombstone: bool,
}

/// A record but for its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordFacts {
    pub(crate) timestamp: Millis,
    pub(crate) key: Option<u32>,
    pub(crate) is_tombstone: bool,
}

/// All batches of a run.
#[derive(Default)]
pub(crate) struct Batches {
    batches: Vec<Batch>,
    /// What is asked of the records of each all the time.
    facts: Vec<Vec<RecordFacts>>,
    /// Bytes of each.
    sizes: Vec<u64>,
    fingerprints: BTreeMap<u64, BatchId>,
    /// How often each was sent.
    sent: BTreeMap<BatchId, u32>,
    /// The records of each key, in the order in which they were made.
    by_key: BTreeMap<(PartitionId, u32), Vec<Keyed>>,
    compressor: Compressor,
}

impl Batches {
    /// Adds a batch, and gives its number and its bytes, as a producer sends them.
    pub(crate) fn make(&mut self, batch: Batch) -> (BatchId, Bytes) {
        let id = BatchId(self.batches.len() as u64);
        let (bytes, facts) = encode(id, &batch, &mut self.compressor);
        self.batches.push(batch);
        self.sizes.push(bytes.len() as u64);
        if let Ok(view) = BatchView::parse(&bytes) {
            self.fingerprints.insert(fingerprint(&view), id);
        }
        for (index, record) in (0..).zip(&facts) {
            if let Some(key) = record.key {
                let of_key = self.by_key.entry((batch.partition, key));
                of_key.or_default().push(Keyed {
                    batch: id,
                    index,
                    is_tombstone: record.is_tombstone,
                });
            }
        }
        self.facts.push(facts);
        (id, bytes)
    }

    /// Notes that a batch is sent.
    pub(crate) fn note_sent(&mut self, id: BatchId) {
        *self.sent.entry(id).or_default() += 1;
    }

    /// Whether it is in a log once at most.
    pub(crate) fn is_once(&self, id: BatchId) -> bool {
        self.get(id).origin.is_some() || self.sent.get(&id).is_none_or(|times| *times <= 1)
    }

    /// The size of a batch, in bytes.
    pub(crate) fn size_in_bytes(&self, id: BatchId) -> u64 {
        self.sizes[usize::try_from(id.0).unwrap_or(usize::MAX)]
    }

    /// The batch of a number that this table gave.
    pub(crate) fn get(&self, id: BatchId) -> &Batch {
        &self.batches[usize::try_from(id.0).unwrap_or(usize::MAX)]
    }

    /// The records of a key, in the order in which they were made.
    pub(crate) fn of_key(&self, partition: PartitionId, key: u32) -> &[Keyed] {
        let known = self.by_key.get(&(partition, key));
        known.map_or(&[], |places| places)
    }

    /// Whether compaction may ever take the record at the place `index` of a batch: it is a
    /// tombstone, or another one of its key was made. `invariants/last_values_stay.rs` knows when.
    pub(crate) fn may_be_compacted(&self, id: BatchId, index: u32) -> bool {
        let record = self.facts(id)[index as usize];
        let Some(key) = record.key else { return false };
        let is_later =
            |other: &Keyed| other.batch != id || other.index > index || !self.is_once(id);
        let of_key = self.of_key(self.get(id).partition, key);
        record.is_tombstone || of_key.iter().any(is_later)
    }

    /// The same of every record of a batch.
    pub(crate) fn may_all_be_compacted(&self, id: BatchId) -> bool {
        (0..self.get(id).records).all(|index| self.may_be_compacted(id, index))
    }

    fn facts(&self, id: BatchId) -> &[RecordFacts] {
        &self.facts[usize::try_from(id.0).unwrap_or(usize::MAX)]
    }

    /// Which batch of `partition` these bytes are, or are left of. One without its hidden records
    /// is whole.
    ///
    /// # Errors
    /// How they differ from every batch that was sent there; or which record is not hidden.
    pub(crate) fn identify(
        &self,
        partition: PartitionId,
        view: &BatchView<'_>,
        marks: &Marks<'_>,
    ) -> Result<Identified, String> {
        view.check_crc().map_err(|error| error.to_string())?;
        if let Some(id) = self.fingerprints.get(&fingerprint(view))
            && self.get(*id).partition == partition
        {
            let header = view.header();
            let mut offsets = header.base_offset.0..header.next_offset().0;
            return match offsets.find(|offset| marks.must_be(Offset(*offset))) {
                Some(offset) => Err(format!("it is {id} with the hidden record {offset}")),
                None => Ok(Identified::Whole(*id)),
            };
        }
        let records = view
            .records(UNPACKED_MAX)
            .map_err(|error| error.to_string())?;
        let header = view.header();
        if header.records_count == 0 {
            return Ok(Identified::Empty);
        }
        let first = records.iter().next().ok_or("it has no record")?;
        let first = first.map_err(|error| error.to_string())?;
        let id = match content::named(&first) {
            Some((id, _)) => id,
            None => {
                let name = first.value.and_then(|value| value.first_chunk());
                BatchId(u64::from_le_bytes(
                    *name.ok_or("its first record has no name")?,
                ))
            }
        };
        if id.0 >= self.batches.len() as u64 {
            return Err(format!("nobody ever made {id}"));
        }
        self.compare_headers(partition, id, header)?;
        let kept = self.compare_records(id, header.base_offset, &records, marks)?;
        let batch = self.get(id);
        match kept.len() == batch.records as usize {
            true => Ok(Identified::Whole(id)),
            false if batch.keys == 0 => Err(format!("it is {id} with another number of records")),
            false => Ok(Identified::Part(id, kept)),
        }
    }

    /// The places of the records of the batch `id` that are there, or hidden.
    fn compare_records(
        &self,
        id: BatchId,
        base_offset: Offset,
        records: &RecordSet<'_>,
        marks: &Marks<'_>,
    ) -> Result<Vec<u32>, String> {
        let batch = self.get(id);
        let (mut content, mut next) = (Content::new(id, batch), 0);
        let mut kept = Vec::new();
        for record in records {
            let record = record.map_err(|error| error.to_string())?;
            let differs =
                |what: &str, at: String| Err(format!("it is {id} with another {what} at {at}"));
            let index = match batch.keys {
                // Its place is its offset's: what is missing before it must be hidden.
                0 => u32::try_from(record.offset.0 - base_offset.0).unwrap_or(u32::MAX),
                _ => match content::named(&record) {
                    Some((named, index)) if named == id && index >= next => index,
                    named => return differs("name", format!("{named:?} after {next}")),
                },
            };
            if index < next || index >= batch.records {
                return differs("number of records", index.to_string());
            }
            if marks.must_be(record.offset) {
                return Err(format!(
                    "it is {id} with the hidden record {}",
                    record.offset
                ));
            }
            for skipped in next..index {
                content.next_record();
                if marks.may_be(base_offset, skipped) {
                    kept.push(skipped);
                }
            }
            let told = content.next_record();
            next = index + 1;
            if record.value != told.value {
                return differs("value", index.to_string());
            }
            if record.key != told.key.map(u32::to_be_bytes).as_ref().map(|key| &key[..]) {
                return differs("key", index.to_string());
            }
            if record.timestamp != told.timestamp {
                return differs("timestamp", index.to_string());
            }
            if record.offset.0 != base_offset.0 + i64::from(index) {
                return differs("offset", index.to_string());
            }
            kept.push(index);
        }
        let rest = next..batch.records;
        kept.extend(rest.filter(|index| marks.may_be(base_offset, *index)));
        Ok(kept)
    }

    /// Compares what a header tells with the batch `id`.
    fn compare_headers(
        &self,
        partition: PartitionId,
        id: BatchId,
        header: &BatchHeader,
    ) -> Result<(), String> {
        let batch = self.get(id);
        let differs = |what: &str| Err(format!("it is {id} with another {what}"));
        if batch.partition != partition {
            return Err(format!("it is {id}, of another partition"));
        }
        if header.next_offset() != batch.end(header.base_offset) {
            return differs("number of offsets");
        }
        let (producer_id, producer_epoch, sequence) = batch.origin();
        if (header.producer_id, header.producer_epoch) != (producer_id, producer_epoch) {
            return differs("producer");
        }
        if header.base_sequence != sequence {
            return differs("sequence");
        }
        Ok(())
    }

    /// What a batch's records tell, with their places.
    pub(crate) fn records(&self, id: BatchId) -> impl Iterator<Item = (u32, &RecordFacts)> {
        (0..).zip(self.facts(id))
    }

    /// The timestamps of a batch's records.
    pub(crate) fn timestamps(&self, id: BatchId) -> impl Iterator<Item = Millis> + '_ {
        self.facts(id).iter().map(|record| record.timestamp)
    }
}

impl Marks<'_> {
    fn must_be(&self, offset: Offset) -> bool {
        self.hidden.must_be(self.partition, offset, self.asked)
    }

    fn may_be(&self, base_offset: Offset, index: u32) -> bool {
        let offset = Offset(base_offset.0 + i64::from(index));
        self.hidden.may_be(self.partition, offset)
    }
}

/// The bytes of a batch, and what its records tell.
fn encode(id: BatchId, batch: &Batch, compressor: &mut Compressor) -> (Bytes, Vec<RecordFacts>) {
    let mut builder = BatchBuilder::new(batch.codec);
    if let Some((identity, sequence)) = batch.origin {
        builder.set_producer(identity.id, identity.epoch, sequence);
    }
    let mut content = Content::new(id, batch);
    let mut facts = Vec::with_capacity(batch.records as usize);
    for index in 0..batch.records {
        let record = content.next_record();
        facts.push(RecordFacts {
            timestamp: record.timestamp,
            key: record.key,
            is_tombstone: record.value.is_none(),
        });
        let (key, name) = (record.key.map(u32::to_be_bytes), content::name(id, index));
        let header = Header {
            key: content::NAME_HEADER,
            value: Some(&name),
        };
        let headers = key.map_or(&[][..], |_| std::slice::from_ref(&header));
        let key = key.as_ref().map(|key| &key[..]);
        if let Err(error) = builder.append(record.timestamp, key, record.value, headers) {
            panic!("{id} cannot be built: {error}");
        }
    }
    match builder.build_with(compressor) {
        Ok(built) => (built.freeze(), facts),
        Err(error) => panic!("{id} cannot be built: {error}"),
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
