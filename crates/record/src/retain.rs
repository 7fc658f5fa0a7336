//! A batch of which some records are left out: what compaction leaves, or what a reader may see.
//!
//! Input: a batch, and which of its records stay. Output: the batch as it was, a smaller one, or
//! nothing.
//!
//! ```text
//!   all stay, no new horizon    the same bytes
//!   some stay                   header │ the same offsets and sequences │ fewer records
//!   none stays                  nothing, or the header alone where the batch must be known of
//! ```
//!
//! The delete horizon takes the place of the base timestamp, and the records' timestamp deltas
//! count from it.
//!
//! Invariants, checked by the tests of this file: base offset, last offset, leader epoch, producer,
//! sequences, codec and timestamp type stay, and so does each remaining record's offset and
//! timestamp; a horizon that is set is never moved.
//!
//! Source: KIP-534; `MemoryRecords.filterTo` of Kafka 4.1.1.

use bytes::{BufMut, BytesMut};
use skein_types::Millis;

use crate::buf::BatchBuf;
use crate::compression::{Codec, compress};
use crate::crc::crc32c;
use crate::error::BatchError;
use crate::header::{
    ATTRIBUTES_AT, BASE_TIMESTAMP_AT, BatchHeader, CRC_AT, HEADER_BYTES, LENGTH_AT,
    LENGTH_PREFIX_BYTES, MAX_TIMESTAMP_AT, RECORDS_COUNT_AT, TimestampType,
};
use crate::record::Record;
use crate::varint::{Cursor, put_varint, put_varlong, varlong_bytes};
use crate::view::{BatchView, RecordSet};

/// How a batch is kept beyond its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// A batch of which no record stays is kept without records.
    pub keeps_empty: bool,
    /// When tombstones and markers may go that get their horizon now.
    pub delete_horizon: Millis,
    /// The batch gets a horizon also without a tombstone: it marks the end of a transaction of
    /// which nothing is left.
    pub sets_horizon: bool,
}

/// What is left of a batch.
#[derive(Debug)]
pub enum Retained {
    /// All of it, byte for byte.
    Unchanged,
    /// This much.
    Changed(BatchBuf),
    /// Nothing.
    Nothing,
}

