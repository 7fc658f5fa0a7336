//! Writes records.
//!
//! Input: records, from any number of tasks. Output: for each a [`Delivery`], which says in the end
//! where the record is, or that and why it is not.
//!
//! ```text
//!   send ─► partitioner ─► memory ─► accumulator ─► sender ─► connection ─► broker
//!                                        ▲             │
//!                                        └── results ──┘
//! ```
//!
//! Invariants:
//! - `send` never sends: batches leave by size or by `linger.ms` (`accumulator.rs`);
//! - the records of one partition are written in the order of `send`, also when some are sent
//!   again; with idempotence, each at most once (`partition_queue.rs`);
//! - what is not delivered holds at most `buffer.memory` bytes: a record's bytes are taken from the
//!   semaphore before it is appended, and given back with its outcome.
//!
//! Source: KIP-98 (idempotence), KIP-91 (delivery timeout).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_protocol::messages::init_producer_id::InitProducerIdRequest;
use skein_types::{ErrorCode, ProducerEpoch, ProducerId, TopicName, TopicPartition};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use crate::cluster::ClusterView;
use crate::error::ClientError;
use crate::partitioner::{Chooser, PartitionsToChoose};
use crate::pool::Pool;
use crate::producer::accumulator::Accumulator;
use crate::producer::batch::{Batch, Identity};
use crate::producer::sender::{Links, Refresh};
use crate::retry::Retry;

mod accumulator;
mod batch;
mod options;
mod partition_queue;
mod produce_call;
mod record;
mod sender;

pub use options::{Acks, ProducerOptions};
pub use record::{Delivery, ProducerRecord, RecordMetadata};

/// Writes records. Share it behind an `Arc`.
///
/// Dropped without [`Producer::close`], it still sends what it took, but nobody waits for that.
pub struct Producer {
    shared: Arc<Shared>,
}

/// What the producer and its tasks share.
pub(crate) struct Shared {
    pool: Arc<Pool>,
    options: ProducerOptions,
    /// A permit is a byte.
    memory: Semaphore,
    waiting_for_memory: AtomicUsize,
    state: Mutex<State>,
    wake: Notify,
    /// Ordinal below which every batch has its outcome.
    finished_end: watch::Sender<u64>,
    statistics: Counters,
    /// Why the last attempt failed; `None` when the last one succeeded.
    trouble: Mutex<Option<ClientError>>,
}

struct State {
    accumulator: Accumulator,
    chooser: Chooser,
    /// What the chooser is told of a topic, by the version of the view that it is from.
    choices: BTreeMap<TopicName, (u64, PartitionsToChoose)>,
    links: Links,
    refresh: Refresh,
    is_closed: bool,
}

