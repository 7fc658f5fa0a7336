//! `skein group reset`: sets how far a group has read.
//!
//! Input: where to, and of which partitions. Output: a table of what changes.
//!
//! ```text
//!   selection ─► partitions ─► wanted offsets ─► clamped into the log ─► table ─► commit
//!                                                                          └── --dry-run ends here
//! ```
//!
//! Invariant, checked in the tests: an offset that is committed lies in the log, between its first
//! record and its end.
//!
//! Source: KIP-122 (`kafka-consumer-groups --reset-offsets`), for what can be asked.

use std::collections::BTreeMap;
use std::io::Write;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use serde_json::json;
use skein_client::{CommittedOffset, IsolationLevel, OffsetSpec};
use skein_types::{ErrorCode, Offset, TopicPartition};

use super::selection::{Selection, selection};
use super::{find, has_members};
use crate::failure::Failure;
use crate::output::{self, Table, count, notice, warning};
use crate::produce::time;
use crate::session::Session;
use crate::time::Time;

pub(super) const EXAMPLES: &str = "\
Examples:
  skein group reset billing --all-topics --to-earliest --dry-run
  skein group reset billing --topic orders --to-latest
  skein group reset billing --topic orders:0,4-6 --to-offset 1200
  skein group reset billing --topic orders --to-time 2026-01-31T12:00:00Z
  skein group reset billing --topic orders --to-time 2h     what came in the last two hours again
  skein group reset billing --topic orders --shift-by -100  100 records a partition back

It says what changes, and with --dry-run changes nothing. An offset outside of the log is moved to
its nearest end, with a warning. A group with members is refused: they go by what they have read,
and would commit over it. A group that does not exist is made.";

/// Arguments of `skein group reset`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
#[command(group = ArgGroup::new("scope").required(true).multiple(false))]
pub(super) struct Reset {
    /// Which group
    #[arg(value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    group: String,
    /// A topic, or some of its partitions; may be given several times
    #[arg(long, value_name = "NAME[:PARTITIONS]", group = "scope", value_parser = selection)]
    topic: Vec<Selection>,
    /// All partitions that the group has committed offsets of
    #[arg(long, group = "scope")]
    all_topics: bool,
    /// To the first record that is kept
    #[arg(long, group = "target")]
    to_earliest: bool,
    /// To the end: only what comes from now on
    #[arg(long, group = "target")]
    to_latest: bool,
    /// To this offset
    #[arg(
        long,
        value_name = "N",
        group = "target",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    to_offset: Option<i64>,
    /// To the first record of this time or later: a date, or a time ago such as 15m
    #[arg(long, value_name = "TIME", group = "target", value_parser = time)]
    to_time: Option<Time>,
    /// By so many records forwards, or backwards if below 0
    #[arg(long, value_name = "N", group = "target", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

/// The ends of one partition's log, and what the group has committed of it.
#[derive(Clone, Copy, Debug)]
struct Known {
    start: Offset,
    end: Offset,
    committed: Option<Offset>,
}

pub(super) async fn run(session: &Session, reset: &Reset) -> Result<(), Failure> {
    let group = &reset.group;
    let found = find(session, group).await?;
    let members = found.as_ref().map_or(0, |found| found.members.len());
    if members > 0 {
        let refusal = has_members(group, members, "its offsets can be reset");
        if !reset.dry_run {
            return Err(refusal);
        }
        warning(refusal.message());
    }
    let known = known(session, reset).await?;
    let wanted = wanted(session, reset, &known).await?;
    let mut changes = BTreeMap::new();
    for (partition, offset) in wanted {
        let Some(known) = known.get(&partition) else {
            continue;
        };
        let clamped = offset.clamp(known.start, known.end);
        if clamped != offset {
            let (start, end) = (known.start, known.end);
            warning(&format!(
                "{partition}: the log has the offsets from {start} up to {end}; \
                 {offset} becomes {clamped}"
            ));
        }
        changes.insert(partition, (known.committed, clamped));
    }
    if changes.is_empty() {
        let message = format!("group {group} has no offsets to reset");
        return Err(Failure::failed(message).hint("--topic names a topic to begin with."));
    }
    if !reset.dry_run {
        if found.is_none() {
            notice(&format!("there was no group {group}; it is made"));
        }
        commit(session, group, &changes).await?;
    }
    tell(session, reset, &changes)
}

/// What is known of the partitions that are selected.
async fn known(
    session: &Session,
    reset: &Reset,
) -> Result<BTreeMap<TopicPartition, Known>, Failure> {
    let admin = session.client.admin();
    let committed = admin.committed_offsets(&reset.group).await?;
    let mut chosen = Vec::new();
    if reset.all_topics {
        chosen.extend(committed.keys().cloned());
    }
    for selection in &reset.topic {
        let topic = admin.describe_topic(&selection.topic).await?;
        let count = topic.partitions.len();
        if let Some(strange) = selection.beyond(count) {
            let name = &selection.topic;
            let message = format!("topic {name} has no partition {strange}");
            return Err(Failure::failed(message).hint(format!("It has {count}, numbered from 0.")));
        }
        let partitions = topic.partitions.keys().map(|partition| TopicPartition {
            topic: selection.topic.clone(),
            partition: *partition,
        });
        chosen.extend(partitions.filter(|partition| selection.has(partition)));
    }
    let find = async |spec: OffsetSpec| {
        let wanted = chosen.iter().map(|one| (one.clone(), spec)).collect();
        let level = IsolationLevel::ReadUncommitted;
        admin.list_offsets(&wanted, level).await
    };
    let starts = find(OffsetSpec::Earliest).await?;
    let ends = find(OffsetSpec::Latest).await?;
    let known = starts.into_iter().filter_map(|(partition, start)| {
        let end = ends.get(&partition)?.offset.max(start.offset);
        let committed = committed.get(&partition).map(|offset| offset.offset);
        let known = Known {
            start: start.offset,
            end,
            committed,
        };
        Some((partition, known))
    });
    Ok(known.collect())
}

/// Where each partition is to go, before it is clamped.
async fn wanted(
    session: &Session,
    reset: &Reset,
    known: &BTreeMap<TopicPartition, Known>,
) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
    let mut found = BTreeMap::new();
    if let Some(time) = reset.to_time {
        let spec = OffsetSpec::AtTime(time.resolve(session.env.clock.now()));
        let asked = known.keys().map(|partition| (partition.clone(), spec));
        let level = IsolationLevel::ReadUncommitted;
        let admin = session.client.admin();
        found = admin.list_offsets(&asked.collect(), level).await?;
    }
    let mut wanted = BTreeMap::new();
    for (partition, known) in known {
        // No record is that young: what comes next is.
        let at_time = found.get(partition).map(|found| found.offset);
        let at_time = at_time.filter(|offset| *offset != Offset::NONE);
        let offset = match target(reset, *known, at_time) {
            Some(offset) => offset,
            None => {
                let group = &reset.group;
                let message = format!("group {group} has no offset of {partition} to shift from");
                return Err(Failure::failed(message).hint("--to-offset and others need none."));
            }
        };
        wanted.insert(partition.clone(), offset);
    }
    Ok(wanted)
}

