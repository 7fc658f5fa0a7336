//! The runtime around `formation.rs`: asks, flushes, answers.
//!
//! Input: an identity without a cluster, the peer list, questions of others. Output: the identity
//! with its cluster, flushed.
//!
//! Invariants:
//! - while something is flushed nothing is answered: what this node says of itself is on its disk;
//! - every question ends in [`ASK_TIMEOUT`], so that every round ends.
//!
//! Source: own design.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skein_env::{Env, Lane};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::QuorumError;
use crate::answers::{PeerAnswers, QUESTIONS_QUEUED_MAX, Question, Role};
use crate::formation::{Effect, Event, Formation, FormationStatus, Myself};
use crate::identity::{Founding, Identity, new_cluster_id};
use crate::transport::PeerTransport;
use crate::wire::{self, LeftOut, Message, Offered, Standing};

/// How long a node may take to say who it is.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between the end of a round and the next one.
const ROUND_INTERVAL: Duration = Duration::from_millis(100);
/// How often the log says what keeps the cluster from forming.
const OBSTACLES_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How often the founder offers its record to a node that does not take it: that node asks by
/// itself too, so this is only the fast way.
const OFFERS_MAX: u32 = 5;

/// Runs the formation until the node knows its cluster.
pub(crate) struct Forming {
    pub(crate) env: Env,
    pub(crate) directory: PathBuf,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) answers: PeerAnswers,
    pub(crate) nonce: [u8; 16],
    pub(crate) identity: Identity,
    pub(crate) list: Vec<String>,
}

/// An answer to a question of this node.
struct Answered {
    round: u64,
    entry: usize,
    answer: Result<Standing, String>,
}

/// What the loop waits for.
enum Next {
    Step(Event),
    Asked(Question),
}

impl Forming {
    pub(crate) async fn run(mut self) -> Result<Identity, QuorumError> {
        let mut formation = Formation::new(Myself {
            nonce: self.nonce,
            raft_id: self.identity.raft_id,
            list: self.list.clone(),
            new_cluster_id: new_cluster_id(&*self.env.rng),
        });
        let (asking, mut questions) = mpsc::channel(QUESTIONS_QUEUED_MAX);
        let (answering, mut answers) = mpsc::channel(self.list.len().max(1));
        self.answers.set_role(Role::Forming(asking));
        self.answers.tell(FormationStatus::Asking(Vec::new()));
        let mut round_at = Some(Instant::now());
        let mut log_at = Instant::now() + OBSTACLES_LOG_INTERVAL;
        loop {
            let round_due = async {
                match round_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                Some(question) = questions.recv() => Next::Asked(question),
                Some(Answered { round, entry, answer }) = answers.recv() => {
                    Next::Step(Event::Answered { round, entry, answer })
                }
                () = round_due => {
                    round_at = None;
                    Next::Step(Event::RoundDue)
                }
            };
            let told = match next {
                Next::Step(event) => {
                    self.advance(&mut formation, event, None, &answering)
                        .await?
                }
                Next::Asked(Question::Who(answer)) => {
                    // Who asked may have gone.
                    let _ = answer.send(formation.standing());
                    None
                }
                Next::Asked(Question::LeaveOut(peers, answer)) => {
                    let _ = answer.send(leave_out(&mut formation, peers));
                    None
                }
                Next::Asked(Question::Offer(founding, answer)) => {
                    let event = Event::Offered(founding);
                    self.advance(&mut formation, event, Some(answer), &answering)
                        .await?
                }
            };
            match told {
                Some(Progress::Settled) => return Ok(self.identity),
                Some(Progress::RoundEnded(status)) => {
                    if Instant::now() >= log_at {
                        tracing::error!(directory = %self.directory.display(), "{status}");
                        log_at = Instant::now() + OBSTACLES_LOG_INTERVAL;
                    }
                    self.answers.tell(status);
                    round_at = Some(Instant::now() + ROUND_INTERVAL);
                }
                None => {}
            }
        }
    }