/// What a producer has sent so far, repetitions included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStatistics {
    /// Produce requests.
    pub requests: u64,
    /// Batches in them.
    pub batches: u64,
    /// Records in those.
    pub records: u64,
    /// Bytes of the batches, compressed.
    pub bytes: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Producer {
    pub(crate) async fn start(
        pool: Arc<Pool>,
        options: ProducerOptions,
    ) -> Result<Self, ClientError> {
        options.check()?;
        let identity = if options.is_idempotent() {
            Some(init_producer_id(&pool).await?)
        } else {
            None
        };
        let shared = Arc::new(Shared {
            memory: Semaphore::new(options.buffer_memory),
            waiting_for_memory: AtomicUsize::new(0),
            state: Mutex::new(State {
                accumulator: Accumulator::new(&options, identity),
                chooser: Chooser::new(options.partitioning.clone(), options.batch_size),
                choices: BTreeMap::new(),
                links: Links::new(),
                refresh: Refresh::default(),
                is_closed: false,
            }),
            wake: Notify::new(),
            finished_end: watch::Sender::new(0),
            statistics: Counters::default(),
            trouble: Mutex::new(None),
            pool,
            options,
        });
        shared.spawn("producer-sender", sender::run(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Takes a record. Waits, up to [`ProducerOptions::max_block`], while the topic is not known or
    /// the memory is full; not for the record to be written: that is what the [`Delivery`] is for.
    ///
    /// # Errors
    /// The record cannot be taken: it is too large, there is no such topic or partition, the memory
    /// stayed full, the producer is closed.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let shared = &*self.shared;
        let (bytes, max) = (record.size_max(), shared.options.max_request_size);
        if bytes.saturating_add(Batch::OVERHEAD) > max {
            return Err(ClientError::RecordTooLarge { bytes, max });
        }
        let view = self.view_with(&record.topic).await?;
        shared.take_memory(bytes).await?;
        let env = &shared.pool.metadata.env;
        let timestamp = record.timestamp.unwrap_or_else(|| env.clock.now());
        let random = env.rng.next_u64();
        let appended = {
            let mut guard = shared.state.lock();
            let state = &mut *guard;
            if state.is_closed {
                Err(ClientError::Closed)
            } else {
                state
                    .partition_for(&view, &record, bytes, random)
                    .and_then(|partition| {
                        let accumulator = &mut state.accumulator;
                        accumulator.append(&partition, &record, timestamp, Instant::now())
                    })
            }
        };
        let appended = appended.inspect_err(|_| shared.memory.add_permits(bytes))?;
        if appended.is_news {
            shared.wake.notify_one();
        }
        Ok(appended.delivery)
    }

    /// Has everything sent that was taken before, and waits for the outcomes.
    pub async fn flush(&self) {
        let end = self.shared.state.lock().accumulator.flush();
        self.shared.wake.notify_one();
        let mut finished_end = self.shared.finished_end.subscribe();
        // The sender of this channel is part of `self`.
        let _ = finished_end.wait_for(|finished| *finished >= end).await;
    }

    /// Takes no more records and waits for the outcomes of those taken. Returns `false` if that
    /// takes longer than `timeout`; the rest is still sent afterwards.
    pub async fn close(self, timeout: Duration) -> bool {
        self.shared.state.lock().is_closed = true;
        tokio::time::timeout(timeout, self.flush()).await.is_ok()
    }

    /// What was sent so far.
    #[must_use]
    pub fn statistics(&self) -> ProducerStatistics {
        let counters = &self.shared.statistics;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProducerStatistics {
            requests: read(&counters.requests),
            batches: read(&counters.batches),
            records: read(&counters.records),
            bytes: read(&counters.bytes),
        }
    }

    /// Why the last attempt to reach a broker or to write a batch failed, until one succeeds: what
    /// a program that waits for long may want to tell.
    #[must_use]
    pub fn last_failure(&self) -> Option<ClientError> {
        self.shared.trouble.lock().clone()
    }

    async fn view_with(&self, topic: &TopicName) -> Result<Arc<ClusterView>, ClientError> {
        let metadata = &self.shared.pool.metadata;
        let view = metadata.view();
        if view.topics.contains_key(topic) {
            return Ok(view);
        }
        let max_block = self.shared.options.max_block;
        let (view, _) = metadata.topic(topic, true, max_block).await?;
        Ok(view)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.is_closed = true;
        state.accumulator.flush();
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl State {
    fn partition_for(
        &mut self,
        view: &ClusterView,
        record: &ProducerRecord,
        bytes: usize,
        random: u64,
    ) -> Result<TopicPartition, ClientError> {
        let topic = &record.topic;
        let choice = self
            .choices
            .get(topic)
            .filter(|(version, _)| *version == view.version);
        if choice.is_none() {
            let partitions = PartitionsToChoose::of(view, topic);
            self.choices
                .insert(topic.clone(), (view.version, partitions));
        }
        let Some((_, partitions)) = self.choices.get(topic) else {
            return Err(ClientError::Closed);
        };
        let Some(partition) = record.partition else {
            let key = record.key.as_deref();
            let partition = self.chooser.choose(topic, key, bytes, partitions, random);
            let topic = topic.clone();
            return Ok(TopicPartition { topic, partition });
        };
        let partition = TopicPartition {
            topic: topic.clone(),
            partition,
        };
        if view.partition(&partition).is_none() {
            let last = i32::try_from(partitions.count).unwrap_or(i32::MAX) - 1;
            return Err(ClientError::NoSuchPartition { partition, last });
        }
        Ok(partition)
    }
}

impl Shared {
    /// Takes bytes of memory; whoever appends the record owns them then.
    async fn take_memory(&self, bytes: usize) -> Result<(), ClientError> {
        // A record is below max.request.size, and that below 1 GiB.
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(permit) = self.memory.try_acquire_many(permits) {
            permit.forget();
            return Ok(());
        }
        let _waiting = WaitingForMemory::begin(self);
        let max_block = self.options.max_block;
        match tokio::time::timeout(max_block, self.memory.acquire_many(permits)).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(())
            }
            Ok(Err(_)) => Err(ClientError::Closed),
            Err(_) => Err(ClientError::TimedOut {
                subject: "waiting for buffer.memory".into(),
                timeout: max_block,
                last: None,
            }),
        }
    }

    /// Gives memory back, and tells those who flush.
    fn release(&self, bytes: usize, state: &State) {
        if bytes > 0 {
            self.memory.add_permits(bytes);
        }
        let end = state.accumulator.unfinished_from();
        self.finished_end.send_if_modified(|finished| {
            let is_news = *finished < end;
            *finished = end;
            is_news
        });
    }
}

/// Somebody waits for memory; ends also when the waiting is given up.
struct WaitingForMemory<'a>(&'a Shared);

impl<'a> WaitingForMemory<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.waiting_for_memory.fetch_add(1, Ordering::Relaxed);
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for WaitingForMemory<'_> {
    fn drop(&mut self) {
        self.0.waiting_for_memory.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    fn count_request(&self, batches: &[(Batch, Bytes)]) {
        let add = |counter: &AtomicU64, number: usize| {
            counter.fetch_add(number as u64, Ordering::Relaxed);
        };
        add(&self.requests, 1);
        add(&self.batches, batches.len());
        for (batch, bytes) in batches {
            add(&self.records, batch.records_count() as usize);
            add(&self.bytes, bytes.len());
        }
    }
}

/// Asks for a producer id, as long as `default.api.timeout.ms` allows.
async fn init_producer_id(pool: &Pool) -> Result<Identity, ClientError> {
    let metadata = &pool.metadata;
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let mut retry = Retry::new(&metadata.env, &metadata.options, "InitProducerId");
    loop {
        let error = match pool.call_any(&request).await {
            Ok(response) => match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => {
                    return Ok(Identity {
                        producer_id: ProducerId(response.producer_id),
                        producer_epoch: ProducerEpoch(response.producer_epoch),
                    });
                }
                code => ClientError::refused("InitProducerId", code, None),
            },
            Err(error) => error,
        };
        retry.pause(error).await?;
    }
}
