//! One run: from a seed to a verdict.
//!
//! Input: a seed. Output: what became of it.
//!
//! ```text
//!   safety:       clients work ── faults strike                       (2 to 8 s)
//!   convergence:  heal, restart ── clients settle                     (at most CONVERGE_MAX)
//!   reading back: read ── stop, cut the power, start ── read ── stop ── check the files
//! ```
//!
//! Invariant: two runs of one seed with the same options have the same trace hash.
//!
//! Source: none.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use skein_env::Lane;
use skein_env::sim::{SimRng, SimWorld};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client::{Client, admin, committer, consumer, lister, member, producer};
use crate::cluster;
use crate::cuts::Cuts;
use crate::event::{End, Event};
use crate::history::Actor;
use crate::mutation::{self, Mutation};
use crate::nemesis::Nemesis;
use crate::node::{NODE, Node};
use crate::offline;
use crate::plan::{Plan, TopicPlan};
use crate::read_back::{groups, read_everything};
use crate::witness::{Violation, Witness};

/// Simulated time in which everything must be answered and read, once the faults are over.
const CONVERGE_MAX: Duration = Duration::from_secs(300);

/// Simulated time that a whole run may take, whatever it waits for.
const RUN_MAX: Duration = Duration::from_secs(900);

/// Simulated time in which the topics are there that clients need: longer than all faults last.
const TOPICS_MAX: Duration = Duration::from_secs(120);

/// How often a waiting run looks around.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How many nodes there are: a cluster of 3 or 5, else one node.
    pub nodes: usize,
    /// Print every event as it happens, to the standard error.
    pub trace: bool,
    /// Keep the world's own log as well: every disk call, segment and poll.
    pub world_log: bool,
    /// Break the node on purpose.
    pub mutation: Option<Mutation>,
    /// Leave parts of the run out.
    pub cuts: Cuts,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Requests that clients sent.
    pub operations: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// How often faults struck, or would have.
    pub strikes: u64,
    /// A hash over everything that happened.
    pub trace_hash: u64,
    /// The first broken promise.
    pub failure: Option<Failure>,
    /// The world's own log, if it was kept.
    pub world_log: Vec<String>,
}

impl Outcome {
    /// The outcome of a run that a panic of the node has ended.
    #[must_use]
    pub fn of_panic(seed: u64, text: String, history: Vec<String>) -> Self {
        let failure = Failure {
            invariant: "no_panic",
            text,
            history,
        };
        Self {
            seed,
            operations: 0,
            simulated: Duration::ZERO,
            strikes: 0,
            trace_hash: 0,
            failure: Some(failure),
            world_log: Vec::new(),
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one: the name of a file in `invariants/`, or of a rule that needs no file.
    pub invariant: &'static str,
    /// What is wrong.
    pub text: String,
    /// The events that led there.
    pub history: Vec<String>,
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        let Violation {
            invariant,
            text,
            history,
        } = violation;
        Self {
            invariant,
            text,
            history,
        }
    }
}

/// Who knows what has happened in a run.
pub(crate) trait Remembers: Send + Sync {
    /// The last events.
    fn tail(&self) -> Vec<String>;
}

impl Remembers for Witness {
    fn tail(&self) -> Vec<String> {
        Witness::tail(self)
    }
}

/// The run that goes on, for [`running`].
static RUNNING: Mutex<Option<(u64, Weak<dyn Remembers>)>> = Mutex::new(None);

/// This run goes on now.
pub(crate) fn now_running<W: Remembers + 'static>(seed: u64, witness: &Arc<W>) {
    let witness: Weak<W> = Arc::downgrade(witness);
    RUNNING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace((seed, witness));
}

/// Seed and last events of the run that goes on: what a panic hook has to show before the process
/// ends.
#[must_use]
pub fn running() -> Option<(u64, Vec<String>)> {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (seed, witness) = running.as_ref()?;
    let tail = witness
        .upgrade()
        .map_or_else(Vec::new, |witness| witness.tail());
    Some((*seed, tail))
}

