//! The cluster as an operator sees it: nodes, quorum, partitions; and what he may order.
//!
//! Input: questions, partitions to elect leaders of, a broker that is gone. Output: what the
//! brokers say.
//!
//! Invariant: what a broker does not know, or is too old to tell, is `None`, never 0.
//!
//! Source: KIP-595, KIP-836 (DescribeQuorum), KIP-966 (DescribeTopicPartitions), KIP-1073 (fenced
//! brokers), KIP-183 and KIP-460 (ElectLeaders), KIP-631 (UnregisterBroker).

use std::collections::BTreeMap;

use skein_config::Address;
use skein_protocol::Str;
use skein_protocol::messages::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest};
use skein_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use skein_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, ReplicaState, RequestPartitionData, RequestTopicData,
};
use skein_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponsePartition, RequestCursor,
    TopicRequest,
};
use skein_protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use skein_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use skein_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionIndex, TopicName, TopicPartition};

use crate::admin::Admin;
use crate::error::ClientError;

/// The topic under which Kafka describes its quorum.
const METADATA_LOG: &str = "__cluster_metadata";
/// The key that says how many replicas must be in sync.
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// Kafka's number of topics as resources with a configuration.
const TOPIC_RESOURCE: i8 = 2;
/// Topics whose configuration is asked for at a time.
const TOPICS_PER_REQUEST: usize = 1_000;
/// Partitions that are asked for at a time: a broker's limit, by default.
const PARTITIONS_PER_PAGE: i32 = 2_000;

/// A registered node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its broker id.
    pub id: BrokerId,
    /// Where clients connect.
    pub address: Address,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Whether it may neither lead nor be in an ISR: it is gone, or has just come.
    pub is_fenced: bool,
}

/// The cluster's id and all of its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// The cluster's id.
    pub cluster_id: String,
    /// By id.
    pub nodes: Vec<Node>,
}

/// The quorum that keeps the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Who leads it, if anybody does.
    pub controller: Option<BrokerId>,
    /// The term in which it leads.
    pub term: i32,
    /// The next offset behind the last entry that a majority has; `None` if it is not known.
    pub committed_end: Option<i64>,
    /// Who votes.
    pub voters: Vec<QuorumMember>,
    /// Who gets all entries and does not vote.
    pub learners: Vec<QuorumMember>,
}

/// A node of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumMember {
    /// Its broker id.
    pub id: BrokerId,
    /// The next offset of its log, as the controller knows it.
    pub log_end: Option<i64>,
}

/// Who holds a partition, and who could lead it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Which.
    pub partition: TopicPartition,
    /// Whether its topic is one of the cluster's own.
    pub is_internal: bool,
    /// `None` while it has no leader.
    pub leader: Option<BrokerId>,
    /// Grows with each leader.
    pub leader_epoch: LeaderEpoch,
    /// In the order of preference.
    pub replicas: Vec<BrokerId>,
    /// In sync.
    pub isr: Vec<BrokerId>,
    /// Not in sync, and with all committed records.
    pub elr: Vec<BrokerId>,
    /// The last members of ISR and ELR, where both are empty.
    pub last_known: Vec<BrokerId>,
    /// Replicas on nodes that are gone, or whose storage has failed.
    pub offline_replicas: Vec<BrokerId>,
}

/// Which leader is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The first of the replicas; loses nothing.
    Preferred,
    /// Any replica, also one that lacks records; only where nobody leads.
    Unclean,
}

/// What became of each partition.
pub type Elected = BTreeMap<TopicPartition, Result<(), ClientError>>;

