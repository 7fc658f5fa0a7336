//! A producer: pipelines batches, and sends again what was not acknowledged.
//!
//! Input: its plan. Output: Produce requests; an event for everything that is sent and answered.
//!
//! ```text
//!   make ─► pending ─► send ─► in flight ─► acknowledged
//!              ▲                   │ refused, or the connection is lost
//!              └──── in order ─────┘  (first everything in flight is answered or lost)
//!                                  └─► given up: a new producer id
//! ```
//!
//! Invariants:
//! - the batches of one partition are sent in the order of their sequences, also again;
//! - a batch that is sent again is the same, byte for byte.
//!
//! Source: KIP-98; `max.in.flight.requests.per.connection` of Kafka's producer.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use skein_protocol::Records;
use skein_protocol::messages::init_producer_id::InitProducerIdRequest;
use skein_protocol::messages::metadata::MetadataRequest;
use skein_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use skein_types::{ErrorCode, Millis, Offset, ProducerEpoch, ProducerId, Sequence, Uuid};

use crate::batches::{Batch, BatchId, Identity};
use crate::client::Client;
use crate::event::{Event, PartitionId, Stamp, Subject};
use crate::plan::{ProducerPlan, pick};
use crate::topics::Phase;
use crate::wire::Wire;

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// How often a producer that gets no answers asks for one.
const PROBE_ONE_IN: u32 = 16;

/// Version of Metadata.
const METADATA_VERSION: i16 = 12;

/// Version of InitProducerId.
const INIT_VERSION: i16 = 4;

/// Runs the producer until it has settled.
pub(crate) async fn run(client: Client, plan: ProducerPlan) {
    let mut producer = Producer {
        client,
        plan,
        identity: None,
        next_sequence: BTreeMap::new(),
        pending: VecDeque::new(),
        in_flight: VecDeque::new(),
    };
    while !producer.has_settled() {
        producer.work().await;
    }
}

struct Producer {
    client: Client,
    plan: ProducerPlan,
    identity: Option<Identity>,
    next_sequence: BTreeMap<PartitionId, Sequence>,
    /// Made and not in flight: all of them were sent before, and come first.
    pending: VecDeque<Outgoing>,
    in_flight: VecDeque<InFlight>,
}

/// A batch on its way.
struct Outgoing {
    id: BatchId,
    partition: PartitionId,
    bytes: Bytes,
    attempts: u32,
    is_head: bool,
}

/// A request that waits for its answer.
struct InFlight {
    batches: Vec<Outgoing>,
    sent: Stamp,
}

/// What became of a batch.
enum Verdict {
    Done,
    /// Its topic is deleted.
    Forget,
    Again,
    GiveUp,
}

impl Producer {
    fn has_settled(&self) -> bool {
        self.client.is_settling() && self.pending.is_empty() && self.in_flight.is_empty()
    }

    /// Works on one connection until it fails, or until something was refused and everything is in.
    async fn work(&mut self) {
        if self.plan.is_idempotent && self.identity.is_none() && !self.identify().await {
            return;
        }
        let Some(mut wire) = self.client.take_wire().await else {
            return;
        };
        let result = self.pump(&mut wire).await;
        match result {
            Ok(refused) => {
                self.client.give_back(wire);
                let is_refused = !refused.is_empty();
                self.retry(refused);
                if is_refused {
                    self.client.back_off().await;
                }
            }
            Err((error, refused)) => {
                self.client.lost(&error);
                let lost = std::mem::take(&mut self.in_flight);
                let lost = lost.into_iter().flat_map(|request| request.batches);
                self.retry(refused.into_iter().chain(lost).collect());
                self.client.back_off().await;
            }
        }
    }

    /// Asks for a producer id; whether there is one.
    async fn identify(&mut self) -> bool {
        if self.client.is_settling() && self.pending.is_empty() {
            return true;
        }
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let Some((answer, _)) = self.client.call(&request, INIT_VERSION).await else {
            return false;
        };
        if answer.error_code != 0 {
            self.client.back_off().await;
            return false;
        }
        let identity = Identity {
            id: ProducerId(answer.producer_id),
            epoch: ProducerEpoch(answer.producer_epoch),
        };
        let note = format!("is producer {} now", identity.id);
        self.client
            .witness
            .tell(self.client.actor, Event::Note(note));
        self.identity = Some(identity);
        self.next_sequence.clear();
        true
    }

