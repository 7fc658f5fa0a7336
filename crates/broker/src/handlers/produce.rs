//! Produce (0): batches go into the log as they arrive.
//!
//! Input: a body that is still arriving. Output: per partition where its batch is, or why it is
//! not.
//!
//! ```text
//!   head ─► topic ─► partition ─► size ok? ─► reserve bytes ─► receive ─► check ─► append ─┐
//!             ▲          ▲           │no                                                     │
//!             │          │           └─► skip the records, note the error                   │
//!             │          └───────────────── next partition ◄────────────────────────────────┤
//!             └──────────────────────────── next topic ◄────────────────────────────────────┘
//!   end ─┬─► all appended ─► (next request may start) ─► all acknowledged ─► response
//!        └─► more has arrived: (next request may start), appended with the burst (`burst.rs`) ─► …
//! ```
//!
//! Invariants:
//! - a batch is received only after its size was checked against the topic's limit and its bytes
//!   were reserved; they are given back when it is written, whatever else the request waits for.
//!   Who waits for bytes has ended its burst, and so holds none that only it could give back;
//! - while the disk does not take what came with former bursts, nothing more is received;
//! - record bytes are not copied: what the receive buffer holds is what `pwritev` takes, unless the
//!   topic forces another codec (`produce/repack.rs`);
//! - each partition's result is independent. What was appended before the frame proves malformed
//!   stays; the connection closes.
//!
//! Source: KIP-467 (errors of single records), KIP-951 (the current leader in an error).

mod repack;

use std::sync::Arc;

use bytes::BytesMut;
use skein_net::{BodyReader, Started};
use skein_partition::Acks;
use skein_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    ProduceResponse, TopicProduceResponse,
};
use skein_protocol::{ApiKey, Item, ProduceStream, Str};
use skein_record::{BatchBuf, Codec, Rejection, check_keys, check_produce};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, Millis, Offset, PartitionIndex, Uuid};

use super::current_leader::{self, CurrentLeaders};
use crate::burst::{Burst, GATHERED_MAX_BYTES};
use crate::node::Shared;
use crate::replica::{AckResult, Replica, Reply};
use crate::router::{self, Context};
use crate::unpacking::{UNPACKED_MAX_BYTES, unpack};

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// First version that has room for the current leader.
const CURRENT_LEADER_VERSION: i16 = 10;

/// Topics and partitions that one request may name. Each costs memory until the answer, and only
/// their batches are counted as bytes in flight.
const NAMED_MAX: usize = 200_000;

/// What became of one partition's batch.
enum Outcome {
    Refused(Refused),
    Appending(Reply),
}

/// Why a batch is not taken, and which of its records are to blame, by their places.
struct Refused {
    code: ErrorCode,
    message: Option<String>,
    records: Vec<i32>,
}

impl Outcome {
    fn refused(code: ErrorCode, message: Option<String>) -> Self {
        Self::Refused(Refused {
            code,
            message,
            records: Vec::new(),
        })
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        let (code, message) = (rejection.code(), Some(rejection.to_string()));
        let records = match rejection {
            Rejection::KeysMissing { indexes, .. } => indexes,
            _ => Vec::new(),
        };
        Self::Refused(Refused {
            code,
            message,
            records,
        })
    }
}

struct PartitionOutcome {
    index: i32,
    outcome: Outcome,
}

struct TopicOutcome {
    name: Str,
    topic_id: Uuid,
    partitions: Vec<PartitionOutcome>,
}

/// What the head of the request says.
#[derive(Clone, Copy)]
struct Terms {
    acks: Result<Acks, ErrorCode>,
    timeout: Millis,
}

