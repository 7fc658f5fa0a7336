//! Accepts connections and starts a task for each.
//!
//! Input: a listener. Output: connections, each served by a session of the service.
//!
//! Invariants:
//! - at most `max_connections` are open, and `max_connections_per_ip` from one address; what is above
//!   is closed at once, as Kafka does, so that the client sees it;
//! - a failure to accept (no descriptors left) waits and goes on: it never ends the listener.
//!
//! Source: Kafka's `max.connections`, `max.connections.per.ip`.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skein_env::{Lane, Listener, Spawn, Stream};
use tokio::sync::watch;

use crate::{Budget, BufferPool, Connection, ConnectionInfo, ConnectionLimits, Counters, Service};

/// How long a failed accept waits: descriptors come back when connections close.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How many connections are accepted.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// Of the node, as `max.connections`.
    pub max_connections: usize,
    /// From one address, as `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
}

/// Accepts the connections of one listener.
pub struct Acceptor {
    /// Name of the listener.
    pub listener_name: Arc<str>,
    /// What serves them.
    pub service: Arc<dyn Service>,
    /// How many.
    pub accept_limits: AcceptLimits,
    /// Limits of each.
    pub limits: ConnectionLimits,
    /// The node's receive buffers.
    pub pool: Arc<BufferPool>,
    /// The node's bytes in flight.
    pub budget: Budget,
    /// The node's totals.
    pub counters: Arc<Counters>,
    /// The node's tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Becomes true when the node stops.
    pub stop: watch::Receiver<bool>,
}

/// Open connections by address.
type PerIp = Arc<Mutex<HashMap<IpAddr, usize>>>;

impl Acceptor {
    /// Accepts until the node stops.
    pub async fn run(mut self, mut listener: Box<dyn Listener>) {
        let per_ip = PerIp::default();
        let next_id = AtomicU64::new(1);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return,
                accepted = poll_fn(|context| listener.poll_accept(context)) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let id = next_id.fetch_add(1, Ordering::Relaxed);
                    self.admit(stream, peer, id, &per_ip);
                }
                Err(error) => {
                    tracing::warn!(%error, listener = %self.listener_name, "cannot accept");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn admit(&self, stream: Box<dyn Stream>, peer: SocketAddr, id: u64, per_ip: &PerIp) {
        let Some(place) = Place::take(peer.ip(), self.accept_limits, &self.counters, per_ip) else {
            self.counters
                .connections_refused
                .fetch_add(1, Ordering::Relaxed);
            tracing::info!(%peer, "refused a connection: max.connections or max.connections.per.ip");
            return;
        };
        let info = ConnectionInfo {
            id,
            peer,
            listener: Arc::clone(&self.listener_name),
        };
        let connection = Connection {
            stream,
            session: self.service.open(info),
            limits: self.limits,
            pool: Arc::clone(&self.pool),
            budget: self.budget.clone(),
            counters: Arc::clone(&self.counters),
            spawn: Arc::clone(&self.spawn),
            stop: self.stop.clone(),
        };
        let task = async move {
            let _place = place;
            if let Err(reason) = connection.run().await {
                tracing::info!(%peer, reason, "closed a connection");
            }
        };
        self.spawn.spawn(Lane::Data, "connection", Box::pin(task));
    }
}

/// An open connection's place among the limits; dropped, it is free.
struct Place {
    ip: IpAddr,
    counters: Arc<Counters>,
    per_ip: PerIp,
}

impl Place {
    fn take(
        ip: IpAddr,
        limits: AcceptLimits,
        counters: &Arc<Counters>,
        per_ip: &PerIp,
    ) -> Option<Self> {
        let open = counters.connections.fetch_add(1, Ordering::Relaxed);
        let mut by_ip = per_ip.lock();
        let from_ip = by_ip.entry(ip).or_insert(0);
        *from_ip += 1;
        let too_many = *from_ip > limits.max_connections_per_ip;
        drop(by_ip);
        // The place is taken first, so that giving it back is the same on both ways out.
        let place = Self {
            ip,
            counters: Arc::clone(counters),
            per_ip: Arc::clone(per_ip),
        };
        if too_many || open >= limits.max_connections as u64 {
            return None;
        }
        counters
            .connections_accepted
            .fetch_add(1, Ordering::Relaxed);
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.connections.fetch_sub(1, Ordering::Relaxed);
        let mut by_ip = self.per_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}
