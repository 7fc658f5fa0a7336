//! Names of topics and partitions.
//!
//! Input: strings and 16-byte ids from clients and files. Output: checked names, Kafka's text form
//! of ids, and the `<topic>-<partition>` form of directories.
//!
//! Invariants, held by [`TopicName::new`]: a topic name can be used as a file name.
//!
//! Source: `org.apache.kafka.common.internals.Topic` for the rules, `Uuid` for the text form.

use std::fmt;
use std::sync::Arc;

use crate::PartitionIndex;

/// Longest topic name in bytes, so that `<topic>-<partition>.<id>-delete` fits in a file name.
const TOPIC_NAME_MAX_BYTES: usize = 249;

/// A legal topic name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` and not `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a string is no topic name; the text is what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicNameError {
    /// The empty string.
    Empty,
    /// `.` or `..`.
    Dots,
    /// More than 249 bytes.
    TooLong,
    /// A character outside of `[a-zA-Z0-9._-]`.
    IllegalCharacter,
}

impl TopicName {
    /// Checks `name`.
    ///
    /// # Errors
    /// The rule that `name` breaks.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots);
        }
        if name.len() > TOPIC_NAME_MAX_BYTES {
            return Err(TopicNameError::TooLong);
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !name.bytes().all(legal) {
            return Err(TopicNameError::IllegalCharacter);
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the empty string is not allowed as a topic name",
            Self::Dots => "a topic name cannot be \".\" or \"..\"",
            Self::TooLong => "a topic name cannot be longer than 249 characters",
            Self::IllegalCharacter => {
                "a topic name holds only ASCII letters, digits, '.', '_' and '-'"
            }
        })
    }
}

impl std::error::Error for TopicNameError {}

/// One partition of one topic; prints as the name of its directory, `<topic>-<partition>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: TopicName,
    /// The partition's place in the topic.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A 16-byte id in Kafka's text form: 22 characters of unpadded URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// Id of a topic: another topic of the same name has another (KIP-516). All zero means "none".
pub type TopicId = Uuid;

/// A text that is not the 22 characters of a [`Uuid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseUuidError;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// "No id".
    pub const ZERO: Self = Self([0; 16]);

    /// Makes a version 4 id of 16 random bytes.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Whether this is "no id".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits are 21 digits of six bits and one of two, padded with zero bits at its end.
        let bits = u128::from_be_bytes(self.0);
        for digit in 0..22 {
            let value = if digit < 21 {
                bits >> (122 - 6 * digit)
            } else {
                bits << 4
            };
            let letter = ALPHABET[(value & 63) as usize];
            fmt::Write::write_char(f, char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return Err(ParseUuidError);
        }
        let mut bits: u128 = 0;
        for (index, byte) in text.iter().enumerate() {
            let value = ALPHABET
                .iter()
                .position(|letter| letter == byte)
                .ok_or(ParseUuidError)?;
            bits = if index < 21 {
                bits << 6 | value as u128
            } else {
                bits << 2 | (value >> 4) as u128
            };
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 22 characters of URL-safe base64")
    }
}

impl std::error::Error for ParseUuidError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for legal in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(TopicName::new(legal).is_ok(), "{legal}");
        }
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new("."), Err(TopicNameError::Dots));
        assert_eq!(TopicName::new(".."), Err(TopicNameError::Dots));
        assert_eq!(
            TopicName::new(&"x".repeat(250)),
            Err(TopicNameError::TooLong)
        );
        for illegal in ["a/b", "a b", "ü", "a\0", "../a"] {
            assert_eq!(
                TopicName::new(illegal),
                Err(TopicNameError::IllegalCharacter),
                "{illegal}"
            );
        }
    }

    #[test]
    fn uuid_text_is_kafkas() {
        // Kafka's own constant for the metadata topic: 00000000-0000-0000-0000-000000000001.
        let mut bytes = [0; 16];
        bytes[15] = 1;
        assert_eq!(Uuid(bytes).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!("short".parse::<Uuid>(), Err(ParseUuidError));
        assert_eq!(
            "AAAAAAAAAAAAAAAAAAAA+Q".parse::<Uuid>(),
            Err(ParseUuidError)
        );
    }

    proptest! {
        #[test]
        fn uuid_text_round_trips(bytes: [u8; 16]) {
            prop_assert_eq!(Uuid(bytes).to_string().parse::<Uuid>(), Ok(Uuid(bytes)));
        }
    }
}
