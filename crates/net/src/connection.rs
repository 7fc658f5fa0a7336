//! One connection: a task that reads requests and writes responses.
//!
//! Input: a stream, a [`Session`] that knows what requests mean. Output: nothing; it runs until the
//! peer ends, something is malformed, or the node stops.
//!
//! ```text
//!   read side   idle ─► length ─► header ─► [barrier: all answered] ─► body ─► start
//!                ▲                                                               │
//!                └── outbox has space, the turn is not spent ◄── slot in outbox ◄┘
//!   write side  outbox ─► socket, whenever the task runs
//! ```
//!
//! Both sides run in the same task, one after the other, so that a response leaves in the same poll
//! in which its request was served: no queue between threads and no wake-up in between.
//!
//! Invariants:
//! - requests start in order, each when those before it have taken effect; a barrier starts alone;
//! - a burst ends whenever the task stops to run, so that nothing gathered waits for anybody;
//! - at most [`crate::outbox::SLOTS_MAX`] requests are unanswered; at that bound the socket is not
//!   read;
//! - after an error nothing more is read; what is owed is still sent, for [`DRAIN_MAX`];
//! - when the node stops, a request that is being served ends first, for [`FINISH_MAX`]: a handler
//!   is not dropped half way without need;
//! - a peer that takes no answers is closed after `idle_max`, and is not idle before.
//!
//! Source: the Kafka protocol guide (a server answers in order and may receive further requests
//! meanwhile).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use parking_lot::Mutex;
use skein_env::{Spawn, Stream};
use skein_protocol::ApiKey;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame::{self, HEADER_MAX_BYTES, HeadProgress};
use crate::outbox::{Outbox, Sent};
use crate::receive::Receiver;
use crate::timer::Timer;
use crate::turn::Turn;
use crate::{
    Admission, Body, BodyReader, Budget, BufferPool, Burst, Counters, FrameError, ReceiveError,
    Request, RequestHead, Session, Started,
};

/// How long what is owed may take to be sent after the connection has ended.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long a request may still be served when the node stops. With [`DRAIN_MAX`] it stays below
/// the two seconds in which a node stops.
const FINISH_MAX: Duration = Duration::from_millis(500);

/// Why another node is refused on a listener of clients.
const MISDIRECTED_PEER: &str = "a node of a cluster connected, where clients do: each entry of its \
                                cluster.peers must name a peer.listener";

/// Limits of each connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Largest frame, as `socket.request.max.bytes`.
    pub request_max_bytes: usize,
    /// A connection without a request, or whose peer takes no answers, is closed after this, as
    /// `connections.max.idle.ms`.
    pub idle_max: Duration,
    /// A connection that stalls within a request is closed after this.
    pub stall_max: Duration,
}

/// What both sides of a connection share. Only the connection's task locks: it is never contended.
pub struct Wire {
    pub(crate) stream: Mutex<Box<dyn Stream>>,
    pub(crate) turn: Turn,
    pub(crate) burst: Arc<dyn Burst>,
    outbox: Mutex<Outbox>,
    /// The read side waits for the outbox.
    waits_for_outbox: AtomicBool,
    /// The session serves a request.
    serves: AtomicBool,
    /// The node stops: no further request is taken.
    stops: AtomicBool,
}

