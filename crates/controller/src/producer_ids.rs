//! AllocateProducerIds: each broker gives out ids of a block of its own.
//!
//! Input: a broker and its registration. Output: the next block.
//!
//! Invariant: no id is in two blocks, also after a restart or a change of the controller: the end
//! of the last block is in the image.
//!
//! Source: KIP-730; `ProducerIdControlManager` and `ProducerIdsBlock` of Kafka 4.1.

use skein_metadata::{Image, Record};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, ProducerId};

use crate::batch::Decision;
use crate::brokers::check_epoch;
use crate::{Refusal, Response};

/// Ids in a block.
pub const PRODUCER_IDS_PER_BLOCK: i32 = 1000;

/// A broker asks for a block of producer ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateProducerIds {
    /// Who.
    pub broker_id: BrokerId,
    /// Under which registration.
    pub broker_epoch: BrokerEpoch,
}

/// Producer ids that are the broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first one.
    pub first: ProducerId,
    /// How many.
    pub length: i32,
}

pub(crate) fn decide(image: &Image, request: &AllocateProducerIds) -> Result<Decision, Refusal> {
    check_epoch(image, request.broker_id, request.broker_epoch)?;
    let first = image.next_producer_id();
    let Some(next) = first.get().checked_add(i64::from(PRODUCER_IDS_PER_BLOCK)) else {
        let message = "all producer ids are given";
        return Err(Refusal::new(ErrorCode::UnknownServerError, message));
    };
    let record = Record::ProducerIds {
        broker_id: request.broker_id,
        broker_epoch: request.broker_epoch,
        next_producer_id: ProducerId(next),
    };
    let block = ProducerIdBlock {
        first,
        length: PRODUCER_IDS_PER_BLOCK,
    };
    Ok(Decision {
        records: vec![record],
        response: Response::AllocateProducerIds(block),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use crate::testing::World;

    #[test]
    fn blocks_follow_one_another_and_need_a_present_registration() {
        let mut world = World::of_brokers(1);
        let epoch = world.image.broker(BrokerId(1)).unwrap().epoch;
        let request = |id, epoch| {
            let (broker_id, broker_epoch) = (BrokerId(id), epoch);
            Request::AllocateProducerIds(AllocateProducerIds {
                broker_id,
                broker_epoch,
            })
        };
        for block in 0..3 {
            let first = ProducerId(block * i64::from(PRODUCER_IDS_PER_BLOCK));
            let block = ProducerIdBlock {
                first,
                length: PRODUCER_IDS_PER_BLOCK,
            };
            let response = world.grant(request(1, epoch));
            assert_eq!(response, Response::AllocateProducerIds(block));
        }
        let stale = BrokerEpoch(epoch.get() - 1);
        assert_eq!(world.refuse(request(1, stale)), ErrorCode::StaleBrokerEpoch);
        assert_eq!(
            world.refuse(request(2, epoch)),
            ErrorCode::BrokerIdNotRegistered
        );
    }
}
