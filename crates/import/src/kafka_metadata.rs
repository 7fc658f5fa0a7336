//! Kafka's metadata, replayed from its records.
//!
//! ```text
//!   (none) ──Begin──► in a transaction ──End────► all of its records are applied
//!     ▲  │                   └───────────Abort──► none of them
//!     └──┘ any other record: applied at once
//! ```
//!
//! Input: the records of a snapshot and of the log behind it, in order. Output: what Kafka's own
//! image would hold, as far as one node needs it.
//!
//! Invariants: a transaction that does not end changes nothing, as the next controller would abort
//! it; a record that does not fit what came before is an error, because then something is missing.
//!
//! Source: KIP-631, KIP-868; the `replay` methods of Kafka 4.1.1's controller and image.

use std::collections::{BTreeMap, BTreeSet};

use skein_protocol::MetadataRecord;
use skein_protocol::messages::metadata_records::{
    BrokerEndpoint, ClientQuotaRecord, ConfigRecord, PartitionChangeRecord, PartitionRecord,
    RegisterBrokerRecord,
};
use skein_types::Uuid;

/// `NO_LEADER_CHANGE` of a partition change.
const LEADER_UNCHANGED: i32 = -2;
/// "No change" of a leader recovery state.
const RECOVERY_UNCHANGED: i8 = -1;

/// A registered broker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KafkaBroker {
    pub(crate) epoch: i64,
    pub(crate) incarnation: Uuid,
    pub(crate) end_points: Vec<BrokerEndpoint>,
    pub(crate) rack: Option<String>,
    /// Ids of its log directories; empty before metadata version 3.7-IV2.
    pub(crate) log_dirs: Vec<Uuid>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KafkaTopic {
    pub(crate) name: String,
    pub(crate) partitions: BTreeMap<i32, KafkaPartition>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KafkaPartition {
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
    pub(crate) removing: Vec<i32>,
    pub(crate) adding: Vec<i32>,
    pub(crate) elr: Vec<i32>,
    pub(crate) last_known_elr: Vec<i32>,
    /// By replica, in their order; empty before metadata version 3.7-IV2.
    pub(crate) directories: Vec<Uuid>,
    pub(crate) recovery_state: i8,
    pub(crate) leader_epoch: i32,
    pub(crate) partition_epoch: i32,
}

/// What the records lead to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KafkaMetadata {
    pub(crate) features: BTreeMap<String, i16>,
    pub(crate) brokers: BTreeMap<i32, KafkaBroker>,
    pub(crate) controllers: BTreeSet<i32>,
    pub(crate) topics: BTreeMap<Uuid, KafkaTopic>,
    /// Overrides by Kafka's resource type and name.
    pub(crate) configs: BTreeMap<(i8, String), BTreeMap<String, String>>,
    pub(crate) next_producer_id: i64,
    pub(crate) acls: BTreeSet<Uuid>,
    /// Name and mechanism.
    pub(crate) scram_users: BTreeSet<(String, i8)>,
    /// Entity and key.
    pub(crate) quotas: BTreeSet<(String, String)>,
    pub(crate) tokens: BTreeSet<String>,
    /// Whether a migration from ZooKeeper is under way.
    pub(crate) is_migrating: bool,
    /// Who votes in the quorum, as last said; empty if nobody has said.
    pub(crate) voters: BTreeSet<i32>,
}

/// The replay of records.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    metadata: KafkaMetadata,
    transaction: Option<Vec<MetadataRecord>>,
}

impl Replay {
    /// Takes in the next record.
    ///
    /// # Errors
    /// It does not fit what came before.
    pub(crate) fn replay(&mut self, record: MetadataRecord) -> Result<(), String> {
        match (record, self.transaction.take()) {
            (MetadataRecord::BeginTransaction(_), Some(_)) => {
                Err("a transaction begins in a transaction".into())
            }
            (MetadataRecord::BeginTransaction(_), None) => {
                self.transaction = Some(Vec::new());
                Ok(())
            }
            (MetadataRecord::EndTransaction(_), Some(records)) => records
                .into_iter()
                .try_for_each(|record| self.metadata.apply(record)),
            (MetadataRecord::AbortTransaction(_), Some(_)) => Ok(()),
            (MetadataRecord::EndTransaction(_) | MetadataRecord::AbortTransaction(_), None) => {
                Err("a transaction ends that did not begin".into())
            }
            (record, Some(mut records)) => {
                records.push(record);
                self.transaction = Some(records);
                Ok(())
            }
            (record, None) => self.metadata.apply(record),
        }
    }

