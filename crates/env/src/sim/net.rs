//! The simulated network.
//!
//! Input: binds, connects and bytes of the nodes; a plan of latencies and faults; partitions and
//! cuts.
//! Output: the same bytes in the same order, late, in pieces, or not at all.
//!
//! A connection is two [`Pipe`]s, one for each direction. Bytes travel as segments with a time of
//! arrival. A blocked link holds them back, as TCP does, which sends again until the link is
//! healed.
//!
//! Invariants:
//! - bytes arrive in the order in which they were written, none twice, none changed;
//! - what a process wrote before it died still arrives, also when the next one runs already, unless
//!   its connection was cut or its machine lost the power;
//! - a pipe holds at most [`LinkPlan::buffer_max`] bytes.
//!
//! Source: `tcp(7)`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sim::disk::Death;
use crate::sim::rng::SimRng;
use crate::sim::trace::Trace;

mod endpoint;
mod pipe;
mod stream;

pub(super) use endpoint::SimNet;

use endpoint::Accepting;
use pipe::{End, Pipe};

/// The first port that is given to connections and to listeners at port 0.
const FIRST_EPHEMERAL_PORT: u16 = 32768;

/// A machine on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostId(u16);

/// How the links between different hosts behave. "One in n"; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// The shortest time of a segment on its way.
    pub latency_min: Duration,
    /// The longest.
    pub latency_max: Duration,
    /// Segments that are lost and sent again, [`LinkPlan::stall`] later.
    pub loss_one_in: u32,
    /// How long the connection stalls after a loss.
    pub stall: Duration,
    /// Segments at which the connection is reset.
    pub reset_one_in: u32,
    /// Reads and writes that move only a part; also between processes of one host.
    pub fragment_one_in: u32,
    /// Bytes on their way or unread in one direction, before the writer waits.
    pub buffer_max: usize,
}

impl Default for LinkPlan {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_millis(1),
            loss_one_in: 0,
            stall: Duration::from_millis(200),
            reset_one_in: 0,
            fragment_one_in: 8,
            buffer_max: 256 * 1024,
        }
    }
}

/// The network as tests see it. Cheap to clone.
#[derive(Clone)]
pub struct SimNetControl {
    fabric: Arc<Fabric>,
}

impl SimNetControl {
    pub(super) fn new(fabric: Arc<Fabric>) -> Self {
        Self { fabric }
    }

    /// Sets how all links behave.
    pub fn set_plan(&self, plan: LinkPlan) {
        self.fabric.state.lock().plan = plan;
    }

    /// Holds back everything on the way from one node to the other, in this direction only.
    pub fn block(&self, from: &str, to: &str) {
        self.fabric.set_blocked(from, to, true);
    }

    /// Ends [`SimNetControl::block`]: what was held back arrives a little later.
    pub fn unblock(&self, from: &str, to: &str) {
        self.fabric.set_blocked(from, to, false);
    }

    /// Holds back what is on its way from one node to the other over connections that are open
    /// now, until [`SimNetControl::unblock`]: as a router does that one of several paths leads to.
    /// New connections are not concerned.
    pub fn hold_back(&self, from: &str, to: &str) {
        self.fabric.hold_back(from, to);
    }

    /// Holds back everything between the two nodes.
    pub fn partition(&self, one: &str, other: &str) {
        self.block(one, other);
        self.block(other, one);
    }

    /// Ends all blocks and partitions.
    pub fn heal(&self) {
        let blocked: Vec<_> = self.fabric.state.lock().blocked.keys().copied().collect();
        for (from, to) in blocked {
            self.fabric.set_link_blocked(from, to, false);
        }
    }

    /// Resets the connections between the two nodes; what was on its way is lost. Returns how many.
    pub fn cut(&self, one: &str, other: &str) -> usize {
        let (one, other) = (self.fabric.host(one), self.fabric.host(other));
        self.fabric.reset_where(|pipe| {
            (pipe.from, pipe.to) == (one, other) || (pipe.from, pipe.to) == (other, one)
        })
    }
}

/// All hosts, links and connections.
pub(super) struct Fabric {
    trace: Arc<Trace>,
    runtime: Handle,
    state: Mutex<NetState>,
    /// A link was healed or a host came back.
    changed: Notify,
}

