//! The task that sends what the accumulator holds.
//!
//! Input: wake-ups of `send`, of responses and of timers. Output: Produce requests, in the order in
//! which batches were taken; results for the accumulator.
//!
//! Invariants:
//! - requests to one broker are put on its connection by this task alone, so they leave in order;
//!   only the waiting for responses is left to tasks of their own;
//! - at most `max.in.flight.requests.per.connection` of them wait for a response per broker;
//! - nothing here waits for one broker while another could be served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use skein_env::Lane;
use skein_protocol::messages::produce::ProduceRequest;
use skein_record::Compressor;
use skein_types::{BrokerId, Millis, Offset};
use tokio::time::Instant;

use crate::cluster::ClusterView;
use crate::connection::Connection;
use crate::error::ClientError;
use crate::producer::batch::{Ack, Batch};
use crate::producer::options::Acks;
use crate::producer::produce_call::{Results, request, results};
use crate::producer::{Shared, init_producer_id};
use crate::retry::backoff;

/// How long the sender sleeps when nothing is planned; any news wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// What the sender knows of one broker.
#[derive(Debug, Default)]
pub(crate) struct Link {
    in_flight: usize,
    is_connecting: bool,
    failures: u32,
    not_before: Option<Instant>,
}

/// Whether and when the leaders are asked for.
#[derive(Debug, Default)]
pub(crate) struct Refresh {
    is_wanted: bool,
    is_running: bool,
    failures: u32,
    not_before: Option<Instant>,
}

/// What one look at the accumulator came to.
struct Plan {
    sends: Vec<(BrokerId, Arc<Connection>, Vec<Batch>)>,
    connects: Vec<BrokerId>,
    next: Option<Instant>,
    is_done: bool,
    lacks_identity: bool,
}

/// Runs until the producer is closed and all it took has an outcome.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let view = shared.pool.metadata.view();
        let plan = plan(&shared, &view);
        if plan.is_done {
            return;
        }
        for broker in plan.connects {
            spawn_connect(&shared, broker);
        }
        let has_sent = !plan.sends.is_empty();
        for (broker, connection, batches) in plan.sends {
            send(&shared, &view, broker, connection, batches).await;
        }
        if plan.lacks_identity {
            renew_identity(&shared).await;
        }
        spawn_refresh(&shared, &view);
        if has_sent {
            continue; // More may be ready for the same brokers.
        }
        let next = plan.next.unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            biased;
            () = shared.wake.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

fn plan(shared: &Shared, view: &ClusterView) -> Plan {
    let now = Instant::now();
    let is_pressed = shared.waiting_for_memory.load(Ordering::Relaxed) > 0;
    let mut guard = shared.state.lock();
    let state = &mut *guard;
    let trouble = shared.trouble.lock().clone();
    let mut released = state.accumulator.expire(now, trouble.as_ref());
    let mut look_again = None;
    if let Some(absence_max) = shared.pool.metadata.options.absence_max {
        let offline = |partition: &_| view.offline(partition);
        let failed = state.accumulator.fail_offline(now, absence_max, offline);
        released += failed.0;
        look_again = failed.1;
    }
    shared.release(released, state);
    let leader = |partition: &_| view.leader(partition);
    let mut schedule = state.accumulator.schedule(now, is_pressed, leader);
    if let Some(at) = look_again {
        schedule.look_again_at(at);
    }
    state.refresh.is_wanted |= schedule.lacks_leader || shared.pool.metadata.is_old();
    let (mut sends, mut connects) = (Vec::new(), Vec::new());
    for broker in std::mem::take(&mut schedule.brokers) {
        let link = state.links.entry(broker).or_default();
        let in_flight_max = shared.options.max_in_flight_requests_per_connection;
        if link.is_connecting || link.in_flight >= in_flight_max {
            continue;
        }
        if let Some(at) = link.not_before.filter(|at| *at > now) {
            schedule.look_again_at(at);
            continue;
        }
        let Some(connection) = shared.pool.ready(broker) else {
            link.is_connecting = true;
            connects.push(broker);
            continue;
        };
        let mine = |partition: &_| view.leader(partition) == Some(broker);
        let batches = state.accumulator.drain(now, is_pressed, mine);
        if !batches.is_empty() {
            link.in_flight += 1;
            sends.push((broker, connection, batches));
        }
    }
    if let Some(at) = state.refresh.not_before.filter(|_| state.refresh.is_wanted) {
        schedule.look_again_at(at.max(now));
    }
    let accumulator = &state.accumulator;
    let is_empty = accumulator.unfinished_from() == accumulator.next_ordinal();
    Plan {
        sends,
        connects,
        next: schedule.next,
        is_done: state.is_closed && is_empty,
        lacks_identity: accumulator.lacks_identity(),
    }
}

