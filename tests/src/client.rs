//! Real, unmodified clients, each driven by a program of its own under `clients/`.
//!
//! Input: a node and the name of a scenario. Output: nothing, or a panic with what the client
//! printed and the end of the node's log. What a scenario means is written in the client's own
//! language, next to the client's own idioms.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::guardian::Guarded;
use crate::{Cluster, Node, System, program, toolchain};

pub(crate) mod class_archive;
pub mod kafka_tools;
mod survival;
pub(crate) mod tool_process;

use survival::{GROUP_SURVIVAL, SURVIVAL};
pub use survival::{groups_survive, groups_survive_in, survive, survive_in};

/// Longer than any scenario takes on a busy machine.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(240);

/// What a client talks to.
pub trait Target {
    /// Whose it is.
    fn system(&self) -> System;
    /// `host:port` of a node.
    fn bootstrap(&self) -> String;
    /// How many replicas the topics of the scenarios have.
    fn replication(&self) -> usize;
    /// The ends of the logs, for a test that fails.
    fn log_tails(&self) -> String;
}

impl Target for Node {
    fn system(&self) -> System {
        self.system()
    }

    fn bootstrap(&self) -> String {
        self.bootstrap()
    }

    fn replication(&self) -> usize {
        1
    }

    fn log_tails(&self) -> String {
        self.log_tail()
    }
}

impl Target for Cluster {
    fn system(&self) -> System {
        System::Skein
    }

    fn bootstrap(&self) -> String {
        self.nodes[0].bootstrap()
    }

    fn replication(&self) -> usize {
        self.nodes.len().min(3)
    }

    fn log_tails(&self) -> String {
        self.log_tails()
    }
}

/// A client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// librdkafka, by confluent-kafka.
    Librdkafka,
    /// kafka-python 3.
    KafkaPython3,
    /// kafka-python 2, of which much is in use.
    KafkaPython2,
    /// franz-go.
    FranzGo,
    /// Kafka's own client.
    Java,
    /// sarama.
    Sarama,
    /// kafkajs.
    Kafkajs,
    /// aiokafka.
    Aiokafka,
}

impl Client {
    /// Every client.
    pub const ALL: [Self; 8] = [
        Self::Librdkafka,
        Self::KafkaPython3,
        Self::KafkaPython2,
        Self::FranzGo,
        Self::Java,
        Self::Sarama,
        Self::Kafkajs,
        Self::Aiokafka,
    ];

    /// The client's program; its arguments are `BOOTSTRAP SCENARIO`, or several where it can run
    /// them at once.
    #[must_use]
    pub fn command(self) -> Command {
        match self {
            Self::Librdkafka => python("clients/librdkafka/scenarios.py"),
            Self::KafkaPython3 => python("clients/kafka_python/scenarios.py"),
            Self::KafkaPython2 => {
                let mut command = python("clients/kafka_python/scenarios.py");
                command.env("PYTHONPATH", toolchain::kafka_python_2());
                command
            }
            Self::FranzGo => Command::new(toolchain::franz_go()),
            Self::Java => java_client(),
            Self::Sarama => Command::new(toolchain::sarama()),
            Self::Kafkajs => {
                let mut command = Command::new("node");
                command
                    .arg(toolchain::source("clients/kafkajs/scenarios.js"))
                    .env("NODE_PATH", toolchain::node_modules())
                    .env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
                command
            }
            Self::Aiokafka => python("clients/aiokafka/scenarios.py"),
        }
    }

    /// The program with the bootstrap address; `SYSTEM` in its environment says whose that is, and
    /// `REPLICATION` how many replicas its topics have.
    fn against(self, target: &dyn Target) -> Command {
        let mut command = self.command();
        command
            .env("SYSTEM", format!("{:?}", target.system()))
            .env("REPLICATION", target.replication().to_string())
            .arg(target.bootstrap());
        command
    }

    /// Runs one scenario against `target`.
    ///
    /// # Panics
    ///
    /// When the scenario fails.
    pub fn run(self, target: &dyn Target, scenario: &str) {
        self.run_with(target, &[scenario]);
    }

