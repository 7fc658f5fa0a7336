//! The strings of messages.
//!
//! Input: bytes of a frame, or text. Output: [`Str`], which is cheap to clone because it shares
//! them.
//!
//! Invariant, checked by every constructor: the bytes are UTF-8.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

use bytes::Bytes;

/// UTF-8 text that shares its bytes with its clones, and with the frame that it was decoded from.
///
/// Such a frame lives as long as the string does: what is kept for long should be [`detached`].
///
/// [`detached`]: Self::detached
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(Bytes);

impl Str {
    /// Text that is part of the program.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The text that these bytes are; what is not UTF-8 in it becomes U+FFFD.
    pub(crate) fn from_utf8_lossy(bytes: Bytes) -> Self {
        match std::str::from_utf8(&bytes) {
            // Not even a clone of them: the first one of some would take memory.
            Ok(_) => Self(bytes),
            Err(_) => Self::from(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: the field is private and every constructor takes a `str` or checks the bytes.
        #[allow(unsafe_code)]
        unsafe {
            std::str::from_utf8_unchecked(&self.0)
        }
    }

    /// A copy that keeps nothing else alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The bytes of the text.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl TryFrom<Bytes> for Str {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&String> for Str {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Str> for String {
    fn from(text: Str) -> Self {
        text.as_str().to_owned()
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

// As `str` does, so that a map with `Str` keys can be asked with a `&str`.
impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<Str> for &str {
    fn eq(&self, other: &Str) -> bool {
        *self == other.as_str()
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_utf8_becomes_text() {
        assert!(Str::try_from(Bytes::from_static(b"\xff")).is_err());
        assert_eq!(
            Str::try_from(Bytes::from_static("ü".as_bytes())).unwrap(),
            "ü"
        );
    }

    #[test]
    fn a_clone_shares_and_a_detached_copy_does_not() {
        let text = Str::from("orders".to_owned());
        assert_eq!(text.clone().as_ptr(), text.as_ptr());
        let detached = text.detached();
        assert_ne!(detached.as_ptr(), text.as_ptr());
        assert_eq!(detached, text);
    }

    #[test]
    fn a_map_is_asked_with_plain_text() {
        let map = BTreeMap::from([(Str::from_static("a"), 1)]);
        assert_eq!(map.get("a"), Some(&1));
        assert_eq!(
            format!("{:?} {}", Str::from("x"), Str::from("x")),
            "\"x\" x"
        );
    }
}
