//! Writes the types of the wire into a buffer, and leaves gaps for record data.
//!
//! Input: one value after the other. Output: [`Encoded`], the bytes with the places where record
//! data belongs between them:
//!
//! ```text
//! buf    | header, topic, partition 0 | partition 1 | the rest |
//!                                     ^             ^
//!                            External{at, slot, len}    Attachment{at, bytes}
//! ```
//!
//! Invariants: positions ascend, in each of the two lists ([`Encoder::records`] appends, nothing
//! removes); record data above [`RECORDS_INLINE_MAX_BYTES`] is never copied; the length prefix of a
//! frame counts the gaps ([`Encoder::finish_frame`]).
//!
//! Source: the Kafka protocol guide, "Protocol Primitive Types"; KIP-482 for the compact forms.

use bytes::{BufMut, Bytes, BytesMut};
use skein_types::Uuid;

use crate::{EncodeError, Message, Records, STRING_MAX_BYTES};

/// Records of at most this many bytes are copied: that is cheaper than one more part to send.
pub const RECORDS_INLINE_MAX_BYTES: usize = 512;

/// Bytes of the length in front of a frame.
const LENGTH_PREFIX_BYTES: usize = 4;

/// A message that is being written.
///
/// Methods that take `flexible` write the compact form of KIP-482 if it is set, the older form if
/// not.
#[derive(Debug, Default)]
pub struct Encoder {
    buf: BytesMut,
    externals: Vec<External>,
    attachments: Vec<Attachment>,
}

/// A message that is written, but for the record data that goes between its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// All bytes of the message except for those in the gaps.
    pub buf: Bytes,
    /// The gaps that the sender fills, in ascending order.
    pub externals: Vec<External>,
    /// The gaps that bytes in memory fill, in ascending order.
    pub attachments: Vec<Attachment>,
}

/// A gap that the sender fills, see [`Records::External`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// How many bytes of `buf` go before.
    pub at: usize,
    /// What goes into the gap.
    pub slot: u32,
    /// How many bytes that is; never 0.
    pub len: u32,
}

/// Record data in memory that was not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// How many bytes of `buf` go before.
    pub at: usize,
    /// The data.
    pub bytes: Bytes,
}

/// A piece of a message, see [`Encoded::parts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes that the sender has, see [`Records::External`].
    External {
        /// What they are.
        slot: u32,
        /// How many they are.
        len: u32,
    },
}

impl Encoder {
    /// An empty encoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty encoder with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buf: BytesMut::with_capacity(capacity),
            ..Self::default()
        }
    }

    /// An encoder that has written the length prefix of a frame, which
    /// [`finish_frame`](Self::finish_frame) fills in.
    #[must_use]
    pub fn with_length_prefix(capacity: usize) -> Self {
        let mut encoder = Self::with_capacity(LENGTH_PREFIX_BYTES + capacity);
        encoder.i32(0);
        encoder
    }

    /// Ends the encoding.
    #[must_use]
    pub fn finish(self) -> Encoded {
        let Self {
            buf,
            externals,
            attachments,
        } = self;
        Encoded {
            buf: buf.freeze(),
            externals,
            attachments,
        }
    }

    /// Ends the encoding of a frame that began with
    /// [`with_length_prefix`](Self::with_length_prefix).
    ///
    /// # Errors
    /// The frame is longer than the prefix can say.
    pub fn finish_frame(mut self) -> Result<Encoded, EncodeError> {
        let gaps = gap_bytes(&self.externals, &self.attachments);
        let length = self.buf.len() - LENGTH_PREFIX_BYTES + gaps;
        let prefix = length_i32(length)?.to_be_bytes();
        self.buf[..LENGTH_PREFIX_BYTES].copy_from_slice(&prefix);
        Ok(self.finish())
    }

    pub(crate) fn check_version<M: Message>(&self, version: i16) -> Result<(), EncodeError> {
        if M::VERSIONS.contains(&version) {
            Ok(())
        } else {
            Err(EncodeError::UnknownVersion {
                message: M::NAME,
                version,
            })
        }
    }
}

