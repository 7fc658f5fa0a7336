//! The image: all metadata of the cluster at one point of the quorum's log.
//!
//! Input: records, through `apply`. Output: look-ups, without a lock, on a value that never changes
//! once it is published.
//!
//! Invariants, checked by [`Image::check`] (called in tests and after a snapshot is loaded; each
//! record is checked against them as it is applied):
//! - names and ids of topics are one to one, and no two names differ by `.` and `_` alone;
//! - a topic's partitions are numbered from 0 without a gap;
//! - ISR and ELR are disjoint subsets of the replicas; the leader is in the ISR, or nobody leads;
//! - every broker's epoch is below the next one to be given;
//! - no broker is a member that was forgotten.
//!
//! The maps are persistent and ordered: a clone costs nothing, an update copies the few nodes on
//! its path, and iteration has the same order on every node.
//!
//! Source: KIP-631 (brokers), KIP-497 (partition epochs), KIP-966 (ELR, last known members).

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet, Vector};
use skein_types::{
    BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId,
    TopicId, TopicName, Uuid,
};

use crate::{ConfigResource, LogId};

/// All metadata of the cluster. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) features: OrdMap<String, i16>,
    pub(crate) brokers: OrdMap<BrokerId, Arc<Broker>>,
    /// Raft ids of members that were taken out for good.
    pub(crate) forgotten: OrdSet<u64>,
    pub(crate) topics: OrdMap<TopicId, Arc<Topic>>,
    pub(crate) topic_ids: OrdMap<TopicName, TopicId>,
    /// Names with `.` or `_`, by what is left of them when both read `_`.
    pub(crate) collisions: OrdMap<String, TopicName>,
    pub(crate) configs: OrdMap<ConfigResource, OrdMap<String, String>>,
    pub(crate) next_broker_epoch: BrokerEpoch,
    pub(crate) next_producer_id: ProducerId,
    pub(crate) last_applied: Option<LogId>,
    pub(crate) last_decision: Option<LogId>,
}

/// A broker's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Number of this registration.
    pub epoch: BrokerEpoch,
    /// Drawn by the process at its start: two processes never share it.
    pub incarnation: Uuid,
    /// Raft id of its `metadata.log.dir`: a wiped node comes with another.
    pub raft_id: u64,
    /// Where clients and peers reach it, in its own order.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Whether it may neither lead nor be in an ISR.
    pub fenced: bool,
    /// Whether it has asked to stop (a controlled shutdown).
    pub stopping: bool,
}

/// An address of a broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name of the listener.
    pub listener: String,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
    /// Kafka's number of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A topic with its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id; never given to another topic.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Partition `i` stands at `i`.
    pub partitions: Vector<Arc<Partition>>,
}

/// How a topic differs between two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicChange<'a> {
    /// It is new.
    Added(&'a Arc<Topic>),
    /// It has other partitions.
    Changed {
        /// As it was.
        former: &'a Arc<Topic>,
        /// As it is.
        now: &'a Arc<Topic>,
    },
    /// It is gone.
    Removed(&'a Arc<Topic>),
}

/// Whether a partition's leader was elected from those who surely have all records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LeaderRecoveryState {
    /// Elected from ISR or ELR.
    #[default]
    Recovered,
    /// Elected among the last known members: records may be lost, and the leader has not yet said
    /// so.
    Recovering,
}

/// One partition: who holds it and who leads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Who holds it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Who surely has all records below the high watermark, in ascending order.
    pub isr: Vec<BrokerId>,
    /// Who left the ISR while it was smaller than min ISR, and so has them too, in ascending order.
    pub elr: Vec<BrokerId>,
    /// Members that came back unclean, since the leader last changed the ISR; when ISR and ELR are
    /// empty all of their last members, one of whom has the longest log.
    pub last_known: Vec<BrokerId>,
    /// Whose storage of it has failed since their last registration, in ascending order: they can
    /// neither lead nor be in the ISR until they register again.
    pub offline: Vec<BrokerId>,
    /// Who leads; [`BrokerId::NONE`] if nobody.
    pub leader: BrokerId,
    /// Grows with each new leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change.
    pub partition_epoch: PartitionEpoch,
    /// How the leader was elected.
    pub leader_recovery_state: LeaderRecoveryState,
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

