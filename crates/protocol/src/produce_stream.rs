//! Decodes a Produce request while it arrives, so that its batches need not wait for its end.
//!
//! Input: the receive buffer of a connection, which may hold a part of the request's body, or all
//! of it and the next requests. Output: [`Item`]s in the order of the wire, and the records of each
//! partition as a part of the receive buffer, without a copy.
//!
//! ```text
//! Head ──► Topic ──► Partition ──► records ──► tags ──┐
//!            ▲           ▲                            │
//!            │           └─────── next partition ─────┤
//!            └────────── tags ◄── no more partitions ─┘     no more topics ──► tags ──► End
//! ```
//!
//! Invariants:
//! - nothing behind the body is looked at or consumed ([`Decoder::of_arriving`]);
//! - apart from records, at most [`PIECE_MAX_BYTES`] have to be in the buffer at once, and no step
//!   is tried again before what it lacked has arrived;
//! - the result is that of decoding the whole [`ProduceRequest`], for every way of cutting it
//!   (`tests/wire/produce_stream.rs`).
//!
//! Source: API 0 of the Kafka protocol guide, versions 3 to 13.

use bytes::{Buf as _, BytesMut};
use skein_types::Uuid;

use crate::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::{DecodeError, Decoder, Malformed, Message as _, STRING_MAX_BYTES, Str};

/// Most bytes that the buffer must hold for the next item: the longest string and what is around
/// it.
pub const PIECE_MAX_BYTES: usize = STRING_MAX_BYTES + 64;

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;
/// First version with compact encodings and tagged fields.
const FLEXIBLE_VERSION: i16 = 9;

/// What has arrived of a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// What is said once, before the topics.
    Head {
        /// The transaction's id, if the producer has one.
        transactional_id: Option<Str>,
        /// How many replicas must have the records: 0, 1, or −1 for all in sync.
        acks: i16,
        /// How long the producer waits for them, in milliseconds.
        timeout_ms: i32,
    },
    /// The topic of the partitions that follow.
    Topic {
        /// Its name, empty from version 13.
        name: Str,
        /// Its id, zero before version 13.
        topic_id: Uuid,
    },
    /// A partition. Its records are next: [take](ProduceStream::take_records) or
    /// [skip](ProduceStream::skip_records) them.
    Partition {
        /// Index of the partition.
        index: i32,
        /// Length of the records in bytes; `None` for null, where there is nothing to take.
        records_len: Option<u32>,
    },
    /// The request is complete, and nothing of its body is left in the buffer.
    End,
}

/// Decoder of the body of one Produce request.
#[derive(Debug)]
pub struct ProduceStream {
    version: i16,
    state: State,
    topics_left: usize,
    /// Of the topic that is being read.
    partitions_left: usize,
    /// Bytes of the body that were consumed, and that were not.
    position: usize,
    body_left: usize,
    /// See [`ProduceStream::needed`].
    needed: usize,
}

/// What comes next on the wire.
#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Topic,
    Partition,
    /// Records that the caller has neither taken nor skipped.
    Records {
        len: usize,
    },
    Tags(Tags),
    /// Bytes to drop as they arrive, ahead of tagged fields.
    Discard {
        left: usize,
        tags: Tags,
    },
    End,
}

/// The tagged fields of a struct, none of which Produce knows.
#[derive(Clone, Copy, Debug)]
struct Tags {
    owner: Owner,
    /// How many are still to come; `None` before their number has arrived.
    left: Option<u32>,
    /// The next tag is at least this.
    next_tag: u64,
}

/// The struct that tagged fields belong to.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Partition,
    Topic,
    Request,
}

impl Tags {
    fn of(owner: Owner) -> Self {
        Self {
            owner,
            left: None,
            next_tag: 0,
        }
    }
}

