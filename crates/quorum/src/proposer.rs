//! The proposer: turns requests into entries of the log, one batch at a time.
//!
//! ```text
//!  requests ─► decide all that wait, on the applied image ─► one entry ─► applied? ─► answers
//!                         ▲                                                  │
//!                         └──────── its base was not the last decision ──────┘
//! ```
//!
//! Input: requests, the image, who leads. Output: entries; an answer or a refusal for each request.
//!
//! Invariants:
//! - nothing is decided before an entry of this leader's own term is applied: only then the image
//!   has all that was acknowledged before ([`Proposer::activate`]);
//! - one batch is in flight: the next is decided on the image that it led to. Where leadership ends
//!   under a batch its fate is unknown, and who asked is told so at once; should it be in the log
//!   all the same, its base keeps what is decided later from deciding anything twice;
//! - a request is answered after its records are applied and published on this node;
//! - sessions start anew with each term, and when a controller that heard from no majority hears
//!   from one again; a broker whose heartbeat waits is not fenced.
//!
//! Source: own design; the Raft paper, section 8 (a leader commits a blank entry first).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use skein_config::BrokerConfig;
use skein_controller::{
    BalanceLeaders, Batch, Context, FenceBrokers, LogEnds, RandomBits, Refusal, Request, Response,
    Sessions,
};
use skein_env::Env;
use skein_metadata::{Image, Outcome};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, Millis};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::balancing::Balancing;
use crate::log_store::LogStore;
use crate::node::RaftHandle;
use crate::state_machine::Published;
use crate::types::{Proposal, TypeConfig};

/// Requests that may wait for the proposer.
pub(crate) const REQUESTS_QUEUED_MAX: usize = 1024;
/// Requests that one batch takes.
const REQUESTS_PER_BATCH_MAX: usize = 256;
/// Records after which a batch takes no further request.
const RECORDS_PER_BATCH: usize = 20_000;
/// Time after which a batch takes no further request: Raft and heartbeats run on the same thread.
/// The largest single requests take some ten ms.
const DECIDE_MAX: Duration = Duration::from_millis(20);
/// Records after which others have a turn before a batch is proposed, and so applied.
const RECORDS_PER_TURN: usize = 1_000;
/// How often a batch is decided again when its base was stale.
const DECISIONS_PER_BATCH_MAX: u32 = 8;
/// How long requests wait for this node to become the active controller.
const ACTIVATION_TIMEOUT: Duration = Duration::from_secs(5);
/// A controller that has heard from no majority for so long is none: another may be elected. Raft's
/// own lease is far shorter; a slow moment shall not end a tenure.
const QUORUM_SILENCE_MAX: Duration = Duration::from_secs(1);
/// How often leadership is looked at while something waits for it.
const LEADERSHIP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a batch may take to be committed and applied.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of records after which a snapshot is made, however few the entries.
const SNAPSHOT_LOG_BYTES: u64 = 32 * 1024 * 1024;
/// Room that the device must have for requests that make more of something.
const HEADROOM_BYTES: u64 = 8 * 1024 * 1024;
/// Room that it must have for any entry, what is kept back for it included: an entry that does not
/// fit would stop the node, a refused request does not.
const ROOM_MIN_BYTES: u64 = 256 * 1024;
/// How often the sessions are looked at.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A request that waits for its answer.
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Result<Response, Refusal>>,
}

/// See the module.
pub(crate) struct Proposer {
    pub(crate) env: Env,
    pub(crate) raft: RaftHandle,
    pub(crate) store: LogStore,
    pub(crate) published: Published,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) directory: PathBuf,
    /// Raft id of this node: its own broker is alive as long as this code runs.
    pub(crate) raft_id: u64,
    pub(crate) requests: mpsc::Receiver<Waiting>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// What a controller knows while its term lasts.
struct Tenure {
    term: u64,
    sessions: Sessions,
    log_ends: LogEnds,
    balancing: Balancing,
}

/// How a batch ended.
enum Verdict {
    /// Its records are applied.
    Applied,
    /// Somebody else decided in between.
    Stale,
    /// The records do not fit into an entry.
    TooLarge(Refusal),
    /// Nothing, or nothing that is known, was decided.
    Refused(Refusal),
}

