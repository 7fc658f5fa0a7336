//! Logs on standard error.
//!
//! Input: a level or filter, a format. Output: a `tracing` subscriber for the whole process.

use std::io;
use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people; with colours on a terminal.
    Text,
    /// A JSON object a line.
    Json,
}

/// Begins to log. `level` is a level (`debug`) or a filter (`info,skein_storage=debug`).
pub(crate) fn start(level: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Failure::wrong(format!("{level:?} is no log level: {error}")).hint(
            "Write error, warn, info, debug or trace, or a filter such as info,skein_net=debug.",
        )
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}