/// Leaves the records that `stays` accepts. The checksum of `batch` must have been compared: the
/// new one would hide what was wrong.
///
/// # Errors
/// What is wrong with the records, or [`BatchError::Compression`] beyond `max_bytes`.
pub fn retain(
    batch: &BatchView<'_>,
    keeping: Keeping,
    max_bytes: usize,
    stays: impl FnMut(&Record<'_>) -> bool,
) -> Result<Retained, BatchError> {
    let header = batch.header();
    let records = batch.records(max_bytes)?;
    let left = Left::of(&records, stays)?;
    let is_tombstone_left = left.has_tombstone && !header.attributes.is_control();
    let needs_horizon = header.delete_horizon().is_none()
        && !left.records.is_empty()
        && (is_tombstone_left || keeping.sets_horizon);
    let is_complete = left.records.len() == header.records_count.cast_unsigned() as usize;
    match (left.records.is_empty(), is_complete) {
        (true, false) if keeping.keeps_empty => empty(batch).map(Retained::Changed),
        (true, true) if keeping.keeps_empty => Ok(Retained::Unchanged),
        (true, _) => Ok(Retained::Nothing),
        (false, true) if !needs_horizon => Ok(Retained::Unchanged),
        (false, _) => {
            let horizon = needs_horizon.then_some(keeping.delete_horizon);
            rebuild(batch, &left, horizon).map(Retained::Changed)
        }
    }
}

/// Leaves out the records that `is_hidden` accepts, for a reader; `None` if there is none. The
/// batch itself always stays, without records if need be: it moves its reader on. The checksum of
/// `batch` must have been compared, as for [`retain`].
///
/// # Errors
/// What is wrong with the records, or [`BatchError::Compression`] beyond `max_bytes`.
pub fn leave_out(
    batch: &BatchView<'_>,
    max_bytes: usize,
    is_hidden: impl Fn(&Record<'_>) -> bool,
) -> Result<Option<BatchBuf>, BatchError> {
    let records = batch.records(max_bytes)?;
    let mut is_any_hidden = false;
    let left = Left::of(&records, |record| {
        let is_hidden = is_hidden(record);
        is_any_hidden |= is_hidden;
        !is_hidden
    })?;
    match (is_any_hidden, left.records.is_empty()) {
        (false, _) => Ok(None),
        (true, true) => empty(batch).map(Some),
        (true, false) => rebuild(batch, &left, None).map(Some),
    }
}

/// The records that stay.
#[derive(Default)]
struct Left<'a> {
    /// As stored, length included.
    records: Vec<&'a [u8]>,
    has_tombstone: bool,
    max_timestamp: Option<Millis>,
}

impl<'a> Left<'a> {
    fn of(
        records: &'a RecordSet<'_>,
        mut stays: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let mut rest = records.iter();
        let mut left = Self::default();
        loop {
            let before = rest.unread();
            let Some(record) = rest.next().transpose()? else {
                return Ok(left);
            };
            if stays(&record) {
                let bytes = &before[..before.len() - rest.unread().len()];
                left.add(bytes, &record);
            }
        }
    }

    fn add(&mut self, bytes: &'a [u8], record: &Record<'_>) {
        self.records.push(bytes);
        self.has_tombstone |= record.value.is_none();
        self.max_timestamp = self.max_timestamp.max(Some(record.timestamp));
    }
}

fn rebuild(
    batch: &BatchView<'_>,
    left: &Left<'_>,
    horizon: Option<Millis>,
) -> Result<BatchBuf, BatchError> {
    let header = batch.header();
    let base_timestamp = horizon.unwrap_or(header.base_timestamp);
    let shift = header.base_timestamp.0.wrapping_sub(base_timestamp.0);
    let mut plain = Vec::with_capacity(left.records.iter().map(|record| record.len()).sum());
    for record in &left.records {
        if shift == 0 {
            plain.extend_from_slice(record);
        } else {
            put_shifted(&mut plain, record, shift).ok_or(BatchError::TooLarge {
                bytes: record.len(),
                records: 1,
            })?;
        }
    }
    let codec = header.codec()?;
    let max_timestamp = match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => left.max_timestamp.unwrap_or(header.max_timestamp),
    };
    let changed = BatchHeader {
        attributes: match horizon {
            Some(_) => header.attributes.with_delete_horizon(),
            None => header.attributes,
        },
        base_timestamp,
        max_timestamp,
        records_count: i32::try_from(left.records.len()).unwrap_or(i32::MAX),
        ..*header
    };
    if codec == Codec::None {
        return assemble(batch, &changed, &plain);
    }
    let mut packed = Vec::with_capacity(batch.payload().len());
    compress(codec, &plain, &mut packed)
        .map_err(|source| BatchError::Compression { codec, source })?;
    assemble(batch, &changed, &packed)
}

/// The batch without records: it still tells of its offsets and of its producer.
fn empty(batch: &BatchView<'_>) -> Result<BatchBuf, BatchError> {
    let header = batch.header();
    let changed = BatchHeader {
        attributes: header
            .attributes
            .with_codec(Codec::None)
            .without_delete_horizon(),
        base_timestamp: Millis::NONE,
        records_count: 0,
        ..*header
    };
    assemble(batch, &changed, &[])
}