impl Proposer {
    /// Runs until it is stopped or all who could ask are gone.
    pub(crate) async fn run(mut self) {
        let start = Instant::now();
        let mut tenure = None;
        let mut waiting = VecDeque::new();
        let mut snapshot_at = SNAPSHOT_LOG_BYTES;
        loop {
            if waiting.is_empty() && !self.wait(&mut waiting).await {
                break;
            }
            let now = millis_since(start);
            if let Err(refusal) = self.activate(&mut tenure, now).await {
                refuse_all(&mut waiting, &refusal);
                continue;
            }
            if let Some(tenure) = &mut tenure {
                self.hear(tenure, now, &mut waiting);
                self.fence_ended(tenure, now, &mut waiting);
                if tenure.balancing.is_due(now) {
                    waiting.push_back(unasked(BalanceLeaders));
                }
                self.turn(tenure, now, &mut waiting).await;
            }
            // A batch without records waits for nothing.
            self.env.spawn.yield_now().await;
            if self.store.appended_bytes() > snapshot_at {
                snapshot_at = self.store.appended_bytes() + SNAPSHOT_LOG_BYTES;
                // A Raft that has stopped says so at the next proposal.
                let _ = self.raft.trigger().snapshot().await;
            }
        }
    }

    /// Waits for requests, or for the time to look at the sessions; `false` at the end.
    async fn wait(&mut self, waiting: &mut VecDeque<Waiting>) -> bool {
        let mut received = Vec::new();
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => return false,
            count = self.requests.recv_many(&mut received, REQUESTS_PER_BATCH_MAX) => {
                if count == 0 {
                    return false;
                }
            }
            () = tokio::time::sleep(SESSION_CHECK_INTERVAL) => {}
        }
        waiting.extend(received);
        true
    }

    /// Makes sure that this node leads and has applied an entry of its own term.
    async fn activate(&self, tenure: &mut Option<Tenure>, now: Millis) -> Result<(), Refusal> {
        let Some(term) = self.leading_term() else {
            *tenure = None;
            let message = "this node is not the controller";
            return Err(Refusal::new(ErrorCode::NotController, message));
        };
        if tenure.as_ref().is_some_and(|tenure| tenure.term == term) {
            return Ok(());
        }
        *tenure = None;
        let mut images = self.published.subscribe();
        let is_active = |image: &Arc<Image>| {
            #[cfg(feature = "mutations")]
            if skein_types::mutation::has(skein_types::mutation::Mutation::DecisionOnOldBase) {
                return true;
            }
            image.last_applied().is_some_and(|id| id.term == term)
        };
        let active = tokio::select! {
            biased;
            active = images.wait_for(is_active) => active.ok().map(|image| Arc::clone(&image)),
            () = self.leadership_lost(term) => None,
            () = tokio::time::sleep(ACTIVATION_TIMEOUT) => None,
        };
        let Some(image) = active else {
            let message = "the controller is not active yet";
            return Err(Refusal::new(ErrorCode::NotController, message));
        };
        let timeout = self.config.replica.session_timeout_ms;
        *tenure = Some(Tenure {
            term,
            sessions: Sessions::new(&image, now, timeout),
            log_ends: LogEnds::default(),
            balancing: Balancing::new(&self.config, now),
        });
        Ok(())
    }

    /// The term in which this node leads, as far as a majority has told it lately.
    fn leading_term(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let vote = metrics.vote;
        let leads = metrics.state.is_leader() && vote.committed;
        let is_own = vote.leader_id.voted_for == self.raft_id;
        let needs_others = metrics
            .membership_config
            .voter_ids()
            .any(|id| id != self.raft_id);
        // Without a first word the term has just begun.
        let heard = metrics
            .last_quorum_acked
            .as_ref()
            .map(|heard| heard.elapsed());
        let is_cut_off = needs_others && heard.is_some_and(|ago| ago > QUORUM_SILENCE_MAX);
        (leads && is_own && !is_cut_off).then_some(vote.leader_id.term)
    }

    /// How long ago a majority last confirmed this controller; a very long time if none has yet.
    fn quorum_silence(&self) -> Millis {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut voters = metrics.membership_config.voter_ids();
        if voters.all(|id| id == self.raft_id) {
            return Millis(0);
        }
        let heard = metrics.last_quorum_acked.as_ref();
        heard.map_or(Millis(i64::MAX), |heard| millis(heard.elapsed()))
    }

    /// Ends when this node does not lead in `term` any more.
    async fn leadership_lost(&self, term: u64) {
        while self.leading_term() == Some(term) {
            tokio::time::sleep(LEADERSHIP_CHECK_INTERVAL).await;
        }
    }

    /// Takes what has arrived meanwhile; a heartbeat in it is a sign of life, though its turn comes
    /// later. After a stall of this node nobody else has been silent.
    fn hear(&mut self, tenure: &mut Tenure, now: Millis, waiting: &mut VecDeque<Waiting>) {
        while waiting.len() < REQUESTS_QUEUED_MAX
            && let Ok(request) = self.requests.try_recv()
        {
            waiting.push_back(request);
        }
        let image = self.published.image();
        for waiting in waiting {
            if let Request::Heartbeat(heartbeat) = &waiting.request {
                let (id, epoch) = (heartbeat.broker_id, heartbeat.broker_epoch);
                if image.broker(id).is_some_and(|broker| broker.epoch == epoch) {
                    tenure.sessions.touch(id, epoch, now);
                }
            }
        }
    }

    /// Puts the fencing of brokers whose sessions have ended before all other requests.
    fn fence_ended(&self, tenure: &Tenure, now: Millis, waiting: &mut VecDeque<Waiting>) {
        let image = self.published.image();
        let mut ended = tenure.sessions.ended(&image, now);
        ended.retain(|(id, _)| !self.is_own(&image, *id));
        if !ended.is_empty() {
            tracing::warn!(brokers = ?ended, "fencing brokers whose sessions have ended");
            waiting.push_front(unasked(FenceBrokers { brokers: ended }));
        }
    }

    fn is_own(&self, image: &Image, id: BrokerId) -> bool {
        image
            .broker(id)
            .is_some_and(|broker| broker.raft_id == self.raft_id)
    }

    /// Decides one batch of what waits, and answers.
    async fn turn(&self, tenure: &mut Tenure, now: Millis, waiting: &mut VecDeque<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        let mut requests_max = REQUESTS_PER_BATCH_MAX;
        for _ in 0..DECISIONS_PER_BATCH_MAX {
            let image = self.published.image();
            let mut batch = Batch::new(&image);
            let answers = self.decide(&mut batch, tenure, now, waiting.iter().take(requests_max));
            if batch.len() > RECORDS_PER_TURN {
                self.env.spawn.yield_now().await;
            }
            match self.propose(batch, tenure.term).await {
                Verdict::Stale => {}
                // One of them is too large; the others shall not suffer for it.
                Verdict::TooLarge(_) if answers.len() > 1 => requests_max = 1,
                Verdict::Applied => {
                    for (waiting, answer) in waiting.drain(..answers.len()).zip(answers) {
                        note_session(&mut tenure.sessions, &waiting.request, &answer, now);
                        note_handed_over(&mut tenure.sessions, &answer, now);
                        if let (Request::ReportLogEnds(report), Ok(_)) = (&waiting.request, &answer)
                        {
                            tenure.log_ends.note(report, &self.published.image());
                        }
                        if let Ok(Response::BalanceLeaders(balanced)) = &answer {
                            tenure.balancing.balanced(*balanced, now);
                        }
                        // Who asked may have gone.
                        let _ = waiting.answer.send(answer);
                    }
                    return;
                }
                Verdict::Refused(refusal) | Verdict::TooLarge(refusal) => {
                    for (waiting, answer) in waiting.drain(..answers.len()).zip(answers) {
                        // What was refused before it was proposed stays refused for its own reason.
                        let answer = answer.and_then(|_| Err(refusal.clone()));
                        let _ = waiting.answer.send(answer);
                    }
                    return;
                }
            }
        }
        let message = "others decided in between, again and again";
        refuse_all(waiting, &Refusal::new(ErrorCode::NotController, message));
    }

    /// Decides the first of these requests, as many as a batch takes.
    fn decide<'a>(
        &self,
        batch: &mut Batch,
        tenure: &Tenure,
        now: Millis,
        waiting: impl Iterator<Item = &'a Waiting>,
    ) -> Vec<Result<Response, Refusal>> {
        let mut seed = [0; 32];
        self.env.rng.fill(&mut seed);
        let random = RandomBits::from_seed(seed);
        let (config, sessions) = (&*self.config, &tenure.sessions);
        let log_ends = &tenure.log_ends;
        let mut context = Context {
            now,
            random,
            config,
            sessions,
            log_ends,
            quorum_silence_ms: self.quorum_silence(),
        };
        let started = Instant::now();
        let mut answers = Vec::new();
        for waiting in waiting {
            let is_long = started.elapsed() > DECIDE_MAX || batch.len() > RECORDS_PER_BATCH;
            if is_long && !answers.is_empty() {
                break;
            }
            let room = match waiting.request.makes_more() {
                true => self.check_room(HEADROOM_BYTES),
                false => Ok(()),
            };
            answers.push(room.and_then(|()| batch.decide(&waiting.request, &mut context)));
        }
        answers
    }

    async fn propose(&self, batch: Batch, term: u64) -> Verdict {
        let Some(entry) = batch.into_entry() else {
            return Verdict::Applied;
        };
        let proposal = match Proposal::new(entry) {
            Ok(proposal) => proposal,
            Err(error) => {
                let message = format!("the decision does not fit into an entry: {error}");
                return Verdict::TooLarge(Refusal::new(ErrorCode::PolicyViolation, message));
            }
        };
        if let Err(refusal) =
            self.check_room(ROOM_MIN_BYTES.saturating_add(2 * proposal.encoded.len() as u64))
        {
            return Verdict::Refused(refusal);
        }
        let written = tokio::select! {
            biased;
            written = self.raft.client_write(proposal) => written,
            () = self.leadership_lost(term) => return Verdict::Refused(unknown_fate()),
            () = tokio::time::sleep(COMMIT_TIMEOUT) => return Verdict::Refused(unknown_fate()),
        };
        match written {
            Ok(response) => match response.data {
                Outcome::Applied => Verdict::Applied,
                Outcome::StaleBase(_) => Verdict::Stale,
            },
            Err(error) => Verdict::Refused(refusal_of(&error)),
        }
    }

    /// Checks that the device has so much room.
    fn check_room(&self, bytes: u64) -> Result<(), Refusal> {
        match self.env.disk.space(&self.directory) {
            Ok(space) if space.usable_bytes < bytes => {
                let message = format!("the device of {} is full", self.directory.display());
                Err(Refusal::new(ErrorCode::KafkaStorageError, message))
            }
            // What can't be measured is tried.
            _ => Ok(()),
        }
    }
}

