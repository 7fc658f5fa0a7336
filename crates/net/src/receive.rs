//! The receiving half of a connection.
//!
//! Input: a stream, a pool of buffers. Output: as many contiguous bytes as the reader needs next.
//!
//! ```text
//!   chunk   |.. batches already split off ..| buffer: received, unread | spare capacity |
//!                                             ^ `BytesMut` starts here
//! ```
//!
//! Invariants:
//! - record bytes stay where the socket put them. Only when a chunk ends within a batch is the part
//!   that has arrived moved to the next chunk, and a read stops [`READ_SLACK_BYTES`] behind a large
//!   batch, so that little of the next one has (`Counters::moved_bytes` tells how much);
//! - the caller asks only for lengths that it has checked, and what is not record data grows with
//!   the bytes that have arrived, so that a length prefix alone allocates nothing;
//! - an idle connection holds no buffer;
//! - a sender that sends nothing within a frame is closed after `stall_max`, and one that sends
//!   less than [`LEAST_BYTES_PER_SECOND`] not much later: while it drips, it holds bytes of the
//!   node that others wait for.
//!
//! Source: the shape follows from measurements; see the Produce path in `ARCHITECTURE.md`.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use skein_env::Spawn;
use thiserror::Error;
use tokio::time::Instant;

use crate::timer::Timer;
use crate::{BufferPool, Counters, FrameError, Wire};

/// A batch of at least this size is read to its end and little further.
const READ_EXACT_FROM_BYTES: usize = 32 * 1024;

/// What is read beyond a large batch: enough for the head of the next.
const READ_SLACK_BYTES: usize = 2 * 1024;

/// How many streamed frames of the present length a chunk should hold: one of them crosses its end
/// and is moved.
const FRAMES_PER_CHUNK: usize = 12;

/// The first buffer of a whole body; it grows as the body arrives.
const WHOLE_BODY_FIRST_BYTES: usize = 64 * 1024;

/// How fast a piece that is waited for must arrive, beyond the time in which its sender may be
/// silent. A sender any slower would have given up its request itself.
const LEAST_BYTES_PER_SECOND: u64 = 64 * 1024;

/// Why nothing more can be received.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The peer has ended, between frames or within one.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing arrived for too long.
    #[error("nothing was received for {0:?}")]
    Silent(Duration),
    /// Something arrived, but too little.
    #[error("{missing} bytes of a request have not been received after {waited:?}")]
    Slow {
        /// What is still missing of the piece that was waited for.
        missing: usize,
        /// Since when it was waited for.
        waited: Duration,
    },
    /// The frame is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// Reads one connection.
pub(crate) struct Receiver<'c> {
    wire: &'c Wire,
    pool: &'c BufferPool,
    counters: &'c Counters,
    buffer: BytesMut,
    /// Capacity that the present frame makes worth while.
    chunk_bytes: usize,
    /// Capacity of the whole chunk that `buffer` is the rest of.
    taken_bytes: usize,
    /// Bytes received since the beginning.
    received: u64,
    timer: Timer,
    /// When the piece that is waited for was first waited for, and when it must be there.
    piece_began: Instant,
    piece_deadline: Instant,
    /// Others had their turn since the last read.
    has_given_way: bool,
    stall_max: Duration,
    idle_max: Duration,
}

impl<'c> Receiver<'c> {
    pub(crate) fn new(
        wire: &'c Wire,
        pool: &'c BufferPool,
        counters: &'c Counters,
        idle_max: Duration,
        stall_max: Duration,
    ) -> Self {
        Self {
            wire,
            pool,
            counters,
            buffer: BytesMut::new(),
            chunk_bytes: 0,
            taken_bytes: 0,
            received: 0,
            timer: Timer::new(idle_max),
            piece_began: Instant::now(),
            piece_deadline: Instant::now(),
            has_given_way: false,
            stall_max,
            idle_max,
        }
    }

    /// What has been received and not been taken.
    pub(crate) const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Tells how long the present frame is, so that its first read can take much at once: many
    /// frames of a streamed kind, so that few of them cross the end of a chunk.
    pub(crate) fn expect_frame(&mut self, length: usize, is_streamed: bool) {
        let frames = if is_streamed { FRAMES_PER_CHUNK } else { 1 };
        self.chunk_bytes = BufferPool::class_for(length.saturating_mul(frames));
    }

    /// How many bytes have been taken since the beginning.
    pub(crate) fn position(&self) -> u64 {
        self.received - self.buffer.len() as u64
    }

