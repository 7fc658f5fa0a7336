//! The corpus of the fuzz targets, replayed without a fuzzer.
//!
//! `fuzz/corpus/<target>/` holds one input per file. `cargo test -p skein-protocol -- --ignored
//! corpus` writes the seeds again; whatever a fuzzer finds is added by hand under a name that says
//! what it is.

use std::fs;
use std::path::PathBuf;

use skein_protocol::messages::produce::ProduceRequest;
use skein_protocol::{Message, messages};

use crate::generate::{Generator, Rng, Schemas, Shape};
use crate::{arrival, round_trip};

fn directory(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target]
        .iter()
        .collect()
}

fn replay(target: &str, check: fn(&[u8])) {
    let files = fs::read_dir(directory(target)).unwrap();
    let inputs = files.map(|file| fs::read(file.unwrap().path()).unwrap());
    let count = inputs.inspect(|input| check(input)).count();
    assert!(count > 0, "an empty corpus");
}

#[test]
fn the_corpus_of_decode_is_harmless() {
    replay("decode", round_trip::check_chosen);
}

#[test]
fn the_corpus_of_produce_stream_is_harmless() {
    replay("produce_stream", arrival::check_chosen);
}

/// Seeds: the newest version of each message, and each version of a Produce request.
#[test]
#[ignore = "writes into the source tree"]
fn write_corpus() {
    let schemas = Schemas::load();
    let seed = |name: &str, version, rng| {
        let message = schemas.message(name);
        Generator {
            message,
            version,
            rng: Rng(rng),
            shape: Shape::Random,
        }
        .bytes()
    };
    let write = |target: &str, name: String, head: [u8; 2], body: &[u8]| {
        fs::create_dir_all(directory(target)).unwrap();
        fs::write(directory(target).join(name), [&head, body].concat()).unwrap();
    };
    let mut all = Vec::new();
    macro_rules! collect {
        ($module:ident, $name:ident) => {
            all.push((
                messages::$module::$name::NAME,
                messages::$module::$name::VERSIONS,
            ));
        };
    }
    skein_protocol::for_each_message!(collect);
    skein_protocol::for_each_metadata_record!(collect);
    skein_protocol::for_each_coordinator_message!(collect);
    skein_protocol::for_each_peer_message!(collect);
    for (index, (name, versions)) in all.into_iter().enumerate() {
        // The smallest of a few that says something.
        let bodies = (0..50).map(|rng| seed(name, *versions.end(), rng));
        let body = bodies.filter(|body| body.len() > 16).min_by_key(Vec::len);
        let chosen = u8::try_from(versions.end() - versions.start()).unwrap();
        let head = [u8::try_from(index).unwrap(), chosen];
        write("decode", name.to_owned(), head, &body.unwrap_or_default());
    }
    for version in ProduceRequest::VERSIONS {
        let body = seed(ProduceRequest::NAME, version, 7);
        let chosen = u8::try_from(version - ProduceRequest::VERSIONS.start()).unwrap();
        write(
            "produce_stream",
            format!("version_{version}"),
            [chosen, 5],
            &body,
        );
    }
}
