//! A response on its way to the socket.
//!
//! Input: encoded bytes and ranges of files. Output: parts, sent one after the other.
//!
//! Invariant: the length prefix in the first part covers all parts; who builds the response sees to
//! it (`skein_broker`'s encoder does, from the lengths of the ranges).
//!
//! Source: the Kafka protocol guide.

use std::sync::Arc;

use bytes::Bytes;
use skein_env::File;
use smallvec::SmallVec;

/// Bytes of a file that are sent without being read.
#[derive(Clone)]
pub struct FileRange {
    /// The file; it stays open, also when its name goes.
    pub file: Arc<dyn File>,
    /// Where the range begins.
    pub offset: u64,
    /// How long it is. A file that ends earlier closes the connection.
    pub length: usize,
}

/// A piece of a response.
#[derive(Clone)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileRange),
}

impl Part {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.length,
        }
    }
}

/// One response, with its length prefix and header; nothing where a client does not listen
/// (`acks=0`).
#[derive(Clone, Default)]
pub struct Response {
    /// What is sent, in order.
    pub parts: SmallVec<[Part; 2]>,
}

impl Response {
    /// A response that is all in memory.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        let mut parts = SmallVec::new();
        parts.push(Part::Bytes(bytes));
        Self { parts }
    }

    /// Length of the parts in memory together.
    pub(crate) fn memory_bytes(&self) -> usize {
        let length = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len(),
            Part::File(_) => 0,
        };
        self.parts.iter().map(length).sum()
    }

    /// Length of all parts together.
    #[must_use]
    pub fn length(&self) -> usize {
        self.parts.iter().map(Part::length).sum()
    }
}