impl ProduceStream {
    /// A decoder of a body of `body_len` bytes: the frame without its length prefix and header.
    ///
    /// # Errors
    /// There is no such version.
    pub fn new(version: i16, body_len: usize) -> Result<Self, DecodeError> {
        if !ProduceRequest::VERSIONS.contains(&version) {
            let reason = Malformed::UnknownVersion(version);
            return Err(DecodeError { at: 0, reason });
        }
        Ok(Self {
            version,
            state: State::Head,
            topics_left: 0,
            partitions_left: 0,
            position: 0,
            body_left: body_len,
            needed: 1,
        })
    }

    /// How many bytes `buf` must hold at least before [`next`](Self::next), or
    /// [`take_records`](Self::take_records) after a partition, can get any further.
    ///
    /// It is a lower bound: with that many bytes the next step may find that it needs more.
    #[must_use]
    pub fn needed(&self) -> usize {
        match self.state {
            State::End => self.body_left.min(1),
            State::Records { len } => len,
            State::Discard { left: 0, .. } => 0,
            _ => self.needed.min(self.body_left),
        }
    }

    /// Bytes of the body that are not consumed yet.
    #[must_use]
    pub fn body_left(&self) -> usize {
        self.body_left
    }

    /// The next item, taken off the front of `buf`; `None` if more bytes have to arrive first.
    /// Records that were not taken are skipped. After [`Item::End`] it stays at the end.
    ///
    /// # Errors
    /// The body is not a Produce request. The connection cannot go on.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        loop {
            match self.state {
                State::Head => return self.head(buf),
                State::Topic => return self.topic(buf),
                State::Partition => return self.partition(buf),
                State::End => return Ok(self.end(buf)),
                State::Tags(tags) => {
                    let Some(next) = self.tags(buf, tags)? else {
                        return Ok(None);
                    };
                    self.state = next;
                }
                State::Discard { left, tags } => {
                    let arrived = left.min(buf.len());
                    buf.advance(arrived);
                    self.consumed(arrived);
                    if arrived < left {
                        let left = left - arrived;
                        self.state = State::Discard { left, tags };
                        return Ok(None);
                    }
                    self.state = State::Tags(tags);
                }
                State::Records { .. } => self.skip_records(),
            }
        }
    }

    /// The records of the partition that [`next`](Self::next) returned, split off the front of
    /// `buf` without a copy. `None` if they have not all arrived, or if there are none to take.
    pub fn take_records(&mut self, buf: &mut BytesMut) -> Option<BytesMut> {
        match self.state {
            State::Records { len } if len <= buf.len() => {
                self.consumed(len);
                self.state = State::Tags(Tags::of(Owner::Partition));
                Some(buf.split_to(len))
            }
            _ => None,
        }
    }

    /// Gives up the records of the partition that [`next`](Self::next) returned. The following
    /// calls of [`next`](Self::next) drop them as they arrive, in pieces of any size.
    pub fn skip_records(&mut self) {
        if let State::Records { len: left } = self.state {
            self.state = State::Discard {
                left,
                tags: Tags::of(Owner::Partition),
            };
        }
    }
}

/// The pieces that are decoded at once.
impl ProduceStream {
    fn head(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        let flexible = self.is_flexible();
        let head = self.piece(buf, |d| {
            let head = Item::Head {
                transactional_id: d.nullable_string(flexible)?,
                acks: d.i16()?,
                timeout_ms: d.i32()?,
            };
            Ok((head, d.array_count(flexible, TopicProduceData::MIN_SIZE)?))
        })?;
        Ok(head.map(|(head, topics)| {
            self.topics_left = topics;
            self.state = self.after(Owner::Topic);
            head
        }))
    }

    fn topic(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        let flexible = self.is_flexible();
        let has_id = self.version >= TOPIC_ID_VERSION;
        let topic = self.piece(buf, |d| {
            let (name, topic_id) = if has_id {
                (Str::default(), d.uuid()?)
            } else {
                (d.string(flexible)?, Uuid::ZERO)
            };
            let partitions = d.array_count(flexible, PartitionProduceData::MIN_SIZE)?;
            Ok((Item::Topic { name, topic_id }, partitions))
        })?;
        Ok(topic.map(|(topic, partitions)| {
            self.topics_left -= 1;
            self.partitions_left = partitions;
            self.state = self.after(Owner::Partition);
            topic
        }))
    }

