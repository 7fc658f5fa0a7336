//! Evidence that the process of a broker is dead, for the controller.
//!
//! Input: what the links know of each peer's process. Output: brokers that are fenced at once,
//! without waiting for the end of their sessions.
//!
//! ```text
//!   its connections to this node end ──► ask ──┬─ refused: nobody listens there ─► dead ─► fence
//!                      ▲              ▲        ├─ hung up in the handshake ─┐        │
//!                      │              └────────┼────────────────────────────┘        │
//!                      └───────────────────────┴─ answered, or silent ◄──────────────┘
//!                                                                        a connection opens
//! ```
//!
//! Invariants:
//! - a connection that ends is not enough, and a peer that is silent gives no evidence: it may be
//!   paused or cut off, and its session decides;
//! - what is fenced is the registration that was there when the evidence began: a process that has
//!   registered since is another one;
//! - every node looks, and only the controller acts: who succeeds a controller that died has seen
//!   its connections end before it was elected;
//! - a fence that cannot be decided is proposed again after ever longer pauses, but by a new
//!   controller at once, and has a few lines of the log;
//! - a dying process may close its connections before its listener: who hangs up is asked again;
//! - epochs and ISR protect the data after a false alarm, and the next heartbeat unfences.
//!
//! Source: own design (ARCHITECTURE, "Replication"); KIP-631 for fencing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_controller::FenceBrokers;
use skein_env::Lane;
use skein_metadata::Image;
use skein_net::{PeerAddress, PeerLinks, Presence, Purpose};
use skein_types::{BrokerEpoch, BrokerId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::patience::Patience;
use super::transport::peer_address_of;
use crate::node::Shared;

/// How long a process that may be dead has to answer; a refusal comes at once.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// Until a process that hung up is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How long one that hangs up each time is asked. The system takes its time to end a process with
/// much memory, but a fail-over is no longer fast then.
const ASK_MAX: Duration = Duration::from_secs(1);

/// Watches the process of each other broker, one task for each registration, until the node stops.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let Some(links) = shared.peer_links.clone() else {
        return; // there are no others
    };
    let mut images = shared.controller.subscribe();
    let mut watched: BTreeMap<BrokerId, (BrokerEpoch, watch::Sender<bool>)> = BTreeMap::new();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        watched.retain(|id, (epoch, _)| {
            let broker = image.broker(*id);
            broker.is_some_and(|broker| broker.epoch == *epoch)
        });
        for broker in image.brokers() {
            let (id, epoch) = (broker.id, broker.epoch);
            if id == shared.identity.broker_id || watched.contains_key(&id) {
                continue;
            }
            let Some(address) = peer_address_of(broker) else {
                continue;
            };
            let (ended, has_ended) = watch::channel(false);
            watched.insert(id, (epoch, ended));
            let one = Watched {
                shared: Arc::clone(&shared),
                links: links.clone(),
                address,
                broker: (id, epoch),
            };
            let task = Box::pin(one.until(has_ended));
            let _task = shared.env.spawn.spawn(Lane::Control, "death-watch", task);
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

struct Watched {
    shared: Arc<Shared>,
    links: PeerLinks,
    address: PeerAddress,
    broker: (BrokerId, BrokerEpoch),
}

impl Watched {
    /// Watches until the registration is another one, or nobody wants to know.
    async fn until(self, mut has_ended: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = has_ended.wait_for(|ended| *ended) => {}
            () = self.run() => {}
        }
    }

    async fn run(&self) {
        let mut presence = self.links.watch(&self.address);
        let mut lost = presence.borrow().lost;
        loop {
            let news = presence.wait_for(|presence| presence.lost != lost).await;
            let Ok(news) = news.map(|presence| presence.lost) else {
                return;
            };
            lost = news;
            if self.is_refused().await {
                self.fence_unless_back(&mut presence).await;
            }
        }
    }

    /// Whether nobody listens where the process did.
    async fn is_refused(&self) -> bool {
        let begun = Instant::now();
        loop {
            let asked = self
                .links
                .connect(&self.address, Purpose::Control, ASK_TIMEOUT);
            match asked.await {
                Ok(_) => return false,
                Err(error) if error.is_refused() => return true,
                Err(error) if error.is_timed_out() || begun.elapsed() >= ASK_MAX => return false,
                Err(_) => sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Has the dead process fenced as soon as this node may, unless there is a connection to it
    /// again.
    async fn fence_unless_back(&self, presence: &mut watch::Receiver<Presence>) {
        let mut leaders = self.shared.controller.watch_leader();
        let mut patience = Patience::new();
        let mut is_told = false;
        while self.is_unfenced() {
            let leader = leaders.borrow_and_update().as_ref().map(|one| one.raft_id);
            let may_act = async {
                if leader != Some(self.shared.controller.raft_id()) {
                    patience.hurry();
                    return leaders.changed().await.is_ok();
                }
                if !std::mem::replace(&mut is_told, true) {
                    let (broker, address) = (self.broker.0, &self.address);
                    tracing::warn!(%broker, %address, "fencing a broker whose process is dead");
                }
                self.fence(&mut patience).await;
                // A controller decides nothing before it has applied an entry of its own term.
                match timeout(patience.pause(), leaders.changed()).await {
                    Ok(changed) => {
                        patience.hurry();
                        changed.is_ok()
                    }
                    Err(_) => true,
                }
            };
            let goes_on = tokio::select! {
                biased;
                _ = presence.wait_for(|presence| presence.open > 0) => false,
                goes_on = may_act => goes_on,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Whether the registration is there still, and not fenced.
    fn is_unfenced(&self) -> bool {
        let image: Arc<Image> = self.shared.image();
        let (id, epoch) = self.broker;
        image
            .broker(id)
            .is_some_and(|broker| broker.epoch == epoch && !broker.fenced)
    }

    async fn fence(&self, patience: &mut Patience) {
        let (id, address) = (self.broker.0, &self.address);
        let proposal = FenceBrokers {
            brokers: vec![self.broker],
        };
        if let Err(refusal) = self.shared.controller.propose(proposal).await
            && patience.may_log(Instant::now())
        {
            tracing::warn!(broker = %id, %address, %refusal, "could not fence a dead broker");
        }
    }
}

#[cfg(test)]
mod tests;
