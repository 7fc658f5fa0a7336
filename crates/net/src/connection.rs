//! One connection: a task that reads requests and writes responses.
//!
//! Input: a stream, a [`Session`] that knows what requests mean. Output: nothing; it runs until the
//! peer ends, something is malformed, or the node stops.
//!
//! ```text
//!   read side   idle ─► length ─► header ─► [barrier: all answered] ─► body ─► start ─► slot in outbox
//!                ▲                                                                        │
//!                └──────────── outbox has space, the turn is not spent ◄─────────────────┘
//!   write side  outbox ─► socket, whenever the task runs
//! ```
//!
//! Both sides run in the same task, one after the other, so that a response leaves in the same poll in
//! which its request was served: no queue between threads and no wake-up in between.
//!
//! Invariants:
//! - requests start in order, each when those before it have taken effect; a barrier starts alone;
//! - at most [`crate::outbox::SLOTS_MAX`] requests are unanswered; at that bound the socket is not
//!   read;
//! - after an error nothing more is read; what is owed is still sent, for [`DRAIN_MAX`].
//!
//! Source: the Kafka protocol guide (a server answers in order and may receive further requests
//! meanwhile).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use parking_lot::Mutex;
use skein_env::{Spawn, Stream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame::{self, HEADER_MAX_BYTES, HeadProgress};
use crate::outbox::{Outbox, Sent};
use crate::receive::Receiver;
use crate::turn::Turn;
use crate::{
    Admission, Body, BodyReader, Budget, BufferPool, Counters, FrameError, ReceiveError, Request,
    RequestHead, Session, Started,
};

/// How long what is owed may take to be sent after the connection has ended.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Limits of each connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Largest frame, as `socket.request.max.bytes`.
    pub request_max_bytes: usize,
    /// A connection without a request is closed after this, as `connections.max.idle.ms`.
    pub idle_max: Duration,
    /// A connection that stalls within a request is closed after this.
    pub stall_max: Duration,
}

/// What both sides of a connection share. Only the connection's task locks: it is never contended.
pub struct Wire {
    pub(crate) stream: Mutex<Box<dyn Stream>>,
    pub(crate) turn: Turn,
    outbox: Mutex<Outbox>,
    /// The read side waits for the outbox.
    waits_for_outbox: AtomicBool,
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
    /// The node's bytes in flight.
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
            outbox: Mutex::new(Outbox::default()),
            waits_for_outbox: AtomicBool::new(false),
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
        };
        let end = serve(&wire, &self.counters, reader.run(), &mut self.stop).await;
        let end = match end {
            Ok(end) => end,
            Err(error) => return Err(format!("the connection failed: {error}")),
        };
        drain(&wire, &self.counters).await;
        match end {
            End::Receive(ReceiveError::Closed | ReceiveError::Silent(_)) | End::Stopped => Ok(()),
            End::Receive(error) => Err(error.to_string()),
            End::Refused(reason) => Err(reason),
        }
    }
}

/// Runs both sides until the read side ends, the node stops, or sending fails.
async fn serve(
    wire: &Wire,
    counters: &Counters,
    read_side: impl Future<Output = End>,
    stop: &mut watch::Receiver<bool>,
) -> io::Result<End> {
    let mut read_side = pin!(read_side);
    let mut stopped = pin!(stop.wait_for(|stop| *stop));
    poll_fn(|context| {
        wire.turn.start();
        let mut taken_before = wire.outbox.lock().taken();
        loop {
            if let Poll::Ready(end) = read_side.as_mut().poll(context) {
                return Poll::Ready(Ok(end));
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
            let taken_after = wire.outbox.lock().taken();
            let waits = wire.waits_for_outbox.load(Ordering::Relaxed);
            if !waits || taken_after == taken_before {
                break;
            }
            taken_before = taken_after;
        }
        match stopped.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(Ok(End::Stopped)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Sends what is owed, and ends the sending direction.
async fn drain(wire: &Wire, counters: &Counters) {
    let everything = poll_fn(|context| {
        wire.turn.start();
        wire.poll_send(context, counters)
    });
    // What cannot be sent any more is lost with the connection; the client asks again.
    let _ = tokio::time::timeout(DRAIN_MAX, everything).await;
    let shut = poll_fn(|context| wire.stream.lock().poll_shutdown(context));
    let _ = tokio::time::timeout(DRAIN_MAX, shut).await;
}

impl Wire {
    fn poll_send(&self, context: &mut Context<'_>, counters: &Counters) -> Poll<io::Result<Sent>> {
        let mut outbox = self.outbox.lock();
        let mut stream = self.stream.lock();
        outbox.poll_send(context, stream.as_mut(), &self.turn, counters)
    }

    /// Waits until `ready` says so of the outbox; the write side runs meanwhile.
    async fn wait_for_outbox(&self, ready: impl Fn(&Outbox) -> bool) {
        poll_fn(|_| {
            let is_ready = ready(&self.outbox.lock());
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
}

impl ReadSide<'_> {
    async fn run(mut self) -> End {
        loop {
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
            Admission::Streamed { .. } => {
                let reader = BodyReader::new(
                    &mut self.receiver,
                    self.budget,
                    self.spawn,
                    self.wire,
                    body_length,
                );
                let body = Body::Stream(reader);
                self.session
                    .start(Request {
                        head,
                        body,
                        received,
                    })
                    .await
            }
            _ => {
                let permit = self.budget.reserve(body_length).await;
                let bytes = self.receiver.take_body(body_length).await?;
                let body = Body::Whole(bytes, permit);
                self.session
                    .start(Request {
                        head,
                        body,
                        received,
                    })
                    .await
            }
        };
        match started {
            Started::Answered(response) => self.wire.outbox.lock().push_ready(response),
            Started::Later(response) => self.wire.outbox.lock().push_later(response),
            Started::Silent => {}
            Started::Close { reason } => return Err(End::Refused(reason)),
        }
        if is_barrier {
            self.wire.wait_for_outbox(Outbox::is_empty).await;
        }
        Ok(())
    }

    /// Receives length prefix and header; returns them with the length of the body.
    async fn receive_head(&mut self) -> Result<(RequestHead, Admission, usize), End> {
        let prefix = self.receiver.buffer().get_i32().to_be_bytes();
        let length = frame::frame_length(prefix, self.limits.request_max_bytes)
            .map_err(ReceiveError::from)?;
        self.receiver.expect_frame(length);
        self.receiver.fill(frame::LENGTH_BYTES).await?;
        let Some((api_key, api_version)) = frame::api_of(self.receiver.buffer()) else {
            return Err(ReceiveError::from(FrameError::Header).into());
        };
        let admission = self.session.admit(api_key, api_version);
        let header_version = match admission {
            Admission::Pipelined { header_version }
            | Admission::Streamed { header_version }
            | Admission::Barrier { header_version } => header_version,
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
            match frame::parse_head(bytes, header_version).map_err(ReceiveError::from)? {
                HeadProgress::Done(head, header_length) => {
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
