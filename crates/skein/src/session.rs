//! A command's connection to a cluster.
//!
//! Input: the shared options. Output: a client on a small runtime, for as long as one future runs.

use std::time::Duration;

use skein_client::{Client, ClientOptions};
use skein_env::Env;
use skein_env::real::{RealOptions, RealWorld};

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::logs::{self, LogFormat};

/// How long a command waits for the first broker at most. Who names a wrong address should not
/// wait.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a topic or the leader of a partition may be absent. A node that is started again, or a
/// topic that a broker makes for its first record, needs no longer.
const ABSENCE_MAX: Duration = Duration::from_secs(2);
/// How long the end waits for tasks that are still at work.
const SHUTDOWN: Duration = Duration::from_millis(100);

/// What a command works with.
pub(crate) struct Session {
    /// The world.
    pub(crate) env: Env,
    /// The cluster.
    pub(crate) client: Client,
    /// `--timeout`.
    pub(crate) timeout: Duration,
    /// `--json`.
    pub(crate) json: bool,
}

/// Connects, and runs `work` to its end.
pub(crate) fn with_client<F>(
    arguments: &ClusterArguments,
    work: impl FnOnce(Session) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    with_env(arguments, |env| async move {
        let options = client_options(arguments);
        let client = Client::connect(env.clone(), &arguments.bootstrap, options).await?;
        work(Session {
            env,
            client,
            timeout: arguments.timeout,
            json: arguments.json,
        })
        .await
    })
}

/// Runs `work` to its end, which connects by itself.
pub(crate) fn with_env<F>(
    arguments: &ClusterArguments,
    work: impl FnOnce(Env) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    if arguments.verbose {
        logs::start("skein_client=debug,skein_net=debug", LogFormat::Human)?;
    }
    let options = RealOptions {
        network_threads: 1,
        io_threads: 1,
    };
    let world = RealWorld::new(options)
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let result = world.block_on(work(world.env()));
    // Nothing is at stake any more; a thread may stand in a read of standard input.
    let _ = world.shutdown(SHUTDOWN);
    result
}

/// What the shared options mean to the client.
pub(crate) fn client_options(arguments: &ClusterArguments) -> ClientOptions {
    let timeout = arguments.timeout;
    ClientOptions {
        client_id: "skein".into(),
        connect_timeout: timeout.min(CONNECT_MAX),
        request_timeout: timeout,
        api_timeout: timeout,
        absence_max: Some(timeout.min(ABSENCE_MAX)),
        ..ClientOptions::default()
    }
}
