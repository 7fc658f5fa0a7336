//! Control records: the markers that end a transaction.
//!
//! Input: the record of a control batch, or the outcome of a transaction. Output: the other one.
//!
//! ```text
//!   key:    version i16 = 0 │ type i16: 0 abort, 1 commit
//!   value:  version i16 = 0 │ coordinator epoch i32
//! ```
//!
//! Invariant, checked in [`EndTxnMarker::parse`]: only a whole key and value of version 0 or later
//! make a marker; a later version may have more bytes.
//!
//! Source: KIP-98, "Control messages"; `EndTransactionMarker` of Kafka 4.1.1.

use crate::read::{i16_at, i32_at};
use crate::record::Record;

pub(crate) const KEY_BYTES: usize = 4;
pub(crate) const VALUE_BYTES: usize = 6;
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// Its records must not be read.
    Abort,
    /// Its records count.
    Commit,
}

/// The end of one producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// How it ended.
    pub result: TxnResult,
    /// Epoch of the transaction coordinator that said so.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// The marker in `record`; `None` when it is another kind of control record.
    #[must_use]
    pub fn parse(record: &Record<'_>) -> Option<Self> {
        let key = record.key.filter(|key| key.len() >= KEY_BYTES)?;
        let value = record.value.filter(|value| value.len() >= VALUE_BYTES)?;
        if i16_at(key, 0) < VERSION || i16_at(value, 0) < VERSION {
            return None;
        }
        let result = match i16_at(key, 2) {
            ABORT => TxnResult::Abort,
            COMMIT => TxnResult::Commit,
            _ => return None,
        };
        Some(Self {
            result,
            coordinator_epoch: i32_at(value, 2),
        })
    }

    pub(crate) fn key(self) -> [u8; KEY_BYTES] {
        let kind = match self.result {
            TxnResult::Abort => ABORT,
            TxnResult::Commit => COMMIT,
        };
        let mut key = [0; KEY_BYTES];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&kind.to_be_bytes());
        key
    }

    pub(crate) fn value(self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        value[..2].copy_from_slice(&VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        value
    }
}