/// Runs a seed.
///
/// # Panics
/// With the panic of any task of the node: a bug.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    mutation::choose(options.mutation);
    if options.nodes > 1 {
        return cluster::run(seed, options);
    }
    let world = SimWorld::new(seed);
    if options.world_log {
        world.keep_log();
    }
    let mut plan = Plan::draw(&mut world.rng("plan"));
    options.cuts.apply(&mut plan);
    let plan = Arc::new(plan);
    let witness = world.block_on(async {
        let witness = Arc::new(Witness::new(
            Arc::clone(&plan),
            world.clock(NODE),
            options.trace,
        ));
        now_running(seed, &witness);
        if options.trace {
            witness.tell(Actor::Nemesis, Event::Note(format!("{plan:#?}")));
        }
        let run = Run {
            world: &world,
            plan: Arc::clone(&plan),
            cuts: &options.cuts,
            witness: Arc::clone(&witness),
        };
        tokio::select! {
            biased;
            () = witness.violated() => {}
            () = run.play() => {}
        }
        witness
    });
    let simulated = world.block_on(async { witness.elapsed() });
    let mut outcome = Outcome {
        seed,
        operations: witness.operations(),
        simulated,
        strikes: witness.strikes(),
        trace_hash: world.trace_hash(),
        failure: None,
        world_log: world.log(),
    };
    let leaked = world.end().err();
    outcome.failure = witness.violation().map(Failure::from).or_else(|| {
        Some(Failure {
            invariant: "nothing_is_left",
            text: format!("after the run there are still {}", leaked?),
            history: witness.tail(),
        })
    });
    outcome
}

struct Run<'a> {
    world: &'a SimWorld,
    plan: Arc<Plan>,
    cuts: &'a Cuts,
    witness: Arc<Witness>,
}

