//! The place of one partition on this node: from its registration to its open log, and to its end.
//!
//! Input: what the image says of the partition, the first request for it, the stop or the deletion.
//! Output: a replica that leads.
//!
//! ```text
//!   Untouched ──► open ──► Open ──────► close, remove ──► Closed
//!       │          │ ▲                        ▲
//!       │   failed ▼ │ later, if that can     │
//!       │        Failed ──────────────────────┤
//!       └─────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - a log is opened once: whoever wants it meanwhile waits, and an opening runs to its end also
//!   when those who wait have gone;
//! - an opened replica has heard of the last registration, whenever that came; nobody sees it
//!   before it has its role, or he would be sent away from the partition's leader; nor before it
//!   has the last configuration, or a redacted record might be read;
//! - a closed place is never opened again.
//!
//! Source: none.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use skein_env::Lane;
use skein_metadata::{Partition, Topic};
use skein_partition::{Event, OfflineReason, PublishedRole, Registration};
use skein_record::ProducerStates;
use skein_storage::Log;
use skein_types::{BrokerId, ErrorCode, PartitionIndex, TopicId, TopicPartition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::open::{self, OpenError};
use crate::metrics::TopicCounts;
use crate::node::Shared;
use crate::replica::Replica;

/// A log that could not be opened for a reason that passes is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A partition's place, with its replica once that is open.
pub(crate) struct Place {
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(super) counts: Arc<TopicCounts>,
    replica: OnceLock<Arc<Replica>>,
    /// Held while the log is opened or closed.
    state: tokio::sync::Mutex<State>,
    /// What the image says.
    registration: Mutex<Arc<Partition>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Untouched,
    Open,
    /// `None`: until the node is started again.
    Failed {
        retry_at: Option<Instant>,
    },
    Closed,
}

/// What a place was when it was closed.
pub(crate) enum Closing {
    /// Its log was never opened.
    Untouched,
    /// Here is its log, with the producers at its end.
    Log(Box<(Log, ProducerStates)>),
    /// Its log could not be opened, or was given away before.
    Failed,
    /// It had been closed.
    Closed,
}

impl Place {
    pub(super) fn new(
        topic: &Topic,
        index: PartitionIndex,
        registration: Arc<Partition>,
        counts: Arc<TopicCounts>,
    ) -> Self {
        Self {
            name: TopicPartition {
                topic: topic.name.clone(),
                partition: index,
            },
            topic_id: topic.id,
            counts,
            replica: OnceLock::new(),
            state: tokio::sync::Mutex::new(State::Untouched),
            registration: Mutex::new(registration),
        }
    }

    /// The replica, if its log is open.
    pub(crate) fn open_replica(&self) -> Option<&Arc<Replica>> {
        self.replica.get()
    }

    /// Takes what a newer image says.
    pub(super) fn follow(self: &Arc<Self>, shared: &Shared, partition: &Arc<Partition>) {
        let mut registration = self.registration.lock();
        if Arc::ptr_eq(&registration, partition) {
            return;
        }
        *registration = Arc::clone(partition);
        drop(registration);
        match self.replica.get() {
            Some(replica) => assign(shared, replica, partition),
            None => self.begin_to_follow(shared),
        }
    }

    /// Opens the log in the background if another node leads and this one holds a replica: who
    /// leads waits for it.
    pub(super) fn begin_to_follow(self: &Arc<Self>, shared: &Shared) {
        let registration = Arc::clone(&self.registration.lock());
        let (leader, own) = (registration.leader, shared.identity.broker_id);
        let follows = leader != BrokerId::NONE && leader != own;
        if !follows || !registration.replicas.contains(&own) || registration.is_offline(own) {
            return;
        }
        let Ok(task_shared) = shared.replicas.shared() else {
            return;
        };
        let place = Arc::clone(self);
        let task = async move {
            // A failure was logged, and shows in the metrics.
            let _ = place.open_once(&task_shared).await;
        };
        let _task = shared
            .env
            .spawn
            .spawn(Lane::Data, "open-log", Box::pin(task));
    }

    /// Opens the log, unless this node does not lead the partition.
    pub(super) async fn open(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Replica>, ErrorCode> {
        let registration = Arc::clone(&self.registration.lock());
        let (leader, own) = (registration.leader, shared.identity.broker_id);
        if leader != own {
            return Err(match leader {
                _ if registration.is_offline(own) => ErrorCode::KafkaStorageError,
                BrokerId::NONE => ErrorCode::LeaderNotAvailable,
                _ => ErrorCode::NotLeaderOrFollower,
            });
        }
        // In a task of its own: the caller's connection may end, and two openings of one log at a
        // time would destroy it.
        let (sender, opened) = oneshot::channel();
        let (place, task_shared) = (Arc::clone(self), Arc::clone(shared));
        let task = async move {
            // The caller may have gone.
            let _ = sender.send(place.open_once(&task_shared).await);
        };
        shared
            .env
            .spawn
            .spawn(Lane::Data, "open-log", Box::pin(task));
        opened.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
    }

    /// Opens the log, whoever leads the partition.
    pub(super) async fn open_for_anyone(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Replica>, ErrorCode> {
        self.open_once(shared).await
    }

    async fn open_once(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<Arc<Replica>, ErrorCode> {
        let mut state = self.state.lock().await;
        match *state {
            State::Untouched => {}
            State::Failed { retry_at } if retry_at.is_some_and(|at| at <= Instant::now()) => {}
            State::Failed { .. } => return Err(ErrorCode::KafkaStorageError),
            State::Open | State::Closed => {
                let replica = self.replica.get().cloned();
                return replica.ok_or(ErrorCode::NotLeaderOrFollower);
            }
        }
        let metrics = &shared.metrics;
        match open::open(shared, self).await {
            Ok((replica, config)) => {
                if matches!(*state, State::Failed { .. }) {
                    metrics.replicas_offline.dec();
                }
                metrics.replicas_open.inc();
                *state = State::Open;
                let own = shared.identity.broker_id;
                let known = Arc::clone(&self.registration.lock());
                assign(shared, &replica, &known);
                let replica = shared.replicas.with_config(shared, self, |followed| {
                    if followed != config {
                        replica.configure(&followed);
                    }
                    let role = replica.view().offsets.role;
                    debug_assert!(role != PublishedRole::Unassigned || known.leader != own);
                    Arc::clone(self.replica.get_or_init(|| replica))
                });
                // Who follows an image from here on sees the replica; what came before it does not.
                let registration = Arc::clone(&self.registration.lock());
                if !Arc::ptr_eq(&known, &registration) {
                    assign(shared, &replica, &registration);
                }
                Ok(replica)
            }
            // Who asked has an old image.
            Err(OpenError::Deleted) => Err(ErrorCode::NotLeaderOrFollower),
            Err(error) => {
                #[cfg(feature = "mutations")]
                skein_types::transitions::made(|| {
                    format!("log refused -> passes {}", error.passes())
                });
                let (partition, remedy) = (&self.name, error.remedy());
                tracing::error!(%partition, %error, remedy, "cannot open a log");
                if error.passes() {
                    if matches!(*state, State::Untouched) {
                        metrics.replicas_offline.inc();
                    }
                    let retry_at = Some(Instant::now() + RETRY_AFTER);
                    *state = State::Failed { retry_at };
                } else {
                    self.refuse(&mut state, shared);
                }
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    /// Its directory has failed: the replica goes offline, or is not opened any more.
    pub(crate) async fn fail(&self, shared: &Shared) {
        let mut state = self.state.lock().await;
        match *state {
            State::Open => self.fail_open_replica(),
            State::Untouched | State::Failed { retry_at: Some(_) } => {
                self.refuse(&mut state, shared)
            }
            State::Failed { retry_at: None } | State::Closed => {}
        }
    }

    /// As [`Place::fail`], where the log is open: waits for nobody.
    pub(crate) fn fail_open_replica(&self) {
        if let Some(replica) = self.replica.get() {
            let reason = OfflineReason::DirectoryFailed;
            replica.step(Event::StorageFailed { reason });
        }
    }

    /// The log is not opened before the node is started again.
    fn refuse(&self, state: &mut State, shared: &Shared) {
        if matches!(state, State::Untouched) {
            shared.metrics.replicas_offline.inc();
        }
        let offline = &shared.offline_replicas;
        offline.report(self.topic_id, self.name.partition);
        *state = State::Failed { retry_at: None };
    }

    /// Ends the place: its replica refuses everything from here on, its log goes to the caller.
    pub(crate) async fn close(&self, shared: &Shared) -> Closing {
        let mut state = self.state.lock().await;
        self.close_in(&mut state, shared).await
    }

    /// Ends the place, and does `last` before anybody else who wants to end it goes on.
    pub(super) async fn close_and(&self, shared: &Shared, last: impl Future<Output = ()>) {
        let mut state = self.state.lock().await;
        if let Closing::Closed = self.close_in(&mut state, shared).await {
            return;
        }
        last.await;
    }

    async fn close_in(&self, state: &mut State, shared: &Shared) -> Closing {
        let metrics = &shared.metrics;
        match std::mem::replace(state, State::Closed) {
            State::Untouched => Closing::Untouched,
            State::Closed => Closing::Closed,
            State::Failed { .. } => {
                metrics.replicas_offline.dec();
                Closing::Failed
            }
            State::Open => {
                metrics.replicas_open.dec();
                let Some(replica) = self.replica.get() else {
                    return Closing::Failed;
                };
                if replica.view().offsets.role == PublishedRole::Offline {
                    metrics.replicas_offline.dec();
                }
                match replica.take_log().await {
                    Some(log) => Closing::Log(Box::new(log)),
                    None => Closing::Failed,
                }
            }
        }
    }
}

/// Tells a replica what the image says of its partition. What it knows already it ignores.
fn assign(shared: &Shared, replica: &Arc<Replica>, partition: &Partition) {
    let own = shared.identity.broker_id;
    let fetchers = &shared.basis.replication.fetchers;
    let (leader, leader_epoch) = (partition.leader, partition.leader_epoch);
    if leader != own {
        let id = replica.partition_id();
        let leader =
            (leader != BrokerId::NONE && partition.replicas.contains(&own)).then_some(leader);
        fetchers.stop_others(leader, id);
        let Some(leader) = leader else {
            replica.step(Event::Resigned { leader_epoch });
            return;
        };
        replica.step(Event::BecameFollower {
            leader,
            leader_epoch,
        });
        fetchers.set_in_sync(leader, id, partition.isr.contains(&own));
        return;
    }
    fetchers.stop_others(None, replica.partition_id());
    let registration = Registration {
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        elr: partition.elr.clone(),
    };
    replica.step(Event::BecameLeader(registration.clone()));
    replica.step(Event::PartitionChanged(registration));
}
