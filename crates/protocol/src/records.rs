//! Record data inside of a message.
//!
//! Input: a slice of a frame, or the promise of bytes that are elsewhere. Output: the value of a
//! `records` field.
//!
//! Invariant: the codec never looks into records; what they are is the business of `skein-record`.

use bytes::Bytes;

/// The value of a `records` field; null is the `None` around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// Bytes in memory. Decoding gives a slice of the frame, without a copy.
    Bytes(Bytes),
    /// Bytes that whoever sends the message puts in its place, such as a range of a file.
    External {
        /// How many bytes they are.
        len: u32,
        /// What they are: a number that means something to the sender only.
        slot: u32,
    },
}

impl Records {
    /// Length in bytes on the wire.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::External { len, .. } => *len as usize,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::External { .. } => None,
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}
