//! What goes into topics and out of them.
//!
//! Input: batches that were written, answers to fetches. Output: bytes and records of each topic.
//!
//! ```text
//!   topic made ─► counts_of ─► TopicCounts ◄─ its places and replicas add
//!   topic gone ─► forget          ▲
//!                                 └─ read when somebody asks for the metrics
//! ```
//!
//! Invariants, checked by the tests below:
//! - at most [`TOPICS_MAX`] topics are told by name, and those beyond together: what is told stays
//!   bounded, and no count ever goes back;
//! - a topic is told as long as it is there; one that is made again under its name begins at zero;
//! - who counts holds the counts: no look-up, no lock, no allocation.
//!
//! Source: Kafka's `BrokerTopicMetrics`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use skein_types::{TopicId, TopicName};

/// Topics that are told by name.
const TOPICS_MAX: usize = 1_000;

/// Stands for the others. No topic can have this name.
const OTHERS: &str = "(others)";

/// The totals of one topic on this node.
#[derive(Debug, Default)]
pub(crate) struct TopicCounts {
    in_bytes: AtomicU64,
    in_records: AtomicU64,
    out_bytes: AtomicU64,
    out_records: AtomicU64,
}

impl TopicCounts {
    /// Batches were written.
    pub(crate) fn written(&self, bytes: u64, records: u64) {
        self.in_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.in_records.fetch_add(records, Ordering::Relaxed);
    }

    /// Batches are in an answer.
    pub(crate) fn fetched(&self, bytes: u64, records: u64) {
        self.out_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.out_records.fetch_add(records, Ordering::Relaxed);
    }
}

/// The topics on this node.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    named: Mutex<BTreeMap<TopicId, (TopicName, Arc<TopicCounts>)>>,
    others: Arc<TopicCounts>,
}

impl Topics {
    /// Where a topic that has just been made is counted.
    pub(crate) fn counts_of(&self, id: TopicId, name: &TopicName) -> Arc<TopicCounts> {
        let mut named = self.named.lock();
        if named.len() >= TOPICS_MAX && !named.contains_key(&id) {
            return Arc::clone(&self.others);
        }
        let (_, counts) = named.entry(id).or_insert_with(|| {
            let counts = Arc::default();
            (name.clone(), counts)
        });
        Arc::clone(counts)
    }

    /// The topic is gone.
    pub(crate) fn forget(&self, id: TopicId) {
        self.named.lock().remove(&id);
    }

    /// All that is told, in the order of the topics' ids.
    fn told(&self) -> Vec<(String, Arc<TopicCounts>)> {
        let named = self.named.lock();
        let named = named
            .values()
            .map(|(name, counts)| (name.to_string(), Arc::clone(counts)));
        let others = (OTHERS.to_owned(), Arc::clone(&self.others));
        named.chain([others]).collect()
    }
}

/// The topics, read when somebody asks.
#[derive(Debug)]
pub(super) struct TopicsCollector(pub(super) Arc<Topics>);

impl Collector for TopicsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let topics = self.0.told();
        let mut family = |name: &str, help: &str, of: fn(&TopicCounts) -> &AtomicU64| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (topic, counts) in &topics {
                let value = ConstCounter::new(of(counts).load(Ordering::Relaxed));
                value.encode(metric.encode_family(&[("topic", topic.as_str())])?)?;
            }
            Ok::<_, fmt::Error>(())
        };
        family(
            "topic_in_bytes",
            "Bytes of batches written to a topic",
            |counts| &counts.in_bytes,
        )?;
        family("topic_in_records", "Records written to a topic", |counts| {
            &counts.in_records
        })?;
        family(
            "topic_out_bytes",
            "Bytes of a topic's batches in answers to fetches",
            |counts| &counts.out_bytes,
        )?;
        family(
            "topic_out_records",
            "Records of a topic in answers to fetches, estimated where a limit of bytes cuts one",
            |counts| &counts.out_records,
        )
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use skein_types::Uuid;

    use super::*;

    fn id(number: usize) -> TopicId {
        Uuid::from_random((number as u128 + 1).to_be_bytes())
    }

    fn name(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn text(topics: &Arc<Topics>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(TopicsCollector(Arc::clone(topics))));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn topics_beyond_the_limit_are_counted_together_and_no_count_goes_back() {
        let topics = Arc::new(Topics::default());
        for number in 0..TOPICS_MAX {
            topics.counts_of(id(number), &name(&format!("t{number}")));
        }
        let beyond = topics.counts_of(id(TOPICS_MAX), &name("beyond"));
        beyond.written(7, 1);
        // A place is free, and not for the topic that is counted elsewhere already.
        topics.forget(id(3));
        beyond.written(7, 1);
        topics
            .counts_of(id(TOPICS_MAX + 1), &name("next"))
            .fetched(5, 2);
        let text = text(&topics);
        for line in [
            "topic_in_bytes_total{topic=\"(others)\"} 14",
            "topic_out_records_total{topic=\"next\"} 2",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert!(!text.contains("\"beyond\"") && !text.contains("\"t3\""));
        assert_eq!(
            text.matches("topic_in_bytes_total{").count(),
            TOPICS_MAX + 1
        );
    }

    #[test]
    fn a_topic_goes_with_its_counts_and_its_successor_begins_at_zero() {
        let topics = Arc::new(Topics::default());
        let former = topics.counts_of(id(1), &name("orders"));
        former.written(100, 10);
        assert!(text(&topics).contains("topic_in_records_total{topic=\"orders\"} 10"));
        topics.forget(id(1));
        assert!(!text(&topics).contains("orders"));
        topics.counts_of(id(2), &name("orders"));
        // What the former topic still writes is nobody's.
        former.written(100, 10);
        assert!(text(&topics).contains("topic_in_records_total{topic=\"orders\"} 0"));
    }
}
