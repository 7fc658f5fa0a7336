//! The client's side of a connection: requests out, responses matched to them.
//!
//! Input: requests, from any number of tasks, and a stream. Output: for each request its response,
//! or why there will be none.
//!
//! Invariants:
//! - requests leave in the order in which [`Caller::start`] took them, without waiting for
//!   responses;
//! - a response belongs to the oldest request without one, and must carry its correlation id
//!   (checked in `CallDriver::take_frame`); anything else ends the connection;
//! - a request that gets no response in its time ends the connection: those behind it cannot be
//!   answered any more, and an answer that comes late would be taken for another's;
//! - at most [`CallLimits::in_flight_max`] requests wait, and memory grows with the bytes that
//!   arrived, never with a length that the peer claims.
//!
//! Source: the Kafka protocol guide, "Network": a broker answers in the order of the requests.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use skein_env::Stream;
use skein_protocol::{ApiKey, DecodeError, EncodeError, Part, Request, Str, frame};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

/// Bytes of the length prefix and, behind it, of the correlation id.
const WORD_BYTES: usize = 4;
/// Bytes that a read has room for at least.
const READ_BYTES_MIN: usize = 16 * 1024;
/// Bytes that a read has room for at most, where a longer response is expected.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Pieces that are written at once.
const WRITE_PIECES_MAX: usize = 64;

/// What a connection may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// Requests without a response; further ones wait in [`Caller::start`].
    pub in_flight_max: usize,
    /// Bytes of one response.
    pub response_max_bytes: usize,
}

impl Default for CallLimits {
    /// 64 requests; 100 MiB, which is twice Kafka's `fetch.max.bytes`.
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            response_max_bytes: 100 * 1024 * 1024,
        }
    }
}

/// Why a request has no response. Except for `Encode` and `Decode` the connection has ended.
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// The version cannot carry the request; nothing was sent.
    #[error("the request cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// The response is not what the version says.
    #[error("the response to {api_key} cannot be decoded: {source}")]
    Decode {
        /// What was asked.
        api_key: ApiKey,
        /// What is wrong.
        source: DecodeError,
    },
    /// The system reports an error.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The peer has closed the connection.
    #[error("the peer has closed the connection")]
    ClosedByPeer,
    /// This side has ended the connection.
    #[error("the connection has been closed")]
    Closed,
    /// There was no response in time.
    #[error("no response to {api_key} within {} ms", timeout.as_millis())]
    TimedOut {
        /// What was asked.
        api_key: ApiKey,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// A response to something that was not asked.
    #[error("a response to request {found} where that to {expected:?} was due")]
    WrongCorrelationId {
        /// Correlation id of the oldest request without a response.
        expected: Option<i32>,
        /// What the response carries.
        found: i32,
    },
    /// A response above [`CallLimits::response_max_bytes`], or below the length of its header.
    #[error("a response of {length} bytes, where 4 to {max} are allowed")]
    ResponseLength {
        /// What its prefix says.
        length: i32,
        /// The limit.
        max: usize,
    },
}

/// Sends requests over one connection. Cheap to clone; the connection ends with the last clone,
/// when all is answered.
#[derive(Clone)]
pub struct Caller {
    calls: mpsc::Sender<Call>,
    shared: Arc<Shared>,
}

struct Shared {
    client_id: Option<Str>,
    next_correlation_id: AtomicI32,
    /// Why the connection ended.
    end: OnceLock<CallError>,
}

/// A request on its way to the driver.
struct Call {
    pieces: Vec<Bytes>,
    api_key: ApiKey,
    correlation_id: i32,
    timeout: Duration,
    /// `None` for a request that is not answered: then it is done when it is written.
    answer: Answer,
}

/// Where the end of a call is told.
type AnswerTo<T> = oneshot::Sender<Result<T, CallError>>;

enum Answer {
    Response(AnswerTo<Bytes>),
    Written(AnswerTo<()>),
}

