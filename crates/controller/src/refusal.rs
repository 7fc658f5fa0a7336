//! A request that is not granted.
//!
//! Input: the rule that it breaks. Output: the error code and the words that the client gets.
//!
//! Invariant: a refusal is a value, not a failure; nobody logs it as an error.
//!
//! Source: `org.apache.kafka.common.protocol.Errors` for the codes; the words are our own.

use std::fmt;

use skein_types::ErrorCode;

/// Why a request, or a part of it, is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client's program reads.
    pub code: ErrorCode,
    /// What the client's user reads.
    pub message: String,
}

impl Refusal {
    /// A refusal with this code, for this reason.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
