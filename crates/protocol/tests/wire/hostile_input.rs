//! Bytes that want to hurt: no decoder panics, and none allocates more than a multiple of the
//! input.
//!
//! Input: random bytes, huge lengths, damaged messages, and messages with as many elements in as
//! few bytes as the protocol allows. Output: what the decoders allocate, counted by the allocator.
//!
//! Invariant: at most [`ALLOCATION_FACTOR`] bytes per byte of input, plus [`CONSTANT`].

use std::hint::black_box;

use allocation_counter::measure;
use bytes::Bytes;
use proptest::prelude::*;
use skein_protocol::{ALLOCATION_FACTOR, Decoder, Message, messages};

use crate::generate::{Generator, Rng, Schemas, Shape};
use crate::round_trip;

/// What decoding may hold beside that, in bytes: the shared part of a frame's reference count.
const CONSTANT: usize = 64;

/// Decodes `frame` and returns the most bytes that were held meanwhile.
fn held_while_decoding<M: Message>(frame: &Bytes, version: i16) -> usize {
    let held = measure(|| drop(M::decode(&mut Decoder::new(frame), version)));
    held.bytes_max.try_into().unwrap()
}

fn check_bound<M: Message>(frame: &Bytes, version: i16) {
    let held = held_while_decoding::<M>(frame, version);
    let len = frame.len();
    assert!(
        held <= ALLOCATION_FACTOR * len + CONSTANT,
        "{} version {version}: {held} bytes held for {len}, {}",
        M::NAME,
        held / len.max(1)
    );
}

/// Every message, in every version.
fn check_all(frame: &Bytes) {
    macro_rules! check_message {
        ($module:ident, $name:ident) => {
            type_check::<messages::$module::$name>(frame);
        };
    }
    fn type_check<M: Message>(frame: &Bytes) {
        for version in M::VERSIONS {
            check_bound::<M>(frame, version);
        }
    }
    skein_protocol::for_each_message!(check_message);
    skein_protocol::for_each_metadata_record!(check_message);
    skein_protocol::for_each_coordinator_message!(check_message);
    skein_protocol::for_each_peer_message!(check_message);
}

#[test]
fn the_counter_counts() {
    let held = measure(|| drop(black_box(vec![0_u8; 1000])));
    assert_eq!(held.bytes_max, 1000);
}

#[test]
fn huge_lengths_in_few_bytes_cost_nothing() {
    for claim in [
        &[0x7f, 0xff, 0xff, 0xff][..],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0, 0, 0xff, 0xff],
    ] {
        for ahead in 0..24 {
            for value in [0, 1] {
                let frame = [&vec![value; ahead][..], claim].concat();
                check_all(&Bytes::from(frame));
            }
        }
    }
}

#[test]
fn the_same_byte_again_and_again_is_bounded() {
    for value in 0..=255 {
        check_all(&Bytes::from(vec![value; 300]));
    }
}

#[test]
fn many_elements_in_few_bytes_are_bounded() {
    let schemas = Schemas::load();
    macro_rules! check_message {
        ($module:ident, $name:ident) => {
            check_wide::<messages::$module::$name>(&schemas);
        };
    }
    fn check_wide<M: Message>(schemas: &Schemas) {
        for version in M::VERSIONS {
            for seed in 0..20 {
                let message = schemas.message(M::NAME);
                let shape = Shape::Wide;
                let bytes = Generator {
                    message,
                    version,
                    rng: Rng(seed),
                    shape,
                }
                .bytes();
                check_bound::<M>(&Bytes::from(bytes), version);
            }
        }
    }
    skein_protocol::for_each_message!(check_message);
    skein_protocol::for_each_metadata_record!(check_message);
    skein_protocol::for_each_coordinator_message!(check_message);
    skein_protocol::for_each_peer_message!(check_message);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_are_bounded(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check_all(&Bytes::from(bytes));
    }

    #[test]
    fn random_small_bytes_are_bounded(bytes in prop::collection::vec(0_u8..20, 0..600)) {
        check_all(&Bytes::from(bytes));
    }
}

#[test]
fn damaged_messages_are_refused_or_decode_to_something() {
    let schemas = Schemas::load();
    macro_rules! check_message {
        ($module:ident, $name:ident) => {
            check_damaged::<messages::$module::$name>(&schemas);
        };
    }
    fn check_damaged<M: Message>(schemas: &Schemas) {
        for version in M::VERSIONS {
            for seed in 0..40 {
                let message = schemas.message(M::NAME);
                let shape = Shape::Random;
                let mut bytes = Generator {
                    message,
                    version,
                    rng: Rng(seed),
                    shape,
                }
                .bytes();
                if bytes.is_empty() {
                    continue;
                }
                let mut rng = Rng(seed);
                let at = rng.below(bytes.len());
                bytes[at] = rng.next().to_le_bytes()[0];
                bytes.truncate(rng.below(bytes.len()) + 1);
                let frame = Bytes::from(bytes);
                check_bound::<M>(&frame, version);
                round_trip::check::<M>(&frame, version);
            }
        }
    }
    skein_protocol::for_each_message!(check_message);
    skein_protocol::for_each_metadata_record!(check_message);
    skein_protocol::for_each_coordinator_message!(check_message);
    skein_protocol::for_each_peer_message!(check_message);
}
