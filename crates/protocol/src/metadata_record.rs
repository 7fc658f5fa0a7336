//! A record of Kafka's metadata log, with the frame around it.
//!
//! Input: the value of a record in `__cluster_metadata`. Output: the message in it; and the way
//! back, for tests and tools.
//!
//! ```text
//!   frame version, varint: 1 │ record key, varint │ record version, varint │ message, flexible
//! ```
//!
//! Invariant: nothing but the message follows the frame, and a key or version that the schemas do
//! not have is an error of its own, because who takes metadata over must not lose any.
//!
//! Source: KIP-631; `MetadataRecordSerde` of Kafka 4.1.1.

use bytes::Bytes;
use thiserror::Error;

use crate::messages;
use crate::{DecodeError, Decoder, EncodeError, Encoder, Message as _};

/// The only version of the frame.
const FRAME_VERSION: u32 = 1;

/// Bytes that are no metadata record that is known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetadataRecordError {
    /// The frame is of the future, or garbage.
    #[error("frame version {version} of a metadata record is unknown")]
    Frame {
        /// Its version.
        version: u32,
    },
    /// The frame is known, what is in it is not.
    #[error("metadata record {key} version {version} is unknown")]
    Unknown {
        /// Number of the record's type.
        key: u32,
        /// Version of the record.
        version: u32,
    },
    /// The message is broken.
    #[error("a broken metadata record: {0}")]
    Broken(#[from] DecodeError),
}

macro_rules! metadata_records {
    ($($key:literal $module:ident $variant:ident $name:ident;)*) => {
        /// One record of Kafka's metadata log.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // the names are the documentation: they are Kafka's
        pub enum MetadataRecord {
            $($variant(messages::$module::$name),)*
        }

        impl MetadataRecord {
            fn decode_message(
                key: u32,
                version: i16,
                d: &mut Decoder<'_>,
            ) -> Result<Option<Self>, DecodeError> {
                Ok(match key {
                    $($key if messages::$module::$name::VERSIONS.contains(&version) => {
                        Some(Self::$variant(messages::$module::$name::decode(d, version)?))
                    })*
                    _ => None,
                })
            }

            /// Kafka's number of the record's type.
            #[must_use]
            pub const fn key(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $key,)*
                }
            }

            /// Kafka's name of the record's type, such as `PartitionRecord`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => messages::$module::$name::NAME,)*
                }
            }

            fn encode_message(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant(record) => record.encode(e, version),)*
                }
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/metadata_record.rs"));

impl MetadataRecord {
    /// The record in `frame`, and nothing behind it.
    ///
    /// # Errors
    /// [`MetadataRecordError`].
    pub fn decode(frame: &Bytes) -> Result<Self, MetadataRecordError> {
        let mut d = Decoder::new(frame);
        match d.varint()? {
            FRAME_VERSION => {}
            version => return Err(MetadataRecordError::Frame { version }),
        }
        let (key, version) = (d.varint()?, d.varint()?);
        let known = i16::try_from(version).unwrap_or(i16::MAX);
        let record = Self::decode_message(key, known, &mut d)?
            .ok_or(MetadataRecordError::Unknown { key, version })?;
        d.finish()?;
        Ok(record)
    }

    /// The record's frame, in this version of it.
    ///
    /// # Errors
    /// There is no such version, or it cannot carry this value.
    pub fn encode(&self, version: u8) -> Result<Bytes, EncodeError> {
        let mut message = Encoder::new();
        self.encode_message(&mut message, version.into())?;
        // Keys and versions are below 128: one byte of a varint each.
        let key = u8::try_from(self.key()).unwrap_or(u8::MAX);
        let head = [1, key, version];
        let message = message.finish().into_bytes().unwrap_or_default();
        Ok([&head[..], &message].concat().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::metadata_records::{NoOpRecord, TopicRecord};

    #[test]
    fn a_frame_is_read_whole_and_strangers_are_named() {
        let topic = MetadataRecord::Topic(TopicRecord {
            name: "t".into(),
            topic_id: skein_types::Uuid([7; 16]),
        });
        let frame = topic.encode(0).unwrap();
        assert_eq!(&frame[..5], [1, 2, 0, 2, b't']);
        assert_eq!(MetadataRecord::decode(&frame), Ok(topic));
        let decode = |bytes: &'static [u8]| MetadataRecord::decode(&Bytes::from_static(bytes));
        let no_op = MetadataRecord::NoOp(NoOpRecord::default());
        assert_eq!((no_op.key(), no_op.name()), (20, "NoOpRecord"));
        assert_eq!(decode(&[1, 20, 0, 0]), Ok(no_op));
        assert_eq!(
            decode(&[0, 20, 0, 0]),
            Err(MetadataRecordError::Frame { version: 0 })
        );
        for (bytes, key, version) in [
            (&[1, 20, 1, 0][..], 20, 1),
            (&[1, 6, 0, 0], 6, 0),
            (&[1, 20, 0xff, 0xff, 0x7f], 20, 2_097_151),
        ] {
            assert_eq!(
                decode(bytes),
                Err(MetadataRecordError::Unknown { key, version })
            );
        }
        for broken in [&[][..], &[1], &[1, 20], &[1, 20, 0], &[1, 20, 0, 0, 0]] {
            assert!(matches!(
                decode(broken),
                Err(MetadataRecordError::Broken(_))
            ));
        }
    }
}
