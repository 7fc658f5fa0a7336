//! The head of a request: length prefix and request header.
//!
//! Input: the first bytes of a frame, as many as have arrived. Output: the header, or how many
//! bytes are still missing, or why the connection must be closed.
//!
//! ```text
//! 0        4         6             8                12            14
//! +--------+---------+-------------+----------------+-------------+-----------+----------+------
//! | length | api key | api version | correlation id | client id length | client id | tags | body
//! +--------+---------+-------------+----------------+-------------+-----------+----------+------
//!   i32      i16       i16           i32              i16, -1: null             header v2 only
//! ```
//!
//! Invariant: nothing here allocates by what the frame says, except the client id, whose bytes are
//! there already.
//!
//! Source: the Kafka protocol guide; KIP-482 for header version 2.

use std::sync::Arc;

use thiserror::Error;

/// Bytes of the length prefix.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Bytes of a request header up to and with the client id's length.
const FIXED_BYTES: usize = 10;

/// Longest header that is looked at: a client id and a few tags. Kafka's clients send under 300.
pub(crate) const HEADER_MAX_BYTES: usize = 40 * 1024;

/// The header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Which API; not checked here.
    pub api_key: i16,
    /// Which version of it; not checked here.
    pub api_version: i16,
    /// What the response must carry.
    pub correlation_id: i32,
    /// Who the client says it is.
    pub client_id: Option<Arc<str>>,
}

/// Why a frame cannot be read; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length prefix is below what a header needs.
    #[error("a frame of {0} bytes is too short for a request header")]
    TooShort(i32),
    /// The length prefix is above `socket.request.max.bytes`.
    #[error("a frame of {length} bytes is above socket.request.max.bytes = {max}")]
    TooLong {
        /// What the prefix says.
        length: i32,
        /// The limit.
        max: usize,
    },
    /// The header does not end within its frame, or not within the bytes that a header may have.
    #[error("the request header does not end where it must")]
    Header,
    /// More was asked for than the body of the frame has left.
    #[error("the request does not end within its frame")]
    Body,
}

/// Checks the length prefix.
pub(crate) fn frame_length(prefix: [u8; LENGTH_BYTES], max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(bytes) if bytes > max => Err(FrameError::TooLong { length, max }),
        Ok(bytes) if bytes >= FIXED_BYTES - 2 => Ok(bytes),
        _ => Err(FrameError::TooShort(length)),
    }
}

/// API key and version: what decides the form of the rest of the header.
pub(crate) fn api_of(bytes: &[u8]) -> Option<(i16, i16)> {
    let fixed: &[u8; 4] = bytes.first_chunk()?;
    Some((
        i16::from_be_bytes([fixed[0], fixed[1]]),
        i16::from_be_bytes([fixed[2], fixed[3]]),
    ))
}

/// What parsing a header leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeadProgress {
    /// The header, and how many bytes it takes.
    Done(RequestHead, usize),
    /// At least this many bytes must have arrived.
    Needs(usize),
}

/// Parses a header of `header_version` from `bytes`, which may be the beginning of one.
///
/// `last_client_id` is that of the last request, most likely the same: then no memory is taken.
pub(crate) fn parse_head(
    bytes: &[u8],
    header_version: i16,
    last_client_id: &mut Option<Arc<str>>,
) -> Result<HeadProgress, FrameError> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
        return Ok(HeadProgress::Needs(FIXED_BYTES));
    };
    let client_id_length = i16::from_be_bytes([fixed[8], fixed[9]]);
    let mut end = FIXED_BYTES;
    let client_id = match usize::try_from(client_id_length) {
        Err(_) if client_id_length == -1 => None,
        Err(_) => return Err(FrameError::Header),
        Ok(length) => {
            end += length;
            let Some(text) = bytes.get(FIXED_BYTES..end) else {
                return Ok(HeadProgress::Needs(end));
            };
            // What is not UTF-8 is replaced, as in all strings of a request.
            let text = String::from_utf8_lossy(text);
            if last_client_id.as_deref() != Some(&*text) {
                *last_client_id = Some(Arc::from(&*text));
            }
            last_client_id.clone()
        }
    };
    if header_version >= 2 {
        match skip_tags(bytes, end)? {
            Some(after) => end = after,
            None => return Ok(HeadProgress::Needs(bytes.len() + 1)),
        }
    }
    let head = RequestHead {
        api_key: i16::from_be_bytes([fixed[0], fixed[1]]),
        api_version: i16::from_be_bytes([fixed[2], fixed[3]]),
        correlation_id: i32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        client_id,
    };
    Ok(HeadProgress::Done(head, end))
}

