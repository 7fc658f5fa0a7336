//! A few clusters from seeds, as a test among others, with what only a build without optimisation
//! checks; and that a seed decides all of a cluster.
//!
//! `make sim NODES=3` runs many of them, ten times as fast.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]

use skein_sim::{Options, Outcome, run};

fn of_three(seed: u64) -> Outcome {
    let options = Options {
        nodes: 3,
        ..Options::default()
    };
    run(seed, &options)
}

#[test]
fn a_cluster_keeps_its_promises() {
    let outcome = of_three(1);
    if let Some(failure) = outcome.failure {
        for line in &failure.history {
            eprintln!("  {line}");
        }
        panic!("{} is broken: {}", failure.invariant, failure.text);
    }
    assert!(
        outcome.operations > 50,
        "{} operations are too few to mean anything",
        outcome.operations
    );
}

#[cfg(tokio_unstable)]
#[test]
fn two_runs_of_a_seed_are_the_same_cluster() {
    let [one, other] = [(); 2].map(|()| of_three(2));
    assert_eq!(one.operations, other.operations);
    assert_eq!(one.trace_hash, other.trace_hash);
}
