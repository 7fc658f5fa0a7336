//! What keeps a cluster from forming, in words.
//!
//! Input: what the state machine found. Output: the status that health checks and logs show.
//!
//! Invariant: an obstacle names the peer, and both lists where they differ.
//!
//! Source: own design.

use std::fmt;

use skein_types::ClusterId;

/// How far this node is on its way into a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FormationStatus {
    /// The node has not asked anybody yet.
    #[default]
    Starting,
    /// It asks its peers. Without obstacles the first round is not over.
    Asking(Vec<Obstacle>),
    /// It knows its cluster, and waits for the cluster's first leader or for its own seat; and why
    /// the last try came to nothing.
    Waiting {
        /// The cluster.
        cluster_id: ClusterId,
        /// What the last one who was asked said; empty if nobody had to be.
        reason: String,
    },
    /// It is a member.
    Member(ClusterId),
}

/// What keeps a cluster from forming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A peer does not answer.
    Silent {
        /// Its address.
        peer: String,
        /// What happened instead.
        reason: String,
    },
    /// A peer has another list.
    ListDiffers {
        /// Its address.
        peer: String,
        /// Its list.
        theirs: Vec<String>,
        /// This node's list.
        ours: Vec<String>,
    },
    /// No entry of the list leads to this node.
    NotListed {
        /// This node's list.
        list: Vec<String>,
    },
    /// Two entries are one node.
    SameNode {
        /// One entry.
        peer: String,
        /// The other.
        other: String,
    },
    /// Two nodes have the same metadata: one directory is a copy of the other.
    SameIdentity {
        /// One node.
        peer: String,
        /// The other.
        other: String,
    },
    /// Two peers belong to different clusters.
    TwoClusters {
        /// One peer.
        peer: String,
        /// Its cluster.
        cluster_id: ClusterId,
        /// The other peer.
        other: String,
        /// The other's cluster.
        other_cluster_id: ClusterId,
    },
    /// A peer holds the founding record of a cluster that has had no leader yet, and this node is
    /// not in it: it joins when the cluster has begun.
    HoldsRecord {
        /// Its address.
        peer: String,
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// All is well; this peer writes the founding record.
    Awaited {
        /// Its address.
        peer: String,
    },
}

impl fmt::Display for FormationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("the quorum is starting"),
            Self::Asking(obstacles) if obstacles.is_empty() => f.write_str("asking the peers"),
            Self::Asking(obstacles) => {
                f.write_str("no cluster yet: ")?;
                for (number, obstacle) in obstacles.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "; " };
                    write!(f, "{separator}{obstacle}")?;
                }
                Ok(())
            }
            Self::Waiting { cluster_id, reason } => {
                write!(f, "waiting for the controller of cluster {cluster_id}")?;
                if !reason.is_empty() {
                    write!(f, ": {reason}")?;
                }
                Ok(())
            }
            Self::Member(cluster_id) => write!(f, "member of cluster {cluster_id}"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |list: &[String]| list.join(",");
        match self {
            Self::Silent { peer, reason } => write!(f, "peer {peer} does not answer: {reason}"),
            Self::ListDiffers { peer, theirs, ours } => write!(
                f,
                "peer {peer} has cluster.peers={}, this node has cluster.peers={}",
                join(theirs),
                join(ours)
            ),
            Self::NotListed { list } => write!(
                f,
                "no entry of cluster.peers={} leads to this node's peer.listener",
                join(list)
            ),
            Self::SameNode { peer, other } => {
                write!(f, "cluster.peers names one node twice: {other} and {peer}")
            }
            Self::SameIdentity { peer, other } => write!(
                f,
                "{other} and {peer} have the same identity: the metadata.log.dir of one is a copy \
                 of the other's; empty it"
            ),
            Self::TwoClusters {
                peer,
                cluster_id,
                other,
                other_cluster_id,
            } => write!(
                f,
                "peer {other} belongs to cluster {other_cluster_id}, peer {peer} to {cluster_id}"
            ),
            Self::HoldsRecord { peer, cluster_id } => write!(
                f,
                "peer {peer} founds cluster {cluster_id} without this node, which joins when the \
                 cluster has begun"
            ),
            Self::Awaited { peer } => write!(f, "peer {peer} is about to found the cluster"),
        }
    }
}
