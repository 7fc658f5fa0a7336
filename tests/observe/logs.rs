//! What a node writes to its log as JSON, and how that changes while it runs.
//!
//! Input: a node with `SKEIN_LOG_FORMAT=json`, a level that is changed, a client that is refused.
//! Output: lines that are JSON objects, and the details that were asked for.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skein_tests::node::skein_binary;
use skein_tests::wire::Connection;
use skein_tests::{Node, System, program};

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for a line that should not come.
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn a_node_logs_json_and_its_levels_change_while_it_runs() {
    let mut node = Node::prepare(System::Skein, &[]);
    node.set_variable("SKEIN_LOG_FORMAT", "json");
    node.start_again();
    assert!(!is_refusal_told(&node, "ERROR", SILENCE));
    assert!(is_refusal_told(&node, "INFO", PATIENCE));
    let lines = objects(&node);
    let ready = lines
        .iter()
        .find(|line| line["message"] == "Skein is ready");
    let ready = ready.unwrap_or_else(|| panic!("{}", node.log_tail()));
    assert_eq!(
        [&ready["level"], &ready["target"]],
        ["INFO", "skein::serve"]
    );
    assert_eq!(ready["fields"]["broker_id"], json!(1));
}

/// Whether the node tells within `time` of a connection that it closes, when its network has this
/// level. The line may follow the end of the connection.
fn is_refusal_told(node: &Node, level: &str, time: Duration) -> bool {
    let bootstrap = node.bootstrap();
    let set = format!("skein_net={level}");
    let mut command = Command::new(skein_binary());
    command.args(["config", "alter", "--loggers", "1", "--set", &set]);
    command.args(["--bootstrap", &bootstrap]);
    let finished = program::run(&mut command, PATIENCE);
    assert!(finished.succeeded(), "{finished}");
    let told = || {
        let lines = objects(node);
        let closed = |line: &&Value| line["target"] == "skein_net::accept";
        lines.iter().filter(closed).count()
    };
    let before = told();
    let mut connection = Connection::open(node.ports().client).unwrap();
    // A length that no request has.
    connection.send_raw(&[0x7f; 16]).unwrap();
    assert!(connection.is_closed_by_the_node());
    let began = Instant::now();
    while told() == before && began.elapsed() < time {
        std::thread::sleep(Duration::from_millis(5));
    }
    told() > before
}

/// All whole lines so far.
fn objects(node: &Node) -> Vec<Value> {
    let log = node.log();
    let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
    let object = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    whole.lines().map(object).collect()
}