struct NetState {
    rng: SimRng,
    plan: LinkPlan,
    hosts: Vec<Host>,
    listeners: BTreeMap<(HostId, u16), Arc<Accepting>>,
    blocked: BTreeMap<(HostId, HostId), ()>,
    /// Both directions of each connection, as long as one end has it.
    pipes: BTreeMap<u64, [Weak<Pipe>; 2]>,
    connections: u64,
}

struct Host {
    name: String,
    up: bool,
    next_port: u16,
}

impl Fabric {
    pub(super) fn new(rng: SimRng, trace: Arc<Trace>, runtime: Handle) -> Self {
        let state = NetState {
            rng,
            plan: LinkPlan::default(),
            hosts: Vec::new(),
            listeners: BTreeMap::new(),
            blocked: BTreeMap::new(),
            pipes: BTreeMap::new(),
            connections: 0,
        };
        Self {
            trace,
            runtime,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn add_host(&self, name: &str) -> HostId {
        let mut state = self.state.lock();
        let Ok(number) = u16::try_from(state.hosts.len()) else {
            panic!("too many hosts")
        };
        let host = Host {
            name: name.to_owned(),
            up: false,
            next_port: FIRST_EPHEMERAL_PORT,
        };
        state.hosts.push(host);
        HostId(number)
    }

    /// 10.0.0.1 for the first host, and so on.
    pub(super) fn address(&self, host: HostId) -> IpAddr {
        let [high, low] = (host.0 + 1).to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
    }

    /// A process begins on the host. After a power cut the machine knows nothing of what the last
    /// one had open; if only the process had died, the kernel still sends what that one wrote.
    pub(super) fn start_host(&self, host: HostId) {
        let was_up = {
            let mut state = self.state.lock();
            std::mem::replace(&mut state.hosts[usize::from(host.0)].up, true)
        };
        if !was_up {
            self.reset_where(|pipe| pipe.from == host || pipe.to == host);
        }
        self.changed.notify_waiters();
    }

    /// The process on the host has ended. After a kill the kernel closes its connections; after a
    /// power cut its peers hear nothing.
    pub(super) fn end_host(&self, host: HostId, death: Death) {
        let mut state = self.state.lock();
        let listeners = std::mem::take(&mut state.listeners);
        let (gone, kept) = listeners.into_iter().partition(|((at, _), _)| *at == host);
        state.listeners = kept;
        state.hosts[usize::from(host.0)].up = death == Death::Kill;
        let pipes = state.living_pipes();
        drop(state);
        drop::<BTreeMap<_, _>>(gone);
        if death == Death::PowerCut {
            return;
        }
        let now = self.now();
        for [one, other] in pairs(&pipes) {
            for (outgoing, incoming) in [(one, other), (other, one)] {
                if outgoing.from == host {
                    let end = if incoming.abandon() {
                        End::Reset
                    } else {
                        End::Fin
                    };
                    outgoing.finish(end, now);
                }
            }
        }
    }

    fn now(&self) -> Instant {
        // Outside of the runtime `Instant::now` would be the real time.
        let _guard = self.runtime.enter();
        Instant::now()
    }

    fn host(&self, name: &str) -> HostId {
        match self.state.lock().find_host(name) {
            Some(host) => host,
            None => panic!("no simulated node is called {name}"),
        }
    }

    fn set_blocked(&self, from: &str, to: &str, blocked: bool) {
        let (from, to) = (self.host(from), self.host(to));
        self.set_link_blocked(from, to, blocked);
    }

    fn hold_back(&self, from: &str, to: &str) {
        let (from, to) = (self.host(from), self.host(to));
        let (now, pipes) = (self.now(), self.state.lock().living_pipes());
        let words = [u64::from(from.0), u64::from(to.0)];
        self.trace
            .note("hold", &words, || format!("{from:?} to {to:?}"));
        for pipe in pipes.iter().flatten() {
            if (pipe.from, pipe.to) == (from, to) {
                pipe.set_blocked(true, now);
            }
        }
    }

    fn set_link_blocked(&self, from: HostId, to: HostId, blocked: bool) {
        let now = self.now();
        let mut state = self.state.lock();
        if blocked {
            state.blocked.insert((from, to), ());
        } else {
            state.blocked.remove(&(from, to));
        }
        let again = now + Duration::from_millis(state.rng.between(1, 200));
        let pipes = state.living_pipes();
        drop(state);
        let words = [u64::from(from.0), u64::from(to.0), u64::from(blocked)];
        self.trace.note("link", &words, || {
            format!("{from:?} to {to:?} blocked {blocked}")
        });
        for pipe in pipes
            .iter()
            .flatten()
            .filter(|pipe| (pipe.from, pipe.to) == (from, to))
        {
            pipe.set_blocked(blocked, again);
        }
        self.changed.notify_waiters();
    }

    /// Resets the connections of which `chosen` says so; returns how many.
    fn reset_where(&self, chosen: impl Fn(&Pipe) -> bool) -> usize {
        let now = self.now();
        let pipes = self.state.lock().living_pipes();
        let mut count = 0;
        for pair in pairs(&pipes) {
            if pair.iter().any(|pipe| chosen(pipe)) {
                count += 1;
                for pipe in pair {
                    pipe.reset(now);
                }
            }
        }
        count
    }

    /// Draws the way of one segment: when it arrives, or that it resets the connection.
    fn draw_segment(&self, pipe: &Pipe, bytes: usize) -> Option<Duration> {
        let mut state = self.state.lock();
        let NetState { rng, plan, .. } = &mut *state;
        if pipe.from == pipe.to {
            return Some(Duration::ZERO);
        }
        if plan.reset_one_in != 0 && rng.chance(plan.reset_one_in) {
            return None;
        }
        let latency = plan.draw_latency(rng);
        let lost = plan.loss_one_in != 0 && rng.chance(plan.loss_one_in);
        let latency = if lost { latency + plan.stall } else { latency };
        let words = [pipe.connection, bytes as u64, nanoseconds(latency)];
        self.trace.note("send", &words, || {
            format!("{pipe:?} {bytes} bytes, {latency:?}")
        });
        Some(latency)
    }

    /// How many of `available` bytes a read or write moves: all, or fewer by the seed.
    fn draw_count(&self, available: usize) -> usize {
        let mut state = self.state.lock();
        let NetState { rng, plan, .. } = &mut *state;
        if available > 1 && rng.chance(plan.fragment_one_in) {
            let part = rng.between(1, available as u64);
            return usize::try_from(part).unwrap_or(available);
        }
        available
    }

    fn buffer_max(&self) -> usize {
        self.state.lock().plan.buffer_max.max(1)
    }
}

impl LinkPlan {
    fn draw_latency(&self, rng: &mut SimRng) -> Duration {
        let min = nanoseconds(self.latency_min);
        Duration::from_nanos(rng.between(min, nanoseconds(self.latency_max).max(min)))
    }
}

impl NetState {
    fn find_host(&self, name: &str) -> Option<HostId> {
        let index = self.hosts.iter().position(|host| host.name == name)?;
        u16::try_from(index).ok().map(HostId)
    }

    /// The host that `name` means on `from`: a host name, an address, or itself.
    fn resolve(&self, name: &str, from: HostId) -> Option<(HostId, bool)> {
        match name.parse() {
            Ok(IpAddr::V4(address)) if !address.is_loopback() => {
                let [_, _, high, low] = address.octets();
                let number = u16::from_be_bytes([high, low]).checked_sub(1)?;
                (usize::from(number) < self.hosts.len()).then_some((HostId(number), false))
            }
            Ok(address) if address.is_loopback() => Some((from, true)),
            Ok(_) => None,
            Err(_) if name == "localhost" => Some((from, true)),
            Err(_) => self.find_host(name).map(|host| (host, false)),
        }
    }

    fn take_port(&mut self, host: HostId) -> u16 {
        let next = &mut self.hosts[usize::from(host.0)].next_port;
        let port = *next;
        *next = next.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        port
    }

    fn is_blocked(&self, from: HostId, to: HostId) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// Both directions of every connection that an end still has, in the order of their age.
    fn living_pipes(&mut self) -> Vec<[Arc<Pipe>; 2]> {
        let mut living = Vec::new();
        self.pipes
            .retain(|_, [one, other]| match (one.upgrade(), other.upgrade()) {
                (Some(one), Some(other)) => {
                    living.push([one, other]);
                    true
                }
                _ => false,
            });
        living
    }
}

fn pairs(pipes: &[[Arc<Pipe>; 2]]) -> impl Iterator<Item = [&Arc<Pipe>; 2]> {
    pipes.iter().map(|[one, other]| [one, other])
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