impl Encoded {
    /// Length of the message in bytes, gaps included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len() + gap_bytes(&self.externals, &self.attachments)
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message in the order of its bytes; no part is empty.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let mut externals = self.externals.iter().peekable();
        let mut attachments = self.attachments.iter().peekable();
        let mut at = 0;
        std::iter::from_fn(move || {
            // Two gaps are never at the same place: the length of each stands before it.
            let external = externals.peek().map_or(usize::MAX, |external| external.at);
            let attachment = attachments
                .peek()
                .map_or(usize::MAX, |attachment| attachment.at);
            let next = external.min(attachment).min(self.buf.len());
            if at < next {
                let bytes = self.buf.slice(at..next);
                at = next;
                Some(Part::Bytes(bytes))
            } else if external < attachment {
                let &External { slot, len, .. } = externals.next()?;
                Some(Part::External { slot, len })
            } else {
                Some(Part::Bytes(attachments.next()?.bytes.clone()))
            }
        })
    }

    /// The message as one piece, copied if record data was attached; `None` if a part is external.
    #[must_use]
    pub fn into_bytes(self) -> Option<Bytes> {
        if !self.externals.is_empty() {
            return None;
        }
        if self.attachments.is_empty() {
            return Some(self.buf);
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for part in self.parts() {
            if let Part::Bytes(bytes) = part {
                whole.extend_from_slice(&bytes);
            }
        }
        Some(whole.freeze())
    }
}

fn gap_bytes(externals: &[External], attachments: &[Attachment]) -> usize {
    let external: usize = externals.iter().map(|external| external.len as usize).sum();
    let attached: usize = attachments
        .iter()
        .map(|attachment| attachment.bytes.len())
        .sum();
    external + attached
}

/// Types of a fixed size. Integers are big-endian.
impl Encoder {
    /// One byte.
    pub fn bool(&mut self, value: bool) {
        self.buf.put_u8(u8::from(value));
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    /// Two bytes.
    pub fn i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.buf.put_u16(value);
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    /// Eight bytes.
    pub fn f64(&mut self, value: f64) {
        self.buf.put_f64(value);
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.buf.put_slice(&value.0);
    }
}

/// Types of a variable size.
impl Encoder {
    /// An unsigned integer of one to five bytes, seven bits each, the lowest first.
    pub fn varint(&mut self, value: u32) {
        let (bytes, len) = varint_bytes(value);
        self.buf.put_slice(&bytes[..len]);
    }

    /// The length of bytes or of an array; `None` for null.
    fn length(&mut self, flexible: bool, length: Option<usize>) -> Result<(), EncodeError> {
        let length = length.map_or(Ok(-1), length_i32)?;
        if flexible {
            // The compact form adds one, and zero is null.
            self.varint((length + 1).cast_unsigned());
        } else {
            self.i32(length);
        }
        Ok(())
    }

    /// A string, or null.
    ///
    /// # Errors
    /// The string is too long.
    pub fn nullable_string(
        &mut self,
        flexible: bool,
        value: Option<&str>,
    ) -> Result<(), EncodeError> {
        let length = value.map_or(0, str::len);
        match i16::try_from(length) {
            Ok(length) if !flexible => self.i16(if value.is_some() { length } else { -1 }),
            Ok(_) => self.length(true, value.map(str::len))?,
            Err(_) => return Err(EncodeError::StringTooLong(length)),
        }
        debug_assert!(length <= STRING_MAX_BYTES);
        self.buf.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// A string.
    ///
    /// # Errors
    /// The string is too long.
    pub fn string(&mut self, flexible: bool, value: &str) -> Result<(), EncodeError> {
        self.nullable_string(flexible, Some(value))
    }

    /// Bytes, or null; they are copied.
    ///
    /// # Errors
    /// There are too many.
    pub fn nullable_bytes(
        &mut self,
        flexible: bool,
        value: Option<&[u8]>,
    ) -> Result<(), EncodeError> {
        self.length(flexible, value.map(<[u8]>::len))?;
        self.buf.put_slice(value.unwrap_or_default());
        Ok(())
    }

    /// Bytes; they are copied.
    ///
    /// # Errors
    /// There are too many.
    pub fn bytes(&mut self, flexible: bool, value: &[u8]) -> Result<(), EncodeError> {
        self.nullable_bytes(flexible, Some(value))
    }

    /// Records, or null. Only a few bytes are copied; for more a gap is left.
    ///
    /// # Errors
    /// There are too many.
    pub fn records(&mut self, flexible: bool, value: Option<&Records>) -> Result<(), EncodeError> {
        self.length(flexible, value.map(Records::len))?;
        let at = self.buf.len();
        match value {
            None | Some(Records::External { len: 0, .. }) => {}
            Some(&Records::External { len, slot }) => {
                self.externals.push(External { at, slot, len });
            }
            Some(Records::Bytes(bytes)) if bytes.len() > RECORDS_INLINE_MAX_BYTES => {
                self.attachments.push(Attachment {
                    at,
                    bytes: bytes.clone(),
                });
            }
            Some(Records::Bytes(bytes)) => self.buf.put_slice(bytes),
        }
        Ok(())
    }

    /// A struct, or null: a byte says which.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn nullable<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.i8(if value.is_some() { 1 } else { -1 });
        value.map_or(Ok(()), |value| write(self, value))
    }

