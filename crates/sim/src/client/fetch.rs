//! Fetch requests, and what their answers tell.
//!
//! Input: positions; responses. Output: events for every batch, and new positions.
//!
//! Invariant: a response is compared to the last byte: each batch is one that was sent, whole, at
//! the offset that was asked for or right behind the one before it; where the topic is compacted,
//! it may be what is left of one, and behind a gap. A hidden record is not in it (`hidden.rs`).
//!
//! Source: KIP-74 (at least one batch), KIP-227 (sessions), KIP-516 (topic ids).

use std::collections::BTreeMap;

use skein_protocol::Str;
use skein_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};
use skein_record::{BatchView, Batches};
use skein_types::{ErrorCode, Offset, Uuid};

use crate::batches::Identified;
use crate::client::Client;
use crate::event::{Event, PartitionId, Stamp, Subject};

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// First version with sessions and with an error code for the whole response.
const SESSION_VERSION: i16 = 7;

/// How a client fetches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchTerms {
    pub(crate) version: i16,
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
}

/// What a partition's answer means for its position.
pub(crate) enum Progress {
    /// It is here now.
    At(Offset),
    /// The position is not in the log, which starts here, if the node told.
    OutOfRange(Option<Offset>),
    /// The partition cannot be read now.
    Unavailable,
}

/// The session that a client has with the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: i32,
    /// 0: the next fetch names all partitions. −1: no session is wanted.
    pub(crate) epoch: i32,
}

impl FetchTerms {
    /// Whether there are sessions in this version.
    pub(crate) fn has_sessions(&self) -> bool {
        self.version >= SESSION_VERSION
    }

    /// A request for `positions`; `forgotten` leave the session.
    pub(crate) fn request(
        &self,
        client: &Client,
        session: Session,
        positions: &BTreeMap<PartitionId, Offset>,
        forgotten: &[PartitionId],
    ) -> FetchRequest {
        let forgotten = forgotten
            .iter()
            .map(|partition| {
                let plan = client.plan.partition(*partition);
                let (topic, topic_id) = self.name(client, plan.topic);
                ForgottenTopic {
                    topic,
                    topic_id,
                    partitions: vec![i32::try_from(plan.index).unwrap_or(i32::MAX)],
                }
            })
            .collect();
        let mut topics: BTreeMap<usize, FetchTopic> = BTreeMap::new();
        for (partition, position) in positions {
            let plan = client.plan.partition(*partition);
            let topic = topics.entry(plan.topic).or_insert_with(|| {
                let (topic, topic_id) = self.name(client, plan.topic);
                FetchTopic {
                    topic,
                    topic_id,
                    ..Default::default()
                }
            });
            topic.partitions.push(FetchPartition {
                partition: i32::try_from(plan.index).unwrap_or(i32::MAX),
                fetch_offset: position.0,
                partition_max_bytes: self.max_bytes,
                ..Default::default()
            });
        }
        let is_new = self.has_sessions();
        FetchRequest {
            max_wait_ms: self.max_wait_ms,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            session_id: if is_new { session.id } else { 0 },
            session_epoch: if is_new { session.epoch } else { -1 },
            topics: topics.into_values().collect(),
            forgotten_topics_data: forgotten,
            ..Default::default()
        }
    }

    /// How this version names a topic.
    fn name(&self, client: &Client, topic: usize) -> (Str, Uuid) {
        let id = client.witness.topic_id(topic).unwrap_or_default();
        let by_id = self.version >= TOPIC_ID_VERSION;
        let name = client.plan.topics[topic].name.as_str().into();
        (name, if by_id { id } else { Uuid::default() })
    }

    /// Tells of everything in `response`; the progress of each partition that it names.
    pub(crate) fn take(
        &self,
        client: &Client,
        response: &FetchResponse,
        positions: &BTreeMap<PartitionId, Offset>,
        asked: Stamp,
    ) -> Vec<(PartitionId, Progress)> {
        let mut progress = Vec::new();
        for topic in &response.responses {
            let mut asked_for = positions
                .keys()
                .map(|partition| client.plan.partition(*partition).topic);
            let number = asked_for.find(|number| {
                if self.version >= TOPIC_ID_VERSION {
                    client.witness.topic_id(*number) == Some(topic.topic_id)
                } else {
                    topic.topic == client.plan.topics[*number].name.as_str()
                }
            });
            for data in &topic.partitions {
                let id = number.and_then(|topic| client.plan.find(topic, data.partition_index));
                let Some(id) = id.filter(|id| positions.contains_key(id)) else {
                    let text =
                        format!("an answer for a partition that nobody asked for: {topic:?}");
                    client
                        .witness
                        .accuse(client.actor, "well_formed", None, text);
                    continue;
                };
                let asked = Asked {
                    client,
                    partition: id,
                    position: positions[&id],
                    asked,
                };
                progress.push((id, asked.take(data)));
            }
        }
        progress
    }
}

