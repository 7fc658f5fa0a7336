//! ReportLogEnds as a message.
//!
//! Input: where logs of this broker end. Output: the message, and the way back.
//!
//! Invariant, held by the round trip below: what is decided is what was reported.
//!
//! Source: own design.

use std::collections::BTreeMap;

use skein_controller::{LogEnd, Refusal, ReportLogEnds, ReportedLog};
use skein_protocol::Str;
use skein_protocol::messages::report_log_ends::{
    Partition, ReportLogEndsRequest, ReportLogEndsResponse, Topic,
};
use skein_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::{ControllerCall, granted};

impl ControllerCall for ReportLogEnds {
    type Wire = ReportLogEndsRequest;

    fn to_wire(&self) -> Self::Wire {
        let mut by_topic: BTreeMap<TopicId, Vec<Partition>> = BTreeMap::new();
        for log in &self.logs {
            let partition = Partition {
                partition: log.partition.get(),
                leader_epoch: log.leader_epoch.get(),
                last_epoch: log.end.last_epoch.get(),
                end_offset: log.end.end_offset.get(),
            };
            by_topic.entry(log.topic_id).or_default().push(partition);
        }
        let topics = by_topic.into_iter().map(|(topic_id, partitions)| Topic {
            topic_id,
            partitions,
        });
        ReportLogEndsRequest {
            broker_id: self.broker_id.get(),
            broker_epoch: self.broker_epoch.get(),
            topics: topics.collect(),
        }
    }

    fn from_wire(wire: &Self::Wire) -> Result<Self, Refusal> {
        let logs = wire.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|one| ReportedLog {
                topic_id: topic.topic_id,
                partition: PartitionIndex(one.partition),
                leader_epoch: LeaderEpoch(one.leader_epoch),
                end: LogEnd {
                    last_epoch: LeaderEpoch(one.last_epoch),
                    end_offset: Offset(one.end_offset),
                },
            })
        });
        Ok(Self {
            broker_id: BrokerId(wire.broker_id),
            broker_epoch: BrokerEpoch(wire.broker_epoch),
            logs: logs.collect(),
        })
    }

    fn to_answer(decision: Result<(), Refusal>) -> ReportLogEndsResponse {
        let refusal = decision.err();
        ReportLogEndsResponse {
            error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
            error_message: refusal.map(|refusal| Str::from(refusal.message)),
        }
    }

    fn from_answer(answer: ReportLogEndsResponse) -> Result<(), Refusal> {
        granted(answer.error_code, answer.error_message)
    }
}

#[cfg(test)]
mod tests {
    use skein_types::Uuid;

    use super::*;
    use crate::peers::controller_calls::tests::check;

    #[test]
    fn what_is_decided_is_what_was_reported() {
        let log = |topic, partition, epoch, end| ReportedLog {
            topic_id: Uuid([topic; 16]),
            partition: PartitionIndex(partition),
            leader_epoch: LeaderEpoch(7),
            end: LogEnd {
                last_epoch: LeaderEpoch(epoch),
                end_offset: Offset(end),
            },
        };
        let report = ReportLogEnds {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(2),
            logs: vec![log(1, 0, 6, 100), log(1, 3, -1, 0), log(2, 0, 5, 1)],
        };
        check(report, ());
    }
}
