//! CRC-32C, the checksum of batches and of producer snapshots.
//!
//! Input: bytes. Output: their CRC-32C (Castagnoli).
//!
//! Source: RFC 3720, where the same polynomial guards iSCSI: hence the algorithm's name in the
//! library.

use crc_fast::{CrcAlgorithm, checksum};

/// CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // a 32-bit checksum in the library's common 64 bits
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b""), 0);
    }
}
