//! The runtime of one replica: carries out what its state machine decides.
//!
//! Input: produced batches, completions of the disk, changes of metadata. Output: appends to the
//! log, the view that readers load, answers to waiting produces.
//!
//! ```text
//!   append ─► Handoff ─► Core: step(ProduceReceived) ─► Write ─► group ─► pwritev ─► step(Written)
//!                                                                 │                     │
//!             readers ◄── ArcSwap view ◄── PublishView ◄──────────┼─────────────────────┤
//!             handler ◄── Reply ◄───────── AckProduce ◄───────────┴─────────────────────┘
//!                                          (both after the state is let go)
//! ```
//!
//! A write runs inline, on the network task that brought the batch, or on the offload pool when the
//! directory is slow; the simulated disk's cost takes the second way too. Meanwhile the log has
//! left the core: a replica without its log is *writing*, and what needs the log waits
//! ([`core::Core::held`]).
//!
//! Invariants:
//! - one writer at a time, and nobody waits for it (`handoff.rs`, loom);
//! - effects are carried out in the order in which the state machine gave them; a view is published
//!   before the acknowledgement that it makes true;
//! - record bytes go from the receive buffer to `pwritev`: a batch is patched in place and its
//!   slice is what is written;
//! - a batch's bytes in flight are given back when it is written, not when it is acknowledged.
//!
//! Source: the two-phase append of `skein_partition`.