/// A response that is due.
pub struct Pending<R> {
    frame: oneshot::Receiver<Result<Bytes, CallError>>,
    version: i16,
    shared: Arc<Shared>,
    request: PhantomData<fn() -> R>,
}

impl Caller {
    /// A caller over `stream`, and the driver that its owner runs as a task.
    #[must_use]
    pub fn new(
        stream: Box<dyn Stream>,
        client_id: Option<Str>,
        limits: CallLimits,
    ) -> (Self, CallDriver) {
        let in_flight_max = limits.in_flight_max.max(1);
        let (calls, queue) = mpsc::channel(in_flight_max);
        let shared = Arc::new(Shared {
            client_id,
            next_correlation_id: AtomicI32::new(0),
            end: OnceLock::new(),
        });
        let driver = CallDriver {
            stream,
            queue: Some(queue),
            shared: Arc::clone(&shared),
            limits: CallLimits {
                in_flight_max,
                ..limits
            },
            outbound: VecDeque::new(),
            unwritten: VecDeque::new(),
            waiting: VecDeque::new(),
            inbound: BytesMut::new(),
            timer: None,
        };
        (Self { calls, shared }, driver)
    }

    /// Sends a request and waits for its response, which must come within `timeout`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        let pending = self.start(request, version, timeout).await?;
        pending.response().await
    }

    /// Queues a request; its place in the order is taken when this returns. It waits only while
    /// [`CallLimits::in_flight_max`] others do.
    ///
    /// # Errors
    /// [`CallError::Encode`], or why the connection has ended.
    pub async fn start<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<Pending<R>, CallError> {
        let (sender, frame) = oneshot::channel();
        self.queue(request, version, timeout, Answer::Response(sender))
            .await?;
        Ok(Pending {
            frame,
            version,
            shared: Arc::clone(&self.shared),
            request: PhantomData,
        })
    }

    /// Sends a request that the peer does not answer, such as a Produce with `acks=0`; returns when
    /// its bytes have been handed to the system, which must happen within `timeout`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn tell<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let (sender, written) = oneshot::channel();
        self.queue(request, version, timeout, Answer::Written(sender))
            .await?;
        written.await.unwrap_or_else(|_| Err(self.shared.end()))
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.calls.is_closed()
    }

    async fn queue<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
        answer: Answer,
    ) -> Result<(), CallError> {
        // The place is taken first, so that nothing is encoded for a connection that is gone.
        let permit = self.calls.reserve().await.map_err(|_| self.shared.end())?;
        let shared = &self.shared;
        let correlation_id = shared.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let client_id = shared.client_id.as_ref();
        let encoded = frame::encode_request(request, version, correlation_id, client_id)?;
        let pieces = encoded.parts().map(|part| match part {
            Part::Bytes(bytes) => Ok(bytes),
            // Whoever makes a request has its records in memory.
            Part::External { len, .. } => Err(EncodeError::TooLong(len as usize)),
        });
        let call = Call {
            pieces: pieces.collect::<Result<_, _>>()?,
            api_key: R::KEY,
            correlation_id,
            timeout,
            answer,
        };
        self.hand_over(permit, call)
    }

    /// A call that takes its place when the driver has just gone would stay in the channel, without
    /// an end, for as long as there is a caller.
    fn hand_over(&self, permit: mpsc::Permit<'_, Call>, call: Call) -> Result<(), CallError> {
        permit.send(call);
        // If it is open now, whoever closes it later finds the call, and drops it.
        if self.calls.is_closed() {
            return Err(self.shared.end());
        }
        Ok(())
    }
}

impl<R: Request> Pending<R> {
    /// The response.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn response(self) -> Result<R::Response, CallError> {
        let frame = self
            .frame
            .await
            .unwrap_or_else(|_| Err(self.shared.end()))?;
        let (_, response) =
            frame::decode_response::<R>(&frame, self.version).map_err(|source| {
                let api_key = R::KEY;
                CallError::Decode { api_key, source }
            })?;
        Ok(response)
    }
}

