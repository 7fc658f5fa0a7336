//! A producer: one batch after the other, each until it is acknowledged or given up.
//!
//! Input: its plan. Output: Produce requests to the leaders; an event for what is acknowledged.
//!
//! Invariant: the batches of one partition are sent in the order of their sequences, and a batch
//! that is sent again is the same, byte for byte.
//!
//! Source: KIP-98.

use std::collections::BTreeMap;

use bytes::Bytes;
use skein_protocol::Records;
use skein_protocol::messages::init_producer_id::InitProducerIdRequest;
use skein_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use skein_record::Codec;
use skein_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence};

use super::client::ClusterClient;
use super::event::{ClusterEvent, Placed};
use super::plan::ClusterProducer;
use crate::batches::{Batch, BatchId, Identity};
use crate::event::PartitionId;
use crate::plan::pick;

/// The last version that names topics by name.
const VERSION: i16 = 12;

/// Version of InitProducerId.
const INIT_VERSION: i16 = 4;

/// How often a plain producer sends a batch before it gives up.
const ATTEMPTS_MAX: u32 = 20;

/// What became of an attempt.
enum Attempt {
    Done,
    Again,
    GiveUp,
}

/// A batch on its way.
struct Outgoing {
    partition: PartitionId,
    batch: BatchId,
    records: u32,
    bytes: Bytes,
}

/// See the module.
pub(crate) struct Producer {
    client: ClusterClient,
    plan: ClusterProducer,
    identity: Option<Identity>,
    next_sequence: BTreeMap<PartitionId, Sequence>,
}

impl Producer {
    pub(crate) fn new(client: ClusterClient, plan: ClusterProducer) -> Self {
        Self {
            client,
            plan,
            identity: None,
            next_sequence: BTreeMap::new(),
        }
    }

    /// Runs until it is told to settle.
    pub(crate) async fn run(mut self) {
        while !self.client.is_settling() {
            let partition = pick(&mut self.client.rng, &self.plan.partitions);
            self.produce(partition).await;
            self.client.pause(self.plan.pause_max).await;
        }
    }

    /// Sends one batch until its fate is known, or it is given up; whether it was acknowledged.
    pub(crate) async fn produce(&mut self, partition: PartitionId) -> bool {
        if self.plan.is_idempotent && self.identity.is_none() && !self.identify().await {
            return false;
        }
        let outgoing = self.make(partition);
        let batch = outgoing.batch;
        for attempt in 1.. {
            match self.attempt(&outgoing).await {
                Attempt::Done => return true,
                // An idempotent one may try as often as it likes.
                Attempt::Again if self.plan.is_idempotent || attempt < ATTEMPTS_MAX => {}
                Attempt::Again | Attempt::GiveUp => break,
            }
        }
        let text = format!("gives {batch} up");
        self.client.witness.note(self.client.actor, text);
        if self.plan.is_idempotent {
            // The sequences would have a gap.
            self.identity = None;
        }
        false
    }

    async fn identify(&mut self) -> bool {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let node = self.client.any_node();
        let Some((answer, _)) = self.client.call(node, &request, INIT_VERSION).await else {
            return false;
        };
        if answer.error_code != 0 {
            self.client.back_off().await;
            return false;
        }
        self.identity = Some(Identity {
            id: ProducerId(answer.producer_id),
            epoch: ProducerEpoch(answer.producer_epoch),
        });
        self.next_sequence.clear();
        true
    }

    fn make(&mut self, partition: PartitionId) -> Outgoing {
        let most = u64::from(self.plan.records_max);
        let records = u32::try_from(self.client.rng.between(1, most)).unwrap_or(1);
        let origin = self.identity.map(|identity| {
            let next = self.next_sequence.entry(partition).or_insert(Sequence(0));
            let sequence = *next;
            next.0 += i32::try_from(records).unwrap_or(0);
            (identity, sequence)
        });
        let (batch, bytes) = self.client.witness.make(Batch {
            partition,
            records,
            value_max: self.plan.value_max,
            base_timestamp: self.client.env.clock.now(),
            timestamp_spread: 0,
            keys: 0,
            codec: Codec::None,
            acks: self.plan.acks,
            origin,
        });
        Outgoing {
            partition,
            batch,
            records,
            bytes,
        }
    }

    async fn attempt(&mut self, outgoing: &Outgoing) -> Attempt {
        let &Outgoing {
            partition, batch, ..
        } = outgoing;
        let Some(leader) = self.client.leader(partition).await else {
            return Attempt::Again;
        };
        let (topic, index) = self.client.plan.place(partition);
        let request = ProduceRequest {
            acks: self.plan.acks,
            timeout_ms: 3_000,
            topic_data: vec![TopicProduceData {
                name: topic.name.as_str().into(),
                partition_data: vec![PartitionProduceData {
                    index,
                    records: Some(Records::Bytes(outgoing.bytes.clone())),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let (actor, witness) = (self.client.actor, self.client.witness.clone());
        witness.tell(actor, ClusterEvent::Sent { batch, partition });
        let Some((response, sent)) = self.client.call(leader, &request, VERSION).await else {
            self.client.forget_leader(partition);
            return Attempt::Again;
        };
        let Some((code, base_offset)) = answer(&response) else {
            witness.accuse(actor, "well_formed", format!("no answer for {batch}"));
            return Attempt::GiveUp;
        };
        match code {
            ErrorCode::None if base_offset >= Offset::ZERO => {
                let placed = Placed {
                    base_offset,
                    end: Offset(base_offset.0 + i64::from(outgoing.records)),
                    batch,
                };
                let acks = self.plan.acks;
                witness.tell(
                    actor,
                    ClusterEvent::Acked {
                        partition,
                        placed,
                        acks,
                        sent,
                    },
                );
                Attempt::Done
            }
            // It is there, and nobody says where.
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Attempt::Done,
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch => {
                witness.note(actor, format!("{batch} is refused: {code}"));
                Attempt::GiveUp
            }
            code if code.is_retriable() => {
                self.client.forget_leader(partition);
                self.client.back_off().await;
                Attempt::Again
            }
            code => {
                let text = format!("{batch} is refused: {code}");
                witness.accuse(actor, "good_batches_are_taken", text);
                Attempt::GiveUp
            }
        }
    }
}

fn answer(response: &ProduceResponse) -> Option<(ErrorCode, Offset)> {
    let partitions = &response.responses.first()?.partition_responses;
    let answer = partitions.first()?;
    let code = ErrorCode::from_code(answer.error_code);
    Some((code, Offset(answer.base_offset)))
}
