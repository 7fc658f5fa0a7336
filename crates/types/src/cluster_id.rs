//! What a cluster is called.
//!
//! Input: text, of `meta.properties` or of 16 random bytes. Output: the same text.
//!
//! Invariant, by the constructor: 1 to [`ClusterId::MAX_BYTES`] visible ASCII characters, so that
//! the text stands in a properties file and in every answer as it is.
//!
//! Source: `meta.properties` of Kafka 4.1.1, where it is any text.

use std::fmt;
use std::str::FromStr;

use crate::Uuid;

/// Id of a cluster: a text that means nothing but itself. Ours are those of a random [`Uuid`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClusterId {
    /// Zeros behind the text.
    bytes: [u8; Self::MAX_BYTES],
}

/// A text that is no [`ClusterId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseClusterIdError;

impl ClusterId {
    /// Longest text.
    pub const MAX_BYTES: usize = 128;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.bytes.iter().position(|byte| *byte == 0);
        let text = &self.bytes[..length.unwrap_or(Self::MAX_BYTES)];
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The 16 bytes of which this is the text, if it is the text of some.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        let uuid: Uuid = self.as_str().parse().ok()?;
        (Self::from(uuid) == *self).then_some(uuid)
    }
}

impl From<Uuid> for ClusterId {
    fn from(id: Uuid) -> Self {
        let mut bytes = [0; Self::MAX_BYTES];
        for (byte, letter) in bytes.iter_mut().zip(id.to_string().bytes()) {
            *byte = letter;
        }
        Self { bytes }
    }
}

impl FromStr for ClusterId {
    type Err = ParseClusterIdError;

    fn from_str(text: &str) -> Result<Self, ParseClusterIdError> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > Self::MAX_BYTES || !is_visible {
            return Err(ParseClusterIdError);
        }
        let mut bytes = [0; Self::MAX_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes })
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ParseClusterIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = ClusterId::MAX_BYTES;
        write!(f, "a cluster id is 1 to {max} visible ASCII characters")
    }
}

impl std::error::Error for ParseClusterIdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_visible_text_comes_back() {
        let longest = "x".repeat(ClusterId::MAX_BYTES);
        for text in ["a", "MkU3OEVBNTcwNTJENDM2Qk", "my:cluster=1", &longest] {
            let id: ClusterId = text.parse().unwrap();
            assert_eq!((id.as_str(), id.to_string().as_str()), (text, text));
        }
        let too_long = format!("{longest}x");
        for text in ["", "two words", "tab\t", "ü", "\0", &too_long] {
            assert_eq!(
                text.parse::<ClusterId>(),
                Err(ParseClusterIdError),
                "{text:?}"
            );
        }
    }

    /// The last of 22 letters has two bits; other letters in its place say the same 16 bytes.
    #[test]
    fn only_the_text_of_16_bytes_has_them() {
        let uuid = Uuid([7; 16]);
        assert_eq!(ClusterId::from(uuid).uuid(), Some(uuid));
        let same: Uuid = "MkU3OEVBNTcwNTJENDM2Qk".parse().unwrap();
        assert_eq!(same.to_string(), "MkU3OEVBNTcwNTJENDM2Qg");
        for text in ["MkU3OEVBNTcwNTJENDM2Qk", "prod"] {
            assert_eq!(text.parse::<ClusterId>().unwrap().uuid(), None);
        }
    }
}
