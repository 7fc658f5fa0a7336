//! One run of a cluster: from a seed to a verdict.
//!
//! Input: a seed, how many nodes. Output: what became of it.
//!
//! ```text
//!   safety:       clients work ── faults strike                       (5 to 20 s)
//!   convergence:  heal ── the cluster is whole ── clients settle
//!   reading back: write ── read ── compare ── cut all power ── whole ── read ── compare
//! ```
//!
//! Invariant: two runs of one seed with the same options have the same trace hash.
//!
//! Source: as `crate::run`.

use std::sync::Arc;
use std::time::Duration;

use skein_env::Lane;
use skein_env::sim::SimWorld;
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::ClusterClient;
use super::machines::Machines;
use super::nemesis::Nemesis;
use super::observer::Observer;
use super::plan::{ClusterPlan, ClusterProducer};
use super::producer::Producer;
use super::witness::ClusterWitness;
use super::{admin, committer, consumer, converge, host};
use crate::event::End;
use crate::history::Actor;
use crate::run::{Failure, Options, Outcome, now_running};

/// Simulated time that a whole run may take, whatever it waits for.
const RUN_MAX: Duration = Duration::from_secs(900);

/// Simulated time in which clients must be done, once the cluster is whole.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Simulated time in which a cluster without faults forms and has its topics.
const FORM_MAX: Duration = Duration::from_secs(90);

/// Runs a seed with a cluster of `options.nodes`.
pub(crate) fn run(seed: u64, options: &Options) -> Outcome {
    let world = SimWorld::new(seed);
    if options.world_log {
        world.keep_log();
    }
    skein_quorum::inspect::watch();
    let plan = Arc::new(ClusterPlan::draw(options.nodes, &mut world.rng("plan")));
    let witness = world.block_on(async {
        let witness = Arc::new(ClusterWitness::new(Arc::clone(&plan), options.trace));
        now_running(seed, &witness);
        if options.trace {
            witness.note(Actor::Nemesis, format!("{plan:#?}"));
        }
        let run = Run {
            world: &world,
            plan: Arc::clone(&plan),
            witness: Arc::clone(&witness),
        };
        tokio::select! {
            biased;
            () = witness.violated() => {}
            () = run.play() => {}
        }
        witness
    });
    skein_quorum::inspect::end();
    let simulated = world.block_on(async { witness.elapsed() });
    let (operations, strikes) = witness.counts();
    let mut outcome = Outcome {
        seed,
        operations,
        simulated,
        strikes,
        trace_hash: world.trace_hash(),
        failure: None,
        world_log: world.log(),
    };
    let leaked = world.end().err();
    outcome.failure = witness.violation().map(Failure::from).or_else(|| {
        Some(Failure {
            invariant: "nothing_is_left",
            text: format!("after the run there are still {}", leaked?),
            history: Vec::new(),
        })
    });
    outcome
}

struct Run<'a> {
    world: &'a SimWorld,
    plan: Arc<ClusterPlan>,
    witness: Arc<ClusterWitness>,
}

