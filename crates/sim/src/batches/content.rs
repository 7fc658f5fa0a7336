//! The records of a batch, one after the other.
//!
//! Input: a batch and its number. Output: what its records are, again and again the same.
//!
//! Without keys the first value begins with the batch's number. With keys each record bears a
//! header with the number and its own place: compaction may leave any of them.
//!
//! Invariant: a batch's content follows from its number and from nothing else.
//!
//! Source: none.

use skein_env::sim::SimRng;
use skein_record::Record;
use skein_types::Millis;

use super::{Batch, BatchId};

/// The header that names a record with a key.
pub(super) const NAME_HEADER: &str = "name";

/// One record with a key in so many is a tombstone.
const TOMBSTONE_ONE_IN: u32 = 5;

/// A record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) timestamp: Millis,
    pub(crate) key: Option<u32>,
    /// `None`: a tombstone.
    pub(crate) value: Option<&'a [u8]>,
}

/// The records of a batch.
pub(super) struct Content {
    rng: SimRng,
    id: BatchId,
    batch: Batch,
    is_first: bool,
    value: Vec<u8>,
}

impl Content {
    pub(super) fn new(id: BatchId, batch: &Batch) -> Self {
        Self {
            rng: SimRng::new(id.0),
            id,
            batch: *batch,
            is_first: true,
            value: Vec::new(),
        }
    }

    pub(super) fn next_record(&mut self) -> Told<'_> {
        let (rng, batch) = (&mut self.rng, &self.batch);
        let spread = i64::try_from(rng.below(u64::from(batch.timestamp_spread) + 1));
        let distance = spread.unwrap_or(0);
        let length = rng.below(u64::from(batch.value_max) + 1);
        self.value.clear();
        self.value.resize(usize::try_from(length).unwrap_or(0), 0);
        rng.fill(&mut self.value);
        let is_first = std::mem::take(&mut self.is_first);
        let timestamp = match is_first {
            true => batch.base_timestamp,
            false => Millis(batch.base_timestamp.0 + distance),
        };
        if batch.keys == 0 {
            if is_first {
                self.value.splice(0..0, self.id.0.to_le_bytes());
            }
            return Told {
                timestamp,
                key: None,
                value: Some(&self.value),
            };
        }
        let key = rng.below(u64::from(batch.keys));
        let is_tombstone = rng.chance(TOMBSTONE_ONE_IN);
        Told {
            timestamp,
            key: u32::try_from(key).ok(),
            value: (!is_tombstone).then_some(&self.value),
        }
    }
}

/// The header's value for the record at the place `index`.
pub(super) fn name(id: BatchId, index: u32) -> [u8; 12] {
    let mut name = [0; 12];
    name[..8].copy_from_slice(&id.0.to_le_bytes());
    name[8..].copy_from_slice(&index.to_le_bytes());
    name
}

/// Which record with a key this is.
pub(super) fn named(record: &Record<'_>) -> Option<(BatchId, u32)> {
    let mut headers = record.headers.clone();
    let header = headers.find(|header| header.key == NAME_HEADER.as_bytes())?;
    let name = header.value?;
    let (id, index) = (name.first_chunk::<8>()?, name.last_chunk::<4>()?);
    (name.len() == 12).then(|| {
        let id = BatchId(u64::from_le_bytes(*id));
        (id, u32::from_le_bytes(*index))
    })
}