    /// Runs the client's program with these arguments behind the bootstrap address, and returns its
    /// standard output.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run_with(self, target: &dyn Target, arguments: &[&str]) -> String {
        let mut command = self.against(target);
        command.args(arguments);
        let finished = program::run(&mut command, SCENARIO_TIMEOUT);
        assert!(
            finished.succeeded(),
            "{self:?}: {} failed against {:?}\n{finished}{}",
            arguments.join(" "),
            target.system(),
            target.log_tails()
        );
        finished.stdout
    }

    /// The names of all scenarios that the client's program has.
    #[must_use]
    pub fn scenarios(self) -> Vec<String> {
        let finished = program::run(self.command().args(["-", "--list"]), SCENARIO_TIMEOUT);
        assert!(finished.succeeded(), "{finished}");
        finished
            .stdout
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    /// Starts a scenario that talks with the test while it runs.
    ///
    /// # Panics
    ///
    /// When the program can't be started.
    #[must_use]
    pub fn converse(self, target: &dyn Target, scenario: &str) -> Conversation {
        let mut command = self.against(target);
        command
            .arg(scenario)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("start a client");
        let child = process.child();
        Conversation {
            name: format!("{self:?}: {scenario}"),
            input: child.stdin.take().expect("a pipe"),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            process,
        }
    }
}

/// A running scenario: it prints a line when it has reached a point, and goes on when it is told
/// to.
pub struct Conversation {
    name: String,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    process: Guarded,
}

impl Conversation {
    /// Waits until the client says `line`. Every scenario ends itself when it takes too long.
    ///
    /// # Panics
    ///
    /// When it ends, or says something else.
    pub fn expect(&mut self, line: &str, target: &dyn Target) {
        let mut said = String::new();
        self.output
            .read_line(&mut said)
            .expect("read from a client");
        assert!(
            said.trim_end() == line,
            "{} said {said:?} instead of {line:?} (its errors are above){}",
            self.name,
            target.log_tails()
        );
    }

    /// Tells the client to go on.
    pub fn go_on(&mut self) {
        writeln!(self.input, "go on").expect("write to a client");
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When the scenario fails.
    pub fn finish(mut self, target: &dyn Target) {
        let status = self.process.wait();
        assert!(
            status.success(),
            "{} failed, {status} (its errors are above){}",
            self.name,
            target.log_tails()
        );
    }
}

/// The Python of the environment with the clients, with a script below `tests/`.
#[must_use]
pub fn python(script: &str) -> Command {
    let mut command = Command::new(toolchain::python());
    // Byte code goes nowhere: the source tree stays as it is.
    command.arg("-B").arg(toolchain::source(script));
    command
}

/// The program that drives Kafka's own client.
fn java_client() -> Command {
    java_program("Scenarios", "off")
}

/// A program of `clients/java` that logs from this level on. The archive is named for a process
/// that it starts too; its own classes stand behind those that are in it.
fn java_program(class: &str, log_level: &str) -> Command {
    let archive = toolchain::kafka_classes().display();
    let classes = toolchain::java_client().display();
    let mut command = class_archive::jvm();
    command
        .arg("-XX:TieredStopAtLevel=1")
        .arg(format!("-XX:SharedArchiveFile={archive}"))
        .arg(format!("-Dskein.class.archive={archive}"))
        .arg(format!(
            "-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}"
        ))
        .arg("-cp")
        .arg(format!("{}:{classes}", toolchain::kafka_class_path()))
        .arg(class);
    command
}

/// Checks that the tests name every scenario that the client's program has.
///
/// # Panics
///
/// When one is missing.
pub fn assert_complete(client: Client, tested: &[&str]) {
    let missing: Vec<String> = client
        .scenarios()
        .into_iter()
        .filter(|scenario| ![SURVIVAL, GROUP_SURVIVAL].contains(&scenario.as_str()))
        .filter(|scenario| !tested.contains(&scenario.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "{client:?} has scenarios that no test runs: {missing:?}"
    );
}
