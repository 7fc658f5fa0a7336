//! One node of the cluster: a machine, and the processes that live on it one after the other.
//!
//! Input: a configuration; orders to stop, and to stay down. Output: a broker that is started again
//! whenever it ends; an event for each start and each end.
//!
//! Invariant: how a node ended is told before it starts again.
//!
//! Source: as `crate::node`, which has one.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_broker::{Broker, Inspector};
use skein_config::{BrokerConfig, ClusterSecret, SecretFile};
use skein_env::sim::{SimRng, SimWorld};
use skein_env::{Env, Lane};
use skein_types::ClusterId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::event::ClusterEvent;
use super::host;
use super::logs::LogOf;
use super::witness::ClusterWitness;
use crate::event::End;
use crate::history::Actor;

/// The secret of every cluster.
const SECRET: &[u8] = b"sixteen bytes or more";

/// How long a machine that is to stay down looks whether it may start.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The machine and its present process.
pub(crate) struct Machine<'a> {
    world: &'a SimWorld,
    witness: Arc<ClusterWitness>,
    node: usize,
    config: Arc<BrokerConfig>,
    state: Mutex<State>,
}

struct State {
    rng: SimRng,
    /// How the process will end, if a fault ends it.
    expected: End,
    stop: Option<oneshot::Sender<()>>,
    /// Whether a process is to run.
    is_wanted: bool,
    /// Of the process that serves.
    inspector: Option<Inspector>,
    /// The machine has lost files: its next start may fail.
    is_spoilt: bool,
}

/// What a process tells of itself.
enum Report {
    Serving(ClusterId, Inspector),
    Stopped,
    Failed(String),
}

impl<'a> Machine<'a> {
    /// The machine, switched off.
    pub(crate) fn new(
        world: &'a SimWorld,
        node: usize,
        config: BrokerConfig,
        witness: Arc<ClusterWitness>,
    ) -> Self {
        let state = State {
            rng: world.rng(&host(node)),
            expected: End::Kill,
            stop: None,
            is_wanted: true,
            inspector: None,
            is_spoilt: false,
        };
        Self {
            world,
            witness,
            node,
            config: Arc::new(config),
            state: Mutex::new(state),
        }
    }

