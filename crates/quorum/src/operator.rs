//! What an operator says to nodes that look for their cluster, and serve no clients yet.
//!
//! Input: a way to a peer listener, the operator's words. Output: what the node there said.
//!
//! The words go over the peer listener: who may speak there knows the cluster's secret, or is on
//! the node's own machine, and could do anything to the cluster anyway.
//!
//! Invariant: a node that belongs to a cluster refuses them; so does one that hears the peer that
//! it is to leave out (`formation.rs`).
//!
//! Source: own design.

use std::time::Duration;

use skein_types::ClusterId;

use crate::forming::{call, who_is};
use crate::transport::PeerTransport;
use crate::wire::{self, LeaveOut, LeftOut};

/// How long a node may take to answer: it may be flushing a file.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInFormation {
    /// Its `cluster.peers`, sorted, without those that it was told to leave out.
    pub list: Vec<String>,
    /// The cluster that it belongs to, or is about to found with others.
    pub cluster_id: Option<ClusterId>,
}

/// Asks the node at `address` how far it is.
///
/// # Errors
/// Why there is no answer.
pub async fn look_at(
    transport: &dyn PeerTransport,
    address: &str,
) -> Result<NodeInFormation, String> {
    let standing = who_is(transport, address).await?;
    Ok(NodeInFormation {
        list: standing.list,
        cluster_id: standing.founding.map(|founding| founding.cluster_id),
    })
}

/// Tells the node at `address` that its cluster is to be founded without these peers. It heeds that
/// until one of them answers, or its process ends.
///
/// # Errors
/// Why it does not, or why there is no answer.
pub async fn leave_out(
    transport: &dyn PeerTransport,
    address: &str,
    peers: &[String],
) -> Result<(), String> {
    let peers = peers.to_vec();
    let word = wire::encode(&LeaveOut { peers }).map_err(|error| error.to_string())?;
    match call(transport, address, word, ASK_TIMEOUT).await? {
        LeftOut { refused: None } => Ok(()),
        LeftOut {
            refused: Some(reason),
        } => Err(reason),
    }
}
