//! Reads records of partitions that the program names.
//!
//! Input: partitions and where to begin. Output: their records, in offset order per partition.
//!
//! ```text
//!   poll ─► positions (found by ListOffsets) ─► a fetch per leader, each a task ─► Fetched
//!    ▲                                                                               │
//!    └── records ◄── one batch decoded at a time ◄── chunks, one per partition ◄─────┘
//! ```
//!
//! Invariants:
//! - a partition is fetched again only when its last chunk has been handed over, so at most one
//!   fetch response per broker is in memory, and one decompressed batch;
//! - what was asked before a `seek` is dropped when it arrives (`generation`);
//! - a position only moves over records that were handed over, or that nobody may read.
//!
//! Source: the Kafka protocol guide, Fetch; KIP-98 for aborted transactions; KIP-320 for epochs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use skein_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, TopicPartition};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::ClusterView;
use crate::consumer::fetch::{Ask, Event, Fetched};
use crate::error::{ClientError, is_stale_metadata};
use crate::list_offsets::{OffsetSpec, list_offsets};
use crate::pool::Pool;
use crate::retry::{Absence, backoff};

mod chunk;
mod fetch;
mod options;

pub use chunk::{ConsumerRecord, RecordHeader};
pub use options::{ConsumerOptions, IsolationLevel, StartAt};

use chunk::Chunk;

/// Results of fetches that wait for `poll`; further tasks wait with theirs.
const EVENTS_MAX: usize = 16;

/// Reads records of partitions that the program names. For one task at a time.
pub struct Consumer {
    pool: Arc<Pool>,
    options: ConsumerOptions,
    partitions: BTreeMap<TopicPartition, Assigned>,
    chunks: VecDeque<Chunk>,
    records: VecDeque<ConsumerRecord>,
    links: BTreeMap<BrokerId, Link>,
    refresh: Refresh,
    events: mpsc::Receiver<Event>,
    events_sender: mpsc::Sender<Event>,
    next_generation: u64,
    /// Why the last attempt failed; `None` when the last one succeeded.
    trouble: Option<ClientError>,
    statistics: ConsumerStatistics,
}

/// What a consumer has received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStatistics {
    /// Fetch responses that had records.
    pub fetches: u64,
    /// Those that had none: the broker had waited in vain.
    pub empty_fetches: u64,
    /// Bytes of the batches in them, compressed.
    pub bytes: u64,
}

struct Assigned {
    position: StartAt,
    leader_epoch: LeaderEpoch,
    /// Changes with each `assign` and `seek`.
    generation: u64,
    has_chunk: bool,
    high_watermark: Option<Offset>,
    absence: Absence,
}

#[derive(Default)]
struct Link {
    is_fetching: bool,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Default)]
struct Refresh {
    is_wanted: bool,
    is_running: bool,
    failures: u32,
    not_before: Option<Instant>,
}

impl Consumer {
    pub(crate) fn new(pool: Arc<Pool>, options: ConsumerOptions) -> Self {
        let (events_sender, events) = mpsc::channel(EVENTS_MAX);
        Self {
            pool,
            options,
            partitions: BTreeMap::new(),
            chunks: VecDeque::new(),
            records: VecDeque::new(),
            links: BTreeMap::new(),
            refresh: Refresh::default(),
            events,
            events_sender,
            next_generation: 0,
            trouble: None,
            statistics: ConsumerStatistics::default(),
        }
    }

