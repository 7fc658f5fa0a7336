//! The runtime of one shard: carries out what its state machine decides.
//!
//! Input: questions of handlers, acknowledged appends, the time. Output: batches for the replica,
//! answers for the handlers.
//!
//! A question is answered on the task that asks: the shard is stepped under a short lock, its
//! records are appended under it too, so that they are in the log in the order of the steps, and
//! where the append is acknowledged at once, the answer is there at once. One task for each
//! coordinator waits for all other appends, and for deadlines.
//!
//! Invariants:
//! - the shard hears of appends in the order in which it ordered them;
//! - when an append fails, or the replica does not lead any more in the epoch in which it was
//!   loaded, the shard ends, and everybody who waits is answered; another one begins with a replay,
//!   also if nobody asks for it, as long as the replica leads: sessions and offsets have to end;
//! - a ticket is answered once; who has gone is not missed.
//!
//! Source: `CoordinatorRuntime` of Kafka 4.1.1, whose appends wait under a lock likewise.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skein_coordinator::{Effect, Request, Resignation, Response, Shard, batch_of};
use skein_env::Lane;
use skein_net::BytesPermit;
use skein_partition::{Acks, Refusal};
use skein_protocol::GroupRecord;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, LeaderEpoch, Millis, Now, Offset, PartitionIndex, Ticket, TopicName};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::load;
use crate::node::{ReplicaBasis, Shared};
use crate::replica::{AckResult, Replica, Reply};

/// How long a question waits for the load; then it is told to come again.
const LOAD_WAIT_MAX: Duration = Duration::from_millis(500);

/// After a load that failed who asks begins the next one after this.
const LOAD_RETRY: Duration = Duration::from_secs(5);

/// The same if nobody asks: each load reads the log from its start, and tells of its failure.
const LOAD_RETRY_UNASKED: Duration = Duration::from_secs(30);

/// After an append that failed the next coordinator begins after this, if nobody has asked before.
const APPEND_RETRY: Duration = Duration::from_secs(1);

/// How long the shard's own appends may wait to be committed: those who ask wait less.
const APPEND_TIMEOUT: Millis = Millis(i32::MAX as i64);

/// What an operator can do about records that cannot be read.
const UNREADABLE_REMEDY: &str = "mend the file that skein log verify names, or restore it from a \
    backup with the node stopped: the load is tried again by itself; until then the clients of \
    these groups wait (SkeinGroupsNotLoaded in OPERATIONS.md)";

/// See the head of this file.
pub(super) struct Coordinator {
    replica: Arc<Replica>,
    /// In which the replica led when the load began.
    leader_epoch: LeaderEpoch,
    basis: Arc<ReplicaBasis>,
    state: Mutex<State>,
    /// There is something to wait for, earlier than what is waited for.
    wake: Notify,
    is_loaded: watch::Sender<bool>,
}

struct State {
    /// `None` when it is over.
    shard: Option<Shard>,
    /// When it ended because it could not be loaded.
    failed_at: Option<Instant>,
    /// Appends that are not acknowledged yet.
    appends: VecDeque<Append>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Response>>,
    next_ticket: u64,
    /// The deadline that the coordinator's task waits for, and whether it waits for an append.
    awaited: Option<Millis>,
    awaits_append: bool,
    /// Kept from step to step.
    effects: Vec<Effect>,
}

/// An append that the shard has ordered.
enum Append {
    /// It is on its way.
    Sent { reply: Reply, records: i64 },
    /// It never will be: it is larger than `max.message.bytes`, or than a segment.
    TooLarge,
}

