//! Entries of the transaction index: which transactions of a segment were aborted.
//!
//! Input: what [`crate::CompletedTxn`] says of an aborted transaction, or the bytes of a
//! `.txnindex` file. Output: the other one, and the transactions that a fetch has to name.
//!
//! ```text
//!   0          2             10             18            26                   34
//!   ├──────────┼─────────────┼──────────────┼─────────────┼────────────────────┤
//!   │version 0 │ producer id │ first offset │ last offset │ last stable offset │
//!   └──────────┴─────────────┴──────────────┴─────────────┴────────────────────┘
//! ```
//!
//! Invariants, checked in [`AbortedTxn::decode`]: version 0; a first offset below the last one, as
//! a marker comes behind what it ends.
//!
//! Source: `AbortedTxn` and `TransactionIndex` of Kafka 4.1.1.

use skein_types::{Offset, ProducerId};
use thiserror::Error;

use crate::read::{array_at, i16_at, i64_at};

/// Bytes of an entry.
pub const ABORTED_TXN_BYTES: usize = 34;
const VERSION: i16 = 0;

/// One aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was appended: nothing below it was still undecided.
    pub last_stable_offset: Offset,
}

/// Bytes that are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AbortedTxnError {
    /// A version of the future, or garbage.
    #[error("version {version} of a transaction index entry is unknown")]
    Version {
        /// The version field.
        version: i16,
    },
    /// The marker does not stand behind the transaction.
    #[error("aborted transaction from {first_offset} to {last_offset}")]
    Range {
        /// The first offset field.
        first_offset: Offset,
        /// The last offset field.
        last_offset: Offset,
    },
}

impl AbortedTxn {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; ABORTED_TXN_BYTES] {
        let mut bytes = [0; ABORTED_TXN_BYTES];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        bytes[2..10].copy_from_slice(&self.producer_id.0.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.first_offset.0.to_be_bytes());
        bytes[18..26].copy_from_slice(&self.last_offset.0.to_be_bytes());
        bytes[26..].copy_from_slice(&self.last_stable_offset.0.to_be_bytes());
        bytes
    }

    /// The entry in `bytes`.
    ///
    /// # Errors
    /// [`AbortedTxnError`].
    pub fn decode(bytes: &[u8; ABORTED_TXN_BYTES]) -> Result<Self, AbortedTxnError> {
        let version = i16_at(bytes, 0);
        if version != VERSION {
            return Err(AbortedTxnError::Version { version });
        }
        let entry = Self {
            producer_id: ProducerId(i64_at(bytes, 2)),
            first_offset: Offset(i64_at(bytes, 10)),
            last_offset: Offset(i64_at(bytes, 18)),
            last_stable_offset: Offset(i64_at(bytes, 26)),
        };
        if entry.first_offset < Offset::ZERO || entry.first_offset >= entry.last_offset {
            return Err(AbortedTxnError::Range {
                first_offset: entry.first_offset,
                last_offset: entry.last_offset,
            });
        }
        Ok(entry)
    }

    /// Every entry of a file; a cut-off last entry ends it.
    ///
    /// # Errors
    /// Each item's own, as of [`AbortedTxn::decode`].
    pub fn decode_all(bytes: &[u8]) -> impl Iterator<Item = Result<Self, AbortedTxnError>> {
        bytes
            .chunks_exact(ABORTED_TXN_BYTES)
            .map(|entry| Self::decode(&array_at(entry, 0)))
    }
}

/// Appends to `found` the entries of one segment that a fetch of `[fetch_offset, fetch_end)` must
/// name. Returns whether no later segment can hold another one.
///
/// Source: `TransactionIndex.collectAbortedTxns`.
pub fn collect_aborted(
    entries: impl IntoIterator<Item = AbortedTxn>,
    fetch_offset: Offset,
    fetch_end: Offset,
    found: &mut Vec<AbortedTxn>,
) -> bool {
    for entry in entries {
        if entry.last_offset >= fetch_offset && entry.first_offset < fetch_end {
            found.push(entry);
        }
        if entry.last_stable_offset >= fetch_end {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(producer_id: i64, first: i64, last: i64, stable: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id: ProducerId(producer_id),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(stable),
        }
    }

    #[test]
    fn fetch_names_the_transactions_it_overlaps_and_stops_at_a_stable_end() {
        let entries = [
            entry(1, 0, 10, 11),
            entry(2, 5, 15, 12),
            entry(3, 18, 24, 25),
        ];
        let mut found = Vec::new();
        assert!(!collect_aborted(
            entries,
            Offset(0),
            Offset(100),
            &mut found
        ));
        assert_eq!(found, entries);
        found.clear();
        assert!(collect_aborted(entries, Offset(0), Offset(11), &mut found));
        assert_eq!(found, entries[..1]);
        found.clear();
        assert!(collect_aborted(entries, Offset(11), Offset(18), &mut found));
        assert_eq!(found, entries[1..2]);
        found.clear();
        // Of a marker that the fetch begins with, the consumer must know too.
        assert!(collect_aborted(entries, Offset(10), Offset(12), &mut found));
        assert_eq!(found, entries[..2]);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut bytes = entry(1, 2, 3, 4).encode();
        bytes[1] = 1;
        assert_eq!(
            AbortedTxn::decode(&bytes),
            Err(AbortedTxnError::Version { version: 1 })
        );
        for (first, last) in [(3, 2), (3, 3), (0, 0), (-1, 2)] {
            let bytes = entry(1, first, last, 4).encode();
            assert!(matches!(
                AbortedTxn::decode(&bytes),
                Err(AbortedTxnError::Range { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn entries_round_trip(id: i64, first in 0..i64::MAX, length in 1..1_000_i64, stable: i64) {
            let entry = entry(id, first, first.saturating_add(length), stable);
            prop_assert_eq!(AbortedTxn::decode(&entry.encode()), Ok(entry));
        }
    }
}
