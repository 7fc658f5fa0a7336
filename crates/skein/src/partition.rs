//! `skein partition`: leaders where an operator wants them.
//!
//! Input: partitions, the kind of election. Output: for each what became of it, as a table or JSON.
//!
//! Invariants: without `--accept-loss` no record can be lost; that a partition has the wanted
//! leader already is no failure.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use skein_client::{Admin, ClientError, Elected, Election};
use skein_types::{BrokerId, ErrorCode, PartitionIndex, TopicName, TopicPartition};

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::output::{self, Table, count};
use crate::session::{Session, with_client};
use crate::topic::topic_name;

const EXAMPLES: &str = "\
Examples:
  skein partition elect --all                        every first replica leads again
  skein partition elect orders:0 --unclean --accept-loss

'skein partition COMMAND --help' has more examples.";

const ELECT_EXAMPLES: &str = "\
Examples:
  skein partition elect orders                       the first replica of each partition leads again
  skein partition elect orders:0 orders:3 audit
  skein partition elect --all
  skein partition elect orders:0 --unclean --accept-loss

A preferred election loses nothing: the first replica must be alive and in sync. An unclean one
gives a partition that nobody leads to any live replica: records that only the others have are lost
for ever, which is why it takes --accept-loss. Try to bring the nodes back first.";

/// Arguments of `skein partition`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PartitionArguments {
    #[command(subcommand)]
    command: PartitionCommand,
    #[command(flatten)]
    pub(crate) cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum PartitionCommand {
    /// Elect leaders.
    #[command(after_help = ELECT_EXAMPLES)]
    Elect(Elect),
}

#[derive(Debug, Args)]
struct Elect {
    /// Which partitions; all of a topic if no number follows its name
    #[arg(
        value_name = "TOPIC[:PARTITION]",
        required_unless_present = "all",
        conflicts_with = "all",
        value_parser = selection
    )]
    partitions: Vec<Selection>,
    /// Every partition of the cluster
    #[arg(long)]
    all: bool,
    /// The first replica is to lead; the default
    #[arg(long, conflicts_with_all = ["unclean", "accept_loss"])]
    preferred: bool,
    /// Any live replica may lead, also one that lacks records
    #[arg(long, requires = "accept_loss")]
    unclean: bool,
    /// Records that the new leader lacks may be lost
    #[arg(long, requires = "unclean")]
    accept_loss: bool,
}

/// A topic, or one partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selection {
    topic: TopicName,
    partition: Option<PartitionIndex>,
}

/// `TOPIC` or `TOPIC:PARTITION`; no topic's name has a colon.
fn selection(text: &str) -> Result<Selection, String> {
    let (topic, partition) = match text.split_once(':') {
        None => (text, None),
        Some((topic, partition)) => (topic, Some(partition)),
    };
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number: &i32| *number >= 0);
        let number = number.ok_or_else(|| format!("{text:?} is not the number of a partition"));
        number.map(PartitionIndex)
    };
    Ok(Selection {
        topic: topic_name(topic)?,
        partition: partition.map(number).transpose()?,
    })
}

/// Runs `skein partition`.
pub(crate) fn run(arguments: PartitionArguments) -> Result<(), Failure> {
    let PartitionArguments { command, cluster } = arguments;
    with_client(&cluster, |session| async move {
        match command {
            PartitionCommand::Elect(elect) => run_elect(&session, elect).await,
        }
    })
}

async fn run_elect(session: &Session, elect: Elect) -> Result<(), Failure> {
    let admin = session.client.admin();
    let partitions = partitions(&admin, &elect.partitions).await?;
    let election = match elect.unclean {
        true => Election::Unclean,
        false => Election::Preferred,
    };
    let elected = match partitions.is_empty() {
        true => Elected::new(),
        false => admin.elect_leaders(election, &partitions).await?,
    };
    let leaders = leaders(&admin, &elected).await?;
    let failed = elected.values().filter(|result| is_failure(result)).count() as u64;
    let mut out = output::stdout();
    if session.json {
        let rows = elected.iter().map(|(partition, result)| {
            json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition.get(),
                "result": word(result),
                "error": result.as_ref().err().and_then(ClientError::code).map(ErrorCode::name),
                "leader": leaders.get(partition).map(|id| id.get()),
            })
        });
        output::json(&mut out, &rows.collect::<Value>())?;
    } else {
        let mut table = Table::new(&["TOPIC", "PARTITION", "LEADER", "RESULT"]);
        for (partition, result) in &elected {
            table.row(vec![
                partition.topic.to_string(),
                partition.partition.to_string(),
                leaders
                    .get(partition)
                    .map_or("none".into(), BrokerId::to_string),
                word(result),
            ]);
        }
        if table.is_empty() {
            writeln!(out, "There are no partitions.")?;
        } else {
            table.write(&mut out, 0)?;
        }
        out.flush()?;
    }
    if failed > 0 {
        let total = count(elected.len() as u64, "partition");
        return Err(Failure::failed(format!(
            "{failed} of {total} have no such leader"
        )));
    }
    Ok(())
}

/// The partitions that are meant; an unknown topic is refused here, one that has no such partition
/// by the controller.
async fn partitions(
    admin: &Admin,
    selected: &[Selection],
) -> Result<Vec<TopicPartition>, ClientError> {
    let mut topics: Vec<_> = selected.iter().map(|one| one.topic.clone()).collect();
    topics.sort_unstable();
    topics.dedup();
    let described = admin.describe_partitions(&topics).await?;
    let all = described.into_iter().map(|one| one.partition);
    if selected.is_empty() {
        return Ok(all.collect());
    }
    let is_whole = |partition: &TopicPartition| {
        let whole = |one: &&Selection| one.partition.is_none() && one.topic == partition.topic;
        selected.iter().any(|one| whole(&one))
    };
    let named = selected.iter().filter_map(|one| {
        Some(TopicPartition {
            topic: one.topic.clone(),
            partition: one.partition?,
        })
    });
    let mut partitions: Vec<_> = all.filter(is_whole).chain(named).collect();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// Who leads the partitions now.
async fn leaders(
    admin: &Admin,
    elected: &Elected,
) -> Result<BTreeMap<TopicPartition, BrokerId>, ClientError> {
    let mut topics: Vec<_> = elected.keys().map(|one| one.topic.clone()).collect();
    topics.dedup();
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let described = admin.describe_partitions(&topics).await?;
    let led = described.into_iter();
    Ok(led
        .filter_map(|one| Some((one.partition, one.leader?)))
        .collect())
}

fn is_not_needed(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::ElectionNotNeeded)
}

fn is_failure(result: &Result<(), ClientError>) -> bool {
    result.as_ref().is_err_and(|error| !is_not_needed(error))
}

fn word(result: &Result<(), ClientError>) -> String {
    match result {
        Ok(()) => "elected".into(),
        Err(error) if is_not_needed(error) => "has it already".into(),
        Err(ClientError::Refused { code, message, .. }) => match message {
            Some(message) => format!("{message} ({code})"),
            None => code.name().to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_a_topic_or_one_partition_of_it() {
        let topic = TopicName::new("a.b").unwrap();
        let of = |partition| Selection {
            topic: topic.clone(),
            partition,
        };
        assert_eq!(selection("a.b").unwrap(), of(None));
        assert_eq!(selection("a.b:7").unwrap(), of(Some(PartitionIndex(7))));
        for text in ["", ":0", "a:", "a:-1", "a:x", "a:1:2", "a/b"] {
            assert!(selection(text).is_err(), "{text}");
        }
    }
}