    fn partition(&mut self, buf: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        let flexible = self.is_flexible();
        let partition = self.piece(buf, |d| {
            let index = d.i32()?;
            let len = d.length(flexible)?;
            d.check_room(len.unwrap_or(0))?;
            Ok((index, len))
        })?;
        Ok(partition.map(|(index, len)| {
            self.partitions_left -= 1;
            self.state = match len {
                Some(len) => State::Records { len },
                None => State::Tags(Tags::of(Owner::Partition)),
            };
            let records_len = len.map(|len| u32::try_from(len).unwrap_or(u32::MAX));
            Item::Partition { index, records_len }
        }))
    }

    /// One step through tagged fields, which are read one by one so that they need no room.
    fn tags(&mut self, buf: &mut BytesMut, tags: Tags) -> Result<Option<State>, DecodeError> {
        let Tags {
            owner,
            left,
            next_tag,
        } = tags;
        match left {
            _ if !self.is_flexible() => Ok(Some(self.after(owner))),
            Some(0) => Ok(Some(self.after(owner))),
            None => {
                let count = self.piece(buf, |d| d.varint())?;
                Ok(count.map(|count| {
                    State::Tags(Tags {
                        left: Some(count),
                        ..tags
                    })
                }))
            }
            Some(left) => {
                let field = self.piece(buf, |d| {
                    let tag = d.ascending_tag(next_tag)?;
                    let size = d.varint()? as usize;
                    d.check_room(size)?;
                    Ok((tag, size))
                })?;
                Ok(field.map(|(tag, size)| {
                    let next_tag = u64::from(tag) + 1;
                    let tags = Tags {
                        owner,
                        left: Some(left - 1),
                        next_tag,
                    };
                    State::Discard { left: size, tags }
                }))
            }
        }
    }

    /// What follows a struct: the next of its kind, or the tagged fields of what contains it.
    fn after(&self, owner: Owner) -> State {
        match owner {
            Owner::Partition if self.partitions_left > 0 => State::Partition,
            Owner::Partition => State::Tags(Tags::of(Owner::Topic)),
            Owner::Topic if self.topics_left > 0 => State::Topic,
            Owner::Topic => State::Tags(Tags::of(Owner::Request)),
            Owner::Request => State::End,
        }
    }

    /// Drops what follows the message in its frame. Kafka lets it pass, and clients have come to
    /// leave bytes there.
    fn end(&mut self, buf: &mut BytesMut) -> Option<Item> {
        let arrived = self.body_left.min(buf.len());
        buf.advance(arrived);
        self.consumed(arrived);
        (self.body_left == 0).then_some(Item::End)
    }

    /// Decodes a piece and takes it off `buf`; `None`, and nothing consumed, if it has not all
    /// arrived.
    fn piece<T>(
        &mut self,
        buf: &mut BytesMut,
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if buf.len() < self.needed.min(self.body_left) {
            return Ok(None);
        }
        let mut d = Decoder::of_arriving(buf, self.body_left);
        match read(&mut d) {
            Ok(value) => {
                let len = d.position();
                buf.advance(len);
                self.consumed(len);
                Ok(Some(value))
            }
            Err(DecodeError {
                at,
                reason: Malformed::Truncated { needed, .. },
            }) if at + needed <= self.body_left => {
                self.needed = at + needed;
                Ok(None)
            }
            Err(DecodeError { at, reason }) => {
                let at = self.position + at;
                Err(DecodeError { at, reason })
            }
        }
    }

    fn consumed(&mut self, len: usize) {
        self.position += len;
        self.body_left -= len;
        self.needed = 1;
    }

    fn is_flexible(&self) -> bool {
        self.version >= FLEXIBLE_VERSION
    }
}
