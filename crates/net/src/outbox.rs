//! The sending half of a connection.
//!
//! Input: a slot per request, filled at once or later. Output: responses on the socket, in the
//! order of the slots.
//!
//! ```text
//!   slots    [pending] [ready] [ready] ...      a slot per request, oldest first
//!   sending  [bytes] [file] [bytes] ...         the parts of the responses that are at the head
//! ```
//!
//! Invariants:
//! - a response is sent when all before it are: only the head of the queue is ever taken;
//! - only the head is waited for, so that a wake-up costs one poll, however many wait. Others go on
//!   meanwhile where their session wants that ([`crate::Started::Concurrent`]);
//! - responses that are ready together leave in one system call;
//! - at [`SLOTS_MAX`] requests, or [`OWED_MAX_BYTES`] of answers in memory, it is full and no
//!   request is taken: a client that does not read costs no more than that;
//! - however long the other side of the connection took, each poll sends something: a client that
//!   writes at full rate still gets its answers;
//! - a file that ends before its range does closes the connection: the client must not take other
//!   bytes for the missing ones.
//!
//! Source: Kafka's ordering guarantee per connection.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::task::{Context, Poll};

use bytes::Buf;
use skein_env::{BoxFuture, Stream};
use smallvec::SmallVec;

use crate::turn::Turn;
use crate::{Counters, Part, Response};

/// Pieces of memory that one system call sends.
const PIECES_MAX: usize = 32;

/// Largest range of a file that one system call sends; other connections want their turn.
const SEND_FILE_MAX_BYTES: usize = 1024 * 1024;

/// Requests of one connection that may be unanswered.
pub(crate) const SLOTS_MAX: usize = 64;

