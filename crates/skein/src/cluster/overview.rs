//! What there is of a cluster, and what is missing.
//!
//! Input: what the brokers say of nodes, quorum and partitions. Output: for each node what it leads
//! and holds, for each partition what is wrong with it, and one word for all.
//!
//! Invariant: what is not known is told as such, and is never taken for well: a quorum that does
//! not answer is a quorum that is not there.
//!
//! Source: none.

use std::collections::BTreeMap;
use std::time::Duration;

use skein_client::{Node, Nodes, PartitionDescription, Quorum, QuorumMember};
use skein_types::{BrokerId, TopicName};

use crate::failure::Failure;
use crate::session::Session;

/// How long the quorum may take to be described: without a controller a node tries on.
const QUORUM_MAX: Duration = Duration::from_secs(5);

/// All that is known of a cluster.
pub(crate) struct Overview {
    pub(crate) cluster_id: String,
    pub(crate) nodes: Vec<Node>,
    /// Or why it is not known.
    pub(crate) quorum: Result<Quorum, String>,
    pub(crate) partitions: Vec<PartitionDescription>,
    /// By topic; not of all if the broker did not say.
    pub(crate) min_insync_replicas: BTreeMap<TopicName, usize>,
}

/// How a partition is, from well to lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PartitionState {
    /// All of its replicas are in sync.
    Ok,
    /// Some replicas lag or are gone; it can be written and read.
    UnderReplicated,
    /// It can be read; `acks=all` is refused.
    BelowMinIsr,
    /// Nobody leads it.
    Offline,
}

/// How a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// Nothing is missing.
    Ok,
    /// Something is missing, and everything can be written and read.
    Degraded,
    /// Something cannot be written, read or changed.
    Unavailable,
}

/// What a node does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) leads: usize,
    pub(crate) replicas: usize,
    /// Replicas that are in no ISR.
    pub(crate) out_of_sync: usize,
}

/// A node's part in the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Controller,
    Voter,
    Learner,
    /// The quorum does not know it, or is not known.
    None,
}

impl PartitionState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::UnderReplicated => "under-replicated",
            Self::BelowMinIsr => "below min ISR",
            Self::Offline => "offline",
        }
    }
}

impl Health {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Role {
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Controller => Some("controller"),
            Self::Voter => Some("voter"),
            Self::Learner => Some("learner"),
            Self::None => None,
        }
    }
}

impl Overview {
    /// Asks the cluster.
    pub(crate) async fn of(session: &Session) -> Result<Self, Failure> {
        let admin = session.client.admin();
        let Nodes { cluster_id, nodes } = admin.describe_nodes().await?;
        let quorum = tokio::time::timeout(QUORUM_MAX, admin.describe_quorum()).await;
        let quorum = match quorum {
            Ok(quorum) => quorum.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", QUORUM_MAX.as_secs())),
        };
        let partitions = admin.describe_partitions(&[]).await?;
        let mut topics: Vec<_> = partitions
            .iter()
            .map(|one| one.partition.topic.clone())
            .collect();
        topics.dedup();
        let min_insync_replicas = admin.min_insync_replicas(&topics).await?;
        Ok(Self {
            cluster_id,
            nodes,
            quorum,
            partitions,
            min_insync_replicas,
        })
    }

    pub(crate) fn controller(&self) -> Option<BrokerId> {
        self.quorum.as_ref().ok()?.controller
    }

    /// How many replicas of a partition must be in sync: never more than there are.
    pub(crate) fn min_isr(&self, partition: &PartitionDescription) -> Option<usize> {
        let configured = self.min_insync_replicas.get(&partition.partition.topic)?;
        Some((*configured).min(partition.replicas.len()))
    }

    pub(crate) fn state(&self, partition: &PartitionDescription) -> PartitionState {
        let in_sync = partition.isr.len();
        if partition.leader.is_none() {
            PartitionState::Offline
        } else if self.min_isr(partition).is_some_and(|min| in_sync < min) {
            PartitionState::BelowMinIsr
        } else if in_sync < partition.replicas.len() {
            PartitionState::UnderReplicated
        } else {
            PartitionState::Ok
        }
    }

    /// How many partitions are in a state.
    pub(crate) fn count(&self, state: PartitionState) -> u64 {
        let partitions = self.partitions.iter();
        partitions.filter(|one| self.state(one) == state).count() as u64
    }

    pub(crate) fn health(&self) -> Health {
        let partitions = self.partitions.iter().map(|one| match self.state(one) {
            PartitionState::Ok => Health::Ok,
            PartitionState::UnderReplicated => Health::Degraded,
            PartitionState::BelowMinIsr | PartitionState::Offline => Health::Unavailable,
        });
        let nodes = self.nodes.iter().map(|node| match node.is_fenced {
            false => Health::Ok,
            true => Health::Degraded,
        });
        let quorum = match self.controller() {
            Some(_) => Health::Ok,
            None => Health::Unavailable,
        };
        partitions
            .chain(nodes)
            .chain([quorum])
            .max()
            .unwrap_or(quorum)
    }

    pub(crate) fn load(&self, node: BrokerId) -> Load {
        let mut load = Load::default();
        for one in &self.partitions {
            let holds = one.replicas.contains(&node);
            load.leads += usize::from(one.leader == Some(node));
            load.replicas += usize::from(holds);
            load.out_of_sync += usize::from(holds && !one.isr.contains(&node));
        }
        load
    }

