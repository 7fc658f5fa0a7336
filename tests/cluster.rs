//! Nodes that find each other, those that must not, and what an operator does with them.
//!
//! Input: processes with lists of peers, in any order, alone, killed, with each other's data.
//! Output: one cluster as its clients see it on each node; or the precise reason why there is none,
//! on `/readyz` and in the logs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "cluster/clients.rs"]
mod clients;
#[path = "cluster/failing.rs"]
mod failing;
#[path = "cluster/forming.rs"]
mod forming;
#[path = "cluster/operating.rs"]
mod operating;
#[path = "cluster/refused.rs"]
mod refused;

use skein_tests::Node;
use skein_tests::wire::Connection;

fn connect(node: &Node) -> Connection {
    Connection::open(node.ports().client)
        .unwrap_or_else(|error| panic!("{error}{}", node.log_tail()))
}

/// What `/readyz` says, if the node is not ready.
fn not_ready(node: &Node) -> Option<String> {
    let answer = node.get("/readyz").ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 503")
        .then(|| body.trim_end().to_owned())
}

/// Whether a page is there.
fn is_ok(node: &Node, path: &str) -> bool {
    node.get(path)
        .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