    /// Gives the buffer back while nothing is in it and nothing will be read for a while.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.give_back();
        }
    }

    /// Waits for the first bytes of a frame.
    pub(crate) async fn wait_for_frame(&mut self) -> Result<(), ReceiveError> {
        while self.buffer.is_empty() {
            self.timer.set(self.idle_max);
            if !self.is_readable_now() {
                self.give_back();
                self.wait_until_readable().await?;
            }
            self.begin_fill(crate::frame::LENGTH_BYTES);
            poll_fn(|context| self.poll_first(context)).await?;
        }
        self.fill(crate::frame::LENGTH_BYTES).await
    }

    /// Receives the first bytes of a frame, if there are any. That the socket is readable may be
    /// said of what was read before; and who is idle is not slow.
    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ReceiveError>> {
        match self.poll_fill(context, 1) {
            Poll::Pending if !self.has_given_way => Poll::Ready(Ok(())),
            polled => polled,
        }
    }

    /// Receives until `needed` bytes are there, contiguous.
    pub(crate) async fn fill(&mut self, needed: usize) -> Result<(), ReceiveError> {
        self.begin_fill(needed);
        poll_fn(|context| self.poll_fill(context, needed)).await
    }

    fn begin_fill(&mut self, needed: usize) {
        if self.buffer.len() < needed {
            self.begin_piece(needed - self.buffer.len());
            self.make_room(needed);
            self.has_given_way = false;
        }
    }

    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        needed: usize,
    ) -> Poll<Result<(), ReceiveError>> {
        while self.buffer.len() < needed {
            let missing = needed - self.buffer.len();
            let spare = self.buffer.capacity() - self.buffer.len();
            let limit = if needed >= READ_EXACT_FROM_BYTES {
                spare.min(missing + READ_SLACK_BYTES)
            } else {
                spare
            };
            if self.wire.turn.is_spent() && !self.has_given_way {
                // A fast sender must not keep the worker until a large body has arrived. The next
                // poll of the task comes after those of other ready ones.
                self.has_given_way = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.has_given_way = false;
            ready!(self.poll_read(context, limit, missing))?;
        }
        Poll::Ready(Ok(()))
    }

    /// From now on `missing` bytes are waited for.
    fn begin_piece(&mut self, missing: usize) {
        self.piece_began = Instant::now();
        let at_least_rate = Duration::from_millis(missing as u64 * 1000 / LEAST_BYTES_PER_SECOND);
        self.piece_deadline = self.piece_began + self.stall_max + at_least_rate;
        self.timer.set(self.stall_max);
    }

    /// Receives a body of `length` bytes and takes it. Memory grows with what has arrived.
    pub(crate) async fn take_body(&mut self, length: usize) -> Result<Bytes, ReceiveError> {
        let mut step = WHOLE_BODY_FIRST_BYTES;
        while step < length {
            self.fill(step).await?;
            step = step.saturating_mul(2);
        }
        self.fill(length).await?;
        Ok(self.buffer.split_to(length).freeze())
    }

    /// Sees to capacity for `needed` bytes. A chunk whose batches are all written is used again
    /// from its start: its memory is still in the processor's cache.
    fn make_room(&mut self, needed: usize) {
        let arrived = self.buffer.len();
        let is_enough = self.buffer.capacity() >= needed;
        if is_enough && arrived > 0 {
            return;
        }
        let wanted = needed
            .saturating_add(READ_SLACK_BYTES)
            .max(self.chunk_bytes);
        let before = self.buffer.as_ptr();
        if self.buffer.try_reclaim(wanted - arrived) {
            if self.buffer.as_ptr() != before {
                Counters::add(&self.counters.moved_bytes, arrived);
            }
            return;
        }
        if !is_enough || self.buffer.capacity() < self.chunk_bytes / 8 {
            self.next_chunk(wanted);
        }
    }

    /// Takes a buffer of `wanted` bytes, and moves there what has arrived.
    fn next_chunk(&mut self, wanted: usize) {
        let mut next = self.pool.take(wanted);
        let next_bytes = next.capacity();
        next.extend_from_slice(&self.buffer);
        Counters::add(&self.counters.moved_bytes, self.buffer.len());
        self.give_back();
        self.buffer = next;
        self.taken_bytes = next_bytes;
    }

    fn give_back(&mut self) {
        if self.taken_bytes > 0 {
            let buffer = std::mem::take(&mut self.buffer);
            self.pool
                .give_back_chunk(buffer, std::mem::take(&mut self.taken_bytes));
        }
    }

    fn is_readable_now(&self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.wire
            .stream
            .lock()
            .poll_readable(&mut context)
            .is_ready()
    }

    async fn wait_until_readable(&mut self) -> Result<(), ReceiveError> {
        poll_fn(|context| {
            let polled = self.wire.stream.lock().poll_readable(context);
            match polled {
                Poll::Ready(result) => Poll::Ready(result.map_err(ReceiveError::Io)),
                Poll::Pending => loop {
                    let limit = ready!(self.timer.poll_over(context));
                    if !self.wire.owes_answers() {
                        return Poll::Ready(Err(ReceiveError::Silent(limit)));
                    }
                    // Not idle: it waits for us. Who takes no answers is closed by the write side.
                    self.timer.set(self.idle_max);
                },
            }
        })
        .await
    }

    /// Receives at most `limit` bytes, of which `missing` are waited for.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        limit: usize,
        missing: usize,
    ) -> Poll<Result<(), ReceiveError>> {
        let polled = self
            .wire
            .stream
            .lock()
            .poll_read(context, &mut self.buffer, limit);
        let Poll::Ready(result) = polled else {
            let limit = ready!(self.timer.poll_over(context));
            return Poll::Ready(Err(if Instant::now() < self.piece_deadline {
                ReceiveError::Silent(limit)
            } else {
                let waited = self.piece_began.elapsed();
                ReceiveError::Slow { missing, waited }
            }));
        };
        let count = result?;
        if count == 0 {
            return Poll::Ready(Err(ReceiveError::Closed));
        }
        let left = self
            .piece_deadline
            .saturating_duration_since(Instant::now());
        self.timer.set(left.min(self.stall_max));
        self.received += count as u64;
        self.wire.turn.count(count);
        Counters::add(&self.counters.received_bytes, count);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Hands a streamed body to the broker as it arrives.
pub struct BodyReader<'a> {
    receiver: &'a mut (dyn Receive + Send + Sync),
    spawn: &'a Arc<dyn Spawn>,
    wire: &'a Wire,
    /// Length of the body in bytes; nothing beyond it belongs to this request.
    length: usize,
    /// Position at which the body ends.
    end: u64,
}

