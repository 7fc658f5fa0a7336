//! The partitions that a request about a group names: those that are there, and the others.
//!
//! Input: the topics of a request. Output: the request without what is not there, for the group's
//! coordinator; then its codes and those of the others, in the order of the request.
//!
//! Invariant: the work is linear in the request, however often it names a topic.
//!
//! Source: `KafkaApis` of Kafka 4.1.1, which answers for partitions that are not there itself.

use skein_metadata::Image;
use skein_protocol::Str;
use skein_types::{ErrorCode, PartitionIndex};

/// A topic of such a request.
pub(crate) trait NamedTopic {
    /// One of its partitions.
    type Partition;

    fn name(&self) -> &Str;
    fn partitions(&mut self) -> &mut Vec<Self::Partition>;
    fn index(partition: &Self::Partition) -> i32;
}

/// What a request names, and whether it is there.
pub(crate) struct NamedPartitions {
    topics: Vec<(Str, Vec<(i32, bool)>)>,
}

impl NamedPartitions {
    /// Takes out what is not there. A topic without partitions is left out, as Kafka leaves it out.
    pub(crate) fn look_up<T: NamedTopic>(image: &Image, topics: &mut Vec<T>) -> Self {
        let mut named = Vec::with_capacity(topics.len());
        topics.retain_mut(|topic| {
            let known = image.topic_by_name(topic.name());
            let mut partitions = Vec::with_capacity(topic.partitions().len());
            topic.partitions().retain(|partition| {
                let index = T::index(partition);
                let there = known.and_then(|known| known.partition(PartitionIndex(index)));
                partitions.push((index, there.is_some()));
                there.is_some()
            });
            if !partitions.is_empty() {
                named.push((topic.name().clone(), partitions));
            }
            !topic.partitions().is_empty()
        });
        Self { topics: named }
    }

    /// Whether there are some, and none of them is there.
    pub(crate) fn are_all_unknown(&self) -> bool {
        let mut partitions = self.topics.iter().flat_map(|(_, partitions)| partitions);
        !self.topics.is_empty() && partitions.all(|(_, is_there)| !is_there)
    }

    /// What is told of each partition, by its index and code, where `codes` are those of the
    /// partitions that are there, in their order.
    pub(crate) fn with_codes<P>(
        self,
        mut codes: impl Iterator<Item = i16>,
        tell: impl Fn(i32, i16) -> P,
    ) -> impl Iterator<Item = (Str, Vec<P>)> {
        self.topics.into_iter().map(move |(topic, partitions)| {
            let mut code_of = |is_there| match is_there {
                // The coordinator answers for each that it was asked of.
                true => codes.next().unwrap_or(ErrorCode::UnknownServerError.code()),
                false => ErrorCode::UnknownTopicOrPartition.code(),
            };
            let partitions = partitions.into_iter();
            let told = partitions.map(|(index, is_there)| tell(index, code_of(is_there)));
            (topic, told.collect())
        })
    }
}
