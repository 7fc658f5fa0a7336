//! `skein consume`: reads records and prints them.
//!
//! Input: options. Output: records on standard output, by a template or as JSON.
//!
//! Without `--follow` it ends where the partitions ended when it began, so that it can stand in a
//! script.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};
use skein_client::{
    ClientError, ConsumerOptions, ConsumerRecord, FoundOffset, IsolationLevel, OffsetSpec,
    Partition, StartAt,
};
use skein_types::{Offset, PartitionIndex, TopicName, TopicPartition};
use tokio::time::Instant;

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::output::{self, notice, warning};
use crate::produce::time;
use crate::reminder::Reminder;
use crate::session::{Session, with_client};
use crate::template::Template;
use crate::time::{Time, rfc3339};
use crate::topic::topic_name;

/// How long one look at the cluster waits for records.
const POLL: Duration = Duration::from_millis(500);
/// How long a cluster may be silent before whoever follows is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// Records that are taken at once.
const POLL_RECORDS: usize = 1000;

mod group;

const EXAMPLES: &str = "\
Examples:
  skein consume orders                               all that is there, values only
  skein consume orders --follow --from latest        what comes from now on
  skein consume orders --from 15m                    of the last quarter of an hour
  skein consume orders --from 2026-01-31T12:00:00Z --to 2026-01-31T13:00:00Z
  skein consume orders --partition 0 --from 1000 --count 10
  skein consume orders --format '{partition}:{offset} {time} {key}={value}\\n'
  skein consume orders --json | jq -r .value
  skein consume orders refunds --group billing --follow

With --group it shares the partitions with the other members, whatever client they use, and goes on
where the group has left off; --from counts where it has committed nothing. What was printed is
committed once a second and at the end, so that after a crash some records may come twice and none
is missing. Without --follow it ends where its partitions ended when it got them.

Fields of --format: {topic} {partition} {offset} {timestamp} {time} {key} {value} {headers}
{leader_epoch}. JSON has one object a line; bytes that are not UTF-8 are in key_hex and value_hex.";

/// Arguments of `skein consume`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConsumeArguments {
    /// The topic to read; with --group one or more
    #[arg(value_name = "TOPIC", required = true, value_parser = topic_name)]
    topics: Vec<TopicName>,
    /// Which partitions, separated by commas; all if not given
    #[arg(
        long,
        short,
        value_name = "N",
        value_delimiter = ',',
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    partition: Vec<i32>,
    /// Where to begin: an offset, 'earliest', 'latest', or a time
    #[arg(long, value_name = "POSITION", default_value = "earliest", value_parser = position)]
    from: Position,
    /// Where to end, itself not included: an offset, 'latest' (as of now), or a time
    #[arg(long, value_name = "POSITION", value_parser = position)]
    to: Option<Position>,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Wait for further records at the end
    #[arg(long, short)]
    follow: bool,
    /// Leave out records of transactions that are open or were aborted
    #[arg(long)]
    read_committed: bool,
    /// How a record is printed
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = "{value}\\n",
        conflicts_with = "json",
        value_parser = Template::parse
    )]
    format: Template,
    #[command(flatten)]
    group: group::Group,
    #[command(flatten)]
    cluster: ClusterArguments,
}

/// A place in a log as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Offset(Offset),
    Earliest,
    Latest,
    Time(Time),
}

fn position(text: &str) -> Result<Position, String> {
    match text {
        "earliest" | "beginning" => return Ok(Position::Earliest),
        "latest" | "end" => return Ok(Position::Latest),
        _ => {}
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let offset = text
            .parse()
            .map_err(|_| "no offset is that large".to_owned())?;
        return Ok(Position::Offset(Offset(offset)));
    }
    let time = time(text).map_err(|forms| format!("not an offset, earliest or latest; {forms}"))?;
    Ok(Position::Time(time))
}

/// Runs `skein consume`.
pub(crate) fn run(arguments: ConsumeArguments) -> Result<(), Failure> {
    let cluster = arguments.cluster.clone();
    if arguments.topics.len() > 1 && arguments.group.group.is_none() {
        return Err(Failure::wrong("several topics can only be read by a group")
            .hint("--group joins one; without it, name one topic."));
    }
    with_client(&cluster, |session| async move {
        if let Some(name) = &arguments.group.group {
            return group::read(&session, &arguments, name).await;
        }
        let mut all = Vec::new();
        for topic in &arguments.topics {
            all.extend(partitions(&session, &arguments, topic).await?);
        }
        let ends = ends(&session, &arguments, &all).await?;
        let starts = starts(&session, &arguments, &all).await?;
        read(&session, &arguments, starts, &ends).await
    })
}