/// A batch with the fields of `changed` that compaction changes, and these records.
fn assemble(
    batch: &BatchView<'_>,
    changed: &BatchHeader,
    payload: &[u8],
) -> Result<BatchBuf, BatchError> {
    let size = HEADER_BYTES + payload.len();
    let Ok(length) = i32::try_from(size - LENGTH_PREFIX_BYTES) else {
        return Err(BatchError::TooLarge {
            bytes: size,
            records: changed.records_count.cast_unsigned() as usize,
        });
    };
    let mut bytes = BytesMut::with_capacity(size);
    bytes.put_slice(&batch.as_slice()[..HEADER_BYTES]);
    bytes.put_slice(payload);
    let mut set = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    set(LENGTH_AT, &length.to_be_bytes());
    set(ATTRIBUTES_AT, &changed.attributes.0.to_be_bytes());
    set(BASE_TIMESTAMP_AT, &changed.base_timestamp.0.to_be_bytes());
    set(MAX_TIMESTAMP_AT, &changed.max_timestamp.0.to_be_bytes());
    set(RECORDS_COUNT_AT, &changed.records_count.to_be_bytes());
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    BatchBuf::new(bytes)
}

/// Writes a record whose timestamp delta is larger by `shift`; `None` if it is no record, or too
/// long for one.
fn put_shifted(out: &mut Vec<u8>, record: &[u8], shift: i64) -> Option<()> {
    let mut cursor = Cursor::new(record);
    cursor.varint()?;
    let attributes = cursor.byte()?;
    let delta = cursor.varlong()?.wrapping_add(shift);
    let rest = cursor.rest();
    let body = 1 + varlong_bytes(delta) + rest.len();
    put_varint(out, i32::try_from(body).ok()?);
    out.push(attributes);
    put_varlong(out, delta);
    out.extend_from_slice(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skein_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

    use super::*;
    use crate::builder::BatchBuilder;

    const MAX_BYTES: usize = 1 << 20;
    const HORIZON: Millis = Millis(90_000_000);

    fn batch(codec: Codec, values: &[Option<u8>]) -> BatchBuf {
        let mut builder = BatchBuilder::new(codec);
        builder.set_base_offset(Offset(70));
        builder.set_leader_epoch(LeaderEpoch(3));
        builder.set_producer(ProducerId(7), ProducerEpoch(1), Sequence(40));
        for (number, value) in values.iter().enumerate() {
            let timestamp = Millis(5_000 - 11 * i64::try_from(number).unwrap());
            let key = [u8::try_from(number).unwrap()];
            let value = value.map(|value| vec![value; 40]);
            builder
                .append(timestamp, Some(&key), value.as_deref(), &[])
                .unwrap();
        }
        builder.build().unwrap()
    }

    fn keeping(keeps_empty: bool) -> Keeping {
        Keeping {
            keeps_empty,
            delete_horizon: HORIZON,
            sets_horizon: false,
        }
    }

    type Told = Vec<(Offset, Millis, Vec<u8>, Option<Vec<u8>>)>;

    fn told(batch: &BatchView<'_>) -> Told {
        batch.check_crc().unwrap();
        let records = batch.records(MAX_BYTES).unwrap();
        let records = records.iter().map(|record| {
            let record = record.unwrap();
            (
                record.offset,
                record.timestamp,
                record.key.unwrap().to_vec(),
                record.value.map(<[u8]>::to_vec),
            )
        });
        records.collect()
    }

    proptest! {
        #[test]
        fn what_stays_is_what_it_was(
            codec in prop::sample::select(Codec::ALL.to_vec()),
            values in prop::collection::vec(prop::option::of(any::<u8>()), 1..30),
            stays in prop::collection::vec(any::<bool>(), 30),
            keeps_empty: bool,
        ) {
            let original = batch(codec, &values);
            let keep = |record: &Record<'_>| {
                stays[usize::try_from(record.offset.0 - 70).unwrap()]
            };
            let all = told(&original.view());
            let expected: Told = all
                .into_iter()
                .filter(|record| stays[usize::try_from(record.0.0 - 70).unwrap()])
                .collect();
            let result = retain(&original.view(), keeping(keeps_empty), MAX_BYTES, keep).unwrap();
            let has_tombstone = expected.iter().any(|record| record.3.is_none());
            match result {
                Retained::Nothing => prop_assert!(expected.is_empty() && !keeps_empty),
                Retained::Unchanged => {
                    prop_assert!(expected.len() == values.len() && !has_tombstone);
                }
                Retained::Changed(left) => {
                    prop_assert_eq!(&told(&left.view()), &expected);
                    prop_assert!(!expected.is_empty() || keeps_empty);
                    let (header, before) = (left.header(), original.header());
                    prop_assert_eq!(header.delete_horizon(), has_tombstone.then_some(HORIZON));
                    prop_assert_eq!(header.base_offset, before.base_offset);
                    prop_assert_eq!(header.last_offset(), before.last_offset());
                    prop_assert_eq!(header.leader_epoch, before.leader_epoch);
                    prop_assert_eq!(header.producer_id, before.producer_id);
                    prop_assert_eq!(header.last_sequence(), before.last_sequence());
                    let max = expected.iter().map(|record| record.1).max();
                    prop_assert_eq!(header.max_timestamp, max.unwrap_or(before.max_timestamp));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_reader_sees_all_but_what_is_hidden(
            codec in prop::sample::select(Codec::ALL.to_vec()),
            values in prop::collection::vec(prop::option::of(any::<u8>()), 1..30),
            hidden in prop::collection::vec(any::<bool>(), 30),
        ) {
            let original = batch(codec, &values);
            let is_hidden = |offset: Offset| hidden[usize::try_from(offset.0 - 70).unwrap()];
            let all = told(&original.view());
            let count = all.len();
            let expected: Told = all.into_iter().filter(|record| !is_hidden(record.0)).collect();
            let left = leave_out(&original.view(), MAX_BYTES, |record| is_hidden(record.offset));
            let Some(left) = left.unwrap() else {
                prop_assert_eq!(expected.len(), count);
                return Ok(());
            };
            prop_assert!(expected.len() < count);
            prop_assert_eq!(&told(&left.view()), &expected);
            let (header, before) = (left.header(), original.header());
            prop_assert_eq!(header.delete_horizon(), None, "tombstones get none from readers");
            prop_assert_eq!(header.base_offset, before.base_offset);
            prop_assert_eq!(header.last_offset(), before.last_offset());
            prop_assert_eq!(header.leader_epoch, before.leader_epoch);
            prop_assert_eq!(header.producer_id, before.producer_id);
            prop_assert_eq!(header.last_sequence(), before.last_sequence());
        }
    }

    #[test]
    fn a_horizon_that_is_set_stays_and_is_lost_with_the_last_record() {
        let original = batch(Codec::Zstd, &[None, Some(1), None]);
        let all = |_: &Record<'_>| true;
        let Retained::Changed(first) =
            retain(&original.view(), keeping(false), MAX_BYTES, all).unwrap()
        else {
            panic!("no horizon was set");
        };
        let later = Keeping {
            delete_horizon: Millis(HORIZON.0 + 1),
            ..keeping(true)
        };
        let again = retain(&first.view(), later, MAX_BYTES, all).unwrap();
        assert!(matches!(again, Retained::Unchanged), "{again:?}");
        let second = retain(&first.view(), later, MAX_BYTES, |record| {
            record.offset > Offset(70)
        });
        let Retained::Changed(second) = second.unwrap() else {
            panic!("a record went");
        };
        assert_eq!(second.header().delete_horizon(), Some(HORIZON));
        assert_eq!(told(&second.view()), told(&original.view())[1..]);
        let none = retain(&second.view(), later, MAX_BYTES, |_| false).unwrap();
        let Retained::Changed(none) = none else {
            panic!("nothing is left");
        };
        assert_eq!(none.header().delete_horizon(), None);
        assert_eq!(none.as_slice().len(), HEADER_BYTES);
        // And once more: what is empty stays so.
        let none = retain(&none.view(), later, MAX_BYTES, all).unwrap();
        assert!(matches!(none, Retained::Unchanged), "{none:?}");
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let original = batch(Codec::Gzip, &[Some(1); 200]);
        let refused = retain(&original.view(), keeping(false), 1_000, |_| true);
        assert!(matches!(refused, Err(BatchError::Compression { .. })));
    }
}
