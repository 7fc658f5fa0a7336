//! The node under test: one machine, and the processes that live on it one after the other.
//!
//! Input: the plan; orders to stop. Output: a broker that is started again whenever it ends, as a
//! service manager would; an event for each start and each end.
//!
//! Invariants:
//! - the broker runs as a task of its process, so that a kill ends it in the middle of anything;
//! - how the node ended is told after it ended and before it starts again: what clients heard in
//!   between counts as heard before.
//!
//! Source: none.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_broker::Broker;
use skein_config::{BrokerConfig, Layers};
use skein_env::sim::{SimRng, SimWorld};
use skein_env::{Env, Lane};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::compacted;
use crate::event::{End, Event};
use crate::history::Actor;
use crate::plan::Plan;
use crate::witness::Witness;

/// Name of the node's host.
pub(crate) const NODE: &str = "node";

/// The port of its listener.
pub(crate) const PORT: u16 = 9092;

/// Its log directory.
pub(crate) const LOG_DIR: &str = "/data";

/// The file that says that all logs were flushed.
const CLEAN_MARKER: &str = "/data/.kafka_cleanshutdown";

/// The machine and its present process.
pub(crate) struct Node<'a> {
    world: &'a SimWorld,
    witness: Arc<Witness>,
    config: Arc<BrokerConfig>,
    restart_max: Duration,
    state: Mutex<NodeState>,
    is_serving: watch::Sender<bool>,
}

struct NodeState {
    rng: SimRng,
    /// How the process will end, if it ends by itself.
    expected: End,
    /// How the last process ended.
    last: End,
    stop: Option<oneshot::Sender<()>>,
    /// Whether a process is to run.
    is_wanted: bool,
    /// Whether nothing hinders a start.
    must_start: bool,
    /// Whether this process has met a fault that may yet end it.
    is_spoilt: bool,
}

/// What a process tells of itself.
enum Report {
    Serving,
    Stopped,
    Failed(String),
}

impl<'a> Node<'a> {
    /// The machine, switched off.
    pub(crate) fn new(world: &'a SimWorld, plan: &Plan, witness: Arc<Witness>) -> Self {
        let state = NodeState {
            rng: world.rng("node"),
            expected: End::Kill,
            last: End::Kill,
            stop: None,
            is_wanted: true,
            must_start: true,
            is_spoilt: false,
        };
        Self {
            world,
            witness,
            config: Arc::new(config(world, plan)),
            restart_max: plan.faults.restart_max,
            state: Mutex::new(state),
            is_serving: watch::channel(false).0,
        }
    }

    /// Keeps a broker running for ever.
    pub(crate) async fn keep_alive(&self) {
        loop {
            if !self.state.lock().is_wanted {
                sleep(Duration::from_millis(1)).await;
                continue;
            }
            self.live().await;
            let pause = {
                let most = u64::try_from(self.restart_max.as_micros()).unwrap_or(u64::MAX);
                Duration::from_micros(self.state.lock().rng.between(1, most.max(1)))
            };
            sleep(pause).await;
        }
    }

    /// Says how the process will end if a fault ends it.
    pub(crate) fn expect(&self, end: End) {
        self.state.lock().expected = end;
    }

    /// Says whether a start must succeed from now on.
    pub(crate) fn must_start(&self, must_start: bool) {
        self.state.lock().must_start = must_start;
    }

    /// Lets the process live on with the faults that it has met: what they cost it may come late.
    pub(crate) fn spare(&self) {
        self.state.lock().is_spoilt = true;
    }

    /// Ends the process, if one lives; the power of the machine also if none does.
    pub(crate) fn end(&self, end: End) {
        if !self.world.is_alive(NODE) {
            if end == End::PowerCut {
                self.cut_idle();
                self.tell(Event::Ended(end));
            }
            return;
        }
        self.expect(end);
        match end {
            End::PowerCut => self.world.power_cut(NODE),
            End::Kill | End::Clean => self.world.kill(NODE),
        }
    }

    /// Asks the process to stop, as an operator does.
    pub(crate) fn stop(&self) {
        if let Some(stop) = self.state.lock().stop.take() {
            // The process may have ended by itself.
            let _ = stop.send(());
        }
    }

    /// Stops the process and starts no other; returns how it has ended.
    pub(crate) async fn shut_down(&self) -> End {
        self.state.lock().is_wanted = false;
        self.stop();
        self.ended().await
    }

