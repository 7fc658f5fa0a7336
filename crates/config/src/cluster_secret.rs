//! The secret that the nodes of a cluster prove to one another.
//!
//! Input: what the caller read of `cluster.secret.file`, or why it could not. Output: the secret,
//! or an error that says what to do.
//!
//! Invariants:
//! - a secret has [`SECRET_MIN_BYTES`] to [`SECRET_MAX_BYTES`], without white space at its ends, so
//!   that an editor's last line break does not part a cluster;
//! - no other user of the machine could have read it, or put another in its place;
//! - it is never printed: neither by `Debug` nor in an error.
//!
//! Source: RFC 2104, 3, for the length: a short key of HMAC is a weak one.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::ConfigError;

/// Fewest bytes of a secret: 128 bits, if they are random.
pub const SECRET_MIN_BYTES: usize = 16;
/// Most bytes of a secret; whoever reads the file needs to read no more than one beyond.
pub const SECRET_MAX_BYTES: usize = 4096;

/// How a file with a secret is made.
pub(crate) const SECRET_REMEDY: &str = "for example: umask 077; openssl rand -base64 32 > FILE";

/// The bits of a file's mode that let every user of the machine read or write it.
const MODE_OF_OTHERS: u32 = 0o006;

/// What the caller read of the file.
#[derive(Clone)]
pub struct SecretFile {
    /// Its content, of which at most [`SECRET_MAX_BYTES`] and one byte need to be read.
    pub bytes: Vec<u8>,
    /// Its permissions, as `st_mode` has them.
    pub mode: u32,
}

/// A secret. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret(Arc<[u8]>);

impl ClusterSecret {
    /// The secret in the file at `path`, of which `read` is what there was.
    ///
    /// # Errors
    /// It could not be read, others can read or replace it, or it has not a secret's length.
    pub fn from_file(path: &Path, read: io::Result<SecretFile>) -> Result<Self, ConfigError> {
        let refuse = |why: String| {
            let path = path.display();
            ConfigError::Conflict(format!("cluster.secret.file {path}: {why}"))
        };
        let file = read.map_err(|error| refuse(unreadable(&error)))?;
        if file.mode & MODE_OF_OTHERS != 0 {
            return Err(refuse(format!(
                "every user of this machine can read or write it (mode {:03o}): chmod 600 it, and \
                 if it was so for long, make another",
                file.mode & 0o777
            )));
        }
        let secret = file.bytes.trim_ascii();
        if !(SECRET_MIN_BYTES..=SECRET_MAX_BYTES).contains(&secret.len()) {
            let found = match secret.len() {
                0 => "is empty".to_owned(),
                bytes if bytes > SECRET_MAX_BYTES => format!("has over {SECRET_MAX_BYTES} bytes"),
                bytes => format!("has {bytes} bytes"),
            };
            return Err(refuse(format!(
                "it {found}, and a secret has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES}, without \
                 white space at its ends ({SECRET_REMEDY})"
            )));
        }
        Ok(Self(secret.into()))
    }

    /// The secret itself, for who proves to know it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no such file ({SECRET_REMEDY})"),
        io::ErrorKind::PermissionDenied => {
            "this process may not read it: give it to the user that runs skein".to_owned()
        }
        _ => format!("it cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], mode: u32) -> Result<ClusterSecret, String> {
        let bytes = bytes.to_vec();
        let file = Ok(SecretFile { bytes, mode });
        ClusterSecret::from_file(Path::new("/s"), file).map_err(|error| error.to_string())
    }

    fn refused(bytes: &[u8], mode: u32, expected: &str) {
        let error = read(bytes, mode).unwrap_err();
        let expected = format!("cluster.secret.file /s: {expected}");
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_line_break_at_the_end_makes_no_other_secret() {
        let secret = read(b"0123456789abcdef", 0o600).unwrap();
        assert_eq!(read(b"0123456789abcdef\n", 0o640).unwrap(), secret);
        assert_eq!(read(b" 0123456789abcdef\r\n", 0o100_400).unwrap(), secret);
        assert_ne!(read(b"0123456789abcdeg\n", 0o600).unwrap(), secret);
        assert_eq!(secret.as_bytes(), b"0123456789abcdef");
    }

    #[test]
    fn a_secret_that_is_too_short_or_too_long_is_refused_with_the_range() {
        refused(b"", 0o600, "it is empty, and a secret has 16 to 4096");
        refused(b" \n", 0o600, "it is empty");
        refused(
            b"0123456789abcde\n",
            0o600,
            "it has 15 bytes, and a secret has 16 to 4096",
        );
        assert!(read(&[b'x'; 4096], 0o600).is_ok());
        refused(&[b'x'; 4097], 0o600, "it has over 4096 bytes");
    }

    #[test]
    fn a_secret_that_every_user_can_read_or_replace_is_refused() {
        let secret = [b'x'; 32];
        refused(
            &secret,
            0o100_644,
            "every user of this machine can read or write it (mode 644)",
        );
        refused(&secret, 0o602, "every user of this machine");
        // A group may be what lets the service's own user read it.
        assert!(read(&secret, 0o640).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let refused = |kind: io::ErrorKind, expected: &str| {
            let error = ClusterSecret::from_file(Path::new("/s"), Err(kind.into())).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        refused(
            io::ErrorKind::NotFound,
            "there is no such file (for example: umask 077",
        );
        refused(
            io::ErrorKind::PermissionDenied,
            "this process may not read it",
        );
        refused(io::ErrorKind::IsADirectory, "it cannot be read: ");
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = read(b"0123456789abcdef", 0o600).unwrap();
        assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
        let short = read(b"0123456789", 0o600).unwrap_err();
        assert!(!short.contains("0123"), "{short}");
    }
}
