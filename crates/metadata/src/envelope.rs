//! The envelope around everything the quorum writes to disk or sends to a peer.
//!
//! Input: a frozen struct with its type and version. Output: bytes, and the struct again.
//!
//! ```text
//!  0        2         4          8                8+len      12+len
//!  ├ type u16 ┼ version u16 ┼ len u32 ┼ bincode of the struct ┼ crc32c ┤     little-endian
//!  └──────────────────── covered by the checksum ────────────┘
//! ```
//!
//! Invariants:
//! - a (type, version) names one struct for ever; a change of the struct is a new version;
//! - reading checks length, limit and checksum before it looks at the payload, and what it
//!   allocates is bounded by the bytes that are there, plus 1 MiB per list (what `serde` reserves
//!   at most);
//! - trailing bytes in a payload are an error: a struct and its bytes are one to one.
//!
//! Source: our own format; bincode 1.3 with fixed-size little-endian integers.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 8;
/// Bytes after the payload.
pub const TRAILER_BYTES: usize = 4;

/// Why bytes are no envelope, or a struct does not fit into one.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The bytes end before the envelope does.
    #[error("the envelope ends early: {needed} bytes needed, {available} there")]
    Truncated {
        /// Bytes of the whole envelope, as far as is known.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// The payload is over the limit of its place.
    #[error("a payload of {length} bytes is over the limit of {max}")]
    TooLarge {
        /// Bytes of the payload.
        length: u64,
        /// The limit.
        max: usize,
    },
    /// The checksum does not match: the bytes are not what was written.
    #[error("envelope of type {kind}: checksum {stored:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// Its type field.
        kind: u16,
        /// What the envelope says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// This build does not know the type or the version: a newer one wrote it.
    #[error("unknown envelope type {kind} version {version}: written by a newer release")]
    Unknown {
        /// Its type field.
        kind: u16,
        /// Its version field.
        version: u16,
    },
    /// The payload is not the struct that type and version name.
    #[error("payload of type {kind} version {version} is malformed: {reason}")]
    Malformed {
        /// Its type field.
        kind: u16,
        /// Its version field.
        version: u16,
        /// What is wrong.
        reason: String,
    },
}

/// A whole envelope with a matching checksum; the payload is not decoded yet.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// What it holds.
    pub kind: u16,
    /// In which layout.
    pub version: u16,
    /// The struct's bytes.
    pub payload: &'a [u8],
}

/// Appends `value` in an envelope to `out`; on an error `out` is as before.
///
/// # Errors
/// [`EnvelopeError::TooLarge`] above `payload_max` bytes.
pub fn write<T: Serialize>(
    kind: u16,
    version: u16,
    value: &T,
    payload_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), EnvelopeError> {
    let malformed = |error: bincode::Error| EnvelopeError::Malformed {
        kind,
        version,
        reason: error.to_string(),
    };
    let start = out.len();
    let length = options().serialized_size(value).map_err(malformed)?;
    let length_u32 = u32::try_from(length)
        .ok()
        .filter(|_| length <= payload_max as u64)
        .ok_or(EnvelopeError::TooLarge {
            length,
            max: payload_max,
        })?;
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&length_u32.to_le_bytes());
    if let Err(error) = options().serialize_into(&mut *out, value) {
        out.truncate(start);
        return Err(malformed(error));
    }
    let checksum = crc32c(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Bytes of the envelope that starts `bytes`, by its header alone; nothing else is checked.
///
/// # Errors
/// [`EnvelopeError::Truncated`] or [`EnvelopeError::TooLarge`].
pub fn length(bytes: &[u8], payload_max: usize) -> Result<usize, EnvelopeError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(EnvelopeError::Truncated {
            needed: HEADER_BYTES,
            available: bytes.len(),
        });
    };
    let payload = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if payload > payload_max {
        return Err(EnvelopeError::TooLarge {
            length: payload as u64,
            max: payload_max,
        });
    }
    Ok(HEADER_BYTES + payload + TRAILER_BYTES)
}

