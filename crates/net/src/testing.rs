//! A stream in memory that a test controls call by call, a file, and a response.
//!
//! Input: what the peer sends, and how much the socket takes. Output: every call that was made on
//! the stream, and where received bytes were put.
//!
//! It is no network: there is neither latency nor chance in it (`skein_env::sim` has those, and
//! `connection/tests/simulated.rs` uses it). Here each byte waits for the test's word, so that a
//! test can say in which call it was read or sent.
//!
//! Source: none.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use parking_lot::Mutex;
use skein_env::{File, Residency, Stream};

use crate::Response;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Memory { count: usize, more: bool },
    File { offset: u64, count: usize },
    Shutdown,
}

/// The peer's side of the stream. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Peer(Arc<Mutex<PeerState>>);

#[derive(Default)]
pub(crate) struct PeerState {
    incoming: VecDeque<u8>,
    ended: bool,
    /// Most bytes of one read; 0: no limit.
    pub(crate) read_max: usize,
    /// Bytes that the socket still takes.
    pub(crate) window: usize,
    pub(crate) sent: Vec<u8>,
    pub(crate) events: Vec<Sent>,
    pub(crate) reads: usize,
    pub(crate) read_polls: usize,
    /// Where reads put their bytes: position in the stream, address, length.
    pub(crate) placed: Vec<(u64, usize, usize)>,
    pub(crate) position: u64,
    /// The largest capacity that a read was offered.
    pub(crate) capacity_max: usize,
    wakers: Vec<Waker>,
}

impl Peer {
    pub(crate) fn state(&self) -> parking_lot::MutexGuard<'_, PeerState> {
        self.0.lock()
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.incoming.extend(bytes);
        state.wake();
    }

    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.wake();
    }

    pub(crate) fn open_window(&self, bytes: usize) {
        let mut state = self.state();
        state.window = bytes;
        state.wake();
    }

    pub(crate) fn unread(&self) -> usize {
        self.state().incoming.len()
    }

    /// Correlation ids of the answers so far; the last may be incomplete.
    pub(crate) fn answers(&self) -> Vec<i32> {
        let state = self.state();
        let mut rest = &state.sent[..];
        let mut ids = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
            if after.len() < length {
                break;
            }
            ids.push(i32::from_be_bytes(*after.first_chunk().unwrap()));
            rest = &after[length..];
        }
        ids
    }
}

impl PeerState {
    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

/// The connection's side of the stream.
pub(crate) struct MemoryStream(pub(crate) Peer);

impl Stream for MemoryStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if state.incoming.is_empty() && !state.ended {
            state.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let spare = buffer.capacity() - buffer.len();
        assert!(limit > 0 && spare > 0, "a read without room");
        let mut state = self.0.state();
        state.read_polls += 1;
        state.capacity_max = state.capacity_max.max(buffer.capacity());
        if state.incoming.is_empty() {
            if state.ended {
                return Poll::Ready(Ok(0));
            }
            state.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        let most = if state.read_max == 0 {
            usize::MAX
        } else {
            state.read_max
        };
        let count = limit.min(spare).min(most).min(state.incoming.len());
        let address = buffer.as_ptr().addr() + buffer.len();
        let position = state.position;
        state.placed.push((position, address, count));
        state.position += count as u64;
        state.reads += 1;
        let bytes: Vec<u8> = state.incoming.drain(..count).collect();
        buffer.extend_from_slice(&bytes);
        Poll::Ready(Ok(count))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state();
        if state.window == 0 {
            state.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        let mut count = 0;
        for piece in pieces {
            let taken = piece.len().min(state.window);
            state.sent.extend_from_slice(&piece[..taken]);
            state.window -= taken;
            count += taken;
        }
        state.events.push(Sent::Memory { count, more });
        Poll::Ready(Ok(count))
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state();
        if state.window == 0 {
            state.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        let mut bytes = vec![0; length.min(state.window)];
        let count = file.read_at(&mut bytes, offset)?;
        state.sent.extend_from_slice(&bytes[..count]);
        state.window -= count;
        state.events.push(Sent::File { offset, count });
        Poll::Ready(Ok(count))
    }

    fn poll_shutdown(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.state().events.push(Sent::Shutdown);
        Poll::Ready(Ok(()))
    }
}

/// A file of `length` bytes of 0xf1.
pub(crate) struct TestFile(pub(crate) u64);

impl File for TestFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.0.saturating_sub(offset)).unwrap();
        let count = buffer.len().min(left);
        buffer[..count].fill(0xf1);
        Ok(count)
    }

    fn write_at(&self, _pieces: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn reserve(&self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn fill(&self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn rewrite(&self, _range: Range<u64>, _scratch: &mut Vec<u8>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0)
    }

    fn modified(&self) -> io::Result<skein_types::Millis> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_length(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn residency(&self, _offset: u64, _length: u64) -> Residency {
        Residency::Hot
    }

    fn read_ahead(&self, _offset: u64, _length: u64) -> io::Result<Vec<Range<u64>>> {
        Ok(Vec::new())
    }

    fn prefetch(&self, _offset: u64, _length: u64) -> Vec<Range<u64>> {
        Vec::new()
    }

    fn drop_cache(&self, _offset: u64, _length: u64) {}

    fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        None
    }
}

/// An answer with that correlation id and `extra` bytes.
pub(crate) fn response(id: i32, extra: usize) -> Response {
    let length = u32::try_from(4 + extra).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(id.to_be_bytes());
    bytes.resize(bytes.len() + extra, 0xaa);
    Response::from_bytes(bytes.into())
}