    /// What the records have led to; and whether a transaction was left open, which counts for
    /// nothing.
    pub(crate) fn finish(self) -> (KafkaMetadata, bool) {
        (self.metadata, self.transaction.is_some())
    }
}

impl KafkaMetadata {
    /// The broker with this id, if it is registered.
    pub(crate) fn broker(&self, id: i32) -> Option<&KafkaBroker> {
        self.brokers.get(&id)
    }

    fn apply(&mut self, record: MetadataRecord) -> Result<(), String> {
        match record {
            MetadataRecord::RegisterBroker(broker) => self.register(broker),
            MetadataRecord::UnregisterBroker(broker) => {
                self.brokers.remove(&broker.broker_id);
            }
            MetadataRecord::BrokerRegistrationChange(change) => {
                let broker = self
                    .brokers
                    .get_mut(&change.broker_id)
                    .ok_or_else(|| format!("broker {} is not registered", change.broker_id))?;
                if !change.log_dirs.is_empty() {
                    broker.log_dirs = change.log_dirs;
                }
            }
            MetadataRecord::RegisterController(controller) => {
                self.controllers.insert(controller.controller_id);
            }
            MetadataRecord::FeatureLevel(feature) => {
                let name = String::from(feature.name);
                match feature.feature_level {
                    0 => self.features.remove(&name),
                    level => self.features.insert(name, level),
                };
            }
            MetadataRecord::Topic(topic) => {
                let name = String::from(topic.name);
                let partitions = BTreeMap::new();
                let topic_name = name.clone();
                let known = self
                    .topics
                    .insert(topic.topic_id, KafkaTopic { name, partitions });
                if known.is_some() {
                    return Err(format!("the id of topic {topic_name} is taken"));
                }
            }
            MetadataRecord::RemoveTopic(topic) => {
                let id = topic.topic_id;
                let topic = self
                    .topics
                    .remove(&id)
                    .ok_or_else(|| format!("no topic has the id {id}"))?;
                self.configs.remove(&(TOPIC_RESOURCE, topic.name));
            }
            MetadataRecord::Partition(partition) => self.add_partition(partition)?,
            MetadataRecord::PartitionChange(change) => self.change_partition(change)?,
            MetadataRecord::ClearElr(clear) => self.clear_elr(&clear.topic_name),
            MetadataRecord::Config(config) => self.configure(config),
            MetadataRecord::ProducerIds(ids) => self.next_producer_id = ids.next_producer_id,
            MetadataRecord::ZkMigrationState(state) => {
                self.is_migrating = matches!(state.zk_migration_state, 1 | 2);
            }
            other => self.apply_security(other)?,
        }
        Ok(())
    }

    fn apply_security(&mut self, record: MetadataRecord) -> Result<(), String> {
        match record {
            MetadataRecord::AccessControlEntry(entry) => {
                self.acls.insert(entry.id);
            }
            MetadataRecord::RemoveAccessControlEntry(entry) => {
                self.acls.remove(&entry.id);
            }
            MetadataRecord::UserScramCredential(user) => {
                self.scram_users.insert((user.name.into(), user.mechanism));
            }
            MetadataRecord::RemoveUserScramCredential(user) => {
                self.scram_users.remove(&(user.name.into(), user.mechanism));
            }
            MetadataRecord::ClientQuota(quota) => self.set_quota(&quota),
            MetadataRecord::DelegationToken(token) => {
                self.tokens.insert(token.token_id.into());
            }
            MetadataRecord::RemoveDelegationToken(token) => {
                self.tokens.remove(token.token_id.as_str());
            }
            // Who lives is no business of who takes over.
            MetadataRecord::FenceBroker(_)
            | MetadataRecord::UnfenceBroker(_)
            | MetadataRecord::NoOp(_) => {}
            other => return Err(format!("a {} is out of place", other.name())),
        }
        Ok(())
    }

