//! Makes a run that fails smaller: what is left is what the failure needs.
//!
//! Input: a seed. Output: the fewest parts, and the shortest time of faults, with which the same
//! promise is broken; and how to see that run.
//!
//! Invariant: each step keeps a run that fails, so that the search can end at any time.
//!
//! Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002).

use std::collections::BTreeSet;
use std::time::Duration;

use skein_sim::{Cuts, MUTATIONS, Options, Outcome, parts};

use crate::report;

/// Runs after which the search ends.
const RUNS_MAX: u32 = 400;
/// Faults strike no shorter than this.
const SAFETY_MIN: Duration = Duration::from_millis(1);

/// Looks for the smallest run of `seed` that fails as the whole one does. `None`: it does not fail.
pub(crate) fn shrink(seed: u64, options: &Options) -> Option<Outcome> {
    let whole = report::run_telling_panics(seed, options);
    let invariant = whole.failure.as_ref()?.invariant;
    println!(
        "seed {seed}: {invariant} is broken after {:.1} simulated seconds; leaving parts out",
        whole.simulated.as_secs_f64()
    );
    let mut search = Search {
        seed,
        options: options.clone(),
        invariant,
        smallest: whole,
        runs: 1,
    };
    search.shorten();
    let all = parts(seed, search.smallest.strikes);
    let mut left = options.cuts.only.clone().unwrap_or_default();
    let all = all.into_iter();
    let all: Vec<_> = all
        .filter(|part| options.cuts.only.is_none() || left.contains(part))
        .collect();
    left = reduce(all, &mut |left| search.fails_with(left))
        .into_iter()
        .collect();
    search.shorten();
    println!(
        "seed {seed}: {} runs; enough is: {}",
        search.runs,
        list(&left)
    );
    println!(
        "seed {seed}: see it with: {}",
        replay(seed, &search.options)
    );
    Some(search.smallest)
}

struct Search {
    seed: u64,
    /// With the cuts of the smallest run so far.
    options: Options,
    invariant: &'static str,
    smallest: Outcome,
    runs: u32,
}

impl Search {
    fn fails(&mut self, cuts: Cuts) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let options = Options {
            cuts,
            trace: false,
            ..self.options.clone()
        };
        let outcome = report::run_telling_panics(self.seed, &options);
        let failure = outcome.failure.as_ref();
        let fails = failure.is_some_and(|failure| failure.invariant == self.invariant);
        if fails {
            self.options.cuts = options.cuts;
            self.smallest = outcome;
        }
        fails
    }

    fn fails_with(&mut self, left: &[String]) -> bool {
        self.fails(Cuts {
            only: Some(left.iter().cloned().collect()),
            ..self.options.cuts
        })
    }

    /// Ends the faults as early as it can: each time in the middle of what may be too long.
    fn shorten(&mut self) {
        let longest = self.options.cuts.safety.unwrap_or(Duration::MAX);
        let (mut too_short, mut enough) = (Duration::ZERO, longest.min(self.smallest.simulated));
        while enough - too_short > (enough / 8).max(SAFETY_MIN) {
            let middle = (too_short + enough) / 2;
            let fails = self.fails(Cuts {
                only: self.options.cuts.only.clone(),
                safety: Some(middle),
            });
            match fails {
                true => enough = middle,
                false => too_short = middle,
            }
        }
    }
}

/// The parts of `parts` that `fails` needs to be true: none of those that are left can go alone.
/// Whole halves are tried first, then quarters, down to single ones.
fn reduce(mut parts: Vec<String>, fails: &mut dyn FnMut(&[String]) -> bool) -> Vec<String> {
    let mut size = parts.len().div_ceil(2);
    while size > 0 {
        let (mut at, before) = (0, parts.len());
        while at < parts.len() {
            let end = (at + size).min(parts.len());
            let rest = [&parts[..at], &parts[end..]].concat();
            match fails(&rest) {
                true => parts = rest,
                false => at = end,
            }
        }
        // Single ones until none goes: one may have needed another that has gone since.
        if size > 1 || parts.len() == before {
            size /= 2;
        }
    }
    parts
}

fn replay(seed: u64, options: &Options) -> String {
    let (cuts, mut arguments) = (&options.cuts, vec!["--trace".to_owned()]);
    let of_bug = |(_, bug): &&(&str, _)| Some(*bug) == options.mutation;
    if let Some((name, _)) = MUTATIONS.iter().find(of_bug) {
        arguments.push(format!("--mutation {name}"));
    }
    if let Some(only) = &cuts.only {
        arguments.push(format!("--only {}", list(only)));
    }
    if let Some(safety) = cuts.safety {
        arguments.push(format!("--safety-us {}", safety.as_micros()));
    }
    format!("make sim SEED={seed} ARGS=\"{}\"", arguments.join(" "))
}

/// As `--only` takes it.
fn list(parts: &BTreeSet<String>) -> String {
    match parts.is_empty() {
        true => "nothing".to_owned(),
        false => parts.iter().cloned().collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn what_a_failure_needs_is_left_and_nothing_else() {
        let all: Vec<_> = (0..43).map(|number| format!("part-{number}")).collect();
        for needed in [
            strings(&[]),
            strings(&["part-0"]),
            strings(&["part-7", "part-8", "part-42"]),
            all.clone(),
        ] {
            let mut runs = 0;
            let left = reduce(all.clone(), &mut |left| {
                runs += 1;
                needed.iter().all(|part| left.contains(part))
            });
            assert_eq!(left, needed);
            assert!(runs < 200, "{runs} runs");
        }
    }

    #[test]
    fn a_part_that_another_one_has_needed_goes_too() {
        // "b" hides the failure unless "c" is there; "a" is the cause.
        let mut fails = |left: &[String]| {
            let has = |part: &str| left.iter().any(|one| one == part);
            has("a") && (!has("b") || has("c"))
        };
        let left = reduce(strings(&["c", "a", "b"]), &mut fails);
        assert_eq!(left, ["a"]);
    }
}