impl Image {
    /// The image before the first entry of the log.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cluster_id: None,
            features: OrdMap::new(),
            brokers: OrdMap::new(),
            forgotten: OrdSet::new(),
            topics: OrdMap::new(),
            topic_ids: OrdMap::new(),
            collisions: OrdMap::new(),
            configs: OrdMap::new(),
            next_broker_epoch: BrokerEpoch(1),
            next_producer_id: ProducerId(0),
            last_applied: None,
            last_decision: None,
        }
    }

    /// The cluster's id; `None` before the founding entry is applied.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// Levels of the finalised features, by name.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features
            .iter()
            .map(|(name, level)| (name.as_str(), *level))
    }

    /// Level of a feature; 0 if it is not finalised.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// A registered broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// Whether the broker is registered and may lead: neither fenced nor stopping.
    #[must_use]
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id)
            .is_some_and(|broker| !broker.fenced && !broker.stopping)
    }

    /// Raft ids of members that were taken out for good, in order: who comes with one is told so.
    pub fn forgotten(&self) -> impl ExactSizeIterator<Item = u64> {
        self.forgotten.iter().copied()
    }

    /// Whether the member of this Raft id was taken out for good.
    #[must_use]
    pub fn is_forgotten(&self, raft_id: u64) -> bool {
        self.forgotten.contains(&raft_id)
    }

    /// All topics, by id.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// All topics, by name.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    /// All topics whose names come at or after `start`, by name.
    pub fn topics_from<'a>(&'a self, start: &str) -> impl Iterator<Item = &'a Arc<Topic>> {
        let range = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        self.topic_ids
            .range::<_, str>(range)
            .filter_map(|(_, id)| self.topics.get(id))
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The topic with this name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topic(*self.topic_ids.get(name)?)
    }

    /// One partition of the topic with this id.
    #[must_use]
    pub fn partition(&self, topic: TopicId, index: PartitionIndex) -> Option<&Arc<Partition>> {
        self.topic(topic)?.partition(index)
    }

    /// The topic whose name differs from `name` by `.` and `_` alone, or is the same.
    ///
    /// Metrics put both characters to `_`, so that such names could not be told apart there.
    #[must_use]
    pub fn topic_colliding_with(&self, name: &str) -> Option<&TopicName> {
        self.collisions.get(&collision_key(name)?)
    }

    /// Overrides of a resource's configuration, by key; `None` if there are none.
    #[must_use]
    pub fn config(&self, resource: &ConfigResource) -> Option<&OrdMap<String, String>> {
        self.configs.get(resource)
    }

    /// One override of a resource's configuration.
    #[must_use]
    pub fn config_value(&self, resource: &ConfigResource, key: &str) -> Option<&str> {
        self.config(resource)?.get(key).map(String::as_str)
    }

    /// Overrides of a resource's configuration as `skein-config` takes them.
    #[must_use]
    pub fn overrides(&self, resource: &ConfigResource) -> BTreeMap<String, String> {
        let overrides = self.config(resource).into_iter().flatten();
        overrides
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// The resources with overrides, in order.
    pub fn config_resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// The epoch of the next registration.
    #[must_use]
    pub fn next_broker_epoch(&self) -> BrokerEpoch {
        self.next_broker_epoch
    }

    /// The first id of the next block of producer ids.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// The last entry that this image has seen, with or without effect.
    #[must_use]
    pub fn last_applied(&self) -> Option<LogId> {
        self.last_applied
    }

    /// The last entry that changed this image: what the next one must be based on.
    #[must_use]
    pub fn last_decision(&self) -> Option<LogId> {
        self.last_decision
    }

    /// How the topics differ from those of a former image, by id. Costs what has changed, not what
    /// there is.
    pub fn topic_changes<'a>(&'a self, former: &'a Self) -> impl Iterator<Item = TopicChange<'a>> {
        former.topics.diff(&self.topics).map(|item| match item {
            DiffItem::Add(_, topic) => TopicChange::Added(topic),
            DiffItem::Remove(_, topic) => TopicChange::Removed(topic),
            DiffItem::Update { old, new } => TopicChange::Changed {
                former: old.1,
                now: new.1,
            },
        })
    }

    /// The resources whose overrides differ from those of a former image, in order.
    pub fn config_changes<'a>(
        &'a self,
        former: &'a Self,
    ) -> impl Iterator<Item = &'a ConfigResource> {
        former.configs.diff(&self.configs).map(|item| match item {
            DiffItem::Add(resource, _) | DiffItem::Remove(resource, _) => resource,
            DiffItem::Update { new, .. } => new.0,
        })
    }

    /// Checks the invariants above.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn check(&self) -> Result<(), String> {
        if self.topics.len() != self.topic_ids.len() {
            return Err("topics and topic names are not one to one".into());
        }
        for (id, topic) in &self.topics {
            if topic.id != *id || self.topic_ids.get(&topic.name) != Some(id) {
                return Err(format!(
                    "topic {id} is not found by its name {}",
                    topic.name
                ));
            }
            if let Some(key) = collision_key(topic.name.as_str())
                && self.collisions.get(&key) != Some(&topic.name)
            {
                return Err(format!("topic name {} collides with another", topic.name));
            }
            for (index, partition) in topic.partitions.iter().enumerate() {
                partition
                    .check()
                    .map_err(|reason| format!("partition {}-{index}: {reason}", topic.name))?;
            }
        }
        for broker in self.brokers.values() {
            if broker.epoch >= self.next_broker_epoch {
                return Err(format!("broker {} has an epoch not yet given", broker.id));
            }
            if self.is_forgotten(broker.raft_id) {
                return Err(format!("broker {} is forgotten and registered", broker.id));
            }
        }
        Ok(())
    }
}

