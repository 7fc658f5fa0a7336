//! `skein cluster status`: the quorum, the nodes, and the partitions with which something is wrong.
//!
//! Input: an overview. Output: tables or JSON, and an exit code that says how the cluster is.
//!
//! Source: none.

use std::io::Write;

use serde_json::{Value, json};
use skein_client::PartitionDescription;
use skein_types::BrokerId;

use super::overview::{Health, Overview, PartitionState};
use crate::failure::Failure;
use crate::output::{self, Table, count};
use crate::session::Session;

/// Something is missing, and everything can be written and read.
const DEGRADED: u8 = 3;
/// Something cannot be written, read or changed.
const UNAVAILABLE: u8 = 4;

pub(super) async fn run(session: &Session, all: bool) -> Result<(), Failure> {
    let overview = Overview::of(session).await?;
    let mut out = output::stdout();
    if session.json {
        output::json(&mut out, &to_json(&overview))?;
    } else {
        write(&overview, all, &mut out)?;
        out.flush()?;
    }
    match overview.health() {
        Health::Ok => Ok(()),
        Health::Degraded => Err(Failure::Shown { code: DEGRADED }),
        Health::Unavailable => Err(Failure::Shown { code: UNAVAILABLE }),
    }
}

fn write(overview: &Overview, all: bool, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(
        out,
        "cluster {}  {}",
        overview.cluster_id,
        overview.health().name()
    )?;
    match &overview.quorum {
        Ok(quorum) => {
            let controller = match quorum.controller {
                Some(id) => format!("controller {id}"),
                None => "no controller".into(),
            };
            let voters = count(quorum.voters.len() as u64, "voter");
            let learners = count(quorum.learners.len() as u64, "learner");
            let committed = text(quorum.committed_end);
            writeln!(
                out,
                "quorum  {controller}, term {}, {voters}, {learners}, committed to {committed}",
                quorum.term
            )?;
        }
        Err(reason) => writeln!(out, "quorum  not known: {reason}")?,
    }
    writeln!(out, "{}", summary(overview))?;
    writeln!(out)?;
    node_table(overview).write(out, 0)?;
    let table = partition_table(overview, all);
    if !table.is_empty() {
        writeln!(out)?;
        table.write(out, 0)?;
    }
    Ok(())
}

/// How many partitions there are, and how many of them are not as they should be.
fn summary(overview: &Overview) -> String {
    let mut summary = count(overview.partitions.len() as u64, "partition");
    let states = [
        PartitionState::Offline,
        PartitionState::BelowMinIsr,
        PartitionState::UnderReplicated,
    ];
    for state in states {
        let number = overview.count(state);
        if number > 0 {
            summary.push_str(&format!(", {number} {}", state.name()));
        }
    }
    summary
}

/// A line for each node; `skein node list` shows it too.
pub(crate) fn node_table(overview: &Overview) -> Table {
    let mut table = Table::new(&[
        "NODE",
        "ADDRESS",
        "RACK",
        "STATE",
        "QUORUM",
        "LAG",
        "LEADS",
        "REPLICAS",
        "OUT OF SYNC",
    ]);
    for node in &overview.nodes {
        let load = overview.load(node.id);
        table.row(vec![
            node.id.to_string(),
            node.address.to_string(),
            node.rack.clone().unwrap_or_else(|| "-".into()),
            state_of(node.is_fenced).into(),
            overview.role(node.id).name().unwrap_or("-").into(),
            text(overview.lag(node.id)),
            load.leads.to_string(),
            load.replicas.to_string(),
            load.out_of_sync.to_string(),
        ]);
    }
    table
}

fn partition_table(overview: &Overview, all: bool) -> Table {
    let mut table = Table::new(&[
        "TOPIC",
        "PARTITION",
        "STATE",
        "LEADER",
        "REPLICAS",
        "ISR",
        "ELR",
        "LAST KNOWN",
        "MIN ISR",
    ]);
    for one in &overview.partitions {
        let state = overview.state(one);
        if !all && state == PartitionState::Ok {
            continue;
        }
        table.row(vec![
            one.partition.topic.to_string(),
            one.partition.partition.to_string(),
            state.name().into(),
            one.leader.map_or("none".into(), |id| id.to_string()),
            list(&one.replicas),
            list(&one.isr),
            list(&one.elr),
            list(&one.last_known),
            text(overview.min_isr(one)),
        ]);
    }
    table
}

const fn state_of(is_fenced: bool) -> &'static str {
    if is_fenced { "fenced" } else { "active" }
}

fn list(ids: &[BrokerId]) -> String {
    if ids.is_empty() {
        return "-".into();
    }
    let ids: Vec<_> = ids.iter().map(BrokerId::to_string).collect();
    ids.join(",")
}

