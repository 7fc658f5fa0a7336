//! Why bytes are no message, and why a message has no bytes.
//!
//! Input: nothing. Output: the errors of the decoders and encoders.
//!
//! Invariant: a [`DecodeError`] carries a position and numbers, never bytes of the peer, so that it
//! can be logged.

/// Bytes that are not the message they should be. The connection they came on cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}, at byte {at} of the frame")]
pub struct DecodeError {
    /// Where decoding stopped, in bytes from the start of what the decoder was given.
    pub at: usize,
    /// What is wrong there.
    pub reason: Malformed,
}

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The value needs more bytes than there are.
    #[error("{needed} bytes needed and {remaining} left")]
    Truncated {
        /// Bytes of the value.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// The message has ended and the frame has not.
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    /// A length below −1, which means null.
    #[error("a length of {0}")]
    NegativeLength(i32),
    /// Null where the version does not allow it.
    #[error("null where a value must be")]
    Null,
    /// More elements than the bytes that are left can hold.
    #[error("an array of {count} elements with {remaining} bytes left")]
    ArrayTooLong {
        /// Number of elements that the array claims.
        count: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A string above [`STRING_MAX_BYTES`](crate::STRING_MAX_BYTES).
    #[error("a string of {0} bytes")]
    StringTooLong(usize),
    /// A variable-length integer above 32 bits.
    #[error("a variable-length integer of more than 32 bits")]
    VarintTooLong,
    /// A tag that is not larger than the one before.
    #[error("tag {0} repeated or out of order")]
    TagOrder(u32),
    /// The message has no such version.
    #[error("unknown version {0}")]
    UnknownVersion(i16),
}

/// A message that the version cannot carry: a mistake of whoever filled it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message has no such version.
    #[error("{message} has no version {version}")]
    UnknownVersion {
        /// Name of the message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A field is set that the version lacks and that must not be dropped.
    #[error("{field} is set, and version {version} has no such field")]
    FieldNotInVersion {
        /// Struct and field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A field is null and the version needs a value.
    #[error("{field} is null, which version {version} does not allow")]
    NullNotAllowed {
        /// Struct and field.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A string above [`STRING_MAX_BYTES`](crate::STRING_MAX_BYTES).
    #[error("a string of {0} bytes")]
    StringTooLong(usize),
    /// Bytes, an array or a frame whose length does not fit in 31 bits.
    #[error("a length of {0}")]
    TooLong(usize),
}