/// Starts a produce: returns when all of its batches are in the log, or will be with those of the
/// next request, which has arrived.
pub(crate) async fn start(
    shared: &Arc<Shared>,
    context: &Context,
    burst: &Burst,
    mut body: BodyReader<'_>,
) -> Started {
    // Back-pressure: else one connection would take the bytes in flight of all beside a disk that
    // hangs.
    burst.former().await;
    let (is_unanswered, topics) = match receive(shared, context, burst, &mut body).await {
        Ok(received) => received,
        Err(reason) => return Started::Close { reason },
    };
    #[cfg(feature = "mutations")]
    let is_unanswered = is_unanswered && !mutation::has(Mutation::AcksZeroAnswered);
    let answer = Answer {
        shared: Arc::clone(shared),
        context: context.clone(),
        is_unanswered,
        topics,
    };
    if body.is_followed() {
        burst.leave(answer.replies().cloned());
        return answer.later();
    }
    burst.all().await;
    for reply in answer.replies() {
        reply.appended().await;
    }
    if answer.replies().any(|reply| reply.try_result().is_none()) {
        return answer.later();
    }
    match answer.encode().await {
        Ok(response) => Started::Answered(response),
        Err(reason) => Started::Close { reason },
    }
}

/// Receives the request: whether it has no answer, and what became of its batches so far. An error
/// ends the connection.
async fn receive(
    shared: &Arc<Shared>,
    context: &Context,
    burst: &Burst,
    body: &mut BodyReader<'_>,
) -> Result<(bool, Vec<TopicOutcome>), String> {
    let malformed = |error| format!("a malformed Produce request: {error}");
    let mut stream =
        ProduceStream::new(context.head.api_version, body.length()).map_err(malformed)?;
    let mut terms = Terms {
        acks: Err(ErrorCode::InvalidRequest),
        timeout: Millis(0),
    };
    let mut is_unanswered = false;
    let mut topics: Vec<TopicOutcome> = Vec::new();
    let mut named = 0;
    loop {
        let Some(item) = stream.next(body.buffer()).map_err(malformed)? else {
            body.fill(stream.needed())
                .await
                .map_err(|error| error.to_string())?;
            continue;
        };
        match item {
            Item::Head {
                transactional_id,
                acks,
                timeout_ms,
            } => {
                terms.timeout = Millis(i64::from(timeout_ms.max(0)));
                terms.acks = Acks::from_wire(acks);
                is_unanswered = terms.acks == Ok(Acks::None);
                if transactional_id.is_some() {
                    terms.acks = Err(ErrorCode::InvalidTxnState);
                }
            }
            Item::Topic { name, topic_id } => {
                named += 1;
                topics.push(TopicOutcome {
                    name,
                    topic_id,
                    partitions: Vec::new(),
                });
            }
            Item::Partition { index, records_len } => {
                let Some(topic) = topics.last_mut() else {
                    continue;
                };
                let target = Target {
                    version: context.head.api_version,
                    topic,
                    index,
                    terms,
                };
                let outcome = target
                    .receive(shared, burst, &mut stream, body, records_len)
                    .await?;
                named += 1;
                topic.partitions.push(PartitionOutcome { index, outcome });
                body.yield_if_spent().await;
            }
            Item::End => return Ok((is_unanswered, topics)),
        }
        if named > NAMED_MAX {
            return Err(format!(
                "a Produce request names more than {NAMED_MAX} partitions"
            ));
        }
    }
}

/// The partition whose batch comes next.
struct Target<'a> {
    version: i16,
    topic: &'a TopicOutcome,
    index: i32,
    terms: Terms,
}

