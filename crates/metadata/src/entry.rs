//! An entry: what one batch of decisions adds to the quorum's log.
//!
//! Input: records and the decision they were based on. Output: bytes, and the entry again.
//!
//! ```text
//!  envelope(type 100: base, number of records) envelope(record) envelope(record) ...
//! ```
//!
//! Invariants, checked when encoding and when decoding: at most [`ENTRY_RECORDS_MAX`] records and
//! [`ENTRY_MAX_BYTES`] bytes; exactly as many records as announced and nothing behind them.
//!
//! Source: our own format.

use serde::{Deserialize, Serialize};

use crate::envelope::{self, EnvelopeError};
use crate::log_id::LogIdV0;
use crate::{LogId, Record};

/// Largest encoded entry, in bytes.
pub const ENTRY_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Most records in an entry: all partitions of a cluster of the size we design for, and some more.
pub const ENTRY_RECORDS_MAX: usize = 200_000;

/// Envelope type of an entry's head.
const ENTRY: u16 = 100;
const HEAD_MAX_BYTES: usize = 64;
/// What an entry reserves at once for its records; more grows with the records that are there.
const RESERVED_RECORDS: usize = 64;

/// Records that take effect together, if nothing was decided in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last decision in the image that this entry was decided on; `None` for the first.
    pub base: Option<LogId>,
    /// What changes, in order.
    pub records: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct HeadV0 {
    base: Option<LogIdV0>,
    records: u32,
}

impl Entry {
    /// Appends the entry's bytes to `out`; on an error `out` is as before.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] if the entry or one of its records is over its limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let start = out.len();
        let result = self.encode_into(out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let too_large = |length: usize, max| EnvelopeError::TooLarge {
            length: length as u64,
            max,
        };
        let records = u32::try_from(self.records.len())
            .ok()
            .filter(|_| self.records.len() <= ENTRY_RECORDS_MAX)
            .ok_or_else(|| too_large(self.records.len(), ENTRY_RECORDS_MAX))?;
        let start = out.len();
        let head = HeadV0 {
            base: self.base.map(LogIdV0::from),
            records,
        };
        envelope::write(ENTRY, 0, &head, HEAD_MAX_BYTES, out)?;
        for record in &self.records {
            record.encode(out)?;
            if out.len() - start > ENTRY_MAX_BYTES {
                return Err(too_large(out.len() - start, ENTRY_MAX_BYTES));
            }
        }
        Ok(())
    }

    /// The entry whose bytes are exactly `bytes`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENTRY_MAX_BYTES {
            return Err(EnvelopeError::TooLarge {
                length: bytes.len() as u64,
                max: ENTRY_MAX_BYTES,
            });
        }
        let (envelope, mut at) = envelope::read(bytes, HEAD_MAX_BYTES)?;
        let head: HeadV0 = match (envelope.kind, envelope.version) {
            (ENTRY, 0) => envelope.decode()?,
            _ => return Err(envelope.unknown()),
        };
        let count = head.records as usize;
        if count > ENTRY_RECORDS_MAX {
            return Err(envelope.malformed("more records than an entry holds"));
        }
        let mut records = Vec::with_capacity(count.min(RESERVED_RECORDS));
        for _ in 0..count {
            let (record, length) = Record::decode(&bytes[at..])?;
            records.push(record);
            at += length;
        }
        if at != bytes.len() {
            return Err(envelope.malformed("bytes after the last record"));
        }
        Ok(Self {
            base: head.base.map(LogId::from),
            records,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skein_types::Uuid;

    #[test]
    fn head_v0() {
        let entry = Entry {
            base: Some(LogId { term: 1, index: 3 }),
            records: vec![Record::RemoveTopic { id: Uuid([4; 16]) }],
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes).unwrap();
        let (head, record) = bytes.split_at(33);
        let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "64000000150000000101000000000000000300000000000000010000000f6079ee"
        );
        assert_eq!(
            Record::decode(record).unwrap(),
            (entry.records[0].clone(), record.len())
        );
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
    }

    #[test]
    fn too_many_records_are_refused() {
        let record = Record::RemoveTopic { id: Uuid([4; 16]) };
        let entry = Entry {
            base: None,
            records: vec![record; ENTRY_RECORDS_MAX + 1],
        };
        let mut bytes = vec![1];
        assert!(matches!(
            entry.encode(&mut bytes),
            Err(EnvelopeError::TooLarge { .. })
        ));
        assert_eq!(bytes, [1]);
    }

    #[test]
    fn a_count_that_does_not_match_is_refused() {
        let mut bytes = Vec::new();
        let head = HeadV0 {
            base: None,
            records: u32::MAX,
        };
        envelope::write(ENTRY, 0, &head, HEAD_MAX_BYTES, &mut bytes).unwrap();
        assert!(matches!(
            Entry::decode(&bytes),
            Err(EnvelopeError::Malformed { .. })
        ));
        let mut bytes = Vec::new();
        Entry {
            base: None,
            records: vec![],
        }
        .encode(&mut bytes)
        .unwrap();
        bytes.push(0);
        assert!(matches!(
            Entry::decode(&bytes),
            Err(EnvelopeError::Malformed { .. })
        ));
    }
}
