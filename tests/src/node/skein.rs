//! How a user starts Skein.
//!
//! Input: a node's ports, directory and settings. Output: the command. The binary is `SKEIN_BIN`,
//! or what `make build` leaves.

use std::path::PathBuf;
use std::process::Command;

use super::Node;
use crate::toolchain;

/// `skein serve` with everything on the command line.
pub(super) fn serve(node: &Node) -> Command {
    let ports = node.ports;
    let mut settings = vec![
        (
            "listeners".to_owned(),
            format!("PLAINTEXT://127.0.0.1:{}", ports.client),
        ),
        (
            "log.dirs".to_owned(),
            node.data_directory().display().to_string(),
        ),
        (
            "peer.listener".to_owned(),
            format!("127.0.0.1:{}", ports.peer),
        ),
        (
            "http.listener".to_owned(),
            format!("127.0.0.1:{}", ports.http),
        ),
    ];
    for (key, value) in &node.settings {
        settings.retain(|(present, _)| present != key);
        settings.push((key.clone(), value.clone()));
    }
    let mut command = Command::new(binary());
    // A node would warn of a variable with its prefix that names no key.
    command.env_remove("SKEIN_BIN").arg("serve");
    for (key, value) in settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command.args(&node.arguments);
    command
}

/// The binary under test.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    let binary = std::env::var_os("SKEIN_BIN").map_or_else(
        || toolchain::workspace().join("target/release/skein"),
        PathBuf::from,
    );
    assert!(
        binary.is_file(),
        "no Skein at {}: run `make build`, or name a binary in SKEIN_BIN",
        binary.display()
    );
    binary
}
