//! Record batches by hand, wrong ones included.
//!
//! Input: records and header fields. Output: the bytes of one batch. Every header field can be set;
//! those left alone are right, the checksum too.
//!
//! ```text
//!  0 base offset          8 length of what follows    12 partition leader epoch
//! 16 magic               17 crc of all from 21        21 attributes
//! 23 last offset delta   27 base timestamp            35 max timestamp
//! 43 producer id         51 producer epoch            53 base sequence
//! 57 record count        61 records
//! ```

use super::Frame;

/// CRC-32C (Castagnoli), bit-reflected polynomial.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const CRC_AT: usize = 17;
const CHECKED_FROM: usize = 21;
const LENGTH_COUNTS_FROM: usize = 12;

/// One record; its offset is its place in the batch.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Relative to the batch's base timestamp, in ms.
    pub timestamp_delta: i64,
    /// `None` is null.
    pub key: Option<Vec<u8>>,
    /// `None` is null.
    pub value: Option<Vec<u8>>,
}

/// A batch to be encoded. `None` means: what is right for the records.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the format's")]
pub struct Batch {
    pub base_offset: i64,
    pub length: Option<i32>,
    pub magic: i8,
    pub crc: Option<u32>,
    pub attributes: i16,
    pub last_offset_delta: Option<i32>,
    pub base_timestamp: i64,
    pub max_timestamp: Option<i64>,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: Option<i32>,
    pub records: Vec<Record>,
}

impl Batch {
    /// A batch of records with these values and no keys, not compressed, now.
    #[must_use]
    pub fn of<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Self {
        let records = values.into_iter().map(|value| Record {
            value: Some(value.as_ref().to_vec()),
            ..Record::default()
        });
        Self {
            base_offset: 0,
            length: None,
            magic: 2,
            crc: None,
            attributes: 0,
            last_offset_delta: None,
            base_timestamp: now_ms(),
            max_timestamp: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: None,
            records: records.collect(),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = i32::try_from(self.records.len()).expect("few records");
        let latest = self
            .records
            .iter()
            .map(|record| record.timestamp_delta)
            .max();
        let max_timestamp = self.base_timestamp + latest.unwrap_or(0);
        let mut frame = Frame::new()
            .i64(self.base_offset)
            .i32(0)
            .i32(-1)
            .i8(self.magic)
            .i32(0)
            .i16(self.attributes)
            .i32(self.last_offset_delta.unwrap_or(count - 1))
            .i64(self.base_timestamp)
            .i64(self.max_timestamp.unwrap_or(max_timestamp))
            .i64(self.producer_id)
            .i16(self.producer_epoch)
            .i32(self.base_sequence)
            .i32(self.record_count.unwrap_or(count));
        for (delta, record) in (0..).zip(&self.records) {
            frame = frame.raw(&encode_record(delta, record));
        }
        let mut bytes = frame.0;
        let length = i32::try_from(bytes.len() - LENGTH_COUNTS_FROM).expect("a small batch");
        bytes[8..12].copy_from_slice(&self.length.unwrap_or(length).to_be_bytes());
        let crc = self.crc.unwrap_or_else(|| crc32c(&bytes[CHECKED_FROM..]));
        bytes[CRC_AT..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

/// The wall clock in ms since 1970.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a clock before the year 292 million")
}

fn encode_record(offset_delta: i64, record: &Record) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, record.timestamp_delta);
    varint(&mut body, offset_delta);
    for field in [&record.key, &record.value] {
        match field {
            None => varint(&mut body, -1),
            Some(bytes) => {
                varint(&mut body, i64::try_from(bytes.len()).expect("short"));
                body.extend_from_slice(bytes);
            }
        }
    }
    varint(&mut body, 0);
    let mut bytes = Vec::new();
    varint(&mut bytes, i64::try_from(body.len()).expect("short"));
    bytes.extend(body);
    bytes
}

/// A zigzag varint.
fn varint(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push((rest & 0x7f) as u8);
}

/// CRC-32C of `bytes`, one bit at a time: slow, and evidently right.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_has_its_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