impl Coordinator {
    /// Begins to load the replica's groups, and to serve them.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        replica: Arc<Replica>,
        stop: watch::Receiver<bool>,
    ) -> Result<Arc<Self>, ErrorCode> {
        let leads = replica.view().offsets.leader(LeaderEpoch::NONE);
        let (leader_epoch, _) = leads.map_err(|_| ErrorCode::NotCoordinator)?;
        let (group, offsets) = (&shared.config.group, &shared.config.offsets);
        // It answers until the load has ended.
        let stand_in = Shard::new(Arc::clone(group), Arc::clone(offsets));
        let coordinator = Arc::new(Self {
            replica,
            leader_epoch,
            basis: Arc::clone(&shared.basis),
            state: Mutex::new(State {
                shard: Some(stand_in),
                failed_at: None,
                appends: VecDeque::new(),
                waiting: BTreeMap::new(),
                next_ticket: 0,
                awaited: None,
                awaits_append: false,
                effects: Vec::new(),
            }),
            wake: Notify::new(),
            is_loaded: watch::Sender::new(false),
        });
        let task = run(Arc::clone(&coordinator), Arc::downgrade(shared), stop);
        let spawn = &shared.env.spawn;
        spawn.spawn(Lane::Data, "groups", Box::pin(task));
        Ok(coordinator)
    }

    /// The partition whose groups it has.
    pub(super) fn partition(&self) -> PartitionIndex {
        self.replica.name.partition
    }

    /// Whether another coordinator may begin here.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.shard.is_none()
            && state
                .failed_at
                .is_none_or(|failed_at| failed_at.elapsed() >= LOAD_RETRY)
    }

    /// Asks the shard, and waits for its answer.
    ///
    /// Nothing is said by a coordinator that is not confirmed to be the only one: neither when it
    /// is asked, nor when it has an answer.
    pub(super) async fn ask(&self, request: Request) -> Response {
        if !self.replica.is_confirmed() {
            return request.refused(ErrorCode::NotCoordinator);
        }
        let response = self.answer(request).await;
        match self.replica.is_confirmed() {
            true => response,
            false => response.failed(ErrorCode::NotCoordinator),
        }
    }

    async fn answer(&self, request: Request) -> Response {
        if !*self.is_loaded.borrow() {
            let mut is_loaded = self.is_loaded.subscribe();
            // In vain: then the shard says that it is still loading.
            let _ = tokio::time::timeout(LOAD_WAIT_MAX, is_loaded.wait_for(|loaded| *loaded)).await;
        }
        let answer = {
            let state = &mut *self.state.lock();
            self.end_if_it_leads_no_more(state);
            let Some(shard) = &mut state.shard else {
                return request.refused(ErrorCode::NotCoordinator);
            };
            let ticket = Ticket(state.next_ticket);
            state.next_ticket += 1;
            let mut effects = std::mem::take(&mut state.effects);
            shard.set_append_max_bytes(self.append_max_bytes());
            shard.handle(ticket, request, self.now(), &mut effects);
            match self.carry_out(state, effects, Some(ticket)) {
                Some(response) => return response,
                None => {
                    let (sender, answer) = oneshot::channel();
                    state.waiting.insert(ticket, sender);
                    answer
                }
            }
        };
        match answer.await {
            Ok(response) => response,
            // A shard that ends answers everybody: the node has ended, and so has the connection.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until it has loaded, or failed to.
    pub(super) async fn loading(&self) {
        // The sender lives as long as this.
        let _ = self.is_loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Forgets the offsets of a topic that is no more.
    pub(super) fn on_topic_deleted(&self, topic: &TopicName) {
        self.step(|shard, now, effects| shard.on_topic_deleted(topic, now, effects));
    }

    /// Steps the shard, if it is not over.
    fn step(&self, step: impl FnOnce(&mut Shard, Now, &mut Vec<Effect>)) {
        let state = &mut *self.state.lock();
        self.end_if_it_leads_no_more(state);
        let Some(shard) = &mut state.shard else {
            return;
        };
        let mut effects = std::mem::take(&mut state.effects);
        let now = self.now();
        let high_watermark = self.replica.view().offsets.high_watermark;
        shard.on_high_watermark(high_watermark, now, &mut effects);
        shard.set_append_max_bytes(self.append_max_bytes());
        step(shard, now, &mut effects);
        self.carry_out(state, effects, None);
    }

    /// Does what is ordered, and what that brings about; the answer to `own`, if there is one.
    fn carry_out(
        &self,
        state: &mut State,
        mut effects: Vec<Effect>,
        own: Option<Ticket>,
    ) -> Option<Response> {
        let mut answer = None;
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append(records) => self.append(state, &records),
                    Effect::Answer { ticket, response } if Some(ticket) == own => {
                        answer = Some(response);
                    }
                    Effect::Answer { ticket, response } => {
                        if let Some(waiting) = state.waiting.remove(&ticket) {
                            // Who asked may have gone.
                            let _ = waiting.send(response);
                        }
                    }
                }
            }
            self.tell_acknowledged(state, &mut effects);
            if effects.is_empty() {
                break;
            }
        }
        state.effects = effects;
        let deadline = state.shard.as_ref().and_then(Shard::next_deadline);
        let is_earlier = deadline.is_some() && state.awaited.is_none_or(|at| deadline < Some(at));
        // Not for an append that it waits for already: it would never sleep until that is through.
        let has_new_append = !state.awaits_append && !state.appends.is_empty();
        if is_earlier || has_new_append || state.shard.is_none() {
            self.wake.notify_one();
        }
        answer
    }

    fn append(&self, state: &mut State, records: &[GroupRecord]) {
        let max_bytes = self.append_max_bytes();
        let batch = batch_of(records, self.now().time_of_day);
        let append = match batch.filter(|batch| batch.as_slice().len() <= max_bytes) {
            Some(batch) => {
                let permit = BytesPermit::none();
                Append::Sent {
                    reply: self
                        .replica
                        .append(batch, Acks::All, APPEND_TIMEOUT, permit),
                    records: i64::try_from(records.len()).unwrap_or(i64::MAX),
                }
            }
            None => Append::TooLarge,
        };
        state.appends.push_back(append);
    }

    fn append_max_bytes(&self) -> usize {
        let policy = self.replica.policy();
        policy.max_message_bytes.min(policy.segment_bytes)
    }

    /// Tells the shard of the appends that are acknowledged, oldest first.
    fn tell_acknowledged(&self, state: &mut State, effects: &mut Vec<Effect>) {
        while let Some(append) = state.appends.front() {
            let Append::Sent { reply, records } = append else {
                let partition = &self.replica.name;
                tracing::warn!(%partition, "a coordinator's records are too large for its topic");
                return end(state, Resignation::TooLarge, effects);
            };
            let Some(result) = reply.try_result() else {
                return;
            };
            let count = *records;
            state.appends.pop_front();
            self.tell(state, result, count, effects);
        }
    }

    fn tell(&self, state: &mut State, result: AckResult, count: i64, effects: &mut Vec<Effect>) {
        let Some(shard) = &mut state.shard else {
            return;
        };
        match result {
            Ok(ok) => {
                // It is acknowledged when it is committed.
                let end = Offset(ok.base_offset.get().saturating_add(count));
                shard.on_appended(end, effects);
                shard.on_high_watermark(end, self.now(), effects);
            }
            #[cfg(feature = "mutations")]
            Err(_) if mutation::has(Mutation::FailedAppendIgnored) => {
                let end = self.replica.view().offsets.log_end_offset;
                shard.on_appended(end, effects);
                shard.on_high_watermark(end, self.now(), effects);
            }
            Err(refusal) => {
                let partition = &self.replica.name;
                tracing::warn!(%partition, %refusal, "a coordinator cannot write, and begins anew");
                let reason = match refusal {
                    Refusal::NotLeader | Refusal::Offline => Resignation::LeadershipEnded,
                    _ => Resignation::AppendFailed,
                };
                end(state, reason, effects);
            }
        }
    }

    fn end_if_it_leads_no_more(&self, state: &mut State) {
        let leads = self.replica.view().offsets.leader(LeaderEpoch::NONE);
        if state.shard.is_some() && !matches!(leads, Ok((epoch, _)) if epoch == self.leader_epoch) {
            let mut effects = Vec::new();
            end(state, Resignation::LeadershipEnded, &mut effects);
            self.carry_out(state, effects, None);
        }
    }

    fn now(&self) -> Now {
        Now {
            time_of_day: self.basis.env.clock.now(),
            monotonic: self.basis.monotonic(Instant::now()),
        }
    }

    fn loaded(&self, shared: &Shared, loaded: Result<(Shard, Offset), String>) {
        let partition = self.replica.name.partition;
        let is_unloaded = loaded.is_err();
        shared.groups.count_unloaded(shared, partition, is_unloaded);
        let state = &mut *self.state.lock();
        let mut effects = Vec::new();
        match loaded {
            Ok((mut shard, log_end_offset)) => {
                // Else it has ended meanwhile, and another one may have begun.
                if let Some(stand_in) = &mut state.shard {
                    let high_watermark = self.replica.view().offsets.high_watermark;
                    let now = self.now();
                    // This node leads by this image or an earlier one: it has every topic for which
                    // a former leader took a commit, unless that was deleted.
                    let image = shared.image();
                    shard.drop_offsets_of_former_topics(|topic| {
                        image.topic_by_name(topic).map(|topic| topic.id)
                    });
                    shard.set_append_max_bytes(self.append_max_bytes());
                    shard.loaded(log_end_offset, now, &mut effects);
                    shard.on_high_watermark(high_watermark, now, &mut effects);
                    *stand_in = shard;
                }
            }
            Err(error) => {
                let partition = &self.replica.name;
                tracing::error!(
                    %partition,
                    %error,
                    remedy = UNREADABLE_REMEDY,
                    "cannot load the groups of a partition"
                );
                state.failed_at = Some(Instant::now());
                end(state, Resignation::AppendFailed, &mut effects);
            }
        }
        self.carry_out(state, effects, None);
        self.is_loaded.send_replace(true);
    }
}

