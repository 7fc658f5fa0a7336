//! AlterPartition, as Kafka's message.
//!
//! Input and output: as in `controller_calls.rs`.
//!
//! Invariant, held by the round trip below: members keep the epochs of the processes that the
//! leader has seen. Messages of refusals stay behind: Kafka's answer has no place for them.
//!
//! Source: KIP-497, KIP-903.

use skein_controller::{
    AlterPartition, AlterPartitionResult, AlteredPartition, PartitionAlteration, ProposedMember,
    Refusal,
};
use skein_metadata::LeaderRecoveryState;
use skein_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, RequestPartitionData,
    RequestTopicData, ResponsePartitionData, ResponseTopicData,
};
use skein_types::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex};

use super::{ControllerCall, granted};

impl ControllerCall for AlterPartition {
    type Wire = AlterPartitionRequest;

    fn to_wire(&self) -> Self::Wire {
        let mut topics: Vec<RequestTopicData> = Vec::new();
        for altered in &self.partitions {
            let members = altered.isr.iter().map(|member| BrokerState {
                broker_id: member.broker_id.get(),
                broker_epoch: member.broker_epoch.get(),
            });
            let partition = RequestPartitionData {
                partition_index: altered.partition.get(),
                leader_epoch: altered.leader_epoch.get(),
                new_isr_with_epochs: members.collect(),
                leader_recovery_state: recovery_code(altered.leader_recovery_state),
                partition_epoch: altered.partition_epoch.get(),
                ..Default::default()
            };
            match topics.last_mut() {
                Some(topic) if topic.topic_id == altered.topic_id => {
                    topic.partitions.push(partition);
                }
                _ => topics.push(RequestTopicData {
                    topic_id: altered.topic_id,
                    partitions: vec![partition],
                }),
            }
        }
        AlterPartitionRequest {
            broker_id: self.broker_id.get(),
            broker_epoch: self.broker_epoch.get(),
            topics,
        }
    }

    fn from_wire(wire: &Self::Wire) -> Result<Self, Refusal> {
        let partitions = wire.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|altered| PartitionAlteration {
                topic_id: topic.topic_id,
                partition: PartitionIndex(altered.partition_index),
                leader_epoch: LeaderEpoch(altered.leader_epoch),
                partition_epoch: PartitionEpoch(altered.partition_epoch),
                isr: altered.new_isr_with_epochs.iter().map(proposed).collect(),
                leader_recovery_state: recovery_of(altered.leader_recovery_state),
            })
        });
        Ok(Self {
            broker_id: BrokerId(wire.broker_id),
            broker_epoch: BrokerEpoch(wire.broker_epoch),
            partitions: partitions.collect(),
        })
    }

    fn to_answer(decision: Result<Vec<AlterPartitionResult>, Refusal>) -> AlterPartitionResponse {
        let results = match decision {
            Ok(results) => results,
            Err(refusal) => {
                return AlterPartitionResponse {
                    error_code: refusal.code.code(),
                    ..Default::default()
                };
            }
        };
        let mut topics: Vec<ResponseTopicData> = Vec::new();
        for result in results {
            let partition = altered_data(result.partition, result.result);
            match topics.last_mut() {
                Some(topic) if topic.topic_id == result.topic_id => {
                    topic.partitions.push(partition);
                }
                _ => topics.push(ResponseTopicData {
                    topic_id: result.topic_id,
                    partitions: vec![partition],
                }),
            }
        }
        AlterPartitionResponse {
            topics,
            ..Default::default()
        }
    }

    fn from_answer(answer: AlterPartitionResponse) -> Result<Vec<AlterPartitionResult>, Refusal> {
        granted(answer.error_code, None)?;
        let results = answer.topics.into_iter().flat_map(|topic| {
            let partitions = topic.partitions.into_iter();
            partitions.map(move |data| AlterPartitionResult {
                topic_id: topic.topic_id,
                partition: PartitionIndex(data.partition_index),
                result: granted(data.error_code, None).map(|()| AlteredPartition {
                    leader: BrokerId(data.leader_id),
                    leader_epoch: LeaderEpoch(data.leader_epoch),
                    partition_epoch: PartitionEpoch(data.partition_epoch),
                    isr: data.isr.into_iter().map(BrokerId).collect(),
                    leader_recovery_state: recovery_of(data.leader_recovery_state),
                }),
            })
        });
        Ok(results.collect())
    }
}

