//! Requests of a broker to the controller, as Kafka's messages.
//!
//! Input: a request as the controller decides it. Output: the message, and the way back on the
//! controller's node; the same for the answers.
//!
//! Invariant, held by the round trips below: what is decided on another node is what was asked on
//! this one.
//!
//! Source: KIP-631 (BrokerRegistration, BrokerHeartbeat), KIP-730 (AllocateProducerIds).

use std::collections::BTreeMap;

use skein_controller::{
    AllocateProducerIds, BrokerRegistered, Call, DiskState, Heartbeat, HeartbeatAnswer,
    ProducerIdBlock, Refusal, RegisterBroker, ReplicasOffline,
};
use skein_metadata::Endpoint;
use skein_protocol::messages::allocate_producer_ids::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse,
};
use skein_protocol::messages::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use skein_protocol::messages::broker_registration::{
    BrokerRegistrationRequest, BrokerRegistrationResponse, Listener,
};
use skein_protocol::messages::replicas_offline::{
    ReplicasOfflineRequest, ReplicasOfflineResponse, Topic,
};
use skein_protocol::{Request as ApiRequest, Str};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, Millis, PartitionIndex, ProducerId, TopicId};

mod alter_partition;
mod report_log_ends;

/// A request that a broker sends to the controller, wherever that is.
pub(crate) trait ControllerCall: Call + Clone {
    /// The message.
    type Wire: ApiRequest;

    /// What is sent.
    fn to_wire(&self) -> Self::Wire;

    /// What was meant; the refusal is for who sent it.
    fn from_wire(wire: &Self::Wire) -> Result<Self, Refusal>;

    /// How a decision is told.
    fn to_answer(decision: Result<Self::Response, Refusal>)
    -> <Self::Wire as ApiRequest>::Response;

    /// The decision.
    fn from_answer(answer: <Self::Wire as ApiRequest>::Response)
    -> Result<Self::Response, Refusal>;
}

impl ControllerCall for RegisterBroker {
    type Wire = BrokerRegistrationRequest;

    fn to_wire(&self) -> Self::Wire {
        let listeners = self.endpoints.iter().map(|endpoint| Listener {
            name: Str::from(&endpoint.listener),
            host: Str::from(&endpoint.host),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        });
        let cluster_id = self.cluster_id.map(|id| id.to_string());
        BrokerRegistrationRequest {
            broker_id: self.broker_id.unwrap_or(BrokerId::NONE).get(),
            cluster_id: Str::from(cluster_id.unwrap_or_default()),
            incarnation_id: self.incarnation,
            listeners: listeners.collect(),
            rack: self.rack.as_ref().map(Str::from),
            previous_broker_epoch: self.previous_epoch.get(),
            raft_id: self.raft_id.cast_signed(),
            disk_state: match self.disk {
                DiskState::Unclean => 0,
                DiskState::IntactCache => 1,
                DiskState::Clean => 2,
            },
            is_ready: self.ready,
            ..Default::default()
        }
    }

    fn from_wire(wire: &Self::Wire) -> Result<Self, Refusal> {
        let cluster_id = match wire.cluster_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|error| {
                let message = format!("the cluster id {id:?} is none: {error}");
                Refusal::new(ErrorCode::InconsistentClusterId, message)
            })?),
        };
        let endpoints = wire.listeners.iter().map(|listener| Endpoint {
            listener: listener.name.as_str().to_owned(),
            host: listener.host.as_str().to_owned(),
            port: listener.port,
            security_protocol: listener.security_protocol,
        });
        let broker_id = BrokerId(wire.broker_id);
        Ok(Self {
            broker_id: (broker_id != BrokerId::NONE).then_some(broker_id),
            cluster_id,
            incarnation: wire.incarnation_id,
            raft_id: wire.raft_id.cast_unsigned(),
            endpoints: endpoints.collect(),
            rack: wire.rack.as_ref().map(|rack| rack.as_str().to_owned()),
            previous_epoch: BrokerEpoch(wire.previous_broker_epoch),
            disk: match wire.disk_state {
                1 => DiskState::IntactCache,
                2 => DiskState::Clean,
                // What a later version may say is no proof to this one.
                _ => DiskState::Unclean,
            },
            ready: wire.is_ready,
        })
    }

    fn to_answer(decision: Result<BrokerRegistered, Refusal>) -> BrokerRegistrationResponse {
        match decision {
            Ok(registered) => BrokerRegistrationResponse {
                broker_epoch: registered.broker_epoch.get(),
                broker_id: registered.broker_id.get(),
                ..Default::default()
            },
            Err(refusal) => BrokerRegistrationResponse {
                error_code: refusal.code.code(),
                error_message: Some(Str::from(refusal.message)),
                ..Default::default()
            },
        }
    }

    fn from_answer(answer: BrokerRegistrationResponse) -> Result<BrokerRegistered, Refusal> {
        granted(answer.error_code, answer.error_message)?;
        Ok(BrokerRegistered {
            broker_id: BrokerId(answer.broker_id),
            broker_epoch: BrokerEpoch(answer.broker_epoch),
        })
    }
}

