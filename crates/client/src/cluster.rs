//! What the client knows of the cluster: brokers, topics, leaders.
//!
//! Input: Metadata responses. Output: an immutable view, newer with each response.
//!
//! Invariant, checked in [`ClusterView::merge`]: of one topic id, a partition's leader epoch never
//! goes back, because an answer of a broker that lags behind may come later.
//!
//! Source: KIP-320 (leader epochs in Metadata), KIP-516 (topic ids).

use std::collections::BTreeMap;

use skein_config::Address;
use skein_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use skein_types::{
    BrokerId, ErrorCode, LeaderEpoch, PartitionIndex, TopicId, TopicName, TopicPartition,
};

use crate::error::ClientError;

/// What the client knows of the cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Counts the responses that made it.
    pub(crate) version: u64,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The broker that calls itself the controller.
    pub controller_id: Option<BrokerId>,
    /// The live brokers.
    pub brokers: BTreeMap<BrokerId, Broker>,
    /// The topics that were asked for and exist.
    pub topics: BTreeMap<TopicName, Topic>,
    /// The topics that were asked for and cannot be had.
    pub refused: BTreeMap<TopicName, ErrorCode>,
}

/// A live broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Where clients connect.
    pub address: Address,
    /// `broker.rack`.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Zero if the broker does not know of ids.
    pub id: TopicId,
    /// Whether it is one of the cluster's own.
    pub is_internal: bool,
    /// By index, from 0.
    pub partitions: BTreeMap<PartitionIndex, Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// `None` while it has no leader.
    pub leader: Option<BrokerId>,
    /// −1 if the broker does not say.
    pub leader_epoch: LeaderEpoch,
    /// In the order of preference.
    pub replicas: Vec<BrokerId>,
    /// In sync.
    pub isr: Vec<BrokerId>,
    /// Replicas on brokers that are gone.
    pub offline_replicas: Vec<BrokerId>,
}

impl Partition {
    /// Whether it has no leader and none of its replicas is there to become it. One that has some
    /// gets a leader soon.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        let is_gone = |id| self.offline_replicas.contains(id);
        self.leader.is_none() && !self.replicas.is_empty() && self.replicas.iter().all(is_gone)
    }
}

impl ClusterView {
    /// The topic's partition; `None` if either is unknown.
    #[must_use]
    pub fn partition(&self, partition: &TopicPartition) -> Option<&Partition> {
        let topic = self.topics.get(&partition.topic)?;
        topic.partitions.get(&partition.partition)
    }

    /// The live broker that leads a partition.
    #[must_use]
    pub fn leader(&self, partition: &TopicPartition) -> Option<BrokerId> {
        let leader = self.partition(partition)?.leader?;
        self.brokers.contains_key(&leader).then_some(leader)
    }

    /// Why a partition cannot be led for now, if none of its replicas is online.
    pub(crate) fn offline(&self, partition: &TopicPartition) -> Option<ClientError> {
        let known = self.partition(partition)?;
        known.is_offline().then(|| ClientError::Offline {
            partition: partition.clone(),
            replicas: known.replicas.clone(),
        })
    }

    /// Id of a topic; zero if unknown.
    #[must_use]
    pub fn topic_id(&self, topic: &TopicName) -> TopicId {
        self.topics
            .get(topic)
            .map_or(TopicId::ZERO, |topic| topic.id)
    }

    /// The view after a response. Topics that it does not mention stay; brokers are those that it
    /// names.
    pub(crate) fn merge(&self, response: &MetadataResponse) -> Self {
        let mut topics = self.topics.clone();
        let mut refused = self.refused.clone();
        for topic in &response.topics {
            let Some(name) = topic
                .name
                .as_ref()
                .and_then(|name| TopicName::new(name).ok())
            else {
                continue;
            };
            let code = ErrorCode::from_code(topic.error_code);
            if code.is_none() {
                let known = topics.remove(&name);
                topics.insert(name.clone(), topic_of(topic, known.as_ref()));
                refused.remove(&name);
            } else {
                topics.remove(&name);
                refused.insert(name, code);
            }
        }
        Self {
            version: self.version + 1,
            cluster_id: response
                .cluster_id
                .as_ref()
                .map(|id| id.as_str().to_owned()),
            controller_id: broker_id(response.controller_id),
            brokers: response.brokers.iter().filter_map(broker_of).collect(),
            topics,
            refused,
        }
    }
}

