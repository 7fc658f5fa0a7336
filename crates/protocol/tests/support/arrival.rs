//! A Produce request that arrives in pieces.
//!
//! Input: the body of a request, good or bad, and the sizes of the pieces in which it arrives.
//! Output: a panic if [`ProduceStream`] makes of it anything but what the decoder of the whole
//! makes of it. Shared by the tests and the fuzz target.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use skein_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use skein_protocol::{
    DecodeError, Decoder, Item, Message, PIECE_MAX_BYTES, ProduceStream, Records,
};

/// What follows the body in the receive buffer; it looks like nothing that Produce could use.
const NEXT_REQUEST: &[u8] = &[0xee; 40];

/// What the caller does with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Take,
    Skip,
    /// Go on without a word.
    Forget,
}

/// Checks the body behind the first two bytes, which choose the version, the pieces and the fate.
pub(crate) fn check_chosen(input: &[u8]) {
    let [choice, piece, body @ ..] = input else {
        return;
    };
    let version = 3 + i16::from(choice % 11);
    let fate = [Fate::Take, Fate::Skip, Fate::Forget][usize::from(choice / 11 % 3)];
    check(body, version, fate, |_| usize::from(*piece));
}

/// Both decoders agree: the same request, or an error at both.
pub(crate) fn check(body: &[u8], version: i16, fate: Fate, piece: impl FnMut(usize) -> usize) {
    let expected = whole(body, version).map(|request| match fate {
        Fate::Take => request,
        _ => without_records(request),
    });
    let arrived = arrive(body, version, fate, piece);
    match (&expected, &arrived) {
        (Err(_), Err(_)) => {}
        _ => assert_eq!(arrived, expected, "version {version} {fate:?} {body:?}"),
    }
}

pub(crate) fn whole(body: &[u8], version: i16) -> Result<ProduceRequest, DecodeError> {
    let frame = Bytes::copy_from_slice(body);
    let mut d = Decoder::new(&frame);
    let request = ProduceRequest::decode(&mut d, version)?;
    Ok(request)
}

/// Decodes `body`, which arrives in pieces of the sizes that `piece` gives for what is missing.
pub(crate) fn arrive(
    body: &[u8],
    version: i16,
    fate: Fate,
    piece: impl FnMut(usize) -> usize,
) -> Result<ProduceRequest, DecodeError> {
    let sent = [body, NEXT_REQUEST].concat();
    // One allocation for all of it, so that a copy of records would show.
    let buf = BytesMut::with_capacity(sent.len());
    let start = buf.as_ptr() as usize;
    let stream = ProduceStream::new(version, body.len())?;
    let memory = start..start + sent.len();
    let mut arrival = Arrival {
        stream,
        buf,
        unsent: &sent,
        memory,
        piece,
        generous: false,
    };
    let mut request = ProduceRequest::default();
    loop {
        match arrival.next_item()? {
            Item::Head {
                transactional_id,
                acks,
                timeout_ms,
            } => {
                request = ProduceRequest {
                    transactional_id,
                    acks,
                    timeout_ms,
                    topic_data: vec![],
                };
            }
            Item::Topic { name, topic_id } => {
                let topic = TopicProduceData {
                    name,
                    topic_id,
                    partition_data: vec![],
                };
                request.topic_data.push(topic);
            }
            Item::Partition { index, records_len } => {
                let records = arrival.decide(fate, records_len).map(Records::Bytes);
                let topic = request.topic_data.last_mut().expect("a topic came before");
                topic
                    .partition_data
                    .push(PartitionProduceData { index, records });
            }
            Item::End => break,
        }
    }
    arrival.check_end();
    Ok(request)
}

/// A decoder with its receive buffer.
struct Arrival<'a, F> {
    stream: ProduceStream,
    buf: BytesMut,
    unsent: &'a [u8],
    /// Addresses of the receive buffer.
    memory: Range<usize>,
    piece: F,
    /// Whether ever more arrived than was asked for.
    generous: bool,
}

impl<F: FnMut(usize) -> usize> Arrival<'_, F> {
    fn next_item(&mut self) -> Result<Item, DecodeError> {
        loop {
            match self.stream.next(&mut self.buf)? {
                Some(item) => {
                    assert!(self.generous || self.buf.is_empty(), "it asks for too much");
                    return Ok(item);
                }
                None => {
                    assert!(self.stream.needed() <= PIECE_MAX_BYTES);
                    self.receive();
                }
            }
        }
    }

    /// Lets the next piece arrive.
    fn receive(&mut self) {
        let missing = self.stream.needed().saturating_sub(self.buf.len());
        assert!(missing > 0, "it stopped although it had what it needs");
        assert!(
            self.unsent.len() >= missing + NEXT_REQUEST.len(),
            "it asks beyond its body"
        );
        let len = (self.piece)(missing).clamp(1, self.unsent.len());
        self.generous |= len > missing;
        let (arriving, unsent) = self.unsent.split_at(len);
        self.buf.put_slice(arriving);
        self.unsent = unsent;
    }

    /// Takes the records, or does not.
    fn decide(&mut self, fate: Fate, records_len: Option<u32>) -> Option<Bytes> {
        if fate == Fate::Skip {
            self.stream.skip_records();
        }
        if fate != Fate::Take {
            return None;
        }
        let len = records_len? as usize;
        let records = loop {
            match self.stream.take_records(&mut self.buf) {
                Some(records) => break records,
                None => self.receive(),
            }
        };
        assert_eq!(records.len(), len);
        let start = records.as_ptr() as usize;
        assert!(
            records.is_empty() || self.memory.contains(&start),
            "records are not copied"
        );
        Some(records.freeze())
    }

    fn check_end(&mut self) {
        assert_eq!((self.stream.body_left(), self.stream.needed()), (0, 0));
        assert_eq!(
            self.stream.next(&mut self.buf),
            Ok(Some(Item::End)),
            "it stays at the end"
        );
        self.buf.put_slice(self.unsent);
        assert_eq!(self.buf, NEXT_REQUEST, "the next request is untouched");
    }
}

fn without_records(mut request: ProduceRequest) -> ProduceRequest {
    for topic in &mut request.topic_data {
        for partition in &mut topic.partition_data {
            partition.records = None;
        }
    }
    request
}
