//! A connection to the node, as a client has it.
//!
//! Input: requests. Output: their frames on the wire; the responses, which come in the same order.
//!
//! It is not the client of `skein-client`: the simulation decides what is sent again and when, and
//! both sides of the wire should not share their mistakes.
//!
//! Invariants:
//! - a response carries the correlation id that is expected next;
//! - after an error or a timeout the connection is dropped: what was on its way has no known
//!   outcome.
//!
//! Source: the Kafka protocol guide.

use std::future::{Future, poll_fn};
use std::io;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use skein_env::{Env, Stream};
use skein_protocol::{Part, Request, frame};
use tokio::time::timeout;

use crate::node::{NODE, PORT};

/// How long a client waits for an answer or a connection.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The longest response that a client takes, in bytes.
const FRAME_MAX: usize = 16 * 1024 * 1024;

/// Room for what is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// One connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    received: BytesMut,
    sent_id: i32,
    answered_id: i32,
}

impl Wire {
    /// Connects to the node.
    pub(crate) async fn open(env: &Env) -> io::Result<Self> {
        Self::open_to(env, NODE).await
    }

    /// Connects to the node on this host.
    pub(crate) async fn open_to(env: &Env, host: &str) -> io::Result<Self> {
        let stream = within(ANSWER_MAX, env.net.connect(host, PORT)).await?;
        Ok(Self {
            stream,
            received: BytesMut::new(),
            sent_id: 0,
            answered_id: 0,
        })
    }

    /// Sends a request.
    pub(crate) async fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.sent_id += 1;
        let encoded = frame::encode_request(request, version, self.sent_id, None)
            .map_err(|error| io::Error::other(format!("cannot encode: {error}")))?;
        let mut bytes = BytesMut::with_capacity(encoded.len());
        for part in encoded.parts() {
            match part {
                Part::Bytes(part) => bytes.extend_from_slice(&part),
                Part::External { .. } => return Err(io::Error::other("a client has no files")),
            }
        }
        within(ANSWER_MAX, self.write(bytes.freeze())).await
    }

    /// Counts a request of `acks=0`, which is not answered.
    pub(crate) fn expect_no_answer(&mut self) {
        self.answered_id += 1;
    }

    /// Waits for the answer to the oldest request without one.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let frame = within(ANSWER_MAX, self.read_frame()).await?;
        let (id, response) = frame::decode_response::<R>(&frame, version)
            .map_err(|error| io::Error::other(Malformed(format!("{}: {error}", R::NAME))))?;
        self.answered_id += 1;
        if id != self.answered_id {
            let text = format!("answer {id} where {} is expected", self.answered_id);
            return Err(io::Error::other(Malformed(text)));
        }
        Ok(response)
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> io::Result<R::Response> {
        self.send(request, version).await?;
        self.receive::<R>(version).await
    }

    async fn write(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let pieces = [IoSlice::new(&bytes)];
            let written =
                poll_fn(|context| self.stream.poll_write(context, &pieces, false)).await?;
            bytes.advance(written);
        }
        Ok(())
    }

    async fn read_frame(&mut self) -> io::Result<Bytes> {
        let length = loop {
            if let Some(prefix) = self.received.first_chunk::<4>() {
                break i32::from_be_bytes(*prefix);
            }
            self.read().await?;
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > FRAME_MAX {
            return Err(io::Error::other(Malformed(format!(
                "a frame of {length} bytes"
            ))));
        }
        while self.received.len() < 4 + length {
            self.read().await?;
        }
        self.received.advance(4);
        Ok(self.received.split_to(length).freeze())
    }

    async fn read(&mut self) -> io::Result<()> {
        self.received.reserve(READ_BYTES);
        let read = poll_fn(|context| {
            self.stream
                .poll_read(context, &mut self.received, READ_BYTES)
        });
        match read.await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Bytes that no node may send, whatever happens to it.
#[derive(Debug)]
pub(crate) struct Malformed(pub(crate) String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// What is malformed, if that is the error.
pub(crate) fn malformed(error: &io::Error) -> Option<&Malformed> {
    error.get_ref()?.downcast_ref()
}

/// Gives up after `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, future)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
