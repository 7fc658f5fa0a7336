//! CRC-32C, the checksum of batches and of producer snapshots.
//!
//! Input: bytes, at once or piece by piece. Output: their CRC-32C (Castagnoli).
//!
//! Source: RFC 3720, where the same polynomial guards iSCSI: hence the algorithm's name in the
//! library.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // a 32-bit checksum in the library's common 64 bits
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc
}

/// CRC-32C of bytes that are not in memory all at once.
pub struct Crc32c(Digest);

impl Crc32c {
    /// Of no bytes so far.
    #[must_use]
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC-32C of all that was taken in.
    #[must_use]
    pub fn value(&self) -> u32 {
        #[allow(clippy::cast_possible_truncation)] // as in `crc32c`
        let crc = self.0.finalize() as u32;
        crc
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_crc_of_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for cut in [0, 1, 8, 2500, 4999, 5000] {
            let mut crc = Crc32c::new();
            crc.update(&bytes[..cut]);
            crc.update(&bytes[cut..]);
            assert_eq!(crc.value(), crc32c(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn check_value_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b""), 0);
    }
}
