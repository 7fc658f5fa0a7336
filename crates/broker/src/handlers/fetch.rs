//! Fetch (1): batches from the page cache to the socket, without passing user space.
//!
//! Input: partitions and offsets, alone or in a session. Output: ranges of segment files, at once
//! or when enough has been written.
//!
//! ```text
//!   decode ─► session ─► read all ─► enough, an error, or no patience? ──yes──► encode
//!                           ▲              │no
//!                           │       register at each partition ─► read all again
//!                           └──────── woken, or time is up ◄─ sleep ◄──┘
//! ```
//!
//! Invariants:
//! - no client reads past the high watermark, or past the last stable offset for `read_committed`;
//! - a redacted record is returned to no client (`fetch/redact.rs`). Whoever comes by a listener of
//!   clients is one, whatever replica id the request names: no field of it widens what is read. A
//!   follower comes by the peer listener, and reads all there is;
//! - at least one batch is returned if there is one, however small the limits;
//! - a fetch that waits is registered before it looks for the last time, so that no write is missed
//!   (`fetch_waits.rs`);
//! - what is not in the page cache is read into it on the offload pool: a network task never waits
//!   for the disk.
//!
//! Source: KIP-74 (response limits), KIP-227 (sessions), KIP-320 (leader epochs), KIP-516 (topic
//! ids).

mod read;
mod redact;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use skein_net::{Part, Response, Started};
use skein_partition::{Event, FollowerFetch};
use skein_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use skein_protocol::{ApiKey, Records, Str};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Millis, Offset, PartitionIndex};
use tokio::time::Instant;

use self::read::{Found, Reader, Results};
use super::current_leader::{self, CurrentLeaders};
use crate::fetch_sessions::{FetchSessions, SessionFetch, Wanted};
use crate::fetch_wait::FetchWaiter;
use crate::node::Shared;
use crate::replica::Replica;
use crate::router::{self, Context, Pieces};

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// First version with an error code for the whole response.
const SESSION_VERSION: i16 = 7;

/// First versions that have room for the current leader, and for where it is.
const CURRENT_LEADER_VERSION: i16 = 12;
const NODE_ENDPOINTS_VERSION: i16 = 16;

/// Longest wait that is obeyed; a larger one is cut to it.
const MAX_WAIT_MAX: Duration = Duration::from_secs(300);

/// A partition to read, and the replica if it is here.
#[derive(Clone)]
pub(super) struct Source {
    wanted: Wanted,
    replica: Result<Arc<Replica>, ErrorCode>,
    /// Where this leader's epoch begins, if a follower has not heard that all before is committed:
    /// it may owe somebody an answer about it, and is told at once when it is so.
    awaited_high_watermark: Option<Offset>,
}

/// One fetch on its way.
struct Fetch {
    shared: Arc<Shared>,
    context: Context,
    session: SessionFetch,
    reader: Reader,
    min_bytes: usize,
    deadline: Instant,
    sources: Vec<Source>,
}

/// Starts a client's fetch: returns when it is answered, or registered.
pub(crate) async fn start(shared: &Arc<Shared>, context: &Context, bytes: &Bytes) -> Started {
    let request = match router::decode::<FetchRequest>(context, bytes) {
        Ok(request) => request,
        Err(reason) => return Started::Close { reason },
    };
    let reader = Reader::of_client(&request, shared.config.network.fetch_max_bytes);
    begin(shared, context, &request, reader, &shared.fetch_sessions).await
}

/// Starts the fetch of another node that follows partitions of this one.
pub(crate) async fn start_of_follower(
    shared: &Arc<Shared>,
    context: &Context,
    bytes: &Bytes,
) -> Started {
    let request = match router::decode::<FetchRequest>(context, bytes) {
        Ok(request) => request,
        Err(reason) => return Started::Close { reason },
    };
    let reader = Reader::of_follower(&request);
    let sessions = &shared.follower_sessions;
    begin(shared, context, &request, reader, sessions).await
}