async fn partitions(
    session: &Session,
    arguments: &ConsumeArguments,
    name: &TopicName,
) -> Result<Vec<TopicPartition>, Failure> {
    let topic = session.client.admin().describe_topic(name).await?;
    let mut asked: Vec<_> = arguments
        .partition
        .iter()
        .copied()
        .map(PartitionIndex)
        .collect();
    if asked.is_empty() {
        asked = topic.partitions.keys().copied().collect();
    }
    asked.sort_unstable();
    asked.dedup();
    if let Some(strange) = asked
        .iter()
        .find(|index| !topic.partitions.contains_key(*index))
    {
        let count = topic.partitions.len();
        return Err(
            Failure::failed(format!("topic {name} has no partition {strange}"))
                .hint(format!("It has {count}, numbered from 0.")),
        );
    }
    for index in &asked {
        if let Some(partition) = topic.partitions.get(index) {
            refuse_offline(name, *index, partition)?;
        }
    }
    let partitions = asked.into_iter().map(|partition| TopicPartition {
        topic: name.clone(),
        partition,
    });
    Ok(partitions.collect())
}

/// A partition without a leader gets one soon, as long as one of its replicas can become it.
fn refuse_offline(
    topic: &TopicName,
    index: PartitionIndex,
    partition: &Partition,
) -> Result<(), Failure> {
    if !partition.is_offline() {
        return Ok(());
    }
    let message = format!("partition {topic}-{index} has no leader: its replicas are offline");
    Err(Failure::failed(message).hint(
        "The logs of their nodes say why ('skein topic describe' names the nodes); \
         --partition reads the others.",
    ))
}

fn isolation_level(arguments: &ConsumeArguments) -> IsolationLevel {
    if arguments.read_committed {
        IsolationLevel::ReadCommitted
    } else {
        IsolationLevel::ReadUncommitted
    }
}

