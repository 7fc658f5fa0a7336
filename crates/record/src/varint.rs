//! Variable-length integers of the record format: zig-zag, seven bits a byte, lowest first.
//!
//! Input: a cursor over bytes from outside, or an integer. Output: the integer, or its bytes.
//!
//! Invariants, checked in [`Cursor`]: nothing is read past the end, and a number that takes more
//! bytes than its type can need is refused.
//!
//! Source: the Kafka protocol guide; Protocol Buffers encoding.

use bytes::BufMut;

/// Most bytes of a 32-bit number.
const VARINT_MAX_BYTES: usize = 5;
/// Most bytes of a 64-bit number.
const VARLONG_MAX_BYTES: usize = 10;

/// Reads forward through bytes from outside; `None` where they end too early or make no sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    pub(crate) fn varint(&mut self) -> Option<i32> {
        let raw = u32::try_from(self.base128(VARINT_MAX_BYTES)? & u64::from(u32::MAX)).ok()?;
        Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    pub(crate) fn varlong(&mut self) -> Option<i64> {
        let raw = self.base128(VARLONG_MAX_BYTES)?;
        Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A length and that many bytes; a length below zero is Kafka's null.
    pub(crate) fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.varint()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }

    fn base128(&mut self, max_bytes: usize) -> Option<u64> {
        let mut value = 0;
        for index in 0..max_bytes {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

pub(crate) fn put_varint(out: &mut impl BufMut, value: i32) {
    put_base128(out, u64::from(zigzag32(value)));
}

pub(crate) fn put_varlong(out: &mut impl BufMut, value: i64) {
    put_base128(out, zigzag64(value));
}

pub(crate) const fn varint_bytes(value: i32) -> usize {
    base128_bytes(zigzag32(value) as u64)
}

pub(crate) const fn varlong_bytes(value: i64) -> usize {
    base128_bytes(zigzag64(value))
}

const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn base128_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_base128(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_kafkas() {
        let cases: [(i32, &[u8]); 6] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (8191, &[0xfe, 0x7f]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in cases {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn number_without_end_is_refused() {
        assert_eq!(Cursor::new(&[0xff; 5]).varint(), None);
        assert_eq!(Cursor::new(&[0xff; 10]).varlong(), None);
        assert_eq!(Cursor::new(&[0x80]).varint(), None);
    }

    proptest! {
        #[test]
        fn numbers_round_trip(small: i32, large: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, small);
            prop_assert_eq!(out.len(), varint_bytes(small));
            put_varlong(&mut out, large);
            prop_assert_eq!(out.len(), varint_bytes(small) + varlong_bytes(large));
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint(), Some(small));
            prop_assert_eq!(cursor.varlong(), Some(large));
            prop_assert!(cursor.is_empty());
        }
    }
}
