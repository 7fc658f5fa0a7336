//! Reads the types of the wire out of a frame.
//!
//! Input: a frame. Output: one value after the other, in the order in which they are asked for.
//!
//! Invariants, checked here in the methods named:
//! - nothing outside of the frame is read ([`Decoder::skip`]);
//! - an array is allocated only if the bytes that are left can hold it, beside what the arrays
//!   around it still need ([`Decoder::check_count`]);
//! - the bytes of a tagged field are all its own, and its tag is larger than the one before
//!   ([`Decoder::tags`]).
//!
//! Source: the Kafka protocol guide, "Protocol Primitive Types"; KIP-482 for the compact forms.

use bytes::Bytes;
use skein_types::Uuid;

use crate::{DecodeError, Malformed, Message, Str};

/// Longest string in bytes, on the wire and off it: what the length of an old-style string can say.
/// Kafka holds the compact form to the same limit.
pub const STRING_MAX_BYTES: usize = i16::MAX as usize;

/// Most bytes of memory that decoding allocates for each byte of a frame.
///
/// The generated code asserts it for the elements of every array: the size in memory against the
/// shortest encoding. A string of one byte takes 32; a few structs take more.
pub const ALLOCATION_FACTOR: usize = 48;

/// A position in a frame.
///
/// Methods that take `flexible` read the compact form of KIP-482 if it is set, the older form if
/// not.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    /// What `bytes` are, if they can be shared.
    frame: Option<&'a Bytes>,
    at: usize,
    /// Where the message, or the tagged field in it, ends: beyond `bytes` if not all has arrived.
    end: usize,
    /// Bytes, of those that are left, that the elements of unfinished arrays will need at least.
    reserved: usize,
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte of `frame`. Bytes and strings will be slices of it.
    #[must_use]
    pub fn new(frame: &'a Bytes) -> Self {
        Self {
            bytes: frame,
            frame: Some(frame),
            at: 0,
            end: frame.len(),
            reserved: 0,
        }
    }

    /// Starts at the first of the `bytes` that have arrived of a message of `len` bytes, and of
    /// what follows it. Bytes and strings will be copies.
    ///
    /// A value that reaches beyond `bytes` is [`Malformed::Truncated`]: it may still arrive.
    pub(crate) fn of_arriving(bytes: &'a [u8], len: usize) -> Self {
        Self {
            bytes,
            frame: None,
            at: 0,
            end: len,
            reserved: 0,
        }
    }

    /// Bytes that are not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Bytes that were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Ends the decoding.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(self.error(Malformed::TrailingBytes(remaining))),
        }
    }

    pub(crate) fn check_version<M: Message>(&self, version: i16) -> Result<(), DecodeError> {
        if M::VERSIONS.contains(&version) {
            Ok(())
        } else {
            Err(self.error(Malformed::UnknownVersion(version)))
        }
    }

    /// Steps over `len` bytes and returns where they start.
    fn skip(&mut self, len: usize) -> Result<usize, DecodeError> {
        let remaining = self.end.min(self.bytes.len()) - self.at;
        if len > remaining {
            return Err(self.error(Malformed::Truncated {
                needed: len,
                remaining,
            }));
        }
        let start = self.at;
        self.at += len;
        Ok(start)
    }

    /// Checks that `len` bytes are left in the message, whether or not they have arrived.
    pub(crate) fn check_room(&self, len: usize) -> Result<(), DecodeError> {
        match self.remaining() {
            remaining if len > remaining => Err(self.error(Malformed::Truncated {
                needed: len,
                remaining,
            })),
            _ => Ok(()),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let start = self.skip(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[start..start + N]);
        Ok(bytes)
    }

    fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let start = self.skip(len)?;
        let range = start..start + len;
        Ok(match self.frame {
            Some(frame) => frame.slice(range),
            None => Bytes::copy_from_slice(&self.bytes[range]),
        })
    }

    fn error(&self, reason: Malformed) -> DecodeError {
        DecodeError {
            at: self.at,
            reason,
        }
    }
}

