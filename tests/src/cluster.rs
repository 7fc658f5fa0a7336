//! Several nodes of Skein, or of Kafka to compare, that are one cluster, started as a user starts
//! them.
//!
//! Input: how many, settings. Output: processes on free loopback ports that know of each other, by
//! the same list.
//!
//! Invariant: whatever a test waits for has a limit, and a failure shows what each node printed.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::node::{Ports, free_ports, kafka};
use crate::wire::{Connection, SeenCluster};
use crate::{Node, Settings, System};

/// A busy machine needs some seconds; nothing needs this.
const FACT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Nodes with one list of peers.
pub struct Cluster {
    /// In the order of the list.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Nodes that have directories and ports, and do not run yet.
    #[must_use]
    pub fn prepare(count: usize, settings: Settings<'_>) -> Self {
        Self::prepare_of(System::Skein, &std::env::temp_dir(), count, settings)
    }

    /// As [`Cluster::prepare`], of either system, with the nodes' directories below `parent`.
    #[must_use]
    pub fn prepare_of(system: System, parent: &Path, count: usize, settings: Settings<'_>) -> Self {
        let ports: Vec<_> = (0..count).map(|_| free_ports()).collect();
        let prepare = |(number, own): (usize, &Ports)| {
            let membership = match system {
                System::Skein => peer_list(&ports),
                System::Kafka => kafka::membership(&ports, number),
            };
            let membership = membership.iter().map(|(key, value)| (*key, value.as_str()));
            let settings: Vec<_> = membership.chain(settings.iter().copied()).collect();
            Node::prepare_at(*own, parent, system, &settings)
        };
        let nodes = ports.iter().enumerate().map(prepare).collect();
        Self { nodes }
    }

    /// Starts nodes on empty directories and waits until they are one cluster.
    #[must_use]
    pub fn start(count: usize, settings: Settings<'_>) -> Self {
        let mut cluster = Self::prepare(count, settings);
        cluster.start_again();
        cluster
    }

    /// Starts all nodes, none of which runs, and waits until they are one cluster.
    pub fn start_again(&mut self) {
        self.nodes.iter_mut().for_each(Node::launch);
        self.wait_until_whole();
    }

    /// Stops all nodes in turn, each as an operator does.
    ///
    /// # Panics
    ///
    /// When one does not end as it should.
    pub fn stop(&mut self) {
        for node in &mut self.nodes {
            let (status, _) = node.stop();
            assert!(status.success(), "{status}{}", node.log_tail());
        }
    }

    /// Waits until each running node tells of all running nodes as brokers, and returns what they
    /// all say.
    ///
    /// # Panics
    ///
    /// When that is not so for a long time.
    pub fn wait_until_whole(&self) -> SeenCluster {
        let running: Vec<_> = self.nodes.iter().filter(|node| node.is_alive()).collect();
        let ports: BTreeSet<i32> = running
            .iter()
            .map(|node| i32::from(node.ports().client))
            .collect();
        let first = running.first().expect("a node that runs");
        self.until("all tell of all brokers", || {
            let seen = see(first)?;
            let told: BTreeSet<i32> = seen.brokers.values().copied().collect();
            let is_whole =
                told == ports && running.iter().all(|node| see(node).as_ref() == Some(&seen));
            is_whole.then_some(seen)
        })
    }

    /// Waits until every partition has all its replicas in sync, as the first node that runs sees
    /// it.
    ///
    /// # Panics
    ///
    /// When that is not so for a long time.
    pub fn wait_until_in_sync(&self) {
        self.wait_until_whole();
        let node = self.nodes.iter().find(|node| node.is_alive());
        let node = node.expect("a node that runs");
        self.until("all replicas are in sync", || {
            let partitions = open(node)?.partitions().ok()?;
            partitions.iter().all(|one| one.is_whole).then_some(())
        });
    }

    /// The number of the node that leads a partition, waited for, as any node that runs knows it.
    ///
    /// # Panics
    ///
    /// When nobody does for a long time.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> usize {
        self.until("a partition has a leader", || {
            let asked = self.nodes.iter().find(|node| node.is_alive())?;
            let partitions = open(asked)?.partitions().ok()?;
            let found = partitions
                .iter()
                .find(|found| (found.topic.as_str(), found.partition) == (topic, partition))?;
            let port = *see(asked)?.brokers.get(&found.leader)?;
            self.at(port)
        })
    }

    /// The number of the node with this port for clients.
    fn at(&self, port: i32) -> Option<usize> {
        let is_it = |node: &Node| i32::from(node.ports().client) == port;
        self.nodes.iter().position(is_it)
    }

    /// The number of the node that is the controller, waited for, as the node `asked` knows it.
    ///
    /// # Panics
    ///
    /// When there is none for a long time.
    #[must_use]
    pub fn controller(&self, asked: usize) -> usize {
        self.until("a controller is known", || {
            let mut connection = open(&self.nodes[asked])?;
            let id = connection.controller().ok()??;
            let port = *see(&self.nodes[asked])?.brokers.get(&id)?;
            self.at(port)
        })
    }

    /// Waits for something that comes about in its own time.
    ///
    /// # Panics
    ///
    /// When it does not, with the logs of all nodes.
    pub fn until<T>(&self, what: &str, find: impl Fn() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = find() {
                return found;
            }
            assert!(
                started.elapsed() < FACT_TIMEOUT,
                "not within {FACT_TIMEOUT:?}: {what}{}",
                self.log_tails()
            );
            sleep(POLL_INTERVAL);
        }
    }

    /// The ends of all logs.
    #[must_use]
    pub fn log_tails(&self) -> String {
        self.nodes.iter().map(Node::log_tail).collect()
    }
}

/// What makes nodes of Skein one cluster.
fn peer_list(ports: &[Ports]) -> Vec<(&'static str, String)> {
    let peers: Vec<_> = ports.iter().map(|ports| address(ports.peer)).collect();
    vec![("cluster.peers", peers.join(","))]
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The entry of a node in `cluster.peers`.
#[must_use]
pub fn peer(node: &Node) -> String {
    address(node.ports().peer)
}

/// What a node says of its cluster, if it answers.
#[must_use]
pub fn see(node: &Node) -> Option<SeenCluster> {
    // A node that has no cluster yet takes connections, and does not answer them.
    open(node)?.cluster().ok()
}

/// A connection to a node that is soon answered, or is given up.
fn open(node: &Node) -> Option<Connection> {
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
    let connection = Connection::open(node.ports().client).ok()?;
    connection.set_answer_timeout(ANSWER_TIMEOUT).ok()?;
    Some(connection)
}
