//! Evidence that the process of a broker is dead, for the controller.
//!
//! Input: what the links know of each peer's process. Output: brokers that are fenced at once,
//! without waiting for the end of their sessions.
//!
//! ```text
//!   its connections to this node end ──► ask anew ──┬─ refused: nobody listens there ─► fence
//!                                                   └─ answered, or silent ───────────► wait
//! ```
//!
//! Invariants:
//! - a connection that ends is not enough, and a peer that is silent gives no evidence: it may be
//!   paused or cut off, and its session decides;
//! - what is fenced is the registration that was there when the evidence began: a process that has
//!   registered since is another one;
//! - only the controller acts; epochs and ISR protect the data after a false alarm, and the next
//!   heartbeat unfences.
//!
//! Source: own design (ARCHITECTURE, "Replication"); KIP-631 for fencing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_controller::FenceBrokers;
use skein_env::Lane;
use skein_metadata::Image;
use skein_net::{PeerAddress, PeerLinks, Purpose};
use skein_types::{BrokerEpoch, BrokerId};
use tokio::sync::watch;

use super::transport::peer_address_of;
use crate::node::Shared;

/// How long a process that may be dead has to answer; a refusal comes at once.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

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
            if self.shared.controller.is_controller() && self.is_refused().await {
                self.fence().await;
            }
        }
    }

    /// Whether nobody listens where the process did.
    async fn is_refused(&self) -> bool {
        let asked = self
            .links
            .connect(&self.address, Purpose::Control, ASK_TIMEOUT);
        asked.await.is_err_and(|error| error.is_refused())
    }

    async fn fence(&self) {
        let image: Arc<Image> = self.shared.image();
        let (id, epoch) = self.broker;
        let is_there = image
            .broker(id)
            .is_some_and(|broker| broker.epoch == epoch && !broker.fenced);
        if !is_there {
            return;
        }
        let address = &self.address;
        tracing::warn!(broker = %id, %address, "fencing a broker whose process is dead");
        let brokers = vec![self.broker];
        if let Err(refusal) = self
            .shared
            .controller
            .propose(FenceBrokers { brokers })
            .await
        {
            // The end of its session will do it.
            tracing::warn!(%refusal, "could not fence a dead broker");
        }
    }
}
