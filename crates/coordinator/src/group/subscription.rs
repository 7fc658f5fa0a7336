//! What the members of a generation subscribe to.
//!
//! Input: what the members said in the chosen protocol, if that is the consumer protocol. Output:
//! the topics, whose offsets neither expire nor may be deleted then.
//!
//! Invariant: what a client says of itself may be anything. What cannot be read makes the topics
//! unknown, which keeps every offset.
//!
//! Source: `ConsumerProtocol` of Kafka 4.1.1: each version begins with the fields of version 0.

use std::collections::BTreeSet;

use bytes::Bytes;
use skein_protocol::messages::consumer_protocol::ConsumerProtocolSubscription;
use skein_protocol::{DecodeError, Decoder, Message, Str};

use super::Group;

impl Group {
    /// The topics of the present members; `None` if they cannot be told.
    pub(super) fn read_subscriptions(&self) -> Option<BTreeSet<Str>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol_name.as_ref());
            for topic in topics_of(&metadata).ok()? {
                if !topics.contains(&topic) {
                    topics.insert(topic.detached());
                }
            }
        }
        Some(topics)
    }

    /// Whether a member may be reading the topic.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    pub(super) fn knows_subscriptions(&self) -> bool {
        self.subscribed_topics.is_some()
    }
}

fn topics_of(metadata: &Bytes) -> Result<Vec<Str>, DecodeError> {
    let mut d = Decoder::new(metadata);
    let _version = d.i16()?;
    let subscription = ConsumerProtocolSubscription::decode(&mut d, 0)?;
    Ok(subscription.topics)
}