impl ControllerCall for Heartbeat {
    type Wire = BrokerHeartbeatRequest;

    fn to_wire(&self) -> Self::Wire {
        BrokerHeartbeatRequest {
            broker_id: self.broker_id.get(),
            broker_epoch: self.broker_epoch.get(),
            current_metadata_offset: i64::try_from(self.applied_index).unwrap_or(i64::MAX),
            want_fence: self.want_fence,
            want_shut_down: self.want_shut_down,
            oldest_write_ms: self.oldest_write_ms.get(),
            ..Default::default()
        }
    }

    fn from_wire(wire: &Self::Wire) -> Result<Self, Refusal> {
        Ok(Self {
            broker_id: BrokerId(wire.broker_id),
            broker_epoch: BrokerEpoch(wire.broker_epoch),
            applied_index: u64::try_from(wire.current_metadata_offset).unwrap_or(0),
            want_fence: wire.want_fence,
            want_shut_down: wire.want_shut_down,
            oldest_write_ms: Millis(wire.oldest_write_ms),
        })
    }

    fn to_answer(decision: Result<HeartbeatAnswer, Refusal>) -> BrokerHeartbeatResponse {
        match decision {
            Ok(answer) => BrokerHeartbeatResponse {
                is_caught_up: answer.is_caught_up,
                is_fenced: answer.is_fenced,
                should_shut_down: answer.should_shut_down,
                leads_for_ms: answer.leads_for_ms.get(),
                ..Default::default()
            },
            Err(refusal) => BrokerHeartbeatResponse {
                error_code: refusal.code.code(),
                error_message: Some(Str::from(refusal.message)),
                ..Default::default()
            },
        }
    }

    fn from_answer(answer: BrokerHeartbeatResponse) -> Result<HeartbeatAnswer, Refusal> {
        granted(answer.error_code, answer.error_message)?;
        Ok(HeartbeatAnswer {
            is_caught_up: answer.is_caught_up,
            is_fenced: answer.is_fenced,
            should_shut_down: answer.should_shut_down,
            leads_for_ms: Millis(answer.leads_for_ms),
        })
    }
}

impl ControllerCall for AllocateProducerIds {
    type Wire = AllocateProducerIdsRequest;

    fn to_wire(&self) -> Self::Wire {
        AllocateProducerIdsRequest {
            broker_id: self.broker_id.get(),
            broker_epoch: self.broker_epoch.get(),
        }
    }

    fn from_wire(wire: &Self::Wire) -> Result<Self, Refusal> {
        Ok(Self {
            broker_id: BrokerId(wire.broker_id),
            broker_epoch: BrokerEpoch(wire.broker_epoch),
        })
    }

    fn to_answer(decision: Result<ProducerIdBlock, Refusal>) -> AllocateProducerIdsResponse {
        match decision {
            Ok(block) => AllocateProducerIdsResponse {
                producer_id_start: block.first.get(),
                producer_id_len: block.length,
                ..Default::default()
            },
            Err(refusal) => AllocateProducerIdsResponse {
                error_code: refusal.code.code(),
                error_message: Some(Str::from(refusal.message)),
                ..Default::default()
            },
        }
    }

    fn from_answer(answer: AllocateProducerIdsResponse) -> Result<ProducerIdBlock, Refusal> {
        granted(answer.error_code, answer.error_message)?;
        Ok(ProducerIdBlock {
            first: ProducerId(answer.producer_id_start),
            length: answer.producer_id_len,
        })
    }
}

impl ControllerCall for ReplicasOffline {
    type Wire = ReplicasOfflineRequest;

