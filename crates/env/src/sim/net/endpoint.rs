//! The simulated network as one process sees it: what it binds, accepts and connects to.
//!
//! Input and output: as in [`crate::Net`] and [`crate::Listener`].
//!
//! Invariants:
//! - a connection is made only while both hosts reach each other;
//! - at most [`BACKLOG`] connections wait at a port.
//!
//! Source: `connect(2)`, `listen(2)`.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use crate::sim::disk::killed;
use crate::sim::net::pipe::Pipe;
use crate::sim::net::stream::SimStream;
use crate::sim::net::{Fabric, HostId, NetState};
use crate::sim::world::Process;
use crate::{BoxFuture, ListenOptions, Listener, Net, Stream};

/// Connections that wait to be accepted.
const BACKLOG: usize = 128;

/// How long TCP waits before it asks again for a connection that a full backlog dropped.
const CONNECT_RETRY: Duration = Duration::from_secs(1);

/// A port at which a process listens.
pub(super) struct Accepting {
    process: Arc<Process>,
    loopback_only: bool,
    queue: Mutex<AcceptQueue>,
}

#[derive(Default)]
struct AcceptQueue {
    waiting: VecDeque<(SimStream, SocketAddr)>,
    acceptor: Option<Waker>,
}

/// The network as one process sees it.
pub(in crate::sim) struct SimNet {
    fabric: Arc<Fabric>,
    process: Arc<Process>,
    host: HostId,
}

impl SimNet {
    pub(in crate::sim) fn new(fabric: Arc<Fabric>, process: Arc<Process>, host: HostId) -> Self {
        Self {
            fabric,
            process,
            host,
        }
    }
}

impl Net for SimNet {
    fn listen(&self, address: SocketAddr, _: &ListenOptions) -> io::Result<Box<dyn Listener>> {
        if !self.process.is_alive() {
            return Err(killed());
        }
        let ip = address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && ip != self.fabric.address(self.host) {
            return Err(bind_error(io::ErrorKind::AddrNotAvailable, address));
        }
        let mut state = self.fabric.state.lock();
        let port = match address.port() {
            0 => state.take_port(self.host),
            port => port,
        };
        if state.listeners.contains_key(&(self.host, port)) {
            return Err(bind_error(io::ErrorKind::AddrInUse, address));
        }
        let accepting = Arc::new(Accepting {
            process: Arc::clone(&self.process),
            loopback_only: ip.is_loopback(),
            queue: Mutex::default(),
        });
        state
            .listeners
            .insert((self.host, port), Arc::clone(&accepting));
        drop(state);
        let fabric = Arc::clone(&self.fabric);
        let address = SocketAddr::new(ip, port);
        Ok(Box::new(SimListener {
            fabric,
            host: self.host,
            address,
            accepting,
        }))
    }

    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let resolved = self.fabric.state.lock().resolve(host, self.host);
            let Some((to, loopback)) = resolved else {
                return Err(unknown_host(host));
            };
            loop {
                self.travel_to(to).await?;
                if let Some(stream) = self.open(to, port, loopback)? {
                    return Ok(Box::new(stream) as Box<dyn Stream>);
                }
                sleep(CONNECT_RETRY).await;
            }
        })
    }

    fn look_up<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let resolved = self.fabric.state.lock().resolve(host, self.host);
            let (found, _) = resolved.ok_or_else(|| unknown_host(host))?;
            Ok(vec![self.fabric.address(found)])
        })
    }
}

fn unknown_host(host: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("the simulated network knows no host {host}"),
    )
}

impl SimNet {
    /// Waits until the host can be reached both ways, then one round trip.
    async fn travel_to(&self, to: HostId) -> io::Result<()> {
        loop {
            if !self.process.is_alive() {
                return Err(killed());
            }
            let changed = self.fabric.changed.notified();
            let round_trip = {
                let mut state = self.fabric.state.lock();
                let unreachable = !state.hosts[usize::from(to.0)].up
                    || state.is_blocked(self.host, to)
                    || state.is_blocked(to, self.host);
                let NetState { rng, plan, .. } = &mut *state;
                (!unreachable).then(|| plan.draw_latency(rng) + plan.draw_latency(rng))
            };
            match round_trip {
                None => changed.await,
                Some(_) if to == self.host => return Ok(()),
                Some(round_trip) => {
                    sleep(round_trip).await;
                    return Ok(());
                }
            }
        }
    }

    /// Opens the connection; `None` if the backlog is full.
    fn open(&self, to: HostId, port: u16, loopback: bool) -> io::Result<Option<SimStream>> {
        let mut state = self.fabric.state.lock();
        let state = &mut *state;
        let Some(accepting) = state.listeners.get(&(to, port)) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        if accepting.loopback_only && to != self.host {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let accepting = Arc::clone(accepting);
        if accepting.queue.lock().waiting.len() >= BACKLOG {
            return Ok(None);
        }
        state.connections += 1;
        let number = state.connections;
        let there = Arc::new(Pipe::new(
            number,
            self.host,
            to,
            state.is_blocked(self.host, to),
        ));
        let back = Arc::new(Pipe::new(
            number,
            to,
            self.host,
            state.is_blocked(to, self.host),
        ));
        state
            .pipes
            .insert(number, [Arc::downgrade(&there), Arc::downgrade(&back)]);
        let ip = if loopback {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.fabric.address(self.host)
        };
        let peer = SocketAddr::new(ip, state.take_port(self.host));
        self.fabric
            .trace
            .note("connect", &[number], || format!("{there:?} port {port}"));
        let fabric = &self.fabric;
        let client = SimStream::new(fabric, &self.process, Arc::clone(&back), Arc::clone(&there));
        let server = SimStream::new(fabric, &accepting.process, there, back);
        let mut queue = accepting.queue.lock();
        queue.waiting.push_back((server, peer));
        if let Some(acceptor) = queue.acceptor.take() {
            acceptor.wake();
        }
        Ok(Some(client))
    }
}

fn bind_error(kind: io::ErrorKind, address: SocketAddr) -> io::Error {
    io::Error::new(kind, format!("cannot listen at {address}: {kind}"))
}

struct SimListener {
    fabric: Arc<Fabric>,
    host: HostId,
    address: SocketAddr,
    accepting: Arc<Accepting>,
}

impl Listener for SimListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn Stream>, SocketAddr)>> {
        if !self.accepting.process.is_alive() {
            return Poll::Ready(Err(killed()));
        }
        let mut queue = self.accepting.queue.lock();
        match queue.waiting.pop_front() {
            Some((stream, peer)) => Poll::Ready(Ok((Box::new(stream), peer))),
            None => {
                queue.acceptor = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = self.fabric.state.lock();
        let key = (self.host, self.address.port());
        // The port may belong to the next process by now.
        let mine = state
            .listeners
            .get(&key)
            .is_some_and(|at| Arc::ptr_eq(at, &self.accepting));
        let listener = if mine {
            state.listeners.remove(&key)
        } else {
            None
        };
        drop(state);
        drop(listener);
        let waiting = std::mem::take(&mut self.accepting.queue.lock().waiting);
        drop(waiting);
    }
}