fn broker_of(broker: &MetadataResponseBroker) -> Option<(BrokerId, Broker)> {
    let id = BrokerId(broker.node_id);
    let address = Address {
        host: broker.host.as_str().to_owned(),
        port: u16::try_from(broker.port).ok()?,
    };
    let rack = broker.rack.as_ref().map(|rack| rack.as_str().to_owned());
    Some((id, Broker { id, address, rack }))
}

fn topic_of(topic: &MetadataResponseTopic, known: Option<&Topic>) -> Topic {
    let known = known.filter(|known| known.id == topic.topic_id);
    let partitions = topic.partitions.iter().map(|partition| {
        let index = PartitionIndex(partition.partition_index);
        let newer = partition_of(partition);
        let known = known.and_then(|known| known.partitions.get(&index));
        match known {
            Some(known) if known.leader_epoch > newer.leader_epoch => (index, known.clone()),
            _ => (index, newer),
        }
    });
    Topic {
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
    }
}

fn partition_of(partition: &MetadataResponsePartition) -> Partition {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    Partition {
        leader: broker_id(partition.leader_id),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        replicas: ids(&partition.replica_nodes),
        isr: ids(&partition.isr_nodes),
        offline_replicas: ids(&partition.offline_replicas),
    }
}

fn broker_id(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(topic_id: u8, leader: i32, leader_epoch: i32) -> MetadataResponse {
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: leader,
                host: "host".into(),
                port: 9092,
                ..Default::default()
            }],
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                topic_id: TopicId::from_random([topic_id; 16]),
                partitions: vec![MetadataResponsePartition {
                    leader_id: leader,
                    leader_epoch,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn leader(view: &ClusterView) -> i32 {
        let topic = &view.topics[&TopicName::new("t").unwrap()];
        topic.partitions[&PartitionIndex(0)].leader.unwrap().0
    }

    #[test]
    fn a_late_answer_does_not_bring_back_an_old_leader_unless_the_topic_is_a_new_one() {
        let view = ClusterView::default().merge(&response(1, 2, 7));
        assert_eq!(leader(&view), 2);
        let late = view.merge(&response(1, 1, 6));
        assert_eq!(leader(&late), 2);
        let recreated = late.merge(&response(9, 1, 0));
        assert_eq!(leader(&recreated), 1);
        assert_eq!(recreated.version, 3);
    }

    #[test]
    fn a_refused_topic_is_gone_and_a_leader_must_be_alive() {
        let view = ClusterView::default().merge(&response(1, 2, 7));
        let partition = TopicPartition {
            topic: TopicName::new("t").unwrap(),
            partition: PartitionIndex(0),
        };
        assert_eq!(view.leader(&partition), Some(BrokerId(2)));
        let mut dead = response(1, 2, 8);
        dead.brokers.clear();
        assert_eq!(view.merge(&dead).leader(&partition), None);
        let mut refused = response(1, 2, 8);
        refused.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
        let view = view.merge(&refused);
        assert!(view.topics.is_empty());
        let code = view.refused[&partition.topic];
        assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    }

    #[test]
    fn a_partition_is_offline_when_no_replica_is_left_to_lead_it() {
        let named = TopicPartition {
            topic: TopicName::new("t").unwrap(),
            partition: PartitionIndex(0),
        };
        let view = |leader: i32, offline: &[i32]| {
            let mut response = response(1, leader, 7);
            let partition = &mut response.topics[0].partitions[0];
            partition.replica_nodes = vec![1, 2];
            partition.offline_replicas = offline.to_vec();
            ClusterView::default().merge(&response)
        };
        let told = view(-1, &[1, 2]).offline(&named).unwrap().to_string();
        assert!(told.contains("t-0 has no leader"), "{told}");
        assert!(told.contains("brokers 1, 2"), "{told}");
        // An election is under way, or done.
        assert!(view(-1, &[1]).offline(&named).is_none());
        assert!(view(2, &[1]).offline(&named).is_none());
    }
}
