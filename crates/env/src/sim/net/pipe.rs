//! One direction of a simulated connection.
//!
//! Input: segments with their times of arrival, the end, blocks. Output: bytes in order, then the
//! end.
//!
//! ```text
//! writer ── push ──► [ at 12.1 ms | at 12.4 ms | ... ] ── take, when the time has come ──► reader
//!          waits while `buffered` is at its limit                waits for the time, or for a push
//! ```
//!
//! Invariant: times of arrival never decrease along the queue.
//!
//! Source: none.

use std::collections::VecDeque;
use std::fmt;
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::sim::net::HostId;

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The writer has written everything.
    Fin,
    /// The connection is gone.
    Reset,
}

/// What a reader finds.
pub(super) enum Arrival {
    /// So many bytes can be taken now.
    Bytes(usize),
    /// All was read, and this is the end.
    Ended(End),
    /// Nothing before this time.
    At(Instant),
    /// Nothing until it is woken.
    Nothing,
}

/// One direction.
pub(super) struct Pipe {
    pub(super) connection: u64,
    pub(super) from: HostId,
    pub(super) to: HostId,
    state: Mutex<PipeState>,
}

#[derive(Default)]
struct PipeState {
    segments: VecDeque<(Instant, Bytes)>,
    /// Bytes in `segments`.
    buffered: usize,
    end: Option<(Instant, End)>,
    /// The reading end is closed: what is written now goes nowhere.
    abandoned: bool,
    blocked: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connection {} {:?} to {:?}",
            self.connection, self.from, self.to
        )
    }
}

impl Pipe {
    pub(super) fn new(connection: u64, from: HostId, to: HostId, blocked: bool) -> Self {
        let state = PipeState {
            blocked,
            ..PipeState::default()
        };
        Self {
            connection,
            from,
            to,
            state: Mutex::new(state),
        }
    }

    /// What the reader finds now; if it must wait, `reader` is woken when that changes.
    pub(super) fn arrival(&self, now: Instant, reader: &Waker) -> Arrival {
        let mut state = self.state.lock();
        let next = match (state.segments.front(), state.end) {
            _ if state.blocked => None,
            (Some((at, bytes)), _) if *at <= now => return Arrival::Bytes(bytes.len()),
            (Some((at, _)), _) => Some(*at),
            (None, Some((at, end))) if at <= now => return Arrival::Ended(end),
            (None, Some((at, _))) => Some(at),
            (None, None) => None,
        };
        set_waker(&mut state.reader, reader);
        next.map_or(Arrival::Nothing, Arrival::At)
    }

    /// Moves `count` bytes of the first segment into `buffer`.
    pub(super) fn take(&self, count: usize, buffer: &mut BytesMut) {
        let mut state = self.state.lock();
        let Some((_, bytes)) = state.segments.front_mut() else {
            return;
        };
        buffer.extend_from_slice(&bytes[..count]);
        bytes.advance(count);
        if bytes.is_empty() {
            state.segments.pop_front();
        }
        state.buffered -= count;
        wake(&mut state.writer);
    }

    /// Room for the writer below `buffer_max`: `Err` if nobody will read, `Ok(None)` if it must
    /// wait.
    pub(super) fn room(&self, buffer_max: usize, writer: &Waker) -> Result<Option<usize>, ()> {
        let mut state = self.state.lock();
        if state.abandoned || state.end.is_some() {
            return Err(());
        }
        if state.buffered < buffer_max {
            return Ok(Some(buffer_max - state.buffered));
        }
        set_waker(&mut state.writer, writer);
        Ok(None)
    }

    /// Sends `bytes`, which arrive `latency` from now or just after what was sent before.
    pub(super) fn push(&self, bytes: Bytes, now: Instant, latency: Duration) {
        let mut state = self.state.lock();
        let at = state
            .segments
            .back()
            .map_or(now, |(last, _)| *last)
            .max(now + latency);
        state.buffered += bytes.len();
        state.segments.push_back((at, bytes));
        wake(&mut state.reader);
    }

    /// The writer's end closes: `end` comes after what was sent.
    pub(super) fn finish(&self, end: End, now: Instant) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            let at = state.segments.back().map_or(now, |(last, _)| *last);
            state.end = Some((at, end));
            wake(&mut state.reader);
        }
    }

    /// The reader's end closes; says whether there was something unread.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        state.abandoned = true;
        wake(&mut state.writer);
        !state.segments.is_empty()
    }

    /// The connection is gone, with what was on its way.
    pub(super) fn reset(&self, now: Instant) {
        let mut state = self.state.lock();
        state.segments.clear();
        state.buffered = 0;
        state.blocked = false;
        state.abandoned = true;
        state.end = Some((now, End::Reset));
        wake(&mut state.reader);
        wake(&mut state.writer);
    }

    /// Holds everything back; or lets it arrive, at `again` at the earliest.
    pub(super) fn set_blocked(&self, blocked: bool, again: Instant) {
        let mut state = self.state.lock();
        state.blocked = blocked;
        if !blocked {
            for (at, _) in &mut state.segments {
                *at = (*at).max(again);
            }
            if let Some((at, _)) = &mut state.end {
                *at = (*at).max(again);
            }
            wake(&mut state.reader);
        }
    }
}

fn set_waker(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(old) => old.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}
