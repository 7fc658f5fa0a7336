//! The messages of the handshake on a stream.
//!
//! Input: a stream. Output: whole messages, one at a time.
//!
//! Invariants:
//! - a frame has at most [`FRAME_MAX_BYTES`], whatever its prefix says;
//! - nothing is read beyond the frame that is due: what follows belongs to whoever has the stream
//!   next.
//!
//! Source: the Kafka protocol guide (framing).

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use skein_env::Stream;
use skein_protocol::{Encoded, Request, frame};

use crate::peer::HandshakeError;

/// Bytes of a frame: a few dozen APIs of seven bytes each, and as much again to grow.
pub(super) const FRAME_MAX_BYTES: usize = 4 * 1024;
/// The only version of the handshake.
pub(super) const VERSION: i16 = 0;

/// Bytes of the length prefix.
const PREFIX_BYTES: usize = 4;

/// A buffer for any message of the handshake.
pub(super) fn buffer() -> BytesMut {
    BytesMut::with_capacity(PREFIX_BYTES + FRAME_MAX_BYTES)
}

/// Reads until `buffer` holds `needed` bytes, and no further.
pub(super) async fn fill(
    stream: &mut dyn Stream,
    buffer: &mut BytesMut,
    needed: usize,
) -> Result<(), HandshakeError> {
    buffer.reserve(needed.saturating_sub(buffer.len()));
    while buffer.len() < needed {
        let missing = needed - buffer.len();
        let read = poll_fn(|context| stream.poll_read(context, buffer, missing)).await;
        if read.map_err(failed)? == 0 {
            return Err(HandshakeError::Closed);
        }
    }
    Ok(())
}

/// The length in the prefix of `buffer`, which has arrived.
pub(super) fn length_of(buffer: &[u8]) -> Result<usize, HandshakeError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else {
        return Err(HandshakeError::FrameLength(0));
    };
    let length = i32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= FRAME_MAX_BYTES => Ok(bytes),
        _ => Err(HandshakeError::FrameLength(length)),
    }
}

/// Reads a frame, of which `buffer` may hold a part; returns it without its prefix.
pub(super) async fn receive(
    stream: &mut dyn Stream,
    mut buffer: BytesMut,
) -> Result<Bytes, HandshakeError> {
    fill(stream, &mut buffer, PREFIX_BYTES).await?;
    let length = length_of(&buffer)?;
    fill(stream, &mut buffer, PREFIX_BYTES + length).await?;
    buffer.advance(PREFIX_BYTES);
    Ok(buffer.split_to(length).freeze())
}

/// Sends a request and receives its answer.
pub(super) async fn ask<R: Request>(
    stream: &mut dyn Stream,
    request: &R,
) -> Result<R::Response, HandshakeError> {
    send(stream, frame::encode_request(request, VERSION, 0, None)?).await?;
    let answer = receive(stream, buffer()).await?;
    let (_, response) = frame::decode_response::<R>(&answer, VERSION)?;
    Ok(response)
}

/// Answers the request `R` with that correlation id.
pub(super) async fn answer<R: Request>(
    stream: &mut dyn Stream,
    version: i16,
    correlation_id: i32,
    response: &R::Response,
) -> Result<(), HandshakeError> {
    let encoded = frame::encode_response(R::KEY, version, correlation_id, response)?;
    send(stream, encoded).await
}

async fn send(stream: &mut dyn Stream, encoded: Encoded) -> Result<(), HandshakeError> {
    // Nothing of the handshake lies in a file.
    let mut rest = encoded.into_bytes().unwrap_or_default();
    while !rest.is_empty() {
        let sent = poll_fn(|context| stream.poll_write(context, &[IoSlice::new(&rest)], false));
        match sent.await.map_err(failed)? {
            0 => return Err(HandshakeError::Closed),
            count => rest.advance(count.min(rest.len())),
        }
    }
    Ok(())
}

/// Who resets a connection has closed it.
fn failed(error: std::io::Error) -> HandshakeError {
    match error.kind() {
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => {
            HandshakeError::Closed
        }
        _ => HandshakeError::Io(Arc::new(error)),
    }
}