/// Bytes of answers in memory from which on no further request is taken.
pub(crate) const OWED_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What one request will send.
enum Slot {
    Ready(Response),
    Later(BoxFuture<'static, Option<Response>>),
    Concurrent(BoxFuture<'static, Option<Response>>),
    /// What was concurrent has ended without an answer.
    Unanswered,
}

/// The responses that one connection owes.
#[derive(Default)]
pub(crate) struct Outbox {
    slots: VecDeque<Slot>,
    sending: VecDeque<Sending>,
    /// Requests whose answer has not left entirely.
    unanswered: usize,
    /// Slots that are polled before they are at the head.
    concurrent: usize,
    /// Bytes in memory of the answers that are ready.
    owed_bytes: usize,
    progress: u64,
}

/// A part on its way; never empty.
struct Sending {
    part: Part,
    /// It is the last one of its response.
    ends_response: bool,
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
        self.unanswered += 1;
        self.owed_bytes += response.memory_bytes();
        self.slots.push_back(Slot::Ready(response));
    }

    pub(crate) fn push_later(&mut self, response: BoxFuture<'static, Option<Response>>) {
        self.unanswered += 1;
        self.slots.push_back(Slot::Later(response));
    }

    pub(crate) fn push_concurrent(&mut self, response: BoxFuture<'static, Option<Response>>) {
        self.unanswered += 1;
        self.concurrent += 1;
        self.slots.push_back(Slot::Concurrent(response));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.unanswered >= SLOTS_MAX || self.owed_bytes >= OWED_MAX_BYTES
    }

    /// Grows whenever something was taken or sent.
    pub(crate) const fn progress(&self) -> u64 {
        self.progress
    }

    /// Every request is answered.
    pub(crate) const fn is_empty(&self) -> bool {
        self.unanswered == 0
    }

    /// Something is ready that the socket has not taken.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Sends what is ready. `Pending` while something is owed. After [`Sent::Close`] only what was
    /// ready before is sent.
    pub(crate) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut dyn Stream,
        turn: &Turn,
        counters: &Counters,
    ) -> Poll<io::Result<Sent>> {
        if self.concurrent > 0 {
            self.poll_concurrent(context);
        }
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
            let (sent, counter) = match &first.part {
                Part::Bytes(_) => (self.poll_send_bytes(context, stream), &counters.sent_bytes),
                Part::File(_) => (
                    self.poll_send_range(context, stream),
                    &counters.sent_file_bytes,
                ),
            };
            let count = std::task::ready!(sent)?;
            self.advance(count);
            turn.count(count);
            Counters::add(counter, count);
            if self.is_blocked() && turn.is_spent() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Lets what need not be at the head go on.
    fn poll_concurrent(&mut self, context: &mut Context<'_>) {
        for slot in &mut self.slots {
            let Slot::Concurrent(future) = slot else {
                continue;
            };
            let Poll::Ready(answer) = future.as_mut().poll(context) else {
                continue;
            };
            self.concurrent -= 1;
            *slot = match answer {
                Some(response) => {
                    self.owed_bytes += response.memory_bytes();
                    Slot::Ready(response)
                }
                None => Slot::Unanswered,
            };
        }
    }

    /// Moves the parts of responses at the head of the queue to where they are sent from.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<(), NoAnswer> {
        while self.sending.len() < PIECES_MAX {
            let response = match self.slots.front_mut() {
                None | Some(Slot::Concurrent(_)) => return Ok(()),
                Some(Slot::Ready(response)) => std::mem::take(response),
                Some(Slot::Later(future)) => match future.as_mut().poll(context) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(response)) => {
                        self.owed_bytes += response.memory_bytes();
                        response
                    }
                    Poll::Ready(None) => return Err(self.give_up()),
                },
                Some(Slot::Unanswered) => return Err(self.give_up()),
            };
            self.slots.pop_front();
            self.progress += 1;
            self.send(response);
        }
        Ok(())
    }

    /// The head has no answer: nothing behind it is answered, and none must be polled again.
    fn give_up(&mut self) -> NoAnswer {
        self.unanswered -= self.slots.len();
        self.slots.clear();
        self.concurrent = 0;
        NoAnswer
    }

    fn send(&mut self, response: Response) {
        let parts_before = self.sending.len();
        // An empty part sends nothing, and one behind bytes with `MSG_MORE` would hold these back.
        let parts = response.parts.into_iter().filter(|part| part.length() > 0);
        self.sending.extend(parts.map(|part| Sending {
            part,
            ends_response: false,
        }));
        if self.sending.len() == parts_before {
            self.unanswered -= 1;
        } else if let Some(last) = self.sending.back_mut() {
            last.ends_response = true;
        }
    }

    fn poll_send_bytes(
        &self,
        context: &mut Context<'_>,
        stream: &mut dyn Stream,
    ) -> Poll<io::Result<usize>> {
        let mut pieces: SmallVec<[IoSlice<'_>; PIECES_MAX]> = SmallVec::new();
        for sending in self.sending.iter().take(PIECES_MAX) {
            match &sending.part {
                Part::Bytes(bytes) => pieces.push(IoSlice::new(bytes)),
                Part::File(_) => break,
            }
        }
        let more = self.is_file_at(pieces.len());
        match std::task::ready!(stream.poll_write(context, &pieces, more))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => Poll::Ready(Ok(count)),
        }
    }

    fn poll_send_range(
        &self,
        context: &mut Context<'_>,
        stream: &mut dyn Stream,
    ) -> Poll<io::Result<usize>> {
        let Some(Part::File(range)) = self.sending.front().map(|first| &first.part) else {
            return Poll::Ready(Ok(0));
        };
        let length = range.length.min(SEND_FILE_MAX_BYTES);
        let sent = stream.poll_send_file(context, range.file.as_ref(), range.offset, length);
        match std::task::ready!(sent)? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            count => Poll::Ready(Ok(count)),
        }
    }

    fn is_file_at(&self, index: usize) -> bool {
        let part = self.sending.get(index).map(|sending| &sending.part);
        matches!(part, Some(Part::File(_)))
    }

    /// Takes `count` sent bytes off the head.
    fn advance(&mut self, mut count: usize) {
        self.progress += 1;
        while count > 0 {
            let Some(first) = self.sending.front_mut() else {
                return;
            };
            let taken = count.min(first.part.length());
            count -= taken;
            match &mut first.part {
                Part::Bytes(bytes) => {
                    bytes.advance(taken);
                    self.owed_bytes -= taken;
                }
                Part::File(range) => {
                    range.offset += taken as u64;
                    range.length -= taken;
                }
            }
            if first.part.length() > 0 {
                return;
            }
            if first.ends_response {
                self.unanswered -= 1;
            }
            self.sending.pop_front();
        }
    }
}

/// A request that was to be answered later and never will be.
struct NoAnswer;

#[cfg(test)]
mod tests;