    /// Sends and receives. Ends with what was refused, once nothing is in flight; or with an error.
    async fn pump(
        &mut self,
        wire: &mut Wire,
    ) -> Result<Vec<Outgoing>, (std::io::Error, Vec<Outgoing>)> {
        let mut refused = Vec::new();
        loop {
            let is_new = self.pending.is_empty();
            let may_send = refused.is_empty() && (!is_new || !self.client.is_settling());
            if may_send && self.in_flight.len() < self.plan.depth {
                if is_new {
                    self.client.pause(self.plan.pause_max).await;
                }
                if let Err(error) = self.send_next(wire).await {
                    return Err((error, refused));
                }
                continue;
            }
            let Some(oldest) = self.in_flight.pop_front() else {
                return Ok(refused);
            };
            match wire.receive::<ProduceRequest>(self.plan.version).await {
                Ok(response) => refused.extend(self.judge(oldest, &response)),
                Err(error) => {
                    self.in_flight.push_front(oldest);
                    return Err((error, refused));
                }
            }
        }
    }

    async fn send_next(&mut self, wire: &mut Wire) -> std::io::Result<()> {
        let batches = match self.pending.pop_front() {
            Some(again) => vec![again],
            None => self.make_batches(),
        };
        if batches.is_empty() {
            // There is no such partition just now.
            self.client.back_off().await;
            return Ok(());
        }
        let mut request = InFlight {
            batches,
            sent: self.client.witness.ask(),
        };
        let in_flight = &self.in_flight;
        for batch in &mut request.batches {
            let others = in_flight.iter().flat_map(|request| &request.batches);
            batch.is_head = others
                .clone()
                .all(|other| other.partition != batch.partition);
            batch.attempts += 1;
            let event = Event::Sent {
                batch: batch.id,
                attempt: batch.attempts,
                is_head: batch.is_head,
            };
            self.client.witness.tell(self.client.actor, event);
        }
        let encoded = self.encode(&request.batches);
        self.in_flight.push_back(request);
        wire.send(&encoded, self.plan.version).await?;
        if self.plan.acks == 0 {
            wire.expect_no_answer();
            for batch in self
                .in_flight
                .pop_back()
                .into_iter()
                .flat_map(|sent| sent.batches)
            {
                self.tell(Event::GivenUp { batch: batch.id });
            }
            if self.client.rng.chance(PROBE_ONE_IN) {
                self.probe(wire).await?;
            }
        }
        Ok(())
    }

    /// Asks something that is answered: the answer must be the next on the connection.
    async fn probe(&mut self, wire: &mut Wire) -> std::io::Result<()> {
        self.client.witness.ask();
        let request = MetadataRequest {
            topics: Some(Vec::new()),
            ..Default::default()
        };
        wire.call(&request, METADATA_VERSION).await.map(|_| ())
    }