impl Shared {
    fn end(&self) -> CallError {
        self.end.get().cloned().unwrap_or(CallError::Closed)
    }
}

/// A request that was written, or will be, and that something is due for.
struct Waiting<T> {
    api_key: ApiKey,
    correlation_id: i32,
    timeout: Duration,
    deadline: Instant,
    answer: T,
}

impl<T> Waiting<T> {
    fn timed_out(&self) -> CallError {
        CallError::TimedOut {
            api_key: self.api_key,
            timeout: self.timeout,
        }
    }
}

/// Moves the bytes of one connection, both ways, in one task.
pub struct CallDriver {
    stream: Box<dyn Stream>,
    /// `None` when every [`Caller`] is gone.
    queue: Option<mpsc::Receiver<Call>>,
    shared: Arc<Shared>,
    limits: CallLimits,
    outbound: VecDeque<Bytes>,
    /// Requests without a response, each with the pieces of `outbound` up to its end.
    unwritten: VecDeque<(usize, Waiting<AnswerTo<()>>)>,
    waiting: VecDeque<Waiting<AnswerTo<Bytes>>>,
    inbound: BytesMut,
    /// Set to the earliest deadline.
    timer: Option<Pin<Box<Sleep>>>,
}

impl CallDriver {
    /// Runs until the connection ends or nobody needs it any more; then fails what still waits.
    pub async fn run(self) {
        self.run_to_end().await;
    }

    /// [`CallDriver::run`], and tells why the connection has ended.
    pub(crate) async fn run_to_end(mut self) -> CallError {
        let end = std::future::poll_fn(|context| self.poll(context)).await;
        // The only other place that would set it is another driver of the same connection: none.
        let end = self.shared.end.get_or_init(|| end).clone();
        for (_, waiting) in self.unwritten.drain(..) {
            let _ = waiting.answer.send(Err(end.clone()));
        }
        for waiting in self.waiting.drain(..) {
            let _ = waiting.answer.send(Err(end.clone()));
        }
        // What is queued fails by itself: its sender goes with the queue.
        end
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<CallError> {
        loop {
            self.take_calls(context);
            if self.queue.is_none() && self.waiting.is_empty() && self.outbound.is_empty() {
                // The end of a connection that nobody uses; what the system says of it helps no
                // one.
                let _ = ready!(self.stream.poll_shutdown(context));
                return Poll::Ready(CallError::Closed);
            }
            match self.poll_write(context) {
                Ok(true) => continue, // There is room for more calls.
                Ok(false) => {}
                Err(error) => return Poll::Ready(CallError::Io(Arc::new(error))),
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => break,
            }
        }
        self.poll_deadlines(context)
    }

    /// Takes queued calls as long as there is room.
    fn take_calls(&mut self, context: &mut Context<'_>) {
        while self.waiting.len() + self.unwritten.len() < self.limits.in_flight_max {
            let Some(queue) = &mut self.queue else { return };
            match queue.poll_recv(context) {
                Poll::Ready(Some(call)) => self.take_call(call),
                Poll::Ready(None) => self.queue = None,
                Poll::Pending => return,
            }
        }
    }

    fn take_call(&mut self, call: Call) {
        let Call {
            pieces,
            api_key,
            correlation_id,
            timeout,
            answer,
        } = call;
        self.outbound.extend(pieces);
        let deadline = Instant::now() + timeout;
        match answer {
            Answer::Response(answer) => self.waiting.push_back(Waiting {
                api_key,
                correlation_id,
                timeout,
                deadline,
                answer,
            }),
            Answer::Written(answer) => self.unwritten.push_back((
                self.outbound.len(),
                Waiting {
                    api_key,
                    correlation_id,
                    timeout,
                    deadline,
                    answer,
                },
            )),
        }
    }

    /// Writes what it can; says whether everything is written now and something was.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut written_any = false;
        while !self.outbound.is_empty() {
            let mut pieces = [IoSlice::new(&[]); WRITE_PIECES_MAX];
            let count = self.outbound.len().min(WRITE_PIECES_MAX);
            for (piece, bytes) in pieces.iter_mut().zip(&self.outbound) {
                *piece = IoSlice::new(bytes);
            }
            let more = self.outbound.len() > count;
            match self.stream.poll_write(context, &pieces[..count], more) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.written(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
            written_any = true;
        }
        Ok(written_any)
    }

    fn written(&mut self, mut bytes: usize) {
        let mut pieces_done = 0;
        while let Some(piece) = self.outbound.front_mut() {
            if piece.len() > bytes {
                piece.advance(bytes);
                break;
            }
            bytes -= piece.len();
            self.outbound.pop_front();
            pieces_done += 1;
        }
        for (pieces, _) in &mut self.unwritten {
            *pieces = pieces.saturating_sub(pieces_done);
        }
        while let Some((_, done)) = self.unwritten.pop_front_if(|(pieces, _)| *pieces == 0) {
            let _ = done.answer.send(Ok(()));
        }
    }

    /// Reads once and hands on the responses that are whole.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let failed = |error| CallError::Io(Arc::new(error));
        ready!(self.stream.poll_readable(context)).map_err(failed)?;
        let room = self.wanted_bytes();
        self.inbound.reserve(room);
        let read = ready!(self.stream.poll_read(context, &mut self.inbound, room));
        if read.map_err(failed)? == 0 {
            return Poll::Ready(Err(CallError::ClosedByPeer));
        }
        while self.take_frame()? {}
        Poll::Ready(Ok(()))
    }

