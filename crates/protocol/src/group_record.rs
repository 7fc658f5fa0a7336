//! The records of `__consumer_offsets` that the classic group protocol and commits need.
//!
//! Input: the key and the value of a record. Output: the messages in them; and the way back.
//!
//! ```text
//!   key    version, i16: it names the type │ message     0, 1  OffsetCommitKey
//!   value  version, i16                    │ message     2     GroupMetadataKey
//! ```
//!
//! A record without a value is a tombstone: what its key names is gone.
//!
//! What follows a message is let pass, as Kafka does; a value of a version that is not known is not
//! read.
//!
//! Invariant: a key of a type that is not known here is an error of its own: Kafka has more of them
//! (3 to 8 for its newer groups, 9 to 15 for share groups), and whoever reads a log of Kafka's
//! decides what they mean to it.
//!
//! Source: `GroupCoordinatorRecordSerde` and `GroupCoordinatorRecordHelpers` of Kafka 4.1.1, whose
//! versions these are: of groups the last inflexible one (KIP-915), of commits the next one, which
//! has room for the topic's id. A commit that says when it expires has version 1, which alone can.

use bytes::Bytes;
use thiserror::Error;

use crate::messages::coordinator_records::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use crate::{DecodeError, Decoder, EncodeError, Encoder, Message};

/// Key versions up to this one are of commits; both have the same fields.
const OFFSET_COMMIT_KEY_LAST: i16 = 1;
const GROUP_METADATA_KEY: i16 = 2;

const OFFSET_COMMIT_VALUE: i16 = 4;
const OFFSET_COMMIT_VALUE_THAT_EXPIRES: i16 = 1;
const GROUP_METADATA_VALUE: i16 = 3;

/// A record of a group coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    /// An offset was committed, or with `None` is no more.
    OffsetCommit(OffsetCommitKey, Option<OffsetCommitValue>),
    /// A group is now like this, or with `None` is no more.
    GroupMetadata(GroupMetadataKey, Option<GroupMetadataValue>),
}

/// Bytes that are no record that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GroupRecordError {
    /// The key is of another type: of a newer kind of group, or of the future.
    #[error("a record of a coordinator of the unknown type {0}")]
    UnknownType(i16),
    /// The type is known, what is in it is not.
    #[error("a broken record of a coordinator, of type {record_type}: {source}")]
    Broken {
        /// What the key says it is.
        record_type: i16,
        /// What is wrong.
        source: DecodeError,
    },
}

impl GroupRecord {
    /// The record of this key and value.
    ///
    /// # Errors
    /// [`GroupRecordError`].
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Self, GroupRecordError> {
        let mut d = Decoder::new(key);
        let record_type = d.i16().map_err(|source| GroupRecordError::Broken {
            record_type: -1,
            source,
        })?;
        let result = match record_type {
            0..=OFFSET_COMMIT_KEY_LAST => decode_pair(d, record_type, value)
                .map(|(key, value)| Self::OffsetCommit(key, value)),
            GROUP_METADATA_KEY => decode_pair(d, record_type, value)
                .map(|(key, value)| Self::GroupMetadata(key, value)),
            unknown => return Err(GroupRecordError::UnknownType(unknown)),
        };
        result.map_err(|source| GroupRecordError::Broken {
            record_type,
            source,
        })
    }

    /// The key and the value of the record.
    ///
    /// # Errors
    /// A string or bytes in it are too long for the format.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Self::OffsetCommit(key, value) => {
                let value = value.as_ref().map(|value| match value.expire_timestamp {
                    -1 => with_version(value, OFFSET_COMMIT_VALUE),
                    _ => with_version(value, OFFSET_COMMIT_VALUE_THAT_EXPIRES),
                });
                Ok((
                    with_version(key, OFFSET_COMMIT_KEY_LAST)?,
                    value.transpose()?,
                ))
            }
            Self::GroupMetadata(key, value) => {
                let value = value
                    .as_ref()
                    .map(|value| with_version(value, GROUP_METADATA_VALUE));
                Ok((with_version(key, GROUP_METADATA_KEY)?, value.transpose()?))
            }
        }
    }
}

/// The rest of the key, and the value.
fn decode_pair<K: Message, V: Message>(
    mut d: Decoder<'_>,
    key_version: i16,
    value: Option<&Bytes>,
) -> Result<(K, Option<V>), DecodeError> {
    let key = K::decode(&mut d, key_version)?;
    let Some(value) = value else {
        return Ok((key, None));
    };
    let mut d = Decoder::new(value);
    let version = d.i16()?;
    let value = V::decode(&mut d, version)?;
    Ok((key, Some(value)))
}

fn with_version<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut e = Encoder::new();
    e.i16(version);
    message.encode(&mut e, version)?;
    // There is no record data in it, so that its bytes are one piece.
    Ok(e.finish().into_bytes().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_and_garbage_are_told_apart() {
        let decode = |key: &'static [u8], value: Option<&'static [u8]>| {
            let value = value.map(Bytes::from_static);
            GroupRecord::decode(&Bytes::from_static(key), value.as_ref())
        };
        for unknown in [3_u8, 15, 100] {
            let key = Bytes::copy_from_slice(&[0, unknown, 0xff]);
            assert_eq!(
                GroupRecord::decode(&key, None),
                Err(GroupRecordError::UnknownType(unknown.into()))
            );
        }
        assert_eq!(
            decode(&[0xff, 0xff], None),
            Err(GroupRecordError::UnknownType(-1))
        );
        for (key, value) in [
            (&[][..], None),
            (&[0], None),
            (&[0, 2], None),
            (&[0, 2, 0, 1], None),
            (&[0, 2, 0, 1, b'g'], Some(&[][..])),
            (&[0, 2, 0, 1, b'g'], Some(&[0, 5])),
            (&[0, 2, 0, 1, b'g'], Some(&[0, 3, 0])),
        ] {
            let error = decode(key, value).unwrap_err();
            assert!(matches!(error, GroupRecordError::Broken { .. }), "{error}");
        }
        assert!(decode(&[0, 2, 0, 1, b'g'], None).is_ok());
        // Kafka does not look at what is left either.
        assert!(decode(&[0, 2, 0, 1, b'g', 0], None).is_ok());
    }
}
