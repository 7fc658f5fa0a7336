//! How a user starts Apache Kafka: configure, format, run; one combined broker and controller.
//!
//! Input: a node's ports, directory and settings. Output: a formatted directory, the command.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Node, Ports};
use crate::client::{kafka_tools, tool_process};

const FORMAT_TIMEOUT: Duration = Duration::from_secs(60);
/// `kafka-storage.sh`.
pub(crate) const STORAGE_TOOL: &str = "kafka.tools.StorageTool";
/// What `kafka-server-start.sh` runs.
pub(crate) const BROKER: &str = "kafka.Kafka";
/// Of the Compose files that everybody copies. It looks like 16 bytes in base64, and is not the
/// text that encoding them would give: for Kafka it is a text.
pub(crate) const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// As in Kafka's own file: without one there is no logger but the root.
const LOGGERS: &str = "\
    rootLogger.level=INFO\n\
    logger.kafka.name=kafka\n\
    logger.kafka.level=INFO\n";

/// Prepares the node's data directory.
pub(super) fn format(node: &Node) {
    configure(node);
    let properties = properties(node);
    let properties = properties.to_str().expect("UTF-8");
    let format = ["format", "-t", CLUSTER_ID, "-c", properties];
    let finished = tool_process::run(STORAGE_TOOL, &format, "", FORMAT_TIMEOUT);
    assert!(finished.succeeded(), "Kafka can't format:\n{finished}");
}

/// The broker itself.
pub(super) fn serve(node: &Node) -> Command {
    configure(node);
    let loggers = node.directory.join("log4j2.properties");
    fs::write(&loggers, LOGGERS).expect("write log4j2.properties");
    let loggers = format!("-Dlog4j2.configurationFile={}", loggers.display());
    let options = ["-Xms512m", "-Xmx512m", &loggers];
    let mut command = kafka_tools::java_with(BROKER, &options);
    command.arg(properties(node));
    command
}

fn properties(node: &Node) -> std::path::PathBuf {
    node.directory.join("server.properties")
}

fn configure(node: &Node) {
    let mut text = settings(node.ports, &node.data_directory());
    for (key, value) in &node.settings {
        writeln!(text, "{key}={value}").expect("write to a string");
    }
    fs::write(properties(node), text).expect("write server.properties");
}

/// What makes nodes with these ports one cluster, for the one of that number: each is broker and
/// controller, and topics have three replicas of which two must have a record.
pub(crate) fn membership(ports: &[Ports], number: usize) -> Vec<(&'static str, String)> {
    let voter =
        |(number, ports): (usize, &Ports)| format!("{}@127.0.0.1:{}", number + 1, ports.peer);
    let voters: Vec<_> = ports.iter().enumerate().map(voter).collect();
    let replicas = ports.len().min(3).to_string();
    let in_sync = ports.len().min(2).to_string();
    vec![
        ("node.id", (number + 1).to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("default.replication.factor", replicas.clone()),
        ("min.insync.replicas", in_sync.clone()),
        ("offsets.topic.replication.factor", replicas.clone()),
        ("transaction.state.log.replication.factor", replicas),
        ("transaction.state.log.min.isr", in_sync),
    ]
}

/// What every node has: one process is broker and controller, and its group waits for nobody.
pub(crate) fn settings(ports: Ports, data: &Path) -> String {
    let (client, controller) = (ports.client, ports.peer);
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n",
        data.display()
    )
}