impl Run<'_> {
    async fn play(&self) {
        self.world.set_schedule(self.plan.schedule);
        self.world.net().set_plan(self.plan.link);
        // The first node has the address 10.0.0.1.
        let address_taken = self.world.address(NODE);
        self.world.disk(NODE).set_speed(self.plan.speed);
        let node = Node::new(self.world, &self.plan, Arc::clone(&self.witness));
        self.witness
            .tell(Actor::Node, Event::Note(format!("is at {address_taken}")));
        tokio::select! {
            biased;
            ended = timeout(RUN_MAX, self.script(&node)) => if ended.is_err() {
                let text = format!("the run has not ended in {RUN_MAX:?}");
                self.witness.accuse(Actor::Reader, "converges", None, text);
            },
            () = node.keep_alive() => {}
        }
    }

    async fn script(&self, node: &Node<'_>) {
        let (settle, settled) = watch::channel(false);
        let (names, clients) = self.start_clients(&settled);
        let (plan, witness) = (Arc::clone(&self.plan), Arc::clone(&self.witness));
        let mut nemesis = Nemesis::new(self.world, node, plan, self.cuts, witness, names);
        let mut rng = self.world.rng("script");
        nemesis.run().await;
        nemesis.heal(draw_end(&mut rng)).await;
        node.serving().await;
        settle.send_replace(true);
        let rest = self.converge(node, clients, settled, &mut rng);
        if timeout(CONVERGE_MAX, rest).await.is_err() {
            let text = format!("not everything was answered {CONVERGE_MAX:?} after the last fault");
            self.witness.accuse(Actor::Reader, "converges", None, text);
        }
    }

    async fn converge(
        &self,
        node: &Node<'_>,
        clients: Vec<watch::Receiver<bool>>,
        settled: watch::Receiver<bool>,
        rng: &mut SimRng,
    ) {
        for mut client in clients {
            // An error means that the client has ended.
            let _ = client.wait_for(|has_ended| *has_ended).await;
        }
        let mut reader = self.client(Actor::Reader, settled);
        read_everything(&mut reader).await;
        groups::read_back(&mut reader).await;
        groups::read_aged(&mut reader).await;
        self.note("everything was read; now the node stops and the power goes");
        if node.shut_down().await != End::Clean {
            // It had no time to flush everything: then the power takes what it takes.
            self.witness.tell(Actor::Node, Event::Ended(End::PowerCut));
        }
        node.cut_idle();
        reader.hang_up();
        node.power_up();
        node.serving().await;
        groups::read_back(&mut reader).await;
        read_everything(&mut reader).await;
        let was_clean = if rng.chance(2) {
            node.shut_down().await == End::Clean
        } else {
            node.kill_for_good().await;
            false
        };
        self.note("the files are checked");
        offline::check(self.world, &self.plan, &self.witness, was_clean);
    }

    /// Starts every client; their names, and what tells that they have ended.
    fn start_clients(
        &self,
        settled: &watch::Receiver<bool>,
    ) -> (Vec<String>, Vec<watch::Receiver<bool>>) {
        let actors = self.plan.clients();
        // Those that are left out count too: what the nemesis draws must not depend on them.
        let names = actors.iter().map(Actor::to_string).collect();
        let actors = actors.into_iter();
        let actors = actors.filter(|actor| self.is_needed(*actor));
        let ends = actors.map(|actor| {
            let client = self.client(actor, settled.clone());
            let (env, plan) = (client.env.clone(), Arc::clone(&self.plan));
            let witness = Arc::clone(&self.witness);
            let (ended, has_ended) = watch::channel(false);
            let task = async move {
                match actor {
                    Actor::Admin => admin::run(client).await,
                    Actor::Producer(number) => {
                        wait_for_topics(actor, &plan, &witness).await;
                        producer::run(client, plan.producers[number].clone()).await;
                    }
                    Actor::Consumer(number) => {
                        wait_for_topics(actor, &plan, &witness).await;
                        consumer::run(client, plan.consumers[number].clone()).await;
                    }
                    Actor::Member(number) => {
                        wait_for_groups(actor, &witness).await;
                        member::run(client, plan.groups.members[number].clone()).await;
                    }
                    Actor::Committer(number) => {
                        wait_for_groups(actor, &witness).await;
                        committer::run(client, plan.groups.committers[number]).await;
                    }
                    _ => {
                        wait_for_topics(actor, &plan, &witness).await;
                        lister::run(client).await;
                    }
                }
                ended.send_replace(true);
            };
            env.spawn.spawn(Lane::Data, "client", Box::pin(task));
            has_ended
        });
        (names, ends.collect())
    }

    /// The topics that all others need are the admin's.
    fn is_needed(&self, actor: Actor) -> bool {
        actor == Actor::Admin || self.cuts.keep(&actor.to_string())
    }

    fn client(&self, actor: Actor, settled: watch::Receiver<bool>) -> Client {
        let name = actor.to_string();
        let (plan, witness) = (Arc::clone(&self.plan), Arc::clone(&self.witness));
        Client::new(
            actor,
            self.world.node(&name),
            self.world.rng(&name),
            plan,
            witness,
            settled,
        )
    }

    fn note(&self, text: &str) {
        self.witness
            .tell(Actor::Reader, Event::Note(text.to_owned()));
    }
}

/// Waits until the first topic of every name is there.
async fn wait_for_topics(actor: Actor, plan: &Plan, witness: &Witness) {
    let is_missing = |(number, topic): (usize, &TopicPlan)| {
        !topic.is_successor && witness.topic_id(number).is_none()
    };
    let are_there = || !plan.topics.iter().enumerate().any(is_missing);
    wait_until(actor, witness, "the topics are there", are_there).await;
}

/// Waits until the topics that groups need are there.
async fn wait_for_groups(actor: Actor, witness: &Witness) {
    let are_there = || witness.has_groups();
    wait_until(actor, witness, "the topics of groups are there", are_there).await;
}

/// Waits until something holds that another client brings about; who waits too long ends the run.
async fn wait_until(actor: Actor, witness: &Witness, what: &str, holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(TOPICS_MAX, holding).await.is_err() {
        let text = format!("not in {TOPICS_MAX:?}: {what}");
        witness.accuse(actor, "converges", None, text);
    }
}

fn draw_end(rng: &mut SimRng) -> End {
    match rng.chance(2) {
        true => End::Kill,
        false => End::PowerCut,
    }
}
