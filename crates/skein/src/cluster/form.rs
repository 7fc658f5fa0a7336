//! `skein cluster form`: the operator's word when a peer that is gone keeps a cluster from forming.
//!
//! ```text
//!   ask one node for its list ─► ask all others ─► tell all that stay ─► wait for their cluster
//! ```
//!
//! Input: the peers that are to be left out, one node's peer listener, the cluster's secret.
//! Output: the id of the cluster that the others found.
//!
//! Invariants:
//! - nobody is told before all that stay have answered, and none of those that go has: a word to
//!   some of them only would keep them apart;
//! - nothing is founded here: the nodes do that, when each of them was told.
//!
//! Source: none.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use skein_broker::PeerDoor;
use skein_config::{Address, ClusterSecret};
use skein_env::Env;
use tokio::time::Instant;

use crate::arguments::ClusterArguments;
use crate::failure::Failure;
use crate::output;
use crate::secret;

/// How often the nodes are asked whether they have a cluster.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `skein cluster form`.
#[derive(Debug, Args)]
pub(super) struct Form {
    /// An entry of cluster.peers that is gone for now; several with commas, or the option again
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    without: Vec<Address>,
    /// The peer.listener of any node that stays
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9192")]
    peer: Address,
    /// The nodes' cluster.secret.file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Who is left out, and who stays.
struct Parts {
    gone: Vec<String>,
    stay: Vec<String>,
}

impl Form {
    pub(super) fn secret(&self) -> Result<Option<ClusterSecret>, Failure> {
        let path = self.secret_file.as_deref();
        let read = |path| ClusterSecret::from_file(path, secret::read(path));
        let secret = path.map(read).transpose();
        secret.map_err(|error| Failure::wrong(error.to_string()))
    }
}

pub(super) async fn run(
    env: Env,
    cluster: &ClusterArguments,
    form: &Form,
    secret: Option<ClusterSecret>,
) -> Result<(), Failure> {
    let door = PeerDoor::new(&env, secret.as_ref());
    let parts = look_around(&door, form).await?;
    let told = parts.gone.join(",");
    for peer in &parts.stay {
        let left_out = door.leave_out(peer, &parts.gone).await;
        left_out.map_err(|reason| Failure::failed(format!("peer {peer}: {reason}")))?;
    }
    let cluster_id = founded(&door, &parts, cluster.timeout).await?;
    let mut out = output::stdout();
    if cluster.json {
        let value = json!({
            "cluster_id": cluster_id,
            "peers": parts.stay,
            "without": parts.gone,
        });
        return output::json(&mut out, &value);
    }
    let peers = parts.stay.join(",");
    writeln!(out, "cluster {cluster_id}: {peers}, without {told}")?;
    Ok(out.flush()?)
}

/// Asks every node of the list: those that stay must answer, and those that go must not.
async fn look_around(door: &PeerDoor, form: &Form) -> Result<Parts, Failure> {
    let first = form.peer.to_string();
    let node = look(door, &first).await.map_err(|reason| {
        let failure = Failure::failed(format!("no node at peer.listener {first}: {reason}"));
        failure.hint("--peer names the peer.listener of a node, --secret-file its secret.")
    })?;
    if let Some(cluster_id) = node.cluster_id {
        let message = format!("the node at {first} belongs to cluster {cluster_id} already");
        return Err(Failure::failed(message)
            .hint("'skein node forget' takes a node that is gone out of a cluster."));
    }
    let gone: BTreeSet<String> = form.without.iter().map(Address::to_string).collect();
    let list = node.list.join(",");
    let stranger = gone.iter().find(|peer| !node.list.contains(peer));
    let staying = node.list.iter().filter(|peer| !gone.contains(*peer));
    let stay: Vec<_> = staying.cloned().collect();
    for peer in &gone {
        if look(door, peer).await.is_ok() {
            let message = format!("peer {peer} answers: it is not gone");
            return Err(Failure::failed(message).hint("Nodes that are up find each other."));
        }
    }
    for peer in &stay {
        look(door, peer).await.map_err(|reason| {
            // Who was told before has it out of its list by now.
            if let Some(stranger) = stranger {
                let message = format!("{stranger} is not in its cluster.peers={list}");
                return Failure::failed(message);
            }
            let message = format!("peer {peer} does not answer either: {reason}");
            Failure::failed(message).hint("Start it; or leave it out too, with a second --without.")
        })?;
    }
    Ok(Parts {
        gone: gone.into_iter().collect(),
        stay,
    })
}

async fn look(door: &PeerDoor, peer: &str) -> Result<skein_broker::NodeInFormation, String> {
    door.look_at(peer).await
}

/// Waits until all that stay have one cluster.
async fn founded(door: &PeerDoor, parts: &Parts, timeout: Duration) -> Result<String, Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let mut ids = BTreeSet::new();
        for peer in &parts.stay {
            let node = look(door, peer).await.ok();
            ids.insert(
                node.and_then(|node| node.cluster_id)
                    .map(|id| id.to_string()),
            );
        }
        if ids.len() == 1
            && let Some(Some(id)) = ids.pop_first()
        {
            return Ok(id);
        }
        if Instant::now() >= deadline {
            let told = parts.stay.join(",");
            let seconds = timeout.as_secs();
            let message = format!("{told} were told, and have no cluster after {seconds} s");
            return Err(Failure::failed(message).hint("Their /readyz and logs say why."));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
