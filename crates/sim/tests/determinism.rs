//! The same seed gives the same run: two runs are compared by the hash over everything that
//! happened.

use skein_sim::{Options, run};

#[cfg(tokio_unstable)]
#[test]
fn two_runs_of_a_seed_are_the_same() {
    for seed in 1..=4 {
        let [one, other] = [(); 2].map(|()| run(seed, &Options::default()));
        assert_eq!(
            one.operations, other.operations,
            "operations of seed {seed}"
        );
        assert_eq!(one.trace_hash, other.trace_hash, "trace of seed {seed}");
    }
}

#[test]
fn two_seeds_are_two_runs() {
    let [one, other] = [5, 6].map(|seed| run(seed, &Options::default()));
    assert_ne!(one.trace_hash, other.trace_hash);
}