async fn begin(
    shared: &Arc<Shared>,
    context: &Context,
    request: &FetchRequest,
    reader: Reader,
    sessions: &FetchSessions,
) -> Started {
    let version = context.head.api_version;
    let session = match sessions.open(request, version, shared.env.rng.next_u64()) {
        Ok(session) => session,
        Err(code) => return refuse(context, code),
    };
    let sent_after = session.sent_after.map(|at| shared.basis.monotonic(at));
    let mut sources = Vec::with_capacity(session.wanted.len());
    for wanted in &session.wanted {
        let replica = find(shared, wanted, version).await;
        let mut awaited_high_watermark = None;
        if let Ok(replica) = &replica
            && reader.is_follower()
        {
            replica.step(followed(request, wanted, sent_after));
            let is_remembered = session.has_session();
            awaited_high_watermark = awaited(replica, wanted).filter(|_| is_remembered);
        }
        sources.push(Source {
            wanted: wanted.clone(),
            replica,
            awaited_high_watermark,
        });
    }
    let follower = reader
        .is_follower()
        .then_some(BrokerId(request.replica_state.replica_id));
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let fetch = Fetch {
        shared: Arc::clone(shared),
        context: context.clone(),
        session,
        reader,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        deadline: Instant::now() + max_wait.min(MAX_WAIT_MAX),
        sources,
    };
    let results = fetch.reader.read_hot(&fetch.sources);
    match results {
        Some(results) if fetch.is_enough(&results) || max_wait.is_zero() => {
            shared.metrics.fetches_hot.inc();
            fetch.answer(results)
        }
        _ => {
            // Before a request behind this one can hasten it.
            let registration = Registration::new(shared, &fetch.sources, follower);
            Started::Later(Box::pin(fetch.wait(registration)))
        }
    }
}

/// What the leader learns of a follower by its fetch.
fn followed(request: &FetchRequest, wanted: &Wanted, sent_after: Option<Millis>) -> Event {
    let fetch = &wanted.fetch;
    Event::FollowerFetched(FollowerFetch {
        broker_id: BrokerId(request.replica_state.replica_id),
        broker_epoch: BrokerEpoch(request.replica_state.replica_epoch),
        leader_epoch: LeaderEpoch(fetch.current_leader_epoch),
        fetch_offset: Offset(fetch.fetch_offset),
        last_fetched_epoch: LeaderEpoch(fetch.last_fetched_epoch),
        sent_after,
    })
}

/// Where the leader's epoch begins, unless the follower knows that all before is committed.
fn awaited(replica: &Replica, wanted: &Wanted) -> Option<Offset> {
    let leads = replica.view().offsets.leader(LeaderEpoch::NONE);
    let (_, start) = leads.ok()?;
    let told = wanted.told_high_watermark.unwrap_or(-1);
    (told < start.get()).then_some(start)
}

async fn find(
    shared: &Arc<Shared>,
    wanted: &Wanted,
    version: i16,
) -> Result<Arc<Replica>, ErrorCode> {
    let partition = PartitionIndex(wanted.key.partition);
    if version >= TOPIC_ID_VERSION {
        shared.replicas.by_id(wanted.key.topic_id, partition).await
    } else {
        shared.replicas.by_name(&wanted.key.topic, partition).await
    }
}

/// An error of the session; before version 7 there is no field for it, and no session either.
fn refuse(context: &Context, code: ErrorCode) -> Started {
    let error_code = if context.head.api_version >= SESSION_VERSION {
        code.code()
    } else {
        0
    };
    let response = FetchResponse {
        error_code,
        ..Default::default()
    };
    match router::encode_response(ApiKey::Fetch, context, &response, &[]) {
        Ok(response) => Started::Answered(response),
        Err(reason) => Started::Close { reason },
    }
}

impl Fetch {
    fn is_enough(&self, results: &Results) -> bool {
        results.bytes >= self.min_bytes || results.is_urgent || self.sources.is_empty()
    }

    fn answer(&self, results: Results) -> Started {
        match self.encode(results) {
            Some(response) => Started::Answered(response),
            None => Started::Close {
                reason: "cannot encode a Fetch response".to_owned(),
            },
        }
    }

    /// Waits for data or for the deadline.
    async fn wait(self, registration: Registration) -> Option<Response> {
        loop {
            let is_late = Instant::now() >= self.deadline || registration.waiter.is_hastened();
            let (results, path) = self.read().await;
            if is_late || self.is_enough(&results) {
                drop(registration);
                path.inc();
                return self.encode(results);
            }
            self.has_caught_up();
            tokio::select! {
                biased;
                () = registration.waiter.woken() => {}
                () = tokio::time::sleep_until(self.deadline) => {}
            }
        }
    }

    /// Reads, on the offload pool where the disk is needed; says which way it went.
    async fn read(&self) -> (Results, &Counter) {
        let metrics = &self.shared.metrics;
        if let Some(results) = self.reader.read_hot(&self.sources) {
            return (results, &metrics.fetches_hot);
        }
        let connection = &self.context.connection;
        let reading = self
            .reader
            .read_cold(&self.shared, connection, &self.sources);
        let results = reading.await;
        (results, &metrics.fetches_cold)
    }

    /// Lets go of what was read from the disk before there was nothing more to read.
    fn has_caught_up(&self) {
        let replicas = self.sources.iter().flat_map(|one| &one.replica);
        let cold_reads = replicas.map(|replica| &replica.cold_reads);
        self.context.connection.cold_reader.stop(cold_reads);
    }