/// A connection and what it needs of its node.
pub struct Connection {
    /// The stream.
    pub stream: Box<dyn Stream>,
    /// What requests mean.
    pub session: Box<dyn Session>,
    /// Its limits.
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

/// Why a connection ended; the text is for the log.
#[derive(Debug)]
pub(crate) enum End {
    Receive(ReceiveError),
    Refused(String),
    /// Another node connected, in place of to the peer listener.
    MisdirectedPeer,
    Stopped,
}

impl Connection {
    /// Serves the connection until it ends. The error is for the log: why it was closed, unless the
    /// peer closed it.
    ///
    /// # Errors
    /// What the peer did wrong, or what the system said.
    pub async fn run(mut self) -> Result<(), String> {
        let wire = Wire {
            stream: Mutex::new(self.stream),
            turn: Turn::new(),
            burst: self.session.burst(),
            outbox: Mutex::new(Outbox::default()),
            waits_for_outbox: AtomicBool::new(false),
            serves: AtomicBool::new(false),
            stops: AtomicBool::new(false),
        };
        let receiver = Receiver::new(
            &wire,
            &self.pool,
            &self.counters,
            self.limits.idle_max,
            self.limits.stall_max,
        );
        let reader = ReadSide {
            wire: &wire,
            receiver,
            session: self.session.as_mut(),
            limits: self.limits,
            budget: &self.budget,
            spawn: &self.spawn,
            last_client_id: None,
        };
        let write_limit = self.limits.idle_max;
        let end = serve(
            &wire,
            &self.counters,
            reader.run(),
            write_limit,
            &mut self.stop,
        )
        .await;
        // Whatever it ended for: the answers of what was gathered are owed too.
        while !wire.burst.end() {}
        let end = match end {
            Ok(end) => end,
            Err(error) => return Err(format!("the connection failed: {error}")),
        };
        drain(&wire, &self.counters).await;
        match end {
            End::Receive(ReceiveError::Closed | ReceiveError::Silent(_)) | End::Stopped => Ok(()),
            End::Receive(error) => Err(error.to_string()),
            End::Refused(reason) => Err(reason),
            // It comes back many times a second.
            End::MisdirectedPeer => match self.counters.misdirected_peers.admit(Instant::now()) {
                Some(_) => Err(MISDIRECTED_PEER.to_owned()),
                None => Ok(()),
            },
        }
    }
}

/// Runs both sides until the read side ends, the node stops, or sending fails.
async fn serve(
    wire: &Wire,
    counters: &Counters,
    read_side: impl Future<Output = End>,
    write_limit: Duration,
    stop: &mut watch::Receiver<bool>,
) -> io::Result<End> {
    let mut read_side = pin!(read_side);
    let mut stopped = pin!(stop.wait_for(|stop| *stop));
    let mut finishing: Option<Timer> = None;
    let mut write_watch = WriteWatch::default();
    poll_fn(|context| {
        wire.turn.start();
        let mut progress_before = wire.outbox.lock().progress();
        loop {
            let polled = read_side.as_mut().poll(context);
            if let Poll::Ready(end) = polled {
                return Poll::Ready(Ok(end));
            }
            // Whatever it waits for: what was gathered goes on.
            if !wire.burst.end() {
                context.waker().wake_by_ref();
            }
            match wire.poll_send(context, counters) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(Sent::Close)) => {
                    return Poll::Ready(Ok(End::Refused(
                        "a request without an answer failed".into(),
                    )));
                }
                Poll::Ready(Ok(Sent::Everything)) | Poll::Pending => {}
            }
            // Sending may have made the room that the read side waits for.
            let progress_after = wire.outbox.lock().progress();
            let waits = wire.waits_for_outbox.load(Ordering::Relaxed);
            if !waits || progress_after == progress_before {
                break;
            }
            progress_before = progress_after;
        }
        if let Poll::Ready(error) = write_watch.poll(context, &wire.outbox.lock(), write_limit) {
            return Poll::Ready(Err(error));
        }
        if finishing.is_none() {
            ready!(stopped.as_mut().poll(context)).ok();
            wire.stops.store(true, Ordering::Relaxed);
        }
        if !wire.serves.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(End::Stopped));
        }
        let timer = finishing.get_or_insert_with(|| Timer::new(FINISH_MAX));
        timer.poll_over(context).map(|_| Ok(End::Stopped))
    })
    .await
}

/// Sees a peer that takes no answers.
#[derive(Default)]
struct WriteWatch {
    /// Made when the socket first took less than there was.
    timer: Option<Timer>,
    /// The outbox's progress when it was last seen blocked.
    progress: Option<u64>,
}

impl WriteWatch {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        outbox: &Outbox,
        limit: Duration,
    ) -> Poll<io::Error> {
        if !outbox.is_blocked() {
            self.progress = None;
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Timer::new(limit));
        if self.progress != Some(outbox.progress()) {
            self.progress = Some(outbox.progress());
            timer.set(limit);
        }
        timer.poll_over(context).map(|limit| {
            let message = format!("the peer took no answers for {limit:?}");
            io::Error::new(io::ErrorKind::TimedOut, message)
        })
    }
}

/// Sends what is owed, and ends the sending direction.
async fn drain(wire: &Wire, counters: &Counters) {
    let shut = poll_fn(|context| {
        wire.turn.start();
        // What cannot be sent any more is lost with the connection; the client asks again.
        while let Ok(Sent::Close) = ready!(wire.poll_send(context, counters)) {}
        wire.stream.lock().poll_shutdown(context)
    });
    let _ = tokio::time::timeout(DRAIN_MAX, shut).await;
}

impl Wire {
    fn poll_send(&self, context: &mut Context<'_>, counters: &Counters) -> Poll<io::Result<Sent>> {
        let mut outbox = self.outbox.lock();
        let mut stream = self.stream.lock();
        outbox.poll_send(context, stream.as_mut(), &self.turn, counters)
    }

    /// Whether a request is not answered yet.
    pub(crate) fn owes_answers(&self) -> bool {
        !self.outbox.lock().is_empty()
    }

