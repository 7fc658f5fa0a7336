//! All members of a partition were lost unclean: the longest log leads.
//!
//! ```text
//!   ISR and ELR are empty ─► each last known member reports ─► all have ─► the longest log leads,
//!                                                                          `Recovering`
//! ```
//!
//! Input: reports of brokers where their logs end; those of the others, which the controller keeps
//! in memory. Output: a leader for each partition of which all reports are there.
//!
//! Invariants:
//! - nobody leads before all last known members that still belong to the cluster have reported, in
//!   their present registration and since the partition lost its leader;
//! - who leads has the largest end by (last leader epoch, log end offset): of what was acknowledged
//!   it has all that is left anywhere.
//!
//! Source: own design (ARCHITECTURE, "Replication"); KIP-966 (last known ELR, unclean recovery).

use std::collections::BTreeMap;

use skein_metadata::{Image, Partition};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::batch::{Context, Decision, effective_config, topic_config};
use crate::election::change_partition;
use crate::{Refusal, Response, brokers};

/// Most logs that one request may report.
pub const LOGS_PER_REPORT_MAX: usize = 10_000;

/// A broker says where its logs end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportLogEnds {
    /// Who.
    pub broker_id: BrokerId,
    /// Under which registration.
    pub broker_epoch: BrokerEpoch,
    /// Of which partitions.
    pub logs: Vec<ReportedLog>,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedLog {
    /// Of which topic.
    pub topic_id: TopicId,
    /// Of which partition.
    pub partition: PartitionIndex,
    /// That of the image when the log was looked at: since then nobody has led.
    pub leader_epoch: LeaderEpoch,
    /// The end.
    pub end: LogEnd,
}

/// The end of a log. The larger one has more of what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    /// The leader epoch of its last batch; [`LeaderEpoch::NONE`] if it is empty.
    pub last_epoch: LeaderEpoch,
    /// The offset behind the last one.
    pub end_offset: Offset,
}

/// What brokers have reported, for as long as it is of use.
#[derive(Clone, Debug, Default)]
pub struct LogEnds {
    reports: BTreeMap<(TopicId, PartitionIndex), BTreeMap<BrokerId, Report>>,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    broker_epoch: BrokerEpoch,
    leader_epoch: LeaderEpoch,
    end: LogEnd,
}

impl LogEnds {
    /// Keeps what a broker has reported, and forgets what is of no use in `image`.
    pub fn note(&mut self, request: &ReportLogEnds, image: &Image) {
        self.reports.retain(|(topic, index), _| {
            let partition = image.partition(*topic, *index);
            partition.is_some_and(|partition| is_lost(partition))
        });
        for log in &request.logs {
            let id = (log.topic_id, log.partition);
            if waiting(image, id, request.broker_id).is_none() {
                continue;
            }
            let report = Report {
                broker_epoch: request.broker_epoch,
                leader_epoch: log.leader_epoch,
                end: log.end,
            };
            let of_partition = self.reports.entry(id).or_default();
            of_partition.insert(request.broker_id, report);
        }
    }

    fn end(
        &self,
        image: &Image,
        id: (TopicId, PartitionIndex),
        leader_epoch: LeaderEpoch,
        broker: BrokerId,
    ) -> Option<LogEnd> {
        let report = self.reports.get(&id)?.get(&broker)?;
        let registered = image.broker(broker)?.epoch;
        let is_present = report.broker_epoch == registered && report.leader_epoch == leader_epoch;
        is_present.then_some(report.end)
    }
}

pub(crate) fn decide(
    image: &Image,
    request: &ReportLogEnds,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    brokers::check_epoch(image, request.broker_id, request.broker_epoch)?;
    if request.logs.len() > LOGS_PER_REPORT_MAX {
        let message = format!("one report names {LOGS_PER_REPORT_MAX} logs at most");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let config = effective_config(image, context.config);
    let mut records = BTreeMap::new();
    for log in &request.logs {
        let id = (log.topic_id, log.partition);
        let found = image
            .topic(log.topic_id)
            .zip(waiting(image, id, request.broker_id));
        let Some((topic, partition)) = found else {
            continue; // deleted, or led, meanwhile
        };
        let Some(longest) = longest(image, partition, log, request.broker_id, context) else {
            continue;
        };
        let config = topic_config(image, &config, &topic.name);
        let record = change_partition(topic, log.partition, partition, &config, |change| {
            change.recover(longest);
        });
        records.extend(record.map(|record| (id, record)));
    }
    Ok(Decision {
        records: records.into_values().collect(),
        response: Response::ReportLogEnds(()),
    })
}

/// The partition, if it waits for a report of this broker.
fn waiting(
    image: &Image,
    (topic, index): (TopicId, PartitionIndex),
    broker: BrokerId,
) -> Option<&Partition> {
    let partition = image.partition(topic, index)?;
    let is_member = partition.last_known.contains(&broker);
    (is_lost(partition) && is_member).then_some(partition)
}

fn is_lost(partition: &Partition) -> bool {
    partition.leader == BrokerId::NONE && partition.isr.is_empty() && partition.elr.is_empty()
}

/// Who has the longest log, if all have said so and it may lead.
fn longest(
    image: &Image,
    partition: &Partition,
    log: &ReportedLog,
    reporter: BrokerId,
    context: &Context<'_>,
) -> Option<BrokerId> {
    if log.leader_epoch != partition.leader_epoch {
        return None;
    }
    let id = (log.topic_id, log.partition);
    let mut longest: Option<(LogEnd, BrokerId)> = None;
    // In the order of the replicas, so that of equal logs the preferred one leads.
    let members = partition.replicas.iter().copied().filter(|id| {
        // Who was removed from the cluster does not come back.
        partition.last_known.contains(id) && image.broker(*id).is_some()
    });
    for member in members {
        let known = || {
            context
                .log_ends
                .end(image, id, partition.leader_epoch, member)
        };
        let end = match member == reporter {
            true => log.end,
            false => known()?,
        };
        if longest.is_none_or(|(other, _)| end > other) {
            longest = Some((end, member));
        }
    }
    let (_, member) = longest?;
    (image.is_active(member) && !partition.is_offline(member)).then_some(member)
}

#[cfg(test)]
mod tests;