    /// New batches, for one partition or several.
    fn make_batches(&mut self) -> Vec<Outgoing> {
        let rng = &mut self.client.rng;
        let mut slots = vec![pick(rng, &self.plan.slots)];
        if rng.chance(4) {
            slots.clone_from(&self.plan.slots);
        }
        let now = self.client.env.clock.now();
        slots
            .into_iter()
            .filter_map(|slot| self.client.witness.find(slot))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|partition| self.make_batch(partition, now))
            .collect()
    }

    fn make_batch(&mut self, partition: PartitionId, now: Millis) -> Outgoing {
        let plan = self.client.plan.partition(partition);
        let most = u64::from(self.plan.records_max);
        let records = u32::try_from(self.client.rng.between(1, most)).unwrap_or(1);
        let origin = self.identity.map(|identity| {
            let next = self.next_sequence.entry(partition).or_insert(Sequence(0));
            let sequence = *next;
            next.0 += i32::try_from(records).unwrap_or(0);
            (identity, sequence)
        });
        let (id, bytes) = self.client.witness.make(Batch {
            partition,
            records,
            value_max: self.plan.value_max,
            base_timestamp: now,
            timestamp_spread: self.plan.timestamp_spread,
            keys: plan.compaction.map_or(0, |compaction| compaction.keys),
            codec: self.plan.codec,
            acks: self.plan.acks,
            origin,
        });
        Outgoing {
            id,
            partition,
            bytes,
            attempts: 0,
            is_head: true,
        }
    }

    fn encode(&self, batches: &[Outgoing]) -> ProduceRequest {
        let mut topic_data: BTreeMap<usize, TopicProduceData> = BTreeMap::new();
        for batch in batches {
            let partition = self.client.plan.partition(batch.partition);
            let topic_id = self
                .client
                .witness
                .topic_id(partition.topic)
                .unwrap_or_default();
            let by_id = self.plan.version >= TOPIC_ID_VERSION;
            let topic = topic_data
                .entry(partition.topic)
                .or_insert_with(|| TopicProduceData {
                    name: self.client.plan.topics[partition.topic]
                        .name
                        .as_str()
                        .into(),
                    topic_id: if by_id { topic_id } else { Uuid::default() },
                    ..Default::default()
                });
            topic.partition_data.push(PartitionProduceData {
                index: i32::try_from(partition.index).unwrap_or(i32::MAX),
                records: Some(Records::Bytes(batch.bytes.clone())),
            });
        }
        ProduceRequest {
            acks: self.plan.acks,
            timeout_ms: 3_000,
            topic_data: topic_data.into_values().collect(),
            ..Default::default()
        }
    }

    /// Tells of the answers to a request; returns the batches that were refused.
    fn judge(&mut self, request: InFlight, response: &ProduceResponse) -> Vec<Outgoing> {
        let mut refused = Vec::new();
        for batch in request.batches {
            let Some((code, base_offset)) = self.find_answer(batch.partition, response) else {
                let text = format!("the answer leaves {} out", batch.id);
                let actor = self.client.actor;
                self.client.witness.accuse(
                    actor,
                    "well_formed",
                    Some(Subject::Partition(batch.partition)),
                    text,
                );
                return refused;
            };
            match code {
                ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                    let base_offset = (base_offset >= Offset::ZERO).then_some(base_offset);
                    self.tell(Event::Acked {
                        batch: batch.id,
                        base_offset,
                        sent: request.sent,
                    });
                }
                _ => {
                    let is_head = batch.is_head;
                    self.tell(Event::Refused {
                        batch: batch.id,
                        code,
                        is_head,
                    });
                    match self.verdict(&batch, code) {
                        Verdict::Done => {}
                        Verdict::Forget => self.tell(Event::GivenUp { batch: batch.id }),
                        Verdict::Again => refused.push(batch),
                        Verdict::GiveUp => refused.push(Outgoing {
                            attempts: u32::MAX,
                            ..batch
                        }),
                    }
                }
            }
        }
        refused
    }

    fn find_answer(
        &self,
        partition: PartitionId,
        response: &ProduceResponse,
    ) -> Option<(ErrorCode, Offset)> {
        let plan = self.client.plan.partition(partition);
        let topic_id = self.client.witness.topic_id(plan.topic).unwrap_or_default();
        let by_id = self.plan.version >= TOPIC_ID_VERSION;
        let topic = response.responses.iter().find(|topic| match by_id {
            true => topic.topic_id == topic_id,
            false => topic.name == self.client.plan.topics[plan.topic].name.as_str(),
        })?;
        let index = i32::try_from(plan.index).unwrap_or(i32::MAX);
        let answer = topic
            .partition_responses
            .iter()
            .find(|answer| answer.index == index)?;
        Some((
            ErrorCode::from_code(answer.error_code),
            Offset(answer.base_offset),
        ))
    }

    fn verdict(&self, batch: &Outgoing, code: ErrorCode) -> Verdict {
        let topic = self.client.plan.partition(batch.partition).topic;
        let is_live = self.client.witness.topic_phase(topic) == Phase::Live;
        match code {
            ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition if !is_live => {
                Verdict::Forget
            }
            // Behind a batch that failed; with nothing before it, its producer's state is lost.
            ErrorCode::OutOfOrderSequenceNumber if !batch.is_head => Verdict::Again,
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch => Verdict::GiveUp,
            code if code.is_retriable() => Verdict::Again,
            code => {
                let (actor, text) = (
                    self.client.actor,
                    format!("{} is refused: {code}", batch.id),
                );
                let partition = Some(Subject::Partition(batch.partition));
                self.client
                    .witness
                    .accuse(actor, "good_batches_are_taken", partition, text);
                Verdict::Done
            }
        }
    }

    /// Puts batches back, in front of what has not been sent; or gives all of them up.
    fn retry(&mut self, batches: Vec<Outgoing>) {
        let attempts_max = self.plan.attempts_max;
        let is_over = |batch: &Outgoing| {
            batch.attempts == u32::MAX || (attempts_max != 0 && batch.attempts >= attempts_max)
        };
        let mut batches: VecDeque<Outgoing> = batches.into();
        batches.append(&mut self.pending);
        self.pending = batches;
        if self.plan.is_idempotent && self.pending.iter().any(is_over) {
            // The sequences of the others would have a gap: all go, and a new producer id begins.
            self.identity = None;
            for batch in std::mem::take(&mut self.pending) {
                self.tell(Event::GivenUp { batch: batch.id });
            }
        }
        for batch in std::mem::take(&mut self.pending) {
            if is_over(&batch) {
                self.tell(Event::GivenUp { batch: batch.id });
            } else {
                self.pending.push_back(batch);
            }
        }
    }

    fn tell(&self, event: Event) {
        self.client.witness.tell(self.client.actor, event);
    }
}
