//! One connection to a peer, made when it is needed and made again when it has ended.
//!
//! Input: who wants it. Output: the open connection, or why there is none.
//!
//! ```text
//!              wanted                    greeted
//!     Idle ──────────────► Connecting ──────────────► Open
//!      ▲                     │    ▲                    │
//!      │              failed │    │ wanted, after      │ ended
//!      │                     ▼    │ the pause          │
//!      │                   Failed ──┘ ◄────────────────┘
//! ```
//!
//! A task per attempt connects, greets, and then moves the connection's bytes; it belongs to the
//! lane of its purpose. Whoever wants the connection waits for the attempt that is under way, with
//! a patience of its own, and takes its outcome: nobody cancels what others wait for.
//!
//! Invariants:
//! - at most one attempt is under way, and each has a number: what a former one says is ignored;
//! - an attempt ends after [`CONNECT_MAX`] and [`GREETING_MAX`];
//! - the task does not keep the link alive: forgotten, the connection ends when all is answered.
//!
//! Source: none.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skein_env::{Env, Stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::peer::backoff::pause_after;
use crate::peer::exchange;
use crate::peer::handshake::ClientHello;
use crate::peer::links::{PeerError, Presence};
use crate::peer::proof::NONCE_BYTES;
use crate::peer::{HandshakeError, LocalPeer, PeerAddress, Purpose, RemotePeer};
use crate::{CallDriver, CallError, CallLimits, Caller};

/// How long a connection may take to come about. A first packet that was lost is sent again after a
/// second: another attempt is as good.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long the handshake may take: as long as the other side allows.
const GREETING_MAX: Duration = Duration::from_secs(2);
/// A connection that lived for so long was a good one: the next pause is the shortest again.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// Requests of a link without an answer; further ones wait for their turn.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes of an answer: of a Fetch, twice Kafka's `fetch.max.bytes`; memory grows with what arrives.
const RESPONSE_MAX_BYTES: usize = 100 * 1024 * 1024;

/// What links need of their node.
pub(super) struct Node {
    pub(super) env: Env,
    pub(super) local: Arc<LocalPeer>,
}

/// A connection to a peer, or its absence.
pub(super) struct Link {
    node: Arc<Node>,
    address: PeerAddress,
    purpose: Purpose,
    presence: watch::Sender<Presence>,
    progress: watch::Sender<Progress>,
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) caller: Caller,
    pub(super) remote: Arc<RemotePeer>,
}

#[derive(Clone, Default)]
struct Progress {
    state: State,
    /// Number of the last attempt.
    attempt: u64,
    /// Faults in a row.
    faults: u32,
}

#[derive(Clone, Default)]
enum State {
    #[default]
    Idle,
    Connecting,
    Open(Open, Instant),
    Failed(PeerError, Instant),
}

/// What someone who wants the connection does next.
enum Next {
    Take(Open),
    /// Waits for the end of the attempt of that number.
    Await(u64),
    Pause(Instant),
    /// Starts the attempt of that number.
    Attempt(u64),
}

impl Link {
    pub(super) fn new(
        node: Arc<Node>,
        address: PeerAddress,
        purpose: Purpose,
        presence: watch::Sender<Presence>,
    ) -> Self {
        Self {
            node,
            address,
            purpose,
            presence,
            progress: watch::Sender::default(),
        }
    }

    /// The open connection, made if need be. The caller bounds the wait, and with it how often this
    /// goes round.
    pub(super) async fn open(self: &Arc<Self>) -> Result<Open, PeerError> {
        loop {
            let mut seen = self.progress.subscribe();
            let attempt = match self.next(Instant::now()) {
                Next::Take(open) => return Ok(open),
                Next::Pause(until) => {
                    sleep_until(until).await;
                    continue;
                }
                Next::Attempt(attempt) => {
                    self.start(attempt);
                    attempt
                }
                Next::Await(attempt) => attempt,
            };
            let is_over =
                |now: &Progress| now.attempt != attempt || !matches!(now.state, State::Connecting);
            let Ok(outcome) = seen.wait_for(is_over).await else {
                return Err(PeerError::Forgotten);
            };
            match &outcome.state {
                State::Open(open, _) => return Ok(open.clone()),
                State::Failed(error, _) if outcome.attempt == attempt => {
                    return Err(error.clone());
                }
                _ => {}
            }
        }
    }

    /// Decides, and enters the state that follows.
    fn next(&self, now: Instant) -> Next {
        let mut next = None;
        self.progress.send_if_modified(|progress| {
            let decided = match &progress.state {
                State::Open(open, _) if !open.caller.is_closed() => Next::Take(open.clone()),
                State::Connecting => Next::Await(progress.attempt),
                State::Failed(_, until) if now < *until => Next::Pause(*until),
                State::Idle | State::Open(..) | State::Failed(..) => {
                    progress.attempt += 1;
                    progress.state = State::Connecting;
                    Next::Attempt(progress.attempt)
                }
            };
            let is_new = matches!(decided, Next::Attempt(_));
            next = Some(decided);
            is_new
        });
        // The closure has run: the other arm is never taken.
        next.unwrap_or(Next::Pause(now))
    }

