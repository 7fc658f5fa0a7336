//! Reads topics as a member of a group: the group's members share the partitions, and go on where
//! the group has committed.
//!
//! Input: topics, a group. Output: records of the partitions that this member is given.
//!
//! ```text
//!   poll ─► has the generation ended? ── yes ─► commit ─► join ─► positions: committed, or the
//!     start ▲              │ no                                              │
//!     │              ▼                                                 ▼
//!     └─ records ◄─ consumer ◄─────────────────────────────────── partitions
//! ```
//!
//! At least once: a poll says that the records of the one before are done with, and only such are
//! committed. Who ends without [`GroupConsumer::close`] gets the last ones again.
//!
//! Invariants:
//! - a position is committed only of a partition that this member was given, in the generation that
//!   gave it (the coordinator checks), and never past a record that was not handed over;
//! - with an assignor that is not cooperative, nothing is read from before a join until its end.
//!
//! Source: KIP-429 (cooperative rebalancing); `ConsumerCoordinator` of Kafka 4.1.1.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skein_types::{ErrorCode, Offset, TopicName, TopicPartition};
use tokio::time::Instant;

use crate::committed::{self, CommittedOffset};
use crate::consumer::{Consumer, ConsumerOptions, ConsumerRecord, StartAt};
use crate::coordinator::Coordinator;
use crate::error::ClientError;
use crate::list_offsets::OffsetSpec;
use crate::pool::Pool;
use crate::retry::backoff;

mod assignor;
mod membership;
mod subscription;

pub use assignor::Assignor;

use membership::{Membership, Verdict};

/// Shortest time after which a poll says that the program is still there.
const TURN_MIN: Duration = Duration::from_millis(1);

/// What consumers speak among one another.
const PROTOCOL_TYPE: &str = "consumer";

/// How a member of a group reads.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// `group.id`.
    pub group_id: String,
    /// What it subscribes to.
    pub topics: BTreeSet<TopicName>,
    /// `group.instance.id`: a static member, which keeps its partitions over a restart.
    pub instance_id: Option<String>,
    /// `partition.assignment.strategy`: what it offers, the preferred one first. With cooperative
    /// ones only, whatever stays with a member is read on while partitions are shared out anew.
    pub assignors: Vec<Assignor>,
    /// `session.timeout.ms`: without a heartbeat for so long it is no member any more.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: a program that does not come back for so long leaves the group.
    pub max_poll_interval: Duration,
    /// `auto.commit.interval.ms`.
    pub commit_interval: Duration,
    /// Where to begin where the group has committed nothing.
    pub start_at: StartAt,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            topics: BTreeSet::new(),
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            commit_interval: Duration::from_secs(5),
            start_at: StartAt::Found(OffsetSpec::Latest),
        }
    }
}

impl GroupOptions {
    fn is_cooperative(&self) -> bool {
        let mut assignors = self.assignors.iter();
        assignors.all(|one| *one == Assignor::CooperativeSticky)
    }
}

/// Reads as a member of a group. For one task at a time.
pub struct GroupConsumer {
    pool: Arc<Pool>,
    coordinator: Arc<Coordinator>,
    options: GroupOptions,
    member: Membership,
    consumer: Consumer,
    /// What it was given.
    owned: BTreeSet<TopicPartition>,
    /// Of these where to begin is not known yet.
    pending: BTreeSet<TopicPartition>,
    /// What the coordinator is known to have.
    committed: BTreeMap<TopicPartition, Offset>,
    committed_at: Instant,
    failures: u32,
    trouble: Option<ClientError>,
}

impl GroupConsumer {
    pub(crate) fn new(pool: Arc<Pool>, group: GroupOptions, options: ConsumerOptions) -> Self {
        let coordinator = Arc::new(Coordinator::new(Arc::clone(&pool), &group.group_id));
        Self {
            member: Membership::new(Arc::clone(&pool), Arc::clone(&coordinator), group.clone()),
            consumer: Consumer::new(Arc::clone(&pool), options),
            pool,
            coordinator,
            options: group,
            owned: BTreeSet::new(),
            pending: BTreeSet::new(),
            committed: BTreeMap::new(),
            committed_at: Instant::now(),
            failures: 0,
            trouble: None,
        }
    }

    /// The partitions that it reads; `None` while it is no member.
    #[must_use]
    pub fn assignment(&self) -> Option<&BTreeSet<TopicPartition>> {
        self.member.is_joined().then_some(&self.owned)
    }

