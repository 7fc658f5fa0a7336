//! `skein node`: the nodes of a cluster, and the end of one.
//!
//! Input: options. Output: a table or JSON; a sentence for changes.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use skein_broker::drop_founding_record;
use skein_client::PartitionDescription;
use skein_env::Env;
use skein_types::BrokerId;

use crate::arguments::ClusterArguments;
use crate::cluster::{Overview, node_table, nodes_json};
use crate::failure::Failure;
use crate::output;
use crate::session::{Session, with_client, with_env};

/// Partitions that a refusal names.
const NAMED_MAX: usize = 3;

const EXAMPLES: &str = "\
Examples:
  skein node list
  skein node forget 3                                node 3 is gone for good

'skein node COMMAND --help' has more examples.";

const LIST_EXAMPLES: &str = "\
Examples:
  skein node list
  skein node list --json | jq -r '.[] | select(.state == \"fenced\").id'";

const FORGET_EXAMPLES: &str = "\
Examples:
  skein node forget 3
  skein node forget --founding-record /var/lib/skein/metadata

The node must be dead: stop it first, and wait until 'skein node list' shows it as fenced. It loses
its place in the quorum and in every set of replicas in sync. Its directory is worth nothing from
then on: should its process come back with it, it says so and ends. Emptied, it may join as a new
node. Where it may have the only copy of a partition, that takes --accept-loss.

--founding-record is for new nodes that never became a cluster, because a majority of those that
agreed on one was wiped before its first election. It drops the agreement from the
metadata.log.dir of a node that is stopped; with a cluster that has lived it refuses.";

/// Arguments of `skein node`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NodeArguments {
    #[command(subcommand)]
    command: NodeCommand,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// List the nodes: where they are, what they lead and hold, their part in the quorum.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Take a node that is gone for good out of the cluster.
    #[command(after_help = FORGET_EXAMPLES)]
    Forget {
        /// Its id, as 'skein node list' shows it
        #[arg(
            value_name = "ID",
            required_unless_present = "founding_record",
            conflicts_with = "founding_record",
            value_parser = clap::value_parser!(i32).range(0..)
        )]
        id: Option<i32>,
        /// Partitions of which the node may have the only copy are lost
        #[arg(long, conflicts_with = "founding_record")]
        accept_loss: bool,
        /// Drop what new nodes agreed on; DIR is the metadata.log.dir of a node that is stopped
        #[arg(long, value_name = "DIR")]
        founding_record: Option<PathBuf>,
    },
}

/// Runs `skein node`.
pub(crate) fn run(arguments: NodeArguments) -> Result<(), Failure> {
    let NodeArguments { command, cluster } = arguments;
    match command {
        NodeCommand::List => {
            with_client(&cluster, |session| async move { run_list(&session).await })
        }
        NodeCommand::Forget {
            founding_record: Some(directory),
            ..
        } => with_env(&cluster, |env| run_drop(env, directory, cluster.json)),
        NodeCommand::Forget {
            id, accept_loss, ..
        } => {
            let id = BrokerId(id.unwrap_or_default());
            with_client(&cluster, |session| async move {
                run_forget(&session, id, accept_loss).await
            })
        }
    }
}

async fn run_list(session: &Session) -> Result<(), Failure> {
    let overview = Overview::of(session).await?;
    let mut out = output::stdout();
    if session.json {
        return output::json(&mut out, &nodes_json(&overview));
    }
    node_table(&overview).write(&mut out, 0)?;
    Ok(out.flush()?)
}

async fn run_forget(session: &Session, id: BrokerId, accept_loss: bool) -> Result<(), Failure> {
    let admin = session.client.admin();
    let partitions = match accept_loss {
        true => Vec::new(),
        false => admin.describe_partitions(&[]).await?,
    };
    let only: Vec<_> = partitions
        .iter()
        .filter(|one| is_only_copy(one, id))
        .collect();
    if !only.is_empty() {
        return Err(only_copies(id, &only));
    }
    admin.unregister_broker(id).await?;
    let mut out = output::stdout();
    if session.json {
        let value = json!({ "node": id.get(), "result": "forgotten" });
        return output::json(&mut out, &value);
    }
    writeln!(out, "node {id}: forgotten")?;
    Ok(out.flush()?)
}

/// Whether nobody but the node is known to have all records of a partition.
fn is_only_copy(partition: &PartitionDescription, id: BrokerId) -> bool {
    let lists = [&partition.isr, &partition.elr, &partition.last_known];
    let mut known = lists.into_iter().flatten();
    known.clone().any(|other| *other == id) && known.all(|other| *other == id)
}

fn only_copies(id: BrokerId, only: &[&PartitionDescription]) -> Failure {
    let names = only
        .iter()
        .take(NAMED_MAX)
        .map(|one| one.partition.to_string());
    let mut names = names.collect::<Vec<_>>().join(", ");
    if only.len() > NAMED_MAX {
        names.push_str(&format!(" and {} more", only.len() - NAMED_MAX));
    }
    let message = format!("node {id} may have the only copy of {names}");
    Failure::failed(message).hint(
        "Bring it back if you can. With --accept-loss it is forgotten all the same, and only \
         'skein partition elect --unclean --accept-loss' brings what is left of them back.",
    )
}

/// Drops a founding record in a directory of this machine.
async fn run_drop(env: Env, directory: PathBuf, json: bool) -> Result<(), Failure> {
    let path: &Path = &directory;
    let cluster_id = drop_founding_record(&env, path)
        .map_err(|error| Failure::failed(error.to_string()))?
        .to_string();
    let mut out = output::stdout();
    let path = directory.display().to_string();
    if json {
        let value = json!({ "directory": path, "dropped": cluster_id });
        return output::json(&mut out, &value);
    }
    writeln!(
        out,
        "{path}: dropped the founding record of cluster {cluster_id}"
    )?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use skein_types::{LeaderEpoch, PartitionIndex, TopicName, TopicPartition};

    use super::*;

    #[test]
    fn a_copy_is_the_only_one_if_no_other_is_known_to_have_all_records() {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let is_only = |isr: &[i32], elr: &[i32], last_known: &[i32]| {
            let partition = PartitionDescription {
                partition: TopicPartition {
                    topic: TopicName::new("t").unwrap(),
                    partition: PartitionIndex(0),
                },
                is_internal: false,
                leader: None,
                leader_epoch: LeaderEpoch(0),
                replicas: ids(&[1, 2, 3]),
                isr: ids(isr),
                elr: ids(elr),
                last_known: ids(last_known),
                offline_replicas: Vec::new(),
            };
            is_only_copy(&partition, BrokerId(3))
        };
        assert!(is_only(&[], &[3], &[]) && is_only(&[], &[], &[3]) && is_only(&[3], &[], &[]));
        assert!(!is_only(&[1], &[3], &[]) && !is_only(&[], &[2, 3], &[]));
        assert!(
            !is_only(&[], &[], &[]),
            "nobody is known, so nothing is lost by it"
        );
        assert!(!is_only(&[1], &[], &[]));
    }
}