    fn register(&mut self, broker: RegisterBrokerRecord) {
        let registered = KafkaBroker {
            epoch: broker.broker_epoch,
            incarnation: broker.incarnation_id,
            end_points: broker.end_points,
            rack: broker.rack.map(String::from),
            log_dirs: broker.log_dirs,
        };
        self.brokers.insert(broker.broker_id, registered);
    }

    fn add_partition(&mut self, record: PartitionRecord) -> Result<(), String> {
        let (id, index) = (record.topic_id, record.partition_id);
        let topic = self
            .topics
            .get_mut(&id)
            .ok_or_else(|| format!("partition {index} of topic {id}, which is not there"))?;
        let partition = KafkaPartition {
            replicas: record.replicas,
            isr: record.isr,
            removing: record.removing_replicas,
            adding: record.adding_replicas,
            elr: record.eligible_leader_replicas.unwrap_or_default(),
            last_known_elr: record.last_known_elr.unwrap_or_default(),
            directories: record.directories,
            recovery_state: record.leader_recovery_state,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        };
        if partition.leader_epoch < 0 || partition.partition_epoch < 0 {
            return Err(format!("partition {}-{index} has no epoch", topic.name));
        }
        topic.partitions.insert(index, partition);
        Ok(())
    }

    fn change_partition(&mut self, change: PartitionChangeRecord) -> Result<(), String> {
        let (id, index) = (change.topic_id, change.partition_id);
        let partition = self
            .topics
            .get_mut(&id)
            .and_then(|topic| topic.partitions.get_mut(&index))
            .ok_or_else(|| format!("a change of partition {index} of topic {id}: no such one"))?;
        let take = |list: &mut Vec<i32>, changed: Option<Vec<i32>>| {
            if let Some(changed) = changed {
                *list = changed;
            }
        };
        take(&mut partition.isr, change.isr);
        take(&mut partition.replicas, change.replicas);
        take(&mut partition.removing, change.removing_replicas);
        take(&mut partition.adding, change.adding_replicas);
        take(&mut partition.elr, change.eligible_leader_replicas);
        take(&mut partition.last_known_elr, change.last_known_elr);
        if let Some(directories) = change.directories {
            partition.directories = directories;
        }
        if change.leader_recovery_state != RECOVERY_UNCHANGED {
            partition.recovery_state = change.leader_recovery_state;
        }
        let grown = |epoch: i32| epoch.checked_add(1).ok_or("an epoch has come to its end");
        if change.leader != LEADER_UNCHANGED {
            partition.leader_epoch = grown(partition.leader_epoch)?;
        }
        partition.partition_epoch = grown(partition.partition_epoch)?;
        Ok(())
    }

    /// Of one topic, or with the empty name of all.
    fn clear_elr(&mut self, topic_name: &str) {
        let meant = |topic: &&mut KafkaTopic| topic_name.is_empty() || topic.name == topic_name;
        for topic in self.topics.values_mut().filter(meant) {
            for partition in topic.partitions.values_mut() {
                partition.elr.clear();
                partition.last_known_elr.clear();
            }
        }
    }

    fn configure(&mut self, config: ConfigRecord) {
        let resource = (config.resource_type, String::from(config.resource_name));
        let overrides = self.configs.entry(resource.clone()).or_default();
        match config.value {
            Some(value) => overrides.insert(config.name.into(), value.into()),
            None => overrides.remove(config.name.as_str()),
        };
        if overrides.is_empty() {
            self.configs.remove(&resource);
        }
    }

    fn set_quota(&mut self, quota: &ClientQuotaRecord) {
        let parts = quota.entity.iter().map(|part| {
            let name = part.entity_name.as_deref().unwrap_or("<default>");
            format!("{}={name}", part.entity_type)
        });
        let entity = parts.collect::<Vec<_>>().join(",");
        let quota_key = (entity, String::from(quota.key.clone()));
        if quota.remove {
            self.quotas.remove(&quota_key);
        } else {
            self.quotas.insert(quota_key);
        }
    }
}

/// Kafka's resource type of topics.
pub(crate) const TOPIC_RESOURCE: i8 = 2;
/// Kafka's resource type of brokers.
pub(crate) const BROKER_RESOURCE: i8 = 4;

#[cfg(test)]
mod tests;