/// The end of the tagged fields at `at`; `None` if they have not all arrived.
fn skip_tags(bytes: &[u8], at: usize) -> Result<Option<usize>, FrameError> {
    let Some((count, mut at)) = unsigned_varint(bytes, at)? else {
        return Ok(None);
    };
    for _ in 0..count {
        let Some((_tag, after)) = unsigned_varint(bytes, at)? else {
            return Ok(None);
        };
        let Some((size, after)) = unsigned_varint(bytes, after)? else {
            return Ok(None);
        };
        at = after.saturating_add(size as usize);
        if at > bytes.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// A varint of up to 32 bits at `at`, and where it ends; `None` if it has not all arrived.
fn unsigned_varint(bytes: &[u8], at: usize) -> Result<Option<(u32, usize)>, FrameError> {
    let mut value = 0_u32;
    for index in 0..5 {
        let Some(&byte) = bytes.get(at + index) else {
            return Ok(None);
        };
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + index + 1)));
        }
    }
    Err(FrameError::Header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1000;

    fn parse(bytes: &[u8], header_version: i16) -> Result<HeadProgress, FrameError> {
        parse_head(bytes, header_version, &mut None)
    }

    #[test]
    fn the_same_client_id_again_shares_its_memory() {
        let bytes = head_bytes(Some("client"), &[]);
        let mut last = None;
        let mut client_id = || match parse_head(&bytes, 1, &mut last) {
            Ok(HeadProgress::Done(head, _)) => head.client_id.unwrap(),
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(&client_id(), &client_id()));
    }

    fn head_bytes(client_id: Option<&str>, tags: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 3, 0, 12, 0, 0, 0, 7];
        match client_id {
            None => bytes.extend_from_slice(&[0xff, 0xff]),
            Some(text) => {
                bytes.extend_from_slice(&i16::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        bytes.extend_from_slice(tags);
        bytes
    }

    #[test]
    fn lengths_outside_of_the_limits_are_refused() {
        let check = |length: i32| frame_length(length.to_be_bytes(), MAX);
        assert_eq!(check(8), Ok(8));
        assert_eq!(check(1000), Ok(1000));
        assert_eq!(
            check(1001),
            Err(FrameError::TooLong {
                length: 1001,
                max: MAX
            })
        );
        assert_eq!(
            check(i32::MAX),
            Err(FrameError::TooLong {
                length: i32::MAX,
                max: MAX
            })
        );
        assert_eq!(check(7), Err(FrameError::TooShort(7)));
        assert_eq!(check(-1), Err(FrameError::TooShort(-1)));
    }

    #[test]
    fn a_header_is_found_however_little_has_arrived() {
        let bytes = head_bytes(Some("client"), &[1, 9, 2, 0xaa, 0xbb]);
        for cut in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..cut], 2), Ok(HeadProgress::Needs(n)) if n > cut));
        }
        let Ok(HeadProgress::Done(head, end)) = parse(&bytes, 2) else {
            panic!()
        };
        assert_eq!(end, bytes.len());
        assert_eq!(
            (head.api_key, head.api_version, head.correlation_id),
            (3, 12, 7)
        );
        assert_eq!(head.client_id.as_deref(), Some("client"));
    }

    #[test]
    fn version_one_has_no_tags_and_a_null_client_id_is_none() {
        let bytes = head_bytes(None, &[]);
        let Ok(HeadProgress::Done(head, end)) = parse(&bytes, 1) else {
            panic!()
        };
        assert_eq!((end, head.client_id), (FIXED_BYTES, None));
    }

    #[test]
    fn a_client_id_of_negative_length_is_refused() {
        let mut bytes = head_bytes(None, &[]);
        bytes[9] = 0xfe;
        assert_eq!(parse(&bytes, 1), Err(FrameError::Header));
    }

    #[test]
    fn foreign_bytes_in_a_client_id_are_replaced() {
        let mut bytes = head_bytes(Some("ab"), &[]);
        bytes[FIXED_BYTES] = 0xff;
        let Ok(HeadProgress::Done(head, _)) = parse(&bytes, 1) else {
            panic!()
        };
        assert_eq!(head.client_id.as_deref(), Some("\u{fffd}b"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, version in 1_i16..3) {
            let _ = parse(&bytes, version);
        }
    }
}