fn text<T: ToString>(number: Option<T>) -> String {
    number.map_or("-".into(), |number| number.to_string())
}

fn to_json(overview: &Overview) -> Value {
    let quorum = overview.quorum.as_ref().ok();
    let states = [
        ("offline", PartitionState::Offline),
        ("below_min_isr", PartitionState::BelowMinIsr),
        ("under_replicated", PartitionState::UnderReplicated),
    ];
    let counts = states.map(|(name, state)| (name.to_owned(), json!(overview.count(state))));
    let partitions = overview.partitions.iter();
    json!({
        "cluster_id": overview.cluster_id,
        "health": overview.health().name(),
        "quorum": {
            "controller": overview.controller().map(BrokerId::get),
            "term": quorum.map(|quorum| quorum.term),
            "committed_end": quorum.and_then(|quorum| quorum.committed_end),
            "error": overview.quorum.as_ref().err(),
        },
        "nodes": nodes_json(overview),
        "not_ok": counts.into_iter().collect::<serde_json::Map<_, _>>(),
        "partitions": partitions.map(|one| partition_json(overview, one)).collect::<Vec<_>>(),
    })
}

/// All nodes; `skein node list --json` prints it too.
pub(crate) fn nodes_json(overview: &Overview) -> Value {
    let nodes = overview.nodes.iter().map(|node| {
        let load = overview.load(node.id);
        json!({
            "id": node.id.get(),
            "address": node.address.to_string(),
            "rack": node.rack,
            "state": state_of(node.is_fenced),
            "quorum": overview.role(node.id).name(),
            "quorum_lag": overview.lag(node.id),
            "leads": load.leads,
            "replicas": load.replicas,
            "out_of_sync": load.out_of_sync,
        })
    });
    nodes.collect()
}

fn partition_json(overview: &Overview, one: &PartitionDescription) -> Value {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.get()).collect::<Vec<_>>();
    let behind = one.replicas.iter().filter(|id| !one.isr.contains(id));
    json!({
        "topic": one.partition.topic.as_str(),
        "partition": one.partition.partition.get(),
        "internal": one.is_internal,
        "state": overview.state(one).name(),
        "leader": one.leader.map(BrokerId::get),
        "leader_epoch": one.leader_epoch.get(),
        "replicas": ids(&one.replicas),
        "isr": ids(&one.isr),
        "elr": ids(&one.elr),
        "last_known": ids(&one.last_known),
        "offline_replicas": ids(&one.offline_replicas),
        "behind": behind.map(|id| id.get()).collect::<Vec<_>>(),
        "min_isr": overview.min_isr(one),
    })
}

#[cfg(test)]
mod tests {
    use super::super::overview::tests::{overview, partition};
    use super::*;

    #[test]
    fn what_is_wrong_is_shown_and_what_is_well_on_request() {
        let mut short = partition(1, 1, &[1]);
        short.elr = vec![BrokerId(2)];
        let mut overview = overview(vec![partition(0, 1, &[1, 2, 3]), short]);
        overview.nodes[2].is_fenced = true;
        let shown = |all| {
            let mut out = Vec::new();
            write(&overview, all, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let expected = "\
cluster c  unavailable
quorum  controller 2, term 7, 2 voters, 1 learner, committed to 40
2 partitions, 1 below min ISR

NODE  ADDRESS      RACK  STATE   QUORUM      LAG  LEADS  REPLICAS  OUT OF SYNC
   1  host-1:9092  -     active  voter         3      2         2            0
   2  host-2:9092  -     active  controller    0      0         2            1
   3  host-3:9092  -     fenced  learner       -      0         2            1

TOPIC  PARTITION  STATE          LEADER  REPLICAS  ISR  ELR  LAST KNOWN  MIN ISR
t              1  below min ISR       1  1,2,3       1    2  -                 2
";
        assert_eq!(shown(false), expected);
        assert_eq!(shown(true).lines().count(), expected.lines().count() + 1);
    }

    #[test]
    fn json_has_every_partition_and_null_for_what_is_not_known() {
        let mut overview = overview(vec![partition(0, 1, &[1, 2])]);
        overview.quorum = Err("no answer".into());
        let value = to_json(&overview);
        assert_eq!(value["health"], "unavailable");
        assert_eq!(value["quorum"]["controller"], Value::Null);
        assert_eq!(value["quorum"]["error"], "no answer");
        assert_eq!(value["nodes"][0]["quorum_lag"], Value::Null);
        assert_eq!(value["not_ok"]["under_replicated"], 1);
        assert_eq!(value["partitions"][0]["behind"], json!([3]));
    }
}
