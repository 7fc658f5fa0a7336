//! Arbitrary bytes into the decoder of any message.
//!
//! Input: bytes; the first two choose the message and the version, the rest is what is decoded.
//! Output: a panic if the decoder panics, or takes what the encoder cannot give back. Shared by the
//! tests and the fuzz target.

use bytes::Bytes;
use skein_protocol::{Decoder, Encoder, Message, messages};

/// Decodes the input as the message that it chooses, and back.
pub(crate) fn check_chosen(input: &[u8]) {
    let [choice, version, rest @ ..] = input else {
        return;
    };
    let frame = Bytes::copy_from_slice(rest);
    let mut checks: Vec<fn(&Bytes, u8) -> bool> = Vec::new();
    macro_rules! collect {
        ($module:ident, $name:ident) => {
            checks.push(check_version::<messages::$module::$name>);
        };
    }
    skein_protocol::for_each_message!(collect);
    skein_protocol::for_each_metadata_record!(collect);
    skein_protocol::for_each_coordinator_message!(collect);
    skein_protocol::for_each_peer_message!(collect);
    assert!(
        checks.len() <= 256,
        "one byte must be able to choose each message"
    );
    if let Some(check) = checks.get(usize::from(*choice)) {
        check(&frame, *version);
    }
}

fn check_version<M: Message>(frame: &Bytes, version: u8) -> bool {
    let count = M::VERSIONS.end() - M::VERSIONS.start() + 1;
    check::<M>(frame, M::VERSIONS.start() + i16::from(version) % count)
}

/// What decodes can be encoded, and that decodes to the same. Says whether it decodes.
pub(crate) fn check<M: Message>(frame: &Bytes, version: i16) -> bool {
    let Some(bytes) = decode_and_encode::<M>(frame, version) else {
        return false;
    };
    // Compared as bytes, because a NaN is not equal to itself.
    let again = decode_and_encode::<M>(&bytes, version);
    assert_eq!(again, Some(bytes), "{} version {version}", M::NAME);
    true
}

fn decode_and_encode<M: Message>(frame: &Bytes, version: i16) -> Option<Bytes> {
    let message = M::decode(&mut Decoder::new(frame), version).ok()?;
    let mut e = Encoder::new();
    let encoded = message.encode(&mut e, version);
    assert_eq!(encoded, Ok(()), "{} version {version}", M::NAME);
    e.finish().into_bytes()
}
