//! One file per API, each a function from request to response that reads from top to bottom.
//!
//! Input: a decoded request. Output: its response.
//!
//! Invariant: a handler answers each part of its request (topic, partition, resource) on its own,
//! with Kafka's error code; it never fails as a whole unless the protocol has a field for that.
//!
//! Source: the Kafka protocol guide and the behaviour of Kafka 4.1.1.

use skein_controller::Refusal;
use skein_protocol::Str;
use skein_types::ErrorCode;

pub(crate) mod alter_configs;
pub(crate) mod api_versions;
mod broker_loggers;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
mod current_leader;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_producers;
pub(crate) mod describe_quorum;
pub(crate) mod describe_topic_partitions;
pub(crate) mod elect_leaders;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_config_resources;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
mod named_partitions;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sync_group;
pub(crate) mod unregister_broker;
pub(crate) mod update_features;

/// Error code and message, as responses carry them for each of their parts.
fn error_fields(refusal: Option<&Refusal>) -> (i16, Option<Str>) {
    match refusal {
        None => (ErrorCode::None.code(), None),
        Some(refusal) => (refusal.code.code(), Some(Str::from(&refusal.message))),
    }
}