impl Topic {
    /// One of its partitions.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index.get()).ok()?)
    }

    /// Its partitions with their numbers.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &Arc<Partition>)> {
        (0_i32..).map(PartitionIndex).zip(self.partitions.iter())
    }
}

impl Partition {
    /// Whether this broker's storage of it has failed since the broker's last registration.
    #[must_use]
    pub fn is_offline(&self, broker: BrokerId) -> bool {
        self.offline.binary_search(&broker).is_ok()
    }

    /// Checks what must hold for a partition by itself.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let distinct = |list: &[BrokerId]| {
            (1..list.len()).all(|i| !list[..i].contains(&list[i]))
                && !list.contains(&BrokerId::NONE)
        };
        let ascending = |list: &[BrokerId]| list.is_sorted_by(|a, b| a < b);
        let of_replicas = |list: &[BrokerId]| list.iter().all(|id| self.replicas.contains(id));
        if self.replicas.is_empty() || !distinct(&self.replicas) {
            return Err("replicas are none, or not distinct");
        }
        for list in [&self.isr, &self.elr, &self.last_known, &self.offline] {
            if !ascending(list) || !of_replicas(list) {
                return Err(
                    "ISR, ELR, last known or offline are not an ordered subset of replicas",
                );
            }
        }
        if self.elr.iter().any(|id| self.isr.contains(id)) {
            return Err("ISR and ELR overlap");
        }
        let is_member = |id: &BrokerId| self.isr.contains(id) || self.elr.contains(id);
        if self.offline.iter().any(is_member) {
            return Err("an offline replica is in ISR or ELR");
        }
        let lost = self.isr.is_empty() && self.elr.is_empty();
        if !lost && self.last_known.iter().any(is_member) {
            return Err("a last known member is in ISR or ELR");
        }
        if self.leader != BrokerId::NONE && !self.isr.contains(&self.leader) {
            return Err("the leader is not in the ISR");
        }
        if self.leader_epoch < LeaderEpoch::ZERO || self.partition_epoch < PartitionEpoch::ZERO {
            return Err("a negative epoch");
        }
        Ok(())
    }
}

/// What topics that would collide have in common; `None` for names that collide with no other.
pub(crate) fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
