//! What all messages have in common.
//!
//! Input: nothing. Output: the traits that the generated structs implement.
//!
//! Invariant, held by `build.rs`: `decode` and `encode` know exactly the versions of `VERSIONS`.

use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder};

/// The body of a request or a response, a header, or another struct with versions.
pub trait Message: Sized {
    /// Name of the struct, such as `FetchRequest`.
    const NAME: &'static str;
    /// The API that it belongs to; `None` for headers and for the consumer protocol.
    const API_KEY: Option<ApiKey>;
    /// The versions that can be decoded and encoded.
    const VERSIONS: RangeInclusive<i16>;

    /// Decodes the message that starts where `d` stands, and leaves `d` behind it.
    ///
    /// # Errors
    /// The bytes are not such a message, or there is no such version. Bytes that follow the message
    /// are left to [`Decoder::finish`].
    fn decode(d: &mut Decoder<'_>, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message to `e`.
    ///
    /// # Errors
    /// There is no such version, or it cannot carry this value. `e` then holds a part of the
    /// message and is of no more use.
    fn encode(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError>;

    /// Shows `see` every error code in a response, also those that say that there was none. Other
    /// messages have nothing to show.
    fn error_codes(&self, see: &mut dyn FnMut(i16)) {
        let _ = see;
    }
}

/// A request, which knows the type of its response.
pub trait Request: Message {
    /// The API that is asked.
    const KEY: ApiKey;
    /// What it answers.
    type Response: Message;
}
