//! `skein serve`: runs a node.
//!
//! Input: a configuration file, `--set` options, the environment, the cluster's secret; SIGTERM or
//! SIGINT. Output: a node; logs on standard error; an exit code.
//!
//! Invariant: after SIGTERM or SIGINT the node stops cleanly, and the process ends also if a disk
//! hangs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use skein_broker::{AuditLog, Broker};
use skein_config::{BrokerConfig, ClusterSecret, ConfigErrors, Layers};
use skein_env::real::{
    RealDisk, RealOptions, RealWorld, raise_descriptor_limit, termination_signal,
};
use skein_env::{Disk, Env, OpenMode};

use crate::failure::Failure;
use crate::logs::{self, LogFormat};
use crate::secret;

/// How long the process waits for threads in the end; the logs are closed by then.
const SHUTDOWN: Duration = Duration::from_millis(500);
/// Bytes of a configuration file, at most.
const CONFIG_FILE_MAX: u64 = 4 * 1024 * 1024;
/// The variable that sets the log level, as in other Rust programs.
const LOG_VARIABLE: &str = "RUST_LOG";
/// The variable that sets the format of log lines. It is no key of the configuration, which is read
/// when the first lines may have been written.
const LOG_FORMAT_VARIABLE: &str = "SKEIN_LOG_FORMAT";
/// What is logged if nobody says: openraft tells each step at info, and at warn each heartbeat that
/// a dead node does not answer, twenty a second. That it is fenced `skein_quorum` tells once.
const LOG_LEVEL: &str = "info,openraft=error";

const EXAMPLES: &str = "\
Examples:
  skein serve                      with defaults: 127.0.0.1:9092, data in ./skein-data
  skein serve --config server.properties
  skein serve --set listeners=PLAINTEXT://127.0.0.1:9093 --set log.dirs=/var/lib/skein
  skein serve --config server.properties --audit-log /var/log/skein/audit.jsonl
  skein serve --set listeners=PLAINTEXT://0.0.0.0:9092 \\
              --set advertised.listeners=PLAINTEXT://$(hostname):9092

Keys have Kafka's names. Each can also be set in the environment: log.segment.bytes is
SKEIN_LOG_SEGMENT_BYTES. The command line goes before the file, the file before the environment.
Logs go to standard error; RUST_LOG and SKEIN_LOG_FORMAT stand for --log-level and --log-format.
SIGTERM or Ctrl-C stops the node cleanly.";

/// Arguments of `skein serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArguments {
    /// A configuration file with Kafka's key names (server.properties)
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key; may be given several times
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// error, warn, info, debug, trace, or a filter such as info,skein_storage=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// What log lines look like; without it SKEIN_LOG_FORMAT says, else they are for humans
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Append what the node sees happen to this file, a JSON line each: terms and leaders, entries
    /// of the metadata log with a hash of what they lead to, changes of ISRs and leader epochs
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
}

/// Runs `skein serve` until a signal comes.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    let of_environment = std::env::var(LOG_VARIABLE).ok();
    let of_environment = of_environment.filter(|level| !level.is_empty());
    let level = arguments.log_level.as_ref().or(of_environment.as_ref());
    let level = level.map_or(LOG_LEVEL, String::as_str);
    let loggers = logs::start(level, log_format(arguments)?)?;
    let config = configuration(arguments)?;
    let secret = secret::of_cluster(&config).map_err(|error| wrong(&ConfigErrors(vec![error])))?;
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cores = u16::try_from(cores).unwrap_or(u16::MAX);
    let options = RealOptions {
        network_threads: config.network.network_threads(cores).into(),
        io_threads: config.network.num_io_threads.into(),
    };
    let world = RealWorld::new(options)
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let env = Env {
        loggers,
        ..world.env()
    };
    let path = arguments.audit_log.as_deref();
    let audit = path.map(|path| AuditLog::open(&env, path)).transpose();
    let audit = audit.map_err(|error| Failure::wrong(format!("--audit-log: {error}")))?;
    let result = world.block_on(serve(env, Arc::new(config), secret, audit));
    if !world.shutdown(SHUTDOWN) {
        tracing::warn!("a thread still waits for its disk; ending without it");
    }
    result
}

fn log_format(arguments: &ServeArguments) -> Result<LogFormat, Failure> {
    if let Some(format) = arguments.log_format {
        return Ok(format);
    }
    match std::env::var(LOG_FORMAT_VARIABLE) {
        Ok(name) if !name.is_empty() => LogFormat::from_str(&name, true).map_err(|_| {
            Failure::wrong(format!("{LOG_FORMAT_VARIABLE}: {name:?} is no log format"))
                .hint("Write human or json.")
        }),
        _ => Ok(LogFormat::Human),
    }
}

/// Where keys may be set in the environment. What is not UTF-8 can be none of our keys and values.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != LOG_FORMAT_VARIABLE)
}

/// The configuration, or all that is wrong with it.
fn configuration(arguments: &ServeArguments) -> Result<BrokerConfig, Failure> {
    let mut layers = Layers::new().environment(variables());
    if let Some(path) = &arguments.config {
        let bytes = read_file(path)
            .map_err(|error| Failure::wrong(format!("cannot read {}: {error}", path.display())))?;
        layers = layers.file(&path.display().to_string(), &bytes);
    }
    for option in &arguments.set {
        layers = layers.set(option);
    }
    let (config, warnings) = layers.build().map_err(|errors| wrong(&errors))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn wrong(errors: &ConfigErrors) -> Failure {
    let errors: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
    Failure::wrong(format!(
        "the configuration is wrong:\n  {}",
        errors.join("\n  ")
    ))
}

/// The bytes of a configuration file.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = RealDisk.open(path, OpenMode::Read)?;
    let length = file.length()?;
    if length > CONFIG_FILE_MAX {
        return Err(io::Error::other(format!(
            "it has more than {CONFIG_FILE_MAX} bytes"
        )));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

async fn serve(
    env: Env,
    config: Arc<BrokerConfig>,
    secret: Option<ClusterSecret>,
    audit: Option<AuditLog>,
) -> Result<(), Failure> {
    // Before the start, so that a signal during it is not the end without a stop.
    let signal = termination_signal();
    tokio::pin!(signal);
    let log_dir = config.node.log_dir.display().to_string();
    let start = Broker::start_audited(env, Arc::clone(&config), secret, audit);
    let broker = tokio::select! {
        biased;
        broker = start => broker.map_err(|error| Failure::failed(error.to_string()))?,
        signal = &mut signal => {
            let signal = signal.unwrap_or("a signal");
            tracing::info!(signal, "stopped before the start was done");
            return Ok(());
        }
    };
    let listeners: Vec<_> = broker
        .addresses()
        .iter()
        .map(|(name, address)| format!("{name}://{address}"))
        .collect();
    tracing::info!(
        listeners = listeners.join(","),
        data = log_dir,
        cluster_id = %broker.cluster_id(),
        broker_id = broker.broker_id(),
        version = env!("CARGO_PKG_VERSION"),
        "Skein is ready"
    );
    let failure = tokio::select! {
        biased;
        signal = &mut signal => {
            let signal = signal.map_err(|error| {
                Failure::failed(format!("cannot wait for signals: {error}"))
            })?;
            tracing::info!(signal, "stopping");
            None
        }
        reason = broker.failed() => {
            tracing::error!(reason, "the node cannot go on; stopping");
            Some(reason)
        }
    };
    broker.stop().await;
    match failure {
        Some(reason) => Err(Failure::failed(format!(
            "the node could not go on: {reason}"
        ))),
        None => {
            tracing::info!("stopped");
            Ok(())
        }
    }
}
