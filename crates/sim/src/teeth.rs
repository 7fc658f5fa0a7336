//! Has the simulation teeth? Each bug that is put into the node on purpose must be found.
//!
//! Input: the bugs of this build. Output: a line for each: after how many seeds, and by what.
//!
//! Invariant: a bug that lives through [`SEEDS_MAX`] seeds is a failure of the simulation.
//!
//! Source: mutation testing.

use skein_sim::{MUTATIONS, Mutation, Options};

use crate::report;

/// Seeds within which a bug must be found.
const SEEDS_MAX: u64 = 60;

/// Characters of a finding that are shown.
const SHOWN_MAX: usize = 100;

/// Looks for every bug from `first_seed` on; whether all were found.
pub(crate) fn show(first_seed: u64, only: Option<Mutation>) -> bool {
    let mut all_found = true;
    let mut runs = 0;
    let chosen = MUTATIONS
        .iter()
        .filter(|(_, mutation)| only.is_none_or(|only| only == *mutation));
    for (name, mutation) in chosen {
        let seeds = first_seed..first_seed.saturating_add(SEEDS_MAX);
        let found = seeds.zip(1..).find_map(|(seed, count)| {
            runs += 1;
            Some((count, what_breaks(seed, *mutation)?))
        });
        match found {
            Some((count, what)) => println!("{name:<26} {count:>3} seeds  {what}"),
            None => {
                println!("{name:<26} lives through {SEEDS_MAX} seeds");
                all_found = false;
            }
        }
    }
    println!("{} mutations, {runs} runs", MUTATIONS.len());
    all_found
}

/// What a run with the bug breaks: a promise, or an assertion of the node itself.
fn what_breaks(seed: u64, mutation: Mutation) -> Option<String> {
    let options = Options {
        mutation: Some(mutation),
        ..Options::default()
    };
    let failure = report::run_telling_panics(seed, &options).failure?;
    let text = failure.text.lines().next().unwrap_or_default();
    let text: String = text.chars().take(SHOWN_MAX).collect();
    Some(format!("{}: {text}", failure.invariant))
}
