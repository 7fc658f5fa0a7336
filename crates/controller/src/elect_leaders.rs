//! ElectLeaders: leaders where an operator asks for them.
//!
//! Input: partitions, or all of them, and the kind of election. Output: for each partition its new
//! leader, or why it keeps what it has.
//!
//! Invariants:
//! - a preferred election never loses a record: who leads then is in the ISR;
//! - only an unclean one may give a partition to a replica that lacks records, and only where the
//!   partition has no leader.
//!
//! Source: KIP-183, KIP-460; `ReplicationControlManager.electLeaders` of Kafka 4.1.

use std::sync::Arc;

use skein_config::BrokerConfig;
use skein_metadata::{Image, Record, Topic};
use skein_types::{BrokerId, ErrorCode, PartitionIndex};

use crate::batch::{Context, Decision, effective_config, topic_config};
use crate::election::change_partition;
use crate::{Refusal, Response};

/// Which leader is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first of the replicas.
    Preferred,
    /// Any replica, also one that lacks records.
    Unclean,
}

/// Elects leaders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectLeaders {
    /// Which.
    pub election_type: ElectionType,
    /// Of which partitions; `None` for all, of which those are answered that needed an election.
    pub partitions: Option<Vec<(String, Vec<PartitionIndex>)>>,
}

/// What became of the partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectLeadersResult {
    /// As requested.
    pub topic: String,
    /// Whether each has a new leader.
    pub partitions: Vec<(PartitionIndex, Result<(), Refusal>)>,
}

impl ElectionType {
    /// The type that ElectLeaders carries as `code`.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Preferred),
            1 => Some(Self::Unclean),
            _ => None,
        }
    }
}

/// The elections of one request, each on what the ones before it lead to.
struct Elections {
    image: Image,
    config: BrokerConfig,
    election_type: ElectionType,
    records: Vec<Record>,
}

pub(crate) fn decide(
    image: &Image,
    request: &ElectLeaders,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    let mut elections = Elections {
        image: image.clone(),
        config: effective_config(image, context.config).into_owned(),
        election_type: request.election_type,
        records: Vec::new(),
    };
    let results = match &request.partitions {
        Some(topics) => {
            let of = |(topic, indexes): &(String, Vec<_>)| elections.of_topic(topic, indexes);
            topics.iter().map(of).collect::<Result<_, _>>()?
        }
        None => elections.of_all(image)?,
    };
    Ok(Decision {
        records: elections.records,
        response: Response::ElectLeaders(results),
    })
}

impl Elections {
    fn of_topic(
        &mut self,
        topic: &str,
        indexes: &[PartitionIndex],
    ) -> Result<ElectLeadersResult, Refusal> {
        let mut partitions = Vec::with_capacity(indexes.len());
        for index in indexes {
            partitions.push((*index, self.of_partition(topic, *index)?));
        }
        Ok(ElectLeadersResult {
            topic: topic.to_owned(),
            partitions,
        })
    }

    fn of_all(&mut self, image: &Image) -> Result<Vec<ElectLeadersResult>, Refusal> {
        let mut results = Vec::with_capacity(image.topics().len());
        for topic in image.topics_by_name() {
            let indexes: Vec<_> = topic.partitions().map(|(index, _)| index).collect();
            let mut result = self.of_topic(topic.name.as_str(), &indexes)?;
            let not_needed = ErrorCode::ElectionNotNeeded;
            let is_done =
                |one: &Result<(), Refusal>| one.as_ref().is_err_and(|r| r.code == not_needed);
            result.partitions.retain(|(_, one)| !is_done(one));
            results.push(result);
        }
        Ok(results)
    }

