//! The command line: commands, and the options that several of them share.
//!
//! Input: arguments. Output: one command with its options, or clap's message and exit code 2.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArguments;
use crate::cluster::ClusterCommandArguments;
use crate::completions::CompletionsArguments;
use crate::config::ConfigArguments;
use crate::consume::ConsumeArguments;
use crate::group::GroupArguments;
use crate::import::ImportArguments;
use crate::log::LogArguments;
use crate::node::NodeArguments;
use crate::partition::PartitionArguments;
use crate::produce::ProduceArguments;
use crate::record::RecordArguments;
use crate::serve::ServeArguments;
use crate::topic::TopicArguments;

const EXAMPLES: &str = "\
Examples:
  skein serve                                        a node at 127.0.0.1:9092
  skein topic create orders --partitions 3
  echo 'hello' | skein produce orders
  skein consume orders                               everything that is there
  skein consume orders --from latest --follow        what comes from now on
  skein produce logs --follow /var/log/app.log       a log file as it grows
  skein group describe billing                       how far behind its readers are
  skein cluster status                               is anything missing?
  skein bench produce                                how fast is it?
  skein config doc                                   every key, explained
  skein log verify skein-data                        whether the files agree
  skein import kafka /var/lib/kafka/data             take over a directory of Kafka

'skein COMMAND --help' has more examples.";

/// A Kafka-compatible distributed commit log in one binary.
#[derive(Debug, Parser)]
#[command(name = "skein", version, after_help = EXAMPLES, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node.
    Serve(ServeArguments),
    /// Create, list, describe, change and delete topics.
    Topic(TopicArguments),
    /// Write lines of standard input, or of a log file that grows, as records.
    Produce(ProduceArguments),
    /// Read records.
    Consume(ConsumeArguments),
    /// List and describe consumer groups, set how far they have read, delete them.
    Group(GroupArguments),
    /// Show how the cluster is: quorum, nodes, partitions; help it to form.
    Cluster(ClusterCommandArguments),
    /// List the nodes, and forget one that is gone for good.
    Node(NodeArguments),
    /// Elect leaders of partitions.
    Partition(PartitionArguments),
    /// Measure how fast a cluster writes, reads and answers.
    Bench(BenchArguments),
    /// Hide single records from every reader, and take that back.
    Record(RecordArguments),
    /// Describe, change, check and explain the configuration.
    Config(ConfigArguments),
    /// Look at the files of a node, without a node.
    Log(LogArguments),
    /// Take over a data directory of another system.
    Import(ImportArguments),
    /// Print a script that completes commands and options in a shell.
    Completions(CompletionsArguments),
}

/// Options of every command that talks to a cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArguments {
    /// Addresses of one or more brokers, separated by commas
    #[arg(
        long,
        short,
        // What Kafka's own tools call it.
        visible_alias = "bootstrap-server",
        global = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        help_heading = "Cluster"
    )]
    pub(crate) bootstrap: String,

    /// How long to wait for the cluster, in seconds
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value = "15",
        value_parser = seconds,
        help_heading = "Cluster"
    )]
    pub(crate) timeout: Duration,

    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,

    /// Tell on standard error what the client does
    #[arg(long, short, global = true, help_heading = "Output")]
    pub(crate) verbose: bool,
}

/// Seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration <= Duration::from_secs(86_400))
        .ok_or_else(|| "must be above 0, and at most a day (86400)".to_owned())
}

/// `name=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("not of the form name=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense_to_clap() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_teaches_every_command_by_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(help.contains("Examples:\n "), "{path}");
            assert!(help.contains(path.trim()), "{path}: {help}");
            // What is wider is broken by clap, where it should not be.
            let width = help.lines().map(str::len).max().unwrap_or(0);
            assert!(width <= 100, "{path}: {width} columns");
            for command in command.get_subcommands() {
                check(command, &path);
            }
        }
        check(&Arguments::command(), "");
    }

    #[test]
    fn options_of_the_cluster_stand_before_or_behind() {
        for line in [
            "skein topic --json --bootstrap a:1 list",
            "skein topic list --json --bootstrap a:1",
            "skein topic list --json --bootstrap-server a:1",
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let Command::Topic(topic) = arguments.command else {
                panic!()
            };
            assert!(topic.cluster.json);
            assert_eq!(topic.cluster.bootstrap, "a:1");
            assert_eq!(topic.cluster.timeout, Duration::from_secs(15));
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_the_code_for_it() {
        for line in [
            "skein",
            "skein fly",
            "skein topic create",
            "skein topic create t --partitions 0",
            "skein topic create t --config nonsense",
            "skein topic create a/b",
            "skein topic alter t",
            "skein produce t --acks 2",
            "skein produce t --compression brotli",
            "skein consume t --from sometime",
            "skein consume t --format {nonsense}",
            "skein consume t --format {value} --json",
            "skein consume t --timeout 0",
            "skein record redact t --offset 1",
            "skein record redact t --partition 0",
            "skein record redact t --partition 0 --offset -1",
            "skein group",
            "skein group reset g --to-latest",
            "skein group reset g --topic t:x --to-latest",
            "skein group list --state bogus",
            "skein group list --type bogus",
            // Between two blanks is a name of no letters.
            "skein group describe ",
            "skein group reset  --topic t --to-latest",
            "skein group delete ",
            "skein group delete",
            "skein cluster",
            "skein cluster form",
            "skein cluster form --without nonsense",
            "skein cluster form --without a:1 --peer nonsense",
            "skein node forget",
            "skein node forget 1 --founding-record d",
            "skein node forget first",
            "skein node forget -1",
            "skein partition elect",
            "skein partition elect t:x",
            "skein partition elect a/b",
            "skein partition elect t --all",
            "skein partition elect --all --unclean",
            "skein partition elect t --preferred --accept-loss",
            "skein partition elect t --preferred --unclean --accept-loss",
            "skein log dump",
            "skein import",
            "skein import kafka",
            "skein import rabbitmq d",
            "skein log locate d",
            "skein log locate d --offset 1 --timestamp 1h",
            "skein log locate d --offset -1",
            "skein log verify /no/such/directory/at/all --offset 1",
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn pairs_and_seconds() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(pair("a=").unwrap(), ("a".into(), String::new()));
        assert!(pair("=b").is_err() && pair("a").is_err());
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
        for text in ["", "x", "-1", "0", "NaN", "inf", "1e9"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
