//! Newtypes and error codes that every crate of Skein shares.
//!
//! Input: nothing. Output: names for the numbers that must not be confused with one another.
//!
//! Invariants, held by the types: an offset is not an epoch, a producer id is not a broker id, and
//! an [`ErrorCode`] is one that Kafka clients know. There is no logic here beyond what a number
//! needs.
//!
//! Source: the Kafka protocol guide; `org.apache.kafka.common.protocol.Errors` for the codes.

mod cluster_id;
mod error_code;
mod ids;
#[cfg(feature = "mutations")]
pub mod mutation;
mod step;
mod topic;
#[cfg(feature = "mutations")]
pub mod transitions;

pub use cluster_id::{ClusterId, ParseClusterIdError};
pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, BrokerId, LeaderEpoch, Millis, Offset, PartitionEpoch, PartitionIndex,
    ProducerEpoch, ProducerId, Sequence,
};
pub use step::{Now, Ticket};
pub use topic::{ParseUuidError, TopicId, TopicName, TopicNameError, TopicPartition, Uuid};
