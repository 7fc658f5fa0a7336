//! One node of Skein or Apache Kafka, started as a user starts it.
//!
//! Input: a [`System`] and settings by Kafka's names. Output: a process on free loopback ports with
//! its data in a directory of its own, ready to serve; it can be stopped, killed and started again
//! on the same data.
//!
//! Invariants:
//! - dropping a node ends its process: SIGTERM, and SIGKILL when that takes too long;
//! - a node is ready when it has answered a Metadata request that names a broker, not when its port
//!   is open; Kafka, when it leads its partitions too.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::guardian::{self, Guarded};
use crate::wire;

mod http;
pub(crate) mod kafka;
mod ports;
mod skein;
mod small_disk;

use small_disk::SmallDisk;

pub(crate) use ports::free as free_ports;
pub use skein::binary as skein_binary;

/// A JVM on a busy machine needs some seconds; nothing needs this.
/// For a Kafka that serves to lead its partitions.
const LEADS_TIMEOUT: Duration = Duration::from_secs(30);
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// From SIGTERM to SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a node's log a failing test prints.
const LOG_TAIL_MAX_BYTES: u64 = 6_000;
const READY_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Members of groups may miss a short session, and nobody waits for more of them to come.
pub(crate) const SHORT_WAITS: [(&str, &str); 2] = [
    ("group.min.session.timeout.ms", "1000"),
    ("group.initial.rebalance.delay.ms", "0"),
];

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// The binary under test.
    Skein,
    /// Apache Kafka 4.1.1, the judge of the tests.
    Kafka,
}

/// Further settings of a node, by Kafka's names.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// Where a node listens: all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The clients' port.
    pub client: u16,
    /// Skein's peer listener, Kafka's controller listener.
    pub peer: u16,
    /// Skein's HTTP listener; Kafka has none.
    pub http: u16,
}

/// One node and its directory.
pub struct Node {
    system: System,
    ports: Ports,
    settings: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    directory: PathBuf,
    small_disk: Option<SmallDisk>,
    process: Option<Guarded>,
}

impl Node {
    /// Starts a node on an empty directory and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it doesn't come up, with the end of its log.
    #[must_use]
    pub fn start(system: System, settings: Settings<'_>) -> Self {
        let mut node = Self::prepare(system, settings);
        node.start_again();
        node
    }

    /// A node that has a directory and ports, and does not run yet.
    #[must_use]
    pub fn prepare(system: System, settings: Settings<'_>) -> Self {
        Self::prepare_in(&std::env::temp_dir(), system, settings)
    }

    /// As [`Node::prepare`], with the node's directory below `parent`: for whom it matters which
    /// disk that is.
    #[must_use]
    pub fn prepare_in(parent: &Path, system: System, settings: Settings<'_>) -> Self {
        Self::prepare_at(ports::free(), parent, system, settings)
    }

