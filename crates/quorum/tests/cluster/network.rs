//! Several members on one thread, and the network between them.
//!
//! Input: a seed, names of nodes. Output: their controllers; faults: cuts, loss, delay, crashes,
//! wiped disks.
//!
//! Invariant: a node that is dead or cut off neither hears nor answers; what was lost on the way
//! back was served all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skein_config::Layers;
use skein_controller::{DiskState, RegisterBroker};
use skein_env::sim::{SimRng, SimWorld};
use skein_env::{BoxFuture, Env, Lane};
use skein_metadata::{Endpoint, encode_snapshot};
use skein_quorum::{
    AuditLog, Controller, FormationStatus, PeerAnswers, PeerTransport, QuorumError, QuorumOptions,
    QuorumPeers, Refusal,
};
use skein_types::{BrokerEpoch, BrokerId, ClusterId, Uuid};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Where each node has its metadata.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from("/data/metadata")
}

/// The address of a node in peer lists.
pub(crate) fn address(name: &str) -> String {
    format!("{name}:9192")
}

/// What happens to messages.
#[derive(Default)]
struct Faults {
    cuts: BTreeSet<(String, String)>,
    /// Of a thousand messages.
    lost: u64,
    delay_max: Duration,
}

struct Network {
    nodes: Mutex<BTreeMap<String, (Env, PeerAnswers)>>,
    faults: Mutex<Faults>,
    rng: Mutex<SimRng>,
}

struct Transport {
    network: Arc<Network>,
    from: String,
}

impl Network {
    /// Carries a message; `false` if it is lost.
    async fn carry(&self, from: &str, to: &str) -> bool {
        let (is_lost, delay) = {
            let faults = self.faults.lock();
            let is_cut = faults.cuts.contains(&(from.to_owned(), to.to_owned()));
            let is_lost = is_cut || self.rng.lock().next_u64() % 1000 < faults.lost;
            let micros = u64::try_from(faults.delay_max.as_micros()).unwrap();
            (
                is_lost,
                Duration::from_micros(self.rng.lock().next_u64() % (micros + 1)),
            )
        };
        tokio::time::sleep(delay).await;
        !is_lost
    }
}