    /// An array, or null.
    ///
    /// # Errors
    /// There are too many elements, or those of `write`.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        elements: Option<&[T]>,
        mut write: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(flexible, elements.map(<[T]>::len))?;
        elements
            .unwrap_or_default()
            .iter()
            .try_for_each(|element| write(self, element))
    }

    /// An array.
    ///
    /// # Errors
    /// There are too many elements, or those of `write`.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        elements: &[T],
        write: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.nullable_array(flexible, Some(elements), write)
    }

    /// Begins the tagged fields of a struct (KIP-482).
    pub fn tags(&mut self) -> Tags<'_> {
        let count_at = self.buf.len();
        self.buf.put_u8(0);
        Tags {
            encoder: self,
            count_at,
        }
    }

    /// The tagged fields of a struct that has none.
    pub fn no_tags(&mut self) {
        self.buf.put_u8(0);
    }
}

/// The tagged fields of one struct, which are written in the order of their tags.
#[derive(Debug)]
pub struct Tags<'a> {
    encoder: &'a mut Encoder,
    /// Where their count stands: one byte, because no schema has more than 127 of them in a struct.
    count_at: usize,
}

impl Tags<'_> {
    /// Writes one field with its tag and size.
    ///
    /// # Errors
    /// The field is too long, or those of `write`.
    pub fn field(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Encoder) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let encoder = &mut *self.encoder;
        encoder.buf[self.count_at] += 1;
        encoder.varint(tag);
        // The size is known afterwards. Nearly always one byte holds it; if not, the field moves.
        let size_at = encoder.buf.len();
        encoder.buf.put_u8(0);
        write(encoder)?;
        let end = encoder.buf.len();
        let size = length_i32(end - size_at - 1)?.cast_unsigned();
        let (bytes, len) = varint_bytes(size);
        encoder.buf.put_bytes(0, len - 1);
        encoder.buf.copy_within(size_at + 1..end, size_at + len);
        encoder.buf[size_at..size_at + len].copy_from_slice(&bytes[..len]);
        Ok(())
    }
}

/// The encoding of a varint and its length.
fn varint_bytes(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut len = 0;
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        bytes[len] = if value == 0 { low & 0x7f } else { low | 0x80 };
        len += 1;
        if value == 0 {
            return (bytes, len);
        }
    }
}

/// A length as the wire has it: at most `i32::MAX - 1`, so that the compact form can add one.
fn length_i32(length: usize) -> Result<i32, EncodeError> {
    match i32::try_from(length) {
        Ok(length) if length < i32::MAX => Ok(length),
        _ => Err(EncodeError::TooLong(length)),
    }
}

/// Refuses a field that is set although `version` lacks it.
pub(crate) fn absent(is_set: bool, field: &'static str, version: i16) -> Result<(), EncodeError> {
    if is_set {
        Err(EncodeError::FieldNotInVersion { field, version })
    } else {
        Ok(())
    }
}