    pub(crate) fn role(&self, node: BrokerId) -> Role {
        let Ok(quorum) = &self.quorum else {
            return Role::None;
        };
        let is_in = |members: &[QuorumMember]| members.iter().any(|member| member.id == node);
        if quorum.controller == Some(node) {
            Role::Controller
        } else if is_in(&quorum.voters) {
            Role::Voter
        } else if is_in(&quorum.learners) {
            Role::Learner
        } else {
            Role::None
        }
    }

    /// How many entries of the metadata log a node lacks, if the controller knows.
    pub(crate) fn lag(&self, node: BrokerId) -> Option<i64> {
        let quorum = self.quorum.as_ref().ok()?;
        let mut members = quorum.voters.iter().chain(&quorum.learners);
        let log_end = |id: BrokerId| {
            let member = members.clone().find(|member| member.id == id)?;
            member.log_end
        };
        let leader = log_end(quorum.controller?)?;
        let member = members.find(|member| member.id == node)?;
        Some((leader - member.log_end?).max(0))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use skein_client::QuorumMember;
    use skein_types::{LeaderEpoch, PartitionIndex, TopicPartition};

    use super::*;

    pub(crate) fn partition(index: i32, leader: i32, isr: &[i32]) -> PartitionDescription {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        PartitionDescription {
            partition: TopicPartition {
                topic: TopicName::new("t").unwrap(),
                partition: PartitionIndex(index),
            },
            is_internal: false,
            leader: (leader > 0).then_some(BrokerId(leader)),
            leader_epoch: LeaderEpoch(0),
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
            elr: Vec::new(),
            last_known: Vec::new(),
            offline_replicas: Vec::new(),
        }
    }

    pub(crate) fn overview(partitions: Vec<PartitionDescription>) -> Overview {
        let node = |id| Node {
            id: BrokerId(id),
            address: format!("host-{id}:9092").parse().unwrap(),
            rack: None,
            is_fenced: false,
        };
        let member = |(id, log_end)| QuorumMember {
            id: BrokerId(id),
            log_end,
        };
        Overview {
            cluster_id: "c".into(),
            nodes: [1, 2, 3].map(node).to_vec(),
            quorum: Ok(Quorum {
                controller: Some(BrokerId(2)),
                term: 7,
                committed_end: Some(40),
                voters: [(1, Some(38)), (2, Some(41))].map(member).to_vec(),
                learners: vec![member((3, None))],
            }),
            partitions,
            min_insync_replicas: [(TopicName::new("t").unwrap(), 2)].into(),
        }
    }

    #[test]
    fn a_partition_is_as_bad_as_what_cannot_be_done_with_it() {
        let overview = overview(Vec::new());
        for (leader, isr, state) in [
            (1, &[1, 2, 3][..], PartitionState::Ok),
            (1, &[1, 2], PartitionState::UnderReplicated),
            (1, &[1], PartitionState::BelowMinIsr),
            (0, &[], PartitionState::Offline),
            (0, &[1, 2, 3], PartitionState::Offline),
        ] {
            assert_eq!(overview.state(&partition(0, leader, isr)), state, "{isr:?}");
        }
        // No more can be in sync than there are.
        let mut alone = partition(0, 1, &[1]);
        alone.replicas = vec![BrokerId(1)];
        assert_eq!(overview.state(&alone), PartitionState::Ok);
    }

    #[test]
    fn a_cluster_is_as_bad_as_its_worst_part() {
        let well = partition(0, 1, &[1, 2, 3]);
        assert_eq!(overview(vec![well.clone()]).health(), Health::Ok);
        let short = partition(1, 1, &[1, 2]);
        let degraded = overview(vec![well.clone(), short]);
        assert_eq!(degraded.health(), Health::Degraded);
        let offline = overview(vec![well.clone(), partition(1, 0, &[])]);
        assert_eq!(offline.health(), Health::Unavailable);
        let below = overview(vec![partition(1, 1, &[1]), well.clone()]);
        assert_eq!(below.health(), Health::Unavailable);
        let mut fenced = overview(vec![well.clone()]);
        fenced.nodes[2].is_fenced = true;
        assert_eq!(fenced.health(), Health::Degraded);
        let mut headless = overview(vec![well]);
        headless.quorum.as_mut().unwrap().controller = None;
        assert_eq!(headless.health(), Health::Unavailable);
        headless.quorum = Err("no answer".into());
        assert_eq!(headless.health(), Health::Unavailable);
    }

    #[test]
    fn a_node_has_its_role_its_lag_and_its_load() {
        let overview = overview(vec![partition(0, 1, &[1, 2]), partition(1, 1, &[1, 2, 3])]);
        let [one, two, three, nobody] = [1, 2, 3, 9].map(BrokerId);
        let roles = [one, two, three, nobody].map(|id| overview.role(id));
        assert_eq!(
            roles,
            [Role::Voter, Role::Controller, Role::Learner, Role::None]
        );
        let lags = [one, two, three, nobody].map(|id| overview.lag(id));
        assert_eq!(lags, [Some(3), Some(0), None, None]);
        let load = |leads, out_of_sync| Load {
            leads,
            replicas: 2,
            out_of_sync,
        };
        assert_eq!(overview.load(one), load(2, 0));
        assert_eq!(overview.load(three), load(0, 1));
    }
}
