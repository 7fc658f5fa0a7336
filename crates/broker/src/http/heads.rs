//! Connections of `http.listener` whose request is not there yet.
//!
//! Input: accepted connections. Output: those whose head has come, in the order in which it did.
//!
//! ```text
//!   accept ─► Heads: up to `heads`, each for `head_time` ─► a place ─► hyper
//! ```
//!
//! Who sends a head slowly, or none, has no place among those who are answered, and is closed soon;
//! where there are too many of them, the oldest goes.
//!
//! Invariants:
//! - a head has no more than `request_bytes`; what is longer is passed on as it is, and refused by
//!   who reads the rest;
//! - whose head has come is passed on, however late it is seen.
//!
//! Source: RFC 9112, 2.1 (an empty line ends the head); Slowloris.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use skein_env::Stream;
use tokio::time::Sleep;

use super::Limits;

/// Bytes read at once.
const READ_BYTES: usize = 1024;

/// A connection with the head of its request, or what is instead of one.
pub(super) struct Arrived {
    pub(super) stream: Box<dyn Stream>,
    pub(super) peer: SocketAddr,
    pub(super) received: BytesMut,
}

/// See the head of this file.
pub(super) struct Heads {
    limits: Limits,
    /// Oldest first.
    waiting: VecDeque<Head>,
}

struct Head {
    arrived: Arrived,
    deadline: Pin<Box<Sleep>>,
}

impl Heads {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
        }
    }

    /// Waits for the head of one more connection.
    pub(super) fn push(&mut self, stream: Box<dyn Stream>, peer: SocketAddr) {
        if self.waiting.len() >= self.limits.heads {
            self.waiting.pop_front();
        }
        let received = BytesMut::new();
        self.waiting.push_back(Head {
            arrived: Arrived {
                stream,
                peer,
                received,
            },
            deadline: Box::pin(tokio::time::sleep(self.limits.head_time)),
        });
    }

    /// The next connection whose head has come; those that have ended or are too late are closed.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Arrived> {
        let mut at = 0;
        while let Some(head) = self.waiting.get_mut(at) {
            let has_come = match head.poll(context, self.limits.request_bytes) {
                Poll::Pending => {
                    at += 1;
                    continue;
                }
                Poll::Ready(has_come) => has_come,
            };
            let removed = self.waiting.remove(at).filter(|_| has_come);
            if let Some(Head { arrived, .. }) = removed {
                return Poll::Ready(arrived);
            }
        }
        Poll::Pending
    }
}

impl Head {
    /// Whether there is something to answer, once that is known.
    fn poll(&mut self, context: &mut Context<'_>, bytes_max: usize) -> Poll<bool> {
        let Arrived {
            stream, received, ..
        } = &mut self.arrived;
        loop {
            if ends(received) || received.len() >= bytes_max {
                return Poll::Ready(true);
            }
            let limit = READ_BYTES.min(bytes_max - received.len());
            received.reserve(limit);
            let read: Poll<io::Result<usize>> = stream.poll_read(context, received, limit);
            match read {
                Poll::Pending => break,
                // Half a request is refused by who reads it.
                Poll::Ready(Ok(0)) => return Poll::Ready(!received.is_empty()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
            }
        }
        self.deadline.as_mut().poll(context).map(|()| false)
    }
}

/// Whether an empty line is among the bytes. A line may end without a carriage return.
fn ends(received: &[u8]) -> bool {
    let mut is_empty = false;
    for byte in received {
        match byte {
            b'\n' if is_empty => return true,
            b'\n' => is_empty = true,
            b'\r' => {}
            _ => is_empty = false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_ends_a_head() {
        for head in ["GET / HTTP/1.1\r\n\r\n", "GET /\nA: b\n\nrest", "\n\r\n"] {
            assert!(ends(head.as_bytes()), "{head:?}");
        }
        for part in [
            "",
            "\r\n",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n\r",
            "\n \n",
        ] {
            assert!(!ends(part.as_bytes()), "{part:?}");
        }
    }
}
