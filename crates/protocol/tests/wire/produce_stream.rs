//! A Produce request that arrives in pieces decodes to what it decodes to as a whole.
//!
//! Requests are random, in every version; some are damaged. They are cut in every place, fed byte
//! by byte, fed with exactly what the decoder asks for, and followed by bytes of the next request.

use bytes::BytesMut;
use proptest::prelude::*;
use skein_protocol::messages::produce::{ProduceRequest, TopicProduceData};
use skein_protocol::{Encoder, Item, Malformed, Message, ProduceStream, STRING_MAX_BYTES, Str};

use crate::arrival::{Fate, arrive, check, whole};
use crate::generate::{Generator, Rng, Schemas, Shape};

fn random_body(schemas: &Schemas, version: i16, seed: u64) -> Vec<u8> {
    let message = schemas.message(ProduceRequest::NAME);
    let shape = [Shape::UnknownTags, Shape::Random][usize::from(seed % 2 == 1)];
    Generator {
        message,
        version,
        rng: Rng(seed),
        shape,
    }
    .bytes()
}

#[test]
fn every_cut_gives_the_same_request() {
    let schemas = Schemas::load();
    for version in ProduceRequest::VERSIONS {
        for seed in 0..40 {
            let body = random_body(&schemas, version, seed);
            for records in [Fate::Take, Fate::Skip, Fate::Forget] {
                check(&body, version, records, |_| usize::MAX);
                check(&body, version, records, |_| 1);
                check(&body, version, records, |missing| missing);
            }
            for cut in 1..body.len() {
                let mut first = Some(cut);
                check(&body, version, Fate::Take, |_| {
                    first.take().unwrap_or(usize::MAX)
                });
            }
        }
    }
}

#[test]
fn nothing_is_tried_twice() {
    // Fed with exactly what it asks for, the decoder asks at most once for each value, and for each
    // byte of a varint: no more than eight times for a piece.
    let schemas = Schemas::load();
    for version in ProduceRequest::VERSIONS {
        for seed in (1..40).step_by(2) {
            let body = random_body(&schemas, version, seed);
            let request = whole(&body, version).unwrap();
            let partitions: usize = request
                .topic_data
                .iter()
                .map(|topic| topic.partition_data.len())
                .sum();
            let pieces = 2 + 2 * request.topic_data.len() + 3 * partitions;
            let mut asked = 0;
            arrive(&body, version, Fate::Take, |missing| {
                asked += 1;
                missing
            })
            .unwrap();
            assert!(asked <= 8 * pieces, "{asked} times for {pieces} pieces");
        }
    }
}

proptest! {
    #[test]
    fn damaged_requests_fail_as_a_whole_does(
        seed in 0_u64..200,
        version in 3_i16..=13,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(),
        truncated in any::<bool>(),
        pieces in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let mut body = random_body(&Schemas::load(), version, seed);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if truncated {
            body.truncate(cut.index(body.len()));
        }
        for records in [Fate::Take, Fate::Skip] {
            let mut sizes = pieces.iter().copied().cycle();
            check(&body, version, records, |_| sizes.next().unwrap());
        }
    }
}

#[test]
fn a_piece_never_needs_more_than_its_limit() {
    // A name that claims to be as long as the frame is refused before it is waited for.
    let body_len = 100 << 20;
    let mut head = BytesMut::from(&[0, 0, 1, 0, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0x0f][..]);
    let mut stream = ProduceStream::new(9, body_len).unwrap();
    assert!(matches!(
        stream.next(&mut head),
        Ok(Some(Item::Head { .. }))
    ));
    let error = stream.next(&mut head).unwrap_err();
    assert!(
        matches!(error.reason, Malformed::StringTooLong(_)),
        "{error}"
    );
    assert_eq!(error.at, 12);
}

#[test]
fn the_longest_strings_fit_in_a_piece() {
    let longest = Str::from("x".repeat(STRING_MAX_BYTES));
    let topic = TopicProduceData {
        name: longest.clone(),
        ..Default::default()
    };
    let request = ProduceRequest {
        transactional_id: Some(longest),
        topic_data: vec![topic],
        ..Default::default()
    };
    for version in [3, 12] {
        let mut e = Encoder::new();
        request.encode(&mut e, version).unwrap();
        let body = e.finish().into_bytes().unwrap();
        assert_eq!(
            arrive(&body, version, Fate::Take, |missing| missing),
            Ok(request.clone())
        );
    }
}

#[test]
fn versions_that_were_removed_are_refused() {
    for version in [2, 14] {
        let error = ProduceStream::new(version, 10).unwrap_err();
        assert_eq!(error.reason, Malformed::UnknownVersion(version));
    }
}

#[test]
fn tagged_fields_are_checked_as_in_a_whole_request() {
    // A request without topics, of version 9: no transaction, acks, timeout, no topics, then tags.
    for (tags, is_good) in [
        (&[0][..], true),
        (&[2, 5, 1, 9, 6, 0], true),
        (&[2, 5, 1, 9, 5, 0], false),
        (&[2, 5, 1, 9, 4, 0], false),
        (&[1, 5, 2, 9], false),
        (&[2, 5, 1, 9], false),
        // What follows the message in its frame is let pass, as Kafka lets it pass.
        (&[0, 9], true),
    ] {
        let body = [&[0, 0, 1, 0, 0, 0, 0, 1], tags].concat();
        assert_eq!(whole(&body, 9).is_ok(), is_good, "{tags:?}");
        for piece in [1, 2, usize::MAX] {
            check(&body, 9, Fate::Take, |_| piece);
        }
    }
}
