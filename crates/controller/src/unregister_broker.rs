//! The end of a node that is gone for good.
//!
//! Input: the id of a broker. Output: records that take it out of the cluster: of every ISR, ELR
//! and last known set, of the brokers; and its Raft id as one that means nobody from then on.
//!
//! Invariants:
//! - a broker that may be alive is refused: it would go on serving for a while, and its records may
//!   be the last copy;
//! - what was decided is one entry: no image has the broker without its partitions.
//!
//! Partitions stay assigned to it, and count as under-replicated, as in Kafka: a new node that gets
//! its id takes them over.
//!
//! Source: KIP-631 (UnregisterBroker); the Raft id that is kept is our own.

use skein_metadata::{Image, Record};
use skein_types::{BrokerId, ErrorCode};

use crate::batch::{Context, Decision, effective_config};
use crate::election::{Departure, change_partitions};
use crate::{Refusal, Response};

/// What a node is told that comes back after it was taken out, and what its operator is to do.
pub const FORGOTTEN: &str = "this node was forgotten by its cluster ('skein node forget'): its \
     directories are nobody's; empty log.dirs and metadata.log.dir, and it may join as a new node";

/// A broker is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnregisterBroker {
    /// Which.
    pub broker_id: BrokerId,
}

pub(crate) fn decide(
    image: &Image,
    request: &UnregisterBroker,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    let id = request.broker_id;
    let Some(broker) = image.broker(id) else {
        let message = format!("no node with id {id} is registered");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    // A fenced one may be back in a moment: as long as its session lasts nobody knows.
    if !broker.fenced || context.sessions.is_alive(id, context.now) {
        let message = format!(
            "node {id} is alive, or was a moment ago: stop it, and wait until it is fenced and its \
             session has ended"
        );
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let config = effective_config(image, context.config);
    let mut records = change_partitions(
        image,
        &config,
        |partition| partition.replicas.contains(&id),
        |change| {
            change.register(id, Departure::Replaced);
            change.elect(|other| other != id && image.is_active(other));
        },
    );
    records.push(Record::RemoveBroker {
        id,
        epoch: broker.epoch,
    });
    records.push(Record::ForgetMember {
        raft_id: broker.raft_id,
    });
    Ok(Decision {
        records,
        response: Response::UnregisterBroker(()),
    })
}

#[cfg(test)]
mod tests {
    use skein_metadata::Endpoint;
    use skein_types::{BrokerEpoch, PartitionIndex, Uuid};

    use super::*;
    use crate::testing::{World, endpoint};
    use crate::{CreateTopics, DiskState, FenceBrokers, NewTopic, RegisterBroker, Request};

    /// A topic of one partition on brokers 1 to 3, of which 3 is fenced and silent for long.
    fn world() -> World {
        let mut world = World::of_brokers(3);
        world.grant(Request::CreateTopics(CreateTopics {
            topics: vec![NewTopic {
                name: "t".into(),
                num_partitions: -1,
                replication_factor: -1,
                assignments: vec![(PartitionIndex(0), [3, 1, 2].map(BrokerId).to_vec())],
                configs: vec![("min.insync.replicas".into(), Some("3".into()))],
            }],
            validate_only: false,
        }));
        let brokers = vec![(BrokerId(3), BrokerEpoch(3))];
        world.grant(Request::FenceBrokers(FenceBrokers { brokers }));
        world
    }

    fn forget(id: i32) -> Request {
        let broker_id = BrokerId(id);
        UnregisterBroker { broker_id }.into()
    }

    fn register(id: i32, raft_id: u64, endpoint: Endpoint) -> Request {
        Request::RegisterBroker(RegisterBroker {
            broker_id: Some(BrokerId(id)),
            cluster_id: None,
            incarnation: Uuid([77; 16]),
            raft_id,
            endpoints: vec![endpoint],
            rack: None,
            previous_epoch: BrokerEpoch::NONE,
            disk: DiskState::Unclean,
            ready: true,
        })
    }

    #[test]
    fn a_node_that_is_gone_leaves_every_list_but_the_assignment() {
        let mut world = world();
        assert_eq!(world.partition("t", 0).elr, [BrokerId(3)]);
        world.grant(forget(3));
        assert!(world.image.broker(BrokerId(3)).is_none());
        assert!(world.image.is_forgotten(3));
        let partition = world.partition("t", 0);
        assert_eq!(partition.replicas, [3, 1, 2].map(BrokerId));
        assert_eq!(partition.isr, [1, 2].map(BrokerId));
        assert_eq!(partition.elr, []);
        assert_eq!(world.refuse(forget(3)), ErrorCode::BrokerIdNotRegistered);
    }

    #[test]
    fn a_node_that_may_be_alive_is_not_forgotten() {
        let mut world = world();
        assert_eq!(world.refuse(forget(1)), ErrorCode::InvalidRequest);
        let (id, epoch) = (BrokerId(3), BrokerEpoch(3));
        world.sessions.touch(id, epoch, world.now);
        assert_eq!(world.refuse(forget(3)), ErrorCode::InvalidRequest);
        assert_eq!(world.refuse(forget(9)), ErrorCode::BrokerIdNotRegistered);
        assert!(!world.image.is_forgotten(3));
        world.now.0 += 1_000_000;
        world.grant(forget(3));
    }

    #[test]
    fn a_forgotten_member_never_registers_again_and_a_new_one_may_have_its_id() {
        let mut world = world();
        world.grant(forget(3));
        for id in [3, 4] {
            let refused = world.refuse(register(id, 3, endpoint(9003)));
            assert_eq!(refused, ErrorCode::InvalidRegistration);
        }
        world.grant(register(3, 33, endpoint(9003)));
        assert!(world.image.is_active(BrokerId(3)));
        assert!(!world.partition("t", 0).isr.contains(&BrokerId(3)));
    }
}