async fn offsets(
    session: &Session,
    arguments: &ConsumeArguments,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, FoundOffset>, Failure> {
    let wanted = partitions
        .iter()
        .map(|partition| (partition.clone(), spec))
        .collect();
    let level = isolation_level(arguments);
    Ok(session.client.admin().list_offsets(&wanted, level).await?)
}

/// Offset behind the last record to be printed; a partition without one is followed for ever.
async fn ends(
    session: &Session,
    arguments: &ConsumeArguments,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
    if arguments.follow && arguments.to.is_none() {
        return Ok(BTreeMap::new());
    }
    let latest = offsets(session, arguments, partitions, OffsetSpec::Latest).await?;
    let mut ends: BTreeMap<_, _> = latest
        .into_iter()
        .map(|(partition, found)| (partition, found.offset))
        .collect();
    match arguments.to {
        None | Some(Position::Latest) => {}
        Some(Position::Earliest) => ends.values_mut().for_each(|end| *end = Offset::ZERO),
        Some(Position::Offset(to)) => {
            // Following, it waits for records that are not there yet.
            ends.values_mut().for_each(|end| {
                *end = if arguments.follow { to } else { to.min(*end) };
            });
        }
        Some(Position::Time(time)) => {
            let spec = OffsetSpec::AtTime(time.resolve(session.env.clock.now()));
            for (partition, found) in offsets(session, arguments, partitions, spec).await? {
                if found.offset != Offset::NONE {
                    ends.insert(partition, found.offset);
                }
            }
        }
    }
    Ok(ends)
}

/// Offset of the first record to be printed.
async fn starts(
    session: &Session,
    arguments: &ConsumeArguments,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
    let spec = match arguments.from {
        Position::Offset(offset) => {
            let starts = partitions
                .iter()
                .map(|partition| (partition.clone(), offset));
            return Ok(starts.collect());
        }
        Position::Earliest => OffsetSpec::Earliest,
        Position::Latest => OffsetSpec::Latest,
        Position::Time(time) => OffsetSpec::AtTime(time.resolve(session.env.clock.now())),
    };
    let found = offsets(session, arguments, partitions, spec).await?;
    // No record is that young: what comes next is.
    let has_none = found.values().any(|found| found.offset == Offset::NONE);
    let latest = if has_none {
        offsets(session, arguments, partitions, OffsetSpec::Latest).await?
    } else {
        BTreeMap::new()
    };
    let starts = found.into_iter().map(|(partition, found)| {
        let offset = match latest.get(&partition) {
            Some(latest) if found.offset == Offset::NONE => latest.offset,
            _ => found.offset,
        };
        (partition, offset)
    });
    Ok(starts.collect())
}

/// Reads from `starts` on, and each partition to its end, if it has one.
async fn read(
    session: &Session,
    arguments: &ConsumeArguments,
    starts: BTreeMap<TopicPartition, Offset>,
    ends: &BTreeMap<TopicPartition, Offset>,
) -> Result<(), Failure> {
    let options = ConsumerOptions {
        isolation_level: isolation_level(arguments),
        max_poll_records: POLL_RECORDS,
        fetch_max_wait: POLL,
        // A position that the log does not have is a mistake here, not a reason to skip records.
        auto_offset_reset: None,
        ..ConsumerOptions::default()
    };
    let mut consumer = session.client.consumer(options);
    let is_over = |partition: &TopicPartition, position: Offset| {
        ends.get(partition).is_some_and(|end| position >= *end)
    };
    let mut open = starts;
    open.retain(|partition, start| !is_over(partition, *start));
    let begin = open
        .iter()
        .map(|(partition, start)| (partition.clone(), StartAt::Offset(*start)));
    consumer.assign(begin);
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut out = output::stdout();
    let mut silence = Silence::new(session.timeout, arguments.follow);
    while left > 0 && !open.is_empty() {
        let records = match consumer.poll(POLL).await {
            Ok(records) => {
                silence.check(consumer.last_failure())?;
                records
            }
            Err(error @ ClientError::Offline { .. }) if arguments.follow => {
                silence.check(Some(&error))?;
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for record in records {
            if left == 0 || is_over(&record.partition, record.offset) {
                continue;
            }
            print(&mut out, arguments, session.json, &record)?;
            left -= 1;
        }
        out.flush()?;
        open.retain(|partition, position| {
            // Offsets of control records and of compacted ones print nothing, so the position
            // counts.
            *position = consumer.position(partition).unwrap_or(*position);
            let is_open = !is_over(partition, *position);
            if !is_open {
                consumer.unassign(partition);
            }
            is_open
        });
    }
    Ok(())
}

/// How long the cluster has not answered.
struct Silence {
    since: Option<Instant>,
    timeout: Duration,
    /// Whoever follows waits for as long as it takes, and wants to know.
    is_endless: bool,
    reminder: Reminder,
}

impl Silence {
    fn new(timeout: Duration, is_endless: bool) -> Self {
        Self {
            since: None,
            timeout,
            is_endless,
            reminder: Reminder::new(PATIENCE),
        }
    }

    /// Takes note of the last failure, if nothing succeeded since.
    fn check(&mut self, failure: Option<&ClientError>) -> Result<(), Failure> {
        let Some(error) = failure else {
            self.since = None;
            if self.reminder.calm().is_some() {
                notice("the cluster answers again");
            }
            return Ok(());
        };
        let lasts = self.since.get_or_insert_with(Instant::now).elapsed();
        if !self.is_endless && lasts >= self.timeout {
            let error = ClientError::TimedOut {
                subject: "reading".into(),
                timeout: self.timeout,
                last: Some(Box::new(error.clone())),
            };
            return Err(error.into());
        }
        if self.is_endless && self.reminder.is_due(lasts) {
            let seconds = lasts.as_secs();
            warning(&format!(
                "nothing was read for {seconds} s; trying on: {error}"
            ));
        }
        Ok(())
    }
}

fn print(
    out: &mut impl Write,
    arguments: &ConsumeArguments,
    is_json: bool,
    record: &ConsumerRecord,
) -> Result<(), Failure> {
    if is_json {
        writeln!(out, "{}", record_json(record))?;
        return Ok(());
    }
    Ok(arguments.format.write(out, record)?)
}

fn record_json(record: &ConsumerRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), record.partition.topic.as_str().into());
    object.insert("partition".into(), record.partition.partition.0.into());
    object.insert("offset".into(), record.offset.0.into());
    object.insert("timestamp".into(), record.timestamp.0.into());
    object.insert("time".into(), rfc3339(record.timestamp).into());
    put_bytes(&mut object, "key", record.key.as_deref());
    put_bytes(&mut object, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|header| {
        let mut object = Map::new();
        put_bytes(&mut object, "name", Some(&header.key));
        put_bytes(&mut object, "value", header.value.as_deref());
        Value::Object(object)
    });
    object.insert("headers".into(), json!(headers.collect::<Vec<_>>()));
    Value::Object(object)
}

/// Text under its name, other bytes in hexadecimal digits under `name_hex`.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => object.insert(name.into(), Value::Null),
        Some((Ok(text), _)) => object.insert(name.into(), text.into()),
        Some((Err(_), bytes)) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), digits.into())
        }
    };
}

#[cfg(test)]
mod tests {
    use skein_types::Millis;

    use super::*;

    #[test]
    fn positions_are_offsets_words_or_times() {
        assert_eq!(position("42"), Ok(Position::Offset(Offset(42))));
        assert_eq!(position("earliest"), Ok(Position::Earliest));
        assert_eq!(position("end"), Ok(Position::Latest));
        assert_eq!(position("@5"), Ok(Position::Time(Time::At(Millis(5)))));
        assert_eq!(
            position("15m"),
            Ok(Position::Time(Time::Ago(Millis(900_000))))
        );
        for text in ["-1", "soon", "99999999999999999999"] {
            assert!(position(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_tells_text_from_bytes_and_from_nothing() {
        let mut object = Map::new();
        put_bytes(&mut object, "a", Some("ü".as_bytes()));
        put_bytes(&mut object, "b", Some(&[0xff, 0x01]));
        put_bytes(&mut object, "c", None);
        assert_eq!(
            Value::Object(object),
            json!({ "a": "ü", "b_hex": "ff01", "c": null })
        );
    }
}
