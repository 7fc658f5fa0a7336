//! The layouts of records, one struct per type and version.
//!
//! Input: a [`Record`] or an envelope. Output: the other one.
//!
//! Invariant, held by the golden bytes in `record/tests.rs`: **no struct here ever changes**. Not a
//! field, not a type, not an order: bincode writes no names. A change is a new struct, a new
//! version, and a new line in `decode`; `encode` writes the newest version that the cluster's
//! feature level allows.
//!
//! Source: our own format.

use serde::{Deserialize, Serialize};
use skein_types::{
    BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, ParseClusterIdError, PartitionEpoch,
    PartitionIndex, ProducerId, TopicName, Uuid,
};

use super::{ConfigResource, RECORD_MAX_BYTES, Record, ResourceType};
use crate::envelope::{self, Envelope, EnvelopeError};
use crate::{Broker, Endpoint, LeaderRecoveryState, Partition};

const CLUSTER: u16 = 1;
const FEATURE: u16 = 2;
const BROKER: u16 = 3;
const BROKER_STATE: u16 = 4;
const REMOVE_BROKER: u16 = 5;
const TOPIC: u16 = 6;
const REMOVE_TOPIC: u16 = 7;
const PARTITION: u16 = 8;
const CONFIG: u16 = 9;
const PRODUCER_IDS: u16 = 10;
const FORGET_MEMBER: u16 = 11;

#[derive(Serialize, Deserialize)]
struct ClusterV0 {
    cluster_id: [u8; 16],
}

/// A cluster whose id is not the text of 16 bytes; the others are written as before.
#[derive(Serialize, Deserialize)]
struct ClusterV1 {
    cluster_id: String,
}

#[derive(Serialize, Deserialize)]
struct FeatureV0 {
    name: String,
    level: i16,
}

#[derive(Serialize, Deserialize)]
struct EndpointV0 {
    listener: String,
    host: String,
    port: u16,
    security_protocol: i16,
}

#[derive(Serialize, Deserialize)]
struct BrokerV0 {
    id: i32,
    epoch: i64,
    incarnation: [u8; 16],
    raft_id: u64,
    endpoints: Vec<EndpointV0>,
    rack: Option<String>,
    fenced: bool,
    stopping: bool,
}

#[derive(Serialize, Deserialize)]
struct BrokerStateV0 {
    id: i32,
    epoch: i64,
    fenced: bool,
    stopping: bool,
}

#[derive(Serialize, Deserialize)]
struct RemoveBrokerV0 {
    id: i32,
    epoch: i64,
}

#[derive(Serialize, Deserialize)]
struct ForgetMemberV0 {
    raft_id: u64,
}

#[derive(Serialize, Deserialize)]
struct TopicV0 {
    id: [u8; 16],
    name: String,
}

