//! How an entry of the log changes the image.
//!
//! Input: the image, an entry and its log id. Output: the next image, and whether the entry took
//! effect.
//!
//! Invariants:
//! - an entry whose base is not the image's last decision changes nothing but `last_applied`:
//!   somebody else decided in between, and its proposer sees that ([`Outcome::StaleBase`]);
//! - all records of an entry take effect, or, if one of them does not fit the image, none and an
//!   error: such an entry is a bug or a foreign log, and the node that meets it must not go on.
//!
//! Source: compare-and-set on a replicated log, as in state machine replication.

use std::sync::Arc;

#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{BrokerEpoch, BrokerId, PartitionIndex, TopicId};

use crate::image::collision_key;
use crate::{Broker, ConfigResource, Entry, Image, LogId, Partition, Record, ResourceType, Topic};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its records are in the image.
    Applied,
    /// It had another base than this; nothing happened.
    StaleBase(Option<LogId>),
}

/// A record that does not fit the image. The image is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The entry is not behind the last applied one.
    #[error("entry {entry} does not come after {last}")]
    OutOfOrder {
        /// The entry.
        entry: LogId,
        /// The last applied one.
        last: LogId,
    },
    /// A record of the entry.
    #[error("record {index} does not fit the image: {reason}")]
    Record {
        /// Position in the entry.
        index: usize,
        /// What does not fit.
        reason: String,
    },
}

impl Image {
    /// Applies the entry at `log_id`.
    ///
    /// # Errors
    /// [`ApplyError`]; the image is as before.
    pub fn apply(&mut self, log_id: LogId, entry: &Entry) -> Result<Outcome, ApplyError> {
        let is_stale = entry.base != self.last_decision;
        #[cfg(feature = "mutations")]
        let is_stale = is_stale && !mutation::has(Mutation::DecisionOnOldBase);
        if is_stale {
            let expected = self.last_decision;
            self.advance(log_id)?;
            return Ok(Outcome::StaleBase(expected));
        }
        let mut next = self.clone();
        next.advance(log_id)?;
        next.apply_in_place(&entry.records)?;
        next.last_decision = Some(log_id);
        *self = next;
        Ok(Outcome::Applied)
    }

    /// Applies records that are not in the log yet, to decide further on what they lead to.
    ///
    /// # Errors
    /// [`ApplyError::Record`]; the image is as before.
    pub fn apply_records(&mut self, records: &[Record]) -> Result<(), ApplyError> {
        let mut next = self.clone();
        next.apply_in_place(records)?;
        *self = next;
        Ok(())
    }

    /// Notes an entry without records: a blank one, or one about the quorum's members.
    ///
    /// # Errors
    /// [`ApplyError::OutOfOrder`].
    pub fn advance(&mut self, log_id: LogId) -> Result<(), ApplyError> {
        match self.last_applied {
            Some(last) if log_id.index <= last.index || log_id.term < last.term => {
                Err(ApplyError::OutOfOrder {
                    entry: log_id,
                    last,
                })
            }
            _ => {
                self.last_applied = Some(log_id);
                Ok(())
            }
        }
    }

    fn apply_in_place(&mut self, records: &[Record]) -> Result<(), ApplyError> {
        for (index, record) in records.iter().enumerate() {
            self.apply_record(record)
                .map_err(|reason| ApplyError::Record { index, reason })?;
        }
        Ok(())
    }

