//! Several nodes of Skein that are one cluster, started as a user starts them.
//!
//! Input: how many, settings. Output: processes on free loopback ports whose `cluster.peers` is the
//! same list.
//!
//! Invariant: whatever a test waits for has a limit, and a failure shows what each node printed.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

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
        let mut nodes: Vec<_> = (0..count)
            .map(|_| Node::prepare(System::Skein, settings))
            .collect();
        let peers: Vec<_> = nodes.iter().map(peer).collect();
        for node in &mut nodes {
            node.set("cluster.peers", &peers.join(","));
        }
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
            let is_it = |node: &Node| i32::from(node.ports().client) == port;
            self.nodes.iter().position(is_it)
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

/// The entry of a node in `cluster.peers`.
#[must_use]
pub fn peer(node: &Node) -> String {
    format!("127.0.0.1:{}", node.ports().peer)
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