/// Puts one request on the connection, and leaves its response to a task.
async fn send(
    shared: &Arc<Shared>,
    view: &Arc<ClusterView>,
    broker: BrokerId,
    connection: Arc<Connection>,
    batches: Vec<Batch>,
) {
    let (sealed, mut failed) = seal(batches);
    if sealed.is_empty() {
        complete(shared, view, broker, failed, Duration::ZERO);
        return;
    }
    shared.statistics.count_request(&sealed);
    let (acks, timeout) = (
        shared.options.acks,
        shared.pool.metadata.options.request_timeout,
    );
    let (request, version_max) = request(view, &sealed, acks, timeout);
    let batches: Vec<_> = sealed.into_iter().map(|(batch, _)| batch).collect();
    let version = match connection.version::<ProduceRequest>(version_max) {
        Ok(version) => version,
        Err(error) => {
            failed.extend(batches.into_iter().map(|batch| (batch, Err(error.clone()))));
            complete(shared, view, broker, failed, Duration::ZERO);
            return;
        }
    };
    let (shared, view) = (Arc::clone(shared), Arc::clone(view));
    if acks == Acks::None {
        // Nothing else of these partitions is sent before this is done, so the order holds.
        let task = Arc::clone(&shared);
        shared.spawn("producer-tell", async move {
            let told = connection.tell(&request, version, timeout).await;
            let result = told.map(|()| Ack {
                base_offset: Offset::NONE,
                log_append_time: Millis::NONE,
            });
            failed.extend(batches.into_iter().map(|batch| (batch, result.clone())));
            complete(&task, &view, broker, failed, Duration::ZERO);
        });
        return;
    }
    match connection.start(&request, version, timeout).await {
        Err(error) => {
            failed.extend(batches.into_iter().map(|batch| (batch, Err(error.clone()))));
            complete(&shared, &view, broker, failed, Duration::ZERO);
        }
        Ok(pending) => {
            let task = Arc::clone(&shared);
            shared.spawn("producer-response", async move {
                let mut throttle = Duration::ZERO;
                match pending.response().await {
                    Ok(response) => {
                        throttle = millis(response.throttle_time_ms);
                        failed.extend(results(&view, batches, &response));
                    }
                    Err(source) => {
                        let error = connection.failed(source);
                        failed.extend(batches.into_iter().map(|batch| (batch, Err(error.clone()))));
                    }
                }
                complete(&task, &view, broker, failed, throttle);
            });
        }
    }
}

/// The batches with their bytes, and those that have none.
fn seal(batches: Vec<Batch>) -> (Vec<(Batch, Bytes)>, Results) {
    let (mut sealed, mut failed) = (Vec::new(), Results::new());
    let mut compressor = Compressor::default();
    for mut batch in batches {
        match batch.seal(&mut compressor) {
            Ok(bytes) => sealed.push((batch, bytes)),
            Err(source) => {
                let partition = batch.partition.clone();
                failed.push((batch, Err(ClientError::Encode { partition, source })));
            }
        }
    }
    (sealed, failed)
}