    /// Waits until `condition` holds for the outbox; the write side runs meanwhile.
    async fn wait_for_outbox(&self, condition: impl Fn(&Outbox) -> bool) {
        poll_fn(|_| {
            let is_ready = condition(&self.outbox.lock());
            self.waits_for_outbox.store(!is_ready, Ordering::Relaxed);
            // No waker: the write side is polled after this one in the same task, and `serve` polls
            // this one again when that has taken something.
            if is_ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

struct ReadSide<'c> {
    wire: &'c Wire,
    receiver: Receiver<'c>,
    session: &'c mut dyn Session,
    limits: ConnectionLimits,
    budget: &'c Budget,
    spawn: &'c Arc<dyn Spawn>,
    last_client_id: Option<Arc<str>>,
}

impl ReadSide<'_> {
    async fn run(mut self) -> End {
        loop {
            if self.wire.stops.load(Ordering::Relaxed) {
                return End::Stopped;
            }
            match self.serve_request().await {
                Ok(()) => {}
                Err(end) => return end,
            }
            if self.wire.turn.is_spent() {
                self.spawn.yield_now().await;
            }
        }
    }

    async fn serve_request(&mut self) -> Result<(), End> {
        self.wire.wait_for_outbox(|outbox| !outbox.is_full()).await;
        self.receiver.wait_for_frame().await?;
        let received = Instant::now();
        let (head, admission, body_length) = self.receive_head().await?;
        let is_barrier = matches!(admission, Admission::Barrier { .. });
        if is_barrier {
            self.wire.wait_for_outbox(Outbox::is_empty).await;
        }
        let started = match admission {
            Admission::Streamed { .. } => self.start_streamed(head, body_length, received).await?,
            _ => self.start_whole(head, body_length, received).await?,
        };
        match started {
            Started::Answered(response) => self.wire.outbox.lock().push_ready(response),
            Started::Later(response) => self.wire.outbox.lock().push_later(response),
            Started::Concurrent(response) => self.wire.outbox.lock().push_concurrent(response),
            Started::Close { reason } => return Err(End::Refused(reason)),
        }
        if is_barrier {
            self.receiver.rest();
            self.wire.wait_for_outbox(Outbox::is_empty).await;
        }
        Ok(())
    }

    async fn start_whole(
        &mut self,
        head: RequestHead,
        body_length: usize,
        received: Instant,
    ) -> Result<Started, End> {
        let permit = self.budget.reserve(body_length).await;
        let bytes = self.receiver.take_body(body_length).await?;
        let request = Request {
            head,
            body: Body::Whole(bytes, permit),
            received,
        };
        self.wire.serves.store(true, Ordering::Relaxed);
        let started = self.session.start(request).await;
        self.wire.serves.store(false, Ordering::Relaxed);
        Ok(started)
    }

    async fn start_streamed(
        &mut self,
        head: RequestHead,
        body_length: usize,
        received: Instant,
    ) -> Result<Started, End> {
        let end = self.receiver.position() + body_length as u64;
        let reader = BodyReader::new(&mut self.receiver, self.spawn, self.wire, body_length);
        let request = Request {
            head,
            body: Body::Stream(reader),
            received,
        };
        self.wire.serves.store(true, Ordering::Relaxed);
        let started = self.session.start(request).await;
        self.wire.serves.store(false, Ordering::Relaxed);
        let is_read = self.receiver.position() == end;
        if is_read || matches!(started, Started::Close { .. }) {
            return Ok(started);
        }
        // What follows is no frame. The request is not answered: who knows what was understood.
        Err(End::Refused(
            "the body of a request was not read to its end".into(),
        ))
    }

    /// Receives length prefix and header; returns them with the length of the body.
    async fn receive_head(&mut self) -> Result<(RequestHead, Admission, usize), End> {
        let prefix = self.receiver.buffer().get_i32().to_be_bytes();
        let length = frame::frame_length(prefix, self.limits.request_max_bytes)
            .map_err(ReceiveError::from)?;
        self.receiver.fill(frame::LENGTH_BYTES).await?;
        let Some((api_key, api_version)) = frame::api_of(self.receiver.buffer()) else {
            return Err(ReceiveError::from(FrameError::Header).into());
        };
        let admission = self.session.admit(api_key, api_version);
        let header_version = match admission {
            Admission::Pipelined { header_version }
            | Admission::Streamed { header_version }
            | Admission::Barrier { header_version } => header_version,
            Admission::Refused { .. } if api_key == ApiKey::PeerHandshake.code() => {
                return Err(End::MisdirectedPeer);
            }
            Admission::Refused { reason } => {
                return Err(End::Refused(format!(
                    "{reason}: API key {api_key}, version {api_version}"
                )));
            }
        };
        let header_max = length.min(HEADER_MAX_BYTES);
        let mut needed = frame::LENGTH_BYTES;
        loop {
            self.receiver.fill(needed).await?;
            let arrived = self.receiver.buffer().len().min(header_max);
            let bytes = &self.receiver.buffer()[..arrived];
            let progress = frame::parse_head(bytes, header_version, &mut self.last_client_id);
            match progress.map_err(ReceiveError::from)? {
                HeadProgress::Done(head, header_length) => {
                    let is_streamed = matches!(admission, Admission::Streamed { .. });
                    self.receiver.expect_frame(length, is_streamed);
                    self.receiver.buffer().advance(header_length);
                    return Ok((head, admission, length - header_length));
                }
                HeadProgress::Needs(more) if more <= header_max => needed = more,
                HeadProgress::Needs(_) => return Err(ReceiveError::from(FrameError::Header).into()),
            }
        }
    }
}

impl From<ReceiveError> for End {
    fn from(error: ReceiveError) -> Self {
        Self::Receive(error)
    }
}

#[cfg(test)]
mod tests;