    fn to_wire(&self) -> Self::Wire {
        let mut by_topic: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &self.partitions {
            by_topic.entry(*topic).or_default().push(partition.get());
        }
        let topics = by_topic.into_iter().map(|(topic_id, partitions)| Topic {
            topic_id,
            partitions,
        });
        ReplicasOfflineRequest {
            broker_id: self.broker_id.get(),
            broker_epoch: self.broker_epoch.get(),
            topics: topics.collect(),
        }
    }

    fn from_wire(wire: &Self::Wire) -> Result<Self, Refusal> {
        let partitions = wire.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.topic_id, PartitionIndex(*partition)))
        });
        Ok(Self {
            broker_id: BrokerId(wire.broker_id),
            broker_epoch: BrokerEpoch(wire.broker_epoch),
            partitions: partitions.collect(),
        })
    }

    fn to_answer(decision: Result<(), Refusal>) -> ReplicasOfflineResponse {
        let refusal = decision.err();
        ReplicasOfflineResponse {
            error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
            error_message: refusal.map(|refusal| Str::from(refusal.message)),
        }
    }

    fn from_answer(answer: ReplicasOfflineResponse) -> Result<(), Refusal> {
        granted(answer.error_code, answer.error_message)
    }
}

/// Whether a code says that it was granted.
fn granted(code: i16, message: Option<Str>) -> Result<(), Refusal> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => {
            let message = message.map(|message| message.as_str().to_owned());
            Err(Refusal::new(
                code,
                message.unwrap_or_else(|| code.to_string()),
            ))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Debug;

    use skein_types::Uuid;

    use super::*;

    pub(super) fn check<C>(request: C, answer: C::Response)
    where
        C: ControllerCall + PartialEq + Debug,
        C::Response: Clone + PartialEq + Debug,
    {
        assert_eq!(C::from_wire(&request.to_wire()).unwrap(), request);
        assert_eq!(
            C::from_answer(C::to_answer(Ok(answer.clone()))).unwrap(),
            answer
        );
        let refusal = Refusal::new(ErrorCode::StaleBrokerEpoch, "too late");
        let told = C::from_answer(C::to_answer(Err(refusal.clone()))).unwrap_err();
        assert_eq!((told.code, told.message), (refusal.code, refusal.message));
    }

    #[test]
    fn what_is_decided_elsewhere_is_what_was_asked_here() {
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "a".to_owned(),
            port: 9092,
            security_protocol: 0,
        };
        let registration = RegisterBroker {
            broker_id: None,
            cluster_id: Some(Uuid([1; 16]).into()),
            incarnation: Uuid([2; 16]),
            raft_id: u64::MAX,
            endpoints: vec![endpoint],
            rack: Some("r".to_owned()),
            previous_epoch: BrokerEpoch::NONE,
            disk: DiskState::Unclean,
            ready: true,
        };
        let registered = BrokerRegistered {
            broker_id: BrokerId(0),
            broker_epoch: BrokerEpoch(9),
        };
        check(registration.clone(), registered);
        for disk in [DiskState::Clean, DiskState::IntactCache] {
            let registration = RegisterBroker {
                broker_id: Some(BrokerId(0)),
                cluster_id: None,
                rack: None,
                previous_epoch: BrokerEpoch(3),
                disk,
                ready: false,
                ..registration.clone()
            };
            check(registration, registered);
        }
        let answer = HeartbeatAnswer {
            is_caught_up: true,
            is_fenced: false,
            should_shut_down: true,
            leads_for_ms: Millis(1_900),
        };
        let heartbeat = Heartbeat {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(2),
            applied_index: 3,
            want_fence: true,
            want_shut_down: false,
            oldest_write_ms: Millis(2_100),
        };
        check(heartbeat, answer);
        let allocate = AllocateProducerIds {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(2),
        };
        let block = ProducerIdBlock {
            first: ProducerId(1000),
            length: 1000,
        };
        check(allocate, block);
        let (one, other) = (Uuid([1; 16]), Uuid([2; 16]));
        let offline = ReplicasOffline {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(2),
            partitions: [(one, 0), (one, 3), (other, 1)]
                .map(|(topic, partition)| (topic, PartitionIndex(partition)))
                .to_vec(),
        };
        check(offline, ());
    }

    #[test]
    fn a_state_that_this_version_does_not_know_proves_nothing() {
        let wire = BrokerRegistrationRequest {
            disk_state: 3,
            ..Default::default()
        };
        assert_eq!(
            RegisterBroker::from_wire(&wire).unwrap().disk,
            DiskState::Unclean
        );
    }
}
