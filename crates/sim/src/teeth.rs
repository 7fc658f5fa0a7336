//! Has the simulation teeth? Each bug that is put into the node on purpose must be found.
//!
//! Input: the bugs of this build. Output: a line for each: after how many seeds, and by what.
//!
//! Invariant: a bug that lives through [`SEEDS_MAX`] seeds, or as a bug of clusters through
//! [`CLUSTER_SEEDS_MAX`], is a failure of the simulation.
//!
//! Source: mutation testing.

use skein_sim::{MUTATIONS, Mutation, Options, is_of_clusters};

use crate::report;

/// Seeds within which a bug must be found.
const SEEDS_MAX: u64 = 60;

/// The same for bugs of clusters: what shows them needs several faults, one after the other.
const CLUSTER_SEEDS_MAX: u64 = 200;

/// Characters of a finding that are shown.
const SHOWN_MAX: usize = 100;

/// Looks for every bug from `first_seed` on; whether all were found.
pub(crate) fn show(nodes: usize, first_seed: u64, only: Option<Mutation>) -> bool {
    let seeds_max = match nodes {
        1 => SEEDS_MAX,
        _ => CLUSTER_SEEDS_MAX,
    };
    let mut all_found = true;
    let mut runs = 0;
    let chosen = MUTATIONS.iter().filter(|(_, mutation)| match only {
        Some(only) => only == *mutation,
        None => is_of_clusters(*mutation) == (nodes > 1),
    });
    let chosen: Vec<_> = chosen.collect();
    for (name, mutation) in &chosen {
        let seeds = first_seed..first_seed.saturating_add(seeds_max);
        let found = seeds.zip(1..).find_map(|(seed, count)| {
            runs += 1;
            Some((count, what_breaks(nodes, seed, *mutation)?))
        });
        match found {
            Some((count, what)) => println!("{name:<26} {count:>3} seeds  {what}"),
            None => {
                println!("{name:<26} lives through {seeds_max} seeds");
                all_found = false;
            }
        }
    }
    println!("{} mutations, {runs} runs", chosen.len());
    all_found
}

/// What a run with the bug breaks: a promise, or an assertion of the node itself.
fn what_breaks(nodes: usize, seed: u64, mutation: Mutation) -> Option<String> {
    let options = Options {
        nodes,
        mutation: Some(mutation),
        ..Options::default()
    };
    let failure = report::run_telling_panics(seed, &options).failure?;
    let text = failure.text.lines().next().unwrap_or_default();
    let text: String = text.chars().take(SHOWN_MAX).collect();
    Some(format!("{}: {text}", failure.invariant))
}