impl Target<'_> {
    /// Receives, checks and appends the batch; or skips it. An error ends the connection.
    async fn receive(
        self,
        shared: &Arc<Shared>,
        burst: &Burst,
        stream: &mut ProduceStream,
        body: &mut BodyReader<'_>,
        records_len: Option<u32>,
    ) -> Result<Outcome, String> {
        let length = records_len.unwrap_or(0) as usize;
        let (replica, acks) = match self.admit(shared, length).await {
            Ok(admitted) => admitted,
            Err(refused) => {
                stream.skip_records();
                return Ok(refused);
            }
        };
        let permit = shared.append_budget.reserve(length).await;
        body.fill(length).await.map_err(|error| error.to_string())?;
        // Null is refused below, as what is no batch.
        let records = match stream.take_records(body.buffer()) {
            Some(records) => records,
            None if records_len.is_none() => BytesMut::new(),
            None => return Err("the records of a Produce request have not arrived".to_owned()),
        };
        let now = shared.env.clock.now();
        let policy = replica.policy();
        if let Err(rejection) = check_produce(&records, &policy, self.version, now) {
            return Ok(rejection.into());
        }
        match BatchBuf::new(records) {
            // Nothing coordinates transactions: their records would stay undecided for ever.
            Ok(batch) if batch.header().attributes.is_transactional() => {
                Ok(Outcome::refused(ErrorCode::InvalidTxnState, None))
            }
            Ok(batch) => {
                let batch = match repack::as_forced(shared, &replica, batch).await {
                    Ok(batch) => batch,
                    Err(refused) => return Ok(refused),
                };
                let batch = match check_keys_of(shared, &replica, batch).await {
                    Ok(batch) => batch,
                    Err(refused) => return Ok(refused),
                };
                let timeout = self.terms.timeout;
                if length < GATHERED_MAX_BYTES {
                    let reply = replica.enqueue(batch, acks, timeout, permit);
                    burst.gather(&replica);
                    return Ok(Outcome::Appending(reply));
                }
                let reply = replica.append(batch, acks, timeout, permit);
                if reply.has_woken_others {
                    // The one woken last is this worker's next task, and no other worker takes it:
                    // it must not wait behind the next write, which a disk may hold for long.
                    body.end_turn();
                }
                Ok(Outcome::Appending(reply))
            }
            // `check_produce` has parsed the same bytes.
            Err(error) => {
                let message = Some(error.to_string());
                Ok(Outcome::refused(ErrorCode::CorruptMessage, message))
            }
        }
    }

    /// Whether the batch may come, by what is known before it does.
    async fn admit(
        &self,
        shared: &Arc<Shared>,
        length: usize,
    ) -> Result<(Arc<Replica>, Acks), Outcome> {
        let refused = |code| Outcome::refused(code, None);
        let acks = self.terms.acks.map_err(refused)?;
        let partition = PartitionIndex(self.index);
        let found = if self.version >= TOPIC_ID_VERSION {
            shared.replicas.by_id(self.topic.topic_id, partition).await
        } else {
            shared.replicas.by_name(&self.topic.name, partition).await
        };
        let replica = found.map_err(refused)?;
        if let Err(rejection) = replica.policy().check_size(length) {
            return Err(rejection.into());
        }
        Ok((replica, acks))
    }
}

/// Compacted topics take no record without a key: the one check that unpacks the records.
async fn check_keys_of(
    shared: &Shared,
    replica: &Replica,
    batch: BatchBuf,
) -> Result<BatchBuf, Outcome> {
    if !replica.is_compacted() {
        return Ok(batch);
    }
    let is_packed = (batch.header().codec()).is_ok_and(|codec| codec != Codec::None);
    let (batch, checked) = if is_packed {
        shared.metrics.decompressions.inc();
        let check = |batch: &BatchBuf, bound| match check_keys(&batch.view(), bound) {
            Err(Rejection::Corrupt(error)) => Err(error),
            checked => Ok(checked),
        };
        let budget = &shared.unpack_budget;
        match unpack(&shared.env, budget, batch, UNPACKED_MAX_BYTES, check).await {
            Some((batch, checked)) => (
                batch,
                checked.unwrap_or_else(|e| Err(Rejection::Corrupt(e))),
            ),
            None => return Err(node_ends()),
        }
    } else {
        let checked = check_keys(&batch.view(), UNPACKED_MAX_BYTES);
        (batch, checked)
    };
    checked.map(|()| batch).map_err(Outcome::from)
}

/// Nobody reads it any more.
fn node_ends() -> Outcome {
    Outcome::refused(ErrorCode::NotLeaderOrFollower, None)
}

/// A response that waits for its acknowledgements.
struct Answer {
    shared: Arc<Shared>,
    context: Context,
    /// `acks=0`: the client does not listen, whatever becomes of its batches.
    is_unanswered: bool,
    topics: Vec<TopicOutcome>,
}

