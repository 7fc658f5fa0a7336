//! `skein record`: redact, redacted, restore.
//!
//! Input: a topic, a partition, offsets. Output: what is hidden from readers now, or again in
//! sight; never the content of a record.
//!
//! The list of hidden records is a key of the topic's configuration, which the brokers go by.
//!
//! Invariants:
//! - `redact` hides all of its offsets or none, and only such as hold a record: a mark on an offset
//!   to come would hide a record that nobody has seen;
//! - the list changes by APPEND and SUBTRACT, so that two commands at a time take nothing from one
//!   another. Marks of records that retention has taken are dead for good, and go first where the
//!   list would be too long: they can be taken out in a request of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use skein_client::{
    ConfigChange, ConfigResource, ConsumerOptions, FoundOffset, IsolationLevel, OffsetSpec, StartAt,
};
use skein_config::{REDACTED_RECORDS, REDACTED_RECORDS_MAX, RedactedRecord, RedactedRecords};
use skein_types::{Millis, Offset, PartitionIndex, TopicName, TopicPartition};

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::output::{self, Table, count};
use crate::session::{Session, with_client};
use crate::time::rfc3339;
use crate::topic::topic_name;

/// How long one look for a record waits: the next one sees whether its offset was passed.
const POLL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  skein record redact orders --partition 0 --offset 1200
  skein record redacted orders";

const REDACT_EXAMPLES: &str = "\
Examples:
  skein record redact orders --partition 0 --offset 42
  skein record redact orders --partition 0 --offset 42 --offset 43 --json

From the answer on no client gets these records: not by a fetch from their offset, nor from before
it, also after a restart. All others keep their offsets, and clients take the gap for that of a
compacted topic. All offsets of one command are hidden, or none; each must hold a record.

What it does not do: it deletes nothing. The bytes stay on the disks of all replicas, and in
backups, until retention, compaction or DeleteRecords takes them; 'skein log dump --records' shows
them. Who has read a record before keeps what he has read. Searches by time may still name a hidden
record's offset and timestamp. A topic hides 1024 records at most.";

const REDACTED_EXAMPLES: &str = "\
Examples:
  skein record redacted orders
  skein record redacted orders --json | jq -r '.[] | select(.in_log) | .offset'

Marks of records that are not in the log any more do nothing; 'skein record redact' takes them out
when the list is full.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  skein record restore orders --partition 0 --offset 42

Readers see the record again where it was, if it is still in the log. Consumers that have passed its
offset do not go back for it.";

/// Arguments of `skein record`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecordArguments {
    #[command(subcommand)]
    command: RecordCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Subcommand)]
enum RecordCommand {
    /// Hide records from every reader.
    #[command(after_help = REDACT_EXAMPLES)]
    Redact(Records),
    /// List the hidden records of a topic.
    #[command(after_help = REDACTED_EXAMPLES)]
    Redacted {
        /// Which topic
        #[arg(value_name = "TOPIC", value_parser = topic_name)]
        topic: TopicName,
    },
    /// Let readers see hidden records again.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Records),
}

/// Records of one partition.
#[derive(Debug, Args)]
struct Records {
    /// Which topic
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    topic: TopicName,
    /// Which partition
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// Which record; may be given several times
    #[arg(
        long,
        short,
        value_name = "N",
        required = true,
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    offset: Vec<i64>,
}

impl Records {
    fn records(&self) -> BTreeSet<RedactedRecord> {
        let record = |offset: &i64| RedactedRecord {
            partition: PartitionIndex(self.partition),
            offset: Offset(*offset),
        };
        self.offset.iter().map(record).collect()
    }
}

/// Runs `skein record`.
pub(crate) fn run(arguments: RecordArguments) -> Result<(), Failure> {
    let RecordArguments { command, cluster } = arguments;
    with_client(&cluster, |session| async move {
        match command {
            RecordCommand::Redact(records) => redact(&session, &records).await,
            RecordCommand::Redacted { topic } => list(&session, &topic).await,
            RecordCommand::Restore(records) => restore(&session, &records).await,
        }
    })
}