/// The value of a field that must not be null in `version`.
pub(crate) fn required<'a, T>(
    value: Option<&'a T>,
    field: &'static str,
    version: i16,
) -> Result<&'a T, EncodeError> {
    value.ok_or(EncodeError::NullNotAllowed { field, version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoder;

    fn big(byte: u8) -> Bytes {
        Bytes::from(vec![byte; RECORDS_INLINE_MAX_BYTES + 1])
    }

    #[test]
    fn gaps_are_parts_in_the_order_of_the_wire() {
        let attached = big(7);
        let mut e = Encoder::with_length_prefix(0);
        e.i8(1);
        e.records(false, Some(&Records::External { len: 1000, slot: 3 }))
            .unwrap();
        e.records(false, Some(&Records::Bytes(attached.clone())))
            .unwrap();
        e.records(false, Some(&Records::External { len: 0, slot: 4 }))
            .unwrap();
        e.records(false, None).unwrap();
        e.records(false, Some(&Records::External { len: 9, slot: 5 }))
            .unwrap();
        let encoded = e.finish_frame().unwrap();

        let length = encoded.buf.len() + 1000 + attached.len() + 9;
        assert_eq!(encoded.len(), length);
        assert_eq!(
            &encoded.buf[..4],
            u32::try_from(length - 4).unwrap().to_be_bytes()
        );
        let places: Vec<usize> = encoded
            .externals
            .iter()
            .map(|external| external.at)
            .collect();
        assert_eq!((places, encoded.attachments[0].at), (vec![9, 25], 13));

        let parts: Vec<Part> = encoded.parts().collect();
        let [
            Part::Bytes(head),
            first,
            Part::Bytes(_),
            Part::Bytes(second),
            Part::Bytes(rest),
            last,
        ] = &parts[..]
        else {
            panic!("{parts:?}");
        };
        assert_eq!(head, &encoded.buf[..9]);
        assert_eq!(first, &Part::External { slot: 3, len: 1000 });
        assert_eq!(second.as_ptr(), attached.as_ptr(), "not a copy");
        assert_eq!(
            rest,
            &encoded.buf[13..25],
            "nothing goes into a gap of no bytes"
        );
        assert_eq!(last, &Part::External { slot: 5, len: 9 });
        assert_eq!(encoded.into_bytes(), None);
    }

    #[test]
    fn attached_records_read_as_if_they_had_been_copied() {
        let records = [Bytes::new(), Bytes::from_static(b"few"), big(1), big(2)];
        for flexible in [false, true] {
            let mut e = Encoder::new();
            for bytes in &records {
                e.records(flexible, Some(&Records::from(bytes.clone())))
                    .unwrap();
            }
            let encoded = e.finish();
            assert_eq!(encoded.attachments.len(), 2, "what is small is copied");
            let whole = encoded.into_bytes().unwrap();
            let mut d = Decoder::new(&whole);
            for bytes in &records {
                assert_eq!(d.nullable_bytes(flexible).unwrap().as_ref(), Some(bytes));
            }
            d.finish().unwrap();
        }
    }

    #[test]
    fn tagged_fields_move_when_their_size_needs_more_bytes() {
        for size in [0, 1, 126, 127, 128, 16_382, 16_383, 16_384, 100_000] {
            let mut e = Encoder::new();
            e.i8(1);
            let mut tags = e.tags();
            tags.field(3, |e| e.bytes(true, &vec![5; size])).unwrap();
            tags.field(300, |e| e.string(true, "last")).unwrap();
            e.i8(2);
            let bytes = e.finish().into_bytes().unwrap();

            let mut d = Decoder::new(&bytes);
            assert_eq!(d.i8(), Ok(1));
            let mut seen = vec![];
            d.tags(|tag, d| {
                let value = if tag == 3 {
                    d.bytes(true)?
                } else {
                    d.string(true)?.into_bytes()
                };
                seen.push((tag, value));
                Ok(true)
            })
            .unwrap();
            let expected = [(3, vec![5; size]), (300, b"last".to_vec())];
            assert!(
                seen.iter()
                    .map(|(tag, value)| (*tag, value.to_vec()))
                    .eq(expected),
                "{size}"
            );
            assert_eq!(d.i8(), Ok(2));
            d.finish().unwrap();
        }
    }

    #[test]
    fn varints_are_as_short_as_they_can_be() {
        for (value, len) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (u32::MAX, 5),
        ] {
            let mut e = Encoder::new();
            e.varint(value);
            let bytes = e.finish().buf;
            assert_eq!(bytes.len(), len);
            assert_eq!(Decoder::new(&bytes).varint(), Ok(value));
        }
    }

    #[test]
    fn what_the_wire_cannot_say_is_refused() {
        let long = "x".repeat(STRING_MAX_BYTES + 1);
        for flexible in [false, true] {
            let mut e = Encoder::new();
            let refused = e.string(flexible, &long);
            assert_eq!(refused, Err(EncodeError::StringTooLong(long.len())));
            assert_eq!(e.string(flexible, &long[1..]), Ok(()));
            let huge = Records::External {
                len: u32::MAX,
                slot: 0,
            };
            let refused = e.records(flexible, Some(&huge));
            assert_eq!(refused, Err(EncodeError::TooLong(u32::MAX as usize)));
        }
    }

    #[test]
    fn a_frame_that_its_prefix_cannot_count_is_refused() {
        let mut e = Encoder::with_length_prefix(0);
        for slot in 0..2 {
            e.records(true, Some(&Records::External { len: 1 << 30, slot }))
                .unwrap();
        }
        assert!(matches!(e.finish_frame(), Err(EncodeError::TooLong(_))));
    }
}