impl Answer {
    /// Those of the batches that were not refused at once.
    fn replies(&self) -> impl Iterator<Item = &Reply> {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.filter_map(|partition| match &partition.outcome {
            Outcome::Appending(reply) => Some(reply),
            Outcome::Refused(_) => None,
        })
    }

    fn later(self) -> Started {
        Started::Later(Box::pin(async { self.encode().await.ok() }))
    }

    /// Waits for the acknowledgements. The error closes the connection.
    async fn encode(self) -> Result<skein_net::Response, String> {
        let mut responses = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let mut partition_responses = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                partition_responses.push(match partition.outcome {
                    Outcome::Refused(why) => refused(partition.index, why),
                    Outcome::Appending(reply) => to_response(partition.index, reply.result().await),
                });
            }
            let TopicOutcome { name, topic_id, .. } = topic;
            responses.push(TopicProduceResponse {
                name,
                topic_id,
                partition_responses,
            });
        }
        let mut response = ProduceResponse {
            responses,
            ..Default::default()
        };
        if self.context.head.api_version >= CURRENT_LEADER_VERSION {
            name_leaders(&self.shared, &self.context, &mut response);
        }
        if self.is_unanswered {
            return silence(&response);
        }
        router::encode_response(ApiKey::Produce, &self.context, &response, &[])
    }
}

/// Tells those who came to the wrong node who leads.
fn name_leaders(shared: &Shared, context: &Context, response: &mut ProduceResponse) {
    let is_wrong = |one: &PartitionProduceResponse| current_leader::is_told_with(one.error_code);
    let mut topics = response.responses.iter();
    if !topics.any(|topic| topic.partition_responses.iter().any(is_wrong)) {
        return;
    }
    let mut leaders = CurrentLeaders::new(shared);
    for topic in &mut response.responses {
        let partitions = topic.partition_responses.iter_mut();
        for partition in partitions.filter(|partition| is_wrong(partition)) {
            if let Some((id, epoch)) = leaders.of(&topic.name, topic.topic_id, partition.index) {
                partition.current_leader = LeaderIdAndEpoch {
                    leader_id: id.get(),
                    leader_epoch: epoch.get(),
                };
            }
        }
    }
    let endpoints = leaders.endpoints(&context.connection.info.listener);
    let endpoints = endpoints.map(|(id, endpoint, rack)| NodeEndpoint {
        node_id: id.get(),
        host: Str::from(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: rack.map(Str::from),
    });
    response.node_endpoints = endpoints.collect();
}

/// `acks=0` has no answer; on an error the connection closes, which is all that the client can see.
fn silence(response: &ProduceResponse) -> Result<skein_net::Response, String> {
    let topics = &response.responses;
    let mut partitions = topics.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != ErrorCode::None.code()) {
        Some(failed) => Err(format!(
            "a Produce with acks=0 failed: {}",
            ErrorCode::from_code(failed.error_code)
        )),
        None => Ok(skein_net::Response::default()),
    }
}

fn to_response(index: i32, result: AckResult) -> PartitionProduceResponse {
    match result {
        Ok(ok) => PartitionProduceResponse {
            index,
            base_offset: ok.base_offset.get(),
            log_append_time_ms: ok.log_append_time.get(),
            log_start_offset: ok.log_start_offset.get(),
            ..Default::default()
        },
        Err(refusal) => {
            let why = Refused {
                code: refusal.error_code(),
                message: Some(refusal.to_string()),
                records: Vec::new(),
            };
            refused(index, why)
        }
    }
}

fn refused(index: i32, why: Refused) -> PartitionProduceResponse {
    let records = why.records.into_iter();
    let record_errors = records.map(|batch_index| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some("a record of a compacted topic needs a key".into()),
    });
    PartitionProduceResponse {
        index,
        error_code: why.code.code(),
        base_offset: Offset::NONE.get(),
        log_start_offset: Offset::NONE.get(),
        record_errors: record_errors.collect(),
        error_message: why.message.map(Str::from),
        ..Default::default()
    }
}
