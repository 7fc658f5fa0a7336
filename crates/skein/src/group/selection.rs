//! Topics and partitions as people name them: `orders`, `orders:0,4-6`.
//!
//! Input: text. Output: what it selects.
//!
//! Invariant: what is typed sizes nothing: ranges stay ranges.

use std::fmt;
use std::ops::RangeInclusive;

use skein_types::{PartitionIndex, TopicName, TopicPartition};

use crate::topic::topic_name;

/// A topic, or some of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// The topic.
    pub(super) topic: TopicName,
    /// Empty for all.
    partitions: Vec<RangeInclusive<i32>>,
}

/// Parses `NAME` or `NAME:0,4-6`.
pub(super) fn selection(text: &str) -> Result<Selection, String> {
    let (name, list) = match text.split_once(':') {
        Some((name, list)) => (name, Some(list)),
        None => (text, None),
    };
    let ranges = list.map(|list| list.split(',').map(range).collect::<Result<_, _>>());
    Ok(Selection {
        topic: topic_name(name)?,
        partitions: ranges.transpose()?.unwrap_or_default(),
    })
}

fn range(text: &str) -> Result<RangeInclusive<i32>, String> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<i32>().ok()).flatten()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!(
            "{text:?} is no partition; write NAME, NAME:0 or NAME:0,4-6"
        )),
    }
}

impl Selection {
    /// Whether it selects the partition.
    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        partition.topic == self.topic && self.has_index(partition.partition)
    }

    fn has_index(&self, index: PartitionIndex) -> bool {
        let mut ranges = self.partitions.iter();
        self.partitions.is_empty() || ranges.any(|range| range.contains(&index.0))
    }

    /// A partition that it names and that a topic of so many partitions does not have.
    pub(super) fn beyond(&self, count: usize) -> Option<PartitionIndex> {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let beyond = self.partitions.iter().find(|range| *range.end() >= count)?;
        Some(PartitionIndex((*beyond.start()).max(count)))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.topic)?;
        for (number, range) in self.partitions.iter().enumerate() {
            let gap = if number == 0 { ':' } else { ',' };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{gap}{first}")?,
                (first, last) => write!(f, "{gap}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_topic_is_named_whole_or_by_partitions() {
        let has = |text: &str, topic: &str, index| {
            selection(text).unwrap().has(&TopicPartition {
                topic: TopicName::new(topic).unwrap(),
                partition: PartitionIndex(index),
            })
        };
        assert!(has("orders", "orders", 0) && has("orders", "orders", 99));
        assert!(!has("orders", "order", 0));
        for (index, is_in) in [(0, true), (1, false), (4, true), (6, true), (7, false)] {
            assert_eq!(has("orders:0,4-6", "orders", index), is_in, "{index}");
        }
        let beyond = |text: &str, count| selection(text).unwrap().beyond(count);
        assert_eq!(beyond("orders", 1), None);
        assert_eq!(beyond("orders:0,4-6", 7), None);
        assert_eq!(beyond("orders:0,4-6", 6), Some(PartitionIndex(6)));
        assert_eq!(beyond("orders:9", 6), Some(PartitionIndex(9)));
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        for text in [
            "",
            ":",
            "a/b",
            "t:",
            "t:x",
            "t:-1",
            "t:3-2",
            "t:1,",
            "t:99999999999",
            "t:+1",
        ] {
            assert!(selection(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_what_was_meant(
            text in "t(:[0-9]{1,3}(-[1-9][0-9]{3})?(,[0-9]{1,3})?)?",
        ) {
            let parsed = selection(&text).unwrap();
            prop_assert_eq!(selection(&parsed.to_string()).unwrap(), parsed);
        }
    }
}
