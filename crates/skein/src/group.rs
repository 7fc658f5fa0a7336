//! `skein group`: list, describe, reset, delete.
//!
//! Input: options. Output: a table or JSON; nothing but a sentence for deletions.
//!
//! Invariants:
//! - what a reset will do is decided before anything is changed, and told in the same words with
//!   `--dry-run` and without;
//! - offsets are only changed of a group without members: whoever reads goes by what it has read,
//!   and would commit over them.

use std::io::Write;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::json;
use skein_client::{ClientError, GroupDescription};
use skein_types::ErrorCode;

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::output::{self, Table, count};
use crate::session::{Session, with_client};

mod describe;
mod reset;
mod selection;

use reset::Reset;
use selection::{Selection, selection};

const EXAMPLES: &str = "\
Examples:
  skein group list
  skein group describe billing                       members, and how far each partition is behind
  skein group reset billing --topic orders --to-time 2h --dry-run
  skein group delete billing

'skein group COMMAND --help' has more examples. 'skein consume --group' joins a group.";

const LIST_EXAMPLES: &str = "\
Examples:
  skein group list
  skein group list --state empty,dead                whom nobody reads for
  skein group list --type classic --json | jq -r '.[].group'";

const DESCRIBE_EXAMPLES: &str = "\
Examples:
  skein group describe billing
  skein group describe billing --metadata            what members said when they committed
  skein group describe --json | jq '.[].partitions[] | select(.lag_seconds > 60)'

RECORDS, BYTES and SECONDS are what the group has not read yet. SECONDS is how old the first one
is that is not read, by its own timestamp, FIRST UNREAD, and the clock of this machine. So it is 0
for who has read all, and grows while a record waits. Brokers other than Skein's do not tell
bytes.";

const DELETE_EXAMPLES: &str = "\
Examples:
  skein group delete billing
  skein group delete billing reports --if-exists
  skein group delete billing --topic orders          only what it has committed for a topic
  skein group delete billing --topic orders:0,4-6

A group with members is refused, and so are the offsets of a topic that a member may be reading.";

/// Every state that a broker of Kafka's protocol may tell (KIP-518).
const STATES: [&str; 7] = [
    "empty",
    "stable",
    "preparingrebalance",
    "completingrebalance",
    "assigning",
    "reconciling",
    "dead",
];

/// Every type (KIP-848).
const KINDS: [&str; 2] = ["classic", "consumer"];

/// Arguments of `skein group`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GroupArguments {
    #[command(subcommand)]
    command: GroupCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List the groups.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only groups in these states, separated by commas
        #[arg(
            long,
            value_name = "STATE",
            value_delimiter = ',',
            ignore_case = true,
            value_parser = STATES
        )]
        state: Vec<String>,
        /// Only groups of these types, separated by commas
        #[arg(
            long = "type",
            value_name = "TYPE",
            value_delimiter = ',',
            ignore_case = true,
            value_parser = KINDS
        )]
        kind: Vec<String>,
    },
    /// Show members, committed offsets, and how far behind they are.
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe {
        /// Which groups; all if none is named
        #[arg(value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
        groups: Vec<String>,
        /// Show what was committed along with each offset
        #[arg(long)]
        metadata: bool,
    },
    /// Set how far a group has read.
    #[command(after_help = reset::EXAMPLES)]
    Reset(Reset),
    /// Delete groups, or what they have committed for topics.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete {
        /// Which groups
        #[arg(
            value_name = "GROUP",
            required = true,
            value_parser = NonEmptyStringValueParser::new()
        )]
        groups: Vec<String>,
        /// Only the offsets of this topic, or of these of its partitions; may be given several
        /// times
        #[arg(long, value_name = "NAME[:PARTITIONS]", value_parser = selection)]
        topic: Vec<Selection>,
        /// It is no error if a group does not exist
        #[arg(long)]
        if_exists: bool,
    },
}

/// Runs `skein group`.
pub(crate) fn run(arguments: GroupArguments) -> Result<(), Failure> {
    let GroupArguments { command, cluster } = arguments;
    with_client(&cluster, |session| async move {
        match command {
            GroupCommand::List { state, kind } => list(&session, &state, &kind).await,
            GroupCommand::Describe { groups, metadata } => {
                describe::run(&session, groups, metadata).await
            }
            GroupCommand::Reset(reset) => reset::run(&session, &reset).await,
            GroupCommand::Delete {
                groups,
                topic,
                if_exists,
            } => delete(&session, groups, &topic, if_exists).await,
        }
    })
}