impl PeerTransport for Transport {
    fn call<'a>(
        &'a self,
        address: &'a str,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, io::Result<Bytes>> {
        Box::pin(async move {
            let (to, _) = address.split_once(':').unwrap();
            let lost = async {
                tokio::time::sleep(timeout).await;
                Err(io::ErrorKind::TimedOut.into())
            };
            if !self.network.carry(&self.from, to).await {
                return lost.await;
            }
            let Some((env, answers)) = self.network.nodes.lock().get(to).cloned() else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let (answer, answered) = oneshot::channel();
            let serving = async move {
                let _ = answer.send(answers.answer(request).await);
            };
            env.spawn.spawn(Lane::Data, "peer", Box::pin(serving));
            match tokio::time::timeout(timeout, answered).await {
                Ok(Ok(answer)) if self.network.carry(to, &self.from).await => Ok(answer),
                Ok(Err(_)) => Err(io::ErrorKind::ConnectionReset.into()),
                Ok(Ok(_)) => lost.await,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

type Started = Arc<Mutex<BTreeMap<String, Result<Controller, QuorumError>>>>;

/// Nodes, and what they have become.
pub(crate) struct Cluster {
    pub(crate) world: SimWorld,
    network: Arc<Network>,
    started: Started,
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let world = SimWorld::new(seed);
        let network = Network {
            nodes: Mutex::default(),
            faults: Mutex::default(),
            rng: Mutex::new(world.rng("network")),
        };
        network.faults.lock().delay_max = Duration::from_millis(1);
        Self {
            world,
            network: Arc::new(network),
            started: Started::default(),
        }
    }

    /// Starts a node with this peer list; what becomes of it is seen later.
    pub(crate) fn start(&self, name: &str, list: &[&str]) {
        let env = self.world.node(name);
        let answers = PeerAnswers::new();
        let here = (env.clone(), answers.clone());
        self.network.nodes.lock().insert(name.to_owned(), here);
        let peers = self.peers(name, answers);
        // It compares its hash with the whole image, entry by entry. On a dead disk there is none.
        let audit = AuditLog::open(&env, Path::new("/audit")).ok();
        let options = QuorumOptions {
            audit,
            ..options(list)
        };
        let starting = Controller::start_with_peers(env.clone(), options, peers);
        let (name, started) = (name.to_owned(), Arc::clone(&self.started));
        let task = async move {
            let result = starting.await;
            let is_homeless = |started: &Controller| started.address().is_none();
            assert!(
                !result.as_ref().is_ok_and(is_homeless),
                "{name} has started before anybody can reach it"
            );
            started.lock().insert(name, result);
        };
        env.spawn.spawn(Lane::Control, "start", Box::pin(task));
    }

    pub(crate) fn peers(&self, name: &str, answers: PeerAnswers) -> QuorumPeers {
        let transport = Transport {
            network: Arc::clone(&self.network),
            from: name.to_owned(),
        };
        QuorumPeers {
            transport: Arc::new(transport),
            answers,
            address: address(name),
        }
    }

    pub(crate) fn start_all(&self, names: &[&str]) {
        for name in names {
            self.start(name, names);
        }
    }

    fn forget(&self, name: &str) {
        self.network.nodes.lock().remove(name);
        self.started.lock().remove(name);
    }

    pub(crate) fn kill(&self, name: &str) {
        self.world.kill(name);
        self.forget(name);
    }

    pub(crate) fn power_cut(&self, name: &str) {
        self.world.power_cut(name);
        self.forget(name);
    }

    /// Kills a node and empties its directory.
    pub(crate) fn wipe(&self, name: &str) {
        self.kill(name);
        let disk = self.world.node(name).disk;
        for file in self.world.disk(name).names_in(&directory()) {
            disk.remove_file(&directory().join(file)).unwrap();
        }
        // It may not have been made yet.
        let _ = disk.sync_directory(&directory());
        self.world.kill(name);
    }

    /// Lets no message pass between the node and all others, or in one direction only.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        let mut faults = self.network.faults.lock();
        faults.cuts.insert((from.to_owned(), to.to_owned()));
    }

    pub(crate) fn isolate(&self, name: &str, others: &[&str]) {
        for other in others.iter().filter(|other| **other != name) {
            self.cut(name, other);
            self.cut(other, name);
        }
    }

    pub(crate) fn disturb(&self, lost: u64, delay_max: Duration) {
        let mut faults = self.network.faults.lock();
        (faults.lost, faults.delay_max) = (lost, delay_max);
    }

    pub(crate) fn heal(&self) {
        let mut faults = self.network.faults.lock();
        faults.cuts.clear();
        (faults.lost, faults.delay_max) = (0, Duration::from_millis(1));
    }

    /// The node's controller, once it has started.
    pub(crate) fn controller(&self, name: &str) -> Option<Controller> {
        let started = self.started.lock();
        match started.get(name)? {
            Ok(controller) => Some(controller.clone()),
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// Waits until the start of a node has come to nothing: why.
    pub(crate) async fn ended(&self, name: &str, patience: Duration) -> QuorumError {
        let begun = Instant::now();
        loop {
            let has_ended = matches!(self.started.lock().get(name), Some(Err(_)));
            if has_ended && let Some(Err(error)) = self.started.lock().remove(name) {
                return error;
            }
            assert!(begun.elapsed() < patience, "{name} goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn status(&self, name: &str) -> FormationStatus {
        let nodes = self.network.nodes.lock();
        nodes[name].1.formation_status().borrow().clone()
    }

    pub(crate) async fn answer(&self, name: &str, request: Bytes) -> Bytes {
        let answers = self.network.nodes.lock()[name].1.clone();
        answers.answer(request).await
    }

    /// Waits until all of them have started; says how long it took.
    pub(crate) async fn started(&self, names: &[&str], patience: Duration) -> Vec<Controller> {
        let begun = Instant::now();
        loop {
            let up = names.iter().filter_map(|name| self.controller(name));
            let up: Vec<_> = up.collect();
            if up.len() == names.len() {
                return up;
            }
            if begun.elapsed() > patience {
                let states = names
                    .iter()
                    .map(|name| format!("{name}: {}", self.status(name)));
                panic!("not started: {:?}", states.collect::<Vec<_>>());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until one of them leads and has all of the others behind it.
    pub(crate) async fn leader(&self, names: &[&str], patience: Duration) -> String {
        let begun = Instant::now();
        loop {
            let controllers = names
                .iter()
                .filter_map(|name| Some((name, self.controller(name)?)));
            let controllers: Vec<_> = controllers.collect();
            let leading = controllers.iter().find(|(_, c)| c.is_controller());
            if let Some((name, controller)) = leading {
                let term = controller.status().term;
                let follows = |other: &Controller| {
                    other.leader().is_some_and(|leader| {
                        leader.raft_id == controller.raft_id() && leader.term == term
                    })
                };
                if controllers.iter().all(|(_, other)| follows(other)) {
                    return (**name).to_owned();
                }
            }
            assert!(
                begun.elapsed() < patience,
                "no leader of {names:?} in {patience:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the images of all are the same, byte for byte.
    pub(crate) async fn same_images(&self, names: &[&str], patience: Duration) -> Vec<u8> {
        let begun = Instant::now();
        loop {
            let images = names
                .iter()
                .map(|name| self.controller(name).unwrap().image());
            let images: Vec<_> = images
                .map(|image| encode_snapshot(&image).unwrap())
                .collect();
            if images.windows(2).all(|pair| pair[0] == pair[1]) {
                return images[0].clone();
            }
            let statuses = names
                .iter()
                .map(|name| self.controller(name).unwrap().status());
            assert!(
                begun.elapsed() < patience,
                "the images differ after {patience:?}: {:#?}",
                statuses.collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the controller counts these voters, by name.
    pub(crate) async fn voters(&self, names: &[&str], all: &[&str], patience: Duration) {
        let ids = |names: &[&str]| -> BTreeSet<u64> {
            let controllers = names.iter().map(|name| self.controller(name).unwrap());
            controllers.map(|controller| controller.raft_id()).collect()
        };
        let begun = Instant::now();
        loop {
            let expected = ids(names);
            let agree = |name: &&str| {
                let status = self.controller(name).unwrap().status();
                status.voters.into_iter().collect::<BTreeSet<_>>() == expected
            };
            if all.iter().all(agree) {
                return;
            }
            assert!(begun.elapsed() < patience, "other voters than {names:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn options(list: &[&str]) -> QuorumOptions {
    let list: Vec<_> = list.iter().map(|name| address(name)).collect();
    let settings = match list.is_empty() {
        true => Layers::new(),
        false => Layers::new().set(&format!("cluster.peers={}", list.join(","))),
    };
    QuorumOptions {
        directory: directory(),
        config: Arc::new(settings.build().unwrap().0),
        features: vec![("skein.version".into(), 1)],
        audit: None,
    }
}

/// The id of the cluster that all of these belong to.
pub(crate) fn one_cluster(controllers: &[Controller]) -> ClusterId {
    let id = controllers[0].cluster_id();
    for controller in controllers {
        assert_eq!(controller.cluster_id(), id);
        assert_eq!(controller.image().cluster_id(), Some(id));
    }
    id
}

/// A decision that leaves a trace in the image.
pub(crate) async fn register(controller: &Controller, id: i32) -> Result<BrokerEpoch, Refusal> {
    let request = RegisterBroker {
        broker_id: Some(BrokerId(id)),
        cluster_id: Some(controller.cluster_id()),
        incarnation: Uuid([u8::try_from(id % 251).unwrap(); 16]),
        raft_id: 1_000_000 + u64::try_from(id).unwrap(),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".into(),
            host: format!("h{id}"),
            port: 9092,
            security_protocol: 0,
        }],
        rack: None,
        previous_epoch: BrokerEpoch::NONE,
        disk: DiskState::Unclean,
        ready: true,
    };
    Ok(controller.propose(request).await?.broker_epoch)
}

pub(crate) fn has_broker(controller: &Controller, id: i32) -> bool {
    controller.image().broker(BrokerId(id)).is_some()
}

/// The names of the files in a node's metadata directory, for tests that take one away.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(&directory()).join(name)
}
