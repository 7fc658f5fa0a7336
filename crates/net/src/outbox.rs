//! The sending half of a connection.
//!
//! Input: a slot per request, filled at once or later. Output: responses on the socket, in the order
//! of the slots.
//!
//! ```text
//!   slots    [pending] [ready] [ready] ...      a slot per request, oldest first
//!   sending  [bytes] [file] [bytes] ...         the parts of the responses that are at the head
//! ```
//!
//! Invariants:
//! - a response is sent when all before it are: only the head of the queue is ever taken;
//! - responses that are ready together leave in one system call;
//! - a file that ends before its range does closes the connection: the client must not take other
//!   bytes for the missing ones.
//!
//! Source: Kafka's ordering guarantee per connection.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use skein_env::{BoxFuture, Stream};
use smallvec::SmallVec;

use crate::turn::Turn;
use crate::{Counters, FileRange, Part, Response};

/// Pieces of memory that one system call sends.
const PIECES_MAX: usize = 32;

/// Largest range of a file that one system call sends; other connections want their turn.
const SEND_FILE_MAX_BYTES: usize = 1024 * 1024;

/// Requests of one connection that may be unanswered.
pub(crate) const SLOTS_MAX: usize = 64;

/// What one request will send.
enum Slot {
    Ready(Response),
    Later(BoxFuture<'static, Option<Response>>),
}

/// The responses that one connection owes.
#[derive(Default)]
pub(crate) struct Outbox {
    slots: VecDeque<Slot>,
    sending: VecDeque<Part>,
    taken: u64,
}

/// What became of an attempt to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Everything that was ready is gone; nothing is owed.
    Everything,
    /// A request ended without an answer: the connection must be closed.
    Close,
}

impl Outbox {
    pub(crate) fn push_ready(&mut self, response: Response) {
        self.slots.push_back(Slot::Ready(response));
    }

    pub(crate) fn push_later(&mut self, response: BoxFuture<'static, Option<Response>>) {
        self.slots.push_back(Slot::Later(response));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= SLOTS_MAX
    }

    /// How many slots and parts have left so far; it tells whether sending made progress.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.sending.is_empty()
    }

    /// Sends what is ready. `Pending` while something is owed.
    pub(crate) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut dyn Stream,
        turn: &Turn,
        counters: &Counters,
    ) -> Poll<io::Result<Sent>> {
        loop {
            if self.gather(context).is_err() {
                return Poll::Ready(Ok(Sent::Close));
            }
            let Some(first) = self.sending.front() else {
                let everything = self.slots.is_empty();
                return if everything {
                    Poll::Ready(Ok(Sent::Everything))
                } else {
                    Poll::Pending
                };
            };
            if turn.is_spent() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = match first {
                Part::Bytes(_) => std::task::ready!(self.poll_send_bytes(context, stream))?,
                Part::File(range) => {
                    let range = range.clone();
                    std::task::ready!(self.poll_send_range(context, stream, &range, counters))?
                }
            };
            turn.count(count);
            Counters::add(&counters.sent_bytes, count);
        }
    }

    /// Moves the parts of responses at the head of the queue to where they are sent from.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<(), NoAnswer> {
        while self.sending.len() < PIECES_MAX {
            let response = match self.slots.front_mut() {
                None => return Ok(()),
                Some(Slot::Ready(response)) => std::mem::take(response),
                Some(Slot::Later(future)) => match future.as_mut().poll(context) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(response)) => response,
                    Poll::Ready(None) => return Err(NoAnswer),
                },
            };
            self.slots.pop_front();
            self.taken += 1;
            self.sending.extend(response.parts);
        }
        Ok(())
    }

    fn poll_send_bytes(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut dyn Stream,
    ) -> Poll<io::Result<usize>> {
        let memory = |part: &Part| match part {
            Part::Bytes(bytes) => Some(bytes.clone()),
            Part::File(_) => None,
        };
        let bytes: SmallVec<[Bytes; 4]> = self
            .sending
            .iter()
            .map_while(memory)
            .take(PIECES_MAX)
            .collect();
        let more = matches!(self.sending.get(bytes.len()), Some(Part::File(_)));
        let pieces: SmallVec<[IoSlice<'_>; 4]> = bytes.iter().map(|b| IoSlice::new(b)).collect();
        let count = std::task::ready!(stream.poll_write(context, &pieces, more))?;
        if count == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(count);
        Poll::Ready(Ok(count))
    }

    fn poll_send_range(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut dyn Stream,
        range: &FileRange,
        counters: &Counters,
    ) -> Poll<io::Result<usize>> {
        let length = range.length.min(SEND_FILE_MAX_BYTES);
        let sent = stream.poll_send_file(context, range.file.as_ref(), range.offset, length);
        let count = std::task::ready!(sent)?;
        if count == 0 && length > 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.advance(count);
        Counters::add(&counters.sent_file_bytes, count);
        Poll::Ready(Ok(count))
    }

    /// Takes `count` sent bytes, and parts that are empty, off the head.
    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.sending.front_mut() {
            let left = match part {
                Part::Bytes(bytes) => {
                    let taken = count.min(bytes.len());
                    bytes.advance(taken);
                    count -= taken;
                    bytes.len()
                }
                Part::File(range) => {
                    let taken = count.min(range.length);
                    range.offset += taken as u64;
                    range.length -= taken;
                    count -= taken;
                    range.length
                }
            };
            if left > 0 {
                return;
            }
            self.sending.pop_front();
            self.taken += 1;
        }
    }
}

/// A request that was to be answered later and never will be.
struct NoAnswer;