    /// Offset of the next record of a partition to be handed over; `None` while it is not known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.consumer.position(partition)
    }

    /// Why the last attempt failed, until one succeeds.
    #[must_use]
    pub fn last_failure(&self) -> Option<&ClientError> {
        self.trouble.as_ref().or(self.consumer.last_failure())
    }

    /// The next records, at most `records_max`; after `timeout`, none, unless the group shares out
    /// its partitions meanwhile, which takes as long as its slowest member. The records of the last
    /// poll count as done with. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// What does not pass: a final refusal, such as [`ErrorCode::FencedInstanceId`]; those of
    /// [`Consumer::poll`].
    pub async fn poll(
        &mut self,
        records_max: usize,
        timeout: Duration,
    ) -> Result<Vec<ConsumerRecord>, ClientError> {
        match self.step(records_max, timeout).await {
            Ok(records) => {
                self.failures = 0;
                self.trouble = None;
                Ok(records)
            }
            Err(error) if error.is_retriable() || matches!(error, ClientError::TimedOut { .. }) => {
                let metadata = &self.pool.metadata;
                self.failures = self.failures.saturating_add(1);
                let pause = backoff(&metadata.options, &metadata.env, self.failures);
                tracing::debug!(%error, ?pause, "trying again");
                self.trouble = Some(error);
                tokio::time::sleep(pause.min(timeout)).await;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn step(
        &mut self,
        records_max: usize,
        timeout: Duration,
    ) -> Result<Vec<ConsumerRecord>, ClientError> {
        self.member.polled();
        if let Some(code) = self.member.ended() {
            self.take_verdict(code)?;
        }
        if self.member.is_joined() && self.member.is_out_of_date() {
            self.member.rejoin();
        }
        if !self.member.is_joined() {
            self.join().await?;
        }
        self.find_positions().await?;
        if self.committed_at.elapsed() >= self.options.commit_interval {
            self.commit().await?;
        }
        self.consumer.set_max_poll_records(records_max);
        self.poll_generation(timeout).await
    }

    /// The next records; none after `timeout`, or when the generation ends.
    async fn poll_generation(
        &mut self,
        timeout: Duration,
    ) -> Result<Vec<ConsumerRecord>, ClientError> {
        // A program that waits here is no program that does not come back.
        let turn = (self.options.max_poll_interval / 2).max(TURN_MIN);
        let end = Instant::now() + timeout;
        loop {
            self.member.polled();
            let left = end.saturating_duration_since(Instant::now());
            let records = tokio::select! {
                biased;
                records = self.consumer.poll(left.min(turn)) => records?,
                () = self.member.wait_for_end() => return Ok(Vec::new()),
            };
            if !records.is_empty() || left <= turn {
                return Ok(records);
            }
        }
    }

    fn take_verdict(&mut self, code: ErrorCode) -> Result<(), ClientError> {
        match Verdict::of(code) {
            Verdict::Again => {}
            Verdict::Rejoin => self.member.rejoin(),
            Verdict::Anew => {
                self.member.lose(code);
                self.give_up(&self.owned.clone());
            }
            Verdict::Final => {
                let subject = self.coordinator.subject();
                return Err(ClientError::refused(subject, code, None));
            }
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<(), ClientError> {
        // While it may still: others go on behind it. Where it cannot, as for a topic that is gone,
        // the whole group would wait for this member if it did not join all the same.
        if let Err(error) = self.commit().await {
            tracing::warn!(%error, "not committed: the last records are read again");
        }
        if !self.options.is_cooperative() {
            self.give_up(&self.owned.clone());
        }
        let joined = self.member.join(&self.owned).await?;
        if joined.is_lost {
            self.give_up(&self.owned.clone());
        }
        let given_up: BTreeSet<_> = self.owned.difference(&joined.assignment).cloned().collect();
        self.give_up(&given_up);
        let added = joined.assignment.difference(&self.owned).cloned();
        self.pending.extend(added);
        self.owned = joined.assignment;
        if !given_up.is_empty() {
            // Whoever is to read them waits for word that they are free.
            self.member.rejoin();
        }
        Ok(())
    }

    fn give_up(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            self.consumer.unassign(partition);
            self.owned.remove(partition);
            self.pending.remove(partition);
            self.committed.remove(partition);
        }
    }

    /// Begins to read what was added, where the group has left off.
    async fn find_positions(&mut self) -> Result<(), ClientError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending: Vec<_> = self.pending.iter().cloned().collect();
        let group_id = &self.options.group_id;
        let found = committed::fetch(&self.coordinator, group_id, Some(&pending)).await?;
        for partition in pending {
            let start_at = match found.get(&partition) {
                Some(committed) => {
                    self.committed.insert(partition.clone(), committed.offset);
                    StartAt::Offset(committed.offset)
                }
                None => self.options.start_at,
            };
            self.consumer.seek(partition, start_at);
        }
        self.pending.clear();
        Ok(())
    }

    /// Commits what was handed over.
    ///
    /// # Errors
    /// A final refusal; that it took too long. That the group shares out anew is none: then others
    /// may read the last records again.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let positions = self.owned.iter().filter_map(|partition| {
            let position = self.consumer.position(partition)?;
            let is_new = self.committed.get(partition) != Some(&position);
            is_new.then(|| (partition.clone(), CommittedOffset::at(position)))
        });
        let positions: BTreeMap<_, _> = positions.collect();
        self.committed_at = Instant::now();
        if positions.is_empty() {
            return Ok(());
        }
        let committer = self.member.committer();
        match committed::commit(&self.coordinator, &committer, &positions).await {
            Ok(()) => {
                let positions = positions.into_iter();
                self.committed
                    .extend(positions.map(|(partition, one)| (partition, one.offset)));
                Ok(())
            }
            Err(error) => match error.code().map(Verdict::of) {
                Some(Verdict::Rejoin | Verdict::Anew) => {
                    tracing::debug!(%error, "the group shares out anew");
                    self.take_verdict(error.code().unwrap_or_default())
                }
                _ => Err(error),
            },
        }
    }

    /// Commits what was handed over and leaves the group.
    ///
    /// # Errors
    /// That it could not be committed.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let committed = self.commit().await;
        self.leave().await;
        committed
    }

    /// Leaves the group and commits nothing: the records of the last poll are read again.
    pub async fn leave(mut self) {
        self.member.leave().await;
    }
}

#[cfg(test)]
mod tests;