async fn redact(session: &Session, asked: &Records) -> Result<(), Failure> {
    let topic = &asked.topic;
    let hidden = hidden(session, topic).await?;
    let logs = logs(session, topic).await?;
    let known: BTreeSet<_> = hidden.iter().collect();
    let mut times: BTreeMap<RedactedRecord, Option<Millis>> = BTreeMap::new();
    for record in asked.records() {
        let time = if known.contains(&record) {
            None
        } else {
            Some(timestamp(session, topic, record, &logs).await?)
        };
        times.insert(record, time);
    }
    let new: Vec<_> = times
        .keys()
        .copied()
        .filter(|one| !known.contains(one))
        .collect();
    if hidden.len() + new.len() > REDACTED_RECORDS_MAX {
        let dead: Vec<_> = hidden.iter().filter(|one| !is_in_log(one, &logs)).collect();
        change(session, topic, &dead, ConfigChange::Subtract).await?;
    }
    change(session, topic, &new, ConfigChange::Append).await?;
    let mut out = output::stdout();
    if session.json {
        let told = times.iter().map(|(record, time)| {
            json!({
                "partition": record.partition.0,
                "offset": record.offset.0,
                "timestamp": time.map(|time| time.0),
                "time": time.map(rfc3339),
                "was_hidden": time.is_none(),
            })
        });
        return output::json(&mut out, &Value::Array(told.collect()));
    }
    let mut table = Table::new(&["PARTITION", "OFFSET", "TIME"]);
    for (record, time) in &times {
        let time = time.map_or_else(|| "hidden before".to_owned(), rfc3339);
        table.row(vec![
            record.partition.to_string(),
            record.offset.to_string(),
            time,
        ]);
    }
    table.write(&mut out, 0)?;
    let hidden = count(new.len() as u64, "record");
    writeln!(
        out,
        "topic {topic}: {hidden} hidden from readers; the bytes stay in the log"
    )?;
    Ok(out.flush()?)
}

async fn list(session: &Session, topic: &TopicName) -> Result<(), Failure> {
    let hidden = hidden(session, topic).await?;
    let logs = logs(session, topic).await?;
    let mut out = output::stdout();
    if session.json {
        let told = hidden.iter().map(|record| {
            json!({
                "partition": record.partition.0,
                "offset": record.offset.0,
                "in_log": is_in_log(&record, &logs),
            })
        });
        return output::json(&mut out, &Value::Array(told.collect()));
    }
    if hidden.is_empty() {
        writeln!(out, "topic {topic}: no record is hidden")?;
        return Ok(out.flush()?);
    }
    let mut table = Table::new(&["PARTITION", "OFFSET", "IN THE LOG"]);
    for record in hidden.iter() {
        let is_in_log = if is_in_log(&record, &logs) {
            "yes"
        } else {
            "no"
        };
        table.row(vec![
            record.partition.to_string(),
            record.offset.to_string(),
            is_in_log.to_owned(),
        ]);
    }
    table.write(&mut out, 0)?;
    Ok(out.flush()?)
}

async fn restore(session: &Session, asked: &Records) -> Result<(), Failure> {
    let topic = &asked.topic;
    let known: BTreeSet<_> = hidden(session, topic).await?.iter().collect();
    let records: Vec<_> = asked.records().into_iter().collect();
    if let Some(strange) = records.iter().find(|record| !known.contains(*record)) {
        let RedactedRecord { partition, offset } = strange;
        let message = format!("offset {offset} of {topic}-{partition} is not hidden");
        return Err(Failure::failed(message).hint("'skein record redacted' lists what is."));
    }
    change(session, topic, &records, ConfigChange::Subtract).await?;
    let mut out = output::stdout();
    if session.json {
        let told = records
            .iter()
            .map(|record| json!({"partition": record.partition.0, "offset": record.offset.0}));
        return output::json(&mut out, &Value::Array(told.collect()));
    }
    let restored = count(records.len() as u64, "record");
    writeln!(out, "topic {topic}: {restored} no longer hidden")?;
    Ok(out.flush()?)
}