    /// How much to read: as much as has arrived already, within limits, and no further than the end
    /// of a long response, so that the next one begins in a buffer of its own.
    fn wanted_bytes(&self) -> usize {
        let have = self.inbound.len();
        let missing = match self.inbound.first_chunk::<WORD_BYTES>() {
            Some(prefix) => {
                (u32::from_be_bytes(*prefix) as usize + WORD_BYTES).saturating_sub(have)
            }
            None => READ_BYTES_MIN,
        };
        missing.min(have.min(READ_BYTES_MAX)).max(READ_BYTES_MIN)
    }

    /// Hands on the response at the front of `inbound`; `false` if it is not whole.
    fn take_frame(&mut self) -> Result<bool, CallError> {
        let Some(prefix) = self.inbound.first_chunk::<WORD_BYTES>() else {
            return Ok(false);
        };
        let length = i32::from_be_bytes(*prefix);
        let max = self.limits.response_max_bytes;
        let bytes = usize::try_from(length).unwrap_or(0);
        if bytes < WORD_BYTES || bytes > max {
            return Err(CallError::ResponseLength { length, max });
        }
        if self.inbound.len() < WORD_BYTES + bytes {
            return Ok(false);
        }
        self.inbound.advance(WORD_BYTES);
        let frame = self.inbound.split_to(bytes).freeze();
        let found = frame
            .first_chunk::<WORD_BYTES>()
            .map_or(0, |id| i32::from_be_bytes(*id));
        let expected = self.waiting.front().map(|oldest| oldest.correlation_id);
        if expected != Some(found) {
            return Err(CallError::WrongCorrelationId { expected, found });
        }
        if let Some(oldest) = self.waiting.pop_front() {
            // Whoever asked may have lost interest.
            let _ = oldest.answer.send(Ok(frame));
        }
        Ok(true)
    }

    /// Ends the connection when something that is due has not come in time; else waits until then.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) -> Poll<CallError> {
        let answers = self
            .waiting
            .iter()
            .map(|one| (one.deadline, one.timed_out()));
        let writes = self
            .unwritten
            .iter()
            .map(|(_, one)| (one.deadline, one.timed_out()));
        let Some((deadline, error)) = answers.chain(writes).min_by_key(|(deadline, _)| *deadline)
        else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(context));
        Poll::Ready(error)
    }
}

#[cfg(test)]
mod tests;