    /// Applies one record; an error leaves the image as before.
    pub(crate) fn apply_record(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Cluster { cluster_id } => match self.cluster_id {
                Some(known) if known != *cluster_id => Err(format!("cluster {known} has an id")),
                _ => {
                    self.cluster_id = Some(*cluster_id);
                    Ok(())
                }
            },
            Record::Feature { name, level } => {
                match level {
                    0 => self.features.remove(name),
                    level => self.features.insert(name.clone(), *level),
                };
                Ok(())
            }
            Record::Broker(broker) => self.apply_broker(broker),
            Record::BrokerState {
                id,
                epoch,
                fenced,
                stopping,
            } => {
                let registered = self.registered(*id, *epoch)?;
                let broker = Broker {
                    fenced: *fenced,
                    stopping: *stopping,
                    ..registered.clone()
                };
                self.brokers.insert(*id, Arc::new(broker));
                Ok(())
            }
            Record::RemoveBroker { id, epoch } => {
                self.registered(*id, *epoch)?;
                self.brokers.remove(id);
                Ok(())
            }
            Record::ForgetMember { raft_id } => {
                if self
                    .brokers
                    .values()
                    .any(|broker| broker.raft_id == *raft_id)
                {
                    return Err(format!("member {raft_id:016x} is registered as a broker"));
                }
                self.forgotten.insert(*raft_id);
                Ok(())
            }
            Record::Topic { id, name } => self.apply_topic(*id, name),
            Record::RemoveTopic { id } => self.apply_remove_topic(*id),
            Record::Partition {
                topic_id,
                index,
                partition,
            } => self.apply_partition(*topic_id, *index, partition),
            Record::Config {
                resource,
                key,
                value,
            } => self.apply_config(resource, key, value.as_deref()),
            Record::ProducerIds {
                next_producer_id, ..
            } => {
                if *next_producer_id <= self.next_producer_id {
                    return Err(format!("producer ids below {next_producer_id} are given"));
                }
                self.next_producer_id = *next_producer_id;
                Ok(())
            }
        }
    }

    fn registered(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<&Broker, String> {
        self.broker(id)
            .filter(|broker| broker.epoch == epoch)
            .map(Arc::as_ref)
            .ok_or_else(|| format!("broker {id} is not registered with epoch {epoch}"))
    }

    fn apply_broker(&mut self, broker: &Broker) -> Result<(), String> {
        let epoch = broker.epoch;
        if self.is_forgotten(broker.raft_id) {
            return Err(format!("member {:016x} was forgotten", broker.raft_id));
        }
        if epoch < self.next_broker_epoch || broker.id < BrokerId(0) {
            return Err(format!("broker {} cannot have epoch {epoch}", broker.id));
        }
        let next = epoch
            .get()
            .checked_add(1)
            .ok_or("the last broker epoch is given")?;
        self.next_broker_epoch = BrokerEpoch(next);
        self.brokers.insert(broker.id, Arc::new(broker.clone()));
        Ok(())
    }

    fn apply_topic(&mut self, id: TopicId, name: &skein_types::TopicName) -> Result<(), String> {
        if id.is_zero() || self.topics.contains_key(&id) {
            return Err(format!("topic id {id} is taken"));
        }
        if self.topic_ids.contains_key(name) {
            return Err(format!("topic name {name} is taken"));
        }
        if let Some(key) = collision_key(name.as_str()) {
            if let Some(other) = self.collisions.get(&key) {
                return Err(format!("topic name {name} collides with {other}"));
            }
            self.collisions.insert(key, name.clone());
        }
        self.topic_ids.insert(name.clone(), id);
        let topic = Topic {
            id,
            name: name.clone(),
            partitions: imbl::Vector::new(),
        };
        self.topics.insert(id, Arc::new(topic));
        Ok(())
    }

    fn apply_remove_topic(&mut self, id: TopicId) -> Result<(), String> {
        let topic = self
            .topics
            .remove(&id)
            .ok_or_else(|| format!("no topic has id {id}"))?;
        self.topic_ids.remove(&topic.name);
        if let Some(key) = collision_key(topic.name.as_str()) {
            self.collisions.remove(&key);
        }
        self.configs.remove(&ConfigResource::topic(&topic.name));
        Ok(())
    }

    fn apply_partition(
        &mut self,
        topic_id: TopicId,
        index: PartitionIndex,
        partition: &Partition,
    ) -> Result<(), String> {
        partition.check()?;
        let topic = self
            .topics
            .get_mut(&topic_id)
            .ok_or_else(|| format!("no topic has id {topic_id}"))?;
        let length = topic.partitions.len();
        let at = usize::try_from(index.get())
            .ok()
            .filter(|at| *at <= length)
            .ok_or_else(|| format!("partition {index} would leave a gap after {length}"))?;
        let partition = Arc::new(partition.clone());
        match topic.partitions.get(at) {
            None => Arc::make_mut(topic).partitions.push_back(partition),
            Some(known) => {
                if partition.partition_epoch <= known.partition_epoch
                    || partition.leader_epoch < known.leader_epoch
                {
                    return Err(format!("epochs of partition {index} do not grow"));
                }
                Arc::make_mut(topic).partitions.set(at, partition);
            }
        }
        Ok(())
    }

    fn apply_config(
        &mut self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), String> {
        if resource.kind == ResourceType::Topic
            && !self.topic_ids.contains_key(resource.name.as_str())
        {
            return Err(format!("no topic has the name {}", resource.name));
        }
        let mut overrides = self.configs.get(resource).cloned().unwrap_or_default();
        match value {
            Some(value) => overrides.insert(key.to_owned(), value.to_owned()),
            None => overrides.remove(key),
        };
        if overrides.is_empty() {
            self.configs.remove(resource);
        } else {
            self.configs.insert(resource.clone(), overrides);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
