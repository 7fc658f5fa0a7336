//! The records of the metadata log.
//!
//! Input: decisions. Output: their bytes, for ever readable.
//!
//! | type | record | | type | record |
//! |---|---|---|---|---|
//! | 1 | `Cluster` | | 6 | `Topic` |
//! | 2 | `Feature` | | 7 | `RemoveTopic` |
//! | 3 | `Broker` | | 8 | `Partition` |
//! | 4 | `BrokerState` | | 9 | `Config` |
//! | 5 | `RemoveBroker` | | 10 | `ProducerIds` |
//! | | | | 11 | `ForgetMember` |
//!
//! Invariants: a type's number is never used again; each (type, version) has one struct in
//! `record/frozen.rs`, which never changes, and golden bytes in the tests; a record is at most
//! [`RECORD_MAX_BYTES`] long.
//!
//! Source: KIP-631 for what must be recorded; numbers and layout are our own.

use std::fmt;

use skein_types::{
    BrokerEpoch, BrokerId, ClusterId, PartitionIndex, ProducerId, TopicId, TopicName,
};

use crate::envelope::{self, EnvelopeError};
use crate::{Broker, Partition};

mod frozen;

/// Largest payload of a record, in bytes.
pub const RECORD_MAX_BYTES: usize = 1024 * 1024;

/// One change of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The cluster is founded.
    Cluster {
        /// Its id, for ever.
        cluster_id: ClusterId,
    },
    /// A feature has a level for the whole cluster; 0 takes it away.
    Feature {
        /// Its name, such as `metadata.version`.
        name: String,
        /// Its level.
        level: i16,
    },
    /// A broker is registered, with a new epoch.
    Broker(Broker),
    /// A registered broker is fenced, unfenced, or stops.
    BrokerState {
        /// Its id.
        id: BrokerId,
        /// Its registration.
        epoch: BrokerEpoch,
        /// See [`Broker::fenced`].
        fenced: bool,
        /// See [`Broker::stopping`].
        stopping: bool,
    },
    /// A broker leaves the cluster.
    RemoveBroker {
        /// Its id.
        id: BrokerId,
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// A member of the quorum is taken out for good: its Raft id means nobody from now on.
    ForgetMember {
        /// Which.
        raft_id: u64,
    },
    /// A topic is created; its partitions follow in the same entry.
    Topic {
        /// Its id.
        id: TopicId,
        /// Its name.
        name: TopicName,
    },
    /// A topic is deleted, with partitions and configuration.
    RemoveTopic {
        /// Its id.
        id: TopicId,
    },
    /// A partition is created or changed: the whole of it, as it is from now on.
    Partition {
        /// Its topic.
        topic_id: TopicId,
        /// Its number.
        index: PartitionIndex,
        /// What it is now.
        partition: Partition,
    },
    /// A configuration is overridden, or no longer.
    Config {
        /// Whose.
        resource: ConfigResource,
        /// Which.
        key: String,
        /// The override; `None` takes it away.
        value: Option<String>,
    },
    /// A broker got a block of producer ids: those from the former `next_producer_id` to this one.
    ProducerIds {
        /// The broker.
        broker_id: BrokerId,
        /// Its registration.
        broker_epoch: BrokerEpoch,
        /// The first id that is still free.
        next_producer_id: ProducerId,
    },
}

/// What kind of thing a configuration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum ResourceType {
    /// A topic, by its name.
    Topic = 2,
    /// A broker, by its id in decimal; the empty name is the default of all brokers.
    Broker = 4,
    /// A client metrics subscription, by its name (KIP-714).
    ClientMetrics = 16,
    /// A consumer group, by its id.
    Group = 32,
}

impl ResourceType {
    /// The type with Kafka's number `code`.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }

    /// Kafka's number.
    #[must_use]
    pub const fn code(self) -> i8 {
        self as i8
    }
}

/// Whose configuration it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigResource {
    /// What kind of thing.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
}

impl ConfigResource {
    /// The configuration of a topic.
    #[must_use]
    pub fn topic(name: &TopicName) -> Self {
        Self {
            kind: ResourceType::Topic,
            name: name.as_str().to_owned(),
        }
    }

    /// The configuration of one broker, or with `None` the default of all.
    #[must_use]
    pub fn broker(id: Option<BrokerId>) -> Self {
        let name = id.map(|id| id.to_string()).unwrap_or_default();
        Self {
            kind: ResourceType::Broker,
            name,
        }
    }
}

impl fmt::Debug for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.kind, self.name)
    }
}

impl Record {
    /// Appends the record's bytes to `out`; on an error `out` is as before.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] above [`RECORD_MAX_BYTES`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        frozen::encode(self, out)
    }

    /// The record that starts `bytes`, and its length.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), EnvelopeError> {
        let (envelope, length) = envelope::read(bytes, RECORD_MAX_BYTES)?;
        Ok((frozen::decode(&envelope)?, length))
    }
}

#[cfg(test)]
mod tests;
