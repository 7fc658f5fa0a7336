//! `skein group describe`: who reads, and how far behind.
//!
//! Input: group ids. Output: per group its state and members, and per partition the lag in records,
//! in bytes and in seconds.
//!
//! Invariant: what is not known is told as such (`-`, or null), never as 0.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};
use skein_client::{CommittedOffset, GroupDescription, GroupMember, Lag};
use skein_types::{Millis, TopicPartition};

use super::{find, told};
use crate::failure::Failure;
use crate::output::{self, Table, count, notice};
use crate::session::Session;
use crate::time::rfc3339;

/// All that is shown of one group.
struct Described {
    group: GroupDescription,
    committed: BTreeMap<TopicPartition, CommittedOffset>,
    /// Those with an offset, and those that a member reads.
    partitions: BTreeMap<TopicPartition, Option<Lag>>,
    /// When that was.
    at: Millis,
}

pub(super) async fn run(
    session: &Session,
    mut groups: Vec<String>,
    metadata: bool,
) -> Result<(), Failure> {
    let admin = session.client.admin();
    let are_named = !groups.is_empty();
    if !are_named {
        let all = admin.list_groups(&[], &[]).await?;
        groups = all.into_iter().map(|group| group.group_id).collect();
    }
    let mut out = output::stdout();
    let mut values = Vec::new();
    let mut gap = "";
    for name in &groups {
        let described = match Described::of(session, name).await? {
            Some(described) => described,
            None if are_named => return Err(unknown(name)),
            // It has gone since it was listed.
            None => continue,
        };
        if session.json {
            values.push(described.json());
            continue;
        }
        write!(out, "{gap}")?;
        gap = "\n";
        described.write(&mut out, metadata)?;
    }
    if session.json {
        return output::json(&mut out, &values.into());
    }
    Ok(out.flush()?)
}

impl Described {
    /// `None` if there is no such group.
    async fn of(session: &Session, name: &str) -> Result<Option<Self>, Failure> {
        let group = match find(session, name).await? {
            Some(group) => Some(group),
            None => listed(session, name).await?,
        };
        let Some(group) = group else {
            return Ok(None);
        };
        let admin = session.client.admin();
        let committed = admin.committed_offsets(name).await?;
        let assigned = group.members.iter().flat_map(|member| &member.assignment);
        let mut positions: BTreeMap<_, _> = assigned.map(|one| (one.clone(), None)).collect();
        for (partition, offset) in &committed {
            positions.insert(partition.clone(), Some(offset.offset));
        }
        let mut lags = admin.lags(&positions).await?;
        let at = session.env.clock.now();
        let partitions = positions.into_keys().map(|partition| {
            let lag = lags.remove(&partition);
            (partition, lag)
        });
        Ok(Some(Self {
            partitions: partitions.collect(),
            committed,
            group,
            at,
        }))
    }

    fn reader(&self, partition: &TopicPartition) -> Option<&GroupMember> {
        let mut members = self.group.members.iter();
        members.find(|member| member.assignment.contains(partition))
    }

