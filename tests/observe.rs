//! What an operator sees of a node, and what `config/` gives him for it.
//!
//! Input: a node that has worked, and the files of `config/`. Output: the table of metrics is what
//! a node serves, dashboard and alerts ask for nothing else, and the notes explain each alert; and
//! whoever asks in whatever way over HTTP, the node goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

#[path = "observe/alerts.rs"]
mod alerts;
#[path = "observe/dashboard.rs"]
mod dashboard;
#[path = "observe/http.rs"]
mod http;
#[path = "observe/logs.rs"]
mod logs;
#[path = "observe/queries.rs"]
mod queries;
#[path = "observe/served.rs"]
mod served;
#[path = "observe/table.rs"]
mod table;

use std::fs;

use skein_tests::toolchain;

/// A file of `config/`.
fn config(name: &str) -> String {
    let path = toolchain::workspace().join("config").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
