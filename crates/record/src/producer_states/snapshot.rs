//! The producer snapshot file, `<offset>.snapshot`.
//!
//! Input: the table, or a file's bytes. Output: the other one. Of each producer only the last batch
//! is kept, so after a restart only that one is known as a duplicate, as in Kafka.
//!
//! ```text
//!   0          2        6           10
//!   ├──────────┼────────┼───────────┼─────────── ─ ─
//!   │version 1 │ CRC-32C│ count     │ entries, 46 bytes each
//!   └──────────┴────────┴───────────┴─────────── ─ ─
//!   entry: producer id 8, epoch 2, last sequence 4, last offset 8, offset delta 4, timestamp 8,
//!          coordinator epoch 4, first offset of its transaction 8 (−1: none)
//!   the CRC covers 6 to the end
//! ```
//!
//! Invariants, checked in [`ProducerStates::load`]: the CRC matches, the count is that of the
//! entries that are there, no producer and no transaction comes twice.
//!
//! Source: `ProducerStateManager.writeSnapshot` and `readSnapshot` of Kafka 4.1.1.

use bytes::BufMut;
use skein_types::{Millis, Offset, ProducerEpoch, ProducerId, Sequence};
use thiserror::Error;

use super::{BatchMetadata, ProducerState, ProducerStates};
use crate::crc::crc32c;
use crate::read::{i16_at, i32_at, i64_at, u32_at};

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const COUNT_AT: usize = 6;
const ENTRIES_AT: usize = 10;
const ENTRY_BYTES: usize = 46;

/// A snapshot file that cannot be used; the table is then rebuilt from an older one and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Not even a header.
    #[error("{have} bytes are too few for a producer snapshot")]
    TooShort {
        /// The bytes there are.
        have: usize,
    },
    /// Another format.
    #[error("version {version} of a producer snapshot is not {VERSION}")]
    Version {
        /// The version field.
        version: i16,
    },
    /// The checksum does not match.
    #[error("stored CRC {stored:#010x} is not the computed {computed:#010x}")]
    Crc {
        /// The CRC field.
        stored: u32,
        /// CRC-32C of what follows it.
        computed: u32,
    },
    /// Another number of entries than the file says.
    #[error("{count} entries in {bytes} bytes")]
    Count {
        /// The count field.
        count: i32,
        /// The bytes of the entries.
        bytes: usize,
    },
    /// A producer that comes twice.
    #[error("producer id {producer_id} comes twice")]
    DuplicateProducer {
        /// Its id.
        producer_id: ProducerId,
    },
    /// Two producers whose transactions begin at the same offset.
    #[error("two transactions begin at offset {first_offset}")]
    DuplicateTxn {
        /// The offset.
        first_offset: Offset,
    },
    /// A batch whose numbers make no sense.
    #[error(
        "last offset {last_offset} of producer id {producer_id} with offset delta {offset_delta}"
    )]
    Batch {
        /// Its producer.
        producer_id: ProducerId,
        /// The last offset field.
        last_offset: Offset,
        /// The offset delta field.
        offset_delta: i32,
    },
}

impl ProducerStates {
    /// The bytes of the snapshot at [`ProducerStates::map_end_offset`]. Take it when every
    /// reservation has been written: the file must not know of batches that are not in the log.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRIES_AT + self.producers.len() * ENTRY_BYTES);
        out.put_i16(VERSION);
        out.put_u32(0);
        out.put_i32(i32::try_from(self.producers.len()).unwrap_or(i32::MAX));
        // As many entries as the count can say; that many producers would not fit into memory.
        for (producer_id, state) in self.producers.iter().take(i32::MAX as usize) {
            let batch = state.last_batch();
            out.put_i64(producer_id.0);
            out.put_i16(state.producer_epoch.0);
            out.put_i32(state.last_sequence().0);
            out.put_i64(batch.map_or(Offset::NONE, |batch| batch.last_offset).0);
            out.put_i32(batch.map_or(0, |batch| batch.offset_delta));
            out.put_i64(state.last_timestamp.0);
            out.put_i32(state.coordinator_epoch);
            out.put_i64(state.current_txn_first_offset.unwrap_or(Offset::NONE).0);
        }
        let crc = crc32c(&out[COUNT_AT..]);
        out[CRC_AT..COUNT_AT].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// The table in the snapshot `bytes`, which was taken at `map_end_offset`. Truncation uses it
    /// too: load the last snapshot at or below the new end, then [`ProducerStates::replay`] what
    /// lies between.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn load(bytes: &[u8], map_end_offset: Offset) -> Result<Self, SnapshotError> {
        let entries = check_header(bytes)?;
        let mut table = Self::starting_at(map_end_offset);
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let (producer_id, state) = read_entry(entry)?;
            if table.producers.contains_key(&producer_id) {
                return Err(SnapshotError::DuplicateProducer { producer_id });
            }
            if let Some(first_offset) = state.current_txn_first_offset
                && table.ongoing.insert(first_offset, producer_id).is_some()
            {
                return Err(SnapshotError::DuplicateTxn { first_offset });
            }
            table.producers.insert(producer_id, state);
        }
        table.check();
        Ok(table)
    }
}

/// The bytes of the entries, as many as the file says.
fn check_header(bytes: &[u8]) -> Result<&[u8], SnapshotError> {
    if bytes.len() < ENTRIES_AT {
        return Err(SnapshotError::TooShort { have: bytes.len() });
    }
    let version = i16_at(bytes, 0);
    if version != VERSION {
        return Err(SnapshotError::Version { version });
    }
    let (stored, computed) = (u32_at(bytes, CRC_AT), crc32c(&bytes[COUNT_AT..]));
    if stored != computed {
        return Err(SnapshotError::Crc { stored, computed });
    }
    let count = i32_at(bytes, COUNT_AT);
    let entries = &bytes[ENTRIES_AT..];
    let expected = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(ENTRY_BYTES));
    if expected != Some(entries.len()) {
        return Err(SnapshotError::Count {
            count,
            bytes: entries.len(),
        });
    }
    Ok(entries)
}

fn read_entry(entry: &[u8]) -> Result<(ProducerId, ProducerState), SnapshotError> {
    let producer_id = ProducerId(i64_at(entry, 0));
    let last_offset = Offset(i64_at(entry, 14));
    let offset_delta = i32_at(entry, 22);
    let timestamp = Millis(i64_at(entry, 26));
    let mut state = ProducerState::default();
    let producer_epoch = ProducerEpoch(i16_at(entry, 8));
    if last_offset >= Offset::ZERO {
        if offset_delta < 0 || i64::from(offset_delta) > last_offset.0 {
            return Err(SnapshotError::Batch {
                producer_id,
                last_offset,
                offset_delta,
            });
        }
        let last_sequence = Sequence(i32_at(entry, 10));
        let batch = BatchMetadata {
            last_sequence,
            last_offset,
            offset_delta,
            timestamp,
        };
        state.add(producer_epoch, batch);
    }
    state.producer_epoch = producer_epoch;
    state.last_timestamp = timestamp;
    state.coordinator_epoch = i32_at(entry, 34);
    let first_offset = Offset(i64_at(entry, 38));
    state.current_txn_first_offset = (first_offset >= Offset::ZERO).then_some(first_offset);
    Ok((producer_id, state))
}