    /// The outer error is a bug of these rules: nothing of the request takes effect.
    fn of_partition(
        &mut self,
        topic: &str,
        index: PartitionIndex,
    ) -> Result<Result<(), Refusal>, Refusal> {
        let Some(topic) = self.image.topic_by_name(topic).map(Arc::clone) else {
            let message = "there is no such topic";
            return Ok(refuse(ErrorCode::UnknownTopicOrPartition, message));
        };
        let records = match self.elect(&topic, index) {
            Ok(record) => [record],
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.image
            .apply_records(&records)
            .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
        self.records.extend(records);
        Ok(Ok(()))
    }

    fn elect(&self, topic: &Topic, index: PartitionIndex) -> Result<Record, Refusal> {
        let Some(partition) = topic.partition(index) else {
            let message = format!("the topic has no partition {index}");
            return refuse(ErrorCode::UnknownTopicOrPartition, message);
        };
        let is_settled = match self.election_type {
            ElectionType::Preferred => partition.replicas.first() == Some(&partition.leader),
            ElectionType::Unclean => partition.leader != BrokerId::NONE,
        };
        if is_settled {
            let message = "the partition has the leader that it needs";
            return refuse(ErrorCode::ElectionNotNeeded, message);
        }
        let config = topic_config(&self.image, &self.config, &topic.name);
        let is_active = |id| self.image.is_active(id);
        let elected = change_partition(topic, index, partition, &config, |change| {
            match self.election_type {
                ElectionType::Preferred => change.elect_preferred(is_active),
                ElectionType::Unclean => change.elect_unclean(is_active),
            }
        });
        elected.ok_or_else(|| match self.election_type {
            ElectionType::Preferred => Refusal::new(
                ErrorCode::PreferredLeaderNotAvailable,
                "the first replica is not alive and in the ISR",
            ),
            ElectionType::Unclean => Refusal::new(
                ErrorCode::EligibleLeadersNotAvailable,
                "no replica is alive with its storage intact",
            ),
        })
    }
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

#[cfg(test)]
mod tests {
    use skein_metadata::{LeaderRecoveryState, Partition};
    use skein_types::BrokerEpoch;

    use super::*;
    use crate::testing::{World, code};
    use crate::{Call, CreateTopics, FenceBrokers, NewTopic, ReplicasOffline, Request};

    /// A topic of one partition whose replicas are brokers 1, 2 and 3.
    fn world() -> World {
        let mut world = World::of_brokers(3);
        let replicas = vec![BrokerId(1), BrokerId(2), BrokerId(3)];
        world.grant(Request::CreateTopics(CreateTopics {
            topics: vec![NewTopic {
                name: "t".into(),
                num_partitions: -1,
                replication_factor: -1,
                assignments: vec![(PartitionIndex(0), replicas)],
                configs: vec![],
            }],
            validate_only: false,
        }));
        world
    }

    fn change(world: &mut World, change: impl FnOnce(&mut Partition)) {
        let mut partition = world.partition("t", 0);
        change(&mut partition);
        partition.partition_epoch.0 += 1;
        partition.leader_epoch.0 += 1;
        let topic_id = world.image.topic_by_name("t").unwrap().id;
        world.apply_records(vec![Record::Partition {
            topic_id,
            index: PartitionIndex(0),
            partition,
        }]);
    }

    fn elect(world: &mut World, election_type: ElectionType, index: i32) -> ErrorCode {
        let partitions = Some(vec![("t".to_owned(), vec![PartitionIndex(index)])]);
        let results = elect_all(world, election_type, partitions);
        code(&results[0].partitions[0].1)
    }

    fn elect_all(
        world: &mut World,
        election_type: ElectionType,
        partitions: Option<Vec<(String, Vec<PartitionIndex>)>>,
    ) -> Vec<ElectLeadersResult> {
        let response = world.grant(Request::ElectLeaders(ElectLeaders {
            election_type,
            partitions,
        }));
        ElectLeaders::response(response).unwrap()
    }

    fn fence(world: &mut World, ids: &[i32]) {
        for id in ids {
            let epoch = BrokerEpoch(i64::from(*id));
            let brokers = vec![(BrokerId(*id), epoch)];
            world.now.0 += 1_000_000;
            world.grant(Request::FenceBrokers(FenceBrokers { brokers }));
        }
    }

    #[test]
    fn the_first_replica_leads_again_if_it_is_in_the_isr() {
        let mut world = world();
        let preferred = ElectionType::Preferred;
        assert_eq!(
            elect(&mut world, preferred, 0),
            ErrorCode::ElectionNotNeeded
        );
        change(&mut world, |partition| partition.leader = BrokerId(2));
        let before = world.partition("t", 0);
        assert_eq!(elect(&mut world, preferred, 0), ErrorCode::None);
        let after = world.partition("t", 0);
        assert_eq!(after.leader, BrokerId(1));
        assert_eq!(after.leader_epoch.0, before.leader_epoch.0 + 1);
        assert_eq!(after.isr, before.isr);

        change(&mut world, |partition| {
            partition.leader = BrokerId(2);
            partition.isr = vec![BrokerId(2), BrokerId(3)];
        });
        let before = world.partition("t", 0);
        assert_eq!(
            elect(&mut world, preferred, 0),
            ErrorCode::PreferredLeaderNotAvailable
        );
        assert_eq!(world.partition("t", 0), before);
        assert_eq!(
            elect(&mut world, preferred, 1),
            ErrorCode::UnknownTopicOrPartition
        );
    }

    #[test]
    fn an_unclean_election_takes_whom_it_finds_and_only_where_nobody_leads() {
        let mut world = world();
        let unclean = ElectionType::Unclean;
        assert_eq!(elect(&mut world, unclean, 0), ErrorCode::ElectionNotNeeded);
        change(&mut world, |partition| {
            partition.isr = vec![BrokerId(1)];
            partition.elr = vec![];
        });
        fence(&mut world, &[1]);
        assert_eq!(world.partition("t", 0).leader, BrokerId::NONE);
        let preferred = ElectionType::Preferred;
        assert_eq!(
            elect(&mut world, preferred, 0),
            ErrorCode::PreferredLeaderNotAvailable
        );
        assert_eq!(elect(&mut world, unclean, 0), ErrorCode::None);
        let partition = world.partition("t", 0);
        assert_eq!(partition.leader, BrokerId(2));
        assert_eq!(partition.isr, [BrokerId(2)]);
        let recovering = LeaderRecoveryState::Recovering;
        assert_eq!(partition.leader_recovery_state, recovering);
    }

    #[test]
    fn a_replica_whose_storage_failed_is_not_elected_however_unclean() {
        let mut world = world();
        for id in 1..=3 {
            let topic = world.image.topic_by_name("t").unwrap().id;
            world.grant(Request::ReplicasOffline(ReplicasOffline {
                broker_id: BrokerId(id),
                broker_epoch: BrokerEpoch(i64::from(id)),
                partitions: vec![(topic, PartitionIndex(0))],
            }));
        }
        assert_eq!(
            elect(&mut world, ElectionType::Unclean, 0),
            ErrorCode::EligibleLeadersNotAvailable
        );
    }

    #[test]
    fn of_all_partitions_those_are_told_that_needed_an_election() {
        let mut world = world();
        let preferred = ElectionType::Preferred;
        let all = elect_all(&mut world, preferred, None);
        assert_eq!((all.len(), all[0].partitions.len()), (1, 0));
        change(&mut world, |partition| partition.leader = BrokerId(3));
        let all = elect_all(&mut world, preferred, None);
        assert_eq!(all[0].partitions, [(PartitionIndex(0), Ok(()))]);

        // Twice in one request: the second one finds that it is done.
        change(&mut world, |partition| partition.leader = BrokerId(3));
        let twice = vec![("t".to_owned(), vec![PartitionIndex(0); 2])];
        let results = elect_all(&mut world, preferred, Some(twice));
        let codes: Vec<_> = results[0]
            .partitions
            .iter()
            .map(|one| code(&one.1))
            .collect();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::ElectionNotNeeded]);
    }
}