    /// Kills the process and starts no other; returns when it has ended.
    pub(crate) async fn kill_for_good(&self) {
        self.state.lock().is_wanted = false;
        self.end(End::Kill);
        self.ended().await;
    }

    /// Cuts the power of the machine while it is idle.
    pub(crate) fn cut_idle(&self) {
        let _idle = self.world.node(NODE);
        self.world.power_cut(NODE);
        self.check_files();
    }

    fn check_files(&self) {
        if let Err(text) = compacted::check(self.world) {
            self.witness
                .accuse(Actor::Node, "last_values_stay", None, text);
        }
    }

    async fn ended(&self) -> End {
        let mut is_serving = self.is_serving.subscribe();
        // The sender lives as long as the node.
        let _ = is_serving.wait_for(|is_serving| !*is_serving).await;
        self.state.lock().last
    }

    /// Starts processes again.
    pub(crate) fn power_up(&self) {
        self.state.lock().is_wanted = true;
    }

    /// Waits until the node serves.
    pub(crate) async fn serving(&self) {
        let mut is_serving = self.is_serving.subscribe();
        // The sender lives as long as the node.
        let _ = is_serving.wait_for(|is_serving| *is_serving).await;
    }

    /// One life of a process.
    async fn live(&self) {
        let env = self.world.node(NODE);
        self.tell(Event::Starting);
        let (stop, stopped) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.stop = Some(stop);
            state.is_spoilt = false;
        }
        let (reports, mut heard) = mpsc::unbounded_channel();
        let process = process(env.clone(), Arc::clone(&self.config), stopped, reports);
        env.spawn.spawn(Lane::Control, "node", Box::pin(process));
        let mut end = None;
        while let Some(report) = heard.recv().await {
            match report {
                Report::Serving => {
                    self.tell(Event::Serving);
                    self.is_serving.send_replace(true);
                }
                Report::Stopped => {
                    let is_clean = env.disk.stat(Path::new(CLEAN_MARKER)).is_ok();
                    end = Some(if is_clean { End::Clean } else { End::Kill });
                }
                Report::Failed(reason) => {
                    end = Some(End::Kill);
                    self.failed(&reason);
                }
            }
        }
        // A stopped process ends, too; one that a fault ended has ended as the fault wanted.
        let end = match end {
            Some(end) if self.world.is_alive(NODE) => end,
            // What was expected has come; otherwise it may still come.
            _ => std::mem::replace(&mut self.state.lock().expected, End::Kill),
        };
        self.world.kill(NODE);
        self.state.lock().last = end;
        self.tell(Event::Ended(end));
        self.check_files();
        self.is_serving.send_replace(false);
    }

    fn failed(&self, reason: &str) {
        self.tell(Event::Note(format!("fails: {reason}")));
        let is_excused = {
            let state = self.state.lock();
            state.is_spoilt || !state.must_start
        };
        if !is_excused && self.world.is_alive(NODE) {
            let text = format!("nothing is wrong with the machine, but the node fails: {reason}");
            self.witness.accuse(Actor::Node, "node_serves", None, text);
        }
    }

    fn tell(&self, event: Event) {
        self.witness.tell(Actor::Node, event);
    }
}

/// What runs on the machine.
async fn process(
    env: Env,
    config: Arc<BrokerConfig>,
    stopped: oneshot::Receiver<()>,
    reports: mpsc::UnboundedSender<Report>,
) {
    // The node hears until all that is here has ended.
    let tell = |report| drop(reports.send(report));
    let broker = match Broker::start(env, config, None).await {
        Ok(broker) => broker,
        Err(error) => return tell(Report::Failed(error.to_string())),
    };
    tell(Report::Serving);
    tokio::select! {
        biased;
        reason = broker.failed() => tell(Report::Failed(reason)),
        _ = stopped => {
            broker.stop().await;
            tell(Report::Stopped);
        }
    }
}

fn config(world: &SimWorld, plan: &Plan) -> BrokerConfig {
    let address = world.address(NODE);
    let mut layers = Layers::new()
        .set(&format!("listeners=PLAINTEXT://{address}:{PORT}"))
        .set(&format!("log.dirs={LOG_DIR}"))
        .set("auto.create.topics.enable=true");
    for (key, value) in &plan.broker {
        layers = layers.set(&format!("{key}={value}"));
    }
    match layers.build() {
        Ok((config, _)) => config,
        Err(errors) => panic!("the plan's configuration is wrong: {errors:?}"),
    }
}