/// Where one partition is to go; `None` if that depends on an offset that there is not.
fn target(reset: &Reset, known: Known, at_time: Option<Offset>) -> Option<Offset> {
    if reset.to_earliest {
        return Some(known.start);
    }
    if let Some(offset) = reset.to_offset {
        return Some(Offset(offset));
    }
    if let Some(shift) = reset.shift_by {
        let committed = known.committed?;
        return Some(Offset(committed.0.saturating_add(shift)));
    }
    if reset.to_time.is_some() {
        return Some(at_time.unwrap_or(known.end));
    }
    Some(known.end)
}

/// What was committed, if anything was, and what is to be.
type Changes = BTreeMap<TopicPartition, (Option<Offset>, Offset)>;

async fn commit(session: &Session, group: &str, changes: &Changes) -> Result<(), Failure> {
    let offsets = changes.iter().map(|(partition, (_, offset))| {
        let offset = CommittedOffset::at(*offset);
        (partition.clone(), offset)
    });
    let admin = session.client.admin();
    match admin.commit_offsets(group, &offsets.collect()).await {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.code(),
                Some(ErrorCode::UnknownMemberId | ErrorCode::RebalanceInProgress)
            ) =>
        {
            // It got one since.
            Err(has_members(group, 0, "its offsets can be reset"))
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(session: &Session, reset: &Reset, changes: &Changes) -> Result<(), Failure> {
    let mut out = output::stdout();
    if session.json {
        let partitions = changes.iter().map(|(partition, (before, after))| {
            json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition.0,
                "before": before.map(|offset| offset.0),
                "after": after.0,
            })
        });
        let told = json!({
            "group": reset.group,
            "dry_run": reset.dry_run,
            "partitions": partitions.collect::<Vec<_>>(),
        });
        return output::json(&mut out, &told);
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "BEFORE", "AFTER", "CHANGE"]);
    for (partition, (before, after)) in changes {
        let text = |offset: Option<Offset>| offset.map_or("-".into(), |offset| offset.to_string());
        let change = before.map_or("-".into(), |before| format!("{:+}", after.0 - before.0));
        table.row(vec![
            partition.topic.to_string(),
            partition.partition.to_string(),
            text(*before),
            text(Some(*after)),
            change,
        ]);
    }
    table.write(&mut out, 0)?;
    let (group, number) = (&reset.group, count(changes.len() as u64, "partition"));
    if reset.dry_run {
        writeln!(
            out,
            "group {group}: {number} would be reset; nothing was changed"
        )?;
    } else {
        writeln!(out, "group {group}: {number} reset")?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        reset: Reset,
    }

    fn parsed(words: &str) -> Reset {
        let line = format!("reset g --topic t {words}");
        Line::try_parse_from(line.split_whitespace()).unwrap().reset
    }

    #[test]
    fn each_target_means_what_it_says() {
        let known = |committed: Option<i64>| Known {
            start: Offset(10),
            end: Offset(50),
            committed: committed.map(Offset),
        };
        for (words, committed, at_time, offset) in [
            ("--to-earliest", None, None, Some(10)),
            ("--to-latest", Some(20), None, Some(50)),
            ("--to-offset 30", None, None, Some(30)),
            ("--to-time 15m", None, Some(33), Some(33)),
            ("--to-time 15m", None, None, Some(50)),
            ("--shift-by -5", Some(20), None, Some(15)),
            ("--shift-by 5", Some(20), None, Some(25)),
            ("--shift-by 5", None, None, None),
            (
                "--shift-by -9223372036854775808",
                Some(0),
                None,
                Some(i64::MIN),
            ),
        ] {
            let found = target(&parsed(words), known(committed), at_time.map(Offset));
            assert_eq!(
                found,
                offset.map(Offset),
                "{words} {committed:?} {at_time:?}"
            );
        }
    }

    #[test]
    fn one_target_and_one_scope_must_be_given() {
        for line in [
            "reset g --topic t",
            "reset g --to-latest",
            "reset g --topic t --all-topics --to-latest",
            "reset g --topic t --to-latest --to-earliest",
            "reset g --topic t --to-offset -1",
            "reset g --topic t --to-time sometime",
        ] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
