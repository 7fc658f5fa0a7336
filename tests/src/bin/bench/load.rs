//! The loads of producers at full rate: what is sent, and how.
//!
//! Input: a shape. Output: the loader's arguments, and what people call it.
//!
//! Invariant: loads that differ in one respect from the plain one say so, and in nothing else.

use clap::ValueEnum;

use crate::table;

/// Partitions of a topic where nothing else is said.
pub(crate) const PARTITIONS: i32 = 16;

/// What a producer sends at full rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    /// Of a record's value.
    pub(crate) record_bytes: u32,
    /// Of a batch, at most.
    pub(crate) batch_bytes: u32,
    pub(crate) acks: Acks,
    /// Of the topic.
    pub(crate) partitions: i32,
    pub(crate) codec: Codec,
}

/// When a producer takes a record for written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Acks {
    All,
    Leader,
    None,
}

/// How a producer compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Load {
    /// What producers do by default, but that they do not compress.
    pub(crate) fn plain(record_bytes: u32, batch_bytes: u32) -> Self {
        Self {
            record_bytes,
            batch_bytes,
            acks: Acks::All,
            partitions: PARTITIONS,
            codec: Codec::None,
        }
    }

    /// Whether nothing but the sizes is said.
    pub(crate) fn is_plain(self) -> bool {
        self == Self::plain(self.record_bytes, self.batch_bytes)
    }

    /// Each of `acks`, but the plain one.
    pub(crate) fn of_acks(batch_bytes: u32) -> Vec<Self> {
        let plain = Self::plain(1024, batch_bytes);
        let of = |acks| Self { acks, ..plain };
        [Acks::Leader, Acks::None].map(of).to_vec()
    }

    /// Few partitions and many.
    pub(crate) fn of_partitions(batch_bytes: u32) -> Vec<Self> {
        let plain = Self::plain(1024, batch_bytes);
        let of = |partitions| Self {
            partitions,
            ..plain
        };
        [1, 1_000].map(of).to_vec()
    }

    /// Each codec.
    pub(crate) fn of_codecs(batch_bytes: u32) -> Vec<Self> {
        let plain = Self::plain(1024, batch_bytes);
        let codecs = Codec::value_variants().iter().copied();
        let packing = codecs.filter(|codec| *codec != Codec::None);
        packing.map(|codec| Self { codec, ..plain }).collect()
    }

    /// For people.
    pub(crate) fn name(self) -> String {
        let [record, batch] = [self.record_bytes, self.batch_bytes].map(table::size);
        let mut name = format!("produce {record}, batches up to {batch}");
        match self.acks {
            Acks::All => {}
            acks => name += &format!(", acks={}", acks.value()),
        }
        if self.codec != Codec::None {
            name += &format!(", {}", self.codec.value());
        }
        match self.partitions {
            PARTITIONS => {}
            1 => name += ", 1 partition",
            partitions => name += &format!(", {} partitions", table::number(partitions.into())),
        }
        name
    }

    /// Of its topic; no two loads have the same one.
    pub(crate) fn topic(self) -> String {
        let Self {
            record_bytes,
            batch_bytes,
            partitions,
            ..
        } = self;
        let [acks, codec] = [self.acks.value(), self.codec.value()];
        format!("produce-{record_bytes}-by-{batch_bytes}-{acks}-{partitions}-{codec}")
    }

    /// The loader's arguments; no bytes mean until it is told to stop.
    pub(crate) fn arguments(self, bytes: u64) -> Vec<String> {
        let arguments = [
            argument("-record-bytes", self.record_bytes),
            argument("-batch-bytes", self.batch_bytes),
            argument("-acks", self.acks.value()),
            argument("-codec", self.codec.value()),
            argument("-bytes", bytes),
        ];
        arguments.concat()
    }
}

impl Acks {
    fn value(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Leader => "1",
            Self::None => "0",
        }
    }
}

impl Codec {
    fn value(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// An argument of the loader.
pub(crate) fn argument(name: &str, value: impl ToString) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_loads_share_a_name_or_a_topic() {
        let loads = [
            vec![Load::plain(100, 16_384), Load::plain(1024, 16_384)],
            Load::of_acks(16_384),
            Load::of_partitions(16_384),
            Load::of_codecs(16_384),
        ]
        .concat();
        assert_eq!(loads.len(), 10);
        let names: BTreeSet<_> = loads.iter().map(|load| load.name()).collect();
        let topics: BTreeSet<_> = loads.iter().map(|load| load.topic()).collect();
        assert_eq!((names.len(), topics.len()), (10, 10));
    }

    #[test]
    fn a_name_tells_what_differs_from_the_plain_load() {
        assert_eq!(
            Load::plain(1024, 16_384).name(),
            "produce 1 KiB, batches up to 16 KiB"
        );
        let names = [Load::of_acks, Load::of_partitions, Load::of_codecs];
        let names = names.map(|of| of(16_384)[1].name());
        assert_eq!(
            names.map(|name| name.rsplit(", ").next().unwrap().to_owned()),
            ["acks=0", "1,000 partitions", "snappy"]
        );
    }
}
