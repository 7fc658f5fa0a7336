//! The codec and the oracle agree on every message of every version.
//!
//! For random bytes that are a message, ours and the oracle's decoders take them, and both encoders
//! give them back. Then both encode that message in each other version: both refuse, or both give
//! the same bytes, which is the test of what may be dropped.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use skein_protocol::{Decoder, EncodeError, Encoder, Message, messages};

use crate::generate::{Generator, Rng, Schemas, Shape};

/// Random messages per API, direction and version.
const CASES: u64 = 100;

/// Versions that were unstable in Kafka 4.1 and that the oracle lacks; `golden` has bytes of them.
const UNKNOWN_TO_ORACLE: [(&str, i16); 3] = [
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("InitProducerIdRequest", 6),
];

#[test]
fn every_version_of_every_message_agrees_with_the_oracle() {
    let schemas = Schemas::load();
    macro_rules! compare_message {
        ($module:ident, $name:ident) => {
            compare::<messages::$module::$name, oracle::$name>(&schemas);
        };
    }
    skein_protocol::for_each_message!(compare_message);
}

fn compare<Ours, Oracle>(schemas: &Schemas)
where
    Ours: Message + PartialEq + Debug,
    Oracle: OracleMessage + Encodable + Decodable,
{
    for version in Ours::VERSIONS {
        for seed in 0..CASES {
            let context = format!("{} version {version} seed {seed}", Ours::NAME);
            let generate = |shape| {
                let message = schemas.message(Ours::NAME);
                let rng = Rng(seed);
                Bytes::from(
                    Generator {
                        message,
                        version,
                        rng,
                        shape,
                    }
                    .bytes(),
                )
            };
            let bytes = generate(Shape::Random);
            let ours: Ours = decode(&bytes, version, &context);
            assert_eq!(
                encode(&ours, version),
                Ok(bytes.clone()),
                "{context}: round trip"
            );
            let with_unknown_tags: Ours = decode(&generate(Shape::UnknownTags), version, &context);
            assert_eq!(
                with_unknown_tags, ours,
                "{context}: unknown tags are skipped"
            );
            if oracle_knows::<Oracle>(Ours::NAME, version) {
                compare_with_oracle::<Ours, Oracle>(schemas, &ours, &bytes, version, &context);
            }
        }
    }
}

/// Whether the oracle has that version. It lacks those that were unstable in Kafka 4.1.
fn oracle_knows<Oracle: OracleMessage>(name: &str, version: i16) -> bool {
    let known = (Oracle::VERSIONS.min..=Oracle::VERSIONS.max).contains(&version);
    assert_eq!(
        !known,
        UNKNOWN_TO_ORACLE.contains(&(name, version)),
        "{name} {version}"
    );
    known
}

fn compare_with_oracle<Ours, Oracle>(
    schemas: &Schemas,
    ours: &Ours,
    bytes: &Bytes,
    version: i16,
    context: &str,
) where
    Ours: Message + PartialEq + Debug,
    Oracle: OracleMessage + Encodable + Decodable,
{
    let mut rest = bytes.clone();
    let theirs = Oracle::decode(&mut rest, version).expect(context);
    assert!(rest.is_empty(), "{context}: the oracle reads all");
    for other in Ours::VERSIONS.filter(|&other| oracle_knows::<Oracle>(Ours::NAME, other)) {
        let theirs = encode_oracle(&theirs, other);
        match encode(ours, other) {
            // The oracle lets pass what Kafka's own encoder refuses.
            Err(EncodeError::NullNotAllowed { .. }) if theirs.is_some() => {}
            Err(EncodeError::FieldNotInVersion { field, .. })
                if theirs.is_some() && is_tagged(schemas, field) => {}
            ours => assert_eq!(ours.ok(), theirs, "{context}: as version {other}"),
        }
    }
}

/// Whether the field `Struct.field` of some message is tagged.
fn is_tagged(schemas: &Schemas, name: &str) -> bool {
    let messages = schemas.0.iter().flat_map(|schema| &schema.messages);
    let mut structs = messages.flat_map(|message| &message.structs);
    structs.any(|found| {
        let mut tagged = found.fields.iter().filter(|field| field.tag.is_some());
        tagged.any(|field| format!("{}.{}", found.name, field.name) == name)
    })
}

fn decode<M: Message>(bytes: &Bytes, version: i16, context: &str) -> M {
    let mut d = Decoder::new(bytes);
    let message = M::decode(&mut d, version).expect(context);
    d.finish().expect(context);
    message
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut e = Encoder::new();
    message.encode(&mut e, version)?;
    Ok(e.finish().into_bytes().unwrap())
}

fn encode_oracle<M: Encodable>(message: &M, version: i16) -> Option<Bytes> {
    let mut buf = BytesMut::new();
    message.encode(&mut buf, version).ok()?;
    Some(buf.freeze())
}
