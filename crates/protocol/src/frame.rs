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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
    use crate::messages::metadata::{MetadataRequest, MetadataResponse};
    use crate::{Malformed, Str};

    /// The frame behind its length prefix, which must count it.
    fn unframed(encoded: Encoded) -> Bytes {
        let frame = encoded.into_bytes().unwrap();
        let (prefix, body) = frame.split_at(4);
        assert_eq!(prefix, u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.slice(4..)
    }

    #[test]
    fn a_request_is_read_back_in_every_version() {
        for version in MetadataRequest::VERSIONS {
            let request = MetadataRequest::default();
            let client_id = Str::from("client");
            let encoded = encode_request(&request, version, 7, Some(&client_id)).unwrap();
            let frame = unframed(encoded);
            let mut d = Decoder::new(&frame);
            let header = decode_request_header(&mut d).unwrap();
            assert_eq!(header.request_api_key, 3);
            assert_eq!(header.request_api_version, version);
            assert_eq!(header.correlation_id, 7);
            assert_eq!(header.client_id, Some(client_id));
            assert_eq!(MetadataRequest::decode(&mut d, version), Ok(request));
            d.finish().unwrap();
        }
    }

    #[test]
    fn a_response_is_read_back_in_every_version() {
        for version in MetadataResponse::VERSIONS {
            let response = MetadataResponse::default();
            let frame = unframed(encode_response(ApiKey::Metadata, version, 8, &response).unwrap());
            let decoded = decode_response::<MetadataRequest>(&frame, version);
            assert_eq!(decoded, Ok((8, response)));
        }
    }

    #[test]
    fn api_versions_from_the_future_is_recognised_and_answered_in_version_0() {
        // Version 99 of ApiVersions: a header of version 2, then a body that no one here knows.
        let frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'c', 0, 0xff, 0xff]);
        let mut d = Decoder::new(&frame);
        let header = decode_request_header(&mut d).unwrap();
        assert_eq!((header.request_api_version, header.correlation_id), (99, 5));
        let unknown = ApiVersionsRequest::decode(&mut d, 99).unwrap_err();
        assert_eq!(unknown.reason, Malformed::UnknownVersion(99));

        let response = ApiVersionsResponse {
            error_code: 35,
            ..Default::default()
        };
        let frame = unframed(encode_response(ApiKey::ApiVersions, 0, 5, &response).unwrap());
        assert_eq!(&frame[..], [0, 0, 0, 5, 0, 35, 0, 0, 0, 0]);
    }

    #[test]
    fn the_header_of_an_unknown_api_is_read_so_that_it_can_be_refused() {
        let frame = Bytes::from_static(&[0x7f, 0xff, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 1, 2, 3]);
        let header = decode_request_header(&mut Decoder::new(&frame)).unwrap();
        assert_eq!((header.request_api_key, header.correlation_id), (0x7fff, 9));
        assert_eq!(header.client_id, None);
    }

    #[test]
    fn a_frame_that_ends_in_its_header_is_malformed() {
        for len in 0..10 {
            let frame = Bytes::from(vec![0; len]);
            assert!(
                decode_request_header(&mut Decoder::new(&frame)).is_err(),
                "{len} bytes"
            );
        }
    }
}