#[derive(Serialize, Deserialize)]
struct RemoveTopicV0 {
    id: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct PartitionV0 {
    topic_id: [u8; 16],
    index: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    elr: Vec<i32>,
    last_known: Vec<i32>,
    leader: i32,
    leader_epoch: i32,
    partition_epoch: i32,
    /// 0 recovered, 1 recovering.
    leader_recovery_state: u8,
}

/// A partition of which replicas are offline; the others are written as before.
#[derive(Serialize, Deserialize)]
struct PartitionV1 {
    v0: PartitionV0,
    offline: Vec<i32>,
}

#[derive(Serialize, Deserialize)]
struct ConfigV0 {
    resource_type: i8,
    resource_name: String,
    key: String,
    value: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ProducerIdsV0 {
    broker_id: i32,
    broker_epoch: i64,
    next_producer_id: i64,
}

pub(super) fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
    match record {
        Record::Cluster { cluster_id } => put_cluster(cluster_id, out),
        Record::Feature { name, level } => {
            let (name, level) = (name.clone(), *level);
            put(FEATURE, &FeatureV0 { name, level }, out)
        }
        Record::Broker(broker) => put(BROKER, &BrokerV0::from(broker.clone()), out),
        Record::BrokerState {
            id,
            epoch,
            fenced,
            stopping,
        } => {
            let (id, epoch, fenced, stopping) = (id.get(), epoch.get(), *fenced, *stopping);
            put(
                BROKER_STATE,
                &BrokerStateV0 {
                    id,
                    epoch,
                    fenced,
                    stopping,
                },
                out,
            )
        }
        Record::RemoveBroker { id, epoch } => {
            let (id, epoch) = (id.get(), epoch.get());
            put(REMOVE_BROKER, &RemoveBrokerV0 { id, epoch }, out)
        }
        Record::ForgetMember { raft_id } => put_forget_member(*raft_id, out),
        Record::Topic { id, name } => {
            let (id, name) = (id.0, name.as_str().to_owned());
            put(TOPIC, &TopicV0 { id, name }, out)
        }
        Record::RemoveTopic { id } => put(REMOVE_TOPIC, &RemoveTopicV0 { id: id.0 }, out),
        Record::Partition {
            topic_id,
            index,
            partition,
        } => put_partition(*topic_id, *index, partition, out),
        Record::Config {
            resource,
            key,
            value,
        } => put(CONFIG, &ConfigV0::new(resource, key, value.as_deref()), out),
        Record::ProducerIds {
            broker_id,
            broker_epoch,
            next_producer_id,
        } => {
            let (broker_id, broker_epoch) = (broker_id.get(), broker_epoch.get());
            let next_producer_id = next_producer_id.get();
            put(
                PRODUCER_IDS,
                &ProducerIdsV0 {
                    broker_id,
                    broker_epoch,
                    next_producer_id,
                },
                out,
            )
        }
    }
}

fn put_cluster(cluster_id: &ClusterId, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
    if let Some(Uuid(cluster_id)) = cluster_id.uuid() {
        return put(CLUSTER, &ClusterV0 { cluster_id }, out);
    }
    let cluster_id = cluster_id.to_string();
    envelope::write(CLUSTER, 1, &ClusterV1 { cluster_id }, RECORD_MAX_BYTES, out)
}

pub(super) fn decode(envelope: &Envelope<'_>) -> Result<Record, EnvelopeError> {
    match (envelope.kind, envelope.version) {
        (CLUSTER, 0) => envelope.decode().map(|v: ClusterV0| Record::Cluster {
            cluster_id: Uuid(v.cluster_id).into(),
        }),
        (CLUSTER, 1) => envelope.decode::<ClusterV1>()?.into_record(envelope),
        (FEATURE, 0) => envelope.decode().map(|v: FeatureV0| Record::Feature {
            name: v.name,
            level: v.level,
        }),
        (BROKER, 0) => envelope
            .decode()
            .map(|v: BrokerV0| Record::Broker(v.into())),
        (BROKER_STATE, 0) => envelope
            .decode()
            .map(|v: BrokerStateV0| Record::BrokerState {
                id: BrokerId(v.id),
                epoch: BrokerEpoch(v.epoch),
                fenced: v.fenced,
                stopping: v.stopping,
            }),
        (REMOVE_BROKER, 0) => envelope
            .decode()
            .map(|v: RemoveBrokerV0| Record::RemoveBroker {
                id: BrokerId(v.id),
                epoch: BrokerEpoch(v.epoch),
            }),
        (FORGET_MEMBER, 0) => envelope
            .decode()
            .map(|v: ForgetMemberV0| Record::ForgetMember { raft_id: v.raft_id }),
        (TOPIC, 0) => {
            let v: TopicV0 = envelope.decode()?;
            let name = TopicName::new(&v.name).map_err(|e| envelope.malformed(e.to_string()))?;
            Ok(Record::Topic {
                id: Uuid(v.id),
                name,
            })
        }
        (REMOVE_TOPIC, 0) => envelope
            .decode()
            .map(|v: RemoveTopicV0| Record::RemoveTopic { id: Uuid(v.id) }),
        (PARTITION, 0) => envelope
            .decode::<PartitionV0>()?
            .into_record(envelope, Vec::new()),
        (PARTITION, 1) => {
            let v: PartitionV1 = envelope.decode()?;
            v.v0.into_record(envelope, v.offline)
        }
        (CONFIG, 0) => {
            let v: ConfigV0 = envelope.decode()?;
            let kind = ResourceType::from_code(v.resource_type)
                .ok_or_else(|| envelope.malformed("unknown resource type"))?;
            let resource = ConfigResource {
                kind,
                name: v.resource_name,
            };
            Ok(Record::Config {
                resource,
                key: v.key,
                value: v.value,
            })
        }
        (PRODUCER_IDS, 0) => envelope
            .decode()
            .map(|v: ProducerIdsV0| Record::ProducerIds {
                broker_id: BrokerId(v.broker_id),
                broker_epoch: BrokerEpoch(v.broker_epoch),
                next_producer_id: ProducerId(v.next_producer_id),
            }),
        _ => Err(envelope.unknown()),
    }
}

impl ClusterV1 {
    fn into_record(self, envelope: &Envelope<'_>) -> Result<Record, EnvelopeError> {
        let cluster_id: Result<ClusterId, ParseClusterIdError> = self.cluster_id.parse();
        let cluster_id = cluster_id.map_err(|error| envelope.malformed(error.to_string()))?;
        Ok(Record::Cluster { cluster_id })
    }
}

fn put_forget_member(raft_id: u64, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
    put(FORGET_MEMBER, &ForgetMemberV0 { raft_id }, out)
}

fn put_partition(
    topic_id: Uuid,
    index: PartitionIndex,
    partition: &Partition,
    out: &mut Vec<u8>,
) -> Result<(), EnvelopeError> {
    let v0 = PartitionV0::new(topic_id, index, partition);
    if partition.offline.is_empty() {
        return put(PARTITION, &v0, out);
    }
    let offline = bare(&partition.offline);
    let v1 = PartitionV1 { v0, offline };
    envelope::write(PARTITION, 1, &v1, RECORD_MAX_BYTES, out)
}

fn put<T: Serialize>(kind: u16, value: &T, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
    envelope::write(kind, 0, value, RECORD_MAX_BYTES, out)
}

fn bare(list: &[BrokerId]) -> Vec<i32> {
    list.iter().map(|id| id.get()).collect()
}

impl From<Broker> for BrokerV0 {
    fn from(broker: Broker) -> Self {
        let endpoint = |e: Endpoint| EndpointV0 {
            listener: e.listener,
            host: e.host,
            port: e.port,
            security_protocol: e.security_protocol,
        };
        Self {
            id: broker.id.get(),
            epoch: broker.epoch.get(),
            incarnation: broker.incarnation.0,
            raft_id: broker.raft_id,
            endpoints: broker.endpoints.into_iter().map(endpoint).collect(),
            rack: broker.rack,
            fenced: broker.fenced,
            stopping: broker.stopping,
        }
    }
}

impl From<BrokerV0> for Broker {
    fn from(v: BrokerV0) -> Self {
        let endpoint = |e: EndpointV0| Endpoint {
            listener: e.listener,
            host: e.host,
            port: e.port,
            security_protocol: e.security_protocol,
        };
        Self {
            id: BrokerId(v.id),
            epoch: BrokerEpoch(v.epoch),
            incarnation: Uuid(v.incarnation),
            raft_id: v.raft_id,
            endpoints: v.endpoints.into_iter().map(endpoint).collect(),
            rack: v.rack,
            fenced: v.fenced,
            stopping: v.stopping,
        }
    }
}

impl ConfigV0 {
    fn new(resource: &ConfigResource, key: &str, value: Option<&str>) -> Self {
        Self {
            resource_type: resource.kind.code(),
            resource_name: resource.name.clone(),
            key: key.to_owned(),
            value: value.map(str::to_owned),
        }
    }
}

impl PartitionV0 {
    fn new(topic_id: Uuid, index: PartitionIndex, partition: &Partition) -> Self {
        Self {
            topic_id: topic_id.0,
            index: index.get(),
            replicas: bare(&partition.replicas),
            isr: bare(&partition.isr),
            elr: bare(&partition.elr),
            last_known: bare(&partition.last_known),
            leader: partition.leader.get(),
            leader_epoch: partition.leader_epoch.get(),
            partition_epoch: partition.partition_epoch.get(),
            leader_recovery_state: match partition.leader_recovery_state {
                LeaderRecoveryState::Recovered => 0,
                LeaderRecoveryState::Recovering => 1,
            },
        }
    }

    fn into_record(
        self,
        envelope: &Envelope<'_>,
        offline: Vec<i32>,
    ) -> Result<Record, EnvelopeError> {
        let ids = |list: Vec<i32>| list.into_iter().map(BrokerId).collect();
        let leader_recovery_state = match self.leader_recovery_state {
            0 => LeaderRecoveryState::Recovered,
            1 => LeaderRecoveryState::Recovering,
            _ => return Err(envelope.malformed("unknown leader recovery state")),
        };
        let partition = Partition {
            replicas: ids(self.replicas),
            isr: ids(self.isr),
            elr: ids(self.elr),
            last_known: ids(self.last_known),
            offline: ids(offline),
            leader: BrokerId(self.leader),
            leader_epoch: LeaderEpoch(self.leader_epoch),
            partition_epoch: PartitionEpoch(self.partition_epoch),
            leader_recovery_state,
        };
        partition
            .check()
            .map_err(|reason| envelope.malformed(reason))?;
        let index = PartitionIndex(self.index);
        Ok(Record::Partition {
            topic_id: Uuid(self.topic_id),
            index,
            partition,
        })
    }
}
