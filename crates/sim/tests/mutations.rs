//! The simulation has teeth: each bug that is put into the node on purpose is found within a few
//! seeds. It needs the feature `mutations`; the lines that it prints say how many seeds it took.
#![cfg(feature = "mutations")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]

use std::panic::catch_unwind;

use skein_sim::{MUTATIONS, Mutation, Options, run};

/// Seeds within which a bug must be found.
const SEEDS_MAX: u64 = 100;

#[test]
fn every_mutation_is_found() {
    for (name, mutation) in MUTATIONS {
        let found = (1..=SEEDS_MAX).find_map(|seed| Some((seed, what_breaks(seed, *mutation)?)));
        let (seeds, what) =
            found.unwrap_or_else(|| panic!("{name} lives through {SEEDS_MAX} seeds"));
        eprintln!("{name}: found with {seeds} seeds: {what}");
    }
}

/// What a run with the bug breaks: a promise, or an assertion of the node itself.
fn what_breaks(seed: u64, mutation: Mutation) -> Option<String> {
    let options = Options {
        mutation: Some(mutation),
        ..Options::default()
    };
    match catch_unwind(|| run(seed, options)) {
        Ok(outcome) => outcome
            .failure
            .map(|failure| format!("{}: {}", failure.invariant, failure.text)),
        Err(_) => Some("the node's own assertions".to_owned()),
    }
}
