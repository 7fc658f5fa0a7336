//! `skein cluster`: how the cluster is, and the operator's word to nodes that look for theirs.
//!
//! Input: options. Output: tables or JSON; an exit code that says how the cluster is.

use clap::{Args, Subcommand};

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::session::{with_client, with_env};

mod form;
mod overview;
mod status;

pub(crate) use overview::Overview;
pub(crate) use status::{node_table, nodes_json};

const EXAMPLES: &str = "\
Examples:
  skein cluster status                               is anything missing?
  skein cluster status --bootstrap node-1:9092,node-2:9092
  skein cluster form --without 10.0.0.3:9192         that peer is gone; begin without it

'skein cluster COMMAND --help' has more examples.";

const STATUS_EXAMPLES: &str = "\
Examples:
  skein cluster status
  skein cluster status --all                         the partitions that are well, too
  skein cluster status --json | jq '.partitions[] | select(.leader == null)'
  until skein cluster status > /dev/null; do sleep 1; done
                                                     until the last restart is made good

Exit codes:
  0  nothing is missing
  1  no broker answers; 2  wrong arguments
  3  degraded: a node is fenced or a replica is not in sync; everything can be written and read
  4  unavailable: a partition has no leader or fewer replicas in sync than min.insync.replicas, or
     there is no controller";

const FORM_EXAMPLES: &str = "\
Examples:
  skein cluster form --without 10.0.0.3:9192
  skein cluster form --without 10.0.0.3:9192 --peer 10.0.0.1:9192 --secret-file /etc/skein/secret

New nodes found their cluster when every entry of cluster.peers answers. If one is gone, this has
the others begin without it. The word goes to each of them, over their peer listeners, and holds
until the peer answers after all or the node ends. The peer joins when it comes.
Be sure that it is gone, and not only cut off: on its side, somebody could do the same, and there
would be two clusters.";

/// Arguments of `skein cluster`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ClusterCommandArguments {
    #[command(subcommand)]
    command: ClusterCommand,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Show the quorum, the nodes, and the partitions with which something is wrong.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// The partitions that are well, too
        #[arg(long)]
        all: bool,
    },
    /// Have new nodes found their cluster without a peer that is gone.
    #[command(after_help = FORM_EXAMPLES)]
    Form(form::Form),
}

/// Runs `skein cluster`.
pub(crate) fn run(arguments: ClusterCommandArguments) -> Result<(), Failure> {
    let ClusterCommandArguments { command, cluster } = arguments;
    match command {
        ClusterCommand::Status { all } => with_client(&cluster, |session| async move {
            status::run(&session, all).await
        }),
        ClusterCommand::Form(form) => {
            let secret = form.secret()?;
            with_env(&cluster, |env| form::run(env, &cluster, &form, secret))
        }
    }
}