/// One partition of a fetch.
struct Asked<'a> {
    client: &'a Client,
    partition: PartitionId,
    position: Offset,
    asked: Stamp,
}

impl Asked<'_> {
    fn take(&self, data: &PartitionData) -> Progress {
        let Self {
            partition,
            position,
            asked,
            ..
        } = *self;
        match ErrorCode::from_code(data.error_code) {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                let told = Offset(data.log_start_offset);
                let log_start_offset = (told >= Offset::ZERO).then_some(told);
                self.tell(Event::OutOfRange {
                    partition,
                    position,
                    log_start_offset,
                    asked,
                });
                return Progress::OutOfRange(log_start_offset);
            }
            code => {
                self.tell(Event::Unavailable { partition, code });
                return Progress::Unavailable;
            }
        }
        let high_watermark = Offset(data.high_watermark);
        self.tell(Event::Ends {
            partition,
            log_start_offset: (data.log_start_offset >= 0).then_some(Offset(data.log_start_offset)),
            high_watermark,
            asked,
        });
        let records = data.records.as_ref().and_then(|records| records.as_bytes());
        let mut next = position;
        for batch in Batches::new(records.map_or(&[], |records| records)) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return self.accuse(&format!("behind {next}: {error}")),
            };
            let header = batch.header();
            let is_first = next == position;
            let starts_well = match is_first {
                true => header.base_offset <= next && next <= header.last_offset(),
                false => header.base_offset == next,
            };
            if header.base_offset > next && self.is_compacted() {
                self.tell_nothing(next, header.base_offset);
            } else if !starts_well {
                return self.accuse(&format!(
                    "a fetch from {position} leads to {}..={} where {next} should be",
                    header.base_offset,
                    header.last_offset()
                ));
            }
            if let Err(reason) = self.take_batch(&batch) {
                return self.accuse(&format!("the batch at {}: {reason}", header.base_offset));
            }
            next = header.next_offset();
        }
        if next > high_watermark && next != position {
            return self.accuse(&format!("records up to {next}, past {high_watermark}"));
        }
        Progress::At(next)
    }

    fn take_batch(&self, batch: &BatchView<'_>) -> Result<(), String> {
        let Self {
            partition, asked, ..
        } = *self;
        let header = batch.header();
        let base_offset = header.base_offset;
        let rest = |batch, kept| Event::ReadRest {
            partition,
            base_offset,
            end: header.next_offset(),
            batch,
            producer_id: header.producer_id,
            kept,
            asked,
        };
        self.tell(
            match self.client.witness.identify(partition, batch, asked)? {
                Identified::Whole(batch) => Event::Read {
                    partition,
                    base_offset,
                    batch,
                    asked,
                },
                Identified::Part(batch, kept) => rest(Some(batch), kept),
                Identified::Empty if self.is_compacted() => rest(None, Vec::new()),
                Identified::Empty => return Err("it is empty".to_owned()),
            },
        );
        Ok(())
    }

    fn is_compacted(&self) -> bool {
        let plan = self.client.plan.partition(self.partition);
        plan.compaction.is_some()
    }

    /// A bad bit may lead a reader astray.
    fn tell_nothing(&self, start: Offset, end: Offset) {
        let Self {
            partition, asked, ..
        } = *self;
        if !self.client.witness.is_rotten(partition, asked) {
            self.tell(Event::NothingAt {
                partition,
                start,
                end,
                asked,
            });
        }
    }

    fn tell(&self, event: Event) {
        self.client.witness.tell(self.client.actor, event);
    }

    /// What was read is wrong in itself. A bad bit on the disk is not the node's fault, as long as
    /// the reader sees it.
    fn accuse(&self, text: &str) -> Progress {
        let (witness, actor) = (&self.client.witness, self.client.actor);
        if witness.is_rotten(self.partition, self.asked) {
            self.tell(Event::Note(format!("reads a rotten batch: {text}")));
            return Progress::Unavailable;
        }
        witness.accuse(
            actor,
            "offsets_immutable",
            Some(Subject::Partition(self.partition)),
            text.to_owned(),
        );
        Progress::Unavailable
    }
}
