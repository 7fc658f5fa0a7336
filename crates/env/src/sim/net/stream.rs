//! One end of a simulated connection.
//!
//! Input and output: as in [`crate::Stream`].
//!
//! Invariant: no call through an end whose process was killed succeeds.
//!
//! Source: none.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::sim::disk::killed;
use crate::sim::net::Fabric;
use crate::sim::net::pipe::{Arrival, End, Pipe};
use crate::sim::world::Process;
use crate::{File, Stream};

pub(super) struct SimStream {
    fabric: Arc<Fabric>,
    process: Arc<Process>,
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    /// Runs until the next segment arrives.
    timer: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    pub(super) fn new(
        fabric: &Arc<Fabric>,
        process: &Arc<Process>,
        incoming: Arc<Pipe>,
        outgoing: Arc<Pipe>,
    ) -> Self {
        let (fabric, process) = (Arc::clone(fabric), Arc::clone(process));
        Self {
            fabric,
            process,
            incoming,
            outgoing,
            timer: None,
        }
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.process.is_alive() {
            Ok(())
        } else {
            Err(killed())
        }
    }

    /// Waits for something to read: bytes, or 0 for the end.
    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.check_alive()?;
        loop {
            let at = match self.incoming.arrival(Instant::now(), context.waker()) {
                Arrival::Bytes(count) => return Poll::Ready(Ok(count)),
                Arrival::Ended(End::Fin) => return Poll::Ready(Ok(0)),
                Arrival::Ended(End::Reset) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Arrival::At(at) => at,
                Arrival::Nothing => return Poll::Pending,
            };
            let timer = match &mut self.timer {
                Some(timer) => {
                    if timer.deadline() != at {
                        timer.as_mut().reset(at);
                    }
                    timer
                }
                None => self.timer.insert(Box::pin(sleep_until(at))),
            };
            ready!(timer.as_mut().poll(context));
            // The timer is spent; the next one is another.
            self.timer = None;
        }
    }

    /// Waits for room to write; at most `wanted` bytes, fewer by the seed.
    fn poll_room(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.check_alive()?;
        match self
            .outgoing
            .room(self.fabric.buffer_max(), context.waker())
        {
            Err(()) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Ok(None) => Poll::Pending,
            Ok(Some(room)) => Poll::Ready(Ok(self.fabric.draw_count(wanted.min(room)))),
        }
    }

    /// Sends `bytes`, unless the seed resets the connection here.
    fn send(&self, bytes: Bytes) -> io::Result<usize> {
        let count = bytes.len();
        let Some(latency) = self.fabric.draw_segment(&self.outgoing, count) else {
            self.incoming.reset(Instant::now());
            self.outgoing.reset(Instant::now());
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        self.outgoing.push(bytes, Instant::now(), latency);
        Ok(count)
    }
}

impl Stream for SimStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_arrival(context).map_ok(drop)
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let room = (buffer.capacity() - buffer.len()).min(limit);
        if room == 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        let available = ready!(self.poll_arrival(context))?;
        if available == 0 {
            return Poll::Ready(Ok(0));
        }
        let count = self.fabric.draw_count(available.min(room));
        self.incoming.take(count, buffer);
        Poll::Ready(Ok(count))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        _more: bool,
    ) -> Poll<io::Result<usize>> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(self.poll_room(context, total))?;
        let mut bytes = BytesMut::with_capacity(count);
        for piece in pieces {
            let left = count - bytes.len();
            bytes.extend_from_slice(&piece[..piece.len().min(left)]);
        }
        Poll::Ready(self.send(bytes.freeze()))
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(self.poll_room(context, length))?;
        let mut bytes = BytesMut::zeroed(count);
        let read = file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        Poll::Ready(self.send(bytes.freeze()))
    }

    fn poll_shutdown(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_alive()?;
        self.outgoing.finish(End::Fin, Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    /// Closes both directions; with something unread it is a reset, as the kernel does it.
    fn drop(&mut self) {
        // A killed process's connections were closed, or silenced, when it died.
        if self.process.is_alive() {
            let unread = self.incoming.abandon();
            let end = if unread { End::Reset } else { End::Fin };
            self.outgoing.finish(end, self.fabric.now());
        }
    }
}
