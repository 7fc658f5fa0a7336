//! What the process logs, by logger, while it runs.
//!
//! Input: levels for loggers by their names. Output: the level of each logger.
//!
//! Invariants: the loggers are the same as long as the process lives; a change lasts no longer than
//! the process, and all of it takes effect at once.
//!
//! Source: KIP-412 for what operators do with it; the levels of `tracing`.

/// From which severity on a logger's lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What somebody should look at, too.
    Warn,
    /// What a node does, too.
    Info,
    /// How it does it, too.
    Debug,
    /// Everything.
    Trace,
}

/// The loggers of a process.
pub trait Loggers: Send + Sync {
    /// Each logger with the level that is in effect, by name; [`ROOT_LOGGER`] stands for all that
    /// have no level of their own. None where the process does not let its logs be changed.
    fn levels(&self) -> Vec<(String, LogLevel)>;

    /// Sets levels of loggers that there are; `None` gives a logger the level back with which the
    /// process began.
    fn set(&self, changes: &[(String, Option<LogLevel>)]);
}

/// The logger that all others inherit from.
pub const ROOT_LOGGER: &str = "root";

/// For who does not let its logs be changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLoggers;

impl Loggers for NoLoggers {
    fn levels(&self) -> Vec<(String, LogLevel)> {
        Vec::new()
    }

    fn set(&self, _changes: &[(String, Option<LogLevel>)]) {}
}
