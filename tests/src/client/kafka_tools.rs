//! Kafka's own command-line tools, from its jars.
//!
//! Input: a tool's class and arguments. Output: what it printed. The scripts that ship with Kafka
//! only assemble this command; here a process runs many, see [`tool_process`](super::tool_process).

use std::process::Command;
use std::time::{Duration, Instant};

use super::{class_archive, tool_process};
use crate::program::{self, Finished};
use crate::wire::{Connection, error};
use crate::{Node, toolchain};

const TOOL_TIMEOUT: Duration = Duration::from_secs(90);

/// `kafka-topics.sh`.
pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
/// `kafka-configs.sh`.
pub const CONFIGS: &str = "kafka.admin.ConfigCommand";
/// `kafka-console-producer.sh`.
pub const CONSOLE_PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
/// `kafka-console-consumer.sh`.
pub const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
/// `kafka-producer-perf-test.sh`.
pub const PRODUCER_PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";
/// `kafka-get-offsets.sh`.
pub const GET_OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
/// `kafka-log-dirs.sh`.
pub const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
/// `kafka-transactions.sh`.
pub const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
/// `kafka-reassign-partitions.sh`.
pub const REASSIGN_PARTITIONS: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
/// `kafka-leader-election.sh`.
pub const LEADER_ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
/// `kafka-metadata-quorum.sh`.
pub const METADATA_QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
/// `kafka-features.sh`.
pub const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
/// `kafka-client-metrics.sh`.
pub const CLIENT_METRICS: &str = "org.apache.kafka.tools.ClientMetricsCommand";
/// `kafka-verifiable-producer.sh`.
pub const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
/// `kafka-verifiable-consumer.sh`.
pub const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";
/// `kafka-consumer-groups.sh`.
pub const CONSUMER_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// `kafka-delete-records.sh`.
pub const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
/// `kafka-dump-log.sh`.
pub const DUMP_LOG: &str = "kafka.tools.DumpLogSegments";

/// Tools that print at the end of their process have one of their own.
const ENDS_ITS_PROCESS: [&str; 2] = [VERIFIABLE_PRODUCER, VERIFIABLE_CONSUMER];

/// A class of Kafka's in a JVM that starts fast.
#[must_use]
pub fn java(class: &str) -> Command {
    java_with(class, &["-XX:TieredStopAtLevel=1"])
}

/// As [`java`], with other options.
#[must_use]
pub fn java_with(class: &str, options: &[&str]) -> Command {
    let archive = toolchain::kafka_classes().display();
    let mut command = class_archive::jvm();
    command
        .arg(format!("-XX:SharedArchiveFile={archive}"))
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .args(options)
        .args(["-cp", toolchain::kafka_class_path(), class]);
    command
}

/// Runs a tool against `node` and returns what it printed.
///
/// # Panics
///
/// When it fails.
pub fn run(node: &Node, class: &str, arguments: &[&str]) -> String {
    let finished = attempt(node, class, arguments, "");
    let printed = succeed(node, finished);
    if class == TOPICS && arguments.contains(&"--create") {
        wait_until_served(node, arguments);
    }
    printed
}

/// Kafka serves the partitions of a topic a moment after it was made, one after the other. A
/// producer whose first batch comes too early, and whose second one does not, has lost its order,
/// and tries for ever.
fn wait_until_served(node: &Node, arguments: &[&str]) {
    let of = |option: &str| {
        let mut words = arguments.iter().skip_while(|word| **word != option);
        words.nth(1).copied()
    };
    let topic = of("--topic").expect("a topic");
    let count = of("--partitions").map_or(1, |count| count.parse().expect("a number"));
    let started = Instant::now();
    for partition in 0..count {
        let is_served = || {
            let mut connection = Connection::open(node.ports().client)?;
            connection.list_offset(topic, partition, -1)
        };
        while is_served().expect("an answer").0 != error::NONE {
            assert!(started.elapsed() < TOOL_TIMEOUT, "{topic} is not served");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// As [`run`], with `input` on its standard input.
///
/// # Panics
///
/// When it fails.
pub fn run_with_input(node: &Node, class: &str, arguments: &[&str], input: &str) -> String {
    let finished = attempt(node, class, arguments, input);
    succeed(node, finished)
}

/// Runs a tool that should be refused, and returns all that it printed.
///
/// # Panics
///
/// When it succeeds.
pub fn refused(node: &Node, class: &str, arguments: &[&str]) -> String {
    let finished = attempt(node, class, arguments, "");
    assert!(
        finished.status.is_some() && !finished.succeeded(),
        "it should have been refused:\n{finished}{}",
        node.log_tail()
    );
    finished.output()
}

fn attempt(node: &Node, class: &str, arguments: &[&str], input: &str) -> Finished {
    let server = ["--bootstrap-server", &node.bootstrap()];
    let server = match class {
        DUMP_LOG | PRODUCER_PERFORMANCE => &[],
        _ => &server[..],
    };
    let arguments = [server, arguments].concat();
    if ENDS_ITS_PROCESS.contains(&class) {
        return program::run_with_input(java(class).args(arguments), input, TOOL_TIMEOUT);
    }
    tool_process::run(class, &arguments, input, TOOL_TIMEOUT)
}

fn succeed(node: &Node, finished: Finished) -> String {
    assert!(finished.succeeded(), "{finished}{}", node.log_tail());
    finished.output()
}