impl Run<'_> {
    async fn play(&self) {
        self.world.set_schedule(self.plan.schedule);
        self.world.net().set_plan(self.plan.link);
        // The nodes have the first addresses.
        for node in 0..self.plan.nodes {
            let _address = self.world.address(&host(node));
        }
        let machines = Machines::new(self.world, &self.plan, &self.witness);
        let observer = Observer {
            world: self.world,
            machines: &machines,
            plan: Arc::clone(&self.plan),
            witness: Arc::clone(&self.witness),
        };
        tokio::select! {
            biased;
            ended = timeout(RUN_MAX, self.script(&observer)) => if ended.is_err() {
                let text = format!("the run has not ended in {RUN_MAX:?}");
                self.witness.accuse(Actor::Reader, "progress", text);
            },
            () = machines.keep_alive() => {}
            () = observer.run() => {}
        }
    }

    async fn script(&self, observer: &Observer<'_>) {
        let (settle, settled) = watch::channel(false);
        let (plan, witness) = (Arc::clone(&self.plan), Arc::clone(&self.witness));
        let nemesis = Nemesis::new(self.world, observer.machines, plan, witness);
        let mut operator = self.client(Actor::Reader, &settled);
        let forming = async {
            admin::create_topics(&mut operator).await;
            self.start_clients(&settled)
        };
        let clients = if self.plan.strikes_early {
            let (clients, ()) = tokio::join!(forming, nemesis.run());
            nemesis.heal();
            Some(clients)
        } else {
            let formed = timeout(FORM_MAX, forming).await.ok();
            if formed.is_some() {
                nemesis.run().await;
                nemesis.heal();
            }
            formed
        };
        let Some(clients) = clients else {
            let text = format!("no cluster, or no topics, in {FORM_MAX:?} without a fault");
            return self.witness.accuse(Actor::Reader, "progress", text);
        };
        if !converge::whole(observer, &mut operator).await {
            return;
        }
        settle.send_replace(true);
        if timeout(
            SETTLE_MAX,
            self.rest(observer, &mut operator, clients, &settled),
        )
        .await
        .is_err()
        {
            let text = format!("clients are not done in {SETTLE_MAX:?}");
            return self.witness.accuse(Actor::Reader, "progress", text);
        }
        self.witness.note(Actor::Nemesis, "cuts all power");
        for (_, machine) in observer.machines.all() {
            machine.end(End::PowerCut);
        }
        if converge::whole(observer, &mut operator).await
            && timeout(SETTLE_MAX, converge::read_all(observer, &mut operator))
                .await
                .is_err()
        {
            let text = format!("not everything is read in {SETTLE_MAX:?} after a power cut");
            self.witness.accuse(Actor::Reader, "progress", text);
        }
    }

    async fn rest(
        &self,
        observer: &Observer<'_>,
        reader: &mut ClusterClient,
        clients: Vec<watch::Receiver<bool>>,
        settled: &watch::Receiver<bool>,
    ) {
        for mut client in clients {
            // An error means that the client has ended.
            let _ = client.wait_for(|has_ended| *has_ended).await;
        }
        self.witness.note(Actor::Reader, "all clients are done");
        let plan = ClusterProducer {
            is_idempotent: true,
            acks: -1,
            records_max: 2,
            value_max: 10,
            pause_max: Duration::ZERO,
            partitions: self.plan.partitions().collect(),
        };
        let writer = self.client(Actor::Producer(self.plan.producers.len()), settled);
        converge::write_all(observer, Producer::new(writer, plan)).await;
        converge::read_all(observer, reader).await;
    }

    /// Starts every client; what tells that they have ended.
    fn start_clients(&self, settled: &watch::Receiver<bool>) -> Vec<watch::Receiver<bool>> {
        let mut actors: Vec<_> = (0..self.plan.producers.len())
            .map(Actor::Producer)
            .collect();
        actors.extend((0..self.plan.consumers).map(Actor::Consumer));
        actors.extend((0..self.plan.groups).map(Actor::Committer));
        actors.extend(self.plan.has_busy_admin.then_some(Actor::Admin));
        let ends = actors.into_iter().map(|actor| {
            let client = self.client(actor, settled);
            let (env, plan) = (client.env.clone(), Arc::clone(&self.plan));
            let (ended, has_ended) = watch::channel(false);
            let task = async move {
                match actor {
                    Actor::Producer(number) => {
                        let plan = plan.producers[number].clone();
                        Producer::new(client, plan).run().await;
                    }
                    Actor::Consumer(_) => consumer::run(client).await,
                    Actor::Committer(group) => committer::run(client, group).await,
                    _ => admin::run(client).await,
                }
                ended.send_replace(true);
            };
            env.spawn.spawn(Lane::Data, "client", Box::pin(task));
            has_ended
        });
        ends.collect()
    }

    fn client(&self, actor: Actor, settled: &watch::Receiver<bool>) -> ClusterClient {
        let name = actor.to_string();
        let world = (self.world.node(&name), self.world.rng(&name));
        let (plan, witness) = (Arc::clone(&self.plan), Arc::clone(&self.witness));
        ClusterClient::new(actor, world, plan, witness, settled.clone())
    }
}
