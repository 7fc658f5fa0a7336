//! Whole frames: header and body.
//!
//! Input: a frame without its length prefix, or a header and a message. Output: the header and what
//! follows it, or a frame with its length prefix.
//!
//! Invariant: the version of a header follows from the API and the version of the body, here and
//! nowhere else ([`ApiKey::request_header_version`], [`ApiKey::response_header_version`]).
//!
//! Source: the Kafka protocol guide, "Headers"; KIP-482, KIP-511.

use bytes::Bytes;

use crate::messages::header::{RequestHeader, ResponseHeader};
use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoded, Encoder, Message, Request};

/// Room that is made for a frame of unknown size, in bytes.
const CAPACITY: usize = 256;

/// Decodes the header of a request and leaves `d` at the body.
///
/// The header of an API or version that is unknown is decoded too, so that it can be refused by its
/// correlation id; what follows the header of an unknown API is not its body, because no one knows
/// which version that header has.
///
/// # Errors
/// The bytes are not a header.
pub fn decode_request_header(d: &mut Decoder<'_>) -> Result<RequestHeader, DecodeError> {
    let mut ahead = d.clone();
    let key = ApiKey::from_i16(ahead.i16()?);
    let version = ahead.i16()?;
    let header_version = key.map_or(1, |key| key.request_header_version(version));
    RequestHeader::decode(d, header_version)
}

/// Decodes a whole response: its correlation id and its body.
///
/// # Errors
/// The bytes are not a response to `R` of that version.
pub fn decode_response<R: Request>(
    frame: &Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let mut d = Decoder::new(frame);
    let header = ResponseHeader::decode(&mut d, R::KEY.response_header_version(version))?;
    let body = R::Response::decode(&mut d, version)?;
    d.finish()?;
    Ok((header.correlation_id, body))
}

/// Encodes a request with its length prefix and header.
///
/// # Errors
/// The version cannot carry this request.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&crate::Str>,
) -> Result<Encoded, EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.cloned(),
    };
    let mut e = Encoder::with_length_prefix(CAPACITY);
    header.encode(&mut e, R::KEY.request_header_version(version))?;
    request.encode(&mut e, version)?;
    e.finish_frame()
}

/// Encodes a response to `api_key` with its length prefix and header.
///
/// To a version of ApiVersions that is unknown, `version` 0 is the answer (KIP-511).
///
/// # Errors
/// The version cannot carry this response.
pub fn encode_response<M: Message>(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Encoded, EncodeError> {
    let header = ResponseHeader { correlation_id };
    let mut e = Encoder::with_length_prefix(CAPACITY);
    header.encode(&mut e, api_key.response_header_version(version))?;
    response.encode(&mut e, version)?;
    e.finish_frame()
}
