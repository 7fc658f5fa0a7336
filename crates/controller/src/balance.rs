//! Leaders go back to where they belong: to the first of the replicas.
//!
//! Input: the image. Output: a new leader for partitions whose first replica could lead them, a
//! limited number at a time.
//!
//! Invariant: who leads then is in the ISR, alive, and its storage is well; so nothing is lost, and
//! a partition without such a replica stays as it is.
//!
//! Source: `auto.leader.rebalance.enable`; `maybeBalancePartitionLeaders` of Kafka 4.1, which does
//! not look at `leader.imbalance.per.broker.percentage` any more.

use skein_metadata::{Image, Partition};
use skein_types::BrokerId;

use crate::Response;
use crate::batch::{Context, Decision, effective_config, topic_config};
use crate::election::change_partition;

/// Elections of one round: who waits for the controller waits for one entry, and clients turn to
/// as many leaders at once.
pub(crate) const ELECTIONS_PER_ROUND_MAX: usize = 1_000;

/// Gives leaderships back to the preferred replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceLeaders;

/// What a round did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadersBalanced {
    /// Partitions that have a new leader.
    pub elected: usize,
    /// Whether there may be more of them.
    pub is_full: bool,
}

pub(crate) fn decide(image: &Image, context: &Context<'_>) -> Decision {
    let config = effective_config(image, context.config);
    let mut records = Vec::new();
    'topics: for topic in image.topics() {
        let mut partitions = topic.partitions();
        if !partitions.any(|(_, partition)| is_elsewhere(image, partition)) {
            continue;
        }
        let config = topic_config(image, &config, &topic.name);
        for (index, partition) in topic.partitions() {
            if records.len() >= ELECTIONS_PER_ROUND_MAX {
                break 'topics;
            }
            if is_elsewhere(image, partition) {
                let is_active = |id| image.is_active(id);
                let change = change_partition(topic, index, partition, &config, |change| {
                    change.elect_preferred(is_active);
                });
                records.extend(change);
            }
        }
    }
    let balanced = LeadersBalanced {
        elected: records.len(),
        is_full: records.len() >= ELECTIONS_PER_ROUND_MAX,
    };
    Decision {
        records,
        response: Response::BalanceLeaders(balanced),
    }
}

/// Whether another replica leads than the first one, which could.
fn is_elsewhere(image: &Image, partition: &Partition) -> bool {
    let could = |id: BrokerId| {
        partition.isr.contains(&id) && image.is_active(id) && !partition.is_offline(id)
    };
    let first = partition.replicas.first().copied();
    partition.leader != BrokerId::NONE
        && first.is_some_and(|first| first != partition.leader && could(first))
}

#[cfg(test)]
mod tests {
    use skein_metadata::Record;
    use skein_types::PartitionIndex;

    use super::*;
    use crate::testing::{World, topic};
    use crate::{Call, CreateTopics, Request};

    /// A topic whose partitions all have another leader than their first replica.
    fn world(partitions: i32) -> World {
        let mut world = World::of_brokers(3);
        world.grant(Request::CreateTopics(CreateTopics {
            topics: vec![topic("t", partitions, 3)],
            validate_only: false,
        }));
        for index in 0..partitions {
            change(&mut world, index, |partition| {
                partition.leader = partition.replicas[1];
            });
        }
        world
    }

    fn change(world: &mut World, index: i32, change: impl FnOnce(&mut Partition)) {
        let mut partition = world.partition("t", index);
        change(&mut partition);
        partition.partition_epoch.0 += 1;
        partition.leader_epoch.0 += 1;
        let topic_id = world.image.topic_by_name("t").unwrap().id;
        let index = PartitionIndex(index);
        world.apply_records(vec![Record::Partition {
            topic_id,
            index,
            partition,
        }]);
    }

    fn balance(world: &mut World) -> LeadersBalanced {
        let response = world.grant(Request::BalanceLeaders(BalanceLeaders));
        BalanceLeaders::response(response).unwrap()
    }

    #[test]
    fn leaders_go_back_to_the_first_replicas_and_stay_there() {
        let mut world = world(6);
        let before = world.partition("t", 0);
        assert_eq!(balance(&mut world).elected, 6);
        for index in 0..6 {
            let partition = world.partition("t", index);
            assert_eq!(partition.leader, partition.replicas[0]);
        }
        let after = world.partition("t", 0);
        assert_eq!(after.leader_epoch.0, before.leader_epoch.0 + 1);
        assert_eq!(balance(&mut world).elected, 0);
    }

    #[test]
    fn who_is_not_in_sync_or_whose_storage_failed_gets_nothing_back() {
        let mut world = world(3);
        change(&mut world, 0, |partition| {
            let first = partition.replicas[0];
            partition.isr.retain(|id| *id != first);
        });
        change(&mut world, 1, |partition| {
            let first = partition.replicas[0];
            partition.isr.retain(|id| *id != first);
            partition.offline = vec![first];
        });
        // Without a leader there is something else to be done than to balance.
        change(&mut world, 2, |partition| partition.leader = BrokerId::NONE);
        let image = world.image.clone();
        assert_eq!(balance(&mut world).elected, 0);
        assert_eq!(world.image, image);
    }

    #[test]
    fn a_round_has_a_limit() {
        let many = i32::try_from(ELECTIONS_PER_ROUND_MAX).unwrap();
        let mut world = world(many + 1);
        let first = balance(&mut world);
        assert!(first.is_full);
        assert_eq!(first.elected, ELECTIONS_PER_ROUND_MAX);
        let last = balance(&mut world);
        assert_eq!((last.elected, last.is_full), (1, false));
    }
}
