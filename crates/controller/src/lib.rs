//! Decisions on the metadata image: what a request changes, or why it does not.
//!
//! Input: the image, a [`Request`], and as arguments all that is not in the image: time, random
//! bits, the broker's settings, who is alive. Output: the records of the decision and the
//! [`Response`], or a [`Refusal`].
//!
//! Invariants:
//! - the records of a decision fit the image on which it was made ([`Batch::decide`] applies them
//!   to its own copy before the next request is decided);
//! - a refused request, or the refused topic of a request, leaves no record;
//! - a broker that is fenced or stopping leads nothing and is in no ISR (`election.rs`).
//!
//! Architecture invariant: this crate is pure. It decides; `skein-quorum` proposes.
//!
//! Source: KIP-631 (controller), KIP-455, KIP-464 (defaults), KIP-497, KIP-966; the behaviour of
//! Kafka 4.1's `ReplicationControlManager`, `ClusterControlManager` and
//! `ConfigurationControlManager`.

mod alter_configs;
mod alter_partition;
mod assignment;
mod balance;
mod batch;
mod brokers;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod elect_leaders;
mod election;
mod features;
mod log_ends;
mod placement;
mod producer_ids;
mod random;
mod refusal;
mod replicas_offline;
mod request;
mod sessions;
#[cfg(test)]
mod testing;
mod unregister_broker;

pub use alter_configs::{
    AlterConfigs, AlterConfigsResult, ConfigChange, KeyAlteration, ResourceChange, named_twice,
};
pub use alter_partition::{
    ALTERATIONS_PER_REQUEST_MAX, AlterPartition, AlterPartitionResult, AlteredPartition,
    PartitionAlteration, ProposedMember,
};
pub use balance::{BalanceLeaders, LeadersBalanced};
pub use batch::{Batch, Context, Decision, decide};
pub use brokers::{
    BrokerRegistered, DiskState, FenceBrokers, Heartbeat, HeartbeatAnswer, RegisterBroker,
};
pub use create_partitions::{CreatePartitions, CreatePartitionsResult, NewPartitions};
pub use create_topics::{
    CreateTopics, CreateTopicsResult, CreatedTopic, NewTopic, PARTITIONS_PER_REQUEST_MAX,
};
pub use delete_topics::{DeleteTopics, DeleteTopicsResult, TopicReference};
pub use elect_leaders::{ElectLeaders, ElectLeadersResult, ElectionType};
pub use features::{
    FeatureUpdate, SUPPORTED as SUPPORTED_FEATURES, SupportedFeature, UpdateFeatures, UpgradeType,
};
pub use log_ends::{LOGS_PER_REPORT_MAX, LogEnd, LogEnds, ReportLogEnds, ReportedLog};
pub use producer_ids::{AllocateProducerIds, PRODUCER_IDS_PER_BLOCK, ProducerIdBlock};
pub use random::RandomBits;
pub use refusal::Refusal;
pub use replicas_offline::{REPLICAS_PER_REQUEST_MAX, ReplicasOffline};
pub use request::{Call, FoundCluster, Request, Response};
pub use sessions::Sessions;
pub use unregister_broker::{FORGOTTEN, UnregisterBroker};