/// What a body reader needs of its receiver; hides the receiver's lifetime.
pub(crate) trait Receive {
    fn buffer(&mut self) -> &mut BytesMut;
    fn position(&self) -> u64;
    /// Begins to wait for `needed` bytes.
    fn begin_fill(&mut self, needed: usize);
    /// Receives until they are there.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        needed: usize,
    ) -> Poll<Result<(), ReceiveError>>;
}

impl Receive for Receiver<'_> {
    fn buffer(&mut self) -> &mut BytesMut {
        Receiver::buffer(self)
    }

    fn position(&self) -> u64 {
        Receiver::position(self)
    }

    fn begin_fill(&mut self, needed: usize) {
        Receiver::begin_fill(self, needed);
    }

    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        needed: usize,
    ) -> Poll<Result<(), ReceiveError>> {
        Receiver::poll_fill(self, context, needed)
    }
}

impl<'a> BodyReader<'a> {
    pub(crate) fn new(
        receiver: &'a mut (dyn Receive + Send + Sync),
        spawn: &'a Arc<dyn Spawn>,
        wire: &'a Wire,
        length: usize,
    ) -> Self {
        let end = receiver.position() + length as u64;
        Self {
            receiver,
            spawn,
            wire,
            length,
            end,
        }
    }

    /// Length of the body in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// What has arrived and not been taken. It may hold bytes of later requests behind this body.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.receiver.buffer()
    }

    /// Whether something has arrived behind the body; to be asked when it was read to its end.
    pub fn is_followed(&mut self) -> bool {
        !self.receiver.buffer().is_empty()
    }

    /// Receives until `needed` bytes are in the buffer, contiguous. `needed` must be checked
    /// against the limits of the topic.
    ///
    /// # Errors
    /// The connection has ended, or `needed` reaches beyond the body, whose rest would be a later
    /// request; nothing of an incomplete batch may be used.
    pub async fn fill(&mut self, needed: usize) -> Result<(), ReceiveError> {
        if self.receiver.buffer().len() >= needed {
            return Ok(());
        }
        if needed as u64 > self.end.saturating_sub(self.receiver.position()) {
            return Err(FrameError::Body.into());
        }
        self.receiver.begin_fill(needed);
        poll_fn(|context| self.receiver.poll_fill(context, needed)).await
    }

    /// Ends this connection's turn, so that others run before it goes on.
    pub fn end_turn(&self) {
        self.wire.turn.end();
    }

    /// Lets other connections run when this one has had its turn.
    pub async fn yield_if_spent(&self) {
        if self.wire.turn.is_spent() {
            self.spawn.yield_now().await;
            self.wire.turn.start();
        }
    }
}
