//! `skein consume --group`: reads as a member of a group.
//!
//! Input: topics, a group. Output: the records of the partitions that this member is given; offsets
//! committed for the group.
//!
//! Invariants:
//! - what is committed was printed and flushed before; what could not be printed is not committed;
//! - Ctrl-C and SIGTERM end it in order: committed, and out of the group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, ValueEnum};
use skein_client::{
    Assignor, ConsumerOptions, GroupConsumer, GroupOptions, IsolationLevel, OffsetSpec, StartAt,
};
use skein_types::{Offset, TopicPartition};
use tokio::time::Instant;

use super::{ConsumeArguments, POLL, POLL_RECORDS, Position, Silence, isolation_level, print};
use crate::arguments::seconds;
use crate::failure::Failure;
use crate::output::{self, notice};
use crate::session::Session;
use crate::stop::Stop;

/// Who is gone without a word is missed for so long.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How much may be read again by another member after a crash.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a member that is given nothing waits for others to make room.
const NOTHING_MAX: Duration = Duration::from_secs(5);

/// How to be a member.
#[derive(Debug, Args)]
#[command(next_help_heading = "Group")]
pub(super) struct Group {
    /// Read as a member of this group, from where it has left off
    #[arg(long, short, value_name = "NAME", conflicts_with_all = ["partition", "to"])]
    pub(super) group: Option<String>,
    /// A name that stays over restarts: a member that is back soon keeps its partitions
    #[arg(long, value_name = "NAME", requires = "group")]
    group_instance_id: Option<String>,
    /// Seconds after which a member that is stuck, because nobody takes its output, loses its
    /// partitions to others
    #[arg(
        long,
        value_name = "S",
        default_value = "300",
        value_parser = seconds,
        requires = "group"
    )]
    max_poll_interval: Duration,
    /// How the group shares out partitions; offers both if not given, as most clients do
    #[arg(long, value_enum, requires = "group")]
    assignor: Option<AssignorArgument>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AssignorArgument {
    /// Neighbouring partitions to each.
    Range,
    /// Even, with few changes, and without a stop for what stays.
    CooperativeSticky,
}

/// Reads as a member of the group `name`.
pub(super) async fn read(
    session: &Session,
    arguments: &ConsumeArguments,
    name: &str,
) -> Result<(), Failure> {
    let mut stop = Stop::listen(&session.env);
    let admin = session.client.admin();
    for topic in &arguments.topics {
        admin.describe_topic(topic).await?;
    }
    let start_at = start_at(session, arguments);
    let options = ConsumerOptions {
        isolation_level: isolation_level(arguments),
        fetch_max_wait: POLL,
        auto_offset_reset: match start_at {
            StartAt::Found(spec) => Some(spec),
            StartAt::Offset(_) => None,
        },
        ..ConsumerOptions::default()
    };
    let group = group_options(arguments, name, start_at);
    let mut member = session.client.group_consumer(group, options)?;
    let result = tokio::select! {
        biased;
        () = stop.wanted() => Ok(()),
        result = read_on(session, arguments, &mut member) => result,
    };
    match result {
        Ok(()) => Ok(member.close().await?),
        Err(failure) => {
            // The last records may not have been printed: whoever is next gets them again.
            member.leave().await;
            Err(failure)
        }
    }
}

fn group_options(arguments: &ConsumeArguments, name: &str, start_at: StartAt) -> GroupOptions {
    let defaults = GroupOptions::default();
    GroupOptions {
        group_id: name.to_owned(),
        topics: arguments.topics.iter().cloned().collect(),
        instance_id: arguments.group.group_instance_id.clone(),
        assignors: match arguments.group.assignor {
            None => defaults.assignors.clone(),
            Some(AssignorArgument::Range) => vec![Assignor::Range],
            Some(AssignorArgument::CooperativeSticky) => vec![Assignor::CooperativeSticky],
        },
        session_timeout: SESSION_TIMEOUT,
        max_poll_interval: arguments.group.max_poll_interval,
        commit_interval: COMMIT_INTERVAL,
        start_at,
        ..defaults
    }
}

/// Where to begin where the group has committed nothing.
fn start_at(session: &Session, arguments: &ConsumeArguments) -> StartAt {
    match arguments.from {
        Position::Offset(offset) => StartAt::Offset(offset),
        Position::Earliest => StartAt::Found(OffsetSpec::Earliest),
        Position::Latest => StartAt::Found(OffsetSpec::Latest),
        Position::Time(time) => {
            let time = time.resolve(session.env.clock.now());
            StartAt::Found(OffsetSpec::AtTime(time))
        }
    }
}

async fn read_on(
    session: &Session,
    arguments: &ConsumeArguments,
    member: &mut GroupConsumer,
) -> Result<(), Failure> {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let mut out = output::stdout();
    let mut silence = Silence::new(session.timeout, arguments.follow);
    let mut ends = Ends::default();
    while left > 0 {
        let records_max = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(POLL_RECORDS);
        let records = member.poll(records_max, POLL).await?;
        silence.check(member.last_failure())?;
        left = left.saturating_sub(records.len() as u64);
        for record in records {
            print(&mut out, arguments, session.json, &record)?;
        }
        std::io::Write::flush(&mut out)?;
        if !arguments.follow && ends.are_reached(session, arguments, member).await? {
            break;
        }
    }
    Ok(())
}

/// Where the partitions that a member was given ended then.
#[derive(Default)]
struct Ends {
    ends: BTreeMap<TopicPartition, Offset>,
    /// Since when it has had nothing.
    idle_since: Option<Instant>,
}

impl Ends {
    /// Whether the member has read all that was there when it was given its partitions.
    async fn are_reached(
        &mut self,
        session: &Session,
        arguments: &ConsumeArguments,
        member: &GroupConsumer,
    ) -> Result<bool, Failure> {
        let Some(assignment) = member.assignment() else {
            return Ok(false);
        };
        if assignment.is_empty() {
            let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
            let has_waited = idle_since.elapsed() >= NOTHING_MAX;
            if has_waited {
                notice("other members of the group read all partitions");
            }
            return Ok(has_waited);
        }
        self.idle_since = None;
        self.ends
            .retain(|partition, _| assignment.contains(partition));
        let is_new = |partition: &&TopicPartition| !self.ends.contains_key(*partition);
        let new: BTreeSet<_> = assignment.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            let level: IsolationLevel = isolation_level(arguments);
            let new = new.into_iter().map(|one| (one, OffsetSpec::Latest));
            let admin = session.client.admin();
            for (partition, end) in admin.list_offsets(&new.collect(), level).await? {
                self.ends.insert(partition, end.offset);
            }
        }
        let mut ends = self.ends.iter();
        Ok(ends.all(|(partition, end)| member.position(partition) >= Some(*end)))
    }
}