    /// Steps the state machine and carries its effects out.
    async fn advance(
        &mut self,
        formation: &mut Formation,
        event: Event,
        mut offerer: Option<oneshot::Sender<Offered>>,
        answering: &mpsc::Sender<Answered>,
    ) -> Result<Option<Progress>, QuorumError> {
        let mut progress = None;
        let mut effects = Vec::new();
        formation.step(event, &mut effects);
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Ask { round, entry } => self.ask(round, entry, answering),
                    Effect::Persist(founding) => {
                        self.persist(founding).await?;
                        formation.step(Event::Persisted, &mut effects);
                    }
                    Effect::Accept => answer_offer(&mut offerer, None),
                    Effect::Refuse(reason) => answer_offer(&mut offerer, Some(reason)),
                    Effect::Heed => {} // of the operator's word, which comes another way
                    Effect::Tell(obstacles) => {
                        progress = Some(Progress::RoundEnded(FormationStatus::Asking(obstacles)));
                    }
                    Effect::Settled(_) => progress = Some(Progress::Settled),
                }
            }
        }
        Ok(progress)
    }

    fn ask(&self, round: u64, entry: usize, answering: &mpsc::Sender<Answered>) {
        let Some(address) = self.list.get(entry).cloned() else {
            return;
        };
        let (transport, answering) = (Arc::clone(&self.transport), answering.clone());
        let asking = async move {
            let answer = who_is(&*transport, &address).await;
            let answered = Answered {
                round,
                entry,
                answer,
            };
            // The node may know its cluster by now.
            let _ = answering.send(answered).await;
        };
        let _task = self
            .env
            .spawn
            .spawn(Lane::Control, "formation", Box::pin(asking));
    }

    async fn persist(&mut self, founding: Founding) -> Result<(), QuorumError> {
        self.identity.founding = Some(founding);
        write_identity(&self.env, &self.identity, &self.directory).await
    }
}

/// Takes the operator's word to the state machine.
fn leave_out(formation: &mut Formation, peers: Vec<String>) -> LeftOut {
    let text = peers.join(",");
    let mut effects = Vec::new();
    formation.step(Event::LeftOut(peers), &mut effects);
    let refused = effects.into_iter().find_map(|effect| match effect {
        Effect::Refuse(reason) => Some(reason),
        _ => None,
    });
    match &refused {
        None => tracing::warn!(peers = text, "an operator has these peers left out"),
        Some(reason) => tracing::warn!(peers = text, reason, "peers are not left out"),
    }
    LeftOut { refused }
}

/// What a step led to.
enum Progress {
    RoundEnded(FormationStatus),
    Settled,
}

fn answer_offer(offerer: &mut Option<oneshot::Sender<Offered>>, refused: Option<String>) {
    if let Some(offerer) = offerer.take() {
        // It may have gone.
        let _ = offerer.send(Offered { refused });
    }
}

/// Writes the identity, durably.
pub(crate) async fn write_identity(
    env: &Env,
    identity: &Identity,
    directory: &std::path::Path,
) -> Result<(), QuorumError> {
    let (disk, identity) = (Arc::clone(&env.disk), identity.clone());
    let directory = directory.to_path_buf();
    let write = move || identity.write(&*disk, &directory);
    env.offload_on(Lane::Control, "identity", write)
        .await
        .ok_or_else(|| QuorumError::stopped("the node was ended"))?
}

/// Asks the node at `address` who it is.
pub(crate) async fn who_is(
    transport: &dyn PeerTransport,
    address: &str,
) -> Result<Standing, String> {
    call(transport, address, wire::who(), ASK_TIMEOUT).await
}

/// A question and its answer.
pub(crate) async fn call<A: Message>(
    transport: &dyn PeerTransport,
    address: &str,
    question: Bytes,
    timeout: Duration,
) -> Result<A, String> {
    let call = transport.call(address, question, timeout);
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(answer)) => wire::answer(&answer).map_err(|refusal| refusal.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
    }
}

/// Offers the record to all others that it names, as the one who wrote it does.
pub(crate) fn offer(
    env: &Env,
    transport: &Arc<dyn PeerTransport>,
    raft_id: u64,
    founding: &Founding,
) {
    let is_founder = founding
        .members
        .first()
        .is_some_and(|(id, _)| *id == raft_id);
    let Ok(record) = wire::encode(founding) else {
        return; // Too long for a message: the others ask for it, and hear why.
    };
    if !is_founder {
        return;
    }
    for (_, address) in &founding.members[1..] {
        let (transport, address, record) = (Arc::clone(transport), address.clone(), record.clone());
        let offering = async move {
            for _ in 0..OFFERS_MAX {
                match call(&*transport, &address, record.clone(), ASK_TIMEOUT).await {
                    Ok(Offered { refused: None }) => return,
                    Ok(Offered {
                        refused: Some(reason),
                    }) => {
                        tracing::warn!(%address, reason, "a node refuses the founding record");
                        return;
                    }
                    Err(_) => tokio::time::sleep(ROUND_INTERVAL).await,
                }
            }
        };
        let _task = env
            .spawn
            .spawn(Lane::Control, "founding offer", Box::pin(offering));
    }
}
