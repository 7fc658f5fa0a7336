//! Records inside of a batch.
//!
//! Input: the uncompressed records of a batch. Output: each record as slices into them, without
//! copies.
//!
//! ```text
//!   length │ attributes │ timestamp │ offset │ key length, │ value length, │ headers count,
//!   varint │ 1 byte     │ delta     │ delta  │ key         │ value         │ then each one's
//!          │            │ varlong   │ varint │ (−1: null)  │ (−1: null)    │ key and value
//! ```
//!
//! Invariants, checked in [`Records::next`]: a record ends where its length says, its offset lies
//! in the batch's range and above the one before, there are as many as the header says, and nothing
//! follows.
//!
//! Source: the Kafka protocol guide, "Record".

use skein_types::{Millis, Offset};

use crate::error::BatchError;
use crate::header::{BatchHeader, TimestampType};
use crate::varint::Cursor;

/// One record; its bytes belong to the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// Its own timestamp, or the batch's time of append.
    pub timestamp: Millis,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in the producer's order.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// The name; UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// The value, if any.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record; they have been checked, so the iterator cannot fail.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    remaining: u32,
}

/// The records of a batch, in offset order; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    cursor: Cursor<'a>,
    index: u32,
    next_delta: i32,
    done: bool,
}

impl<'a> Records<'a> {
    /// Iterates over `payload`, the uncompressed records of the batch with `header`.
    #[must_use]
    pub const fn new(header: BatchHeader, payload: &'a [u8]) -> Self {
        Self {
            header,
            cursor: Cursor::new(payload),
            index: 0,
            next_delta: 0,
            done: false,
        }
    }

    /// The bytes of the records that were not passed yet.
    pub(crate) const fn unread(&self) -> &'a [u8] {
        self.cursor.rest()
    }

    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let length = self.cursor.varint().ok_or("its length is cut off")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let body = self
            .cursor
            .take(length)
            .ok_or("it is longer than its batch")?;
        let mut body = Cursor::new(body);
        body.byte().ok_or("its attributes are missing")?;
        let timestamp_delta = body.varlong().ok_or("its timestamp is cut off")?;
        let offset_delta = body.varint().ok_or("its offset is cut off")?;
        if offset_delta < self.next_delta || offset_delta > self.header.last_offset_delta {
            return Err("its offset does not follow the one before");
        }
        // Past i32::MAX there is no further offset: any next record is refused above.
        self.next_delta = offset_delta.saturating_add(1);
        let key = body.nullable_bytes().ok_or("its key is cut off")?;
        let value = body.nullable_bytes().ok_or("its value is cut off")?;
        let headers = read_headers(&mut body)?;
        if !body.is_empty() {
            return Err("it is shorter than its length");
        }
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => {
                Millis(self.header.base_timestamp.0.wrapping_add(timestamp_delta))
            }
        };
        let offset = Offset(
            self.header
                .base_offset
                .0
                .saturating_add(i64::from(offset_delta)),
        );
        Ok(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let index = self.index;
        let result = if self.index == self.header.records_count.cast_unsigned() {
            self.done = true;
            if self.cursor.is_empty() {
                return None;
            }
            Err("bytes follow the last record")
        } else {
            self.index += 1;
            self.read()
        };
        Some(result.map_err(|reason| {
            self.done = true;
            BatchError::Record { index, reason }
        }))
    }
}

/// Walks once over the headers, so that [`Headers`] need not check again.
fn read_headers<'a>(body: &mut Cursor<'a>) -> Result<Headers<'a>, &'static str> {
    let count = body.varint().ok_or("its header count is cut off")?;
    let remaining = u32::try_from(count).map_err(|_| "its header count is negative")?;
    let headers = Headers {
        cursor: *body,
        remaining,
    };
    for _ in 0..remaining {
        body.nullable_bytes()
            .flatten()
            .ok_or("a header's key is missing")?;
        body.nullable_bytes().ok_or("a header's value is cut off")?;
    }
    Ok(headers)
}

impl<'a> Headers<'a> {
    /// How many headers are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.remaining as usize
    }

    /// Whether none is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let key = self.cursor.nullable_bytes()??;
        let value = self.cursor.nullable_bytes()?;
        Some(RecordHeader { key, value })
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl Eq for Headers<'_> {}