/// A request of the controller itself.
fn unasked(request: impl Into<Request>) -> Waiting {
    let (answer, _) = oneshot::channel();
    Waiting {
        request: request.into(),
        answer,
    }
}

fn unknown_fate() -> Refusal {
    let message = "no majority answers; whether it was decided is not known";
    Refusal::new(ErrorCode::NotController, message)
}

fn refusal_of(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Refusal {
    let code = match error {
        RaftError::APIError(
            ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_),
        ) => ErrorCode::NotController,
        // This node is being stopped: another will lead.
        RaftError::Fatal(Fatal::Stopped) => ErrorCode::NotController,
        RaftError::APIError(_) => ErrorCode::UnknownServerError,
        RaftError::Fatal(_) => ErrorCode::KafkaStorageError,
    };
    Refusal::new(code, error.to_string())
}

fn refuse_all(waiting: &mut VecDeque<Waiting>, refusal: &Refusal) {
    for waiting in waiting.drain(..) {
        // Who asked may have gone.
        let _ = waiting.answer.send(Err(refusal.clone()));
    }
}

/// A registration or a heartbeat that was granted keeps the broker's session.
fn note_session(
    sessions: &mut Sessions,
    request: &Request,
    answer: &Result<Response, Refusal>,
    now: Millis,
) {
    let alive: Option<(BrokerId, BrokerEpoch)> = match (request, answer) {
        (_, Ok(Response::RegisterBroker(registered))) => {
            Some((registered.broker_id, registered.broker_epoch))
        }
        (Request::Heartbeat(heartbeat), Ok(_)) => {
            Some((heartbeat.broker_id, heartbeat.broker_epoch))
        }
        _ => None,
    };
    if let Some((id, epoch)) = alive {
        sessions.touch(id, epoch, now);
    }
}

/// Partitions that were taken from leaders which reach too few.
fn note_handed_over(sessions: &mut Sessions, answer: &Result<Response, Refusal>, now: Millis) {
    let Ok(Response::AlterPartition(results)) = answer else {
        return;
    };
    for one in results {
        let refused = one.result.as_ref().err().map(|refusal| refusal.code);
        if refused == Some(ErrorCode::NewLeaderElected) {
            sessions.handed_over((one.topic_id, one.partition), now);
        }
    }
}

fn millis_since(start: Instant) -> Millis {
    millis(start.elapsed())
}

fn millis(span: Duration) -> Millis {
    Millis(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}