    /// As [`Node::prepare_in`], for a node whose ports others know already.
    pub(crate) fn prepare_at(
        ports: Ports,
        parent: &Path,
        system: System,
        settings: Settings<'_>,
    ) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("skein-tests-")
            .tempdir_in(parent)
            .expect("create a directory for a node")
            .keep();
        guardian::remove_at_exit(&directory);
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let node = Self {
            system,
            ports,
            settings,
            variables: Vec::new(),
            arguments: Vec::new(),
            directory,
            small_disk: None,
            process: None,
        };
        if system == System::Kafka {
            kafka::format(&node);
        }
        node
    }

    /// The node of this system that all tests of this process share; it must be left running and
    /// unharmed.
    #[must_use]
    pub fn shared(system: System) -> &'static Self {
        static SKEIN: OnceLock<Node> = OnceLock::new();
        static KAFKA: OnceLock<Node> = OnceLock::new();
        let node = match system {
            System::Skein => &SKEIN,
            System::Kafka => &KAFKA,
        };
        node.get_or_init(|| Self::start(system, &SHORT_WAITS))
    }

    /// Starts the node, which does not run, on the data it has, and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it doesn't come up, with the end of its log.
    pub fn start_again(&mut self) {
        self.launch();
        self.wait_until_serving();
    }

    /// As [`Node::start_again`], without the wait: one of several nodes serves when they have found
    /// each other.
    ///
    /// # Panics
    ///
    /// When there is no such program.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the node runs already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the node's log");
        let mut command = self.command();
        command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("clone a descriptor"))
            .stderr(log);
        let process = Guarded::spawn(&mut command)
            .unwrap_or_else(|error| panic!("can't start {:?}: {error}", self.system));
        self.process = Some(process);
    }

    /// Waits until the node, which was launched, serves.
    ///
    /// # Panics
    ///
    /// When it doesn't, with the end of its log.
    pub fn wait_until_serving(&self) {
        let started = Instant::now();
        while !wire::serves(self.ports.client) {
            assert!(
                self.is_alive(),
                "{:?} ended instead of serving: {}",
                self.system,
                self.log_tail()
            );
            assert!(
                started.elapsed() < START_TIMEOUT,
                "{:?} does not serve after {START_TIMEOUT:?}: {}",
                self.system,
                self.log_tail()
            );
            std::thread::sleep(READY_POLL_INTERVAL);
        }
        // Kafka is a broker that clients are told of before it leads what it led; a partition that
        // it never will is a test's affair.
        while self.system == System::Kafka
            && !wire::leads(self.ports.client).unwrap_or(false)
            && started.elapsed() < LEADS_TIMEOUT
        {
            std::thread::sleep(READY_POLL_INTERVAL);
        }
    }

    /// The command that serves, as a user types it.
    #[must_use]
    pub fn command(&self) -> Command {
        let command = match self.system {
            System::Skein => skein::serve(self),
            System::Kafka => kafka::serve(self),
        };
        match &self.small_disk {
            None => command,
            Some(disk) => disk.command(&command),
        }
    }

    /// Gives the node, from its next start on, a data directory of this size. It outlives the
    /// node's processes.
    pub fn mount_small_disk(&mut self, bytes: usize) {
        self.small_disk = Some(SmallDisk::mount(&self.data_directory(), bytes));
    }

    /// Where the data directory of [`Node::mount_small_disk`] is seen by others than the node.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn small_disk(&self) -> PathBuf {
        let disk = self.small_disk.as_ref().expect("a small disk");
        disk.seen_from_outside(&self.data_directory())
    }

    /// Stops the node as an operator does, and tells how it ended and how long that took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let mut process = self.process.take().expect("the node runs");
        let asked = Instant::now();
        process.signal(Signal::TERM);
        while !process.has_ended() && asked.elapsed() < STOP_TIMEOUT {
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = asked.elapsed();
        process.signal(Signal::KILL);
        (process.wait(), took)
    }

    /// Sends the running node a signal.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the node runs");
        process.signal(signal);
    }

    /// Kills the node: no shutdown code runs.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the node runs");
        process.signal(Signal::KILL);
        process.wait();
    }

    /// Replaces a setting from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(present, _)| present != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Sets a variable of the environment from the next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Puts words behind those of Skein's command line from the next start on.
    pub fn add_arguments(&mut self, words: &[&str]) {
        self.arguments
            .extend(words.iter().map(|word| (*word).to_owned()));
    }

    /// Whether the process runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| !process.has_ended())
    }

    /// The process id of the running node.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the node runs").id()
    }

    /// Which system this is.
    #[must_use]
    pub fn system(&self) -> System {
        self.system
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// Where it listens.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The directory of this node: log, configuration and, in `data`, its data.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `log.dirs`.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// All that the node printed since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The end of what the node printed, under a heading.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let mut tail = Vec::new();
        if let Ok(mut log) = fs::File::open(self.log_path()) {
            let length = log.metadata().map_or(0, |metadata| metadata.len());
            let start = length.saturating_sub(LOG_TAIL_MAX_BYTES);
            let _shown_as_far_as_readable = log
                .seek(SeekFrom::Start(start))
                .and_then(|_| log.read_to_end(&mut tail));
        }
        format!(
            "\n--- end of the log of {:?} at {}:\n{}",
            self.system,
            self.bootstrap(),
            String::from_utf8_lossy(&tail).trim_end()
        )
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("node.log")
    }
}

/// The size of all segments in a partition's directory.
#[must_use]
pub fn bytes_in_logs(directory: &Path) -> u64 {
    fs::read_dir(directory)
        .expect("a partition's directory")
        .map(|entry| entry.expect("its next entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        // It may be removed at this very moment.
        .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .sum()
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        let _removed_at_exit_otherwise = fs::remove_dir_all(&self.directory);
    }
}