fn proposed(member: &BrokerState) -> ProposedMember {
    ProposedMember {
        broker_id: BrokerId(member.broker_id),
        broker_epoch: BrokerEpoch(member.broker_epoch),
    }
}

fn altered_data(
    partition: PartitionIndex,
    result: Result<AlteredPartition, Refusal>,
) -> ResponsePartitionData {
    let partition_index = partition.get();
    match result {
        Ok(altered) => ResponsePartitionData {
            partition_index,
            leader_id: altered.leader.get(),
            leader_epoch: altered.leader_epoch.get(),
            isr: altered.isr.iter().map(|id| id.get()).collect(),
            leader_recovery_state: recovery_code(altered.leader_recovery_state),
            partition_epoch: altered.partition_epoch.get(),
            ..Default::default()
        },
        Err(refusal) => ResponsePartitionData {
            partition_index,
            error_code: refusal.code.code(),
            ..Default::default()
        },
    }
}

const fn recovery_code(state: LeaderRecoveryState) -> i8 {
    match state {
        LeaderRecoveryState::Recovered => 0,
        LeaderRecoveryState::Recovering => 1,
    }
}

const fn recovery_of(code: i8) -> LeaderRecoveryState {
    match code {
        1 => LeaderRecoveryState::Recovering,
        _ => LeaderRecoveryState::Recovered,
    }
}

#[cfg(test)]
mod tests {
    use skein_types::{ErrorCode, Uuid};

    use super::*;

    fn alteration(topic: u8, partition: i32) -> PartitionAlteration {
        let member = |id, epoch| ProposedMember {
            broker_id: BrokerId(id),
            broker_epoch: BrokerEpoch(epoch),
        };
        PartitionAlteration {
            topic_id: Uuid([topic; 16]),
            partition: PartitionIndex(partition),
            leader_epoch: LeaderEpoch(3),
            partition_epoch: PartitionEpoch(4),
            isr: vec![member(1, -1), member(2, 77)],
            leader_recovery_state: LeaderRecoveryState::Recovering,
        }
    }

    #[test]
    fn members_keep_the_epochs_of_their_processes() {
        let request = AlterPartition {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(9),
            partitions: vec![alteration(1, 0), alteration(1, 1), alteration(2, 0)],
        };
        assert_eq!(
            AlterPartition::from_wire(&request.to_wire()).unwrap(),
            request
        );
    }

    #[test]
    fn each_partition_has_its_own_answer() {
        let altered = AlteredPartition {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(3),
            partition_epoch: PartitionEpoch(5),
            isr: vec![BrokerId(1), BrokerId(2)],
            leader_recovery_state: LeaderRecoveryState::Recovered,
        };
        let refusal = Refusal::new(ErrorCode::IneligibleReplica, "fenced");
        let answers = [(1, 0, Ok(altered)), (1, 1, Err(refusal))];
        let results = answers.map(|(topic, partition, result)| AlterPartitionResult {
            topic_id: Uuid([topic; 16]),
            partition: PartitionIndex(partition),
            result,
        });
        let told = AlterPartition::to_answer(Ok(results.to_vec()));
        let told = AlterPartition::from_answer(told).unwrap();
        assert_eq!(told[0], results[0]);
        let (told, expected) = (&told[1], &results[1]);
        assert_eq!(
            (told.topic_id, told.partition),
            (expected.topic_id, expected.partition)
        );
        let code = told
            .result
            .as_ref()
            .map_err(|refusal| refusal.code)
            .unwrap_err();
        assert_eq!(code, ErrorCode::IneligibleReplica);
        let stale = Refusal::new(ErrorCode::StaleBrokerEpoch, "another process");
        let whole = AlterPartition::from_answer(AlterPartition::to_answer(Err(stale)));
        assert_eq!(whole.unwrap_err().code, ErrorCode::StaleBrokerEpoch);
    }
}