    fn start(self: &Arc<Self>, attempt: u64) {
        let link = Arc::downgrade(self);
        let node = Arc::clone(&self.node);
        let (address, purpose) = (self.address.clone(), self.purpose);
        let task = async move {
            let connected = connect(&node, &address, purpose).await;
            serve(&link, attempt, connected).await;
        };
        let spawn = &self.node.env.spawn;
        spawn.spawn(self.purpose.lane(), "peer link", Box::pin(task));
    }

    fn opened(&self, attempt: u64, open: Open) {
        let process_id = open.remote.process_id;
        self.progress.send_if_modified(|progress| {
            let is_current = progress.attempt == attempt;
            if is_current {
                progress.state = State::Open(open, Instant::now());
            }
            is_current
        });
        self.presence.send_modify(|presence| {
            presence.open += 1;
            presence.process_id = Some(process_id);
        });
    }

    /// An open connection has ended.
    fn ended(&self, attempt: u64, end: CallError) {
        let is_peers_doing = matches!(end, CallError::ClosedByPeer | CallError::Io(_));
        self.failed(attempt, PeerError::Lost(end));
        // Told last: who hears of it finds the link closed.
        self.presence.send_modify(|presence| {
            presence.open = presence.open.saturating_sub(1);
            presence.lost += u64::from(is_peers_doing);
        });
    }

    fn failed(&self, attempt: u64, error: PeerError) {
        let (now, fault, is_refused) = (Instant::now(), error.fault(), error.is_refused());
        self.progress.send_if_modified(|progress| {
            if progress.attempt != attempt {
                return false;
            }
            let was_good = match &progress.state {
                State::Open(_, since) => now.duration_since(*since) >= GOOD_AFTER,
                _ => false,
            };
            progress.faults = if was_good {
                1
            } else {
                progress.faults.saturating_add(1)
            };
            let until = now + pause_after(fault, progress.faults);
            progress.state = State::Failed(error, until);
            true
        });
        if is_refused {
            self.presence.send_modify(|presence| presence.refused += 1);
        }
    }
}

/// Hands the connection to those who wait for it, and moves its bytes until it ends.
async fn serve(
    link: &Weak<Link>,
    attempt: u64,
    connected: Result<(Box<dyn Stream>, RemotePeer), PeerError>,
) {
    let Some(found) = link.upgrade() else {
        return;
    };
    let (stream, remote) = match connected {
        Ok(connected) => connected,
        Err(error) => return found.failed(attempt, error),
    };
    let limits = CallLimits {
        in_flight_max: IN_FLIGHT_MAX,
        response_max_bytes: RESPONSE_MAX_BYTES,
    };
    let (caller, driver): (Caller, CallDriver) = Caller::new(stream, None, limits);
    let remote = Arc::new(remote);
    found.opened(attempt, Open { caller, remote });
    // What moves the bytes must not keep alive what they are moved for.
    drop(found);
    let end = driver.run_to_end().await;
    if let Some(found) = link.upgrade() {
        found.ended(attempt, end);
    }
}

/// Connects to `address` and greets who is there.
async fn connect(
    node: &Node,
    address: &PeerAddress,
    purpose: Purpose,
) -> Result<(Box<dyn Stream>, RemotePeer), PeerError> {
    let connecting = node.env.net.connect(&address.host, address.port);
    let mut stream = match timeout(CONNECT_MAX, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(PeerError::NobodyListens);
        }
        Ok(Err(error)) => return Err(PeerError::Unreachable(Arc::new(error))),
        Err(_) => {
            let silent = io::Error::from(io::ErrorKind::TimedOut);
            return Err(PeerError::Unreachable(Arc::new(silent)));
        }
    };
    let mut nonce = [0; NONCE_BYTES];
    node.env.rng.fill(&mut nonce);
    let hello = ClientHello::new(&node.local, purpose, nonce);
    let greeting = timeout(GREETING_MAX, greet(stream.as_mut(), hello)).await;
    let remote = greeting.unwrap_or(Err(HandshakeError::TimedOut(GREETING_MAX)))?;
    Ok((stream, remote))
}

async fn greet(
    stream: &mut dyn Stream,
    hello: ClientHello<'_>,
) -> Result<RemotePeer, HandshakeError> {
    let answer = exchange::ask(stream, &hello.request()).await?;
    let proof = hello.answered(&answer)?;
    let answer = exchange::ask(stream, &proof.request()).await?;
    proof.answered(&answer)
}