/// Types of a fixed size. Integers are big-endian.
///
/// # Errors
/// All methods: the frame ends too early.
#[allow(clippy::missing_errors_doc)] // stated once, for all of them
impl Decoder<'_> {
    /// One byte; any but zero is true, as in Kafka.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// One byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.take()?))
    }

    /// Two bytes.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    /// Eight bytes.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.take()?))
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.take()?))
    }
}

/// Types of a variable size.
impl Decoder<'_> {
    /// An unsigned integer of one to five bytes, seven bits each, the lowest first.
    ///
    /// # Errors
    /// The frame ends too early, or the number exceeds 32 bits.
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(Malformed::VarintTooLong))
    }

    /// The length of bytes or of an array; `None` for null.
    pub(crate) fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            // The compact form adds one, and zero is null.
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        match self.i32()? {
            -1 => Ok(None),
            length => self.unsigned(length).map(Some),
        }
    }

    fn unsigned(&self, length: i32) -> Result<usize, DecodeError> {
        usize::try_from(length).map_err(|_| self.error(Malformed::NegativeLength(length)))
    }

    /// A value that is there, or the error that it is not.
    fn required<T>(&self, value: Option<T>) -> Result<T, DecodeError> {
        value.ok_or_else(|| self.error(Malformed::Null))
    }

    /// A string, or null. What is not UTF-8 in it becomes U+FFFD, as where Java reads it: a name
    /// that nobody else has is no reason to end a connection.
    ///
    /// # Errors
    /// The frame ends too early, or the string is too long.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        let length = if flexible {
            self.length(true)?
        } else {
            match self.i16()? {
                -1 => None,
                length => Some(self.unsigned(i32::from(length))?),
            }
        };
        let Some(length) = length else {
            return Ok(None);
        };
        if length > STRING_MAX_BYTES {
            return Err(self.error(Malformed::StringTooLong(length)));
        }
        let bytes = self.slice(length)?;
        let text = Str::from_utf8_lossy(bytes);
        // A replaced byte has grown to three; the string must fit into an answer.
        if text.len() > STRING_MAX_BYTES {
            return Err(self.error(Malformed::StringTooLong(text.len())));
        }
        Ok(Some(text))
    }

    /// A string.
    ///
    /// # Errors
    /// As [`nullable_string`](Self::nullable_string), or it is null.
    pub fn string(&mut self, flexible: bool) -> Result<Str, DecodeError> {
        let string = self.nullable_string(flexible)?;
        self.required(string)
    }

    /// Bytes, or null. They are a slice of the frame and keep it alive.
    ///
    /// # Errors
    /// The frame ends too early.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible)? {
            Some(length) => self.slice(length).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes. They are a slice of the frame and keep it alive.
    ///
    /// # Errors
    /// The frame ends too early, or they are null.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        let bytes = self.nullable_bytes(flexible)?;
        self.required(bytes)
    }

    /// Records, or null. They are a slice of the frame and keep it alive.
    ///
    /// # Errors
    /// The frame ends too early.
    pub fn records(&mut self, flexible: bool) -> Result<Option<crate::Records>, DecodeError> {
        Ok(self.nullable_bytes(flexible)?.map(crate::Records::Bytes))
    }

    /// A struct, or null: a byte says which.
    ///
    /// # Errors
    /// The frame ends too early, or those of `read`.
    pub fn nullable<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    /// An array, or null. An element takes at least `min_size` bytes on the wire.
    ///
    /// # Errors
    /// The array claims more elements than the rest of the frame can hold, or those of `read`.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flexible)? else {
            return Ok(None);
        };
        self.check_count(count, min_size)?;
        let mut elements = Vec::with_capacity(count);
        let outer = self.reserved;
        for left in (0..count).rev() {
            self.reserved = outer + left * min_size;
            elements.push(read(self)?);
        }
        Ok(Some(elements))
    }

    /// An array. An element takes at least `min_size` bytes on the wire.
    ///
    /// # Errors
    /// As [`nullable_array`](Self::nullable_array), or it is null.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        min_size: usize,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let elements = self.nullable_array(flexible, min_size, read)?;
        self.required(elements)
    }

    /// The number of elements of an array that cannot be null, for whoever reads them alone.
    pub(crate) fn array_count(
        &mut self,
        flexible: bool,
        min_size: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.length(flexible)?;
        let count = self.required(count)?;
        self.check_count(count, min_size)?;
        Ok(count)
    }

    /// This is what bounds the memory that a frame can cost: before an array is allocated, the
    /// bytes of its elements are set aside. No byte is set aside for two elements, be it of nested
    /// arrays.
    fn check_count(&self, count: usize, min_size: usize) -> Result<(), DecodeError> {
        let remaining = self.remaining().saturating_sub(self.reserved);
        if count > remaining / min_size {
            return Err(self.error(Malformed::ArrayTooLong { count, remaining }));
        }
        Ok(())
    }
}