    /// Reads these partitions from now on, and no others.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>) {
        self.partitions.clear();
        self.chunks.clear();
        self.records.clear();
        for (partition, position) in partitions {
            self.seek(partition, position);
        }
    }

    /// Reads a partition from here on; the others go on.
    pub fn seek(&mut self, partition: TopicPartition, position: StartAt) {
        self.chunks.retain(|chunk| *chunk.partition() != partition);
        self.records.retain(|record| record.partition != partition);
        self.next_generation += 1;
        let assigned = Assigned {
            position,
            leader_epoch: LeaderEpoch::NONE,
            generation: self.next_generation,
            has_chunk: false,
            high_watermark: None,
            absence: Absence::default(),
        };
        self.partitions.insert(partition, assigned);
    }

    /// Reads a partition no more; the others go on.
    pub fn unassign(&mut self, partition: &TopicPartition) {
        self.chunks.retain(|chunk| chunk.partition() != partition);
        self.records.retain(|record| record.partition != *partition);
        self.partitions.remove(partition);
    }

    /// Offset of the next record to be handed over; `None` while it is not known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        // Decoded records have moved the position already.
        let decoded = self
            .records
            .iter()
            .find(|record| record.partition == *partition);
        if let Some(record) = decoded {
            return Some(record.offset);
        }
        match self.partitions.get(partition)?.position {
            StartAt::Offset(offset) => Some(offset),
            StartAt::Found(_) => None,
        }
    }

    /// High watermark of a partition as of the last fetch.
    #[must_use]
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.high_watermark
    }

    /// Why the last attempt to reach a broker or to read a partition failed, until one succeeds:
    /// what a program that waits for long may want to tell.
    #[must_use]
    pub fn last_failure(&self) -> Option<&ClientError> {
        self.trouble.as_ref()
    }

    /// What was received so far.
    #[must_use]
    pub fn statistics(&self) -> ConsumerStatistics {
        self.statistics
    }

    /// The next records, at most [`ConsumerOptions::max_poll_records`]. Returns as soon as there
    /// are any; after `timeout`, none. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// A broker's final refusal, a corrupt batch, an offset outside of the log without a reset.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumerRecord>, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            self.decode()?;
            if !self.records.is_empty() {
                let count = self.records.len().min(self.options.max_poll_records);
                return Ok(self.records.drain(..count).collect());
            }
            match tokio::time::timeout_at(deadline, self.prepare()).await {
                Ok(prepared) => prepared?,
                Err(_) => return Ok(Vec::new()),
            }
            let next = self
                .start_fetches()?
                .map_or(deadline, |next| next.min(deadline));
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.take_event(event)?,
                    None => return Ok(Vec::new()),
                },
                () = tokio::time::sleep_until(next) => {
                    if Instant::now() >= deadline {
                        return Ok(Vec::new());
                    }
                }
            }
        }
    }

    /// Takes another limit for what a poll hands over.
    pub(crate) fn set_max_poll_records(&mut self, records_max: usize) {
        self.options.max_poll_records = records_max.max(1);
    }

    /// Decodes batches until there is a record.
    fn decode(&mut self) -> Result<(), ClientError> {
        while self.records.is_empty() {
            let Some(chunk) = self.chunks.front_mut() else {
                return Ok(());
            };
            let decoded = chunk.next_batch(&self.options, &mut self.records);
            let assigned = self.partitions.get_mut(chunk.partition());
            let is_done = !matches!(decoded, Ok(true));
            if let Some(assigned) = assigned {
                assigned.position = StartAt::Offset(chunk.position());
                assigned.has_chunk = !is_done;
            }
            if is_done {
                self.chunks.pop_front();
            }
            decoded?;
        }
        Ok(())
    }

    /// Finds the topics and the positions that are not known yet.
    async fn prepare(&mut self) -> Result<(), ClientError> {
        let metadata = &self.pool.metadata;
        let timeout = metadata.options.api_timeout;
        let view = metadata.view();
        for partition in self.partitions.keys() {
            if !view.topics.contains_key(&partition.topic) {
                metadata.topic(&partition.topic, false, timeout).await?;
            }
        }
        let wanted =
            self.partitions
                .iter()
                .filter_map(|(partition, assigned)| match assigned.position {
                    StartAt::Found(spec) => Some((partition.clone(), spec)),
                    StartAt::Offset(_) => None,
                });
        let wanted: BTreeMap<_, _> = wanted.collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let level = self.options.isolation_level;
        let found = list_offsets(&self.pool, &wanted, level, timeout).await?;
        for (partition, found) in found {
            if let Some(assigned) = self.partitions.get_mut(&partition) {
                assigned.position = match found.offset {
                    // No record is that young: what comes next is.
                    Offset::NONE => StartAt::Found(OffsetSpec::Latest),
                    offset => StartAt::Offset(offset),
                };
            }
        }
        Ok(())
    }

    /// Starts a fetch from every leader that has none under way; says when to look again.
    ///
    /// # Errors
    /// A partition has been offline for too long.
    fn start_fetches(&mut self) -> Result<Option<Instant>, ClientError> {
        let now = Instant::now();
        let view = self.pool.metadata.view();
        let mut asks: BTreeMap<BrokerId, Vec<Ask>> = BTreeMap::new();
        for (partition, assigned) in &mut self.partitions {
            let StartAt::Offset(offset) = assigned.position else {
                continue;
            };
            if assigned.has_chunk {
                continue;
            }
            let absence_max = self.pool.metadata.options.absence_max;
            assigned
                .absence
                .check(view.offline(partition), absence_max)?;
            let Some(leader) = view.leader(partition) else {
                self.refresh.is_wanted = true;
                continue;
            };
            let known = view.partition(partition);
            assigned.leader_epoch = known.map_or(LeaderEpoch::NONE, |known| known.leader_epoch);
            asks.entry(leader).or_default().push(Ask {
                partition: partition.clone(),
                offset,
                leader_epoch: assigned.leader_epoch,
                generation: assigned.generation,
            });
        }
        let mut next: Option<Instant> = None;
        let mut earlier = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));
        for (leader, mut asks) in asks {
            let link = self.links.entry(leader).or_default();
            if link.is_fetching {
                continue;
            }
            if let Some(at) = link.not_before.filter(|at| *at > now) {
                earlier(at);
                continue;
            }
            link.is_fetching = true;
            // The broker serves partitions in this order until the response is full.
            let count = asks.len() as u64;
            let random = self.pool.metadata.env.rng.next_u64();
            asks.rotate_left(usize::try_from(random % count.max(1)).unwrap_or(0));
            fetch::spawn(
                &self.pool,
                &self.options,
                &self.events_sender,
                leader,
                &view,
                asks,
            );
        }
        self.refresh.is_wanted |= self.pool.metadata.is_old();
        if self.refresh.is_wanted && !self.refresh.is_running {
            match self.refresh.not_before.filter(|at| *at > now) {
                Some(at) => earlier(at),
                None => {
                    self.refresh.is_wanted = false;
                    self.refresh.is_running = true;
                    fetch::spawn_refresh(&self.pool, &self.events_sender, view.version);
                }
            }
        }
        Ok(next)
    }

    fn take_event(&mut self, event: Event) -> Result<(), ClientError> {
        match event {
            Event::Refreshed(result) => {
                let refresh = &mut self.refresh;
                refresh.is_running = false;
                refresh.failures = match result {
                    Ok(()) => 1,
                    Err(error) => {
                        tracing::debug!(%error, "the leaders are not known");
                        refresh.is_wanted = true;
                        self.trouble = Some(error);
                        refresh.failures.saturating_add(1)
                    }
                };
                let failures = refresh.failures;
                let not_before = Some(self.not_before(failures));
                self.refresh.not_before = not_before;
                Ok(())
            }
            Event::Fetched(fetched) => self.take_fetched(*fetched),
        }
    }

    fn take_fetched(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        let Fetched {
            broker,
            view,
            asks,
            result,
        } = fetched;
        let error = match result {
            Ok(response) => {
                let throttle = u64::try_from(response.throttle_time_ms).unwrap_or(0);
                let link = self.links.entry(broker).or_default();
                link.is_fetching = false;
                link.failures = 0;
                self.trouble = None;
                let pause = (throttle > 0).then(|| Duration::from_millis(throttle));
                link.not_before = pause.map(|pause| Instant::now() + pause);
                let (chunks, failures) = fetch::split(&view, &asks, *response);
                let bytes = chunks
                    .iter()
                    .map(|chunk| chunk.size_in_bytes() as u64)
                    .sum();
                self.statistics.count(bytes);
                for chunk in chunks {
                    self.take_chunk(chunk, &asks);
                }
                return self.take_failures(broker, &asks, failures);
            }
            Err(error) => error,
        };
        let failures = self
            .links
            .get(&broker)
            .map_or(1, |link| link.failures.saturating_add(1));
        let not_before = Some(self.not_before(failures));
        let link = self.links.entry(broker).or_default();
        *link = Link {
            is_fetching: false,
            failures,
            not_before,
        };
        self.refresh.is_wanted = true;
        if error.is_retriable() {
            tracing::debug!(%broker, %error, "a fetch failed");
            self.trouble = Some(error);
            return Ok(());
        }
        Err(error)
    }

    fn take_chunk(&mut self, chunk: Chunk, asks: &[Ask]) {
        let ask = asks.iter().find(|ask| ask.partition == *chunk.partition());
        let assigned = self.partitions.get_mut(chunk.partition());
        let (Some(ask), Some(assigned)) = (ask, assigned) else {
            return;
        };
        if assigned.generation != ask.generation {
            return;
        }
        assigned.high_watermark = Some(chunk.high_watermark());
        if !chunk.is_empty() {
            assigned.has_chunk = true;
            self.chunks.push_back(chunk);
        }
    }

    fn take_failures(
        &mut self,
        broker: BrokerId,
        asks: &[Ask],
        failures: Vec<fetch::Failure>,
    ) -> Result<(), ClientError> {
        for failure in failures {
            let ask = asks.iter().find(|ask| ask.partition == failure.partition);
            let assigned = self.partitions.get_mut(&failure.partition);
            let (Some(ask), Some(assigned)) = (ask, assigned) else {
                continue;
            };
            if assigned.generation != ask.generation {
                continue;
            }
            if failure.code == ErrorCode::OffsetOutOfRange {
                let Some(reset) = self.options.auto_offset_reset else {
                    return Err(ClientError::OffsetOutOfRange {
                        partition: failure.partition,
                        offset: ask.offset,
                        log_start_offset: failure.log_start_offset,
                    });
                };
                assigned.position = StartAt::Found(reset);
                continue;
            }
            self.refresh.is_wanted |= is_stale_metadata(failure.code);
            let subject = failure.partition.to_string();
            let error = ClientError::refused(subject, failure.code, None);
            if !failure.code.is_retriable() {
                return Err(error);
            }
            self.trouble = Some(error);
            let not_before = Some(self.not_before(1));
            self.links.entry(broker).or_default().not_before = not_before;
        }
        Ok(())
    }

    fn not_before(&self, failures: u32) -> Instant {
        let metadata = &self.pool.metadata;
        Instant::now() + backoff(&metadata.options, &metadata.env, failures)
    }
}

impl ConsumerStatistics {
    fn count(&mut self, bytes: u64) {
        let fetches = if bytes > 0 {
            &mut self.fetches
        } else {
            &mut self.empty_fetches
        };
        *fetches += 1;
        self.bytes += bytes;
    }
}

/// What fetches know of the cluster.
type View = Arc<ClusterView>;
