//! The records that a topic hides from its readers (`redacted.records`).
//!
//! Input: the key's value, `partition:offset` with commas between. Output: for each partition the
//! hidden offsets in their order.
//!
//! Invariants, checked by the tests of this file:
//! - a record has one way to be written: no sign, no leading zero. Else SUBTRACT would miss what
//!   APPEND has added in another spelling;
//! - what a partition hides is sorted, each offset once;
//! - an item that is none hides nothing, and takes no other item with it: reading never fails, and
//!   a record that was hidden by another version stays hidden.
//!
//! Source: own design. It is a mark, not a deletion: the log keeps the bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use skein_types::{Offset, PartitionIndex};

/// The topic key that holds the list.
pub const REDACTED_RECORDS: &str = "redacted.records";

/// Records that one topic hides at most. Their list is one string of Kafka's protocol, which has at
/// most 32,767 bytes, and a record may take 31 of them, its comma included.
pub const REDACTED_RECORDS_MAX: usize = 1_024;

/// A record by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedactedRecord {
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset in it.
    pub offset: Offset,
}

impl RedactedRecord {
    /// Reads `partition:offset`; `None` where the text is not exactly what printing it gives.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, offset) = text.split_once(':')?;
        let record = Self {
            partition: PartitionIndex(partition.parse().ok()?),
            offset: Offset(offset.parse().ok()?),
        };
        let is_there = record.partition.0 >= 0 && record.offset >= Offset::ZERO;
        (is_there && record.to_string() == text).then_some(record)
    }
}

impl fmt::Display for RedactedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition.0, self.offset.0)
    }
}

/// The records that a topic hides, by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedactedRecords(BTreeMap<PartitionIndex, Arc<RedactedOffsets>>);

impl RedactedRecords {
    /// Reads the key's value.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let items = text.split(',').map(str::trim);
        let mut records: Vec<_> = items.filter_map(RedactedRecord::parse).collect();
        records.sort_unstable();
        records.dedup();
        let of_partition = records.chunk_by(|one, next| one.partition == next.partition);
        Self(
            of_partition
                .filter_map(|records| {
                    let offsets = records.iter().map(|record| record.offset).collect();
                    let partition = records.first()?.partition;
                    Some((partition, Arc::new(RedactedOffsets(offsets))))
                })
                .collect(),
        )
    }

    /// What a partition hides; `None` if that is nothing.
    #[must_use]
    pub fn of(&self, partition: PartitionIndex) -> Option<Arc<RedactedOffsets>> {
        self.0.get(&partition).cloned()
    }

    /// The largest partition that hides something.
    #[must_use]
    pub fn last_partition(&self) -> Option<PartitionIndex> {
        self.0.keys().next_back().copied()
    }

    /// How many records are hidden.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(|offsets| offsets.0.len()).sum()
    }

    /// Whether no record is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every hidden record, in the order of partitions and offsets.
    pub fn iter(&self) -> impl Iterator<Item = RedactedRecord> {
        self.0.iter().flat_map(|(partition, offsets)| {
            let record = |offset: &Offset| RedactedRecord {
                partition: *partition,
                offset: *offset,
            };
            offsets.0.iter().map(record)
        })
    }
}

/// The offsets that a partition hides; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactedOffsets(Vec<Offset>);

impl RedactedOffsets {
    /// Whether the offset is hidden.
    #[must_use]
    pub fn has(&self, offset: Offset) -> bool {
        self.0.binary_search(&offset).is_ok()
    }

    /// Those of a range, in their order.
    #[must_use]
    pub fn within(&self, range: Range<Offset>) -> &[Offset] {
        let position = |end: Offset| self.0.partition_point(|offset| *offset < end);
        let end = position(range.end);
        &self.0[position(range.start).min(end)..end]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_is_written_in_one_way() {
        let record = RedactedRecord {
            partition: PartitionIndex(3),
            offset: Offset(70),
        };
        assert_eq!(RedactedRecord::parse("3:70"), Some(record));
        let largest = format!("{}:{}", i32::MAX, i64::MAX);
        assert!(RedactedRecord::parse(&largest).is_some());
        assert_eq!(largest.len() + 1, 31, "the limit of the list counts on it");
        const { assert!(REDACTED_RECORDS_MAX * 31 < 32_767) };
        for text in [
            "",
            ":",
            "3",
            "3:",
            ":70",
            "-1:70",
            "3:-1",
            "03:70",
            "3:070",
            "+3:70",
            "3:+70",
            "3: 70",
            " 3:70",
            "3:70:1",
            "3:7O",
            "2147483648:0",
            "0:9223372036854775808",
        ] {
            assert_eq!(RedactedRecord::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn partitions_are_told_apart_and_what_is_no_record_hides_nothing() {
        let records = RedactedRecords::read("1:5, 0:9,1:3,later-form,0:9,-1:4,");
        let told: Vec<_> = records.iter().map(|record| record.to_string()).collect();
        assert_eq!(told, ["0:9", "1:3", "1:5"]);
        assert_eq!((records.len(), records.is_empty()), (3, false));
        assert_eq!(records.last_partition(), Some(PartitionIndex(1)));
        assert_eq!(records.of(PartitionIndex(2)), None);
        assert!(RedactedRecords::read("").is_empty());
    }

    proptest! {
        #[test]
        fn what_lies_within_a_range_is_found(
            offsets in prop::collection::vec(0..40_i64, 1..20),
            start in -2..42_i64,
            end in -2..42_i64,
        ) {
            let text: Vec<_> = offsets.iter().map(|offset| format!("0:{offset}")).collect();
            let records = RedactedRecords::read(&text.join(","));
            let found = records.of(PartitionIndex(0)).unwrap();
            let mut expected: Vec<_> =
                offsets.iter().copied().filter(|one| (start..end).contains(one)).map(Offset).collect();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(found.has(Offset(start)), offsets.contains(&start));
            prop_assert_eq!(found.within(Offset(start)..Offset(end)), &expected);
        }
    }
}