impl Admin {
    /// All registered nodes, also those that are fenced.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn describe_nodes(&self) -> Result<Nodes, ClientError> {
        let request = DescribeClusterRequest {
            include_fenced_brokers: true,
            ..Default::default()
        };
        let response = self
            .ask("the cluster", &request, |response| {
                Some((response.error_code, response.error_message.clone()))
            })
            .await?;
        let mut nodes: Vec<_> = response.brokers.iter().filter_map(node_of).collect();
        nodes.sort_by_key(|node| node.id);
        Ok(Nodes {
            cluster_id: response.cluster_id.as_str().to_owned(),
            nodes,
        })
    }

    /// The quorum that keeps the metadata, as its leader sees it if it has one.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn describe_quorum(&self) -> Result<Quorum, ClientError> {
        let subject = "the quorum";
        let request = DescribeQuorumRequest {
            topics: vec![RequestTopicData {
                topic_name: Str::from_static(METADATA_LOG),
                partitions: vec![RequestPartitionData { partition_index: 0 }],
            }],
        };
        let response = self
            .ask(subject, &request, |response| {
                if response.error_code != ErrorCode::None.code() {
                    return Some((response.error_code, response.error_message.clone()));
                }
                let log = response.topics.first()?.partitions.first()?;
                Some((log.error_code, log.error_message.clone()))
            })
            .await?;
        let mut logs = response.topics.iter().flat_map(|topic| &topic.partitions);
        let log = logs.next().ok_or_else(|| senseless(subject))?;
        Ok(Quorum {
            controller: known(log.leader_id).map(BrokerId),
            term: log.leader_epoch,
            committed_end: (log.high_watermark >= 0).then_some(log.high_watermark),
            voters: log.current_voters.iter().map(member_of).collect(),
            learners: log.observers.iter().map(member_of).collect(),
        })
    }

    /// The partitions of some topics, or without any of all.
    ///
    /// # Errors
    /// The broker's refusal, such as [`ErrorCode::UnknownTopicOrPartition`] with the topic's name.
    pub async fn describe_partitions(
        &self,
        topics: &[TopicName],
    ) -> Result<Vec<PartitionDescription>, ClientError> {
        let named = topics.iter().map(|name| TopicRequest {
            name: Str::from(name.as_str()),
        });
        let mut request = DescribeTopicPartitionsRequest {
            topics: named.collect(),
            response_partition_limit: PARTITIONS_PER_PAGE,
            cursor: None,
        };
        let mut described = Vec::new();
        loop {
            let subject = "the partitions";
            let none = |_: &_| Some((ErrorCode::None.code(), None));
            let page = self.ask(subject, &request, none).await?;
            for topic in &page.topics {
                let name = topic.name.as_ref().map(Str::as_str).unwrap_or_default();
                let code = ErrorCode::from_code(topic.error_code);
                if !code.is_none() {
                    return Err(ClientError::refused(format!("topic {name}"), code, None));
                }
                let name = TopicName::new(name).map_err(|_| senseless(subject))?;
                let partitions = topic.partitions.iter();
                described.extend(partitions.map(|one| partition_of(&name, topic.is_internal, one)));
            }
            let Some(cursor) = page.next_cursor else {
                return Ok(described);
            };
            // A broker that does not get on would be asked for ever.
            let next = Some(RequestCursor {
                topic_name: cursor.topic_name,
                partition_index: cursor.partition_index,
            });
            if page.topics.is_empty() || next == request.cursor {
                return Err(senseless(subject));
            }
            request.cursor = next;
        }
    }

    /// How many replicas of each topic's partitions must be in sync; without those of which the
    /// broker does not say.
    ///
    /// # Errors
    /// The broker's refusal of the whole request.
    pub async fn min_insync_replicas(
        &self,
        topics: &[TopicName],
    ) -> Result<BTreeMap<TopicName, usize>, ClientError> {
        let mut found = BTreeMap::new();
        for some in topics.chunks(TOPICS_PER_REQUEST) {
            let resources = some.iter().map(|name| DescribeConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: Str::from(name.as_str()),
                configuration_keys: Some(vec![Str::from_static(MIN_INSYNC_REPLICAS)]),
            });
            let request = DescribeConfigsRequest {
                resources: resources.collect(),
                ..Default::default()
            };
            let none = |_: &_| Some((ErrorCode::None.code(), None));
            let response = self.ask("the topics", &request, none).await?;
            for result in &response.results {
                // One that was deleted meanwhile has none.
                let mut keys = result.configs.iter();
                let key = keys.find(|key| key.name.as_str() == MIN_INSYNC_REPLICAS);
                let value = key.and_then(|key| key.value.as_ref()?.as_str().parse().ok());
                let name = TopicName::new(result.resource_name.as_str()).ok();
                found.extend(name.zip(value));
            }
        }
        Ok(found)
    }

    /// Elects leaders of these partitions.
    ///
    /// # Errors
    /// The refusal of the whole request; that of one partition is in the result. One that has the
    /// wanted leader is refused with [`ErrorCode::ElectionNotNeeded`].
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: &[TopicPartition],
    ) -> Result<Elected, ClientError> {
        let mut topics: BTreeMap<&TopicName, Vec<i32>> = BTreeMap::new();
        for one in partitions {
            let indexes = topics.entry(&one.topic).or_default();
            indexes.push(one.partition.get());
        }
        let topics = topics
            .into_iter()
            .map(|(topic, partitions)| TopicPartitions {
                topic: Str::from(topic.as_str()),
                partitions,
            });
        let request = ElectLeadersRequest {
            election_type: match election {
                Election::Preferred => 0,
                Election::Unclean => 1,
            },
            topic_partitions: Some(topics.collect()),
            timeout_ms: self.timeout_ms(),
        };
        let response = self
            .ask("the election", &request, |response| {
                Some((response.error_code, None))
            })
            .await?;
        let mut elected = Elected::new();
        for topic in &response.replica_election_results {
            let Ok(name) = TopicName::new(topic.topic.as_str()) else {
                continue;
            };
            for result in &topic.partition_result {
                let partition = TopicPartition {
                    topic: name.clone(),
                    partition: PartitionIndex(result.partition_id),
                };
                let code = ErrorCode::from_code(result.error_code);
                let message = result.error_message.as_ref().map(Str::as_str);
                let refusal = ClientError::refused(partition.to_string(), code, message);
                let result = if code.is_none() { Ok(()) } else { Err(refusal) };
                elected.insert(partition, result);
            }
        }
        Ok(elected)
    }

    /// Takes a broker that is gone for good out of the cluster.
    ///
    /// # Errors
    /// The broker's refusal: [`ErrorCode::BrokerIdNotRegistered`], or that the node is alive.
    pub async fn unregister_broker(&self, id: BrokerId) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest {
            broker_id: id.get(),
        };
        self.ask(&format!("node {id}"), &request, |response| {
            Some((response.error_code, response.error_message.clone()))
        })
        .await
        .map(|_| ())
    }
}

