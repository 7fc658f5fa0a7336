//! Batches for readers.
//!
//! Input: the bytes of a fetch response or of a segment. Output: batch after batch, and their
//! records.
//!
//! Invariants: a [`BatchView`] is one whole batch (checked in [`BatchView::parse`] and
//! [`Batches`]); a batch that the end of the bytes cuts off is no error, because a fetch response
//! may be cut anywhere; decompression stops at a bound that the reader gives.
//!
//! Source: the Kafka protocol guide, "Record batch" and "Fetch".

use std::borrow::Cow;

use bytes::Bytes;

use crate::compression::{Codec, decompress};
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::header::{ATTRIBUTES_AT, BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES};
use crate::record::Records;

/// One whole batch in somebody else's buffer.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch that `bytes` begin with; what follows it is left alone. The CRC is not compared.
    ///
    /// # Errors
    /// Those of [`BatchHeader::parse`], and [`BatchError::Size`] when the batch is cut off.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let expected = header.size_in_bytes();
        match bytes.get(..expected) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Size {
                expected,
                actual: bytes.len(),
            }),
        }
    }

    /// `bytes` must be the whole batch of which `header` was parsed.
    pub(crate) const fn of_parsed(header: BatchHeader, bytes: &'a [u8]) -> Self {
        Self { header, bytes }
    }

    /// What the batch says of its records as a whole.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub const fn as_slice(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as stored, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Compares the CRC.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::Crc {
            stored: self.header.crc,
            computed,
        })
    }

    /// The records: in place when they are not compressed, else decompressed to at most
    /// `max_bytes`.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`], [`BatchError::Compression`].
    pub fn records(&self, max_bytes: usize) -> Result<RecordSet<'a>, BatchError> {
        let payload = match self.header.codec()? {
            Codec::None => Cow::Borrowed(self.payload()),
            // A batch that compaction has emptied keeps its codec, and nothing to decompress.
            _ if self.header.records_count == 0 && self.payload().is_empty() => {
                Cow::Borrowed(self.payload())
            }
            codec => Cow::Owned(
                decompress(codec, self.payload(), max_bytes)
                    .map_err(|source| BatchError::Compression { codec, source })?,
            ),
        };
        Ok(RecordSet {
            header: self.header,
            payload,
        })
    }
}

/// The uncompressed records of one batch.
#[derive(Clone, Debug)]
pub struct RecordSet<'a> {
    header: BatchHeader,
    payload: Cow<'a, [u8]>,
}

impl RecordSet<'_> {
    /// The records, in offset order.
    #[must_use]
    pub fn iter(&self) -> Records<'_> {
        Records::new(self.header, &self.payload)
    }

    /// The records' bytes, uncompressed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The records' bytes as shared bytes, for a reader that keeps keys and values: [`Records`]
    /// over them yields slices which `Bytes::slice_ref` turns into handles. `frame` is the buffer
    /// that the batch lies in; uncompressed records stay there, without a copy.
    #[must_use]
    pub fn into_bytes(self, frame: &Bytes) -> Bytes {
        match self.payload {
            Cow::Borrowed(payload) => frame.slice_ref(payload),
            Cow::Owned(payload) => Bytes::from(payload),
        }
    }
}

impl<'a> IntoIterator for &'a RecordSet<'_> {
    type Item = Result<crate::Record<'a>, BatchError>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The whole batches at the start of some bytes; ends after the first error.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Iterates over `bytes`, which begin with a batch.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            failed: false,
        }
    }

    /// What has not been passed yet: after the end, the bytes of a batch that is cut off, or none.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.len() < LENGTH_PREFIX_BYTES {
            return None;
        }
        let result = match BatchView::parse(self.rest) {
            Ok(batch) => {
                self.rest = &self.rest[batch.bytes.len()..];
                Ok(batch)
            }
            // Cut off in the header or in the records: the end, not an error.
            Err(BatchError::TooShort { .. } | BatchError::Size { .. }) => return None,
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        };
        Some(result)
    }
}

#[cfg(test)]
mod tests;