/// Ends the shard: all that waits is answered, by the effects.
fn end(state: &mut State, reason: Resignation, effects: &mut Vec<Effect>) {
    if let Some(shard) = state.shard.take() {
        shard.resign(reason, effects);
    }
    state.appends.clear();
}

/// Loads the shard, then waits for appends and deadlines, until it is over; has another one begin
/// after that.
async fn run(coordinator: Arc<Coordinator>, shared: Weak<Shared>, mut stop: watch::Receiver<bool>) {
    let work = async {
        if let Some(shared) = shared.upgrade() {
            let loaded = load::load(&shared, &coordinator.replica).await;
            coordinator.loaded(&shared, loaded);
        }
        serve(&coordinator).await;
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = work => {}
    }
    let pause = {
        let state = &mut *coordinator.state.lock();
        let mut effects = Vec::new();
        end(state, Resignation::LeadershipEnded, &mut effects);
        coordinator.carry_out(state, effects, None);
        match state.failed_at {
            Some(_) => LOAD_RETRY_UNASKED,
            None => APPEND_RETRY,
        }
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return,
        () = tokio::time::sleep(pause) => {}
    }
    if let Some(shared) = shared.upgrade() {
        shared.groups.begin_again(&shared, &coordinator).await;
    }
}

async fn serve(coordinator: &Coordinator) {
    loop {
        let (deadline, append) = {
            let mut state = coordinator.state.lock();
            let Some(shard) = &state.shard else {
                return;
            };
            let deadline = shard.next_deadline();
            state.awaited = deadline;
            let append = match state.appends.front() {
                Some(Append::Sent { reply, .. }) => Some(reply.clone()),
                Some(Append::TooLarge) | None => None,
            };
            state.awaits_append = append.is_some();
            (deadline, append)
        };
        let at = deadline.map(|deadline| {
            let since_start = u64::try_from(deadline.get()).unwrap_or(0);
            coordinator.basis.started + Duration::from_millis(since_start)
        });
        tokio::select! {
            () = until(at) => {}
            () = acknowledged(append) => {}
            () = coordinator.wake.notified() => {}
        }
        coordinator.step(|shard, now, effects| shard.on_time(now, effects));
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn acknowledged(append: Option<Reply>) {
    match append {
        Some(reply) => {
            // It is told to the shard from there, in order.
            let _ = reply.result().await;
        }
        None => std::future::pending().await,
    }
}