/// What the topic hides now.
async fn hidden(session: &Session, topic: &TopicName) -> Result<RedactedRecords, Failure> {
    let resource = ConfigResource::Topic(topic.clone());
    let keys = session.client.admin().describe_configs(&resource).await?;
    let Some(key) = keys.into_iter().find(|key| key.name == REDACTED_RECORDS) else {
        let message = format!("the cluster does not know the key {REDACTED_RECORDS}");
        return Err(Failure::failed(message).hint("Its brokers are no nodes of Skein."));
    };
    Ok(RedactedRecords::read(&key.value.unwrap_or_default()))
}

/// First offset, and offset behind the last record, of each partition.
async fn logs(
    session: &Session,
    topic: &TopicName,
) -> Result<BTreeMap<PartitionIndex, (Offset, Offset)>, Failure> {
    let admin = session.client.admin();
    let partitions = admin.describe_topic(topic).await?.partitions;
    let wanted = |spec: OffsetSpec| -> BTreeMap<_, _> {
        let names = partitions.keys().map(|partition| TopicPartition {
            topic: topic.clone(),
            partition: *partition,
        });
        names.map(|name| (name, spec)).collect()
    };
    let level = IsolationLevel::ReadUncommitted;
    let starts = admin
        .list_offsets(&wanted(OffsetSpec::Earliest), level)
        .await?;
    let ends = admin
        .list_offsets(&wanted(OffsetSpec::Latest), level)
        .await?;
    let both = starts.into_iter().map(|(name, start): (_, FoundOffset)| {
        let end = ends.get(&name).map_or(start.offset, |end| end.offset);
        (name.partition, (start.offset, end))
    });
    Ok(both.collect())
}

fn is_in_log(record: &RedactedRecord, logs: &BTreeMap<PartitionIndex, (Offset, Offset)>) -> bool {
    (logs.get(&record.partition)).is_some_and(|(start, _)| record.offset >= *start)
}

/// When the record was made; a failure if there is none.
async fn timestamp(
    session: &Session,
    topic: &TopicName,
    record: RedactedRecord,
    logs: &BTreeMap<PartitionIndex, (Offset, Offset)>,
) -> Result<Millis, Failure> {
    let RedactedRecord { partition, offset } = record;
    let nothing = |why: String| {
        let message = format!("there is no record at offset {offset} of {topic}-{partition}");
        Err(Failure::failed(message).hint(format!("{why} Nothing was hidden.")))
    };
    let Some((start, end)) = logs.get(&partition) else {
        let partitions = logs.len();
        return nothing(format!("The topic has {partitions}, numbered from 0."));
    };
    if offset < *start || offset >= *end {
        return nothing(format!("The log has the offsets from {start} up to {end}."));
    }
    let name = TopicPartition {
        topic: topic.clone(),
        partition,
    };
    let options = ConsumerOptions {
        max_poll_records: 1,
        auto_offset_reset: None,
        ..ConsumerOptions::default()
    };
    let mut consumer = session.client.consumer(options);
    consumer.assign([(name.clone(), StartAt::Offset(offset))]);
    let found = tokio::time::timeout(session.timeout, async {
        loop {
            if let Some(first) = consumer.poll(POLL).await?.first() {
                return Ok(Some(first.clone()));
            }
            if consumer
                .position(&name)
                .is_some_and(|position| position > offset)
            {
                return Ok::<_, Failure>(None);
            }
        }
    });
    match found.await {
        Ok(found) => match found? {
            Some(found) if found.offset == offset => Ok(found.timestamp),
            _ => nothing("Compaction has taken it, or it is a marker of a transaction.".into()),
        },
        Err(_) => Err(Failure::failed(format!("cannot read {name} in time"))),
    }
}

async fn change(
    session: &Session,
    topic: &TopicName,
    records: &[RedactedRecord],
    change: impl Fn(String, String) -> ConfigChange,
) -> Result<(), Failure> {
    if records.is_empty() {
        return Ok(());
    }
    let items: Vec<_> = records.iter().map(RedactedRecord::to_string).collect();
    let change = change(REDACTED_RECORDS.to_owned(), items.join(","));
    let resource = ConfigResource::Topic(topic.clone());
    let admin = session.client.admin();
    Ok(admin.alter_configs(&resource, &[change], false).await?)
}