/// Tagged fields (KIP-482).
impl Decoder<'_> {
    /// The tagged fields at the end of a struct. `read` gets the tag and a decoder of that field
    /// alone, and says whether it knows the tag; what it doesn't know is skipped.
    ///
    /// # Errors
    /// The tags don't ascend, a field is longer or shorter than it says, or those of `read`.
    pub fn tags(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.varint()?;
        let mut next_tag = 0;
        for _ in 0..count {
            let tag = self.ascending_tag(next_tag)?;
            next_tag = u64::from(tag) + 1;
            let size = self.varint()? as usize;
            let start = self.skip(size)?;
            let mut field = Self {
                at: start,
                end: self.at,
                reserved: 0,
                ..*self
            };
            if read(tag, &mut field)? {
                field.finish()?;
            }
        }
        Ok(())
    }

    /// The tag of a tagged field, which is at least `next_tag`.
    pub(crate) fn ascending_tag(&mut self, next_tag: u64) -> Result<u32, DecodeError> {
        let tag = self.varint()?;
        if u64::from(tag) < next_tag {
            return Err(self.error(Malformed::TagOrder(tag)));
        }
        Ok(tag)
    }

    /// The tagged fields at the end of a struct that knows none.
    ///
    /// # Errors
    /// As [`tags`](Self::tags).
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<T>(
        bytes: &'static [u8],
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, Malformed> {
        let frame = Bytes::from_static(bytes);
        let mut d = Decoder::new(&frame);
        let value = read(&mut d).map_err(|error| error.reason)?;
        d.finish().map_err(|error| error.reason)?;
        Ok(value)
    }

    #[test]
    fn varints_have_at_most_32_bits() {
        let varint = |bytes| decode(bytes, |d| d.varint());
        assert_eq!(varint(&[0]), Ok(0));
        assert_eq!(varint(&[0xac, 0x02]), Ok(300));
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        for too_long in [
            &[0xff, 0xff, 0xff, 0xff, 0x1f],
            &[0x80, 0x80, 0x80, 0x80, 0x80][..],
        ] {
            assert_eq!(
                decode(too_long, |d| d.varint()),
                Err(Malformed::VarintTooLong)
            );
        }
        let truncated = Malformed::Truncated {
            needed: 1,
            remaining: 0,
        };
        assert_eq!(varint(&[0x80]), Err(truncated));
    }

    #[test]
    fn null_is_minus_one_or_compact_zero_and_nothing_else() {
        assert_eq!(
            decode(&[0xff, 0xff], |d| d.nullable_string(false)),
            Ok(None)
        );
        assert_eq!(decode(&[0], |d| d.nullable_string(true)), Ok(None));
        assert_eq!(
            decode(&[1], |d| d.nullable_string(true)),
            Ok(Some(Str::default()))
        );
        assert_eq!(decode(&[0], |d| d.string(true)), Err(Malformed::Null));
        assert_eq!(decode(&[0xff; 4], |d| d.bytes(false)), Err(Malformed::Null));
        assert_eq!(
            decode(&[0], |d| d.array(true, 4, |d| d.i32())),
            Err(Malformed::Null)
        );
        let negative = decode(&[0xff, 0xfe], |d| d.nullable_string(false));
        assert_eq!(negative, Err(Malformed::NegativeLength(-2)));
        let negative = decode(&[0xff, 0xff, 0xff, 0xfe], |d| d.nullable_bytes(false));
        assert_eq!(negative, Err(Malformed::NegativeLength(-2)));
        assert_eq!(decode(&[0xff], |d| d.nullable(|d| d.i8())), Ok(None));
        assert_eq!(decode(&[1, 7], |d| d.nullable(|d| d.i8())), Ok(Some(7)));
    }

    #[test]
    fn strings_are_made_utf8_and_are_not_too_long() {
        let replaced = decode(&[4, b'a', 0xff, b'b'], |d| d.string(true));
        assert_eq!(replaced, Ok(Str::from_static("a\u{fffd}b")));
        // Replaced, it does not fit into an answer any more.
        let half = STRING_MAX_BYTES / 2;
        let mut bytes = i16::try_from(half).unwrap().to_be_bytes().to_vec();
        bytes.resize(2 + half, 0xff);
        let grown = decode(bytes.leak(), |d| d.string(false));
        assert_eq!(grown, Err(Malformed::StringTooLong(3 * half)));
        let too_long = decode(&[0x81, 0x80, 0x02], |d| d.string(true));
        assert_eq!(
            too_long,
            Err(Malformed::StringTooLong(STRING_MAX_BYTES + 1))
        );
    }

    #[test]
    fn bytes_are_slices_of_the_frame() {
        let frame = Bytes::from_static(&[4, 1, 2, 3]);
        let bytes = Decoder::new(&frame).bytes(true).unwrap();
        assert_eq!(bytes.as_ptr(), frame[1..].as_ptr());
    }

    #[test]
    fn an_array_never_claims_more_than_is_left() {
        let claim = |bytes| decode(bytes, |d| d.array(false, 4, |d| d.i32()));
        assert_eq!(claim(&[0, 0, 0, 1, 0, 0, 0, 9]), Ok(vec![9]));
        let refused = Malformed::ArrayTooLong {
            count: 2,
            remaining: 7,
        };
        assert_eq!(claim(&[0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0]), Err(refused));
    }

    #[test]
    fn nested_arrays_cannot_claim_the_same_bytes() {
        // Three arrays of at least two bytes each: the first one's three elements take what the
        // other two need, although six bytes are left.
        let refused = decode(&[4, 5, 0, 0, 0, 0, 0, 0], |d| {
            d.array(true, 2, |d| d.array(true, 1, |d| d.i8()))
        });
        assert_eq!(
            refused,
            Err(Malformed::ArrayTooLong {
                count: 4,
                remaining: 2
            })
        );
    }

    #[test]
    fn tags_ascend_and_fill_their_size() {
        let tags = |bytes| {
            decode(bytes, |d| {
                let mut seen = vec![];
                d.tags(|tag, d| {
                    seen.push(tag);
                    Ok(tag < 8 && d.i8().is_ok())
                })?;
                Ok(seen)
            })
        };
        assert_eq!(tags(&[0]), Ok(vec![]));
        assert_eq!(
            tags(&[2, 1, 1, 9, 8, 2, 9, 9]),
            Ok(vec![1, 8]),
            "8 is unknown and skipped"
        );
        assert_eq!(
            tags(&[2, 1, 1, 9, 1, 1, 9]),
            Err(Malformed::TagOrder(1)),
            "twice"
        );
        assert_eq!(
            tags(&[2, 2, 1, 9, 1, 1, 9]),
            Err(Malformed::TagOrder(1)),
            "descending"
        );
        assert_eq!(
            tags(&[1, 1, 2, 9, 9]),
            Err(Malformed::TrailingBytes(1)),
            "too long"
        );
        let truncated = Malformed::Truncated {
            needed: 2,
            remaining: 1,
        };
        assert_eq!(tags(&[1, 1, 2, 9]), Err(truncated));
    }

    #[test]
    fn a_tagged_field_does_not_read_beyond_its_size() {
        let beyond = decode(&[1, 0, 1, 9, 9, 9, 9], |d| {
            d.tags(|_, d| d.i32().map(|_| true))
        });
        assert_eq!(
            beyond,
            Err(Malformed::Truncated {
                needed: 4,
                remaining: 1
            })
        );
    }

    #[test]
    fn what_follows_a_message_is_an_error() {
        assert_eq!(
            decode(&[1, 2], |d| d.i8()),
            Err(Malformed::TrailingBytes(1))
        );
    }
}