mod core;
mod reply;
pub(crate) mod settings;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use skein_config::RedactedOffsets;
use skein_net::BytesPermit;
use skein_partition::{Acks, Event, FetchedBatches, FetchedPartition, PublishedRole, Refusal};
use skein_record::{BatchBuf, Compression, ProducePolicy, ProducerState, ProducerStates};
use skein_storage::{CompactionSettings, Log, LogConfig};
use skein_types::{Millis, Offset, ProducerId, TopicId, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::core::{Core, Input, Produce, Step};
pub(crate) use self::core::{Errand, LogTask, Opened};
pub(crate) use self::reply::{AckResult, Reply, reply};
use self::settings::FollowedConfig;
pub(crate) use self::view::ReplicaView;
use crate::cold_reads::ColdReads;
use crate::fetch_wait::FetchWaiter;
use crate::fetch_waits::FetchWaits;
use crate::handoff::{Handoff, Submitted};
use crate::metrics::TopicCounts;
use crate::node::ReplicaBasis;
use crate::replication::FetchedGroup;

/// One replica of one partition, open.
pub(crate) struct Replica {
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: TopicId,
    handoff: Handoff<Core, Input>,
    view: ArcSwap<ReplicaView>,
    /// What the topic's configuration says of the batches it takes.
    policy: ArcSwap<ProducePolicy>,
    is_compacted: AtomicBool,
    compaction: ArcSwap<CompactionSettings>,
    /// The codec that the topic forces.
    compression: ArcSwapOption<Compression>,
    /// What readers must not see. Beside the view, because it counts from the moment on in which it
    /// is set: a view is published by the writer, which may be waiting for a disk that hangs.
    redacted: ArcSwapOption<RedactedOffsets>,
    /// Up to when its followers confirm that it leads, in ms since the node began.
    followers_confirm_until: AtomicI64,
    pub(crate) waits: FetchWaits<Arc<FetchWaiter>>,
    pub(crate) cold_reads: Arc<ColdReads>,
    /// What goes into the topic and out of it.
    pub(crate) counts: Arc<TopicCounts>,
    basis: Arc<ReplicaBasis>,
}

impl Replica {
    /// Starts the runtime of a replica whose log is open.
    pub(crate) fn new(opened: Opened, basis: Arc<ReplicaBasis>) -> Arc<Self> {
        Arc::new_cyclic(|replica| {
            let view = opened.view();
            let redacted = opened
                .config
                .topic
                .redacted_records
                .of(opened.name.partition);
            Self {
                name: opened.name.clone(),
                topic_id: opened.topic_id,
                view: ArcSwap::from_pointee(view),
                policy: ArcSwap::from_pointee(settings::produce_policy(&opened.config.topic)),
                is_compacted: AtomicBool::new(opened.config.topic.cleanup_policy.compact),
                compaction: ArcSwap::from_pointee(settings::compaction(&opened.config.topic)),
                compression: ArcSwapOption::from(
                    settings::forced_compression(&opened.config.topic).map(Arc::new),
                ),
                redacted: ArcSwapOption::from(redacted),
                followers_confirm_until: AtomicI64::new(i64::MIN),
                waits: FetchWaits::new(),
                cold_reads: Arc::default(),
                counts: Arc::clone(&opened.counts),
                handoff: Handoff::new(Core::new(opened, replica.clone(), Arc::clone(&basis))),
                basis,
            }
        })
    }

    /// What readers see now.
    pub(crate) fn view(&self) -> Arc<ReplicaView> {
        self.view.load_full()
    }

    /// Whether it may be told to anybody what only the one leader knows: the controller or all
    /// followers that could lead in its place have confirmed lately that it is this one. Whether
    /// it leads at all says the view.
    pub(crate) fn is_confirmed(&self) -> bool {
        let by_followers = self.followers_confirm_until.load(Ordering::Acquire);
        let until = self.basis.confirmation.until().max(Millis(by_followers));
        until == Millis(i64::MAX) || self.basis.monotonic(Instant::now()) < until
    }

    fn set_followers_confirm_until(&self, until: Millis) {
        self.followers_confirm_until
            .store(until.get(), Ordering::Release);
    }

    /// What batches must be like.
    pub(crate) fn policy(&self) -> Arc<ProducePolicy> {
        self.policy.load_full()
    }

    /// Whether every record must have a key.
    pub(crate) fn is_compacted(&self) -> bool {
        self.is_compacted.load(Ordering::Relaxed)
    }

    /// When its log is compacted.
    pub(crate) fn compaction_settings(&self) -> Arc<CompactionSettings> {
        self.compaction.load_full()
    }

    /// The codec that batches are packed in; `None` keeps their producer's.
    pub(crate) fn forced_compression(&self) -> Option<Compression> {
        self.compression.load().as_deref().copied()
    }

    /// The offsets that no reader sees; `None` if there are none.
    pub(crate) fn redacted(&self) -> Option<Arc<RedactedOffsets>> {
        self.redacted.load_full()
    }

    /// Takes its configuration, from the next batch and the next read on.
    pub(crate) fn configure(self: &Arc<Self>, config: &FollowedConfig) {
        let settings = settings::replica_settings(config);
        let config = &config.topic;
        self.policy
            .store(Arc::new(settings::produce_policy(config)));
        self.is_compacted
            .store(config.cleanup_policy.compact, Ordering::Relaxed);
        self.compaction
            .store(Arc::new(settings::compaction(config)));
        let compression = settings::forced_compression(config).map(Arc::new);
        self.compression.store(compression);
        self.redacted
            .store(config.redacted_records.of(self.name.partition));
        let log_config = LogConfig::from(config);
        self.with_log(Box::new(move |log, _| {
            log.set_config(log_config);
            Some(Event::SettingsChanged(settings))
        }));
    }

    /// Moves the start of the log up to `before_offset`, or to the high watermark.
    pub(crate) async fn delete_records(
        self: &Arc<Self>,
        before_offset: Option<Offset>,
    ) -> Result<Offset, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.submit(Input::DeleteRecords {
            before_offset,
            reply,
        });
        answer.await.unwrap_or(Err(Refusal::NotLeader))
    }

    /// Appends a batch whose header and checksum are good. When this returns, the batch is in the
    /// log, or queued in front of everything that is submitted later; `Reply` tells.
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: BatchBuf,
        acks: Acks,
        timeout: Millis,
        permit: BytesPermit,
    ) -> Reply {
        let (produce, mut answer) = self.produce(batch, acks, timeout, permit);
        if let Some(produce) = produce {
            answer.has_woken_others = self.submit(produce);
        }
        answer
    }

    /// Like [`Replica::append`], and leaves the batch in the queue, so that others may be written
    /// along with it. The caller must call [`Replica::write_queued`] soon.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        batch: BatchBuf,
        acks: Acks,
        timeout: Millis,
        permit: BytesPermit,
    ) -> Reply {
        let (produce, answer) = self.produce(batch, acks, timeout, permit);
        if let Some(produce) = produce {
            self.handoff.push(produce);
        }
        answer
    }

    /// Appends what was left in the queue. Says whether this has woken other tasks.
    pub(crate) fn write_queued(self: &Arc<Self>) -> bool {
        if self.handoff.is_empty() {
            // Somebody else has seen to it.
            return false;
        }
        let mut step = Step::new(self);
        let submitted = self.handoff.drain(&mut step);
        self.go_on(submitted);
        step.has_woken()
    }

    fn produce(
        &self,
        batch: BatchBuf,
        acks: Acks,
        timeout: Millis,
        permit: BytesPermit,
    ) -> (Option<Input>, Reply) {
        let (sender, answer) = reply();
        if self.handoff.is_full() {
            sender.answer(Err(Refusal::TooManyWaitingProduces));
            return (None, answer);
        }
        let produce = Produce {
            batch,
            acks,
            timeout,
            permit,
            reply: sender,
        };
        (Some(Input::Produce(produce)), answer)
    }

    /// Steps the state machine.
    pub(crate) fn step(self: &Arc<Self>, event: Event) {
        self.submit(Input::Event(event));
    }

    /// Takes what was fetched for it, as soon as no write is in flight.
    pub(crate) fn take_fetched(self: &Arc<Self>, fetched: FetchedBatches, group: FetchedGroup) {
        self.submit(Input::Fetched(fetched, group));
    }

    /// Its partition, as the nodes of a cluster name it to each other.
    pub(crate) fn partition_id(&self) -> FetchedPartition {
        (self.topic_id, self.name.partition)
    }

    /// Ends this node's leadership: another leads, the topic is deleted, or the node stops.
    pub(crate) fn resign(self: &Arc<Self>) {
        if let PublishedRole::Leader { leader_epoch, .. } = self.view().offsets.role {
            self.step(Event::Resigned { leader_epoch });
        }
    }

    /// Takes the log out for good, with the producers at its end; `None` if it was taken before.
    /// From then on the replica refuses everything.
    pub(crate) async fn take_log(self: &Arc<Self>) -> Option<(Log, ProducerStates)> {
        let (reply, taken) = oneshot::channel();
        self.submit(Input::TakeLog { reply });
        taken.await.ok()
    }

    /// Sees to what is due by age: flushes by `flush.ms`, timeouts, producers to be forgotten.
    pub(crate) fn age(self: &Arc<Self>) {
        self.submit(Input::Aged);
    }

    /// Has the log give back the room ahead of its end if it is quiet.
    pub(crate) fn look_at_room(self: &Arc<Self>) {
        self.submit(Input::RoomLookedAt);
    }

    /// Runs `errand` with the log on the offload pool, as soon as no write is in flight.
    pub(crate) fn send_on_errand(self: &Arc<Self>, errand: Errand) {
        self.submit(Input::Errand(errand));
    }

    /// Runs `task` with the log, as soon as no write is in flight, on the calling task or on
    /// another one: it must not block.
    pub(crate) fn with_log(self: &Arc<Self>, task: LogTask) {
        self.submit(Input::Task(task));
    }

    /// Asks the log, as soon as no write is in flight; `None` if the replica has gone.
    pub(crate) async fn ask_log<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut Log) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.with_log(Box::new(move |log, _| {
            // Who asked may have gone.
            let _ = sender.send(ask(log));
            None
        }));
        answer.await.ok()
    }

    /// What `tell` makes of each producer that the log knows, as soon as no write is in flight;
    /// `None` if the replica has gone or does not lead.
    pub(crate) async fn producers<T: Send + 'static>(
        self: &Arc<Self>,
        tell: impl Fn(ProducerId, &ProducerState) -> T + Send + 'static,
    ) -> Option<Vec<T>> {
        let (sender, answer) = oneshot::channel();
        self.with_log(Box::new(move |_, machine| {
            let is_leader = matches!(machine.published().role, PublishedRole::Leader { .. });
            let producers = machine.producers().filter(|_| is_leader);
            let told = producers.map(|known| known.iter().map(|(id, one)| tell(id, one)).collect());
            // Who asked may have gone.
            let _ = sender.send(told);
            None
        }));
        answer.await.ok().flatten()
    }

    /// Says whether this has woken other tasks.
    pub(crate) fn submit(self: &Arc<Self>, input: Input) -> bool {
        let mut step = Step::new(self);
        let submitted = self.handoff.submit(input, &mut step);
        self.go_on(submitted);
        step.has_woken()
    }

    fn go_on(self: &Arc<Self>, submitted: Submitted) {
        if submitted == Submitted::Done {
            return;
        }
        // The budget of this task is spent: exactly one other goes on.
        let replica = Arc::clone(self);
        let successor = async move {
            let mut step = Step::new(&replica);
            let submitted = replica.handoff.drain(&mut step);
            replica.go_on(submitted);
        };
        let lane = skein_env::Lane::Data;
        self.basis
            .env
            .spawn
            .spawn(lane, "replica-handover", Box::pin(successor));
    }

    fn publish(&self, view: ReplicaView) {
        self.view.store(Arc::new(view));
    }
}

#[cfg(test)]
mod tests;
