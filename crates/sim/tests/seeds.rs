//! A few seeds, as a test among others, with what only a build without optimisation checks.
//! `TEST_SEEDS` says how many, `FIRST_SEED` which is the first.
//!
//! `make sim` runs many of them, ten times as fast.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]

use skein_sim::{Options, run};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn the_node_keeps_its_promises_in_every_run() {
    let first = number("FIRST_SEED", 1);
    let seeds = number("TEST_SEEDS", 3);
    let mut operations = 0;
    for seed in first..first + seeds {
        let outcome = run(seed, &Options::default());
        if let Some(failure) = outcome.failure {
            for line in &failure.history {
                eprintln!("  {line}");
            }
            panic!(
                "seed {seed}: {} is broken: {}",
                failure.invariant, failure.text
            );
        }
        operations += outcome.operations;
    }
    assert!(
        operations > 100 * seeds,
        "{operations} operations are too few to mean anything"
    );
}