/// Reads the envelope that starts `bytes`; also gives its length, where the next one may start.
///
/// # Errors
/// All but [`EnvelopeError::Unknown`] and [`EnvelopeError::Malformed`].
pub fn read(bytes: &[u8], payload_max: usize) -> Result<(Envelope<'_>, usize), EnvelopeError> {
    let needed = length(bytes, payload_max)?;
    let Some((covered, stored)) = bytes
        .get(..needed)
        .and_then(<[u8]>::split_last_chunk::<TRAILER_BYTES>)
    else {
        return Err(EnvelopeError::Truncated {
            needed,
            available: bytes.len(),
        });
    };
    let kind = u16::from_le_bytes([covered[0], covered[1]]);
    let stored = u32::from_le_bytes(*stored);
    let computed = crc32c(covered);
    if stored != computed {
        return Err(EnvelopeError::Checksum {
            kind,
            stored,
            computed,
        });
    }
    let version = u16::from_le_bytes([covered[2], covered[3]]);
    Ok((
        Envelope {
            kind,
            version,
            payload: &covered[HEADER_BYTES..],
        },
        needed,
    ))
}

impl Envelope<'_> {
    /// The struct, which the caller chose by type and version.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, EnvelopeError> {
        options()
            .with_limit(self.payload.len() as u64)
            .deserialize(self.payload)
            .map_err(|error| self.malformed(error.to_string()))
    }

    /// The error for a type or version that the caller does not know.
    #[must_use]
    pub fn unknown(&self) -> EnvelopeError {
        EnvelopeError::Unknown {
            kind: self.kind,
            version: self.version,
        }
    }

    /// The error for a payload that decodes to something illegal.
    #[must_use]
    pub fn malformed(&self, reason: impl Into<String>) -> EnvelopeError {
        EnvelopeError::Malformed {
            kind: self.kind,
            version: self.version,
            reason: reason.into(),
        }
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
}

fn crc32c(bytes: &[u8]) -> u32 {
    let wide = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    // A checksum of 32 bits stands in the low half of what every algorithm returns.
    #[allow(clippy::cast_possible_truncation)]
    let checksum = wide as u32;
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u32,
        text: String,
        list: Vec<u64>,
    }

    fn sample() -> Sample {
        Sample {
            number: 7,
            text: "skein".into(),
            list: vec![1, 2],
        }
    }

    #[test]
    fn layout_is_as_drawn() {
        let mut bytes = Vec::new();
        write(0x0102, 3, &0xaabb_ccdd_u32, 16, &mut bytes).unwrap();
        assert_eq!(
            bytes[..12],
            [2, 1, 3, 0, 4, 0, 0, 0, 0xdd, 0xcc, 0xbb, 0xaa]
        );
        assert_eq!(bytes[12..], crc32c(&bytes[..12]).to_le_bytes());
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let mut bytes = vec![9];
        assert!(matches!(
            write(1, 0, &sample(), 10, &mut bytes),
            Err(EnvelopeError::TooLarge { max: 10, .. })
        ));
        assert_eq!(bytes, [9], "a refused write leaves the buffer as it was");
        bytes.clear();
        write(1, 0, &sample(), 1024, &mut bytes).unwrap();
        assert!(matches!(
            read(&bytes, 8),
            Err(EnvelopeError::TooLarge { .. })
        ));
        assert!(matches!(
            read(&bytes[..bytes.len() - 1], 1024),
            Err(EnvelopeError::Truncated { .. })
        ));
    }

    #[test]
    fn a_list_length_beyond_the_payload_is_an_error_not_an_allocation() {
        let mut bytes = Vec::new();
        write(1, 0, &(0_u32, 0_u64, u64::MAX), 1024, &mut bytes).unwrap();
        let (envelope, _) = read(&bytes, 1024).unwrap();
        assert!(envelope.decode::<Sample>().is_err());
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_found(bit in 0_usize..8 * 53) {
            let mut bytes = Vec::new();
            write(1, 0, &sample(), 1024, &mut bytes).unwrap();
            prop_assume!(bit < bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bytes, 1024).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            if let Ok((envelope, _)) = read(&bytes, 1024) {
                let _ = envelope.decode::<Sample>();
            }
            let envelope = Envelope { kind: 1, version: 0, payload: &bytes };
            let _ = envelope.decode::<Sample>();
        }
    }
}