fn node_of(broker: &DescribeClusterBroker) -> Option<Node> {
    Some(Node {
        id: BrokerId(broker.broker_id),
        address: Address {
            host: broker.host.as_str().to_owned(),
            port: u16::try_from(broker.port).ok()?,
        },
        rack: broker.rack.as_ref().map(|rack| rack.as_str().to_owned()),
        is_fenced: broker.is_fenced,
    })
}

fn member_of(replica: &ReplicaState) -> QuorumMember {
    QuorumMember {
        id: BrokerId(replica.replica_id),
        log_end: (replica.log_end_offset >= 0).then_some(replica.log_end_offset),
    }
}

fn partition_of(
    topic: &TopicName,
    is_internal: bool,
    partition: &DescribeTopicPartitionsResponsePartition,
) -> PartitionDescription {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let optional = |list: &Option<Vec<i32>>| ids(list.as_deref().unwrap_or_default());
    PartitionDescription {
        partition: TopicPartition {
            topic: topic.clone(),
            partition: PartitionIndex(partition.partition_index),
        },
        is_internal,
        leader: known(partition.leader_id).map(BrokerId),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        replicas: ids(&partition.replica_nodes),
        isr: ids(&partition.isr_nodes),
        elr: optional(&partition.eligible_leader_replicas),
        last_known: optional(&partition.last_known_elr),
        offline_replicas: ids(&partition.offline_replicas),
    }
}

fn known(id: i32) -> Option<i32> {
    (id >= 0).then_some(id)
}

fn senseless(subject: &str) -> ClientError {
    ClientError::Senseless {
        subject: subject.to_owned(),
        reason: "it is not about what was asked",
    }
}