async fn list(session: &Session, states: &[String], kinds: &[String]) -> Result<(), Failure> {
    let groups = session.client.admin().list_groups(states, kinds).await?;
    let mut out = output::stdout();
    if session.json {
        let groups = groups.iter().map(|group| {
            json!({
                "group": group.group_id,
                "state": told(&group.state),
                "type": told(&group.kind),
                "protocol_type": group.protocol_type,
                "coordinator": group.coordinator.0,
            })
        });
        return output::json(&mut out, &groups.collect());
    }
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL", "COORDINATOR"]);
    for group in &groups {
        let cell = |text: &str| told(text).unwrap_or("-").to_owned();
        table.row(vec![
            cell(&group.group_id),
            cell(&group.state),
            cell(&group.kind),
            cell(&group.protocol_type),
            group.coordinator.to_string(),
        ]);
    }
    if table.is_empty() && states.is_empty() && kinds.is_empty() {
        // For people only: an empty list is an answer, not an error.
        let teaching = "'skein consume TOPIC --group NAME' makes one.";
        writeln!(out, "There are no groups. {teaching}")?;
    } else {
        table.write(&mut out, 0)?;
    }
    Ok(out.flush()?)
}

/// `None` where a broker says nothing.
fn told(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// What is known of a group; `None` if there is none of that name.
async fn find(session: &Session, group_id: &str) -> Result<Option<GroupDescription>, Failure> {
    match session.client.admin().describe_group(group_id).await {
        Ok(group) => Ok(Some(group)),
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// That nothing can be changed while somebody reads.
fn has_members(group_id: &str, members: usize, what: &str) -> Failure {
    let members = match members {
        0 => "members".to_owned(),
        members => count(members as u64, "member"),
    };
    Failure::failed(format!(
        "group {group_id} has {members}; {what} only while it has none"
    ))
    .hint(format!(
        "Stop them first; 'skein group describe {group_id}' says who they are. One that has \
         crashed is gone when its session times out."
    ))
}

async fn delete(
    session: &Session,
    groups: Vec<String>,
    topics: &[Selection],
    if_exists: bool,
) -> Result<(), Failure> {
    for group in groups {
        let what = if topics.is_empty() {
            delete_group(session, &group, if_exists).await?
        } else {
            delete_offsets(session, &group, topics, if_exists).await?
        };
        let mut out = output::stdout();
        if session.json {
            output::json(&mut out, &json!({ "group": group, "result": what }))?;
        } else {
            writeln!(out, "group {group}: {what}")?;
            out.flush()?;
        }
    }
    Ok(())
}

async fn delete_group(session: &Session, group: &str, if_exists: bool) -> Result<String, Failure> {
    match session.client.admin().delete_group(group).await {
        Ok(()) => Ok("deleted".into()),
        Err(error) => match error.code() {
            Some(ErrorCode::GroupIdNotFound) if if_exists => Ok("did not exist".into()),
            Some(ErrorCode::NonEmptyGroup) => {
                let found = find(session, group).await?;
                let members = found.map_or(0, |found| found.members.len());
                Err(has_members(group, members, "it can be deleted"))
            }
            _ => Err(error.into()),
        },
    }
}

async fn delete_offsets(
    session: &Session,
    group: &str,
    topics: &[Selection],
    if_exists: bool,
) -> Result<String, Failure> {
    let admin = session.client.admin();
    let committed = admin.committed_offsets(group).await?;
    let chosen = committed.into_keys();
    let chosen: Vec<_> = chosen
        .filter(|partition| topics.iter().any(|topic| topic.has(partition)))
        .collect();
    if chosen.is_empty() {
        if if_exists {
            return Ok("had no such offsets".into());
        }
        let topics: Vec<_> = topics.iter().map(Selection::to_string).collect();
        let message = format!("group {group} has no offsets of {}", topics.join(", "));
        return Err(Failure::failed(message).hint("'skein group describe' shows those it has."));
    }
    let number = chosen.len() as u64;
    match admin.delete_offsets(group, chosen).await {
        Ok(()) => Ok(format!("{} deleted", count(number, "offset"))),
        Err(error) if error.code() == Some(ErrorCode::GroupSubscribedToTopic) => {
            Err(subscribed(&error))
        }
        Err(error) => Err(error.into()),
    }
}

fn subscribed(error: &ClientError) -> Failure {
    Failure::failed(error.to_string())
        .hint("A member subscribes to the topic and would commit over it; stop the members first.")
}