    fn encode(&self, results: Results) -> Option<Response> {
        let metrics = &self.shared.metrics;
        metrics.fetch_lookups.inc_by(results.lookups);
        metrics.fetch_scanned_bytes.inc_by(results.scanned_bytes);
        let mut records: Vec<Pieces> = Vec::new();
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        for (source, found) in self.sources.iter().zip(results.partitions) {
            let Found {
                mut data,
                pieces,
                records: sent,
            } = found;
            let key = &source.wanted.key;
            if let Ok(replica) = &source.replica
                && !pieces.is_empty()
            {
                let bytes = pieces.iter().map(Part::length).sum::<usize>();
                replica.counts.fetched(bytes as u64, sent);
            }
            data.partition_index = key.partition;
            data.records = Some(to_records(pieces, &mut records));
            if !self.session.must_tell(key, &data) {
                continue;
            }
            match responses.last_mut() {
                Some(topic) if topic.topic == key.topic && topic.topic_id == key.topic_id => {
                    topic.partitions.push(data);
                }
                _ => responses.push(FetchableTopicResponse {
                    topic: key.topic.clone(),
                    topic_id: key.topic_id,
                    partitions: vec![data],
                }),
            }
        }
        let mut response = FetchResponse {
            session_id: self.session.session_id,
            responses,
            ..Default::default()
        };
        if !self.reader.is_follower() && self.context.head.api_version >= CURRENT_LEADER_VERSION {
            self.name_leaders(&mut response);
        }
        router::encode_response(ApiKey::Fetch, &self.context, &response, &records).ok()
    }
}

impl Fetch {
    /// Tells those who came to the wrong node who leads.
    fn name_leaders(&self, response: &mut FetchResponse) {
        let is_wrong = |one: &PartitionData| current_leader::is_told_with(one.error_code);
        let mut topics = response.responses.iter();
        if !topics.any(|topic| topic.partitions.iter().any(is_wrong)) {
            return;
        }
        let mut leaders = CurrentLeaders::new(&self.shared);
        for topic in &mut response.responses {
            let partitions = topic.partitions.iter_mut();
            for data in partitions.filter(|data| is_wrong(data)) {
                let found = leaders.of(&topic.topic, topic.topic_id, data.partition_index);
                if let Some((id, epoch)) = found {
                    data.current_leader = LeaderIdAndEpoch {
                        leader_id: id.get(),
                        leader_epoch: epoch.get(),
                    };
                }
            }
        }
        if self.context.head.api_version < NODE_ENDPOINTS_VERSION {
            return;
        }
        let endpoints = leaders.endpoints(&self.context.connection.info.listener);
        let endpoints = endpoints.map(|(id, endpoint, rack)| NodeEndpoint {
            node_id: id.get(),
            host: Str::from(&endpoint.host),
            port: i32::from(endpoint.port),
            rack: rack.map(Str::from),
        });
        response.node_endpoints = endpoints.collect();
    }
}

/// The place of a partition's pieces in the response; without any it has no place, and clients want
/// no null.
fn to_records(pieces: Pieces, records: &mut Vec<Pieces>) -> Records {
    if pieces.is_empty() {
        return Records::Bytes(Bytes::new());
    }
    let length: usize = pieces.iter().map(Part::length).sum();
    let slot = u32::try_from(records.len()).unwrap_or(u32::MAX);
    let len = u32::try_from(length).unwrap_or(u32::MAX);
    records.push(pieces);
    Records::External { len, slot }
}

/// A fetch's registration at its partitions; dropped, it is gone.
struct Registration {
    id: u64,
    waiter: Arc<FetchWaiter>,
    replicas: Vec<Arc<Replica>>,
    follower: Option<BrokerId>,
    shared: Arc<Shared>,
}

impl Registration {
    fn new(shared: &Arc<Shared>, sources: &[Source], follower: Option<BrokerId>) -> Self {
        let id = shared.next_fetch_wait.fetch_add(1, Ordering::Relaxed);
        let waiter = Arc::new(FetchWaiter::default());
        let replicas: Vec<_> = sources
            .iter()
            .filter_map(|source| source.replica.as_ref().ok().cloned())
            .collect();
        for replica in &replicas {
            replica.waits.register(id, Arc::clone(&waiter));
        }
        if let Some(follower) = follower {
            let waiter = Arc::clone(&waiter);
            shared.waiting_followers.register(follower, id, waiter);
        }
        shared.metrics.fetches_waiting.inc();
        Self {
            id,
            waiter,
            replicas,
            follower,
            shared: Arc::clone(shared),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.metrics.fetches_waiting.dec();
        if let Some(follower) = self.follower {
            self.shared.waiting_followers.unregister(follower, self.id);
        }
        for replica in &self.replicas {
            replica.waits.unregister(self.id);
        }
    }
}

/// What a partition answers that cannot be read.
pub(super) fn failed(code: ErrorCode) -> PartitionData {
    PartitionData {
        error_code: code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
