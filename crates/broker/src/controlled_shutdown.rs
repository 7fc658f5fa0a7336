//! A node that is about to stop has others lead first.
//!
//! Input: a node that serves. Output: the same, leading nothing; or not, where that takes too long.
//!
//! ```text
//!   heartbeat: wants to stop ─► leaders elected, out of every ISR ─► in this node's image
//!        ─► the quorum handed over, if it leads that ─► a moment for clients and followers ─► stop
//! ```
//!
//! Invariants:
//! - until the end clients are answered: who asks this node for what it led is told who leads now
//!   (KIP-951), and what it had taken is acknowledged when the new leader has it;
//! - a node alone, or without a controller, stops at once; and every step has a limit.
//!
//! Source: KIP-631 and KIP-841 (controlled shutdown); `BrokerLifecycleManager` of Kafka 4.1, which
//! waits for five minutes.

use std::sync::Arc;
use std::time::Duration;

use skein_controller::Heartbeat;
use skein_metadata::{Broker, Image};
use skein_types::{BrokerId, Millis};
use tokio::time::{Instant, sleep, timeout_at};

use crate::node::{Identity, Shared};

/// How long the controller has to let the node go. With what a stop takes after that it stays
/// around two seconds; a controller that takes longer finds out by the end of the connections.
const CONTROLLED_SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// How long the quorum may take to have another leader: two elections.
const HAND_OVER_MAX: Duration = Duration::from_millis(300);

/// How long a node that led still answers: clients learn who leads from it, faster than by an end
/// of their connections, and what was written here last is acknowledged.
const FAREWELL: Duration = Duration::from_millis(100);

/// Has others lead, see the module.
pub(crate) async fn run(shared: &Arc<Shared>) {
    if !is_wanted(shared) {
        return;
    }
    let led = leads_anything(&shared.image(), shared.identity.broker_id);
    let deadline = Instant::now() + CONTROLLED_SHUTDOWN_MAX;
    match timeout_at(deadline, resign(shared)).await {
        Ok(Ok(())) => tracing::info!("this node leads nothing any more"),
        Ok(Err(reason)) => tracing::warn!(reason, "stopping without the controller's leave"),
        Err(_) => tracing::warn!("the controller takes too long; stopping without its leave"),
    }
    if shared.controller.is_controller() {
        let image = shared.image();
        let is_active = |raft_id| is_active(&image, raft_id);
        if !shared.controller.hand_over(is_active, HAND_OVER_MAX).await {
            tracing::warn!("the quorum has no other leader yet; it will elect one");
        }
    }
    if led {
        sleep(FAREWELL).await;
    }
}

fn is_wanted(shared: &Shared) -> bool {
    let image = shared.image();
    let own = shared.identity.broker_id;
    let is_active = |broker: &Arc<Broker>| broker.id != own && image.is_active(broker.id);
    shared.config.replica.controlled_shutdown_enable
        && shared.peer_links.is_some()
        && shared.controller.leader().is_some()
        && image.brokers().any(is_active)
}

/// Tells the controller, and waits until its decision is in this node's image.
async fn resign(shared: &Shared) -> Result<(), String> {
    let Identity {
        broker_id,
        broker_epoch,
    } = shared.identity;
    let mut images = shared.controller.subscribe();
    loop {
        let applied_index = shared.image().last_applied().map_or(0, |id| id.index);
        let heartbeat = Heartbeat {
            broker_id,
            broker_epoch,
            applied_index,
            want_fence: false,
            want_shut_down: true,
            oldest_write_ms: Millis(0),
        };
        let link = &shared.controller_link;
        let answer = link.ask(heartbeat, CONTROLLED_SHUTDOWN_MAX).await;
        if answer
            .map_err(|refusal| refusal.to_string())?
            .should_shut_down
        {
            break;
        }
    }
    let is_out = |image: &Arc<Image>| {
        let own = image.broker(broker_id);
        own.is_none_or(|own| own.epoch != broker_epoch || own.stopping)
    };
    let seen = images.wait_for(is_out).await;
    seen.map(|_| ()).map_err(|error| error.to_string())
}

fn leads_anything(image: &Image, broker_id: BrokerId) -> bool {
    let mut partitions = image.topics().flat_map(|topic| topic.partitions());
    partitions.any(|(_, partition)| partition.leader == broker_id)
}

/// Whether the broker with this Raft id stays.
fn is_active(image: &Image, raft_id: u64) -> bool {
    let mut brokers = image.brokers();
    brokers.any(|broker| broker.raft_id == raft_id && image.is_active(broker.id))
}

#[cfg(test)]
mod tests;