/// Hands the results of one request to the accumulator. `throttle` is how long the broker wants to
/// be left alone.
fn complete(
    shared: &Shared,
    view: &ClusterView,
    broker: BrokerId,
    results: Results,
    throttle: Duration,
) {
    let now = Instant::now();
    let metadata = &shared.pool.metadata;
    let mut guard = shared.state.lock();
    let state = &mut *guard;
    let link = state.links.entry(broker).or_default();
    link.in_flight = link.in_flight.saturating_sub(1);
    if !throttle.is_zero() {
        link.not_before = Some(now + throttle);
    }
    let mut released = 0;
    for (batch, result) in results {
        *shared.trouble.lock() = result.as_ref().err().cloned();
        if let Err(error) = &result {
            tracing::debug!(partition = %batch.partition, %error, "a batch was not written");
            // A view that is newer than the one that misled us may be right.
            let is_newest = metadata.view().version == view.version;
            state.refresh.is_wanted |= error.is_stale_metadata() && is_newest;
        }
        let pause = backoff(&metadata.options, &metadata.env, batch.failures + 1);
        released += state.accumulator.complete(batch, result, now, pause);
    }
    shared.release(released, state);
    drop(guard);
    shared.wake.notify_one();
}

fn spawn_connect(shared: &Arc<Shared>, broker: BrokerId) {
    let task = Arc::clone(shared);
    shared.spawn("producer-connect", async move {
        let connected = task.pool.connection(broker).await;
        let metadata = &task.pool.metadata;
        {
            let mut state = task.state.lock();
            let link = state.links.entry(broker).or_default();
            link.is_connecting = false;
            match connected {
                Ok(_) => link.failures = 0,
                Err(error) => {
                    tracing::debug!(%broker, %error, "no connection");
                    *task.trouble.lock() = Some(error);
                    link.failures = link.failures.saturating_add(1);
                    let pause = backoff(&metadata.options, &metadata.env, link.failures);
                    link.not_before = Some(Instant::now() + pause);
                    state.refresh.is_wanted = true;
                }
            }
        }
        task.wake.notify_one();
    });
}

/// Asks for the leaders, unless that is under way or was just done.
fn spawn_refresh(shared: &Arc<Shared>, view: &ClusterView) {
    let now = Instant::now();
    {
        let refresh = &mut shared.state.lock().refresh;
        let is_early = refresh.not_before.is_some_and(|at| at > now);
        if !refresh.is_wanted || refresh.is_running || is_early {
            return;
        }
        refresh.is_wanted = false;
        refresh.is_running = true;
    }
    let (task, seen) = (Arc::clone(shared), view.version);
    shared.spawn("producer-metadata", async move {
        let metadata = &task.pool.metadata;
        let refreshed = metadata.newer_than(seen, true).await;
        {
            let refresh = &mut task.state.lock().refresh;
            refresh.is_running = false;
            // Answers that help no one come no faster than answers that fail.
            refresh.failures = refresh.failures.saturating_add(1);
            if let Err(error) = refreshed {
                tracing::debug!(%error, "the leaders are not known");
                refresh.is_wanted = true;
                *task.trouble.lock() = Some(error);
            } else if !refresh.is_wanted {
                refresh.failures = 0;
            }
            let pause = backoff(&metadata.options, &metadata.env, refresh.failures.max(1));
            refresh.not_before = Some(Instant::now() + pause);
        }
        task.wake.notify_one();
    });
}

async fn renew_identity(shared: &Shared) {
    match init_producer_id(&shared.pool).await {
        Ok(identity) => shared.state.lock().accumulator.set_identity(identity),
        Err(error) => tracing::warn!(%error, "no producer id; trying again"),
    }
}

fn millis(number: i32) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

/// The brokers' links.
pub(crate) type Links = BTreeMap<BrokerId, Link>;

impl Shared {
    /// Runs a task of the producer.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let env = &self.pool.metadata.env;
        env.spawn.spawn(Lane::Data, name, Box::pin(task));
    }
}
