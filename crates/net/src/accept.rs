//! Accepts connections and starts a task for each.
//!
//! Input: a listener, and for that of peers a gate. Output: connections, each served by a session
//! of the service.
//!
//! Invariants:
//! - at most `max_connections` are open, and `max_connections_per_ip` from one address; what is
//!   above is closed at once, as Kafka does, so that the client sees it;
//! - a failure to accept (no descriptors left) waits and goes on: it never ends the listener.
//!
//! Source: Kafka's `max.connections`, `max.connections.per.ip` and its overrides.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use skein_env::{Lane, Listener, Spawn, Stream};
use tokio::sync::watch;

use crate::{
    Budget, BufferPool, Connection, ConnectionInfo, ConnectionLimits, Counters, PeerGate, Service,
    Session,
};

/// How long a failed accept waits: descriptors come back when connections close.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How many connections are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptLimits {
    /// Of the node, as `max.connections`.
    pub max_connections: usize,
    /// From one address, as `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// In its place from these addresses, as `max.connections.per.ip.overrides`.
    pub per_ip_overrides: Arc<BTreeMap<IpAddr, usize>>,
}

impl AcceptLimits {
    /// Connections from one address.
    fn from(&self, ip: IpAddr) -> usize {
        let own = self.per_ip_overrides.get(&ip).copied();
        own.unwrap_or(self.max_connections_per_ip)
    }
}

/// Accepts the connections of one listener.
pub struct Acceptor {
    /// Name of the listener.
    pub listener_name: Arc<str>,
    /// What serves them.
    pub service: Arc<dyn Service>,
    /// How many, looked at for each: open connections stay when the limits sink.
    pub accept_limits: watch::Receiver<AcceptLimits>,
    /// Limits of each.
    pub limits: ConnectionLimits,
    /// The node's receive buffers.
    pub pool: Arc<BufferPool>,
    /// Bytes in flight of bodies that are received as a whole.
    pub budget: Budget,
    /// The node's totals.
    pub counters: Arc<Counters>,
    /// The node's tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Becomes true when the node stops.
    pub stop: watch::Receiver<bool>,
}

impl Acceptor {
    /// Accepts until the node stops.
    pub async fn run(self, listener: Box<dyn Listener>) {
        let acceptor = Arc::new(self);
        let admit = |stream, peer| acceptor.admit(stream, peer);
        acceptor.accept(listener, admit).await;
    }

    /// Accepts the other nodes of a cluster until this one stops: who passes `gate` is served by
    /// [`Service::open_peer`], on the lane of the connection's purpose.
    ///
    /// A stream tells of its readiness where it was accepted, so this belongs on
    /// [`Lane::Control`]: Raft must not wait for what clients do.
    pub async fn run_behind(self, gate: PeerGate, listener: Box<dyn Listener>) {
        let (acceptor, gate) = (Arc::new(self), Arc::new(gate));
        let admit = |stream, peer| Self::admit_behind(&acceptor, &gate, stream, peer);
        acceptor.accept(listener, admit).await;
    }

    async fn accept(
        &self,
        mut listener: Box<dyn Listener>,
        admit: impl Fn(Box<dyn Stream>, SocketAddr),
    ) {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = poll_fn(|context| listener.poll_accept(context)) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => admit(stream, peer),
                // Of that one connection; the next may be there already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, listener = %self.listener_name, "cannot accept");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn admit(&self, stream: Box<dyn Stream>, peer: SocketAddr) {
        if let Some(place) = self.take_place(peer) {
            let session = self.service.open(self.info(&place, peer));
            self.serve(Lane::Data, place, peer, stream, session);
        }
    }

    fn admit_behind(
        this: &Arc<Self>,
        gate: &Arc<PeerGate>,
        mut stream: Box<dyn Stream>,
        peer: SocketAddr,
    ) {
        let Some(place) = this.take_place(peer) else {
            return;
        };
        let (acceptor, gate) = (Arc::clone(this), Arc::clone(gate));
        let task = async move {
            let mut stop = acceptor.stop.clone();
            let greeted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                greeted = gate.greet(stream.as_mut(), peer) => greeted,
            };
            if let Some(remote) = greeted {
                let lane = remote.purpose.lane();
                let info = acceptor.info(&place, peer);
                let session = acceptor.service.open_peer(info, remote);
                acceptor.serve(lane, place, peer, stream, session);
            }
        };
        this.spawn
            .spawn(Lane::Control, "peer greeting", Box::pin(task));
    }

    fn take_place(&self, peer: SocketAddr) -> Option<Place> {
        let limits = self.accept_limits.borrow().clone();
        let place = Place::take(peer.ip(), &limits, &self.counters);
        if place.is_none() {
            self.counters
                .connections_refused
                .fetch_add(1, Ordering::Relaxed);
            tracing::info!(%peer, "refused a connection at max.connections or its per.ip");
        }
        place
    }

    fn info(&self, place: &Place, peer: SocketAddr) -> ConnectionInfo {
        ConnectionInfo {
            id: place.id,
            peer,
            listener: Arc::clone(&self.listener_name),
        }
    }

    /// Starts the connection's task.
    fn serve(
        &self,
        lane: Lane,
        place: Place,
        peer: SocketAddr,
        stream: Box<dyn Stream>,
        session: Box<dyn Session>,
    ) {
        let connection = Connection {
            stream,
            session,
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
        self.spawn.spawn(lane, "connection", Box::pin(task));
    }
}

/// An open connection's place among the limits; dropped, it is free.
struct Place {
    ip: IpAddr,
    id: u64,
    counters: Arc<Counters>,
}

impl Place {
    fn take(ip: IpAddr, limits: &AcceptLimits, counters: &Arc<Counters>) -> Option<Self> {
        // A listener of both families names an IPv4 peer by a mapped address.
        let ip = ip.to_canonical();
        let open = counters.connections.fetch_add(1, Ordering::Relaxed);
        let mut by_ip = counters.per_ip.lock();
        let from_ip = by_ip.entry(ip).or_insert(0);
        *from_ip += 1;
        let too_many = *from_ip > limits.from(ip);
        drop(by_ip);
        // The place is taken first, so that giving it back is the same on both ways out.
        let mut place = Self {
            ip,
            id: 0,
            counters: Arc::clone(counters),
        };
        if too_many || open >= limits.max_connections as u64 {
            return None;
        }
        let accepted_before = counters
            .connections_accepted
            .fetch_add(1, Ordering::Relaxed);
        place.id = accepted_before + 1;
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.connections.fetch_sub(1, Ordering::Relaxed);
        let mut by_ip = self.counters.per_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}
