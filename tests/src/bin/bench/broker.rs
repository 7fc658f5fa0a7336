//! One node under load: Skein as its users start it, Kafka as its own scripts start it.
//!
//! Input: a system and the directory below which its data goes. Output: a process that takes
//! records, and how long it took from nothing to the first one.
//!
//! The tests' Kafka starts as fast as it can; this one has the heap and the collector of
//! `kafka-server-start.sh`, since it is compared.
//!
//! Invariant: the process does not outlive its [`Broker`], nor this program: see `guardian`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use skein_tests::guardian::Guarded;
use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, Settings, System, toolchain};

use crate::{Outcome, process};

/// What `kafka-server-start.sh` and `kafka-run-class.sh` of Kafka 4.1.1 pass to the JVM, apart from
/// where its own logs go.
pub(crate) const KAFKA_JVM_OPTIONS: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
/// A deleted topic frees its memory soon; both keep it for a minute otherwise. And both look for
/// logs to compact soon.
pub(crate) const SETTINGS: Settings<'static> = &[
    ("log.segment.delete.delay.ms", "1000"),
    ("log.cleaner.backoff.ms", "500"),
];

/// Where the loads begin in each partition of a topic.
pub(crate) const FIRST_OFFSET: i64 = 1;
/// The topic of the first record. It does not exist then, as for a user who just starts.
const FIRST_TOPIC: &str = "first";
const FIRST_VALUE: &[u8] = b"hello";
const START_TIMEOUT: Duration = Duration::from_secs(90);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How much later than it could be the first record is tried at most.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);
/// Kafka looks for the first time after 30 s; no measurement waits for that.
const DELETE_TIMEOUT: Duration = Duration::from_secs(3);
const DELETE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A node that serves.
pub(crate) struct Broker {
    // Dropped first: the node removes the directory.
    process: Guarded,
    node: Node,
}

impl Broker {
    /// Starts a node on an empty directory below `parent`, formatting included, and tells how long
    /// it took until its first record was acknowledged.
    pub(crate) fn start(system: System, parent: &Path) -> Outcome<(Self, Duration)> {
        let asked = Instant::now();
        let node = Node::prepare_in(parent, system, SETTINGS);
        let process = spawn(&node)?;
        let broker = Self { process, node };
        let batch = Batch::of([FIRST_VALUE]).encode();
        while !broker.takes_first(&batch) {
            if broker.process.has_ended() || asked.elapsed() > START_TIMEOUT {
                return Err(format!("{system:?} does not serve{}", broker.node.log_tail()).into());
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
        Ok((broker, asked.elapsed()))
    }

    pub(crate) fn system(&self) -> System {
        self.node.system()
    }

    /// `host:port`.
    pub(crate) fn bootstrap(&self) -> String {
        self.node.bootstrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.node.ports().client
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        Ok(process::cpu_seconds(self.process.id())?)
    }

    /// Resident memory, in MB.
    pub(crate) fn resident_mb(&self) -> Outcome<f64> {
        Ok(self.resident()?)
    }

    /// The same, for other threads.
    pub(crate) fn resident(&self) -> io::Result<f64> {
        process::resident_mb(self.process.id())
    }

    /// Where its logs are.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.node.data_directory()
    }

    /// Creates a topic and writes one record to each partition, which is at [`FIRST_OFFSET`] - 1.
    ///
    /// The answer to the creation may come before the partitions take records, and a client that is
    /// refused waits for seconds before it asks again who leads them.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) -> Outcome<()> {
        self.create_topic_with(topic, partitions, &[])
    }

    /// The same, with some of the topic's configuration.
    pub(crate) fn create_topic_with(
        &self,
        topic: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Outcome<()> {
        let mut connection = Connection::open(self.port())?;
        let code = connection.create_topic(topic, partitions, configs)?;
        if code != error::NONE {
            return Err(
                format!("{:?} creates no topic {topic}: error {code}", self.system()).into(),
            );
        }
        let asked = Instant::now();
        let batch = Batch::of([FIRST_VALUE]).encode();
        for partition in 0..partitions {
            while connection.produce(topic, partition, &batch)?.error_code != error::NONE {
                if asked.elapsed() > START_TIMEOUT {
                    let system = self.system();
                    return Err(format!("{system:?} takes nothing for {topic}-{partition}").into());
                }
                std::thread::sleep(RETRY_INTERVAL);
            }
        }
        Ok(())
    }

    /// Deletes a topic, and waits a while for its files to go, so that freeing them falls into
    /// nobody's measurement.
    pub(crate) fn delete_topic(&self, topic: &str) -> Outcome<()> {
        let code = Connection::open(self.port())?.delete_topic(topic)?;
        if code != error::NONE {
            return Err(
                format!("{:?} deletes no topic {topic}: error {code}", self.system()).into(),
            );
        }
        let asked = Instant::now();
        while self.has_files_of(topic)? && asked.elapsed() < DELETE_TIMEOUT {
            std::thread::sleep(DELETE_POLL_INTERVAL);
        }
        Ok(())
    }

    /// Adds the end of the node's log to what went wrong.
    pub(crate) fn explain<T>(&self, outcome: Outcome<T>) -> Outcome<T> {
        outcome.map_err(|error| format!("{error}{}", self.node.log_tail()).into())
    }

    /// Kills the node.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Starts the node, which was killed, on what it has left; it may not serve yet.
    pub(crate) fn start_again(&mut self) -> Outcome<()> {
        self.process = spawn(&self.node)?;
        Ok(())
    }

    /// The metrics of a Skein node.
    pub(crate) fn metrics(&self) -> Outcome<String> {
        Ok(self.node.get("/metrics")?)
    }

    /// One of them, without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        self.node.metric(name)
    }

    /// Stops the node as an operator does.
    pub(crate) fn stop(mut self) -> Outcome<()> {
        self.process.signal(Signal::TERM);
        let asked = Instant::now();
        while !self.process.has_ended() {
            if asked.elapsed() > STOP_TIMEOUT {
                return Err(format!("{:?} does not stop", self.system()).into());
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
        self.process.wait();
        Ok(())
    }

    /// Whether the first record is acknowledged. Until then everything may be refused.
    fn takes_first(&self, batch: &[u8]) -> bool {
        let attempt = || -> io::Result<bool> {
            let mut connection = Connection::open(self.port())?;
            if connection.metadata(FIRST_TOPIC, true)? != error::NONE {
                return Ok(false);
            }
            let produced = connection.produce(FIRST_TOPIC, 0, batch)?;
            Ok(produced.error_code == error::NONE)
        };
        attempt().unwrap_or(false)
    }

    fn has_files_of(&self, topic: &str) -> io::Result<bool> {
        let prefix = format!("{topic}-");
        for entry in fs::read_dir(self.node.data_directory())? {
            if entry?.file_name().to_string_lossy().starts_with(&prefix) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn spawn(node: &Node) -> Outcome<Guarded> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(node.directory().join("node.log"))?;
    let mut command = command(node);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(Guarded::spawn(&mut command)?)
}

fn command(node: &Node) -> Command {
    match node.system() {
        System::Skein => node.command(),
        System::Kafka => {
            let mut command = Command::new("java");
            command
                .args(KAFKA_JVM_OPTIONS)
                .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
                .arg("-cp")
                .arg(toolchain::kafka_jars().join("*"))
                .arg("kafka.Kafka")
                .arg(node.directory().join("server.properties"));
            command
        }
    }
}