    fn json(&self) -> Value {
        let group = &self.group;
        let members = group.members.iter().map(|member| {
            let partitions = member.assignment.iter();
            let partitions = partitions
                .map(|one| json!({ "topic": one.topic.as_str(), "partition": one.partition.0 }));
            json!({
                "member_id": member.member_id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "host": member.host,
                "partitions": partitions.collect::<Vec<_>>(),
            })
        });
        let partitions = self.partitions.iter().map(|(partition, lag)| {
            let committed = self.committed.get(partition);
            let behind = lag.and_then(|lag| lag.behind(self.at));
            json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition.0,
                "committed_offset": committed.map(|offset| offset.offset.0),
                "committed_leader_epoch":
                    committed.map(|offset| offset.leader_epoch.0).filter(|epoch| *epoch >= 0),
                "metadata": committed.map(|offset| offset.metadata.as_str()),
                "log_start_offset": lag.map(|lag| lag.log_start_offset.0),
                "log_end_offset": lag.map(|lag| lag.log_end_offset.0),
                "lag_records": lag.and_then(|lag| lag.records),
                "lag_bytes": lag.and_then(|lag| lag.bytes),
                "lag_seconds": behind.map(seconds),
                "first_unread_timestamp": lag.and_then(|lag| lag.oldest).map(|time| time.0),
                "newest_timestamp": lag.and_then(|lag| lag.newest).map(|time| time.0),
                "member_id": self.reader(partition).map(|member| member.member_id.as_str()),
            })
        });
        let broker = group.coordinator_broker.as_ref();
        json!({
            "group": group.group_id,
            "state": group.state,
            "protocol_type": group.protocol_type,
            "assignor": told(&group.assignor),
            "coordinator": {
                "id": group.coordinator.0,
                "address": broker.map(|broker| broker.address.to_string()),
            },
            "members": members.collect::<Vec<_>>(),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }

    fn write(&self, out: &mut impl Write, metadata: bool) -> Result<(), Failure> {
        let group = &self.group;
        let members = count(group.members.len() as u64, "member");
        let assignor = match told(&group.assignor) {
            Some(assignor) => format!(", {assignor}"),
            None => String::new(),
        };
        let broker = group.coordinator_broker.as_ref();
        let address = broker.map_or_else(String::new, |broker| format!(" ({})", broker.address));
        let name = output::on_one_line(group.group_id.clone());
        let (state, id) = (&group.state, group.coordinator);
        writeln!(
            out,
            "group {name}  {state}{assignor}, {members}, coordinator {id}{address}"
        )?;
        if !group.members.is_empty() {
            members_table(&group.members).write(out, 2)?;
        }
        if self.partitions.is_empty() {
            writeln!(out, "  It has committed no offsets.")?;
            return Ok(());
        }
        Ok(self.partitions_table(metadata).write(out, 2)?)
    }

    fn partitions_table(&self, metadata: bool) -> Table {
        let mut headings = vec![
            "TOPIC",
            "PARTITION",
            "COMMITTED",
            "END",
            "RECORDS",
            "BYTES",
            "SECONDS",
            "FIRST UNREAD",
            "CLIENT",
        ];
        if metadata {
            headings.push("METADATA");
        }
        let mut table = Table::new(&headings);
        for (partition, lag) in &self.partitions {
            let committed = self.committed.get(partition);
            let behind = lag.and_then(|lag| lag.behind(self.at));
            let oldest = lag.and_then(|lag| lag.oldest);
            let mut cells = vec![
                partition.topic.to_string(),
                partition.partition.to_string(),
                cell(committed.map(|offset| offset.offset)),
                cell(lag.map(|lag| lag.log_end_offset)),
                cell(lag.and_then(|lag| lag.records)),
                cell(lag.and_then(|lag| lag.bytes)),
                cell(behind.map(|behind| format!("{:.1}", seconds(behind)))),
                cell(oldest.map(rfc3339)),
                cell(self.reader(partition).map(|member| &member.client_id)),
            ];
            if metadata {
                cells.push(cell(committed.and_then(|offset| told(&offset.metadata))));
            }
            table.row(cells);
        }
        table
    }
}

fn unknown(name: &str) -> Failure {
    let message = format!("there is no group {name}");
    Failure::failed(message).hint("'skein group list' shows the groups.")
}

/// What the list says of a group whose protocol this client does not speak; `None` if it is not in
/// it.
async fn listed(session: &Session, name: &str) -> Result<Option<GroupDescription>, Failure> {
    let groups = session.client.admin().list_groups(&[], &[]).await?;
    let Some(group) = groups.into_iter().find(|group| group.group_id == name) else {
        return Ok(None);
    };
    let kind = &group.kind;
    notice(&format!(
        "group {name} is of type {kind}; its members are not shown"
    ));
    let cluster = session.client.cluster();
    Ok(Some(GroupDescription {
        coordinator_broker: cluster.brokers.get(&group.coordinator).cloned(),
        group_id: group.group_id,
        state: group.state,
        protocol_type: group.protocol_type,
        assignor: String::new(),
        coordinator: group.coordinator,
        members: Vec::new(),
    }))
}

fn members_table(members: &[GroupMember]) -> Table {
    let mut table = Table::new(&["CLIENT", "HOST", "INSTANCE", "PARTITIONS", "MEMBER"]);
    for member in members {
        table.row(vec![
            cell(told(&member.client_id)),
            cell(told(&member.host)),
            cell(member.instance_id.as_ref()),
            cell(told(&assignment(&member.assignment))),
            member.member_id.clone(),
        ]);
    }
    table
}

/// `orders:0,1,2 refunds:4`.
fn assignment(partitions: &[TopicPartition]) -> String {
    let mut text = String::new();
    let mut last = None;
    for one in partitions {
        if last == Some(&one.topic) {
            text += &format!(",{}", one.partition);
        } else {
            let gap = if text.is_empty() { "" } else { " " };
            text += &format!("{gap}{}:{}", one.topic, one.partition);
        }
        last = Some(&one.topic);
    }
    text
}

fn cell(known: Option<impl ToString>) -> String {
    known.map_or_else(|| "-".to_owned(), |known| known.to_string())
}

#[allow(clippy::cast_precision_loss, reason = "2^52 ms are 142,000 years")]
fn seconds(time: Millis) -> f64 {
    time.0 as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use skein_types::{PartitionIndex, TopicName};

    use super::*;

    #[test]
    fn an_assignment_names_each_topic_once() {
        let one = |topic: &str, partition| TopicPartition {
            topic: TopicName::new(topic).unwrap(),
            partition: PartitionIndex(partition),
        };
        let partitions = [one("a", 0), one("a", 2), one("b", 1)];
        assert_eq!(assignment(&partitions), "a:0,2 b:1");
        assert_eq!(assignment(&[]), "");
    }
}