    /// Keeps a broker running for ever, or for as long as one is wanted.
    pub(crate) async fn keep_alive(&self) {
        loop {
            let pause = self.state.lock().rng.between(1, 50);
            sleep(Duration::from_millis(pause)).await;
            if self.state.lock().is_wanted {
                self.live().await;
            } else {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Says whether a process is to run.
    pub(crate) fn want(&self, is_wanted: bool) {
        self.state.lock().is_wanted = is_wanted;
    }

    /// Ends the process, if one lives; the power of the machine also if none does.
    pub(crate) fn end(&self, end: End) {
        let host = host(self.node);
        let is_alive = self.world.is_alive(&host);
        if is_alive {
            self.state.lock().expected = end;
        } else if end == End::PowerCut {
            // An idle machine.
            let _idle = self.world.node(&host);
        } else {
            return;
        }
        match end {
            End::PowerCut => self.world.power_cut(&host),
            End::Kill | End::Clean => self.world.kill(&host),
        }
        self.state.lock().inspector = None;
        if end == End::PowerCut {
            self.tell_what_survived();
        }
        if !is_alive {
            self.tell(ClusterEvent::Ended {
                node: self.node,
                end,
            });
        }
    }

    /// Looks what the disk kept, before anything is recovered from it.
    fn tell_what_survived(&self) {
        let (node, witness) = (self.node, Arc::clone(&self.witness));
        for partition in witness.plan().partitions() {
            let (topic, index) = witness.plan().place(partition);
            let name = format!("{}-{index}", topic.name);
            if let Some(end) = LogOf::end_of(self.world, node, &name) {
                self.tell(ClusterEvent::Survived {
                    node,
                    partition,
                    end,
                });
            }
        }
    }

    /// Asks the process to stop, as an operator does.
    pub(crate) fn stop(&self) {
        if let Some(stop) = self.state.lock().stop.take() {
            // The process may have ended by itself.
            let _ = stop.send(());
        }
    }

    /// Takes files from a machine without a process.
    pub(crate) fn lose(&self, paths: &[&str]) {
        let host = host(self.node);
        let env = self.world.node(&host);
        for path in paths {
            remove(&env, std::path::Path::new(path));
        }
        self.state.lock().is_spoilt = true;
        self.world.kill(&host);
    }

    /// A look into the process that serves.
    pub(crate) fn inspector(&self) -> Option<Inspector> {
        let inspector = self.state.lock().inspector.clone();
        inspector.filter(|_| self.world.is_alive(&host(self.node)))
    }

    /// One life of a process.
    async fn live(&self) {
        let host = host(self.node);
        let env = self.world.node(&host);
        self.tell(ClusterEvent::Starting { node: self.node });
        let (stop, stopped) = oneshot::channel();
        self.state.lock().stop = Some(stop);
        let (reports, mut heard) = mpsc::unbounded_channel();
        let process = process(env.clone(), Arc::clone(&self.config), stopped, reports);
        env.spawn.spawn(Lane::Control, "node", Box::pin(process));
        let mut end = None;
        while let Some(report) = heard.recv().await {
            match report {
                Report::Serving(cluster_id, inspector) => {
                    let node = self.node;
                    self.tell(ClusterEvent::Serving { node, cluster_id });
                    let mut state = self.state.lock();
                    state.inspector = Some(inspector);
                    state.is_spoilt = false;
                }
                Report::Stopped => end = Some(End::Clean),
                Report::Failed(reason) => {
                    end = Some(End::Kill);
                    self.failed(&reason);
                }
            }
        }
        let is_alive = self.world.is_alive(&host);
        let expected = std::mem::replace(&mut self.state.lock().expected, End::Kill);
        let end = end.filter(|_| is_alive).unwrap_or(expected);
        self.world.kill(&host);
        self.state.lock().inspector = None;
        self.tell(ClusterEvent::Ended {
            node: self.node,
            end,
        });
    }

    fn failed(&self, reason: &str) {
        self.witness
            .note(Actor::Node, format!("{} fails: {reason}", host(self.node)));
        let is_spoilt = self.state.lock().is_spoilt;
        if !is_spoilt && self.world.is_alive(&host(self.node)) {
            let text = format!("nothing is wrong with the machine, but the node fails: {reason}");
            self.witness.accuse(Actor::Node, "node_serves", text);
        }
    }

    fn tell(&self, event: ClusterEvent) {
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
    let tell = |report| drop(reports.send(report));
    let secret = config.node.cluster_secret_file.as_ref().map(|path| {
        let file = SecretFile {
            bytes: SECRET.to_vec(),
            mode: 0o600,
        };
        ClusterSecret::from_file(path, Ok(file))
    });
    let secret = match secret.transpose() {
        Ok(secret) => secret,
        Err(error) => return tell(Report::Failed(error.to_string())),
    };
    let mut stopped = stopped;
    let starting = Broker::start(env, config, secret);
    let started = tokio::select! {
        biased;
        // An operator who does not want to wait for its peers.
        _ = &mut stopped => return tell(Report::Stopped),
        started = starting => started,
    };
    let broker = match started {
        Ok(broker) => broker,
        Err(error) => return tell(Report::Failed(error.to_string())),
    };
    tell(Report::Serving(broker.cluster_id(), broker.inspector()));
    tokio::select! {
        biased;
        reason = broker.failed() => tell(Report::Failed(reason)),
        _ = stopped => {
            broker.stop().await;
            tell(Report::Stopped);
        }
    }
}

/// Removes a file, or a directory with all that is in it.
fn remove(env: &Env, path: &std::path::Path) {
    if let Ok(entries) = env.disk.read_directory(path) {
        for (name, _) in entries {
            remove(env, &path.join(name));
        }
        // It may be a file, or the root.
        let _ = env.disk.remove_directory(path);
    } else {
        let _ = env.disk.remove_file(path);
    }
    if let Some(parent) = path.parent() {
        let _ = env.disk.sync_directory(parent);
    }
}
