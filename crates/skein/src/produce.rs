//! `skein produce`: lines of standard input, or of a log file that grows, become records.
//!
//! Input: options, lines. Output: records in the cluster; a summary.
//!
//! Invariant: the exit code is 0 only if every line was written; following a file, if every line up
//! to the position that the state file has.

use bytes::Bytes;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use skein_client::ProducerRecord;
use skein_types::{Millis, PartitionIndex, TopicName};

use crate::arguments::{ClusterArguments, pair};
use crate::failure::Failure;
use crate::session::{with_client, with_env};
use crate::time::Time;
use crate::topic::topic_name;

mod follow;
mod lines;
pub(crate) mod options;
mod stdin;
mod summary;

use follow::FollowArguments;
use options::SendArguments;

const EXAMPLES: &str = "\
Examples:
  echo hello | skein produce orders
  skein produce orders < lines.txt                   a record a line
  echo 'k1:v1' | skein produce orders --key-separator :
  seq 1000000 | skein produce numbers --compression zstd --linger 50
  echo hello | skein produce orders --partition 2 --header source=shell --acks all
  skein produce logs --follow /var/log/app.log       collect a log file, through its rotations

A line without the key separator is a value without a key. With --null-value TEXT, a value that is
TEXT becomes a tombstone. On a terminal, Ctrl-D ends the input.

With --follow, Ctrl-C or SIGTERM ends it, and the next start goes on where it stopped: no line is
lost, and after a kill those behind the last place that was kept may come twice. A line without its
end waits for it. The topic must exist. A file that was renamed (FILE.1, FILE-20260131) is read to
its end first; one that was emptied or replaced is told and read from its start.";

/// Arguments of `skein produce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProduceArguments {
    /// The topic to write to
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    topic: TopicName,
    /// What stands between key and value in a line
    #[arg(long, short, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// A value that is this text has no bytes at all: a tombstone
    #[arg(long, value_name = "TEXT")]
    null_value: Option<String>,
    /// The partition, for all records
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header of every record; may be given several times
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// The timestamp of every record: a date, '15m' (ago), or '@MILLIS'
    #[arg(long, value_name = "TIME", value_parser = time)]
    timestamp: Option<Time>,
    /// Print where each record went
    #[arg(long)]
    show_offsets: bool,
    #[command(flatten)]
    send: SendArguments,
    #[command(flatten)]
    following: FollowArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// A point in time.
pub(crate) fn time(text: &str) -> Result<Time, String> {
    Time::parse(text).ok_or_else(|| {
        "write a date (2026-01-31, 2026-01-31T12:00:00Z), a time ago (15m, 2h, 7d) or @MILLIS"
            .into()
    })
}

impl ProduceArguments {
    /// The record of a line.
    fn record(&self, line: Bytes, timestamp: Option<Millis>) -> ProducerRecord {
        let (key, value) = match &self.key_separator {
            None => (None, line),
            Some(separator) => match find(&line, separator.as_bytes()) {
                Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
                None => (None, line),
            },
        };
        let is_null = self
            .null_value
            .as_ref()
            .is_some_and(|null| value == null.as_bytes());
        let headers = self
            .header
            .iter()
            .map(|(name, value)| (name.clone(), Some(Bytes::copy_from_slice(value.as_bytes()))));
        ProducerRecord {
            topic: self.topic.clone(),
            partition: self.partition.map(PartitionIndex),
            timestamp,
            key,
            value: (!is_null).then_some(value),
            headers: headers.collect(),
        }
    }
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    line.windows(separator.len())
        .position(|window| window == separator)
}

/// Runs `skein produce`.
pub(crate) fn run(arguments: ProduceArguments) -> Result<(), Failure> {
    let cluster = arguments.cluster.clone();
    match arguments.following.follow.clone() {
        Some(path) => with_env(&cluster, |env| follow::run(env, arguments, path)),
        None => with_client(&cluster, |session| stdin::run(session, arguments)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use skein_client::Acks;
    use skein_record::Codec;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn arguments(line: &str) -> ProduceArguments {
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Produce(produce) = arguments.command else {
            panic!()
        };
        produce
    }

    #[test]
    fn a_line_is_a_key_and_a_value_or_a_value_alone() {
        let with_keys = arguments("skein produce t --key-separator :: --null-value NULL");
        let record = |line: &'static str| {
            let record = with_keys.record(Bytes::from_static(line.as_bytes()), None);
            (record.key, record.value)
        };
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        assert_eq!(record("k::v::w"), (text("k"), text("v::w")));
        assert_eq!(record("k:v"), (None, text("k:v")));
        assert_eq!(record("::"), (text(""), text("")));
        assert_eq!(record("k::NULL"), (text("k"), None));
        assert_eq!(record("NULL"), (None, None));
        let plain = arguments("skein produce t -H a=1 -H a=2 --partition 3");
        let record = plain.record(Bytes::from_static(b"k::v"), None);
        assert_eq!(record.value, text("k::v"));
        assert_eq!(record.partition, Some(PartitionIndex(3)));
        assert_eq!(record.headers.len(), 2);
    }

    #[test]
    fn options_of_the_command_reach_the_producer() {
        let options = |line| arguments(line).send.options(Duration::from_secs(15));
        let some = options("skein produce t --acks 1 --compression zstd --linger 50");
        assert_eq!(some.acks, Acks::Leader);
        assert_eq!(some.compression, Codec::Zstd);
        assert_eq!(some.linger, Duration::from_millis(50));
        assert!(!some.is_idempotent());
        assert!(options("skein produce t").is_idempotent());
        assert_eq!(options("skein produce t --acks -1").acks, Acks::All);
    }
}
